package import Domain

/// A device as it is shown.
package struct Device: WireObject, Versioned, Equatable {
    /// Its id.
    package var id: DeviceID
    /// Where it belongs.
    package var organizationId: OrganizationID
    package var siteId: SiteID
    /// What its agent said at enrolment and at each hello.
    package var hostname: String
    package var platform: String
    package var agentVersion: String
    /// Whether its agent holds a session now, and when one was seen last.
    package var online: Bool
    package var lastSeenAt: Instant?
    /// How the last session of a device without one ended: `left`, its agent took leave; `closed`, by its
    /// gateway; `vanished`.
    package var offlineReason: String?
    /// Its clock less its gateway's, in milliseconds, at its last hello.
    package var clockSkewMilliseconds: Int?
    /// What people call it, and how they sort it.
    package var displayName: String?
    package var tags: [String]
    package var customFields: [String: String]
    /// Whether it may hold a session.
    package var state: DeviceState
    /// How often people edited it, from 1: the number in its `ETag`.
    package var version: Int
    /// When it was enrolled, and edited last.
    package var createdAt: Instant
    package var updatedAt: Instant

    /// A device as it is shown.
    package init(
        id: DeviceID, organizationId: OrganizationID, siteId: SiteID, hostname: String, platform: String,
        agentVersion: String, online: Bool, lastSeenAt: Instant?, offlineReason: String? = nil,
        clockSkewMilliseconds: Int? = nil, displayName: String? = nil,
        tags: [String] = [],
        customFields: [String: String] = [:], state: DeviceState = .active, version: Int = 1,
        createdAt: Instant, updatedAt: Instant? = nil
    ) {
        self.id = id
        self.organizationId = organizationId
        self.siteId = siteId
        self.hostname = hostname
        self.platform = platform
        self.agentVersion = agentVersion
        self.online = online
        self.lastSeenAt = lastSeenAt
        self.offlineReason = offlineReason
        self.clockSkewMilliseconds = clockSkewMilliseconds
        self.displayName = displayName
        self.tags = tags
        self.customFields = customFields
        self.state = state
        self.version = version
        self.createdAt = createdAt
        self.updatedAt = updatedAt ?? createdAt
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        organizationId = try reader.field("organizationId")
        siteId = try reader.field("siteId")
        hostname = try reader.field("hostname")
        platform = try reader.field("platform")
        agentVersion = try reader.field("agentVersion")
        online = try reader.field("online")
        lastSeenAt = try reader.optional("lastSeenAt")
        offlineReason = try reader.optional("offlineReason")
        clockSkewMilliseconds = try reader.optional("clockSkewMilliseconds")
        displayName = try reader.optional("displayName")
        tags = try reader.field("tags")
        customFields = try reader.field("customFields")
        state = try reader.field("state")
        version = try reader.field("version")
        createdAt = try reader.field("createdAt")
        updatedAt = try reader.field("updatedAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("organizationId", organizationId)
        writer.field("siteId", siteId)
        writer.field("hostname", hostname)
        writer.field("platform", platform)
        writer.field("agentVersion", agentVersion)
        writer.field("online", online)
        writer.field("lastSeenAt", lastSeenAt)
        writer.field("offlineReason", offlineReason)
        writer.field("clockSkewMilliseconds", clockSkewMilliseconds)
        writer.field("displayName", displayName)
        writer.field("tags", tags)
        writer.field("customFields", customFields)
        writer.field("state", state)
        writer.field("version", version)
        writer.field("createdAt", createdAt)
        writer.field("updatedAt", updatedAt)
    }
}

/// Body that edits a device; what is absent stays.
package struct NewDeviceChanges: WireObject, Equatable {
    /// What people call it; null is nothing.
    package var displayName: FieldChange<String>
    /// All the new tags; null is none.
    package var tags: FieldChange<[String]>
    /// All the new custom fields; null is none.
    package var customFields: FieldChange<[String: String]>
    /// Whether it may hold a session from now on.
    package var state: DeviceState?

    /// An edit.
    package init(
        displayName: FieldChange<String> = .keep, tags: FieldChange<[String]> = .keep,
        customFields: FieldChange<[String: String]> = .keep, state: DeviceState? = nil
    ) {
        self.state = state
        self.displayName = displayName
        self.tags = tags
        self.customFields = customFields
    }

    /// Reads the fields; tags are words without blanks and commas.
    package init(from reader: inout FieldReader) throws(FieldError) {
        displayName = try reader.change("displayName", String.self, .in(Limits.nameBytes))
        tags = try reader.change("tags", [String].self, .in(0...Limits.tagsMax, elements: Limits.tagBytes))
        customFields = try reader.change(
            "customFields", [String: String].self,
            .in(0...Limits.customFieldsMax, elements: 0...Limits.customFieldBytesMax))
        state = try reader.optional("state")
        if case .set(let tags) = tags { try Self.judge(tags, reader.name(of: "tags")) }
        if case .set(let fields) = customFields {
            for name in fields.keys where !Limits.tagBytes.contains(name.utf8.count) {
                throw FieldError(
                    .invalid, field: reader.name(of: "customFields"),
                    "has a name of \(name.utf8.count) bytes; allowed are 1 to \(Limits.tagBytes.upperBound)")
            }
        }
    }

    private static func judge(_ tags: [String], _ field: String) throws(FieldError) {
        for (index, tag) in tags.enumerated() where tag.contains(where: { $0.isWhitespace || $0 == "," }) {
            throw FieldError(.invalid, field: "\(field)[\(index)]", "must have no blanks and commas")
        }
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("displayName", displayName)
        writer.field("tags", tags)
        writer.field("customFields", customFields)
        writer.field("state", state)
    }
}

extension DeviceState: WireWord {
    /// Its name.
    package var word: String { name }
}

extension UserState: WireWord {
    /// Its name.
    package var word: String { name }
}

/// A certificate by which a device shows who it is.
package struct DeviceCertificate: WireObject, Equatable {
    /// Its serial number in hexadecimal digits.
    package var serial: String
    /// When it ends, and since when it is revoked.
    package var expiresAt: Instant
    package var revokedAt: Instant?
    /// When it was issued.
    package var createdAt: Instant

    /// A certificate.
    package init(serial: String, expiresAt: Instant, revokedAt: Instant?, createdAt: Instant) {
        self.serial = serial
        self.expiresAt = expiresAt
        self.revokedAt = revokedAt
        self.createdAt = createdAt
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        serial = try reader.field("serial")
        expiresAt = try reader.field("expiresAt")
        revokedAt = try reader.optional("revokedAt")
        createdAt = try reader.field("createdAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("serial", serial)
        writer.field("expiresAt", expiresAt)
        writer.field("revokedAt", revokedAt)
        writer.field("createdAt", createdAt)
    }
}
