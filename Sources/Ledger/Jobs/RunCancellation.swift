package import Domain
package import Postgres

/// What became of the request to cancel one run.
package enum RunCancel: Sendable {
    /// It was not sent and has ended now.
    case ended(SettledRun)
    /// It was sent: its device is to be told.
    case asked(CancelledRun)
    /// It had ended before, in this state.
    case over(RunState)
    /// It belongs to a job that the scope does not see.
    case ofUnseenJob
}

/// Which open jobs that nobody asked to cancel yet are meant; an absent part narrows nothing.
package struct JobFilter: Sendable, Equatable {
    /// Whose jobs, and whose whole target is of which site.
    package var organization: OrganizationID?
    package var site: SiteID?
    /// What they do, how soon, and where they are.
    package var kind: JobKind?
    package var priority: Priority?
    package var state: JobState?
    /// When they were committed.
    package var createdAfter: Instant?
    package var createdBefore: Instant?

    /// All open jobs.
    package init() {}
}

extension Ledger {
    /// Asks for one run to be cancelled: what was not sent ends at once, what was sent gets the request, a
    /// second request changes nothing.
    ///
    /// One transaction that holds the run: whoever sends or settles it at this moment comes before or after.
    /// - Returns: `nil` if the scope does not see the run.
    package func cancelRun(_ run: RunID, scope: Scope) async throws -> RunCancel? {
        // Its job must be seen too: who sees only the runs of a site does not count in a job of all sites.
        let held: SQL = """
            SELECT r.* FROM (SELECT * FROM runs r WHERE r.id = \(run) OFFSET 0 FOR UPDATE) r
            CROSS JOIN LATERAL (
                SELECT FROM jobs j WHERE j.organization_id = r.organization_id AND j.id = r.job_id OFFSET 0
            ) j
            """
        let results = try await pool.pipeline(
            scope: scope,
            [
                """
                WITH ended AS MATERIALIZED (
                    SELECT r.organization_id, r.id, 13::smallint AS outcome, 'cancelled'::text AS reason
                    FROM (\(fragment: held)) r WHERE r.sent_at IS NULL
                ), \(fragment: Self.endWithoutWord)
                """,
                """
                WITH locked AS MATERIALIZED (\(fragment: held))
                UPDATE runs r SET cancel_requested_at = coalesce(r.cancel_requested_at, now()),
                       deadline = CASE WHEN r.cancel_requested_at IS NULL THEN now() + interval '2 minutes'
                                       ELSE r.deadline END
                FROM locked l WHERE \(fragment: Self.isLocked)
                RETURNING r.organization_id, r.job_id, r.id, r.device_id, r.attempt, r.token
                """,
            ])
        if let ended = try results[0].rows.first.map(Self.settledRun) { return .ended(ended) }
        if let asked = try results[1].rows.first.map(Self.cancelledRun) { return .asked(asked) }
        guard let row = try await self.run(run, scope: scope) else { return nil }
        return row.state.isOutcome ? .over(row.state) : .ofUnseenJob
    }

    /// The open jobs that a filter finds and nobody asked to cancel yet, in the order of organization and id.
    ///
    /// The jobs of the longest time for which one can be open are walked, so this is for what people ask for,
    /// not for what runs by itself.
    package func openJobs(
        _ filter: JobFilter, limit: Int, scope: Scope
    ) async throws -> [(organization: OrganizationID, id: JobID)] {
        var conditions: [SQL] = []
        if let organization = filter.organization { conditions.append("organization_id = \(organization)") }
        if let site = filter.site { conditions.append("site_id = \(site)") }
        if let kind = filter.kind { conditions.append("kind = \(kind.rawValue)") }
        if let priority = filter.priority { conditions.append("priority = \(priority)") }
        if let state = filter.state { conditions.append("state = \(state)") }
        if let after = filter.createdAfter { conditions.append("created_at > \(after)") }
        if let before = filter.createdBefore { conditions.append("created_at < \(before)") }
        let narrowed: SQL = conditions.reduce("") { "\(fragment: $0) AND \(fragment: $1)" }
        return try await pool.query(
            """
            SELECT organization_id, id FROM jobs
            WHERE state < 10 AND cancel_requested_at IS NULL AND organization_id IS NOT NULL
              -- Ninety days ahead and thirty days long, at the most.
              AND id > crmm_uuid7_floor(now() - interval '130 days')
              \(fragment: narrowed)
            ORDER BY organization_id, id LIMIT \(limit)
            """, scope: scope
        ) { row in try row.decode((OrganizationID, JobID).self) }
    }

    /// Asks for jobs to be cancelled that are open still, at most `batchMax` a statement.
    ///
    /// A row that somebody holds is passed over, so that many rows never wait in a circle; the caller asks
    /// for those that are not among the returned one by one.
    package func requestCancels(
        _ jobs: [(organization: OrganizationID, id: JobID)], scope: Scope
    ) async throws -> Set<JobID> {
        Set(
            try await Self.inBatches(jobs) { jobs in
                try await pool.query(
                    """
                    WITH locked AS MATERIALIZED (
                        SELECT j.organization_id, j.id
                        FROM unnest(\(jobs.map(\.organization)), \(jobs.map(\.id))) AS i(organization_id, id)
                        CROSS JOIN LATERAL (
                            SELECT * FROM jobs j
                            WHERE j.organization_id = i.organization_id AND j.id = i.id
                            OFFSET 0 FOR UPDATE SKIP LOCKED
                        ) j
                        WHERE j.state < 10
                    )
                    UPDATE jobs j SET cancel_requested_at = coalesce(j.cancel_requested_at, now()),
                           cancel_pending = true
                    FROM locked l
                    WHERE j.organization_id IS NOT DISTINCT FROM l.organization_id
                      AND j.id = ANY (ARRAY[l.id])
                    RETURNING j.id
                    """, scope: scope
                ) { row in try row.decode(JobID.self) }
            })
    }
}
