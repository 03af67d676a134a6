import Access
import Domain
import HTTPTypes
import Ledger
import Wire

extension Handlers {
    var oidcRoutes: [Route] { oidcProviderRoutes + oidcLinkRoutes + oidcSignInRoutes }

    private var oidc: OIDCMaker { OIDCMaker(signIn) }

    private var oidcProviderRoutes: [Route] {
        [
            .post("/v1/oidc-providers", "Lets an issuer's tokens be believed", .permitted(.oidcWrite)) {
                (call: Call, new: NewOIDCProvider) in
                OIDCProvider(
                    try await oidc.createProvider(
                        home: new.home.level, issuer: new.issuer, preset: new.preset,
                        keySource: new.keySource, terms: new.terms.row(of: new.preset),
                        clientSecret: new.terms.clientSecret, by: call.principal))
            }.refusing(.conflict),
            .get("/v1/oidc-providers", "Lists the issuers that are believed", .permitted(.oidcRead)) {
                (call: Call, query: PageQuery) in
                query.page(
                    try await ledger.oidcProviders(query.request, scope: call.scope), id: \.id.value,
                    OIDCProvider.init)
            },
            .get("/v1/oidc-providers/{id}", "Shows an issuer that is believed", .permitted(.oidcRead)) {
                call in
                OIDCProvider(try found(await ledger.oidcProvider(call.id(), scope: call.scope)))
            },
            .patch(
                "/v1/oidc-providers/{id}", "Edits which tokens of an issuer are believed",
                .permitted(.oidcWrite)
            ) { (call: Call, changes: OIDCTerms) in
                OIDCProvider(
                    try await oidc.editProvider(
                        call.id(), clientSecret: changes.clientSecret, version: call.version,
                        by: call.principal
                    ) {
                        changes.apply(to: &$0)
                    })
            }.refusing(.conflict),
            .delete(
                "/v1/oidc-providers/{id}", "Believes an issuer no more, which has no links",
                .permitted(.oidcWrite)
            ) {
                call in
                try await oidc.deleteProvider(call.id(), version: call.version, by: call.principal)
            }.refusing(.conflict),
        ]
    }

    private var oidcLinkRoutes: [Route] {
        [
            .post("/v1/oidc-links", "Says what a name of an issuer stands for", .permitted(.oidcWrite)) {
                (call: Call, new: NewOIDCLink) in
                OIDCLink(
                    try await oidc.createLink(
                        of: new.providerId, external: new.external, target: new.target.row,
                        by: call.principal))
            }.refusing(.conflict),
            .get("/v1/oidc-links", "Lists what names of issuers stand for", .permitted(.oidcRead)) {
                (call: Call, query: OIDCLinkQuery) in
                query.page.page(
                    try await ledger.oidcLinks(
                        of: query.providerId, query.page.request, scope: call.scope), id: \.id.value,
                    OIDCLink.init)
            },
            .get("/v1/oidc-links/{id}", "Shows what a name of an issuer stands for", .permitted(.oidcRead)) {
                call in
                OIDCLink(try found(await ledger.oidcLink(call.id(), scope: call.scope)))
            },
            .patch(
                "/v1/oidc-links/{id}", "Lets a name stand for something else of its kind",
                .permitted(.oidcWrite)
            ) { (call: Call, target: OIDCLinkTarget) in
                OIDCLink(
                    try await oidc.editLink(
                        call.id(), target: target.row, version: call.version, by: call.principal))
            }.refusing(.conflict),
            .delete("/v1/oidc-links/{id}", "Takes away what a name stands for", .permitted(.oidcWrite)) {
                call in
                try await oidc.deleteLink(call.id(), version: call.version, by: call.principal)
            }.refusing(.conflict),
        ]
    }
}

/// The query of lists of links, which may be of one issuer.
struct OIDCLinkQuery: WireObject {
    var page: PageQuery
    var providerId: OIDCProviderID?

    init(from reader: inout FieldReader) throws(FieldError) {
        providerId = try reader.optional("providerId")
        page = try PageQuery(from: &reader)
    }

