package import Domain
import Postgres

/// What single pauses, of jobs or of kinds of work, hold back of an organization: enough to tell whether
/// that has changed.
package struct Holds: Sendable, Hashable {
    /// How many there are.
    package let count: Int
    // All of them, mixed.
    let digest: Int
}

extension Ledger {
    /// The holds of those of these organizations that have any. Pauses of whole queues are none: the queue
    /// itself keeps these.
    package func holds(of organizations: [OrganizationID]) async throws -> [OrganizationID: Holds] {
        let rows = try await pool.query(
            """
            SELECT h.organization_id, count(*), bit_xor(hashtextextended(h.what, 0))
            FROM (
                SELECT o.id AS organization_id, p.job_id::text AS what FROM unnest(\(organizations)) AS o(id)
                CROSS JOIN LATERAL (
                    SELECT job_id FROM paused_jobs p WHERE p.organization_id = o.id OFFSET 0
                ) p
                UNION ALL
                SELECT o.id, c.id::text FROM unnest(\(organizations)) AS o(id)
                CROSS JOIN LATERAL (
                    SELECT id FROM queue_controls c
                    WHERE c.covered = ANY (ARRAY[o.id, \(Self.allOrganizations)])
                      AND c.mode = 1 AND c.kind IS NOT NULL
                    OFFSET 0
                ) c
            ) h
            GROUP BY h.organization_id
            """, scope: .organizations(organizations)
        ) { row in try row.decode((OrganizationID, Int, Int).self) }
        return Dictionary(rows.map { ($0.0, Holds(count: $0.1, digest: $0.2)) }) { first, _ in first }
    }

    /// Removes notes of paused jobs that are not paused any more: a job that ended while it was paused, and
    /// one that was resumed while it was being paused. Looks at so many from behind the given one.
    /// - Returns: the last that was looked at if there may be more.
    package func forgetPauses(
        after last: (OrganizationID, JobID)? = nil, limit: Int = 1_000
    ) async throws -> (OrganizationID, JobID)? {
        let after = last ?? (OrganizationID(.zero), JobID(.zero))
        let seen = try await pool.query(
            """
            WITH page AS MATERIALIZED (
                SELECT organization_id, job_id FROM paused_jobs
                WHERE (organization_id, job_id) > (\(after.0), \(after.1))
                ORDER BY organization_id, job_id LIMIT \(limit)
            ), gone AS (
                DELETE FROM paused_jobs p
                USING (SELECT * FROM page i
                       WHERE (SELECT j.state FROM jobs j
                              WHERE j.organization_id = i.organization_id AND j.id = i.job_id LIMIT 1)
                             IS DISTINCT FROM 2 OFFSET 0) i
                WHERE p.organization_id = ANY (ARRAY[i.organization_id]) AND p.job_id = ANY (ARRAY[i.job_id])
            )
            SELECT organization_id, job_id FROM page ORDER BY organization_id, job_id
            """, scope: .platform
        ) { row in try row.decode((OrganizationID, JobID).self) }
        return seen.count < limit ? nil : seen.last
    }
}
