import Domain
import Ledger
import Postgres
import Trust

/// What may be made of providers and links, and by whom.
extension OIDCMaker {
    /// A provider that the level sees, whose row grants something or is only disabled.
    func ownProvider(_ id: OIDCProviderID, _ level: Level) async throws -> OIDCProviderRow {
        guard let provider = try await ledger.oidcProvider(id, scope: level.scope),
            let home = provider.home.level
        else { throw AccessError.nothingHere }
        try await authenticator.check(home, within: level)
        try roles.requireSeal(
            seals.holds(provider.mac, provider.sealedParts)
                && !authenticator.revocations.isVoid(provider.id.value, version: provider.version),
            "provider")
        return provider
    }

    /// Seals the secret of the client; an empty one takes it away, none leaves it.
    func set(_ clientSecret: String?, of provider: inout OIDCProviderRow) throws {
        guard let clientSecret else { return }
        provider.terms.sealed =
            clientSecret.isEmpty
            ? nil : try sealing.seal(SecretBytes(Array(clientSecret.utf8)), for: provider.secretLabel).bytes
    }

    private func checkSignIn(_ provider: OIDCProviderRow) throws(AccessError) {
        let terms = provider.terms
        guard terms.clientID != nil || (terms.sealed == nil && terms.redirectURLs.isEmpty) else {
            throw AccessError(
                .invalid, field: "clientId", "is missing: redirectUrls and clientSecret are of a client")
        }
        guard terms.clientID == nil || provider.keySource == .discovery else {
            throw AccessError(
                .invalid, field: "clientId",
                "is for a provider whose keySource is discovery: it says where "
                    + "people sign in")
        }
        for (index, url) in terms.redirectURLs.enumerated() where !Self.isRedirect(url) {
            throw AccessError(
                .invalid, field: "redirectUrls[\(index)]",
                "must be https://, or http:// of 127.0.0.1, [::1] or localhost, without fragment and user"
            )
        }
    }

    /// Whether people may be sent back to an address: it carries the code.
    private static func isRedirect(_ url: String) -> Bool {
        guard url.utf8.allSatisfy({ (0x21...0x7E).contains($0) }),
            !url.contains(where: { "#@\\".contains($0) })
        else { return false }
        let loopback = ["127.0.0.1", "[::1]", "localhost"].contains { host in
            ["/", ":"].contains { url.hasPrefix("http://\(host)\($0)") }
        }
        return loopback || url.hasPrefix("https://")
    }

    func check(_ provider: OIDCProviderRow) throws(AccessError) {
        try checkSignIn(provider)
        let paths = [
            ("organizationClaim", provider.terms.organizationClaim), ("roleClaim", provider.terms.roleClaim),
            ("emailClaim", provider.terms.emailClaim),
        ]
        for (field, path) in paths {
            do { _ = try ClaimPath(path) } catch {
                throw AccessError(.invalid, field: field, error.message)
            }
        }
        guard !provider.terms.linksByEmail || provider.terms.emailClaim == "email" else {
            throw AccessError(
                .invalid, field: "emailClaim",
                "must be email where people are known by address: email_verified speaks of that claim alone")
        }
        do { _ = try provider.rules() } catch {
            throw AccessError(.invalid, field: "audiences", error.message)
        }
    }

    /// Who lets an issuer say by address who somebody is could be anybody at home there.
    func requireToBelieve(_ provider: OIDCProviderRow, by caller: Principal) async throws {
        guard provider.terms.linksByEmail, let home = provider.home.level else { return }
        try await roles.requireToGive(BuiltinRole.all(on: home), on: home, by: caller)
    }

    /// Who lets a provider believe other tokens could be anybody that it has links to.
    func requireAllLinked(by provider: OIDCProviderRow, by caller: Principal) async throws {
        let links = try await ledger.oidcLinks(of: provider.id, limit: Self.linksMax)
        for link in links {
            switch link.target {
            case .user(let id):
                guard let user = try await ledger.user(id, scope: .platform) else { continue }
                try await roles.requireAll(of: user, by: caller)
            case .role(let role):
                guard let home = provider.home.level else { continue }
                try await roles.requireToGive(permissions(of: role), on: home, by: caller)
            case .organization: continue
            }
        }
    }

    func requireToLink(
        _ target: OIDCLinkRow.Target, of provider: OIDCProviderRow, beside links: [OIDCLinkRow],
        by maker: Principal
    ) async throws {
        guard let home = provider.home.level else { throw AccessError.nothingHere }
        switch target {
        case .user(let id):
            guard let user = try await ledger.user(id, scope: maker.require(.usersRead).scope),
                let place = user.home.level, try await rights.lies(place, in: home)
            else {
                throw AccessError(
                    .notFound, field: "userId", "names nobody that you may see, at home where the provider is"
                )
            }
            try roles.requireSeal(roles.holds(user), "person")
            try await roles.requireAll(of: user, by: maker)
        case .organization(let id):
            try await authenticator.checkReach(of: [.oidcWrite], on: .organization(id), for: maker)
            guard try await rights.lies(.organization(id), in: home) else {
                throw AccessError(
                    .notFound, field: "organizationId", "names none where the provider is at home")
            }
            var permissions: Set<Permission> = []
            for case .role(let role) in links.map(\.target) {
                permissions.formUnion(try await self.permissions(of: role))
            }
            try await roles.requireToGive(permissions, on: .organization(id), by: maker)
        case .role(let role): try await requireToLink(role, in: home, by: maker)
        }
    }

    /// A role is given to members of organizations, so that it must be one of that level.
    func requireToLink(_ role: BindingRow.Role, in home: Level, by maker: Principal) async throws {
        let permissions: Set<Permission>
        switch role {
        case .builtin(let name):
            guard let builtin = BuiltinRole(rawValue: name),
                builtin.fits(.organization(OrganizationID(.zero)))
            else {
                let names = BuiltinRole.allCases.filter { $0.fits(.organization(OrganizationID(.zero))) }
                throw AccessError(
                    .invalid, field: "role",
                    "is no role that is built in for an organization; those are: "
                        + names.map(\.rawValue).joined(separator: ", "))
            }
            permissions = builtin.permissions
        case .made(let id): permissions = try await roles.permissions(ofMade: id, on: home, for: maker)
        }
        try await roles.requireToGive(permissions, on: home, by: maker)
    }

    func permissions(of role: BindingRow.Role) async throws -> Set<Permission> {
        switch role {
        case .builtin(let name): return BuiltinRole(rawValue: name)?.permissions ?? []
        case .made(let id):
            guard let row = try await ledger.roles([id]).first else { return [] }
            try roles.requireSeal(seals.holds(row.mac, row.sealedParts), "role")
            return Set(row.permissions.compactMap(Permission.init))
        }
    }
}

extension OIDCProviderRow {
    /// What the client's secret is sealed for. The row's MAC covers what is sealed together with the row's
    /// version, so that no value of before is brought back.
    var secretLabel: SecretLabel {
        SecretLabel(
            kind: .oidc, partner: home.partner, organization: home.organization, name: id.description,
            version: 1)
    }
}
