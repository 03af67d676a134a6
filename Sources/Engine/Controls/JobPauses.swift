package import Domain
import Ledger
package import Postgres

/// Pauses of single jobs. The mark reads them; a run that was claimed before stays queued in PostgreSQL.
extension QueueControls {
    /// Pauses a job: when this returns, no run of it is marked any more. What runs already goes on.
    package func pause(_ job: JobID, scope: Scope) async throws {
        _ = try await organization { try await ledger.pauseJob(job, scope: scope) }
        try await awaitMarks()
    }

    /// Resumes a paused job: what was held back flows at once.
    package func resume(_ job: JobID, scope: Scope) async throws {
        let organization = try await organization { try await ledger.resumeJob(job, scope: scope) }
        await front.offer(all: [organization])
    }

    private func organization(_ body: () async throws -> OrganizationID?) async throws -> OrganizationID {
        do {
            if let organization = try await body() { return organization }
        } catch let error as LedgerError where error.code == .conflict {
            throw EngineError(.conflict, error.message)
        }
        throw EngineError(.notFound, "there is no job with this id")
    }
}
