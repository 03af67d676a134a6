package import Domain
package import Postgres

/// What a step of removal took away.
package struct Removed: Sendable, Hashable {
    /// Jobs, runs with their output and evidence, and tasks.
    package var jobs = 0
    package var runs = 0
    package var tasks = 0

    /// Whether there was nothing to remove.
    package var isNothing: Bool { jobs == 0 && runs == 0 && tasks == 0 }
}

extension Ledger {
    /// For how many days an organization keeps what has ended; `nil` inside for the default, `nil` outside if
    /// the scope does not see it.
    package func retentionDays(of organization: OrganizationID, scope: Scope) async throws -> Int?? {
        try await pool.query(
            "SELECT retention_days FROM organizations WHERE id = \(organization)", scope: scope
        ) { row in try row.decode(Int32?.self).map(Int.init) }.first
    }

    /// Sets it, `nil` for the default, and commits; `false` if the scope does not see the organization.
    package func setRetentionDays(
        _ days: Int?, of organization: OrganizationID, scope: Scope
    ) async throws -> Bool {
        try await pool.execute(
            """
            UPDATE organizations SET retention_days = \(days.map(Int32.init)) WHERE id = \(organization)
            """, scope: scope) > 0
    }

    /// Removes a part of what an organization's jobs and tasks have left that ended so many days ago: at
    /// most so many runs, then the jobs of which none is left, and so many tasks.
    ///
    /// Each step commits by itself and leaves nothing half: a job goes after its last run. What is removed is
    /// forgotten: its idempotency key may be used again.
    package func removeEnded(
        before days: Int, of organization: OrganizationID, limit: Int
    ) async throws -> Removed {
        let scope = Scope.organization(organization)
        let runs =
            try await pool.query(
                """
                WITH \(fragment: Self.oldJobs(of: organization, days, limit)), runs_of_old AS MATERIALIZED (
                    SELECT h.organization_id, h.id FROM old o
                    CROSS JOIN LATERAL (
                        SELECT * FROM run_history h WHERE h.job_id = ANY (ARRAY[o.id])
                          AND h.organization_id = o.organization_id LIMIT \(limit)
                    ) h LIMIT \(limit)
                ), output AS (
                    DELETE FROM run_output x USING runs_of_old g
                    WHERE x.run_id = ANY (ARRAY[g.id]) AND x.organization_id = g.organization_id
                ), evidence AS (
                    DELETE FROM attempts x USING runs_of_old g
                    WHERE x.organization_id = ANY (ARRAY[g.organization_id]) AND x.run_id = ANY (ARRAY[g.id])
                ), notes AS (
                    DELETE FROM suspects x USING runs_of_old g
                    WHERE x.organization_id = ANY (ARRAY[g.organization_id]) AND x.run_id = ANY (ARRAY[g.id])
                ), history AS (
                    DELETE FROM run_history x USING runs_of_old g
                    WHERE x.id = ANY (ARRAY[g.id]) AND x.organization_id = g.organization_id
                    RETURNING 1
                )
                SELECT count(*) FROM history
                """, scope: scope
            ) { row in try row.decode(Int.self) }.first ?? 0
        let jobs = try await pool.execute(
            """
            WITH \(fragment: Self.oldJobs(of: organization, days, limit)), empty AS MATERIALIZED (
                SELECT o.* FROM old o
                WHERE (SELECT true FROM run_history h WHERE h.job_id = ANY (ARRAY[o.id]) LIMIT 1) IS NULL
                  AND (SELECT true FROM runs r WHERE r.job_id = ANY (ARRAY[o.id]) LIMIT 1) IS NULL
                  AND (SELECT true FROM job_deltas d
                       WHERE d.organization_id = o.organization_id AND d.job_id = o.id LIMIT 1) IS NULL
            ), slots AS (
                DELETE FROM job_slots s USING empty e WHERE s.job_id = ANY (ARRAY[e.id])
            )
            DELETE FROM jobs j USING empty e
            WHERE j.id = ANY (ARRAY[e.id]) AND j.organization_id IS NOT DISTINCT FROM e.organization_id
            """, scope: scope)
        let tasks = try await pool.execute(
            """
            WITH old AS MATERIALIZED (
                SELECT organization_id, id FROM tasks
                WHERE organization_id = \(organization) AND state >= 10
                  AND finished_at < now() - make_interval(days => \(Int32(days)))
                ORDER BY organization_id, finished_at LIMIT \(limit)
            )
            DELETE FROM tasks t USING old l WHERE \(fragment: Self.isLockedTask) AND t.state >= 10
            """, scope: scope)
        return Removed(jobs: jobs, runs: runs, tasks: tasks)
    }

    // Ids carry their time: a job that is younger than so many days has not ended so many days ago.
    private static func oldJobs(of organization: OrganizationID, _ days: Int, _ limit: Int) -> SQL {
        """
        old AS MATERIALIZED (
            SELECT j.organization_id, j.id FROM jobs j
            WHERE j.organization_id = \(organization)
              AND j.id < crmm_uuid7_floor(now() - make_interval(days => \(Int32(days))))
              AND j.state >= 10 AND j.finished_at < now() - make_interval(days => \(Int32(days)))
              -- A device that was away for weeks may still say how such a run has ended.
              AND (SELECT true FROM run_history h
                   WHERE h.job_id = ANY (ARRAY[j.id]) AND h.amendable
                     AND h.finished_at > now() - interval '30 days' LIMIT 1) IS NULL
            ORDER BY j.organization_id, j.id LIMIT \(limit)
        )
        """
    }

    /// The organizations after one, in the order of their ids, that have no task of a kind with this key.
    package func organizationsWithout(
        key: String, of kind: TaskKind, after: OrganizationID, limit: Int
    ) async throws -> [OrganizationID] {
        try await pool.query(
            """
            SELECT o.id FROM organizations o
            WHERE o.id > \(after)
              AND (\(fragment: Self.keyed("o.id", "\(kind.name)::text", "\(key)::text"))) IS NULL
            ORDER BY o.id LIMIT \(limit)
            """, scope: .platform
        ) { row in try row.decode(OrganizationID.self) }
    }
}
