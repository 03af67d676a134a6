package import Domain
import Postgres

extension Ledger {
    /// The oldest queued runs of each of these queues after the given run, up to `limit` each: what refill
    /// brings.
    package func queuedRuns(
        of queues: [(queue: OrganizationQueue, after: RunID)], limit: Int
    ) async throws -> [OrganizationQueue: [QueuedRun]] {
        let rows = try await pool.query(
            """
            SELECT q.organization_id, r.id, r.device_id, r.generation, r.lane, q.priority
            FROM unnest(\(queues.map(\.queue.organization)), \(queues.map(\.queue.priority)),
                        \(queues.map(\.after))) AS q(organization_id, priority, after)
            CROSS JOIN LATERAL (
                SELECT id, device_id, generation, lane FROM runs
                WHERE \(fragment: Self.isQueued("q.organization_id", "q.priority", after: "q.after"))
                  AND \(fragment: Self.notPaused("q.organization_id", priority: "q.priority", job: "job_id"))
                ORDER BY priority, id LIMIT \(limit)
            ) r
            """, scope: .organizations(queues.map(\.queue.organization)), decode: Self.queuedRun)
        return Dictionary(grouping: rows, by: \.queue)
    }

    /// That a run is queued there, behind another one, in the order of priority and id: with an equality on
    /// the priority too, the order of ids alone would do, which the primary key has, over all tenants.
    static func isQueued(_ organization: SQL, _ priority: SQL, after run: SQL) -> SQL {
        """
        state = 1 AND organization_id = \(fragment: organization)
        AND (priority, id) > (\(fragment: priority), \(fragment: run)) AND priority <= \(fragment: priority)
        """
    }

    /// Every queue with a backlog, by a loose index scan: as many probes as there are such queues.
    ///
    /// With an age, only those of which a run has been queued for so long: each backlog is walked up to the
    /// first such run, so at most over what was queued since.
    package func queuesWithBacklog(olderThan age: Duration? = nil) async throws -> [OrganizationQueue] {
        let milliseconds = age.map { Int($0 / .milliseconds(1)) }
        return try await pool.query(
            """
            WITH RECURSIVE found AS (
                (SELECT organization_id, priority FROM runs WHERE state = 1
                 ORDER BY organization_id, priority LIMIT 1)
                UNION ALL
                SELECT n.organization_id, n.priority FROM found f
                CROSS JOIN LATERAL (
                    SELECT r.organization_id, r.priority FROM runs r
                    WHERE r.state = 1 AND (r.organization_id, r.priority) > (f.organization_id, f.priority)
                    ORDER BY r.organization_id, r.priority LIMIT 1
                ) n
            )
            SELECT f.organization_id, f.priority FROM found f
            WHERE \(fragment: Self.notPaused("f.organization_id", priority: "f.priority"))
              AND (\(milliseconds)::bigint IS NULL
                   OR (SELECT true FROM runs r
                       WHERE r.state = 1 AND r.organization_id = f.organization_id
                         AND r.priority = f.priority
                         AND r.queued_at < now() - make_interval(secs => \(milliseconds) / 1000.0)
                       LIMIT 1))
            """, scope: .platform
        ) { row in
            let (organization, priority) = try row.decode((OrganizationID, Priority).self)
            return OrganizationQueue(organization, priority)
        }
    }
}
