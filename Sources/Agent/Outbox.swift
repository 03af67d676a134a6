import Domain
import Process
import Synchronization
import Wire

/// Results on disk until the server has committed them: one file `<job>-<attempt>.json` an attempt, the frame
/// itself.
///
/// A file is durable before the journal says that the attempt ended, and is removed after the journal has
/// forgotten it, so a crash leaves at most files that the journal does not name; `sweep` removes those. All
/// calls block.
///
/// The newest results also stay in memory, since most are sent right after they were written.
final class Outbox: Sendable {
    /// Results that may wait; beyond them no work is taken.
    static let resultsMax = 1_000
    /// Results that are sent and not acknowledged at a time.
    static let inFlightMax = Limits.resultsInFlightMax

    /// Bytes of outputs that stay in memory.
    static let recentBytesMax = 2 << 20

    let directory: String
    private let recent = Mutex<[(key: AttemptKey, result: Finished)]>([])

    init(directory: String) { self.directory = directory }

    func write(_ key: AttemptKey, _ result: Finished) throws {
        try DurableFile.write(AgentFrame.finished(result).encoded, to: path(key))
        recent.withLock { recent in
            recent.append((key, result))
            var bytes = recent.reduce(0) { $0 + $1.result.keptBytes }
            while bytes > Self.recentBytesMax || recent.count > Self.inFlightMax {
                bytes -= recent.removeFirst().result.keptBytes
            }
        }
    }

    /// A result that was written lately.
    func inMemory(_ key: AttemptKey) -> Finished? {
        recent.withLock { recent in recent.last { $0.key == key }?.result }
    }

    /// The result of an attempt that the journal says has ended; without its outputs if the file cannot be
    /// read.
    func read(_ key: AttemptKey, _ name: AttemptName, _ end: AttemptEnd) -> Finished {
        // The outcome stands in the journal, only the outputs are lost.
        stored(key, name) ?? end.result(named: name, reason: "outputLost")
    }

    /// The result on the disk, if there is one that can be read and is this attempt's.
    func stored(_ key: AttemptKey, _ name: AttemptName) -> Finished? {
        do {
            let frame = try AgentFrame.decode(readFile(path(key), max: Limits.frameBytesMax))
            if case .finished(let result) = frame, result.name == name { return result }
        } catch {
            // There is none that could be told.
        }
        return nil
    }

    func remove(_ key: AttemptKey) throws {
        recent.withLock { recent in recent.removeAll { $0.key == key } }
        try removeFile(path(key))
    }

    /// Removes the files of results that nobody waits for; returns a failure for each that stays.
    func sweep(keeping keys: [AttemptKey]) throws -> [ProcessError] {
        let kept = Set(keys.map { Self.file($0) })
        var failures: [ProcessError] = []
        for file in try listDirectory(directory) where !kept.contains(file) {
            do throws(ProcessError) { try removeFile("\(directory)/\(file)") } catch {
                failures.append(error)
            }
        }
        return failures
    }

    private func path(_ key: AttemptKey) -> String { "\(directory)/\(Self.file(key))" }

    private static func file(_ key: AttemptKey) -> String { "\(key).json" }
}

extension Finished {
    /// Bytes of its outputs.
    fileprivate var keptBytes: Int {
        [stdout, stderr].reduce(0) { $0 + $1.head.bytes.count + $1.tail.bytes.count }
    }
}

extension AttemptEnd {
    /// How it ended, as a result without outputs.
    func result(named name: AttemptName, reason: String) -> Finished {
        Finished(
            name: name, outcome: outcome, exitCode: exitCode, reason: reason, startedAt: startedAt,
            finishedAt: finishedAt)
    }

    /// What the journal keeps of a result.
    init(_ result: Finished) {
        self.init(
            outcome: result.outcome, exitCode: result.exitCode, reason: result.reason,
            startedAt: result.startedAt,
            finishedAt: result.finishedAt)
    }
}
