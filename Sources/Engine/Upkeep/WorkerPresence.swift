package import Domain
package import Ledger
package import Logging
import Synchronization
import Trust

/// Says of one role of a process that it lives, and hears when it is told to drain.
package final class WorkerPresence: Sendable {
    private let ledger: Ledger
    private let role: String
    private let host: String
    private let processID: Int
    private let gate: ClaimGate?
    private let logger: Logger
    private let id = Mutex<WorkerID?>(nil)
    private let wasDrained = Mutex(false)

    /// The presence of a role; one that claims has a gate, which a drain closes.
    package init(
        ledger: Ledger, role: String, host: String, processID: Int, gate: ClaimGate? = nil, logger: Logger
    ) {
        self.ledger = ledger
        self.role = role
        self.host = host
        self.processID = processID
        self.gate = gate
        self.logger = logger
    }

    /// The name under which it was begun last.
    package var current: WorkerID? { id.withLock { $0 } }

    /// Beats until the task is cancelled, then says that it has ended.
    package func run() async {
        await repeating(every: .seconds(1), idle: .seconds(1), logger, "presence of a worker") {
            try await self.beatOnce()
            return false
        }
    }

    /// Says that the role has ended in order: after its last work.
    package func end() async {
        guard let id = current else { return }
        // Whoever cannot say so is lost in others' eyes, which is nearly as good.
        _ = try? await withGrace(.seconds(1)) { try await self.ledger.endWorker(id) }
    }

    /// Begins, or says that it lives.
    package func beatOnce() async throws {
        guard let id = current else { return try await begin() }
        let isDrained = gate?.isDrained ?? false
        guard let isToDrain = try await ledger.beatWorker(id, isDrained: isDrained) else {
            // Forgotten while it could not say anything for a day.
            return try await begin()
        }
        if isToDrain, let gate { gate.drain() }
        let isNews =
            isDrained
            && wasDrained.withLock { was in
                defer { was = true }
                return !was
            }
        if isNews { logger.notice("drained: this worker claims nothing more and holds nothing") }
    }

    private func begin() async throws {
        let new = WorkerID.new(at: .now())
        try await ledger.beginWorker(new, role: role, host: host, processID: processID)
        id.withLock { $0 = new }
    }
}
