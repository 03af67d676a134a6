package import Domain

/// Body that makes an API key.
package struct NewAPIKey: WireObject, Equatable {
    /// Shown to operators.
    package var name: String
    /// Where it may act; no id means the whole platform.
    package var place: Place
    /// What it may do: `resource:verb`.
    package var permissions: [String]
    /// Seconds until it expires; 90 days unless said.
    package var expiresInSeconds: Int

    /// A key to be made.
    package init(
        name: String, partnerId: PartnerID? = nil, organizationId: OrganizationID? = nil,
        siteId: SiteID? = nil,
        permissions: [String], expiresInSeconds: Int = 7_776_000
    ) {
        self.name = name
        place = Place(partnerId: partnerId, organizationId: organizationId, siteId: siteId)
        self.permissions = permissions
        self.expiresInSeconds = expiresInSeconds
    }

    /// Reads the fields; more than one level is refused.
    package init(from reader: inout FieldReader) throws(FieldError) {
        name = try reader.field("name", String.self, .in(Limits.nameBytes))
        place = try Place(from: &reader)
        permissions = try reader.field("permissions", [String].self, .in(1...64, elements: 1...64))
        expiresInSeconds =
            try reader.optional("expiresInSeconds", Int.self, .in(60...31_536_000)) ?? 7_776_000
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("name", name)
        place.fields(to: &writer)
        writer.field("permissions", permissions)
        writer.field("expiresInSeconds", expiresInSeconds)
    }
}

/// A new API key: the only time that the key itself is shown.
package struct CreatedAPIKey: WireObject, Equatable {
    /// Its id.
    package var id: APIKeyID
    /// The secret to be sent as `Authorization: Bearer …`.
    package var key: String
    /// When it expires.
    package var expiresAt: Instant

    /// A new key.
    package init(id: APIKeyID, key: String, expiresAt: Instant) {
        self.id = id
        self.key = key
        self.expiresAt = expiresAt
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        key = try reader.field("key")
        expiresAt = try reader.field("expiresAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("key", key)
        writer.field("expiresAt", expiresAt)
    }
}

/// An API key as lists show it: never its text.
package struct APIKey: WireObject, Versioned, Equatable {
    /// Its id, its name, and the first characters of its text.
    package var id: APIKeyID
    package var name: String
    package var prefix: String
    /// Where it may act, and what it may do there, as far as its maker may.
    package var place: Place
    package var permissions: [String]
    /// When it ends, and whether it was revoked before.
    package var expiresAt: Instant
    package var revokedAt: Instant?
    /// Who made it, if not the installation itself.
    package var createdBy: PrincipalID?
    /// When it was used last, to about a minute.
    package var lastUsedAt: Instant?
    /// Until when the text before the last rotation is good.
    package var previousExpiresAt: Instant?
    /// How often it was rotated or edited, from 1: the number in its `ETag`.
    package var version: Int
    package var createdAt: Instant

    /// A key as lists show it.
    package init(
        id: APIKeyID, name: String, prefix: String, place: Place, permissions: [String], expiresAt: Instant,
        revokedAt: Instant?, createdBy: PrincipalID?, lastUsedAt: Instant?, previousExpiresAt: Instant?,
        version: Int, createdAt: Instant
    ) {
        self.id = id
        self.name = name
        self.prefix = prefix
        self.place = place
        self.permissions = permissions
        self.expiresAt = expiresAt
        self.revokedAt = revokedAt
        self.createdBy = createdBy
        self.lastUsedAt = lastUsedAt
        self.previousExpiresAt = previousExpiresAt
        self.version = version
        self.createdAt = createdAt
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        name = try reader.field("name")
        prefix = try reader.field("prefix")
        place = try Place(from: &reader)
        permissions = try reader.field("permissions")
        expiresAt = try reader.field("expiresAt")
        revokedAt = try reader.optional("revokedAt")
        createdBy = try reader.optional("createdBy")
        lastUsedAt = try reader.optional("lastUsedAt")
        previousExpiresAt = try reader.optional("previousExpiresAt")
        version = try reader.field("version")
        createdAt = try reader.field("createdAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("name", name)
        writer.field("prefix", prefix)
        place.fields(to: &writer)
        writer.field("permissions", permissions)
        writer.field("expiresAt", expiresAt)
        writer.field("revokedAt", revokedAt)
        writer.field("createdBy", createdBy)
        writer.field("lastUsedAt", lastUsedAt)
        writer.field("previousExpiresAt", previousExpiresAt)
        writer.field("version", version)
        writer.field("createdAt", createdAt)
    }
}

/// Body that gives a key another text.
package struct NewRotation: WireObject, Equatable {
    /// Seconds for which the text before stays good; one day unless said.
    package var overlapSeconds: Int

    /// A rotation.
    package init(overlapSeconds: Int = 86_400) { self.overlapSeconds = overlapSeconds }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        overlapSeconds = try reader.optional("overlapSeconds", Int.self, .in(0...2_592_000)) ?? 86_400
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) { writer.field("overlapSeconds", overlapSeconds) }
}
