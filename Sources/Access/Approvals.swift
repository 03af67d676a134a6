package import Domain
package import Ledger
import Postgres

/// Submissions that wait for a second person: kept as they were sent, under a MAC, and taken by one other
/// person.
///
/// The second person is an act recorded here: somebody who has signed in, has shown a fresh second factor,
/// may approve all that is reached, and neither asked nor made the key that did. Whoever asked is judged
/// again at that moment, and only then anything is signed. What was decided goes into the list of
/// revocations, so a row whose state is put back is decided no second time.
package struct Approvals: Sendable {
    /// How long a submission waits.
    package static let lifetime = Duration.seconds(86_400)

    private let authenticator: Authenticator
    private var ledger: Ledger { authenticator.ledger }
    private var seals: RowSeals { authenticator.seals }

    /// Approvals by the authenticator's rows and clock.
    package init(_ authenticator: Authenticator) { self.authenticator = authenticator }

    // MARK: Asking

    /// Keeps a submission that reaches some organizations, or one site, until somebody decides. Who asks
    /// again under the same idempotency key gets what was kept first.
    package func ask(
        _ kind: ApprovalKind, body: [UInt8], about subject: JobID?, idempotencyKey: String?, devices: Int,
        organizations: Set<OrganizationID>, site: SiteID?, by asker: Principal
    ) async throws -> ApprovalRow {
        if let kept = try await kept(for: asker, idempotencyKey) { return kept }
        let place = try await place(of: organizations, site: site)
        let makers = try await makers(of: asker)
        let time = authenticator.now()
        var row = ApprovalRow(
            id: .new(at: time), place: LevelColumns(place), kind: kind, body: body, subject: subject,
            idempotencyKey: idempotencyKey, devices: devices, askedBy: asker.id, isByKey: asker.kind == .key,
            makers: makers, createdAt: time, expiresAt: time + Self.lifetime)
        row.mac = seals.seal(row.sealedParts)
        // The row belongs to the level of what was judged to lie within the asker's reach.
        return try await keep(row, place, asker)
    }

    private func keep(_ row: ApprovalRow, _ place: Level, _ asker: Principal) async throws -> ApprovalRow {
        let isKept = try await ledger.insert(row, scope: place.scope)
        if isKept { return row }
        guard let kept = try await kept(for: asker, row.idempotencyKey) else {
            throw AccessError.changedMeanwhile
        }
        return kept
    }

    /// What was kept under an idempotency key before.
    private func kept(for asker: Principal, _ key: String?) async throws -> ApprovalRow? {
        guard let key, let row = try await ledger.approval(askedBy: asker.id, key: key) else { return nil }
        try requireSeal(row)
        return row
    }

    /// The lowest level that holds all of it.
    private func place(of organizations: Set<OrganizationID>, site: SiteID?) async throws -> Level {
        if let site { return .site(site) }
        guard let level = Level(organizations: organizations) else { return .platform }
        guard case .organizations = level else { return level }
        guard let partners = try await authenticator.guards.partners(of: level), partners.count == 1,
            let partner = partners.first
        else { return .platform }
        return .partner(partner)
    }

    /// Who made a key, and who made its maker, up to the first.
    private func makers(of asker: Principal) async throws -> [PrincipalID] {
        guard asker.kind == .key else { return [] }
        var makers: [PrincipalID] = []
        var next = asker.id
        while makers.count <= Rights.makersMax,
            let maker = try await ledger.apiKey(APIKeyID(next.value), scope: .platform)?.createdBy
        {
            makers.append(maker)
            next = maker
        }
        return makers
    }

    // MARK: Looking

    /// One submission that waits or waited: of the caller's reach, or asked by the caller.
    package func shown(_ id: ApprovalID, to caller: Principal) async throws -> ApprovalRow {
        let level = try caller.require(.jobsRead)
        if let row = try await ledger.approval(id, scope: level.scope) { return row }
        guard let row = try await ledger.approval(id, scope: .platform), row.askedBy == caller.id else {
            throw AccessError.nothingHere
        }
        return row
    }

    // MARK: Deciding

    /// Takes one that waits for approval by the caller, and returns it with who asked, judged as of now: what
    /// they may not do any more is not done for them.
    package func approve(
        _ id: ApprovalID, by caller: Principal
    ) async throws -> (row: ApprovalRow, asker: Principal, level: Level) {
        let time = authenticator.now()
        _ = try caller.user
        let (row, place) = try await open(id, by: caller)
        guard row.askedBy != caller.id, !row.makers.contains(caller.id) else {
            throw AccessError(.forbidden, "it takes another person than the one who asked, or whose key did")
        }
        guard row.expiresAt > time else {
            throw AccessError(
                .conflict, "nobody approved this until \(row.expiresAt): it has to be asked anew")
        }
        let rules = try await authenticator.guards.rules(on: place).rules
        try caller.requireFresh(within: rules.stepUpSeconds, at: time, for: "approving")
        guard let asker = try await authenticator.principal(row.isByKey ? .key : .user, row.askedBy),
            let level = asker.reach[.jobsRun]
        else {
            throw AccessError(
                .forbidden, "whoever asked may not do this any more, so nobody does it in their name")
        }
        try await decide(row, .approved, by: caller, at: time)
        return (row, asker, level)
    }

    /// Rejects one that waits. Whoever may approve may, also who asked, and a key: it only takes away.
    package func reject(_ id: ApprovalID, by caller: Principal) async throws -> ApprovalRow {
        let (row, _) = try await open(id, by: caller)
        try await decide(row, .rejected, by: caller, at: authenticator.now())
        return try await shown(after: row)
    }

    /// Says what came of one that was approved: its first job, or the code of the refusal.
    package func note(_ row: ApprovalRow, job: JobID?, refusal: String?) async throws -> ApprovalRow {
        try await ledger.note(
            row.id, refusal == nil ? .approved : .refused, job: job, refusal: refusal, scope: .platform)
        return try await shown(after: row)
    }

    private func shown(after row: ApprovalRow) async throws -> ApprovalRow {
        try await ledger.approval(row.id, scope: .platform) ?? row
    }

    /// One that nobody has decided, all of which lies within the caller's reach by `jobs:approve`.
    private func open(_ id: ApprovalID, by caller: Principal) async throws -> (ApprovalRow, Level) {
        let level = try caller.require(.jobsApprove)
        guard let row = try await ledger.approval(id, scope: level.scope), let place = row.place.level else {
            throw AccessError.nothingHere
        }
        do {
            try await authenticator.check(place, within: level)
        } catch let error as AccessError where error.code != .alteredRow {
            throw AccessError.nothingHere
        }
        try requireSeal(row)
        try await authenticator.revocations.refresh(at: authenticator.now())
        guard row.state == .awaitingApproval, !authenticator.revocations.isVoid(id.value) else {
            throw AccessError(.conflict, "somebody has decided on this already")
        }
        return (row, place)
    }

    private func decide(
        _ row: ApprovalRow, _ state: ApprovalState, by caller: Principal, at time: Instant
    ) async throws {
        guard try await ledger.decide(row.id, state, by: caller.id, at: time, scope: .platform) else {
            throw AccessError(.conflict, "somebody has decided on this already")
        }
        try await authenticator.revocations.revoke(row.id.value, at: time)
    }

    private func requireSeal(_ row: ApprovalRow) throws(AccessError) {
        guard seals.holds(row.mac, row.sealedParts) else {
            throw AccessError(
                .alteredRow, "what waits here was altered outside the API, so nobody approves it")
        }
    }
}
