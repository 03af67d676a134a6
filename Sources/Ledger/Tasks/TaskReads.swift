package import Domain
package import Postgres

/// A task as it stands.
package struct TaskRow: Sendable, Hashable {
    /// Which one, of which tenant and kind.
    package let id: TaskID
    package let organization: OrganizationID
    package let kind: String
    /// Where it is, how soon it is served, and why it or its last attempt ended.
    package let state: TaskState
    package let priority: Priority
    package let reason: String?
    /// How often it was begun, how many attempts failed, how many it may have, and how often a worker was
    /// lost over it.
    package let attempt: Int
    package let failures: Int
    package let maximumAttempts: Int
    package let crashes: Int
    /// The worker that has it, or had it last.
    package let worker: WorkerID?
    /// What it was submitted with, and the task that it repeats.
    package let key: String?
    package let retryOf: TaskID?
    /// Its times.
    package let createdAt: Instant
    package let startedAt: Instant?
    package let finishedAt: Instant?
    package let expiresAt: Instant
    /// When it is due, if it is scheduled.
    package let dueAt: Instant?
    package let cancelRequestedAt: Instant?
}

/// Which tasks are meant; what is `nil` narrows nothing.
package struct TaskFilter: Sendable, Hashable {
    /// The tenant.
    package var organization: OrganizationID?
    /// The kind and the state.
    package var kind: TaskKind?
    package var state: TaskState?

    /// All, to begin with.
    package init(organization: OrganizationID? = nil, kind: TaskKind? = nil, state: TaskState? = nil) {
        self.organization = organization
        self.kind = kind
        self.state = state
    }
}

extension Ledger {
    /// The tasks that a scope sees, by when they were made.
    package func tasks(_ filter: TaskFilter, _ page: PageRequest, scope: Scope) async throws -> [TaskRow] {
        var listing = Listing(table: "tasks", isNewestFirst: false, limit: page.limit)
        listing.condition = """
            (\(filter.kind?.name)::text IS NULL OR t.kind = \(filter.kind?.name))
            AND (\(filter.state)::smallint IS NULL OR t.state = \(filter.state))
            """
        if let after = page.after { listing.after = after }
        let rows = listing.page(of: filter.organization, scope: scope, as: "t")
        return try await pool.query(
            "SELECT \(fragment: Self.taskColumns) FROM \(fragment: rows)", scope: scope,
            decode: Self.taskRow)
    }

    /// One task.
    package func task(_ id: TaskID, scope: Scope) async throws -> TaskRow? {
        try await pool.query(
            "SELECT \(fragment: Self.taskColumns) FROM tasks t WHERE t.id = \(id)", scope: scope,
            decode: Self.taskRow
        ).first
    }

    /// Cancels a task that no worker has, asks the worker of one that runs, and leaves an ended one as it is.
    /// - Returns: the task as it stands; `nil` if the scope does not see it.
    package func cancelTask(_ id: TaskID, scope: Scope) async throws -> TaskRow? {
        let cancelled = try await pool.query(
            """
            UPDATE tasks t SET
                cancel_requested_at = coalesce(t.cancel_requested_at, now()),
                state = CASE WHEN t.state = 4 THEN t.state ELSE 13 END,
                finished_at = CASE WHEN t.state = 4 THEN NULL ELSE now() END
            WHERE t.id = \(id) AND t.state < 10
            RETURNING \(fragment: Self.taskColumns)
            """, scope: scope, decode: Self.taskRow
        ).first
        if let cancelled { return cancelled }
        return try await task(id, scope: scope)
    }

    /// Makes a new task of one that has ended otherwise than well; only one is made of each.
    /// - Returns: the new task, its kind, and its entry if it is new; `nil` if the scope does not see the old
    ///   one.
    package func retryTask(
        _ id: TaskID, as new: TaskID, scope: Scope
    ) async throws -> (TaskID, kind: String, queued: QueuedRun?)? {
        guard let old = try await task(id, scope: scope) else { return nil }
        guard old.state.isOutcome, old.state != .succeeded else {
            throw LedgerError(
                .conflict,
                "the task is \(old.state.name); only one that ended and failed is repeated")
        }
        let made = try await pool.query(
            """
            INSERT INTO tasks (organization_id, id, kind, payload, state, priority, maximum_attempts,
                               backoff_seconds, maximum_backoff_seconds, timeout_seconds, retry_of,
                               expires_at, deadline)
            SELECT organization_id, \(new), kind, payload, 1, priority, maximum_attempts, backoff_seconds,
                   maximum_backoff_seconds, timeout_seconds, id, now() + interval '1 day',
                   now() + interval '1 day'
            FROM tasks WHERE id = \(id) AND state > 10
            ON CONFLICT (retry_of, organization_id) WHERE retry_of IS NOT NULL DO NOTHING
            RETURNING organization_id, id, generation, priority
            """, scope: scope, decode: Self.queuedTask
        ).first
        if let made { return (new, old.kind, made) }
        let earlier = try await pool.query(
            "SELECT id FROM tasks WHERE retry_of = \(id) AND organization_id = \(old.organization)",
            scope: scope
        ) { row in try row.decode(TaskID.self) }
        return earlier.first.map { ($0, old.kind, nil) }
    }

    private static let taskColumns: SQL = """
        t.id, t.organization_id, t.kind, t.state, t.priority, t.reason, t.attempt, t.failures,
        t.maximum_attempts, t.crashes, t.worker_id, t.idempotency_key, t.retry_of, t.created_at, t.started_at,
        t.finished_at, t.expires_at, CASE WHEN t.state = 0 THEN t.deadline END, t.cancel_requested_at
        """

    @Sendable private static func taskRow(_ row: PostgresRow) throws -> TaskRow {
        let (
            id, organization, kind, state, priority, reason, attempt, failures, attemptsMax, crashes, worker,
            key, retryOf, createdAt, startedAt, finishedAt, expiresAt, dueAt, cancelRequestedAt
        ) = try row.decode(
            (
                TaskID, OrganizationID, String, TaskState, Priority, String?, Int32, Int32, Int32, Int32,
                WorkerID?, String?, TaskID?, Instant, Instant?, Instant?, Instant, Instant?, Instant?
            ).self)
        return TaskRow(
            id: id, organization: organization, kind: kind, state: state, priority: priority, reason: reason,
            attempt: Int(attempt), failures: Int(failures), maximumAttempts: Int(attemptsMax),
            crashes: Int(crashes), worker: worker, key: key, retryOf: retryOf, createdAt: createdAt,
            startedAt: startedAt, finishedAt: finishedAt, expiresAt: expiresAt, dueAt: dueAt,
            cancelRequestedAt: cancelRequestedAt)
    }
}
