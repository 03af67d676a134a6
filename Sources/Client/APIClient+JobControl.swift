package import Domain
package import Wire

/// What holds back or ends jobs.
extension APIClient {
    /// Asks for a job to be cancelled.
    package func cancel(_ job: JobID) async throws -> Job { try await post("/v1/jobs/\(job)/cancel") }

    /// Asks for a run to be cancelled.
    package func cancel(_ run: RunID) async throws -> Run { try await post("/v1/runs/\(run)/cancel") }

    /// Asks for all open jobs that a filter finds to be cancelled, or counts them.
    package func cancel(_ request: CancelRequest) async throws -> CancelledJobs {
        try await post("/v1/jobs/cancel", request)
    }

    /// Starts no more runs of a job.
    package func pause(_ job: JobID) async throws -> Job { try await post("/v1/jobs/\(job)/pause") }

    /// Lets a paused job go on.
    package func resume(_ job: JobID) async throws -> Job { try await post("/v1/jobs/\(job)/resume") }
}
