package import Domain
package import Postgres

/// A run that was sent to a device and should be stopped there.
package struct CancelledRun: Sendable {
    /// Which attempt of which run.
    package let organization: OrganizationID
    package let run: RunID
    package let device: DeviceID
    package let attempt: Int
    package let token: AttemptToken
    /// The gateway that held the device's session when it was marked.
    package let gateway: GatewayID?
}

extension Ledger {
    /// Asks for a job to be cancelled: one flag, which the mark reads. Rows follow in `cancelRuns`.
    /// - Returns: the job's organization; `nil` if the scope does not see the job.
    /// - Throws: `conflict` if the job has ended.
    package func requestCancel(_ job: JobID, scope: Scope) async throws -> OrganizationID? {
        let rows = try await pool.query(
            """
            UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, now())
            WHERE id = \(job) AND state < 10 RETURNING organization_id
            """, scope: scope
        ) { row in try row.decode(OrganizationID.self) }
        if let organization = rows.first { return organization }
        guard let ended = try await self.job(job, scope: scope) else { return nil }
        throw LedgerError(.conflict, "the job has ended already: it is \(ended.state.name)")
    }

    /// Cancels up to 500 open runs of jobs that somebody asked to cancel, in id order.
    ///
    /// What was not sent ends at once; what was sent keeps its row, gets the request and a deadline after
    /// which it is declared cancelled without the agent's word, and is returned so that its gateway can be
    /// told.
    package func cancelRuns(
        of job: JobID?, organization: OrganizationID?, scope: Scope
    ) async throws -> (ended: [SettledRun], sent: [CancelledRun]) {
        let picked: SQL = """
            SELECT r.organization_id, r.id FROM jobs j
            JOIN runs r ON r.organization_id = j.organization_id AND r.job_id = j.id
            WHERE j.cancel_requested_at IS NOT NULL AND j.state < 10 AND r.cancel_requested_at IS NULL
              AND (\(job)::uuid IS NULL OR j.id = \(job))
              AND (\(organization)::uuid IS NULL OR j.organization_id = \(organization))
            ORDER BY r.organization_id, r.id LIMIT 500
            FOR UPDATE OF r SKIP LOCKED
            """
        let results = try await pool.pipeline(
            scope: scope,
            [
                """
                WITH picked AS (\(fragment: picked))
                UPDATE runs r SET cancel_requested_at = now(),
                       deadline = CASE WHEN r.sent_at IS NULL THEN r.deadline
                                       ELSE least(r.deadline, now() + interval '2 minutes') END
                FROM picked p WHERE r.organization_id = p.organization_id AND r.id = p.id
                RETURNING r.organization_id, r.id, r.device_id, r.attempt, r.token, r.gateway_id,
                          r.sent_at IS NOT NULL, r.job_id
                """
            ])
        var unsent: [(OrganizationID, RunID)] = []
        var sent: [CancelledRun] = []
        for row in results[0].rows {
            let (organization, run, device, attempt, token, gateway, wasSent, _) = try row.decode(
                (OrganizationID, RunID, DeviceID, Int32, AttemptToken?, GatewayID?, Bool, JobID).self)
            if wasSent, let token {
                sent.append(
                    CancelledRun(
                        organization: organization, run: run, device: device, attempt: Int(attempt),
                        token: token,
                        gateway: gateway))
            } else {
                unsent.append((organization, run))
            }
        }
        let ended = try await endUnsent(unsent, outcome: .cancelled, reason: "cancelled", scope: scope)
        return (ended, sent)
    }
}
