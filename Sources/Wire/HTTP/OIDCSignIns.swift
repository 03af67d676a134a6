package import Domain

/// Body that begins a sign-in at an issuer's own pages.
package struct NewOIDCSignIn: WireObject, Equatable {
    /// Which provider.
    package var providerId: OIDCProviderID
    /// Where the person is sent back to: one of the provider's `redirectUrls`, exactly.
    package var redirectUrl: String

    /// A sign-in to be begun.
    package init(providerId: OIDCProviderID, redirectUrl: String) {
        self.providerId = providerId
        self.redirectUrl = redirectUrl
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        providerId = try reader.field("providerId")
        redirectUrl = try reader.field("redirectUrl", String.self, .in(1...512))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("providerId", providerId)
        writer.field("redirectUrl", redirectUrl)
    }
}

/// A sign-in that was begun.
package struct OIDCSignInBegun: WireObject, Equatable {
    /// The issuer's page, where the person goes.
    package var authorizationUrl: String
    /// What ends it; to be kept by whoever began, and by nobody else.
    package var flow: String
    /// Until when.
    package var expiresAt: Instant

    /// A sign-in that was begun.
    package init(authorizationUrl: String, flow: String, expiresAt: Instant) {
        self.authorizationUrl = authorizationUrl
        self.flow = flow
        self.expiresAt = expiresAt
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        authorizationUrl = try reader.field("authorizationUrl")
        flow = try reader.field("flow")
        expiresAt = try reader.field("expiresAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("authorizationUrl", authorizationUrl)
        writer.field("flow", flow)
        writer.field("expiresAt", expiresAt)
    }
}

/// Body that ends a sign-in with what the issuer sent the person back with.
package struct NewOIDCSession: WireObject, Equatable {
    /// What began it.
    package var flow: String
    /// The parameters `code`, `state` and, where there is one, `iss` of the address that the person came to.
    package var code: String
    package var state: String
    package var issuer: String?
    /// The code of the authenticator, or one for recovery, where there is a second factor here.
    package var secondFactor: String?
    /// Whether a browser keeps the session in a cookie that no script reads.
    package var cookie: Bool
    /// What signs in, for the list of sessions; else the User-Agent.
    package var agent: String?

    /// What ends a sign-in.
    package init(
        flow: String, code: String, state: String, issuer: String? = nil, secondFactor: String? = nil,
        cookie: Bool = false, agent: String? = nil
    ) {
        self.flow = flow
        self.code = code
        self.state = state
        self.issuer = issuer
        self.secondFactor = secondFactor
        self.cookie = cookie
        self.agent = agent
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        flow = try reader.field("flow", String.self, .in(1...4_096))
        code = try reader.field("code", String.self, .in(1...2_048))
        state = try reader.field("state", String.self, .in(1...512))
        issuer = try reader.optional("issuer", String.self, .in(1...512))
        secondFactor = try reader.optional("secondFactor", String.self, .in(1...64))
        cookie = try reader.optional("cookie") ?? false
        agent = try reader.optional("agent", String.self, .in(1...200))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("flow", flow)
        writer.field("code", code)
        writer.field("state", state)
        writer.field("issuer", issuer)
        writer.field("secondFactor", secondFactor)
        writer.field("cookie", cookie)
        writer.field("agent", agent)
    }
}
