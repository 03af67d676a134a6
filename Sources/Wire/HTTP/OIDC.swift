package import Domain

extension OIDCPreset: WireWord {
    /// Its name.
    package var word: String { rawValue }
}

extension OIDCKeySource: WireWord {
    /// Its name.
    package var word: String { rawValue }
}

extension OIDCTokenUse: WireWord {
    /// Its name.
    package var word: String { rawValue }
}

extension OIDCLinkKind: WireWord {
    /// Its name.
    package var word: String { rawValue }
}

/// Body that makes an issuer of tokens one that is believed.
package struct NewOIDCProvider: WireObject, Equatable {
    /// Whose it is: nothing outside is opened by its tokens.
    package var home: Place
    /// The issuer, exactly as its tokens name it.
    package var issuer: String
    /// Where names stand in its tokens unless said otherwise.
    package var preset: OIDCPreset
    /// Where its keys come from.
    package var keySource: OIDCKeySource
    /// Everything else, which may be edited.
    package var terms: OIDCTerms

    /// An issuer to be believed.
    package init(
        issuer: String, home: Place = Place(), preset: OIDCPreset = .generic,
        keySource: OIDCKeySource = .discovery, terms: OIDCTerms
    ) {
        self.issuer = issuer
        self.home = home
        self.preset = preset
        self.keySource = keySource
        self.terms = terms
    }

    /// Reads the fields; a name must be there.
    package init(from reader: inout FieldReader) throws(FieldError) {
        issuer = try reader.field("issuer", String.self, .in(1...512))
        preset = try reader.optional("preset") ?? .generic
        keySource = try reader.optional("keySource") ?? .discovery
        home = try Place(from: &reader)
        terms = try OIDCTerms(from: &reader)
        if !reader.isRecording, terms.name == nil {
            throw FieldError(.missing, field: reader.name(of: "name"), "is missing")
        }
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("issuer", issuer)
        writer.field("preset", preset)
        writer.field("keySource", keySource)
        home.fields(to: &writer)
        terms.fields(to: &writer)
    }
}

/// What may be edited of an issuer that is believed; what is absent stays, or is as the preset says.
package struct OIDCTerms: WireObject, Equatable {
    /// Shown to others.
    package var name: String?
    /// For whom its tokens must be; none means that they may name nobody.
    package var audiences: [String]?
    /// To whom its tokens must have been issued (`azp`); none means that nobody asks.
    package var authorizedParties: [String]?
    /// Paths of claims: names with dots between them, a dot of a name behind a backslash.
    package var organizationClaim: String?
    package var roleClaim: String?
    package var emailClaim: String?
    /// Whether a person is also known by an address that the issuer has verified.
    package var linksByEmail: Bool?
    /// What its tokens must be for.
    package var tokenUse: OIDCTokenUse?
    /// How far clocks may differ, and how long a token may hold.
    package var leewaySeconds: Int?
    package var lifetimeSeconds: Int?
    /// As what this installation is registered there, for people who sign in at the issuer; an empty text
    /// takes it away.
    package var clientId: String?
    /// Where people are sent back to: one of these, exactly.
    package var redirectUrls: [String]?
    /// The client's secret, where it has one; it is never shown, and an empty text takes it away.
    package var clientSecret: String?
    /// Whether its tokens open nothing.
    package var disabled: Bool?

    /// Terms, of which all may be absent.
    package init(
        name: String? = nil, audiences: [String]? = nil, authorizedParties: [String]? = nil,
        organizationClaim: String? = nil, roleClaim: String? = nil, emailClaim: String? = nil,
        linksByEmail: Bool? = nil, tokenUse: OIDCTokenUse? = nil, leewaySeconds: Int? = nil,
        lifetimeSeconds: Int? = nil, clientId: String? = nil, redirectUrls: [String]? = nil,
        clientSecret: String? = nil, disabled: Bool? = nil
    ) {
        self.name = name
        self.audiences = audiences
        self.authorizedParties = authorizedParties
        self.organizationClaim = organizationClaim
        self.roleClaim = roleClaim
        self.emailClaim = emailClaim
        self.linksByEmail = linksByEmail
        self.tokenUse = tokenUse
        self.leewaySeconds = leewaySeconds
        self.lifetimeSeconds = lifetimeSeconds
        self.clientId = clientId
        self.redirectUrls = redirectUrls
        self.clientSecret = clientSecret
        self.disabled = disabled
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        name = try reader.optional("name", String.self, .in(Limits.nameBytes))
        audiences = try reader.optional("audiences", [String].self, .in(0...16, elements: 1...255))
        authorizedParties = try reader.optional(
            "authorizedParties", [String].self, .in(0...16, elements: 1...255))
        organizationClaim = try reader.optional("organizationClaim", String.self, .in(1...512))
        roleClaim = try reader.optional("roleClaim", String.self, .in(1...512))
        emailClaim = try reader.optional("emailClaim", String.self, .in(1...512))
        linksByEmail = try reader.optional("linksByEmail")
        tokenUse = try reader.optional("tokenUse")
        leewaySeconds = try reader.optional("leewaySeconds", Int.self, .in(0...300))
        lifetimeSeconds = try reader.optional("lifetimeSeconds", Int.self, .in(60...86_400))
        clientId = try reader.optional("clientId", String.self, .in(0...255))
        redirectUrls = try reader.optional("redirectUrls", [String].self, .in(0...16, elements: 1...512))
        clientSecret = try reader.optional("clientSecret", String.self, .in(0...1_024))
        disabled = try reader.optional("disabled")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("name", name)
        writer.field("audiences", audiences)
        writer.field("authorizedParties", authorizedParties)
        writer.field("organizationClaim", organizationClaim)
        writer.field("roleClaim", roleClaim)
        writer.field("emailClaim", emailClaim)
        writer.field("linksByEmail", linksByEmail)
        writer.field("tokenUse", tokenUse)
        writer.field("leewaySeconds", leewaySeconds)
        writer.field("lifetimeSeconds", lifetimeSeconds)
        writer.field("clientId", clientId)
        writer.field("redirectUrls", redirectUrls)
        writer.field("clientSecret", clientSecret)
        writer.field("disabled", disabled)
    }
}

