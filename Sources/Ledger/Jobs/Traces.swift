package import Domain
import Postgres

extension Ledger {
    /// The traces that jobs came with; one that came without is absent. For logs.
    package func traces(of jobs: [(OrganizationID, JobID)]) async throws -> [JobID: TraceContext] {
        let rows = try await Self.inBatches(jobs) { jobs in
            try await pool.query(
                """
                SELECT i.id, j.trace
                FROM unnest(\(jobs.map(\.0)), \(jobs.map(\.1))) AS i(organization_id, id)
                CROSS JOIN LATERAL (
                    SELECT trace FROM jobs j
                    WHERE j.organization_id = i.organization_id AND j.id = i.id OFFSET 0
                ) j
                """, scope: .organizations(jobs.map(\.0))
            ) { row in try row.decode((JobID, PostgresData?).self) }
        }
        return rows.reduce(into: [:]) { traces, row in
            traces[row.0] = row.1.flatMap { TraceContext(bytes: $0.bytes) }
        }
    }
}
