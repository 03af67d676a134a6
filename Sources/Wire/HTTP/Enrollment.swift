package import Domain

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

/// An enrolment token, but for its text.
package struct EnrollmentToken: WireObject, Equatable {
    /// Its id, and the site that devices will belong to.
    package var id: EnrollmentTokenID
    package var organizationId: OrganizationID
    package var siteId: SiteID
    /// When it expires, and since when it is revoked.
    package var expiresAt: Instant
    package var revokedAt: Instant?
    /// How many devices may enrol with it, and how many have.
    package var maxUses: Int
    package var uses: Int
    /// Who made it, and when.
    package var createdBy: PrincipalID?
    package var createdAt: Instant

    /// A token that was made.
    package init(
        id: EnrollmentTokenID, organizationId: OrganizationID, siteId: SiteID, expiresAt: Instant,
        revokedAt: Instant?, maxUses: Int, uses: Int, createdBy: PrincipalID?, createdAt: Instant
    ) {
        self.id = id
        self.organizationId = organizationId
        self.siteId = siteId
        self.expiresAt = expiresAt
        self.revokedAt = revokedAt
        self.maxUses = maxUses
        self.uses = uses
        self.createdBy = createdBy
        self.createdAt = createdAt
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        organizationId = try reader.field("organizationId")
        siteId = try reader.field("siteId")
        expiresAt = try reader.field("expiresAt")
        revokedAt = try reader.optional("revokedAt")
        maxUses = try reader.field("maxUses")
        uses = try reader.field("uses")
        createdBy = try reader.optional("createdBy")
        createdAt = try reader.field("createdAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("organizationId", organizationId)
        writer.field("siteId", siteId)
        writer.field("expiresAt", expiresAt)
        writer.field("revokedAt", revokedAt)
        writer.field("maxUses", maxUses)
        writer.field("uses", uses)
        writer.field("createdBy", createdBy)
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
