package import Domain
package import Wire

extension APIClient {
    // MARK: Issuers whose tokens are believed

    /// Lets an issuer's tokens be believed.
    package func createOIDCProvider(_ new: NewOIDCProvider) async throws -> OIDCProvider {
        try await post("/v1/oidc-providers", new)
    }

    /// One page of issuers.
    package func oidcProviders(_ page: PageOptions = PageOptions()) async throws -> Page<OIDCProvider> {
        try await get("/v1/oidc-providers", page.parameters)
    }

    /// One issuer.
    package func oidcProvider(_ id: OIDCProviderID) async throws -> OIDCProvider {
        try await get("/v1/oidc-providers/\(id)")
    }

    /// Edits which of its tokens are believed.
    package func edit(
        _ id: OIDCProviderID, _ changes: OIDCTerms, version: Int? = nil
    ) async throws -> OIDCProvider {
        try await patch("/v1/oidc-providers/\(id)", changes, version: version)
    }

    /// Believes an issuer no more.
    package func remove(_ id: OIDCProviderID) async throws { try await delete("/v1/oidc-providers/\(id)") }

    // MARK: What their names stand for

    /// Says what a name of an issuer stands for.
    package func createOIDCLink(_ new: NewOIDCLink) async throws -> OIDCLink {
        try await post("/v1/oidc-links", new)
    }

    /// One page of links, optionally of one issuer.
    package func oidcLinks(
        of provider: OIDCProviderID? = nil, _ page: PageOptions = PageOptions()
    ) async throws -> Page<OIDCLink> {
        try await get("/v1/oidc-links", [("providerId", provider?.description)] + page.parameters)
    }

    /// One link.
    package func oidcLink(_ id: OIDCLinkID) async throws -> OIDCLink { try await get("/v1/oidc-links/\(id)") }

    /// Lets a name stand for something else of its kind.
    package func edit(
        _ id: OIDCLinkID, _ target: OIDCLinkTarget, version: Int? = nil
    ) async throws -> OIDCLink {
        try await patch("/v1/oidc-links/\(id)", target, version: version)
    }

    /// Takes away what a name stands for.
    package func remove(_ id: OIDCLinkID) async throws { try await delete("/v1/oidc-links/\(id)") }

    // MARK: Signing in there

    /// Begins a sign-in at an issuer's own pages.
    package func beginOIDCSignIn(_ new: NewOIDCSignIn) async throws -> OIDCSignInBegun {
        try await post("/v1/oidc-sign-ins", new)
    }

    /// Ends it with what the issuer sent the person back with.
    package func endOIDCSignIn(_ new: NewOIDCSession) async throws -> CreatedSession {
        try await post("/v1/oidc-sign-ins/session", new)
    }
}
