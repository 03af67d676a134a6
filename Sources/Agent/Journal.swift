import Domain
import NIOPosix
import Process
import Synchronization

/// The journal's file: a record that `append` has returned for survives a loss of power.
///
/// Appends that come while the disk is busy share its next sync; nothing waits for company. After an append
/// that failed the file is cut back to what was durable; if that fails too, nothing is written any more. When
/// the file has grown to four times what it amounts to, it begins anew.
final class Journal: Sendable {
    /// A file beyond this is no journal.
    static let fileBytesMax = 1 << 30
    /// A file up to this is never begun anew while the agent runs.
    static let compactBytesMin = 1 << 20

    private struct Append {
        let records: [JournalRecord]
        let bytes: [UInt8]
        let done: CheckedContinuation<Void, any Error>
    }

    private struct State {
        var waiting: [Append] = []
        var isWriting = false
        var length: Int
        var position: Int
        var syncs = 0
        var failure: AgentError?
    }

    /// Belongs to the disk's thread.
    private struct Written {
        /// What the file adds up to.
        var durable: JournalState
        /// The length beyond which the file begins anew.
        var compactAt: Int
    }

    private let path: String
    private let file: AppendFile
    private let disk: NIOThreadPool
    private let state: Mutex<State>
    private let written: Mutex<Written>

    /// Makes the journal of a device that has seen nothing.
    static func create(_ path: String) throws {
        try DurableFile.write(JournalRecord.base(position: 0, repeated: 0).line, to: path)
    }

    /// Reads the journal and begins its file anew without what has expired; blocks.
    ///
    /// Acceptances without a start are dropped: the hello will not name them, so the server sends them again.
    static func open(_ path: String, disk: NIOThreadPool, now: Instant) throws -> (Journal, JournalState) {
        guard fileExists(path) else {
            throw AgentError(.damaged, "the journal \(path) is gone, so no work is started")
        }
        var state = try read(readFile(path, max: fileBytesMax), path: path)
        for key in state.held { state.withdraw(key) }
        state.prune(now: now)
        let snapshot = state.snapshot().flatMap(\.line)
        try DurableFile.write(snapshot, to: path)
        return (try Journal(path, length: snapshot.count, durable: state, disk: disk), state)
    }

    /// What the bytes of a journal add up to; an incomplete last line is left out.
    static func read(_ bytes: [UInt8], path: String) throws(AgentError) -> JournalState {
        var state = JournalState()
        var lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        // What follows the last newline: nothing, or a line that a crash cut short.
        _ = lines.popLast()
        for (index, line) in lines.enumerated() {
            guard let record = JournalRecord(line: line) else {
                throw AgentError(
                    .damaged, "line \(index + 1) of the journal \(path) does not hold, so no work is started")
            }
            if index == 0, case .base = record {
            } else if index == 0 {
                throw AgentError(.damaged, "the journal \(path) has no beginning, so no work is started")
            }
            try state.apply(record)
        }
        guard !lines.isEmpty else {
            throw AgentError(.damaged, "the journal \(path) is empty, so no work is started")
        }
        return state
    }

    private init(_ path: String, length: Int, durable: JournalState, disk: NIOThreadPool) throws {
        self.path = path
        self.disk = disk
        file = try AppendFile(path)
        state = Mutex(State(length: length, position: durable.position))
        written = Mutex(Written(durable: durable, compactAt: Self.compactAt(snapshot: length)))
    }

    /// Records that are durable, counted over the device's whole life; never falls.
    var position: Int { state.withLock { $0.position } }

    /// Bytes of the file.
    var length: Int { state.withLock { $0.length } }

    /// How often the disk was asked to sync.
    var syncs: Int { state.withLock { $0.syncs } }

    /// Appends that nobody writes yet.
    var waiting: Int { state.withLock { $0.waiting.count } }

    /// Returns when the records are durable. Throws, and writes nothing of them, if they contradict the file:
    /// a journal that holds them would never open again.
    func append(_ records: [JournalRecord]) async throws {
        let bytes = records.flatMap(\.line)
        try await withCheckedThrowingContinuation { done in
            let begins = state.withLock { state in
                state.waiting.append(Append(records: records, bytes: bytes, done: done))
                defer { state.isWriting = true }
                return !state.isWriting
            }
            if begins { disk.submit { self.write(isActive: $0 == .active) } }
        }
    }

    /// Writes batch after batch until nobody waits; on the disk's thread.
    private func write(isActive: Bool) {
        while true {
            let (batch, failure) = state.withLock { state in
                defer { state.waiting = [] }
                state.isWriting = !state.waiting.isEmpty
                return (state.waiting, state.failure)
            }
            guard !batch.isEmpty else { return }
            written.withLock { written in
                var sound: [Append] = []
                for append in batch {
                    do {
                        try take(append.records, after: sound, &written)
                        sound.append(append)
                    } catch {
                        append.done.resume(throwing: error)
                    }
                }
                if sound.isEmpty { return }
                let result = Result {
                    if let failure { throw failure }
                    guard isActive else { throw AgentError(.damaged, "the journal is closed") }
                    try store(sound.flatMap(\.bytes), &written)
                }
                for append in sound { append.done.resume(with: result) }
                if case .success = result { compact(&written) }
            }
        }
    }

    /// Adds records to what will be durable; throws, and takes all of them back, if they contradict it.
    private func take(
        _ records: [JournalRecord], after sound: [Append], _ written: inout Written
    ) throws {
        do {
            for record in records { try written.durable.apply(record) }
        } catch {
            try reload(&written)
            for record in sound.flatMap(\.records) { try written.durable.apply(record) }
            throw error
        }
    }

    private func store(_ bytes: [UInt8], _ written: inout Written) throws {
        let length = self.length
        do {
            try file.append(bytes)
        } catch {
            do {
                try file.truncate(to: length)
                try reload(&written)
            } catch {
                fail(error)
            }
            throw error
        }
        let position = written.durable.position
        state.withLock { state in
            state.syncs += 1
            state.length += bytes.count
            state.position = position
        }
    }

    /// Takes what is durable from the file itself.
    private func reload(_ written: inout Written) throws {
        do {
            written.durable = try Self.read(readFile(path, max: Self.fileBytesMax), path: path)
        } catch {
            fail(error)
            throw error
        }
    }

    private func fail(_ cause: any Error) {
        let failure = AgentError(.damaged, "the journal \(path) cannot be written any more", cause: cause)
        state.withLock { $0.failure = failure }
    }

    /// Begins the file anew once most of it is history.
    private func compact(_ written: inout Written) {
        let length = self.length
        guard length > written.compactAt else { return }
        let snapshot = written.durable.snapshot().flatMap(\.line)
        do {
            try file.replace(with: snapshot)
            state.withLock { $0.length = snapshot.count }
            written.compactAt = Self.compactAt(snapshot: snapshot.count)
        } catch {
            // The file is as it was; or it takes nothing any more, which the next append will say.
            written.compactAt = 2 * length
        }
    }

    private static func compactAt(snapshot: Int) -> Int { max(compactBytesMin, 4 * snapshot) }
}
