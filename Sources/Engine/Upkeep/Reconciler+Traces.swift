import Domain
import Ledger
import Logging

extension Reconciler {
    /// Says something of a job by its trace, which is read for it only where somebody listens.
    func note(
        _ level: Logger.Level, _ message: Logger.Message,
        _ job: (organization: OrganizationID, id: JobID), _ more: Logger.Metadata = [:]
    ) async {
        guard logger.logLevel <= level else { return }
        var metadata = more
        metadata["organization.id"] = "\(job.organization)"
        metadata["job.id"] = "\(job.id)"
        // A log without it is better than upkeep that fails over it.
        if let trace = (try? await ledger.traces(of: [(job.organization, job.id)]))?[job.id] {
            metadata["trace"] = "\(trace.traceID)"
        }
        logger.log(level: level, message, metadata: metadata)
    }
}
