import Domain
import Ledger
import Postgres
import Trust

extension Rights {
    /// Whether a provider's row grants anything.
    func holds(_ provider: OIDCProviderRow, at time: Instant) -> Bool {
        seals.holds(provider.mac, provider.sealedParts) && !provider.terms.isDisabled
            && provider.expiresAt > time && !revocations.isVoid(provider.id.value, version: provider.version)
    }

    /// Whether a link's row grants anything.
    func holds(_ link: OIDCLinkRow, of provider: OIDCProviderRow, at time: Instant) -> Bool {
        seals.holds(link.mac, link.sealedParts) && link.provider == provider.id && link.home == provider.home
            && link.expiresAt > time && !revocations.isVoid(link.id.value, version: link.version)
    }

    /// Who a believed token of a provider is of.
    ///
    /// A person, if its subject is linked to one, or its verified address is one's and the provider is
    /// allowed to say so; then the person's own rights count, as far as they lie in the provider's home. Else
    /// whoever has the linked role in the linked organization. Somebody whose account here is disabled is
    /// nobody.
    /// - Throws: `TokenRefusal` if it stands for nothing.
    func principal(
        of claims: JWTClaims, by provider: OIDCProviderRow, at time: Instant
    ) async throws -> Principal {
        let names = try ExternalNames(claims, provider)
        guard let home = provider.home.level else { throw TokenRefusal.nothingLinked }
        let known = try await ledger.oidcLinks(
            of: provider.id, subject: names.subject, organization: names.organization, roles: names.roles)
        let links = known.filter { holds($0, of: provider, at: time) }
        try await renew(provider, links, at: time)
        let namesakes = try await accounts(of: names, in: home)
        guard namesakes.allSatisfy({ $0.state != .disabled && seals.holds($0.mac, $0.sealedParts) }) else {
            throw TokenRefusal.noPerson
        }
        if known.contains(where: { $0.target.kind == .subject }) {
            // A link that does not hold any more is not passed over: it said who this is.
            guard let link = links.first(where: { $0.target.kind == .subject }),
                case .user(let id) = link.target, let user = try await ledger.user(id, scope: .platform)
            else { throw TokenRefusal.noPerson }
            return try await person(user, claims, in: home, at: time)
        }
        if provider.terms.linksByEmail, names.isEmailVerified, let user = namesakes.first {
            guard namesakes.count == 1 else { throw TokenRefusal.noPerson }
            return try await person(user, claims, in: home, upTo: BuiltinRole.all(on: home), at: time)
        }
        return try await member(names, claims, links, of: provider, in: home, at: time)
    }

    /// Who has an account here with the token's address, at a home within the provider's: those who are
    /// disabled first.
    private func accounts(of names: ExternalNames, in home: Level) async throws -> [UserRow] {
        guard let email = names.email else { return [] }
        return try await ledger.users(email: email, scope: home.scope, limit: Self.accountsMax)
    }

    /// A person's rights as far as they lie in the provider's home, and are among those that are asked for.
    private func person(
        _ user: UserRow, _ claims: JWTClaims, in home: Level, upTo most: Set<Permission> = Permission.all,
        at time: Instant
    ) async throws -> Principal {
        guard let place = user.home.level, try await lies(place, in: home),
            let whole = try await reach(of: user, at: time)
        else { throw TokenRefusal.noPerson }
        var known: [Level: Level?] = [:]
        var reach: Reach = [:]
        for (permission, level) in whole where most.contains(permission) {
            if known[level] == nil { known[level] = .some(try await part(of: level, in: home)) }
            if let part = known[level] ?? nil { reach[permission] = part }
        }
        guard let reach = try await inUse(reach) else { throw TokenRefusal.noPerson }
        let id = PrincipalID(user.id.value)
        return Principal(
            kind: .user, id: id, maker: id, reach: reach, expiresAt: claims.expiresAt, lifetimeOfMade: nil)
    }

