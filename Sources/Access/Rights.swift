import Domain
import Ledger
import Postgres
import Trust

/// Works out what keys and people may do, from rows whose MACs hold.
///
/// A key has what its row says as far as whoever made it has that by now; a person has what the bindings say.
/// So a key dies with its maker, and shrinks as its maker does.
struct Rights: Sendable {
    /// How many makers there may be above a key.
    static let makersMax = 8
    /// How many bindings of a person count; more are refused when they are made.
    static let bindingsMax = 500
    /// How many accounts of one address are looked at.
    static let accountsMax = 8
    /// How long a row of a person, a role or a binding grants something, unless it is renewed.
    static let lifetime = Duration.seconds(90 * 86_400)

    let ledger: Ledger
    let seals: RowSeals
    let judge: EdgeJudge
    let revocations: Revocations

    /// What may be done, and where.
    typealias Reach = [Permission: Level]

    // MARK: Keys

    /// The principal of a key's row; `nil` if the row grants nothing.
    func principal(of row: APIKeyRow, at time: Instant) async throws -> Principal? {
        guard let held = try await reach(of: row, at: time, makers: 0),
            let reach = try await inUse(held)
        else { return nil }
        let maker = row.actsForMaker ? row.createdBy : nil
        return Principal(
            kind: .key, id: PrincipalID(row.id.value), maker: maker ?? PrincipalID(row.id.value),
            reach: reach, expiresAt: row.expiresAt, lifetimeOfMade: maker == nil ? row.expiresAt : nil,
            mayMakeLasting: row.actsForMaker || row.createdBy == nil)
    }

    private func reach(of row: APIKeyRow, at time: Instant, makers: Int) async throws -> Reach? {
        guard seals.holds(row.mac, row.sealedParts), row.revokedAt == nil, row.expiresAt > time,
            !revocations.isVoid(row.id.value, version: row.version), let level = row.place.level
        else { return nil }
        // A word of a later release is no permission here.
        let permissions = Set(row.permissions.compactMap(Permission.init))
        let own = Dictionary(uniqueKeysWithValues: permissions.map { ($0, level) })
        guard let maker = row.createdBy else { return own }
        guard makers < Self.makersMax,
            let above = try await reach(of: maker, at: time, makers: makers + 1)
        else { return nil }
        return try await narrowed(own, to: level, within: above)
    }

    /// The rights of who made a key; `nil` if there are none any more.
    private func reach(of maker: PrincipalID, at time: Instant, makers: Int) async throws -> Reach? {
        if let row = try await ledger.apiKey(APIKeyID(maker.value), scope: .platform) {
            return try await reach(of: row, at: time, makers: makers)
        }
        guard let user = try await ledger.user(UserID(maker.value), scope: .platform) else { return nil }
        return try await reach(of: user, at: time)
    }

    /// What of a key's rights, all on one level, its maker has there.
    private func narrowed(_ own: Reach, to level: Level, within above: Reach) async throws -> Reach {
        var contained: [Level: Bool] = [:]
        var reach: Reach = [:]
        for (permission, level) in own {
            guard let outer = above[permission] else { continue }
            if contained[outer] == nil { contained[outer] = try await contains(level, in: outer) }
            if contained[outer] == true { reach[permission] = level }
        }
        return reach
    }

    /// Whether a level is another or below it, by rows whose MACs hold.
    func contains(_ level: Level, in outer: Level) async throws -> Bool {
        if outer == .platform || outer.includes(level) { return true }
        if case .organizations(let several) = level {
            for one in several where try await !contains(.organization(one), in: outer) { return false }
            return true
        }
        let edges = try await edges(of: level)
        do throws(EdgeRefusal) {
            try judge.require(edges, upTo: outer)
            return true
        } catch {
            return false
        }
    }

    /// The edges from a level upwards; none of the platform, or where there is nothing.
    private func edges(of level: Level) async throws -> [SealedEdge] {
        switch level {
        case .platform, .organizations: []
        case .partner(let id): try await ledger.edges(of: id, scope: .platform)
        case .organization(let id): try await ledger.edges(of: id, scope: .platform)
        case .site(let id): try await ledger.site(id, scope: .platform)?.edges ?? []
        }
    }