    func fields(to writer: inout JSONWriter) {
        writer.field("providerId", providerId)
        page.fields(to: &writer)
    }
}

// MARK: Bodies and rows

extension OIDCTerms {
    /// The terms of a new provider: what is absent is as the preset says.
    fileprivate func row(of preset: OIDCPreset) -> OIDCProviderRow.Terms {
        var terms = OIDCProviderRow.Terms(
            name: "", audiences: [], authorizedParties: [], organizationClaim: "org_id",
            roleClaim: preset == .clerk ? "org_role" : "roles", emailClaim: "email", linksByEmail: false,
            use: preset == .clerk ? .sessionToken : .accessToken, leewaySeconds: preset == .clerk ? 5 : 30,
            lifetimeSeconds: preset == .clerk ? 300 : 3_600, clientID: nil, redirectURLs: [], sealed: nil,
            isDisabled: false)
        apply(to: &terms)
        return terms
    }

    fileprivate func apply(to terms: inout OIDCProviderRow.Terms) {
        terms.name = name ?? terms.name
        terms.audiences = audiences ?? terms.audiences
        terms.authorizedParties = authorizedParties ?? terms.authorizedParties
        terms.organizationClaim = organizationClaim ?? terms.organizationClaim
        terms.roleClaim = roleClaim ?? terms.roleClaim
        terms.emailClaim = emailClaim ?? terms.emailClaim
        terms.linksByEmail = linksByEmail ?? terms.linksByEmail
        terms.use = tokenUse ?? terms.use
        terms.leewaySeconds = leewaySeconds ?? terms.leewaySeconds
        terms.lifetimeSeconds = lifetimeSeconds ?? terms.lifetimeSeconds
        if let clientId { terms.clientID = clientId.isEmpty ? nil : clientId }
        terms.redirectURLs = redirectUrls ?? terms.redirectURLs
        terms.isDisabled = disabled ?? terms.isDisabled
    }

    /// The terms of a row.
    fileprivate init(_ terms: OIDCProviderRow.Terms) {
        self.init(
            name: terms.name, audiences: terms.audiences, authorizedParties: terms.authorizedParties,
            organizationClaim: terms.organizationClaim, roleClaim: terms.roleClaim,
            emailClaim: terms.emailClaim, linksByEmail: terms.linksByEmail, tokenUse: terms.use,
            leewaySeconds: terms.leewaySeconds, lifetimeSeconds: terms.lifetimeSeconds,
            clientId: terms.clientID,
            redirectUrls: terms.redirectURLs, disabled: terms.isDisabled)
    }
}

extension OIDCProvider {
    /// A row of providers.
    init(_ row: OIDCProviderRow) {
        self.init(
            id: row.id,
            provider: NewOIDCProvider(
                issuer: row.issuer, home: Place(row.home), preset: row.preset, keySource: row.keySource,
                terms: OIDCTerms(row.terms)),
            expiresAt: row.expiresAt, version: row.version, createdAt: row.createdAt,
            updatedAt: row.updatedAt)
    }
}

extension OIDCLinkTarget {
    /// The one that is given.
    fileprivate var row: OIDCLinkRow.Target {
        if let userId { return .user(userId) }
        if let organizationId { return .organization(organizationId) }
        return .role(roleId.map(BindingRow.Role.made) ?? .builtin(role ?? ""))
    }

    /// The target of a row.
    fileprivate init(_ target: OIDCLinkRow.Target) {
        switch target {
        case .user(let id): self.init(userId: id)
        case .organization(let id): self.init(organizationId: id)
        case .role(.builtin(let name)): self.init(role: name)
        case .role(.made(let id)): self.init(roleId: id)
        }
    }
}

extension OIDCLink {
    /// A row of links.
    init(_ row: OIDCLinkRow) {
        self.init(
            id: row.id, kind: row.target.kind,
            link: NewOIDCLink(
                providerId: row.provider, external: row.external, target: OIDCLinkTarget(row.target)),
            expiresAt: row.expiresAt, version: row.version, createdAt: row.createdAt,
            updatedAt: row.updatedAt)
    }
}
