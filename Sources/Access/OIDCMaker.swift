package import Domain
package import Ledger
import Postgres
import Trust

/// Makes and edits issuers whose tokens are believed, and what their names stand for, each a row under a MAC.
/// Nobody links to more than they have.
package struct OIDCMaker: Sendable {
    /// How many providers a home may have, and how many links a provider.
    package static let providersMax = 20
    package static let linksMax = 1_000

    let authenticator: Authenticator
    let roles: RoleMaker
    let sealing: SealingKeys
    var ledger: Ledger { authenticator.ledger }
    var seals: RowSeals { authenticator.seals }
    var rights: Rights { authenticator.rights }

    /// A maker on the rows, clock and sealing keys by which people sign in.
    package init(_ signIn: SignIn) {
        authenticator = signIn.authenticator
        sealing = signIn.sealing
        roles = RoleMaker(authenticator)
    }

    // MARK: Providers

    /// Makes a provider at home at a level within the maker's reach.
    package func createProvider(
        home: Level, issuer: String, preset: OIDCPreset, keySource: OIDCKeySource,
        terms: OIDCProviderRow.Terms, clientSecret: String? = nil, by maker: Principal
    ) async throws -> OIDCProviderRow {
        try await authenticator.checkReach(of: [.oidcWrite], on: home, for: maker)
        try maker.requireLasting()
        if case .site = home {
            throw AccessError(
                .invalid, field: "siteId",
                "a provider is at home at the platform, a partner or an organization")
        }
        guard authenticator.issuers?.isIssuer(issuer) == true else {
            throw AccessError(
                .invalid, field: "issuer", "must be https://, without query, fragment and user")
        }
        if keySource == .clerkAPI {
            guard home == .platform, preset == .clerk else {
                throw AccessError(
                    .invalid, field: "keySource",
                    "clerkAPI asks with the operator's secret: for the platform's providers like clerk"
                )
            }
        }
        let time = authenticator.now()
        var provider = OIDCProviderRow(
            id: .new(at: time), home: LevelColumns(home), issuer: issuer, preset: preset,
            keySource: keySource,
            terms: terms, expiresAt: time + Rights.lifetime, createdBy: maker.maker, createdAt: time)
        try set(clientSecret, of: &provider)
        try check(provider)
        try await requireToBelieve(provider, by: maker)
        let others = try await ledger.oidcProviders(PageRequest(after: nil, limit: 500), scope: home.scope)
        guard others.count(where: { $0.home == provider.home }) < Self.providersMax else {
            throw AccessError(.conflict, "there are \(Self.providersMax) providers here, which is the limit")
        }
        provider.mac = seals.seal(provider.sealedParts)
        guard try await ledger.insert(provider, scope: home.scope) else {
            throw AccessError(.conflict, field: "name", "there is a provider of this name already")
        }
        authenticator.forget()
        return provider
    }

    /// Edits a provider. Who lets it believe other tokens has all that its links give; a name, and that its
    /// tokens open nothing, may be said by anybody who may edit it.
    package func editProvider(
        _ id: OIDCProviderID, clientSecret: String? = nil, version: Int?, by caller: Principal,
        _ edit: (inout OIDCProviderRow.Terms) -> Void
    ) async throws -> OIDCProviderRow {
        let time = authenticator.now()
        let level = try caller.require(.oidcWrite)
        var provider = try await ownProvider(id, level)
        if let version, version != provider.version { throw AccessError.changedMeanwhile }
        let before = provider
        edit(&provider.terms)
        try set(clientSecret, of: &provider)
        try check(provider)
        var harmless = before.terms
        harmless.name = provider.terms.name
        harmless.isDisabled = before.terms.isDisabled || provider.terms.isDisabled
        if provider.terms != harmless {
            try caller.requireLasting()
            try await requireToBelieve(before, by: caller)
            try await requireToBelieve(provider, by: caller)
            try await requireAllLinked(by: provider, by: caller)
        }
        provider.version += 1
        provider.expiresAt = time + Rights.lifetime
        provider.mac = seals.seal(provider.sealedParts)
        try await authenticator.revocations.revoke(
            id.value, below: provider.version, at: time)
        guard try await ledger.update(provider, scope: level.scope) else {
            throw AccessError.changedMeanwhile
        }
        authenticator.forget()
        provider.linksMade += 1
        return provider
    }

    /// Takes a provider away that has no links.
    package func deleteProvider(_ id: OIDCProviderID, version: Int?, by caller: Principal) async throws {
        let level = try caller.require(.oidcWrite)
        guard let provider = try await ledger.oidcProvider(id, scope: level.scope) else {
            throw AccessError.nothingHere
        }
        if let version, version != provider.version { throw AccessError.changedMeanwhile }
        guard try await ledger.deleteOIDCProvider(id, version: version, scope: level.scope) else {
            throw AccessError.changedMeanwhile
        }
        try await authenticator.revocations.revoke(
            id.value, at: authenticator.now())
        authenticator.forget()
    }

    // MARK: Links

    /// Says what a name of a provider stands for: something that the maker has.
    package func createLink(
        of id: OIDCProviderID, external: String, target: OIDCLinkRow.Target, by maker: Principal
    ) async throws -> OIDCLinkRow {
        let time = authenticator.now()
        let level = try maker.require(.oidcWrite)
        try maker.requireLasting()
        let provider: OIDCProviderRow
        do {
            provider = try await ownProvider(id, level)
        } catch let error as AccessError where error.code == .notFound {
            throw AccessError(.notFound, field: "providerId", "names no provider that you may see")
        }
        let links = try await ledger.oidcLinks(of: id, limit: Self.linksMax)
        guard links.count < Self.linksMax else {
            throw AccessError(.conflict, "the provider has \(Self.linksMax) links, which is the limit")
        }
        try await requireToLink(target, of: provider, beside: links, by: maker)
        var link = OIDCLinkRow(
            id: .new(at: time), provider: id, home: provider.home, external: external, target: target,
            expiresAt: time + Rights.lifetime, createdBy: maker.maker, createdAt: time)
        link.mac = seals.seal(link.sealedParts)
        switch try await ledger.insert(link, after: provider, scope: level.scope) {
        case true?: break
        case false?: throw AccessError.changedMeanwhile
        case nil:
            throw AccessError(.conflict, field: "external", "stands for something already")
        }
        authenticator.forget()
        return link
    }

    /// Lets a name stand for something else of the same kind.
    package func editLink(
        _ id: OIDCLinkID, target: OIDCLinkRow.Target, version: Int?, by caller: Principal
    ) async throws -> OIDCLinkRow {
        let time = authenticator.now()
        let level = try caller.require(.oidcWrite)
        try caller.requireLasting()
        guard var link = try await ledger.oidcLink(id, scope: level.scope) else {
            throw AccessError.nothingHere
        }
        if let version, version != link.version { throw AccessError.changedMeanwhile }
        try roles.requireSeal(
            seals.holds(link.mac, link.sealedParts)
                && !authenticator.revocations.isVoid(link.id.value, version: link.version), "link")
        guard target.kind == link.target.kind else {
            throw AccessError(.invalid, "this link is of a \(link.target.kind.rawValue), and stays one")
        }
        let provider = try await ownProvider(link.provider, level)
        let others = try await ledger.oidcLinks(of: provider.id, limit: Self.linksMax).filter { $0.id != id }
        try await requireToLink(target, of: provider, beside: others, by: caller)
        link.target = target
        link.version += 1
        link.expiresAt = time + Rights.lifetime
        link.mac = seals.seal(link.sealedParts)
        try await authenticator.revocations.revoke(id.value, below: link.version, at: time)
        guard try await ledger.update(link, after: provider, scope: level.scope) else {
            throw AccessError.changedMeanwhile
        }
        authenticator.forget()
        return link
    }

    /// Takes away what a name stands for.
    package func deleteLink(_ id: OIDCLinkID, version: Int?, by caller: Principal) async throws {
        let level = try caller.require(.oidcWrite)
        guard let link = try await ledger.oidcLink(id, scope: level.scope) else {
            throw AccessError.nothingHere
        }
        if let version, version != link.version { throw AccessError.changedMeanwhile }
        try await authenticator.revocations.revoke(id.value, at: authenticator.now())
        guard try await ledger.deleteOIDCLink(id, version: version, scope: level.scope) else {
            throw AccessError.changedMeanwhile
        }
        authenticator.forget()
    }
}