    /// What is left of rights without levels that are archived, or have one above them that is.
    func inUse(_ reach: Reach) async throws -> Reach? {
        var left: [Level: Level?] = [:]
        for level in Set(reach.values) {
            if case .organizations(let several) = level {
                left[level] = Level(organizations: try await ledger.organizationsInUse(several))
            } else {
                left[level] = try await ledger.isInUse(level) ? level : nil
            }
        }
        let rest = reach.compactMapValues { left[$0] ?? nil }
        return reach.isEmpty || !rest.isEmpty ? rest : nil
    }

    // MARK: People

    /// The rights of a person; `nil` if the row grants nothing.
    func reach(of user: UserRow, at time: Instant) async throws -> Reach? {
        guard seals.holds(user.mac, user.sealedParts), user.state == .active, user.expiresAt > time,
            !revocations.isVoid(user.id.value, version: user.version)
        else { return nil }
        let bindings = try await bindings(of: user.id, at: time)
        let made = try await madeRoles(of: bindings)
        try await renew(user, bindings, made, at: time)
        return reach(of: bindings, made, at: time)
    }

    /// What a person's bindings give, whoever may sign in; nothing is renewed by looking.
    func reach(ofBindings user: UserID, at time: Instant) async throws -> Reach {
        let bindings = try await bindings(of: user, at: time)
        return reach(of: bindings, try await madeRoles(of: bindings), at: time)
    }

    private func bindings(of user: UserID, at time: Instant) async throws -> [BindingRow] {
        try await ledger.bindings(of: user, limit: Self.bindingsMax).filter { binding in
            seals.holds(binding.mac, binding.sealedParts) && binding.expiresAt > time
                && !revocations.isVoid(binding.id.value)
        }
    }

    /// The roles that bindings name and that hold.
    private func madeRoles(of bindings: [BindingRow]) async throws -> [RoleRow] {
        try await ledger.roles(
            bindings.compactMap { if case .made(let id) = $0.role { id } else { nil } }
        ).filter {
            seals.holds($0.mac, $0.sealedParts) && !revocations.isVoid($0.id.value, version: $0.version)
        }
    }

    private func reach(of bindings: [BindingRow], _ made: [RoleRow], at time: Instant) -> Reach {
        let roles = Dictionary(made.map { ($0.id, $0) }) { first, _ in first }
        var levels: [Permission: [Level]] = [:]
        for binding in bindings {
            guard let level = binding.place.level else { continue }
            for permission in permissions(of: binding.role, on: level, roles, at: time) {
                levels[permission, default: []].append(level)
            }
        }
        return levels.compactMapValues(Self.widest)
    }

    /// Gives rows in use a new term once half of theirs is over.
    private func renew(
        _ user: UserRow, _ bindings: [BindingRow], _ roles: [RoleRow], at time: Instant
    ) async throws {
        let (due, end) = (time + Self.lifetime / 2, time + Self.lifetime)
        if user.expiresAt < due {
            var user = user
            user.expiresAt = end
            user.mac = seals.seal(user.sealedParts)
            try await ledger.renew(user)
        }
        for var binding in bindings where binding.expiresAt < due {
            binding.expiresAt = end
            binding.mac = seals.seal(binding.sealedParts)
            try await ledger.renew(binding)
        }
        for var role in roles where role.expiresAt < due && role.expiresAt > time {
            role.expiresAt = end
            role.mac = seals.seal(role.sealedParts)
            try await ledger.renew(role)
        }
    }

    func permissions(
        of role: BindingRow.Role, on level: Level, _ made: [RoleID: RoleRow], at time: Instant
    ) -> Set<Permission> {
        switch role {
        case .builtin(let name):
            guard let role = BuiltinRole(rawValue: name), role.fits(level) else { return [] }
            return role.permissions
        case .made(let id):
            guard let role = made[id], role.expiresAt > time else { return [] }
            return Set(role.permissions.compactMap(Permission.init))
        }
    }

    /// What several bindings come to: the platform if it is among them, else a partner, else all
    /// organizations, else a site. Bindings of other kinds, or of a second partner or site, are refused when
    /// they are made; where there are some all the same, they give nothing.
    static func widest(_ levels: [Level]) -> Level? {
        if levels.contains(.platform) { return .platform }
        if let partner = levels.first(where: { if case .partner = $0 { true } else { false } }) {
            return partner
        }
        let organizations = levels.compactMap { if case .organization(let id) = $0 { id } else { nil } }
        return Level(organizations: Set(organizations)) ?? levels.first
    }
}