/// An issuer that is believed, as shown.
package struct OIDCProvider: WireObject, Versioned, Equatable {
    /// Its id.
    package var id: OIDCProviderID
    /// What it was made with, and its terms by now.
    package var provider: NewOIDCProvider
    /// When it ends unless it is used.
    package var expiresAt: Instant
    /// How often it was edited, from 1: the number in its `ETag`.
    package var version: Int
    /// When it was made, and edited last.
    package var createdAt: Instant
    package var updatedAt: Instant

    /// An issuer as shown.
    package init(
        id: OIDCProviderID, provider: NewOIDCProvider, expiresAt: Instant, version: Int, createdAt: Instant,
        updatedAt: Instant
    ) {
        self.id = id
        self.provider = provider
        self.expiresAt = expiresAt
        self.version = version
        self.createdAt = createdAt
        self.updatedAt = updatedAt
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        provider = try NewOIDCProvider(from: &reader)
        expiresAt = try reader.field("expiresAt")
        version = try reader.field("version")
        createdAt = try reader.field("createdAt")
        updatedAt = try reader.field("updatedAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        provider.fields(to: &writer)
        writer.field("expiresAt", expiresAt)
        writer.field("version", version)
        writer.field("createdAt", createdAt)
        writer.field("updatedAt", updatedAt)
    }
}

/// What a name of an issuer stands for: exactly one of a person, an organization and a role.
package struct OIDCLinkTarget: WireObject, Equatable {
    /// A person, for a subject.
    package var userId: UserID?
    /// An organization, for an organization.
    package var organizationId: OrganizationID?
    /// A role that is built in, by its name, or one that was made, by its id, for a role.
    package var role: String?
    package var roleId: RoleID?

    /// A target.
    package init(
        userId: UserID? = nil, organizationId: OrganizationID? = nil, role: String? = nil,
        roleId: RoleID? = nil
    ) {
        self.userId = userId
        self.organizationId = organizationId
        self.role = role
        self.roleId = roleId
    }

    /// Reads the fields; exactly one must be there.
    package init(from reader: inout FieldReader) throws(FieldError) {
        userId = try reader.optional("userId")
        organizationId = try reader.optional("organizationId")
        role = try reader.optional("role", String.self, .in(1...64))
        roleId = try reader.optional("roleId")
        let count = [userId != nil, organizationId != nil, role != nil, roleId != nil].count { $0 }
        if !reader.isRecording, count != 1 {
            throw FieldError(
                .invalid, field: reader.name(of: "userId"),
                "exactly one of userId, organizationId, role and roleId must be given")
        }
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("userId", userId)
        writer.field("organizationId", organizationId)
        writer.field("role", role)
        writer.field("roleId", roleId)
    }
}

/// Body that says what a name of an issuer stands for.
package struct NewOIDCLink: WireObject, Equatable {
    /// Whose name it is.
    package var providerId: OIDCProviderID
    /// The name, exactly as tokens have it: a subject, or an organization's id, or a role.
    package var external: String
    /// What it stands for; its kind is the name's.
    package var target: OIDCLinkTarget

    /// A link to be made.
    package init(providerId: OIDCProviderID, external: String, target: OIDCLinkTarget) {
        self.providerId = providerId
        self.external = external
        self.target = target
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        providerId = try reader.field("providerId")
        external = try reader.field("external", String.self, .in(1...255))
        target = try OIDCLinkTarget(from: &reader)
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("providerId", providerId)
        writer.field("external", external)
        target.fields(to: &writer)
    }
}

/// What a name of an issuer stands for, as shown.
package struct OIDCLink: WireObject, Versioned, Equatable {
    /// Its id.
    package var id: OIDCLinkID
    /// What the name is at the issuer.
    package var kind: OIDCLinkKind
    /// Whose name it is, and what it stands for.
    package var link: NewOIDCLink
    /// When it ends unless it is used.
    package var expiresAt: Instant
    /// How often it was edited, from 1: the number in its `ETag`.
    package var version: Int
    /// When it was made, and edited last.
    package var createdAt: Instant
    package var updatedAt: Instant

    /// A link as shown.
    package init(
        id: OIDCLinkID, kind: OIDCLinkKind, link: NewOIDCLink, expiresAt: Instant, version: Int,
        createdAt: Instant, updatedAt: Instant
    ) {
        self.id = id
        self.kind = kind
        self.link = link
        self.expiresAt = expiresAt
        self.version = version
        self.createdAt = createdAt
        self.updatedAt = updatedAt
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        kind = try reader.field("kind")
        link = try NewOIDCLink(from: &reader)
        expiresAt = try reader.field("expiresAt")
        version = try reader.field("version")
        createdAt = try reader.field("createdAt")
        updatedAt = try reader.field("updatedAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("kind", kind)
        link.fields(to: &writer)
        writer.field("expiresAt", expiresAt)
        writer.field("version", version)
        writer.field("createdAt", createdAt)
        writer.field("updatedAt", updatedAt)
    }
}
