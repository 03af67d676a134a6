package import Domain

/// Body that makes a partner.
package struct NewPartner: WireObject, Equatable {
    /// Shown to operators.
    package var name: String

    /// A partner to be made.
    package init(name: String) { self.name = name }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        name = try reader.field("name", String.self, .in(Limits.nameBytes))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) { writer.field("name", name) }
}

/// Body that makes an organization.
package struct NewOrganization: WireObject, Equatable {
    /// Shown to operators.
    package var name: String
    /// The partner that it belongs to.
    package var partnerId: PartnerID

    /// An organization to be made.
    package init(name: String, partnerId: PartnerID) {
        self.name = name
        self.partnerId = partnerId
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        name = try reader.field("name", String.self, .in(Limits.nameBytes))
        partnerId = try reader.field("partnerId")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("name", name)
        writer.field("partnerId", partnerId)
    }
}

/// Body that makes a site.
package struct NewSite: WireObject, Equatable {
    /// Shown to operators.
    package var name: String
    /// The organization that it belongs to.
    package var organizationId: OrganizationID

    /// A site to be made.
    package init(name: String, organizationId: OrganizationID) {
        self.name = name
        self.organizationId = organizationId
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        name = try reader.field("name", String.self, .in(Limits.nameBytes))
        organizationId = try reader.field("organizationId")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("name", name)
        writer.field("organizationId", organizationId)
    }
}

