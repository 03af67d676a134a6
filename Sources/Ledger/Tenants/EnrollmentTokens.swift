package import Domain
package import Postgres

/// A row of `enrollment_tokens`. The token itself is a signed statement, and what it says is judged by that;
/// the row counts uses and can only take power away.
package struct EnrollmentTokenRow: Sendable {
    /// Its id, and the site that devices will belong to.
    package let id: EnrollmentTokenID
    package let organization: OrganizationID
    package let site: SiteID
    /// When it expires, and since when it is revoked.
    package let expiresAt: Instant
    package let revokedAt: Instant?
    /// How many devices may enrol with it, and how many have.
    package let usesMax: Int
    package let uses: Int
    /// Who made it, and when.
    package let createdBy: PrincipalID?
    package let createdAt: Instant
}

/// What the API hands to the ledger to enrol one device.
package struct EnrolledDevice: Sendable {
    /// The token that is used up by one.
    package var token: EnrollmentTokenID
    package var tokenHash: [UInt8]
    /// Who the device is and where it belongs, as the token says.
    package var device: DeviceID
    package var organization: OrganizationID
    package var site: SiteID
    /// What its agent says of itself.
    package var hostname: String
    package var platform: String
    package var agentVersion: String
    package var machineID: String?
    /// SHA-256 of its public key, its certificate's serial and end, its encoded assignment.
    package var keyHash: [UInt8]
    package var certificateSerial: String
    package var certificateEnd: Instant
    package var assignment: [UInt8]
    /// The MAC of where it belongs.
    package var mac: RowMAC

    /// An enrolment.
    package init(
        token: EnrollmentTokenID, tokenHash: [UInt8], device: DeviceID, organization: OrganizationID,
        site: SiteID,
        hostname: String, platform: String, agentVersion: String, machineID: String?, keyHash: [UInt8],
        certificateSerial: String, certificateEnd: Instant, assignment: [UInt8], mac: RowMAC
    ) {
        self.token = token
        self.tokenHash = tokenHash
        self.device = device
        self.organization = organization
        self.site = site
        self.hostname = hostname
        self.platform = platform
        self.agentVersion = agentVersion
        self.machineID = machineID
        self.keyHash = keyHash
        self.certificateSerial = certificateSerial
        self.certificateEnd = certificateEnd
        self.assignment = assignment
        self.mac = mac
    }
}

extension Ledger {
    /// Keeps a new enrolment token.
    package func createEnrollmentToken(
        _ id: EnrollmentTokenID, site: SitePlace, hash: [UInt8], expiresInSeconds: Int, usesMax: Int,
        by principal: PrincipalID, signedBy keyID: [UInt8]? = nil, scope: Scope
    ) async throws {
        try await pool.execute(
            """
            INSERT INTO enrollment_tokens (organization_id, id, site_id, token_hash, expires_at, uses_max,
                                           created_by, signed_by)
            VALUES (\(site.organization), \(id), \(site.site), \(PostgresData(hash)),
                    now() + make_interval(secs => \(Double(expiresInSeconds))), \(Int32(usesMax)),
                    \(principal), \(keyID.map(PostgresData.init)))
            """, scope: scope)
    }

    /// Uses a token once and keeps the device and its certificate, in one transaction; `false` if the token
    /// is unknown, expired, revoked or used up.
    package func enroll(_ device: EnrolledDevice) async throws -> Bool {
        let kept = try await pool.query(
            """
            WITH used AS (
                UPDATE enrollment_tokens SET uses = uses + 1
                WHERE organization_id = \(device.organization) AND id = \(device.token)
                  AND site_id = \(device.site) AND token_hash = \(PostgresData(device.tokenHash))
                  AND uses < uses_max AND expires_at > now() AND revoked_at IS NULL
                RETURNING organization_id, site_id
            ), made AS (
                INSERT INTO devices (organization_id, id, site_id, hostname, platform, agent_version,
                                     machine_id, key_hash, assignment, assignment_version, mac_key, mac)
                SELECT organization_id, \(device.device), site_id, \(device.hostname), \(device.platform),
                       \(device.agentVersion), \(device.machineID), \(PostgresData(device.keyHash)),
                       \(PostgresData(device.assignment)), 1, \(device.mac.keyID),
                       \(PostgresData(device.mac.code))
                FROM used
                RETURNING organization_id, id
            )
            INSERT INTO certificates (organization_id, device_id, serial, key_hash, not_after)
            SELECT organization_id, id, \(device.certificateSerial), \(PostgresData(device.keyHash)),
                   \(device.certificateEnd)
            FROM made
            RETURNING device_id
            """, scope: .organization(device.organization)
        ) { row in try row.decode(DeviceID.self) }
        return !kept.isEmpty
    }

    /// The tokens that the scope sees, of an organization or a site if one is given, by id.
    package func enrollmentTokens(
        organization: OrganizationID?, site: SiteID?, _ page: PageRequest, scope: Scope
    ) async throws -> [EnrollmentTokenRow] {
        let ofOrganization: SQL = organization.map { "AND t.organization_id = \($0)" } ?? ""
        let ofSite: SQL = site.map { "AND t.site_id = \($0)" } ?? ""
        return try await pool.query(
            """
            SELECT \(fragment: Self.tokenColumns) FROM enrollment_tokens t
            WHERE \(fragment: page.isAfter("t.id")) \(fragment: ofOrganization) \(fragment: ofSite)
            \(fragment: page.order(by: "t.id"))
            """, scope: scope, decode: Self.token)
    }

    /// One token, if the scope sees it.
    package func enrollmentToken(
        _ id: EnrollmentTokenID, scope: Scope
    ) async throws -> EnrollmentTokenRow? {
        try await pool.query(
            "SELECT \(fragment: Self.tokenColumns) FROM enrollment_tokens t WHERE t.id = \(id)",
            scope: scope, decode: Self.token
        ).first
    }

    /// Notes that a token that the scope sees is revoked, unless it was before.
    package func revokeEnrollmentToken(_ id: EnrollmentTokenID, scope: Scope) async throws {
        try await pool.execute(
            "UPDATE enrollment_tokens SET revoked_at = now() WHERE id = \(id) AND revoked_at IS NULL",
            scope: scope)
    }

    private static let tokenColumns: SQL = """
        t.id, t.organization_id, t.site_id, t.expires_at, t.revoked_at, t.uses_max, t.uses, t.created_by,
        t.created_at
        """

    @Sendable private static func token(_ row: PostgresRow) throws -> EnrollmentTokenRow {
        let (id, organization, site, expiresAt, revokedAt, usesMax, uses, createdBy, createdAt) =
            try row.decode(
                (
                    EnrollmentTokenID, OrganizationID, SiteID, Instant, Instant?, Int32, Int32, PrincipalID?,
                    Instant
                ).self)
        return EnrollmentTokenRow(
            id: id, organization: organization, site: site, expiresAt: expiresAt, revokedAt: revokedAt,
            usesMax: Int(usesMax), uses: Int(uses), createdBy: createdBy, createdAt: createdAt)
    }
}
