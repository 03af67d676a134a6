import Access
import Domain
import Engine
import HTTPTypes
import Ledger
import Wire

extension Handlers {
    /// Calls that hold back or end what was submitted.
    var jobControlRoutes: [Route] {
        [
            .post(
                "/v1/jobs/{id}/cancel", "Asks for a job to be cancelled", .permitted(.jobsCancel),
                status: .accepted
            ) {
                call in
                try await submitter.cancel(call.id(JobID.self), scope: call.scope)
                return Job(try await job(call))
            }.refusing(.conflict),
            .post(
                "/v1/jobs/cancel",
                "Asks for all open jobs that a filter finds to be cancelled, or counts them",
                .permitted(.jobsCancel), status: .accepted
            ) { (call: Call, request: CancelRequest) in
                try await submitter.cancel(request, scope: call.scope)
            }.refusing(.conflict),
            .post(
                "/v1/runs/{id}/cancel", "Asks for a run to be cancelled", .permitted(.jobsCancel),
                status: .accepted
            ) {
                call in
                try await submitter.cancel(call.id(RunID.self), scope: call.scope)
                return Run(try await run(call))
            }.refusing(.conflict),
            .post(
                "/v1/jobs/{id}/pause", "Starts no more runs of a job; none starts after this answers",
                .permitted(.jobsCancel), status: .accepted
            ) { call in
                try await controls.pause(call.id(JobID.self), scope: call.scope)
                return Job(try await job(call))
            }.refusing(.conflict),
            .post(
                "/v1/jobs/{id}/resume", "Lets a paused job go on", .permitted(.jobsCancel), status: .accepted
            ) { call in
                try await controls.resume(call.id(JobID.self), scope: call.scope)
                return Job(try await job(call))
            }.refusing(.conflict),
        ]
    }
}
