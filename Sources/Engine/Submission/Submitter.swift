package import Domain
package import Ledger
package import Logging
package import Postgres
package import Trust
package import Wire

/// One job of a submission.
package struct JobRequest: Sendable {
    /// What was asked.
    package var job: NewJob
    /// The caller's key for asking again, and the hash of what was asked.
    package var idempotencyKey: String?
    package var requestHash: [UInt8]

    /// A request.
    package init(job: NewJob, idempotencyKey: String?, requestHash: [UInt8]) {
        self.job = job
        self.idempotencyKey = idempotencyKey
        self.requestHash = requestHash
    }
}

/// Takes jobs in: judges their targets, signs, commits, and hands what may run now to the queue.
///
/// What is accepted is committed; the queue is only told of it, and finds it by itself if that fails.
package struct Submitter: Sendable {
    private let ledger: Ledger
    private let signer: Signer
    private let judge: EdgeJudge
    private let front: QueueFront
    private let logger: Logger

    /// A submitter on the API's login.
    package init(ledger: Ledger, signer: Signer, judge: EdgeJudge, front: QueueFront, logger: Logger) {
        self.ledger = ledger
        self.signer = signer
        self.judge = judge
        self.front = front
        self.logger = logger
    }

    /// Submits jobs; each gets an outcome of its own, in order, and none disturbs its neighbours.
    /// - Throws: only when nothing could be done at all, as when the database does not answer.
    package func submit(
        _ requests: [JobRequest], by principal: APIKeyID, scope: Scope
    ) async throws -> [Result<AcceptedJob, EngineError>] {
        let now = Instant.now()
        let places = try await places(of: requests, scope: scope)
        var outcomes = [Result<AcceptedJob, EngineError>?](repeating: nil, count: requests.count)
        var prepared: [(index: Int, job: SubmittedJob)] = []
        for (index, request) in requests.enumerated() {
            do throws(EngineError) {
                prepared.append((index, try prepare(request, places, by: principal, now: now)))
            } catch {
                outcomes[index] = .failure(error)
            }
        }
        var hasCommitted = false
        for part in parts(of: prepared) {
            let (submissions, runs): ([Submission], [QueuedRun])
            do {
                (submissions, runs) = try await ledger.submit(part.map(\.job), scope: scope)
            } catch {
                // What was committed before keeps its outcome; else who asks again without a key runs it
                // twice.
                guard hasCommitted else { throw error }
                logger.warning("a part of a submission failed", metadata: ["error": "\(error)"])
                let mayBeThere = (error as? PostgresError)?.mayHaveCommitted ?? false
                for (index, _) in part { outcomes[index] = .failure(Self.notTaken(mayBeThere: mayBeThere)) }
                continue
            }
            hasCommitted = true
            for ((index, job), submission) in zip(part, submissions) {
                outcomes[index] =
                    switch submission {
                    case .accepted(let state): .success(AcceptedJob(id: job.id, state: state))
                    case .repeated(let id, let state): .success(AcceptedJob(id: id, state: state))
                    case .idempotencyConflict:
                        .failure(
                            EngineError(
                                .idempotencyConflict, field: "Idempotency-Key",
                                "this key was used before with another body"))
                    case .failed(let mayBeThere): .failure(Self.notTaken(mayBeThere: mayBeThere))
                    case .missingDevice:
                        .failure(
                            EngineError(
                                .conflict, field: "target.deviceIds",
                                "names a device that has just gone or moved; read the devices again"))
                    }
            }
            await front.offer(runs, and: part.filter { $0.job.devices == nil }.map(\.job.organization))
        }
        return outcomes.map { $0 ?? .failure(EngineError(.invalid, "the job was not judged")) }
    }

    private static func notTaken(mayBeThere: Bool) -> EngineError {
        EngineError(
            .overloaded,
            mayBeThere
                ? "the database did not say whether it took this; look before you submit it again"
                : "the database did not take this; submit it again")
    }

    /// Asks for a job to be cancelled: what was not sent ends now, agents that hold the rest are told.
    package func cancel(_ job: JobID, scope: Scope) async throws {
        let organization: OrganizationID?
        do {
            organization = try await ledger.requestCancel(job, scope: scope)
        } catch let error as LedgerError where error.code == .conflict {
            throw EngineError(.conflict, error.message)
        }
        guard let organization else { throw EngineError(.notFound, "there is no job with this id") }
        let (ended, sent) = try await ledger.cancelRuns(of: job, organization: organization, scope: scope)
        await front.ended(ended)
        await front.tellCancelled(sent)
        await front.offer([], and: [organization])
    }

    // A transaction carries at most so many runs, so that a large bulk does not hold locks for long.
    private func parts(of prepared: [(index: Int, job: SubmittedJob)]) -> [[(index: Int, job: SubmittedJob)]]
    {
        var parts: [[(index: Int, job: SubmittedJob)]] = []
        var size = 0
        for item in prepared {
            let cost = 1 + (item.job.devices?.count ?? 0)
            if parts.isEmpty || size + cost > 2_000 {
                parts.append([])
                size = 0
            }
            parts[parts.count - 1].append(item)
            size += cost
        }
        return parts
    }

    /// Where every target of a submission lies, as far as the scope sees, and which of them only an altered
    /// row brings there.
    private struct Places {
        var devices: [DeviceID: DevicePlace] = [:]
        var sites: [SiteID: OrganizationID] = [:]
        var counts: [Target: Int] = [:]
        var alteredDevices: [DeviceID: ParentEdge] = [:]
        var alteredSites: [SiteID: ParentEdge] = [:]
        var alteredOrganizations: [OrganizationID: ParentEdge] = [:]

        struct Target: Hashable {
            let organization: OrganizationID
            let site: SiteID?
        }
    }

    private func places(of requests: [JobRequest], scope: Scope) async throws -> Places {
        var places = Places()
        var devices: Set<DeviceID> = []
        for request in requests {
            if case .devices(let listed) = request.job.target { devices.formUnion(listed) }
        }
        if !devices.isEmpty {
            places.devices = try await ledger.places(of: Array(devices), scope: scope)
            judgeDevices(of: &places)
        }
        for request in requests {
            switch request.job.target {
            case .devices: break
            case .site(let site):
                guard places.sites[site] == nil, let place = try await ledger.site(site, scope: scope) else {
                    break
                }
                places.sites[site] = place.organization
                places.alteredSites[site] = judge.firstAltered(of: place.edges)
                try await count(
                    Places.Target(organization: place.organization, site: site), into: &places, scope: scope)
            case .organization(let organization):
                try await count(
                    Places.Target(organization: organization, site: nil), into: &places, scope: scope)
            }
        }
        return places
    }

    /// Judges the edge of each device and, once each, the edges of their sites upwards.
    private func judgeDevices(of places: inout Places) {
        var sites: [SiteID: ParentEdge?] = [:]
        for (device, place) in places.devices {
            let site = place.site
            let altered: ParentEdge? = sites[site.site] ?? judge.firstAltered(of: site.edges)
            sites.updateValue(altered, forKey: site.site)
            places.alteredDevices[device] = altered ?? judge.firstAltered(of: [place.edge])
        }
    }

    private func count(_ target: Places.Target, into places: inout Places, scope: Scope) async throws {
        guard places.counts[target] == nil else { return }
        if target.site == nil {
            let edges = try await ledger.edges(of: target.organization, scope: scope)
            guard !edges.isEmpty else { return }
            places.alteredOrganizations[target.organization] = judge.firstAltered(of: edges)
        }
        places.counts[target] = try await ledger.deviceCount(
            organization: target.organization, site: target.site, atMost: 1, scope: scope)
    }

    private func prepare(
        _ request: JobRequest, _ places: Places, by principal: APIKeyID, now: Instant
    ) throws(EngineError) -> SubmittedJob {
        let job = request.job
        let id = JobID.new(at: now)
        let target = try judge(job.target, places)
        let payload = JobPayload(
            job: id, kind: job.kind, script: job.script, timeoutSeconds: job.timeoutSeconds,
            maximumAttempts: 1,
            idempotent: job.idempotent, target: target.signed)
        let expiresAt = now + .seconds(job.expiresInSeconds)
        let statement = signer.sign(
            payload, organization: target.organization, now: now, expiresAt: expiresAt
        ).encoded
        guard statement.count <= Limits.statementBytesMax else {
            throw EngineError(
                .invalid, field: "script",
                "has \(statement.count) bytes in its signed form; allowed are \(Limits.statementBytesMax)")
        }
        return SubmittedJob(
            id: id, organization: target.organization, site: target.commonSite, kind: job.kind,
            priority: .standard,
            statement: statement, devices: target.devices, targetSite: target.site,
            timeoutSeconds: job.timeoutSeconds,
            maximumAttempts: 1, idempotent: job.idempotent, expiresAt: expiresAt, principal: principal,
            idempotencyKey: request.idempotencyKey, requestHash: request.requestHash)
    }

    private struct JudgedTarget {
        var organization: OrganizationID
        var site: SiteID?
        var commonSite: SiteID?
        var devices: [DeviceID]?
        var signed: SignedTarget
    }

    private func judge(_ target: Target, _ places: Places) throws(EngineError) -> JudgedTarget {
        switch target {
        case .devices(let devices):
            var organization: OrganizationID?
            var sites: Set<SiteID> = []
            for (index, device) in devices.enumerated() {
                guard let place = places.devices[device] else {
                    throw EngineError(
                        .invalid, field: "target.deviceIds[\(index)]", "names no device that you may see")
                }
                if let altered = places.alteredDevices[device] {
                    throw EngineError(
                        .alteredRow, field: "target.deviceIds[\(index)]", altered.refusal)
                }
                if let organization, organization != place.site.organization {
                    throw EngineError(
                        .invalid, field: "target.deviceIds[\(index)]",
                        "belongs to another organization than the first; a job is for one organization")
                }
                organization = place.site.organization
                sites.insert(place.site.site)
            }
            guard let organization else {
                throw EngineError(.invalid, field: "target.deviceIds", "must not be empty")
            }
            let tree = MerkleTree(
                leaves: devices.map { SignedTarget.leaf(organization: organization, device: $0) })
            return JudgedTarget(
                organization: organization, commonSite: sites.count == 1 ? sites.first : nil,
                devices: devices,
                signed: .list(root: tree.root, size: devices.count))
        case .site(let site):
            guard let organization = places.sites[site] else {
                throw EngineError(.invalid, field: "target.siteId", "names no site that you may see")
            }
            if let altered = places.alteredSites[site] {
                throw EngineError(.alteredRow, field: "target.siteId", altered.refusal)
            }
            guard places.counts[Places.Target(organization: organization, site: site)] ?? 0 > 0 else {
                throw EngineError(
                    .invalid, field: "target.siteId", "names a site without devices; a job needs at least one"
                )
            }
            return JudgedTarget(organization: organization, site: site, signed: .site(site))
        case .organization(let organization):
            guard let count = places.counts[Places.Target(organization: organization, site: nil)] else {
                throw EngineError(
                    .invalid, field: "target.organizationId", "names no organization that you may see")
            }
            if let altered = places.alteredOrganizations[organization] {
                throw EngineError(.alteredRow, field: "target.organizationId", altered.refusal)
            }
            guard count > 0 else {
                throw EngineError(
                    .invalid, field: "target.organizationId",
                    "names an organization without devices; a job needs at least one")
            }
            return JudgedTarget(organization: organization, signed: .organization)
        }
    }
}
