package import Domain
package import Postgres

/// A run that was sent to a device and should be stopped there.
package struct CancelledRun: Sendable {
    /// Which attempt of which run.
    package let organization: OrganizationID
    package let job: JobID
    package let run: RunID
    package let device: DeviceID
    package let attempt: Int
    package let token: AttemptToken
}

extension Ledger {
    /// Asks for a job to be cancelled: one flag, which the mark reads. Rows follow in `cancelRuns`.
    /// - Returns: the job's organization; `nil` if the scope does not see the job.
    /// - Throws: `conflict` if the job has ended.
    package func requestCancel(_ job: JobID, scope: Scope) async throws -> OrganizationID? {
        let rows = try await pool.query(
            """
            UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, now()), cancel_pending = true
            WHERE id = \(job) AND state < 10 RETURNING organization_id
            """, scope: scope
        ) { row in try row.decode(OrganizationID.self) }
        if let organization = rows.first { return organization }
        guard let ended = try await self.job(job, scope: scope) else { return nil }
        throw LedgerError(.conflict, "the job has ended already: it is \(ended.state.name)")
    }

    /// Cancels open runs of jobs that somebody asked to cancel, up to 500 of each sort, in one transaction.
    ///
    /// What was not sent ends at once; what was sent keeps its row, gets the request and a deadline after
    /// which it is declared cancelled without the agent's word, and is returned so that its gateway can be
    /// told.
    package func cancelRuns(
        of job: JobID?, organization: OrganizationID?, scope: Scope
    ) async throws -> (ended: [SettledRun], sent: [CancelledRun]) {
        let which: SQL = """
            j.cancel_pending AND (\(job)::uuid IS NULL OR j.id = \(job))
            AND (\(organization)::uuid IS NULL OR j.organization_id = \(organization))
            """
        let results = try await pool.pipeline(
            scope: scope,
            [
                """
                WITH picked AS MATERIALIZED (
                    SELECT r.organization_id, r.id
                    FROM jobs j CROSS JOIN LATERAL (\(fragment: Self.nextRunsOfJob)) r
                    WHERE \(fragment: which) AND r.sent_at IS NULL LIMIT 500
                ), ended AS MATERIALIZED (
                    SELECT r.organization_id, r.id, 13::smallint AS outcome, 'cancelled'::text AS reason
                    FROM picked i \(fragment: Self.lockUnlocked) WHERE r.sent_at IS NULL
                ), \(fragment: Self.endWithoutWord)
                """,
                """
                WITH picked AS MATERIALIZED (
                    SELECT r.organization_id, r.id
                    FROM jobs j CROSS JOIN LATERAL (\(fragment: Self.nextRunsOfJob)) r
                    WHERE \(fragment: which) AND r.sent_at IS NOT NULL LIMIT 500
                ), locked AS MATERIALIZED (
                    SELECT r.organization_id, r.id FROM picked i \(fragment: Self.lockUnlocked)
                    WHERE r.sent_at IS NOT NULL AND r.cancel_requested_at IS NULL
                )
                UPDATE runs r SET cancel_requested_at = now(), deadline = now() + interval '2 minutes'
                FROM locked l WHERE \(fragment: Self.isLocked)
                RETURNING r.organization_id, r.job_id, r.id, r.device_id, r.attempt, r.token
                """,
                """
                UPDATE jobs j SET cancel_pending = false
                WHERE \(fragment: which) AND j.total IS NOT NULL
                  AND NOT EXISTS (\(fragment: Self.runsOfJob) AND r.cancel_requested_at IS NULL)
                """,
            ])
        return (try results[0].rows.map(Self.settledRun), try results[1].rows.map(Self.cancelledRun))
    }

    // The oldest open runs of the job `j` for which something is to be done. They are read no further than
    // that: by an array of one the job does not count as a constant, so no other index has their order.
    private static let nextRunsOfJob: SQL = """
        SELECT r.organization_id, r.id, r.sent_at FROM runs r
        WHERE r.job_id = ANY (ARRAY[j.id]) AND r.organization_id = j.organization_id
          AND (r.sent_at IS NULL OR r.cancel_requested_at IS NULL)
        ORDER BY r.job_id, r.id LIMIT 500
        """

    // As `lockRun`, but whoever holds a run is not waited for: the next look finds it.
    private static let lockUnlocked: SQL = """
        CROSS JOIN LATERAL (
            SELECT * FROM runs r WHERE r.organization_id = i.organization_id AND r.id = i.id
            OFFSET 0 FOR UPDATE SKIP LOCKED
        ) r
        """

    /// Runs that were sent, are to be cancelled, and have not ended some seconds after the request: page by
    /// page in the order of organization and id.
    package func cancelsUnheard(
        after: (OrganizationID, RunID)?, limit: Int
    ) async throws -> [CancelledRun] {
        let after = after ?? (ID(.zero), ID(.zero))
        return try await pool.query(
            """
            SELECT organization_id, job_id, id, device_id, attempt, token FROM runs
            WHERE cancel_requested_at IS NOT NULL AND (organization_id, id) > (\(after.0), \(after.1))
              AND cancel_requested_at < now() - interval '3 seconds' AND state IN (3, 4)
            ORDER BY organization_id, id LIMIT \(limit)
            """, scope: .platform, decode: Self.cancelledRun)
    }

    @Sendable static func cancelledRun(_ row: PostgresRow) throws -> CancelledRun {
        let (organization, job, run, device, attempt, token) = try row.decode(
            (OrganizationID, JobID, RunID, DeviceID, Int32, AttemptToken).self)
        return CancelledRun(
            organization: organization, job: job, run: run, device: device, attempt: Int(attempt),
            token: token)
    }
}
