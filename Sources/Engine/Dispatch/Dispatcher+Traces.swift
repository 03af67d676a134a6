import Domain
import Ledger
import Logging

extension Dispatcher {
    /// Says of each run that it is on its way, by the trace of its job; only where somebody listens, for the
    /// traces are read for it.
    func note(_ marked: [MarkedRun]) async {
        guard logger.logLevel <= .debug, !marked.isEmpty else { return }
        let traces = await traces(
            of: Array(Set(marked.map(\.job))).compactMap { job in
                marked.first { $0.job == job }.map { ($0.organization, job) }
            })
        for run in marked {
            var metadata: Logger.Metadata = [
                "organization.id": "\(run.organization)", "job.id": "\(run.job)", "run.id": "\(run.run)",
                "attempt": "\(run.attempt)", "device.id": "\(run.device)", "gateway.id": "\(run.gateway)",
            ]
            if let trace = traces[run.job] { metadata["trace"] = "\(trace.traceID)" }
            logger.debug("run dispatched", metadata: metadata)
        }
    }

    /// The traces of jobs, for the log.
    func traces(of jobs: [(OrganizationID, JobID)]) async -> [JobID: TraceContext] {
        // A log without them is better than a dispatch that fails over it.
        (try? await ledger.traces(of: jobs)) ?? [:]
    }
}
