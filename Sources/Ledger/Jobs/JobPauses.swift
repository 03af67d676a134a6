package import Domain
package import Postgres

extension Ledger {
    /// Pauses a job: no mark that begins after this commits takes a run of it. A job that is paused stays so.
    /// - Returns: its organization; `nil` if the scope does not see the job.
    /// - Throws: `conflict` if the job has ended.
    package func pauseJob(_ job: JobID, scope: Scope) async throws -> OrganizationID? {
        let rows = try await pool.query(
            """
            WITH paused AS (
                UPDATE jobs SET state = 2 WHERE id = \(job) AND state < 10 RETURNING organization_id, id
            ), listed AS (
                INSERT INTO paused_jobs (organization_id, job_id) SELECT organization_id, id FROM paused
                ON CONFLICT DO NOTHING
            )
            SELECT organization_id FROM paused
            """, scope: scope
        ) { row in try row.decode(OrganizationID.self) }
        if let organization = rows.first { return organization }
        guard let ended = try await self.job(job, scope: scope) else { return nil }
        throw LedgerError(.conflict, "the job has ended already: it is \(ended.state.name)")
    }

    /// Lets a paused job go on from where it was.
    /// - Returns: its organization; `nil` if the scope does not see the job.
    /// - Throws: `conflict` if the job is not paused.
    package func resumeJob(_ job: JobID, scope: Scope) async throws -> OrganizationID? {
        let rows = try await pool.query(
            """
            WITH resumed AS (
                UPDATE jobs SET state = CASE WHEN total IS NULL AND expanded = 0 THEN 0 ELSE 1 END
                WHERE id = \(job) AND state = 2 RETURNING organization_id, id
            ), unlisted AS (
                DELETE FROM paused_jobs p USING resumed r
                WHERE p.organization_id = r.organization_id AND p.job_id = ANY (ARRAY[r.id])
            )
            SELECT organization_id FROM resumed
            """, scope: scope
        ) { row in try row.decode(OrganizationID.self) }
        if let organization = rows.first { return organization }
        guard let other = try await self.job(job, scope: scope) else { return nil }
        throw LedgerError(.conflict, "the job is not paused: it is \(other.state.name)")
    }
}
