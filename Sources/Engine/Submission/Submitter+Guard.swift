import Domain
import Ledger
import Trust
import Wire

/// What a guard judges of a submission.
extension Submitter {
    /// How far the targets reach together. A device that several lists name counts once, and what lies in an
    /// organization that is a target as a whole, or the same site twice, counts with it.
    static func reach(of targets: [Result<JudgedTarget, EngineError>]) -> SubmissionReach {
        var reach = SubmissionReach()
        var (whole, sites): ([OrganizationID: Int], [SiteID: (organization: OrganizationID, devices: Int)]) =
            ([:], [:])
        var listed: [OrganizationID: Set<DeviceID>] = [:]
        var places: Set<SiteID?> = []
        for case .success(let target) in targets {
            reach.organizations.insert(target.organization)
            places.insert(target.site ?? target.commonSite)
            if let devices = target.devices {
                listed[target.organization, default: []].formUnion(devices)
            } else if let site = target.site {
                sites[site] = (target.organization, target.expected)
            } else {
                whole[target.organization] = target.expected
            }
        }
        if places.count == 1, let site = places.first { reach.site = site }
        reach.devices = whole.values.reduce(0, +)
        for site in sites.values where whole[site.organization] == nil { reach.devices += site.devices }
        for (organization, devices) in listed where whole[organization] == nil {
            reach.devices += devices.count
        }
        if targets.count == 1, case .success(let only) = targets[0] { reach.isExpanded = only.devices == nil }
        return reach
    }

    /// The outcomes of a submission that the guard does not let through: what cannot stand anyhow is told so,
    /// and what was taken before under the same key is answered as it was.
    func refuse(
        _ requests: [JobRequest], _ targets: [Result<JudgedTarget, EngineError>],
        because refusal: EngineError,
        by principal: PrincipalID, _ level: Level
    ) async -> [Result<AcceptedJob, EngineError>] {
        var outcomes: [Result<AcceptedJob, EngineError>] = []
        for (request, target) in zip(requests, targets) {
            switch target {
            case .failure(let error): outcomes.append(.failure(error))
            case .success(let target):
                // Nothing of it is signed: it only names what is looked for.
                let sought = SubmittedJob(
                    id: JobID(.zero), organization: target.organization, site: nil, kind: request.job.kind,
                    priority: request.job.priority, statement: [], devices: nil, targetSite: nil,
                    timeoutSeconds: 1, maximumAttempts: 1, idempotent: false, expiresAt: .now(),
                    principal: principal, idempotencyKey: request.idempotencyKey,
                    requestHash: request.requestHash)
                outcomes.append(await earlier(sought, level) ?? .failure(refusal))
            }
        }
        front.metrics.refused(outcomes.compactMap { $0.refusal })
        return outcomes
    }
}
