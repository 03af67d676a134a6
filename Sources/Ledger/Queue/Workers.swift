package import Domain
package import Postgres

/// A role of a process, as it says so itself.
package struct WorkerRow: Sendable, Hashable {
    /// Which one, and what it does.
    package let id: WorkerID
    package let role: String
    /// Where it runs.
    package let host: String
    package let processID: Int
    /// When it began, and when it was heard last.
    package let startedAt: Instant
    package let seenAt: Instant
    /// Where it is.
    package let state: WorkerState
    /// How many tasks it does.
    package let tasks: Int
}

extension Ledger {
    /// A role of a process begins; those that were not seen for a day are forgotten.
    package func beginWorker(_ id: WorkerID, role: String, host: String, processID: Int) async throws {
        _ = try await pool.pipeline(
            scope: .platform,
            [
                "DELETE FROM workers WHERE seen_at < now() - interval '1 day'",
                """
                INSERT INTO workers (id, role, host, process_id)
                VALUES (\(id), \(role), \(host), \(Int32(processID)))
                """,
            ])
    }

    /// Says that it lives, and that it holds nothing more since it was told to drain.
    /// - Returns: whether it was told to drain; `nil` if it was forgotten.
    package func beatWorker(_ id: WorkerID, isDrained: Bool) async throws -> Bool? {
        try await pool.query(
            """
            UPDATE workers SET seen_at = now(),
                   drained_at = CASE WHEN \(isDrained) THEN coalesce(drained_at, now()) END
            WHERE id = \(id)
            RETURNING drain_requested_at IS NOT NULL
            """, scope: .platform
        ) { row in try row.decode(Bool.self) }.first
    }

    /// It ended in order.
    package func endWorker(_ id: WorkerID) async throws {
        try await pool.execute(
            "UPDATE workers SET seen_at = now(), stopped_at = now() WHERE id = \(id)", scope: .platform)
    }

    /// Tells a role of a process to drain, unless it has ended.
    /// - Returns: how it stands now; `nil` if there is none, or none that the scope sees.
    package func requestDrain(
        of id: WorkerID, by principal: PrincipalID, scope: Scope
    ) async throws -> WorkerRow? {
        try await pool.query(
            """
            UPDATE workers w SET
                drain_requested_at = coalesce(drain_requested_at, now()),
                drain_requested_by = coalesce(drain_requested_by, \(principal))
            WHERE id = \(id) AND role = 'worker' AND \(fragment: Self.isAlive)
            RETURNING \(fragment: Self.workerColumns)
            """, scope: scope, decode: Self.worker
        ).first
    }

    /// One role of a process.
    package func worker(_ id: WorkerID, scope: Scope) async throws -> WorkerRow? {
        try await pool.query(
            "SELECT \(fragment: Self.workerColumns) FROM workers w WHERE id = \(id)", scope: scope,
            decode: Self.worker
        ).first
    }

    /// The roles of processes, by when they began.
    package func workers(_ page: PageRequest, scope: Scope) async throws -> [WorkerRow] {
        let after = page.after.map { WorkerID($0) } ?? WorkerID(.zero)
        return try await pool.query(
            """
            SELECT \(fragment: Self.workerColumns) FROM workers w
            WHERE id > \(after) ORDER BY id LIMIT \(page.limit)
            """, scope: scope, decode: Self.worker)
    }

    // A heartbeat comes each second.
    private static let isAlive: SQL = "stopped_at IS NULL AND seen_at > now() - interval '15 seconds'"

    private static let workerColumns: SQL = """
        id, role, host, process_id, started_at, seen_at,
        CASE WHEN stopped_at IS NOT NULL THEN 'stopped' WHEN NOT (\(fragment: isAlive)) THEN 'lost'
             WHEN drained_at IS NOT NULL THEN 'drained' WHEN drain_requested_at IS NOT NULL THEN 'draining'
             ELSE 'running' END,
        (SELECT count(*) FROM tasks t WHERE t.worker_id = w.id AND t.state = 4)
        """

    @Sendable private static func worker(_ row: PostgresRow) throws -> WorkerRow {
        let (id, role, host, process, startedAt, seenAt, state, tasks) = try row.decode(
            (WorkerID, String, String, Int32, Instant, Instant, String, Int).self)
        guard let state = WorkerState(rawValue: state) else {
            throw LedgerError(.conflict, "a worker is in no state that there is")
        }
        return WorkerRow(
            id: id, role: role, host: host, processID: Int(process), startedAt: startedAt, seenAt: seenAt,
            state: state, tasks: tasks)
    }
}