/// A partner, an organization or a site as it is shown.
package struct Tenant: WireObject, Equatable {
    /// Its id; the kind of tenant is known from the route.
    package var id: ID<Subject.Tenant>
    /// Shown to operators.
    package var name: String
    /// The level above, if there is one.
    package var partnerId: PartnerID?
    package var organizationId: OrganizationID?
    /// When it was made.
    package var createdAt: Instant

    /// A tenant as it is shown.
    package init(
        id: UniqueID, name: String, partnerId: PartnerID? = nil, organizationId: OrganizationID? = nil,
        createdAt: Instant
    ) {
        self.id = ID(id)
        self.name = name
        self.partnerId = partnerId
        self.organizationId = organizationId
        self.createdAt = createdAt
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        name = try reader.field("name")
        partnerId = try reader.optional("partnerId")
        organizationId = try reader.optional("organizationId")
        createdAt = try reader.field("createdAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("name", name)
        writer.field("partnerId", partnerId)
        writer.field("organizationId", organizationId)
        writer.field("createdAt", createdAt)
    }
}

/// Body that makes an API key.
package struct NewAPIKey: WireObject, Equatable {
    /// Shown to operators.
    package var name: String
    /// The level that it may act on: at most one; none means the whole platform.
    package var partnerId: PartnerID?
    package var organizationId: OrganizationID?
    package var siteId: SiteID?
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
        self.partnerId = partnerId
        self.organizationId = organizationId
        self.siteId = siteId
        self.permissions = permissions
        self.expiresInSeconds = expiresInSeconds
    }

    /// Reads the fields; more than one level is refused.
    package init(from reader: inout FieldReader) throws(FieldError) {
        name = try reader.field("name", String.self, .in(Limits.nameBytes))
        partnerId = try reader.optional("partnerId")
        organizationId = try reader.optional("organizationId")
        siteId = try reader.optional("siteId")
        permissions = try reader.field("permissions", [String].self, .in(1...64, elements: 1...64))
        expiresInSeconds =
            try reader.optional("expiresInSeconds", Int.self, .in(60...31_536_000)) ?? 7_776_000
        let levels = [partnerId != nil, organizationId != nil, siteId != nil].count { $0 }
        if levels > 1 {
            throw FieldError(
                .invalid, field: reader.name(of: "partnerId"),
                "only one of partnerId, organizationId and siteId may be given")
        }
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("name", name)
        writer.field("partnerId", partnerId)
        writer.field("organizationId", organizationId)
        writer.field("siteId", siteId)
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

/// Body that makes an enrolment token.
package struct NewEnrollmentToken: WireObject, Equatable {
    /// The site that devices will belong to.
    package var siteId: SiteID
    /// Seconds until it expires; one hour unless said.
    package var expiresInSeconds: Int
    /// How many devices may enrol with it; one unless said.
    package var maxUses: Int

    /// A token to be made.
    package init(siteId: SiteID, expiresInSeconds: Int = 3_600, maxUses: Int = 1) {
        self.siteId = siteId
        self.expiresInSeconds = expiresInSeconds
        self.maxUses = maxUses
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        siteId = try reader.field("siteId")
        expiresInSeconds = try reader.optional("expiresInSeconds", Int.self, .in(1...2_592_000)) ?? 3_600
        maxUses = try reader.optional("maxUses", Int.self, .in(1...100_000)) ?? 1
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("siteId", siteId)
        writer.field("expiresInSeconds", expiresInSeconds)
        writer.field("maxUses", maxUses)
    }
}

/// A new enrolment token: the only time that its text is shown.
package struct CreatedEnrollmentToken: WireObject, Equatable {
    /// Its id.
    package var id: EnrollmentTokenID
    /// The text for `cloudrmm-agent enroll --token`.
    package var token: String
    /// When it expires.
    package var expiresAt: Instant

    /// A new token.
    package init(id: EnrollmentTokenID, token: String, expiresAt: Instant) {
        self.id = id
        self.token = token
        self.expiresAt = expiresAt
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        token = try reader.field("token")
        expiresAt = try reader.field("expiresAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("token", token)
        writer.field("expiresAt", expiresAt)
    }
}

/// A device as it is shown.
package struct Device: WireObject, Equatable {
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
    /// When it was enrolled.
    package var createdAt: Instant

    /// A device as it is shown.
    package init(
        id: DeviceID, organizationId: OrganizationID, siteId: SiteID, hostname: String, platform: String,
        agentVersion: String, online: Bool, lastSeenAt: Instant?, createdAt: Instant
    ) {
        self.id = id
        self.organizationId = organizationId
        self.siteId = siteId
        self.hostname = hostname
        self.platform = platform
        self.agentVersion = agentVersion
        self.online = online
        self.lastSeenAt = lastSeenAt
        self.createdAt = createdAt
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
        createdAt = try reader.field("createdAt")
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
        writer.field("createdAt", createdAt)
    }
}

/// Body of an agent's enrolment.
package struct NewEnrollment: WireObject, Equatable {
    /// The enrolment token's text.
    package var token: String
    /// A certificate signing request, PEM; only its public key is taken.
    package var request: String
    /// What operators see.
    package var hostname: String
    package var platform: String
    package var agentVersion: String
    /// A hint that never merges or refuses.
    package var machineId: String?

    /// An enrolment.
    package init(
        token: String, request: String, hostname: String, platform: String, agentVersion: String,
        machineId: String?
    ) {
        self.token = token
        self.request = request
        self.hostname = hostname
        self.platform = platform
        self.agentVersion = agentVersion
        self.machineId = machineId
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        token = try reader.field("token", String.self, .in(1...Limits.tokenBytesMax))
        request = try reader.field("request", String.self, .in(1...Limits.requestBytesMax))
        hostname = try reader.field("hostname", String.self, .in(1...255))
        platform = try reader.field("platform", String.self, .in(1...64))
        agentVersion = try reader.field("agentVersion", String.self, .in(1...64))
        machineId = try reader.optional("machineId", String.self, .in(1...128))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("token", token)
        writer.field("request", request)
        writer.field("hostname", hostname)
        writer.field("platform", platform)
        writer.field("agentVersion", agentVersion)
        writer.field("machineId", machineId)
    }
}

/// What an enrolled agent keeps.
package struct Enrollment: WireObject, Equatable {
    /// Who the device is and where it belongs.
    package var deviceId: DeviceID
    package var organizationId: OrganizationID
    package var deploymentId: DeploymentID
    /// Its client certificate, PEM.
    package var certificate: String
    /// The root key (32 bytes); its hash must be the token's.
    package var rootKey: Base64Bytes
    /// Key set and assignment, encoded statements.
    package var keySet: Base64Bytes
    package var assignment: Base64Bytes
    /// Where to connect.
    package var gatewayUrl: String

    /// An answer to an enrolment.
    package init(
        deviceId: DeviceID, organizationId: OrganizationID, deploymentId: DeploymentID, certificate: String,
        rootKey: [UInt8], keySet: [UInt8], assignment: [UInt8], gatewayUrl: String
    ) {
        self.deviceId = deviceId
        self.organizationId = organizationId
        self.deploymentId = deploymentId
        self.certificate = certificate
        self.rootKey = Base64Bytes(rootKey)
        self.keySet = Base64Bytes(keySet)
        self.assignment = Base64Bytes(assignment)
        self.gatewayUrl = gatewayUrl
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        deviceId = try reader.field("deviceId")
        organizationId = try reader.field("organizationId")
        deploymentId = try reader.field("deploymentId")
        certificate = try reader.field("certificate")
        rootKey = try reader.field("rootKey", Base64Bytes.self, .in(32...32))
        keySet = try reader.field("keySet")
        assignment = try reader.field("assignment")
        gatewayUrl = try reader.field("gatewayUrl")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("deviceId", deviceId)
        writer.field("organizationId", organizationId)
        writer.field("deploymentId", deploymentId)
        writer.field("certificate", certificate)
        writer.field("rootKey", rootKey)
        writer.field("keySet", keySet)
        writer.field("assignment", assignment)
        writer.field("gatewayUrl", gatewayUrl)
    }
}