    /// Whoever has the linked role in the linked organization. They are no account here, so that no key can
    /// be made in their name.
    private func member(
        _ names: ExternalNames, _ claims: JWTClaims, _ links: [OIDCLinkRow], of provider: OIDCProviderRow,
        in home: Level, at time: Instant
    ) async throws -> Principal {
        let organizations = links.compactMap { link in
            if case .organization(let id) = link.target { id } else { nil }
        }
        guard names.organization != nil, let organization = organizations.first,
            try await lies(.organization(organization), in: home),
            try await ledger.isInUse(.organization(organization))
        else { throw TokenRefusal.nothingLinked }
        var permissions: Set<Permission> = []
        for role in links.compactMap({ if case .role(let role) = $0.target { role } else { nil } }) {
            permissions.formUnion(try await self.permissions(of: role, inMembersOf: organization, at: time))
        }
        permissions.remove(.apiKeysWrite)
        guard !permissions.isEmpty else { throw TokenRefusal.nothingLinked }
        let id = PrincipalID(Self.id(of: names.subject, by: provider.id))
        let level = Level.organization(organization)
        return Principal(
            kind: .user, id: id, maker: id,
            reach: Dictionary(uniqueKeysWithValues: permissions.map { ($0, level) }),
            expiresAt: claims.expiresAt, lifetimeOfMade: claims.expiresAt, mayMakeLasting: false)
    }

    private func permissions(
        of role: BindingRow.Role, inMembersOf organization: OrganizationID, at time: Instant
    ) async throws -> Set<Permission> {
        var made: [RoleID: RoleRow] = [:]
        if case .made(let id) = role { made[id] = try await ledger.roles([id]).first }
        return permissions(of: role, on: .organization(organization), made, at: time)
    }

    /// The id under which somebody without an account stands in the audit log: always the same of one subject
    /// of one provider, the first 16 bytes of SHA-256 over both as a UUID of version 8.
    static func id(of subject: String, by provider: OIDCProviderID) -> UniqueID {
        var bytes = Array(SHA256.hash(provider.bytes + Array(subject.utf8)).prefix(16))
        bytes[6] = bytes[6] & 0x0F | 0x80
        bytes[8] = bytes[8] & 0x3F | 0x80
        return UniqueID(bytes: bytes) ?? .zero
    }

    // MARK: Levels

    /// The part of a level that lies in another.
    private func part(of level: Level, in home: Level) async throws -> Level? {
        guard case .organizations(let several) = level else {
            return try await lies(level, in: home) ? level : nil
        }
        var within: Set<OrganizationID> = []
        for organization in several where try await lies(.organization(organization), in: home) {
            within.insert(organization)
        }
        return Level(organizations: within)
    }

    /// Whether a level lies in a home, by rows whose MACs hold; a wider one never does.
    func lies(_ level: Level, in home: Level) async throws -> Bool {
        switch (level, home) {
        case (_, .platform): return true
        case (.platform, _): return false
        case (.partner, _): return level == home
        default: return try await contains(level, in: home)
        }
    }

    /// Gives rows in use a new term once half of theirs is over.
    private func renew(_ provider: OIDCProviderRow, _ links: [OIDCLinkRow], at time: Instant) async throws {
        let (due, end) = (time + Self.lifetime / 2, time + Self.lifetime)
        if provider.expiresAt < due {
            var provider = provider
            provider.expiresAt = end
            provider.mac = seals.seal(provider.sealedParts)
            try await ledger.renew(provider)
        }
        for var link in links where link.expiresAt < due {
            link.expiresAt = end
            link.mac = seals.seal(link.sealedParts)
            try await ledger.renew(link)
        }
    }
}

extension BuiltinRole {
    /// All that somebody at home at a level is given there by a role that is built in.
    static func all(on home: Level) -> Set<Permission> {
        switch home {
        case .platform: platformAdmin.permissions
        case .partner: partnerAdmin.permissions
        case .organization, .organizations, .site: organizationAdmin.permissions
        }
    }
}
