package import Domain

/// Whether a partner, an organization or a site is in use.
package enum TenantState: String, Sendable, CaseIterable {
    case active
    /// Nothing new is made here; its history stays.
    case archived
}

extension TenantState: WireWord {
    /// Its raw value.
    package var word: String { rawValue }
}

/// How a partner looks to its customers.
package struct Branding: WireObject, Equatable {
    /// What customers read instead of the partner's name.
    package var displayName: String?
    /// An address of https.
    package var logoUrl: String?
    /// `#rrggbb`
    package var accentColor: String?
    /// Where customers find help.
    package var supportEmail: String?
    package var supportPhone: String?
    package var supportUrl: String?

    /// No branding.
    package init() {}

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        displayName = try reader.optional("displayName", String.self, .in(Limits.nameBytes))
        logoUrl = try reader.optional("logoUrl", HTTPSAddress.self)?.text
        accentColor = try reader.optional("accentColor", String.self, .in(7...7))
        supportEmail = try reader.optional("supportEmail", EmailAddress.self)?.text
        supportPhone = try reader.optional("supportPhone", String.self, .in(1...64))
        supportUrl = try reader.optional("supportUrl", HTTPSAddress.self)?.text
        if let color = accentColor, !reader.isRecording,
            !color.hasPrefix("#") || !color.utf8.dropFirst().allSatisfy({ hexadecimalValue($0) != nil })
        {
            throw FieldError(
                .invalid, field: reader.name(of: "accentColor"), "must be # and six hexadecimal digits")
        }
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("displayName", displayName)
        writer.field("logoUrl", logoUrl)
        writer.field("accentColor", accentColor)
        writer.field("supportEmail", supportEmail)
        writer.field("supportPhone", supportPhone)
        writer.field("supportUrl", supportUrl)
    }
}

/// Body that makes a partner.
package struct NewPartner: WireObject, Equatable {
    /// Shown to operators.
    package var name: String
    /// How it looks to its customers.
    package var branding: Branding?

    /// A partner to be made.
    package init(name: String, branding: Branding? = nil) {
        self.name = name
        self.branding = branding
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        name = try reader.field("name", String.self, .in(Limits.nameBytes))
        branding = try reader.optional("branding")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("name", name)
        writer.field("branding", branding)
    }
}

/// Body that edits a partner; what is absent stays.
package struct NewPartnerChanges: WireObject, Equatable {
    /// The new name.
    package var name: String?
    /// The whole new branding; null is none.
    package var branding: FieldChange<Branding>

    /// An edit.
    package init(name: String? = nil, branding: FieldChange<Branding> = .keep) {
        self.name = name
        self.branding = branding
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        name = try reader.optional("name", String.self, .in(Limits.nameBytes))
        branding = try reader.change("branding")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("name", name)
        writer.field("branding", branding)
    }
}

/// A partner as it is shown.
package struct Partner: WireObject, Versioned, Equatable {
    /// Its id.
    package var id: PartnerID
    /// Shown to operators.
    package var name: String
    /// Whether it is in use.
    package var state: TenantState
    /// How it looks to its customers.
    package var branding: Branding
    /// How often it was edited, from 1: the number in its `ETag`.
    package var version: Int
    /// When it was made, and edited last.
    package var createdAt: Instant
    package var updatedAt: Instant

    /// A partner as it is shown.
    package init(
        id: PartnerID, name: String, state: TenantState, branding: Branding, version: Int,
        createdAt: Instant, updatedAt: Instant
    ) {
        self.id = id
        self.name = name
        self.state = state
        self.branding = branding
        self.version = version
        self.createdAt = createdAt
        self.updatedAt = updatedAt
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        name = try reader.field("name")
        state = try reader.field("state")
        branding = try reader.field("branding")
        version = try reader.field("version")
        createdAt = try reader.field("createdAt")
        updatedAt = try reader.field("updatedAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("name", name)
        writer.field("state", state)
        writer.field("branding", branding)
        writer.field("version", version)
        writer.field("createdAt", createdAt)
        writer.field("updatedAt", updatedAt)
    }
}
