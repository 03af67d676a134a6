package import Domain
import Ledger
import Postgres
import Synchronization
import Trust

/// What the guards of a part of the tenancy come to.
package struct JudgedGuard: Sendable, Hashable {
    /// The strictest of the thresholds there.
    package var rules: GuardRules
    /// Whether a row of them was altered or taken away outside the API. Then every permission takes a fresh
    /// second factor, and nothing may be submitted.
    package var isAltered: Bool
}

/// Judges how far one act may reach: by the thresholds of the partners that it touches, from rows whose MACs
/// hold.
///
/// A partner that never set its own has no row, and the built-in thresholds hold. Whether it has set some is
/// not for the database to say: each edit enters the partner and the row's version into the list of
/// revocations, and version 1 is what holds without a row. So a row that is taken away, or put back as it was
/// before, is void by that list. A row that has expired loosens nothing: the stricter of it and the built-in
/// thresholds hold. What was judged is believed for `cacheSeconds`.
package final class Guards: Sendable {
    /// What holds until a partner says otherwise. No second person, since a new installation has one person,
    /// whom that would lock out of their own fleet; the exact number above 50 devices, and a fresh second
    /// factor for what cannot be taken back.
    package static let builtIn = GuardRules(
        confirmAbove: 50, approveAbove: nil,
        stepUpPermissions: [Permission.tenantsDelete.rawValue, Permission.tenantsExport.rawValue],
        stepUpSeconds: 300)
    /// How long a judgement is believed; an edit made here holds at once.
    package static let cacheSeconds = Authenticator.cacheSeconds
    /// How many are remembered.
    package static let cachedMax = 10_000
    /// What holds where a row was altered.
    private static let altered = JudgedGuard(
        rules: GuardRules(
            confirmAbove: 0, approveAbove: 0, stepUpPermissions: Set(Permission.allCases.map(\.rawValue)),
            stepUpSeconds: builtIn.stepUpSeconds), isAltered: true)

    private struct Known {
        let value: JudgedGuard
        let from: Instant
    }

    let ledger: Ledger
    let seals: RowSeals
    let judge: EdgeJudge
    let revocations: Revocations
    let now: @Sendable () -> Instant
    private let known = Mutex<[Level: Known]>([:])

    /// Judges by the rows, MACs, revocations and clock of an authenticator.
    init(
        ledger: Ledger, seals: RowSeals, judge: EdgeJudge, revocations: Revocations,
        now: @escaping @Sendable () -> Instant
    ) {
        self.ledger = ledger
        self.seals = seals
        self.judge = judge
        self.revocations = revocations
        self.now = now
    }

    // MARK: What holds

    /// What holds on a level: of a partner's, and of what is below it, the partner's; of several partners, or
    /// of the platform, the strictest.
    package func rules(on level: Level) async throws -> JudgedGuard {
        let time = now()
        let fresh = known.withLock { known in
            known[level].flatMap {
                $0.from <= time && time < $0.from + .seconds(Self.cacheSeconds) ? $0 : nil
            }
        }
        if let fresh { return fresh.value }
        try await revocations.refresh(at: time)
        let value = try await judged(level, at: time)
        known.withLock { known in
            if known.count >= Self.cachedMax { known.removeAll(keepingCapacity: true) }
            known[level] = Known(value: value, from: time)
        }
        return value
    }

    private func judged(_ level: Level, at time: Instant) async throws -> JudgedGuard {
        let guards: [PartnerID: GuardRow?]
        if level == .platform {
            guards = try await ledger.guardsOfAll()
        } else {
            guard let partners = try await partners(of: level) else { return Self.altered }
            guards = try await ledger.guards(of: Array(partners))
            guard guards.count == partners.count else { return Self.altered }
        }
        var strictest = JudgedGuard(rules: Self.builtIn, isAltered: false)
        var isFirst = true
        for (partner, row) in guards {
            let one = try await judged(row, of: partner, at: time)
            strictest.rules = isFirst ? one.rules : strictest.rules.stricter(with: one.rules)
            strictest.isAltered = strictest.isAltered || one.isAltered
            isFirst = false
        }
        return strictest
    }

    /// The partners that a level belongs to, by edges whose MACs hold; `nil` if one does not.
    func partners(of level: Level) async throws -> Set<PartnerID>? {
        let chains: [[SealedEdge]]
        switch level {
        case .platform: return []
        case .partner(let id): return [id]
        case .organization(let id): chains = [try await ledger.edges(of: id, scope: .platform)]
        case .organizations(let ids):
            let found = try await ledger.edges(of: ids, scope: .platform)
            chains = ids.map { found[$0] ?? [] }
        case .site(let id): chains = [try await ledger.site(id, scope: .platform)?.edges ?? []]
        }
        var partners: Set<PartnerID> = []
        for chain in chains {
            do throws(EdgeRefusal) {
                try judge.require(chain, upTo: .platform, evenArchived: true)
            } catch {
                return nil
            }
            guard case .partner(let partner)? = chain.last?.edge else { return nil }
            partners.insert(partner)
        }
        return partners
    }

    private func judged(_ row: GuardRow?, of partner: PartnerID, at time: Instant) async throws -> JudgedGuard
    {
        guard let row else {
            return revocations.isVoid(partner.guardSubject, version: Self.versionWithoutRow)
                ? Self.altered : JudgedGuard(rules: Self.builtIn, isAltered: false)
        }
        guard holds(row) else { return Self.altered }
        guard row.expiresAt > time else {
            return JudgedGuard(rules: Self.afterEnd(row.rules), isAltered: false)
        }
        if row.expiresAt < time + Rights.lifetime / 2 {
            var renewed = row
            renewed.expiresAt = time + Rights.lifetime
            renewed.mac = seals.seal(renewed.sealedParts)
            try await ledger.renew(renewed)
        }
        return JudgedGuard(rules: row.rules, isAltered: false)
    }

    /// What is left of a row that has expired.
    static func afterEnd(_ rules: GuardRules) -> GuardRules { rules.stricter(with: builtIn) }

    /// The version of what holds without a row.
    static let versionWithoutRow = 1

    func holds(_ row: GuardRow) -> Bool {
        seals.holds(row.mac, row.sealedParts)
            && !revocations.isVoid(row.partner.guardSubject, version: row.version)
    }

    /// Forgets what was judged, so that an edit made here holds at once.
    func forget() { known.withLock { $0.removeAll(keepingCapacity: true) } }

    // MARK: Step-up

    /// Refuses a person who uses a permission that takes a fresh second factor where they have it, and has
    /// not shown one.
    package func requireFresh(for permission: Permission, by principal: Principal) async throws {
        guard principal.kind == .user, let level = principal.reach[permission] else { return }
        try await requireFresh([permission], on: level, by: principal)
    }

    /// As above, of permissions that somebody gives to a key, a role or a person on a level: else what takes
    /// a second factor could be had without one through what was made.
    func requireFresh(
        toGive permissions: Set<Permission>, on level: Level, by principal: Principal
    ) async throws {
        guard principal.kind == .user else { return }
        try await requireFresh(permissions, on: level, by: principal, besides: [.guardsWrite])
    }

    private func requireFresh(
        _ permissions: Set<Permission>, on level: Level, by principal: Principal,
        besides always: Set<Permission> = []
    ) async throws {
        let rules = try await rules(on: level).rules
        let guarded = permissions.filter {
            always.contains($0) || rules.stepUpPermissions.contains($0.rawValue)
        }
        guard !guarded.isEmpty else { return }
        let words = guarded.map(\.rawValue).sorted().joined(separator: ", ")
        try principal.requireFresh(within: rules.stepUpSeconds, at: now(), for: words)
    }
}

extension PartnerID {
    /// Names a partner's thresholds in the list of revocations, where the partner's own row has its id.
    var guardSubject: UniqueID { UniqueID(high: value.high, low: value.low ^ 0x0000_0000_0000_0002) }
}
