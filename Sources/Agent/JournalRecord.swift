// The journal is a text file that only grows. One line is one record:
//
//     hhhhhhhhhhhhhhhh {"record":"started","job":"…","attempt":1,"at":"…"}
//
// sixteen hexadecimal digits (the first 8 bytes of the SHA-256 of what follows the space), a space, JSON, a
// newline. The first record is `base`: how many records were ever written before the file was made, and how
// many of the lines after it repeat what was known then. Every line after those counts one more (`position`),
// also across compactions.
//
// A crash can leave the last line incomplete: it announced nothing that was done, and is cut off. Any other
// line that does not hold means that the file is damaged, and no work is started on it.

import Domain
import Trust
import Wire

/// What the agent starts at most once: one attempt of a job on this device, whatever run and token a dispatch
/// names.
struct AttemptKey: Hashable, Sendable {
    /// The job, from the signed statement.
    let job: JobID
    let attempt: Int
}

extension AttemptKey: CustomStringConvertible {
    /// Names what belongs to the attempt on this device: its directory, its result, the marker of its
    /// processes.
    var description: String { "\(job)-\(attempt)" }
}

/// How an attempt ended, as the journal keeps it: without outputs.
struct AttemptEnd: Hashable, Sendable {
    var outcome: Outcome
    var exitCode: Int?
    var reason: String?
    var startedAt: Instant?
    var finishedAt: Instant
}

/// One line of the journal.
enum JournalRecord: Sendable, Equatable {
    case base(position: Int, repeated: Int)
    /// The attempt will be started, by this name.
    case accepted(AttemptKey, AttemptName, expiresAt: Instant)
    /// Written before the process exists.
    case started(AttemptKey, at: Instant)
    /// Written after the result lies in the outbox.
    case ended(AttemptKey, AttemptEnd)
    /// The server has committed the result.
    case forgotten(AttemptKey)
    /// The dispatch of this name was refused.
    case refused(AttemptName, Refusal, expiresAt: Instant)
    /// A cancel came before its dispatch.
    case cancelled(AttemptName, expiresAt: Instant)
    /// The forgotten attempts whose statements expired up to here are gone; such statements have no power any
    /// more, whatever the clock says.
    case pruned(through: Instant)
}

extension JournalRecord {
    /// The record as a line of the file.
    var line: [UInt8] {
        var writer = JSONWriter()
        writer.object { fields(to: &$0) }
        return Self.digest(writer.bytes) + [UInt8(ascii: " ")] + writer.bytes + [UInt8(ascii: "\n")]
    }

    /// The record of a line without its newline; `nil` if the line does not hold.
    init?(line: ArraySlice<UInt8>) {
        let text = Array(line.dropFirst(17))
        guard line.count > 17, line[line.startIndex + 16] == UInt8(ascii: " "),
            line.prefix(16).elementsEqual(Self.digest(text))
        else { return nil }
        // A line whose digest holds is one that this program wrote; of another release's the reader says no.
        guard let record = try? Self.read(text) else { return nil }
        self = record
    }

    private static func digest(_ text: [UInt8]) -> [UInt8] {
        Array(Hex.encode(SHA256.hash(text).prefix(8)).utf8)
    }

    private func fields(to writer: inout JSONWriter) {
        func write(_ word: String, _ key: AttemptKey, to writer: inout JSONWriter) {
            writer.field("record", word)
            writer.field("job", key.job)
            writer.field("attempt", key.attempt)
        }
        switch self {
        case .base(let position, let repeated):
            writer.field("record", "base")
            writer.field("position", position)
            writer.field("repeated", repeated)
        case .accepted(let key, let name, let expiresAt):
            write("accepted", key, to: &writer)
            writer.field("run", name.run)
            writer.field("token", name.token)
            writer.field("expiresAt", expiresAt)
        case .started(let key, let at):
            write("started", key, to: &writer)
            writer.field("at", at)
        case .ended(let key, let end):
            write("ended", key, to: &writer)
            writer.field("outcome", end.outcome)
            writer.field("exitCode", end.exitCode)
            writer.field("reason", end.reason)
            writer.field("startedAt", end.startedAt)
            writer.field("finishedAt", end.finishedAt)
        case .forgotten(let key):
            write("forgotten", key, to: &writer)
        case .refused(let name, let refusal, let expiresAt):
            writer.field("record", "refused")
            name.fields(to: &writer)
            writer.field("code", refusal.code.rawValue)
            writer.field("message", refusal.message)
            writer.field("expiresAt", expiresAt)
        case .cancelled(let name, let expiresAt):
            writer.field("record", "cancelled")
            name.fields(to: &writer)
            writer.field("expiresAt", expiresAt)
        case .pruned(let through):
            writer.field("record", "pruned")
            writer.field("through", through)
        }
    }

    private static func read(_ text: [UInt8]) throws -> JournalRecord? {
        var reader = try FieldReader(JSONValue(scanning: text))
        func key(_ reader: inout FieldReader) throws(FieldError) -> AttemptKey {
            AttemptKey(job: try reader.field("job"), attempt: try reader.field("attempt"))
        }
        let record: JournalRecord
        switch try reader.field("record", String.self) {
        case "base":
            record = .base(position: try reader.field("position"), repeated: try reader.field("repeated"))
        case "accepted":
            let key = try key(&reader)
            let name = AttemptName(
                run: try reader.field("run"), attempt: key.attempt, token: try reader.field("token"))
            record = .accepted(key, name, expiresAt: try reader.field("expiresAt"))
        case "started": record = .started(try key(&reader), at: try reader.field("at"))
        case "ended":
            let key = try key(&reader)
            let end = AttemptEnd(
                outcome: try reader.field("outcome"), exitCode: try reader.optional("exitCode"),
                reason: try reader.optional("reason"), startedAt: try reader.optional("startedAt"),
                finishedAt: try reader.field("finishedAt"))
            record = .ended(key, end)
        case "forgotten": record = .forgotten(try key(&reader))
        case "refused":
            let name = try AttemptName(from: &reader)
            guard let code = Refusal.Code(rawValue: try reader.field("code")) else { return nil }
            record = .refused(
                name, Refusal(code, try reader.field("message")), expiresAt: try reader.field("expiresAt"))
        case "cancelled":
            record = .cancelled(try AttemptName(from: &reader), expiresAt: try reader.field("expiresAt"))
        case "pruned": record = .pruned(through: try reader.field("through"))
        default: return nil
        }
        try reader.finish()
        return record
    }
}
