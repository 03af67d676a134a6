package import Domain

/// Body that makes a site.
package struct NewSite: WireObject, Equatable {
    /// Shown to operators.
    package var name: String
    /// The organization that it belongs to.
    package var organizationId: OrganizationID
    /// Its time zone, by its IANA name.
    package var timeZone: String?
    /// Whom to ask.
    package var contacts: [Contact]

    /// A site to be made.
    package init(
        name: String, organizationId: OrganizationID, timeZone: String? = nil, contacts: [Contact] = []
    ) {
        self.name = name
        self.organizationId = organizationId
        self.timeZone = timeZone
        self.contacts = contacts
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        name = try reader.field("name", String.self, .in(Limits.nameBytes))
        organizationId = try reader.field("organizationId")
        timeZone = try reader.optional("timeZone", TimeZoneName.self)?.text
        contacts = try reader.optional("contacts", [Contact].self, .in(0...Contact.countMax)) ?? []
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("name", name)
        writer.field("organizationId", organizationId)
        writer.field("timeZone", timeZone)
        if !contacts.isEmpty { writer.field("contacts", contacts) }
    }
}

/// Body that edits a site; what is absent stays.
package struct NewSiteChanges: WireObject, Equatable {
    /// The new name.
    package var name: String?
    /// The new time zone; null is none.
    package var timeZone: FieldChange<String>
    /// All the new contacts; null is none.
    package var contacts: FieldChange<[Contact]>

    /// An edit.
    package init(
        name: String? = nil, timeZone: FieldChange<String> = .keep, contacts: FieldChange<[Contact]> = .keep
    ) {
        self.name = name
        self.timeZone = timeZone
        self.contacts = contacts
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        name = try reader.optional("name", String.self, .in(Limits.nameBytes))
        timeZone =
            switch try reader.change("timeZone", TimeZoneName.self) {
            case .keep: .keep
            case .clear: .clear
            case .set(let zone): .set(zone.text)
            }
        contacts = try reader.change("contacts", [Contact].self, .in(0...Contact.countMax))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("name", name)
        writer.field("timeZone", timeZone)
        writer.field("contacts", contacts)
    }
}

/// A site as it is shown.
package struct Site: WireObject, Versioned, Equatable {
    /// Its id, and the organization that it belongs to.
    package var id: SiteID
    package var organizationId: OrganizationID
    /// Shown to operators.
    package var name: String
    /// Whether it is in use.
    package var state: TenantState
    /// Its time zone, by its IANA name.
    package var timeZone: String?
    /// Whom to ask.
    package var contacts: [Contact]
    /// How often it was edited, from 1: the number in its `ETag`.
    package var version: Int
    /// When it was made, and edited last.
    package var createdAt: Instant
    package var updatedAt: Instant

    /// A site as it is shown.
    package init(
        id: SiteID, organizationId: OrganizationID, name: String, state: TenantState, timeZone: String?,
        contacts: [Contact], version: Int, createdAt: Instant, updatedAt: Instant
    ) {
        self.id = id
        self.organizationId = organizationId
        self.name = name
        self.state = state
        self.timeZone = timeZone
        self.contacts = contacts
        self.version = version
        self.createdAt = createdAt
        self.updatedAt = updatedAt
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        organizationId = try reader.field("organizationId")
        name = try reader.field("name")
        state = try reader.field("state")
        timeZone = try reader.optional("timeZone")
        contacts = try reader.field("contacts")
        version = try reader.field("version")
        createdAt = try reader.field("createdAt")
        updatedAt = try reader.field("updatedAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("organizationId", organizationId)
        writer.field("name", name)
        writer.field("state", state)
        writer.field("timeZone", timeZone)
        writer.field("contacts", contacts)
        writer.field("version", version)
        writer.field("createdAt", createdAt)
        writer.field("updatedAt", updatedAt)
    }
}
