package import Domain
package import Ledger
package import Logging
package import Redis
import Streams

/// The queue of one kind of tasks, with what keeps it in line with PostgreSQL.
///
/// The same functions as for runs, on a partition of the kind's own: finish tags, weights, caps, windows,
/// marks, leases and rebuild are those, and neither kind of work can be claimed by, or wait behind, another.
package struct TaskPartition: Sendable {
    /// The kind, and its queue.
    package let kind: TaskKind
    package let front: QueueFront
    /// What keeps the queue in line.
    package let rebuilder: Rebuilder
    package let refiller: Refiller
    package let reconciler: Reconciler
    private let entitlements: EntitlementSync
    private let logger: Logger

    /// The partition of a kind, on the worker's login.
    package init(
        kind: TaskKind, ledger: Ledger, front: QueueFront, connection: RedisConnection, logger: Logger
    ) {
        self.kind = kind
        self.front = front
        self.logger = logger
        let contents = QueueContents.tasks(kind, ledger)
        rebuilder = Rebuilder(
            ledger: ledger, front: front, contents: contents, connection: connection, logger: logger)
        refiller = Refiller(ledger: ledger, front: front, contents: contents, logger: logger)
        reconciler = Reconciler(ledger: ledger, front: front, contents: contents, logger: logger)
        entitlements = EntitlementSync(ledger: ledger, front: front)
    }

    /// Keeps the queue in line until the task is cancelled.
    package func run() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await rebuilder.run() }
            group.addTask { await refiller.run() }
            group.addTask { await keep(.milliseconds(200), .seconds(1)) { try await reconciler.sweepOnce() } }
            group.addTask { await keep(.seconds(2), .seconds(2)) { try await reconciler.markStragglers() } }
            group.addTask {
                await keep(.seconds(30), .seconds(30)) { try await reconciler.compareMembership() }
            }
            group.addTask {
                await keep(.seconds(3), .seconds(3)) {
                    _ = try await entitlements.compareLimits()
                    return false
                }
            }
        }
    }

    private func keep(
        _ busy: Duration, _ idle: Duration, _ step: () async throws -> Bool
    ) async {
        await repeating(every: busy, idle: idle, logger, "queue of \(kind)", step)
    }
}
