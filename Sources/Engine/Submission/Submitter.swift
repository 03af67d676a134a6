package import Domain
import Faults
package import Ledger
package import Logging
import Postgres
package import Trust
package import Wire

/// One job of a submission.
package struct JobRequest: Sendable {
    /// What was asked.
    package var job: NewJob
    /// The caller's key for asking again, and the hash of what was asked.
    package var idempotencyKey: String?
    package var requestHash: [UInt8]
    /// The job whose runs it repeats, and those of them that are dead letters until then.
    var retryOf: JobID?
    var redriven: [RunID] = []

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
    let ledger: Ledger
    let signer: Signer
    let judge: EdgeJudge
    let front: QueueFront
    private let drains: DrainWatch
    private let quotas: QuotaWatch
    let secrets: SecretResolver
    let logger: Logger
    private let commits: Gathering<[SubmittedJob], [Submission]>
    private let places: Gathering<DevicesAsked, [DeviceID: Places.Judged<DevicePlace>]>

    /// A submitter on the API's login.
    package init(
        ledger: Ledger, signer: Signer, judge: EdgeJudge, front: QueueFront, keys: SealingKeys, logger: Logger
    ) {
        secrets = SecretResolver(ledger: ledger, keys: keys)
        self.ledger = ledger
        self.signer = signer
        self.judge = judge
        self.front = front
        drains = DrainWatch(ledger: ledger)
        quotas = QuotaWatch(ledger: ledger, front: front)
        self.logger = logger
        commits = Self.commits(ledger: ledger, front: front)
        places = Gathering(sizeMax: Limits.deviceIDsMax) { scope, asked in
            let devices = Set(asked.lazy.flatMap(\.devices))
            let found = try await ledger.places(of: Array(devices), scope: scope)
            // Who has the same scope has the same level.
            let judged = Self.judged(found, upTo: asked[0].level, by: judge)
            return asked.map { _ in judged }
        }
    }

    /// Commits signed jobs, those of concurrent callers together, and hands their runs to the queue.
    package static func commits(
        ledger: Ledger, front: QueueFront
    ) -> Gathering<[SubmittedJob], [Submission]> {
        Gathering(sizeMax: runsMax) { scope, parts in
            let jobs = parts.flatMap(\.self)
            var devices: [DeviceID: OrganizationID] = [:]
            for job in jobs where job.notBefore == nil {
                for device in job.devices ?? [] { devices[device] = job.organization }
            }
            let away = await front.away(devices)
            FaultPoint.reach(.apiBeforeCommit)
            let done = try await ledger.submit(jobs, away: away, scope: scope)
            FaultPoint.reach(.apiAfterCommit)
            let unexpanded = jobs.filter { $0.devices == nil }
                .map { OrganizationQueue($0.organization, $0.priority) }
            await front.offer(done.queued, and: unexpanded)
            await front.offerPresent(of: done.waiting, in: ledger)
            FaultPoint.reach(.apiAfterEnqueue)
            await follow(done.outcomes, scope: scope, ledger: ledger, front: front)
            var rest = done.outcomes[...]
            return parts.map { part in
                defer { rest.removeFirst(part.count) }
                return Array(rest.prefix(part.count))
            }
        }
    }

    /// Submits jobs for targets that are the level or below it; each gets an outcome of its own, in order,
    /// and none disturbs its neighbours. What the guard does not let through is not signed, and refused of
    /// all of them, since it is all together that it judges.
    /// - Throws: only when nothing could be done at all, as when the database does not answer.
    package func submit(
        _ requests: [JobRequest], by principal: PrincipalID, level: Level, secrets: SecretsReach,
        under guarded: SubmissionGuard
    ) async throws -> [Result<AcceptedJob, EngineError>] {
        let now = Instant.now()
        let places = try await places(of: requests, level: level)
        let (secretsLevel, refusal) = try await secretsLevel(of: requests, secrets)
        let targets = requests.map { request in
            Result { () throws(EngineError) in
                if let refusal, request.job.namesSecrets { throw refusal }
                return try judge(request.job.target, places)
            }
        }
        let clearance: SubmissionGuard.Clearance
        do {
            clearance = try await guarded.judge(Self.reach(of: targets))
        } catch let error as EngineError {
            return await refuse(requests, targets, because: error, by: principal, level)
        }
        let values = try await signedSecrets(of: requests, targets, level: secretsLevel)
        var outcomes = [Result<AcceptedJob, EngineError>?](repeating: nil, count: requests.count)
        var prepared: [(index: Int, job: SubmittedJob)] = []
        for (index, request) in requests.enumerated() {
            do throws(EngineError) {
                var job = try prepare(
                    request, targets[index].get(), values[index]?.get() ?? [], by: principal, level: level,
                    now: now)
                job.devicesMax = clearance.devicesMax(of: job.expectedRuns, isAlone: requests.count == 1)
                do throws(EngineError) {
                    try Self.judge(notBefore: request.job.notBefore, now: now)
                    prepared.append((index, job))
                } catch {
                    // Who asks again, of a job whose time has come since, gets the same answer.
                    outcomes[index] = await earlier(job, level) ?? .failure(error)
                }
            } catch {
                outcomes[index] = .failure(error)
            }
        }
        try await drains.sift(&prepared, &outcomes, scope: level.scope)
        try await quotas.sift(&prepared, &outcomes, scope: level.scope)
        var held = prepared[...]
        defer { quotas.end(held.map { ($0.job, isCommitted: false) }) }
        var hasCommitted = false
        for part in parts(of: prepared) {
            let submissions: [Submission]
            do {
                submissions = try await commits(
                    part.map(\.job), size: part.reduce(0) { $0 + $1.job.size }, scope: level.scope)
            } catch {
                let mayBeThere = (error as? PostgresError)?.mayHaveCommitted ?? false
                quotas.end(held.prefix(part.count).map { ($0.job, isCommitted: mayBeThere) })
                held.removeFirst(part.count)
                // What was committed before keeps its outcome; else who asks again without a key runs it
                // twice.
                guard hasCommitted else { throw error }
                logger.warning("a part of a submission failed", metadata: ["error": "\(error)"])
                for (index, _) in part { outcomes[index] = .failure(Self.notTaken(mayBeThere: mayBeThere)) }
                continue
            }
            hasCommitted = true
            quotas.end(zip(part, submissions).map { ($0.job, isCommitted: $1.addsWork) })
            held.removeFirst(part.count)
            for ((index, job), submission) in zip(part, submissions) {
                outcomes[index] =
                    switch submission {
                    case .accepted(let state), .replacing(_, let state):
                        .success(AcceptedJob(id: job.id, state: state))
                    case .held(let holder, let state): Self.answer(job, heldBy: holder, state)
                    case .repeated(let id, let state): .success(AcceptedJob(id: id, state: state))
                    case .idempotencyConflict: .failure(Self.usedKey)
                    case .failed(let mayBeThere): .failure(Self.notTaken(mayBeThere: mayBeThere))
                    case .missingDevice: .failure(Self.gone(isRepeat: job.retryOf != nil))
                    }
            }
        }
        front.metrics.refused(outcomes.compactMap { $0?.refusal })
        return outcomes.map { $0 ?? .failure(EngineError(.invalid, "the job was not judged")) }
    }

    private static func judge(notBefore: Instant?, now: Instant) throws(EngineError) {
        guard let notBefore else { return }
        guard notBefore > now else {
            throw EngineError(
                .invalid, field: "notBefore", "is \(notBefore), which is past; it must be later than \(now)")
        }
        let latest = now + .seconds(Limits.notBeforeSecondsMax)
        guard notBefore <= latest else {
            throw EngineError(
                .invalid, field: "notBefore",
                "is \(notBefore); it may be \(Limits.notBeforeSecondsMax) seconds ahead, so up to \(latest)")
        }
    }

    /// What was accepted under the job's idempotency key before, if anything was.
    func earlier(_ job: SubmittedJob, _ level: Level) async -> Result<AcceptedJob, EngineError>? {
        guard job.idempotencyKey != nil else { return nil }
        do {
            switch try await ledger.earlier(job, scope: level.scope) {
            case .repeated(let id, let state): return .success(AcceptedJob(id: id, state: state))
            case .idempotencyConflict: return .failure(Self.usedKey)
            case .accepted, .replacing, .held, .missingDevice, .failed: return nil
            }
        } catch {
            // Not there, or not to be read now: then the request is refused by what it says.
            return nil
        }
    }

    private static let usedKey = EngineError(
        .idempotencyConflict, field: "Idempotency-Key", "this key was used before with another body")

    private static func gone(isRepeat: Bool) -> EngineError {
        isRepeat
            ? EngineError(.conflict, "a device or a dead letter of it has just gone; look at them again")
            : EngineError(
                .conflict, field: "target.deviceIds",
                "names a device that has just gone or moved; read the devices again")
    }

    private static func notTaken(mayBeThere: Bool) -> EngineError {
        EngineError(
            .overloaded,
            mayBeThere
                ? "the database did not say whether it took this; look before you submit it again"
                : "the database did not take this; submit it again")
    }

    // A transaction carries at most so many jobs and runs, so that a large bulk does not hold locks for long.
    private static let runsMax = 2_000

    private func parts(of prepared: [(index: Int, job: SubmittedJob)]) -> [[(index: Int, job: SubmittedJob)]]
    {
        var parts: [[(index: Int, job: SubmittedJob)]] = []
        var size = 0
        for item in prepared {
            let cost = item.job.size
            if parts.isEmpty || size + cost > Self.runsMax {
                parts.append([])
                size = 0
            }
            parts[parts.count - 1].append(item)
            size += cost
        }
        return parts
    }

    /// Devices that a submission names, to be judged up to a level.
    private struct DevicesAsked {
        let devices: Set<DeviceID>
        let level: Level
    }

    /// The targets of a submission that the level's scope shows, each judged by its edges up to the level.
    struct Places {
        typealias Judged<Place> = Result<Place, EdgeRefusal>

        var devices: [DeviceID: Judged<DevicePlace>] = [:]
        var sites: [SiteID: Judged<(organization: OrganizationID, devices: Int)>] = [:]
        var organizations: [OrganizationID: Judged<Int>] = [:]
    }

    private func places(of requests: [JobRequest], level: Level) async throws -> Places {
        var places = Places()
        var devices: Set<DeviceID> = []
        for request in requests {
            switch request.job.target {
            case .devices(let listed): devices.formUnion(listed)
            case .site(let site):
                guard places.sites[site] == nil,
                    let place = try await ledger.site(site, scope: level.scope)
                else { break }
                let count = try await deviceCount(place.organization, site: site, level)
                places.sites[site] = judge.judged(place.edges, upTo: level).map {
                    (place.organization, count)
                }
            case .organization(let organization):
                guard places.organizations[organization] == nil else { break }
                let edges = try await ledger.edges(of: organization, scope: level.scope)
                let count = try await deviceCount(organization, site: nil, level)
                places.organizations[organization] = judge.judged(edges, upTo: level).map { count }
            }
        }
        if !devices.isEmpty {
            let found = try await self.places(
                DevicesAsked(devices: devices, level: level), size: devices.count, scope: level.scope)
            for device in devices { places.devices[device] = found[device] }
        }
        return places
    }

    /// What a quota counts a target as: it has that many runs once it is expanded.
    private func deviceCount(
        _ organization: OrganizationID, site: SiteID?, _ level: Level
    ) async throws -> Int {
        try await ledger.deviceCount(
            organization: organization, site: site, atMost: Limits.openRuns.upperBound, scope: level.scope)
    }

    /// Judges the edge of each device and, once each, the edges of their sites upwards.
    private static func judged(
        _ places: [DeviceID: DevicePlace], upTo level: Level, by judge: EdgeJudge
    ) -> [DeviceID: Places.Judged<DevicePlace>] {
        var sites: [SiteID: Places.Judged<Void>] = [:]
        return places.mapValues { place in
            let id = place.site.site
            let site = sites[id] ?? judge.judged(place.site.edges, upTo: level)
            sites[id] = site
            return site.flatMap { judge.judged([place.edge], upTo: .site(id)) }.map { place }
        }
    }

    private func prepare(
        _ request: JobRequest, _ target: JudgedTarget, _ secrets: [SignedSecret], by principal: PrincipalID,
        level: Level, now: Instant
    ) throws(EngineError) -> SubmittedJob {
        let job = request.job
        let id = JobID.new(at: now)
        let retry = job.retry?.policy(idempotent: job.idempotent) ?? .none
        var payload = JobPayload(
            job: id, kind: job.kind, script: job.script, timeoutSeconds: job.timeoutSeconds,
            maximumAttempts: retry.maximumAttempts,
            idempotent: job.idempotent, notBefore: job.notBefore, target: target.signed)
        payload.secrets = secrets
        let expiresAt = (job.notBefore ?? now) + .seconds(job.expiresInSeconds)
        let statement = signer.sign(
            payload, organization: target.organization, now: now, expiresAt: expiresAt
        ).encoded
        guard statement.count <= Limits.statementBytesMax else {
            throw EngineError(
                .invalid, field: "script",
                "has \(statement.count) bytes in its signed form; allowed are \(Limits.statementBytesMax)")
        }
        var submitted = SubmittedJob(
            id: id, organization: target.organization, site: target.commonSite, kind: job.kind,
            priority: job.priority,
            statement: statement, devices: target.devices, targetSite: target.site,
            timeoutSeconds: job.timeoutSeconds,
            maximumAttempts: retry.maximumAttempts, idempotent: job.idempotent, expiresAt: expiresAt,
            principal: principal,
            idempotencyKey: request.idempotencyKey, requestHash: request.requestHash)
        submitted.expectedRuns = target.expected
        submitted.notBefore = job.notBefore
        submitted.hasSecrets = !secrets.isEmpty
        submitted.retry = retry
        (submitted.retryOf, submitted.redriven) = (request.retryOf, request.redriven)
        submitted.trace = TraceContext.current
        submitted.unique = try Self.slot(
            of: job, organization: target.organization, site: target.site ?? target.commonSite,
            devices: target.devices, level: level)
        return submitted
    }

    struct JudgedTarget {
        var organization: OrganizationID
        var site: SiteID?
        var commonSite: SiteID?
        var devices: [DeviceID]?
        var expected = 0
        var signed: SignedTarget
    }

    func judge(_ target: Target, _ places: Places) throws(EngineError) -> JudgedTarget {
        switch target {
        case .devices(let devices):
            var organization: OrganizationID?
            var sites: Set<SiteID> = []
            for (index, device) in devices.enumerated() {
                let place = try seen(
                    places.devices[device], field: "target.deviceIds[\(index)]", kind: "device")
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
        case .site(let id):
            let site = try seen(places.sites[id], field: "target.siteId", kind: "site")
            guard site.devices > 0 else {
                throw EngineError(
                    .invalid, field: "target.siteId", "names a site without devices; a job needs at least one"
                )
            }
            return JudgedTarget(
                organization: site.organization, site: id, expected: site.devices, signed: .site(id))
        case .organization(let id):
            let devices = try seen(
                places.organizations[id], field: "target.organizationId", kind: "organization")
            guard devices > 0 else {
                throw EngineError(
                    .invalid, field: "target.organizationId",
                    "names an organization without devices; a job needs at least one")
            }
            return JudgedTarget(organization: id, expected: devices, signed: .organization)
        }
    }

    private func seen<Place>(
        _ place: Places.Judged<Place>?, field: @autoclosure () -> String, kind: String
    ) throws(EngineError) -> Place {
        do throws(EdgeRefusal) {
            return try (place ?? .failure(.missing)).get()
        } catch {
            throw EngineError(
                error,
                unseen: EngineError(.invalid, field: field(), "names no \(kind) that you may see"))
        }
    }
}

extension SubmittedJob {
    /// How many rows it is: its own and those of its list.
    fileprivate var size: Int { 1 + (devices?.count ?? 0) }
}

extension Submission {
    /// Whether the job is among its organization's open work by it, or may be.
    fileprivate var addsWork: Bool {
        switch self {
        case .accepted, .replacing: true
        case .failed(let mayBeThere): mayBeThere
        case .repeated, .idempotencyConflict, .missingDevice, .held: false
        }
    }
}

extension Result where Success == AcceptedJob, Failure == EngineError {
    /// Why the job was refused, if it was.
    var refusal: EngineError.Code? {
        switch self {
        case .success: nil
        case .failure(let error): error.code
        }
    }
}

extension EdgeJudge {
    /// As `require`, as a value.
    fileprivate func judged(_ edges: [SealedEdge], upTo level: Level) -> Result<Void, EdgeRefusal> {
        Result { () throws(EdgeRefusal) in try require(edges, upTo: level) }
    }
}
