import Domain
package import Ledger
package import Logging
import Streams

/// Brings the work of marked organizations from PostgreSQL to the queue, a bounded window at a time.
///
/// The mark is a version: it is cleared only if nothing changed since it was read and nothing more was there.
/// So work that was committed at any moment is found, whatever happened to the fast path.
package final class Refiller: Sendable {
    private let ledger: Ledger
    private let front: QueueFront
    private let logger: Logger

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

    /// Expands accepted jobs and refills the organizations that have waited longest; returns how many had
    /// work.
    package func refillOnce() async throws -> Int {
        let expanded = try await ledger.expand(limit: 4)
        if !expanded.isEmpty { await front.offer([], and: expanded) }
        let epoch = try await front.epoch()
        let marked: [Marked]
        do {
            marked = try await front.queue.marked(limit: 64, epoch: epoch)
        } catch QueueError.staleEpoch {
            front.forgetEpoch()
            return 0
        }
        let open = marked.filter { $0.room > 0 }
        guard !open.isEmpty else { return expanded.count }
        // What the queue holds already comes again and is dropped there by its generation: a full window and
        // one more.
        let limit = Self.windowMax * 3 / 2
        let queued = try await ledger.queuedRuns(
            of: open.map(\.organization), priority: .standard, limit: limit)
        var admitted = 0
        for organization in open {
            let runs = queued[organization.organization] ?? []
            admitted += try await front.queue.refill(
                organization: organization.organization, priority: .standard, version: organization.version,
                entries: runs.map(Entry.init), more: runs.count == limit, epoch: epoch
            ).admitted
        }
        return expanded.count + admitted
    }

    private static let windowMax = 256
}
