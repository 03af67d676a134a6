package import Domain
package import Wire

extension APIClient {
    /// What a run waits for, and why.
    package func explain(_ run: RunID) async throws -> ExplainedRun {
        try await get("/v1/runs/\(run)/explain")
    }

    /// What a job's runs wait for.
    package func explain(_ job: JobID) async throws -> ExplainedJob {
        try await get("/v1/jobs/\(job)/explain")
    }
}
