package import Domain
import Faults
package import Ledger
package import Logging
import Streams

/// Takes tasks of all kinds out of every state whose time has passed: what is due is queued, what has expired
/// ends, and what a dead worker had is queued again.
package struct TaskUpkeep: Sendable {
    private let ledger: Ledger
    private let fronts: [String: QueueFront]
    private let logger: Logger

    /// The upkeep on the worker's login; `fronts` are the queues of the kinds.
    package init(ledger: Ledger, fronts: [TaskKind: QueueFront], logger: Logger) {
        self.ledger = ledger
        self.fronts = Dictionary(uniqueKeysWithValues: fronts.map { ($0.key.name, $0.value) })
        self.logger = logger
    }

    /// Looks until the task is cancelled; `daily` submits, every few minutes, what recurs each day and is not
    /// there yet.
    package func run(daily: @escaping @Sendable () async throws -> Void) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                await repeating(
                    every: .milliseconds(10), idle: .milliseconds(300), logger, "deadlines of tasks"
                ) {
                    try await judgeDeadlines()
                }
            }
            group.addTask {
                await repeating(every: .seconds(300), idle: .seconds(300), logger, "daily tasks") {
                    try await daily()
                    return false
                }
            }
        }
    }

    /// One look; returns whether it found as much as one takes.
    package func judgeDeadlines() async throws -> Bool {
        let found = try await ledger.judgeTaskDeadlines(limit: Self.limit)
        if !(found.queued + found.ended + found.scheduled).isEmpty { FaultPoint.reach(.tasksMidDeadlines) }
        if found.lapsed > 0 {
            logger.notice("leases of tasks have lapsed", metadata: ["tasks": "\(found.lapsed)"])
        }
        for (kind, runs) in Self.byKind(found.queued) { await fronts[kind]?.returned(runs) }
        for (kind, runs) in Self.byKind(found.ended + found.scheduled) {
            // Wherever the queue has them: their generation has not run, or the one before has.
            await fronts[kind]?.left(runs.map(\.before), costs: [])
            await fronts[kind]?.withdraw(runs.map { ($0.organization, $0.run) })
        }
        return max(found.queued.count, found.ended.count + found.scheduled.count) >= Self.limit
    }

    // What is of another release's kind is left to it.
    private static func byKind(_ found: [(kind: String, run: QueuedRun)]) -> [(String, [QueuedRun])] {
        Dictionary(grouping: found, by: \.kind).map { ($0.key, $0.value.map(\.run)) }
    }

    private static let limit = 500
}

extension QueuedRun {
    /// The generation before.
    fileprivate var before: QueuedRun {
        QueuedRun(
            organization: organization, run: run, device: device, generation: generation - 1, lane: lane,
            priority: priority)
    }
}

extension QueueFront {
    /// Tells the queue that tasks have left their workers, and what they have cost, if it was measured.
    func left(_ tasks: [QueuedRun], costs: [Double]) async {
        guard !tasks.isEmpty else { return }
        let part = parts[0]  // the only one of their kind
        do {
            try await part.call { epoch in
                _ = try await part.queue.settle(
                    tasks.map {
                        Settled(
                            organization: $0.organization, run: $0.run, generation: $0.generation,
                            device: $0.device, lane: $0.lane)
                    }, epoch: epoch)
                if !costs.isEmpty {
                    try await part.queue.charge(
                        Array(zip(tasks.map(\.organization), costs)).map { ($0, $1) }, epoch: epoch)
                }
            }
        } catch {
            // The comparison of memberships finds it.
            forgetEpoch()
        }
    }
}
