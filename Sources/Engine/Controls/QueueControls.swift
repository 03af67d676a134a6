package import Domain
package import Ledger
package import Logging
import Postgres
import Streams
package import Trust
package import Wire

/// Lets operators hold back, refuse and weigh work, within the level of who asks.
///
/// PostgreSQL is told first and decides; Redis follows, so that what is held back occupies no slot and what
/// goes on does so at once. Whatever dies between the two is put right by `EntitlementSync`.
package struct QueueControls: Sendable {
    let ledger: Ledger
    let front: QueueFront
    private let judge: EdgeJudge
    private let logger: Logger

    /// Controls on the API's login.
    package init(ledger: Ledger, front: QueueFront, judge: EdgeJudge, logger: Logger) {
        self.ledger = ledger
        self.front = front
        self.judge = judge
        self.logger = logger
    }

    // MARK: Pause, drain, resume

    /// Pauses: when this returns, no run of the scope is marked any more.
    package func pause(
        _ request: ControlRequest, by principal: PrincipalID, level: Level
    ) async throws -> QueueControl {
        let row = try await set(.pause, request, by: principal, level: level)
        try await awaitMarks()
        await followInRedis(row.scope)
        return QueueControl(row)
    }

    /// Drains: submissions that come after this has returned are refused.
    package func drain(
        _ request: ControlRequest, by principal: PrincipalID, level: Level
    ) async throws -> QueueControl {
        let row = try await set(.drain, request, by: principal, level: level)
        // Until then a process may go by what it read before.
        try await Task.sleep(for: DrainWatch.life)
        return QueueControl(row)
    }

    /// Ends pauses and drains of exactly this scope; what was held back flows at once.
    package func resume(
        _ request: ResumeRequest, by principal: PrincipalID, level: Level
    ) async throws -> [QueueControl] {
        try await require(request.scope, level)
        let scope = level.scope
        let lifted = try await ledger.liftControls(
            of: request.scope, mode: request.mode, isByPlatform: level == .platform, scope: scope)
        guard !lifted.isEmpty else {
            let others = try await ledger.controls(of: request.scope, scope: scope).filter {
                request.mode ?? $0.mode == $0.mode
            }
            guard others.isEmpty else {
                throw EngineError(
                    .forbidden,
                    "\(request.scope) was \(others[0].mode.past) by the platform, which alone ends that")
            }
            let words = (request.mode.map { [$0] } ?? ControlMode.allCases).map(\.participle)
            throw EngineError(.conflict, "\(request.scope) is not \(words.joined(separator: " and not "))")
        }
        note("controls lifted", lifted[0].scope, by: principal)
        if lifted.contains(where: { $0.mode == .pause }) {
            await followInRedis(request.scope)
            await offer(request.scope)
        }
        return lifted.map(QueueControl.init)
    }

    /// The controls that the level sees, by when they began.
    package func controls(_ page: PageRequest, level: Level) async throws -> [QueueControl] {
        try await ledger.controls(page, scope: level.scope).map(QueueControl.init)
    }

    /// What holds back runs of an organization: its own controls and those of all.
    package func controls(
        covering organization: OrganizationID, level: Level
    ) async throws -> [QueueControl] {
        try await ledger.controls(covering: organization, scope: level.scope).map(QueueControl.init)
    }

    private func set(
        _ mode: ControlMode, _ request: ControlRequest, by principal: PrincipalID, level: Level
    ) async throws -> ControlRow {
        try await require(request.scope, level)
        let row = try await ledger.setControl(
            .new(at: .now()), mode, of: request.scope, reason: request.reason, by: principal,
            isByPlatform: level == .platform, scope: level.scope)
        note("\(mode.name) set", row.scope, by: principal)
        return row
    }

    /// A level covers itself and what is below it; what spans organizations is the platform's.
    private func require(_ covered: QueueScope, _ level: Level) async throws {
        guard let organization = covered.organization else {
            guard level == .platform else {
                throw EngineError(
                    .forbidden, field: "allOrganizations",
                    "only a key of the platform reaches all organizations: name an organizationId")
            }
            return
        }
        try await require(organization, level)
    }

    /// Requires that the signed edges of an organization lead up to the level.
    package func require(
        _ organization: OrganizationID, _ level: Level, evenArchived: Bool = false
    ) async throws {
        let edges = try await ledger.edges(of: organization, scope: level.scope)
        do throws(EdgeRefusal) {
            try judge.require(edges, upTo: level, evenArchived: evenArchived)
        } catch {
            throw EngineError(
                error,
                unseen: EngineError(.notFound, field: "organizationId", "names nothing that you may see"))
        }
    }

    /// Waits until the marks that were under way when the pause was committed are over: later ones read it.
    func awaitMarks() async throws {
        var underWay = try await marksUnderWay()
        let deadline = ContinuousClock.now + Self.markTimeMax
        while !underWay.isEmpty, ContinuousClock.now < deadline {
            try await Task.sleep(for: .milliseconds(5))
            underWay.formIntersection(try await marksUnderWay())
        }
        if !underWay.isEmpty {
            logger.warning("a mark outlives a pause", metadata: ["marks": "\(underWay.count)"])
        }
    }

    private func marksUnderWay() async throws -> Set<String> {
        var marks: Set<String> = []
        for part in front.parts { marks.formUnion(try await ledger.marksUnderWay(partition: part.number)) }
        return marks
    }

    // No mark lives so long: its statement and its transaction have limits below.
    private static let markTimeMax = Duration.seconds(30)

    /// A pause of whole queues has a place in Redis, that of a kind has none.
    private func followInRedis(_ covered: QueueScope) async {
        guard covered.kind == nil else { return }
        await follow(covered.organization) { try await $0.bringPauses(of: covered.organization) }
    }

    /// Brings something of an organization (`nil`: of all) to Redis; what fails is put right by the workers.
    func follow(
        _ organization: OrganizationID?, _ bring: (EntitlementSync) async throws -> Void
    ) async {
        do {
            try await bring(
                EntitlementSync(
                    ledger: ledger, front: front, scope: organization.map(Scope.organization) ?? .platform))
        } catch {
            logger.debug("limits left to the reconciler", metadata: ["error": "\(error)"])
        }
    }

    /// Marks the organizations whose work may go on. What is not reached is found by the stragglers' scan.
    private func offer(_ covered: QueueScope) async {
        do {
            let queues =
                if let organization = covered.organization { OrganizationQueue.all(of: organization) } else {
                    try await ledger.queuesWithBacklog()
                }
            await front.offer([], and: queues)
        } catch {
            logger.debug("resumed work left to the stragglers' scan", metadata: ["error": "\(error)"])
        }
    }

    func note(_ message: Logger.Message, _ scope: QueueScope, by principal: PrincipalID) {
        logger.notice(message, metadata: ["scope": "\(scope)", "key.id": "\(principal)"])
    }

    // MARK: Weights and caps

    /// Sets an organization's weight, which acts at once.
    package func weigh(_ organization: OrganizationID, _ weight: Double, level: Level) async throws {
        try await requireAbove(organization, level)
        guard try await ledger.setWeight(weight, of: organization, scope: level.scope) else {
            throw Self.unseen
        }
        await follow(organization) { try await $0.bring([organization]) }
    }

    /// Sets or removes an organization's cap, which acts at once: what runs already is not stopped.
    package func cap(_ organization: OrganizationID, _ cap: Int?, level: Level) async throws {
        try await requireAbove(organization, level)
        guard try await ledger.setCap(cap, of: organization, scope: level.scope) else { throw Self.unseen }
        await follow(organization) { try await $0.bring([organization]) }
    }

    /// The limits of an organization that are finer than its cap.
    package func limits(of organization: OrganizationID, level: Level) async throws -> QueueLimits {
        try await require(organization, level, evenArchived: true)
        let limits = try await ledger.runLimits(of: organization, scope: .organization(organization))
        return QueueLimits(limits ?? RunLimits())
    }

    /// Replaces them. Workers heed them within a second; what runs already is not stopped.
    package func limit(
        _ organization: OrganizationID, _ new: QueueLimits, level: Level
    ) async throws -> QueueLimits {
        try await require(organization, level)
        let limits = RunLimits(
            running: Dictionary(new.limits.map { ($0.lane, $0.running) }) { first, _ in first },
            rate: new.rate.map { RunLimits.Rate(perSecond: $0.perSecond, burst: $0.burst) })
        try await ledger.setRunLimits(limits, of: organization, scope: .organization(organization))
        return QueueLimits(limits)
    }

    /// Nobody weighs itself: only the levels above an organization do.
    func requireAbove(_ organization: OrganizationID, _ level: Level) async throws {
        try await require(organization, level)
        switch level {
        case .platform, .partner: return
        case .organization, .organizations, .site:
            throw EngineError(
                .forbidden,
                "an organization does not set its own weight, cap and quota: its partner or the platform does"
            )
        }
    }

    static let unseen = EngineError(.notFound, "there is no organization with this id")
}

extension ControlMode {
    fileprivate var past: String {
        switch self {
        case .pause: "paused"
        case .drain: "set to drain"
        }
    }
}

extension QueueControl {
    /// A row as it is shown.
    init(_ row: ControlRow) {
        self.init(
            id: row.id, mode: row.mode, scope: row.scope, byPlatform: row.isByPlatform, reason: row.reason,
            createdBy: row.createdBy, since: row.since)
    }
}

extension QueueLimits {
    /// Limits as they are shown: by scope and key.
    init(_ limits: RunLimits) {
        self.init(
            limits: limits.running.sorted { $0.key.name < $1.key.name }.map { lane, running in
                QueueLimit(scope: lane.scope, key: lane.key.isEmpty ? nil : lane.key, running: running)
            },
            rate: limits.rate.map { QueueRate(perSecond: $0.perSecond, burst: $0.burst) })
    }
}
