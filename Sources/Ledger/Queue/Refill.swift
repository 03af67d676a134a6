package import Domain
import Postgres

extension Ledger {
    /// The oldest queued runs of each of these organizations after the given run, up to `limit` each: what
    /// refill brings to the queue.
    package func queuedRuns(
        of organizations: [(OrganizationID, after: RunID)], priority: Priority, limit: Int
    ) async throws -> [OrganizationID: [QueuedRun]] {
        let rows = try await pool.query(
            """
            SELECT o.id, r.id, r.device_id, r.generation, r.lane
            FROM unnest(\(organizations.map(\.0)), \(organizations.map(\.after))) AS o(id, after)
            CROSS JOIN LATERAL (
                SELECT id, device_id, generation, lane FROM runs
                WHERE organization_id = o.id AND priority = \(priority) AND state = 1 AND id > o.after
                ORDER BY id LIMIT \(limit)
            ) r
            """, scope: .organizations(organizations.map(\.0))
        ) { row in
            let (organization, run, device, generation, lane) = try row.decode(
                (OrganizationID, RunID, DeviceID, Int32, Lane).self)
            return QueuedRun(
                organization: organization, run: run, device: device, generation: Int(generation), lane: lane)
        }
        return Dictionary(grouping: rows, by: \.organization)
    }

    /// Every organization with a backlog, by a loose index scan: as many probes as there are organizations.
    ///
    /// With an age, only those of which a run has been queued for so long: each backlog is walked up to the
    /// first such run, so at most over what was queued since.
    package func organizationsWithBacklog(olderThan age: Duration? = nil) async throws -> [OrganizationID] {
        let milliseconds = age.map { Int($0 / .milliseconds(1)) }
        return try await pool.query(
            """
            WITH RECURSIVE found AS (
                (SELECT organization_id FROM runs WHERE state = 1 ORDER BY organization_id LIMIT 1)
                UNION ALL
                SELECT (SELECT r.organization_id FROM runs r
                        WHERE r.state = 1 AND r.organization_id > f.organization_id
                        ORDER BY r.organization_id LIMIT 1)
                FROM found f WHERE f.organization_id IS NOT NULL
            )
            SELECT f.organization_id FROM found f
            WHERE f.organization_id IS NOT NULL
              AND (\(milliseconds)::bigint IS NULL
                   OR (SELECT true FROM runs r
                       WHERE r.state = 1 AND r.organization_id = f.organization_id
                         AND r.queued_at < now() - make_interval(secs => \(milliseconds) / 1000.0)
                       LIMIT 1))
            """, scope: .platform
        ) { row in try row.decode(OrganizationID.self) }
    }
}
