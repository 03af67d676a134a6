import Domain
package import Ledger
package import Logging
import Postgres
import Streams
import Synchronization

/// Takes out of every state what its deadline has passed, and brings PostgreSQL and the queue in line.
///
/// Every worker runs one; locks are skipped, so they share the work. Each step is bounded and repeats while
/// it finds something.
package final class Reconciler: Sendable {
    private let ledger: Ledger
    private let front: QueueFront
    private let logger: Logger

    /// A reconciler on the worker's login.
    package init(ledger: Ledger, front: QueueFront, logger: Logger) {
        self.ledger = ledger
        self.front = front
        self.logger = logger
    }

    /// Reconciles until the task is cancelled.
    package func run() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.fold() }
            group.addTask { await self.sweep() }
            group.addTask { await self.deadlines() }
            group.addTask { await self.stragglers() }
            group.addTask { await self.gateways() }
            group.addTask { await self.membership() }
        }
    }

    private func fold() async {
        await repeating(every: .milliseconds(25), idle: .milliseconds(150), logger, "fold") {
            try await self.ledger.foldDeltas(limit: 2_000) > 0
        }
    }

    private func sweep() async {
        await repeating(every: .milliseconds(200), idle: .seconds(1), logger, "sweep") {
            try await self.sweepOnce()
        }
    }

    private func deadlines() async {
        await repeating(every: .milliseconds(10), idle: .milliseconds(500), logger, "deadlines") {
            try await self.judgeDeadlines()
        }
    }

    private func stragglers() async {
        let round = Atomic<Int>(0)
        await repeating(every: .seconds(2), idle: .seconds(2), logger, "stragglers") {
            let slow = round.add(1, ordering: .relaxed).newValue % 15 == 0
            return try await self.markStragglers(everything: slow)
        }
    }

    private func gateways() async {
        await repeating(every: .seconds(1), idle: .seconds(1), logger, "gateways") {
            try await self.buryGateways()
        }
    }

    private func membership() async {
        await repeating(every: .seconds(30), idle: .seconds(30), logger, "membership") {
            try await self.compareMembership()
        }
    }

    /// Returns lapsed leases to their queues and sweeps the partition.
    package func sweepOnce() async throws -> Bool {
        let epoch = try await front.epoch()
        do {
            let reclaimed = try await front.queue.reclaim(now: 128, epoch: epoch)
            let report = try await front.queue.sweep(epoch: epoch)
            return !reclaimed.isEmpty || report.moved > 0
        } catch QueueError.staleEpoch {
            front.forgetEpoch()
            return false
        }
    }

    /// Runs whose time has passed, marks that reached no gateway, and cancels that have not reached their
    /// rows.
    package func judgeDeadlines() async throws -> Bool {
        let ended = try await ledger.expire(limit: 500)
        await front.ended(ended)
        let undelivered = try await ledger.undeliver(limit: 500)
        await front.offer([], and: undelivered.map(\.organization))
        let (cancelled, sent) = try await ledger.cancelRuns(of: nil, organization: nil, scope: .platform)
        await front.ended(cancelled)
        await front.tellCancelled(sent)
        return !ended.isEmpty || !undelivered.isEmpty || !cancelled.isEmpty || !sent.isEmpty
    }

    /// Marks the organizations whose queued runs the fast path may have lost.
    package func markStragglers(everything: Bool) async throws -> Bool {
        let organizations =
            everything
            ? try await ledger.organizationsWithBacklog() : try await ledger.stragglers(limit: 10_000)
        guard !organizations.isEmpty else { return false }
        try await front.call { epoch in try await self.front.queue.mark(organizations, epoch: epoch) }
        return true
    }

    /// Drains the inboxes of gateways whose heartbeat has lapsed: what was never sent may be marked again.
    package func buryGateways() async throws -> Bool {
        let open = try await ledger.openGateways()
        guard !open.isEmpty else { return false }
        let dead = Set(open).subtracting(try await front.queue.alive(open))
        for gateway in dead {
            var items: [InboxLetter.Item] = []
            for case .dispatch(let letter)? in try await front.queue.drain(gateway: gateway).map(
                InboxLetter.init)
            {
                items += letter
            }
            let back = try await ledger.undeliver(items.map { ($0.organization, $0.run, $0.token) })
            await front.offer([], and: back.map(\.organization))
            try await ledger.endGateway(gateway)
            logger.notice(
                "gateway incarnation is gone",
                metadata: ["gateway.id": "\(gateway)", "runs.returned": "\(back.count)"])
        }
        return !dead.isEmpty
    }

    /// Compares the queue's running runs with the table, so that a crash between commit and settlement leaks
    /// nothing.
    package func compareMembership() async throws -> Bool {
        let epoch = try await front.epoch()
        var cursor: String?
        var extra: [Settled] = []
        repeat {
            let page = try await front.queue.membership(after: cursor, epoch: epoch)
            let running = try await ledger.areRunning(page.items.map { ($0.run.organization, $0.run.run) })
            extra += page.items.map(\.run).filter { !running.contains($0.run) }
            cursor = page.next
        } while cursor != nil
        guard !extra.isEmpty else { return false }
        let (_, removed) = try await front.queue.correct(missing: [], extra: extra, epoch: epoch)
        logger.notice("running runs corrected", metadata: ["removed": "\(removed)"])
        return removed > 0
    }
}
