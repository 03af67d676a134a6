package import Domain
package import Ledger
import Postgres

/// What PostgreSQL has for one partition of the queue: the work that refill brings, and what runs.
///
/// The protocol of the queue is the same for runs of devices and for tasks of the platform; only the table
/// differs.
package struct QueueContents: Sendable {
    /// The oldest queued work of each of these queues after a place, up to a limit each.
    let queued:
        @Sendable ([(queue: OrganizationQueue, after: RunID)], Int) async throws
            -> [OrganizationQueue: [QueuedRun]]
    /// The queues with a backlog, or those that have had it for so long.
    let backlog: @Sendable (Duration?) async throws -> [OrganizationQueue]
    /// One page of what runs, in order, after a place.
    let running: @Sendable (QueuedRun?, Int) async throws -> [RunningRun]
    /// Those of these that run, with their generation.
    let areRunning: @Sendable ([(OrganizationID, RunID)]) async throws -> [RunID: Int]
    /// Of these, in their generation, the owner died after it had begun them.
    let suspect: @Sendable ([(OrganizationID, RunID, Int)]) async throws -> Void
    /// Limits of what may run now, finer than a cap.
    let limits: @Sendable () async throws -> [OrganizationID: RunLimits]
    /// What runs of an organization that has limits, with what these count by.
    let lanes: @Sendable (OrganizationID) async throws -> [LanedRun]
    /// What pauses of jobs and kinds hold back of these organizations.
    let holds: @Sendable ([OrganizationID]) async throws -> [OrganizationID: Holds]
    /// The whole queues that are paused.
    let pauses: @Sendable () async throws -> Set<QueueScope>

    /// The runs of devices.
    package static func runs(_ ledger: Ledger) -> QueueContents {
        QueueContents(
            queued: { try await ledger.queuedRuns(of: $0, limit: $1) },
            backlog: { try await ledger.queuesWithBacklog(olderThan: $0) },
            running: { try await ledger.running(after: $0, limit: $1) },
            areRunning: { try await ledger.areRunning($0) },
            suspect: { try await ledger.suspect($0) },
            limits: { try await ledger.runLimits() },
            lanes: { try await ledger.lanes(of: [], andRunningOf: $0) },
            holds: { try await ledger.holds(of: $0) },
            pauses: { try await ledger.pauses(of: nil, scope: .platform) })
    }

    /// The tasks of a kind: pauses and finer limits are of devices' runs and do not hold for them, and their
    /// crashes are counted when their worker is given up.
    package static func tasks(_ kind: TaskKind, _ ledger: Ledger) -> QueueContents {
        QueueContents(
            queued: { try await ledger.queuedTasks(of: $0, kind: kind, limit: $1) },
            backlog: { try await ledger.taskQueuesWithBacklog(kind: kind, olderThan: $0) },
            running: { try await ledger.runningTasks(kind: kind, after: $0, limit: $1) },
            areRunning: { try await ledger.areTasksRunning($0) },
            suspect: { _ in },
            limits: { [:] }, lanes: { _ in [] }, holds: { _ in [:] }, pauses: { [] })
    }
}
