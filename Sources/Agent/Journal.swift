import Domain
import NIOPosix
import Process
import Synchronization

/// The journal's file: a record that `append` has returned for survives a loss of power.
///
/// Appends that come while the disk is busy share its next sync; nothing waits for company. After an append
/// that failed the file is cut back to what was durable; if that fails too, nothing is written any more.
final class Journal: Sendable {
    static let fileBytesMax = 1 << 30

    private struct Append {
        let bytes: [UInt8]
        let records: Int
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

    private let path: String
    private let file: AppendFile
    private let disk: NIOThreadPool
    private let state: Mutex<State>

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
        return (try Journal(path, length: snapshot.count, position: state.position, disk: disk), state)
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

    private init(_ path: String, length: Int, position: Int, disk: NIOThreadPool) throws {
        self.path = path
        self.disk = disk
        file = try AppendFile(path)
        state = Mutex(State(length: length, position: position))
    }

    /// Records that are durable, counted over the device's whole life; never falls.
    var position: Int { state.withLock { $0.position } }

    /// How often the disk was asked to sync.
    var syncs: Int { state.withLock { $0.syncs } }

    /// Appends that nobody writes yet.
    var waiting: Int { state.withLock { $0.waiting.count } }

    /// Returns when the records are durable.
    func append(_ records: [JournalRecord]) async throws {
        let bytes = records.flatMap(\.line)
        try await withCheckedThrowingContinuation { done in
            let begins = state.withLock { state in
                state.waiting.append(Append(bytes: bytes, records: records.count, done: done))
                defer { state.isWriting = true }
                return !state.isWriting
            }
            if begins { disk.submit { self.write(isActive: $0 == .active) } }
        }
    }

    /// Writes batch after batch until nobody waits; on the disk's thread.
    private func write(isActive: Bool) {
        while true {
            let (batch, length, failure) = state.withLock { state in
                defer { state.waiting = [] }
                state.isWriting = !state.waiting.isEmpty
                return (state.waiting, state.length, state.failure)
            }
            guard !batch.isEmpty else { return }
            let result = Result {
                if let failure { throw failure }
                guard isActive else { throw AgentError(.damaged, "the journal is closed") }
                try write(batch.flatMap(\.bytes), records: batch.reduce(0) { $0 + $1.records }, after: length)
            }
            for append in batch { append.done.resume(with: result) }
        }
    }

    private func write(_ bytes: [UInt8], records: Int, after length: Int) throws {
        do {
            try file.append(bytes)
            state.withLock { state in
                state.syncs += 1
                state.length += bytes.count
                state.position += records
            }
        } catch {
            do {
                try file.truncate(to: length)
            } catch {
                let failure = AgentError(
                    .damaged, "the journal \(path) cannot be written any more", cause: error)
                state.withLock { $0.failure = failure }
            }
            throw error
        }
    }
}
