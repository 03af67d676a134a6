import Access
import Engine
import Ledger
import Wire

extension Handlers {
    var explainRoutes: [Route] {
        [
            .get("/v1/jobs/{id}/explain", "Says what the runs of a job wait for", .permitted(.jobsRead)) {
                call in
                guard let (job, explanation) = try await explainer.explain(call.id(), scope: call.scope)
                else { throw Problem.notFound() }
                return ExplainedJob(job: job.id, state: job.state, explanation)
            },
            .get("/v1/runs/{id}/explain", "Says what a run waits for, and why", .permitted(.jobsRead)) {
                call in
                guard let facts = try await explainer.facts(of: call.id(), scope: call.scope) else {
                    throw Problem.notFound()
                }
                return ExplainedRun(facts)
            },
        ]
    }

    private var explainer: Explainer { Explainer(ledger: ledger, rates: rates) }
}
