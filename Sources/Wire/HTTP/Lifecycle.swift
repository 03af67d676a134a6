package import Domain

/// Body that moves a device.
package struct NewDeviceMove: WireObject, Equatable {
    /// The site that it goes to, of its own organization or another.
    package var siteId: SiteID

    /// A move.
    package init(siteId: SiteID) { self.siteId = siteId }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) { siteId = try reader.field("siteId") }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) { writer.field("siteId", siteId) }
}

/// Body that moves a site.
package struct NewSiteMove: WireObject, Equatable {
    /// The organization that it goes to.
    package var organizationId: OrganizationID

    /// A move.
    package init(organizationId: OrganizationID) { self.organizationId = organizationId }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        organizationId = try reader.field("organizationId")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) { writer.field("organizationId", organizationId) }
}

/// Body that moves an organization.
package struct NewOrganizationMove: WireObject, Equatable {
    /// The partner that it goes to.
    package var partnerId: PartnerID

    /// A move.
    package init(partnerId: PartnerID) { self.partnerId = partnerId }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        partnerId = try reader.field("partnerId")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) { writer.field("partnerId", partnerId) }
}

/// What was cut off when an organization was given up.
package struct Offboarding: WireObject, Equatable {
    /// Devices' certificates and enrolment tokens that were revoked.
    package var certificatesRevoked: Int
    package var tokensRevoked: Int
    /// API keys that were revoked, roles that were taken away, people who were disabled.
    package var apiKeysRevoked: Int
    package var rolesTaken: Int
    package var usersDisabled: Int

    /// What was cut off.
    package init(
        certificatesRevoked: Int, tokensRevoked: Int, apiKeysRevoked: Int, rolesTaken: Int, usersDisabled: Int
    ) {
        self.certificatesRevoked = certificatesRevoked
        self.tokensRevoked = tokensRevoked
        self.apiKeysRevoked = apiKeysRevoked
        self.rolesTaken = rolesTaken
        self.usersDisabled = usersDisabled
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        certificatesRevoked = try reader.field("certificatesRevoked")
        tokensRevoked = try reader.field("tokensRevoked")
        apiKeysRevoked = try reader.field("apiKeysRevoked")
        rolesTaken = try reader.field("rolesTaken")
        usersDisabled = try reader.field("usersDisabled")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("certificatesRevoked", certificatesRevoked)
        writer.field("tokensRevoked", tokensRevoked)
        writer.field("apiKeysRevoked", apiKeysRevoked)
        writer.field("rolesTaken", rolesTaken)
        writer.field("usersDisabled", usersDisabled)
    }
}

/// One device in the report on an organization that is given up, as it stands now.
package struct DeviceOffboarding: WireObject, Equatable {
    /// Which device, and where.
    package var deviceId: DeviceID
    package var siteId: SiteID
    package var hostname: String
    /// Whether its agent still holds a session, and when one was seen last.
    package var online: Bool
    package var lastSeenAt: Instant?
    /// Runs that have not ended yet.
    package var openRuns: Int
    /// Whether none of its certificates opens a session any more.
    package var cutOff: Bool

    /// A device's row.
    package init(
        deviceId: DeviceID, siteId: SiteID, hostname: String, online: Bool, lastSeenAt: Instant?,
        openRuns: Int, cutOff: Bool
    ) {
        self.deviceId = deviceId
        self.siteId = siteId
        self.hostname = hostname
        self.online = online
        self.lastSeenAt = lastSeenAt
        self.openRuns = openRuns
        self.cutOff = cutOff
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        deviceId = try reader.field("deviceId")
        siteId = try reader.field("siteId")
        hostname = try reader.field("hostname")
        online = try reader.field("online")
        lastSeenAt = try reader.optional("lastSeenAt")
        openRuns = try reader.field("openRuns")
        cutOff = try reader.field("cutOff")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("deviceId", deviceId)
        writer.field("siteId", siteId)
        writer.field("hostname", hostname)
        writer.field("online", online)
        writer.field("lastSeenAt", lastSeenAt)
        writer.field("openRuns", openRuns)
        writer.field("cutOff", cutOff)
    }
}
