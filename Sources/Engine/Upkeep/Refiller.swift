import Domain
package import Ledger
package import Logging
import Streams
import Synchronization

/// Brings the work of marked organizations from PostgreSQL to the queue, a bounded window at a time.
///
/// The mark is a version: it is cleared only if nothing changed since it was read and nothing more was there.
/// So work that was committed at any moment is found, whatever happened to the fast path.
package final class Refiller: Sendable {
    private let ledger: Ledger
    private let front: QueueFront
    private let logger: Logger
    private let passes = Mutex<[OrganizationID: Pass]>([:])

    /// How far a pass over an organization's backlog has come: it goes on where the last step ended instead
    /// of reading again what the queue holds already. Every so many steps, and after the last row, it begins
    /// again at the oldest row; only a step that saw the whole backlog may clear the mark.
    private struct Pass {
        var after = RunID(.zero)
        var steps = 0

        var isFirst: Bool { steps == 0 }

        /// The pass after a step that found these runs, of which so many are in the queue; `nil` where the
        /// next begins anew.
        func next(after runs: [QueuedRun], passed: Int) -> Pass? {
            guard steps < 15, passed > 0, passed < runs.count || runs.count == Refiller.limit else {
                return nil
            }
            return Pass(after: runs[passed - 1].run, steps: steps + 1)
        }
    }

    /// A refiller on the worker's login.
    package init(ledger: Ledger, front: QueueFront, logger: Logger) {
        self.ledger = ledger
        self.front = front
        self.logger = logger
    }

    /// Refills until the task is cancelled.
    package func run() async {
        await repeating(every: .milliseconds(20), idle: .milliseconds(100), logger, "refill") {
            try await self.refillOnce() > 0
        }
    }

    /// Refills the organizations that have waited longest; returns how many had work.
    package func refillOnce() async throws -> Int {
        let epoch = try await front.epoch()
        let marked: [Marked]
        do {
            marked = try await front.queue.marked(limit: 64, epoch: epoch)
        } catch QueueError.staleEpoch {
            front.forgetEpoch()
            return 0
        }
        let open = marked.filter { $0.room > 0 }
        guard !open.isEmpty else { return 0 }
        let passes = self.passes.withLock { passes in open.map { passes[$0.organization] ?? Pass() } }
        let queued = try await ledger.queuedRuns(
            of: zip(open, passes).map { ($0.organization, after: $1.after) }, priority: .standard,
            limit: Self.limit)
        var admitted = 0
        for (organization, pass) in zip(open, passes) {
            let runs = queued[organization.organization] ?? []
            let isWhole = pass.isFirst && runs.count < Self.limit
            let refilled = try await front.queue.refill(
                organization: organization.organization, priority: .standard, version: organization.version,
                entries: runs.map(Entry.init), more: !isWhole, epoch: epoch)
            admitted += refilled.admitted
            let next = refilled.cleared ? nil : pass.next(after: runs, passed: refilled.passed)
            self.passes.withLock { $0[organization.organization] = next }
        }
        return admitted
    }

    // A full window, and as many more as one step may find room for.
    private static let limit = 384
}
