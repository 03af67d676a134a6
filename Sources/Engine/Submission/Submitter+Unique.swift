import Domain
import Ledger
import Postgres
import Trust
import Wire

extension Submitter {
    /// The slot that a job wants, if it wants one.
    static func slot(
        of job: NewJob, organization: OrganizationID, site: SiteID?, devices: [DeviceID]?, level: Level
    ) throws(EngineError) -> UniqueSlot? {
        guard let unique = job.unique else { return nil }
        let place: UniqueID
        switch unique.scope {
        case .organization:
            if case .site = level {
                throw EngineError(
                    .forbidden, field: "unique.scope",
                    "is organization, which a site's key does not see; it may be site or device")
            }
            place = organization.value
        case .site:
            guard let site else {
                throw EngineError(
                    .invalid, field: "unique.scope", "is site, but the target is not of one site")
            }
            place = site.value
        case .device:
            guard let device = devices?.first, devices?.count == 1 else {
                throw EngineError(
                    .invalid, field: "unique.scope", "is device, but the target is not one device")
            }
            place = device.value
        }
        return UniqueSlot(
            key: unique.key, place: place, site: unique.scope == .organization ? nil : site,
            whileRunning: unique.states.contains(.running), onConflict: unique.onConflict)
    }

    /// What a job that did not get its key is answered: the job that holds it, or a refusal that names it.
    static func answer(
        _ job: SubmittedJob, heldBy holder: JobID, _ state: JobState
    ) -> Result<AcceptedJob, EngineError> {
        if job.unique?.onConflict == .return {
            return .success(AcceptedJob(id: holder, state: state, isExisting: true))
        }
        return .failure(
            EngineError(
                .uniqueConflict, field: "unique.key", "is held by job \(holder), which is \(state.name)"))
    }

    /// The rows of replaced jobs follow their request, which is committed.
    static func follow(
        _ outcomes: [Submission], scope: Scope, ledger: Ledger, front: QueueFront
    ) async {
        for case .replacing(let old, _) in outcomes {
            do {
                let (ended, sent) = try await ledger.cancelRuns(of: old, organization: nil, scope: scope)
                await front.ended(ended)
                await front.tellCancelled(sent)
            } catch {
                // The reconciler finds them.
                return
            }
        }
    }
}
