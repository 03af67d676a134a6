package import Domain
package import Postgres

/// A row of `devices` as lists show it.
package struct DeviceRow: Sendable {
    /// Who it is and where it belongs.
    package let id: DeviceID
    package let organization: OrganizationID
    package let site: SiteID
    /// What its agent said last.
    package let hostname: String
    package let platform: String
    package let agentVersion: String
    package let lastSeenAt: Instant?
    /// When it was enrolled.
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

/// How far a device's journal is. A position counts within one copy of the journal.
package struct JournalPlace: Sendable, Hashable, Comparable {
    /// How often the journal was restored from a copy.
    package var copy: Int
    /// Entries ever written to it.
    package var position: Int

    /// A place in a journal.
    package init(copy: Int, position: Int) {
        self.copy = copy
        self.position = position
    }

    /// By copy, then by position.
    package static func < (a: JournalPlace, b: JournalPlace) -> Bool {
        (a.copy, a.position) < (b.copy, b.position)
    }
}

/// What a gateway needs to know of a device that shows a certificate.
package struct DeviceIdentity: Sendable {
    /// Where it belongs.
    package let site: SiteID
    /// Its pinned key, and its assignment as an encoded statement.
    package let keyHash: [UInt8]
    package let assignment: [UInt8]
    package let assignmentVersion: Int
    /// How far its journal was, by the last word that was written.
    package let journal: JournalPlace
    /// Whether the device may hold a session.
    package let isActive: Bool
    /// Whether the certificate of this serial may be used, and until when.
    package let certificateRevoked: Bool
    package let certificateEnd: Instant
}

extension Ledger {
    /// Keeps a new enrolment token.
    package func createEnrollmentToken(
        _ id: EnrollmentTokenID, site: SitePlace, hash: [UInt8], expiresInSeconds: Int, usesMax: Int,
        by principal: APIKeyID,
        scope: Scope
    ) async throws {
        try await pool.execute(
            """
            INSERT INTO enrollment_tokens (organization_id, id, site_id, token_hash, expires_at, uses_max,
                                           created_by)
            VALUES (\(site.organization), \(id), \(site.site), \(PostgresData(hash)),
                    now() + make_interval(secs => \(Double(expiresInSeconds))), \(Int32(usesMax)),
                    \(principal))
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

    /// The devices that the scope sees, by id, optionally of one organization or site.
    package func devices(
        organization: OrganizationID?, site: SiteID?, _ page: PageRequest, scope: Scope
    ) async throws -> [DeviceRow] {
        try await pool.query(
            """
            SELECT id, organization_id, site_id, hostname, platform, agent_version, last_seen_at, created_at
            FROM devices
            WHERE id > \(page.afterID)
              AND (\(organization)::uuid IS NULL OR organization_id = \(organization))
              AND (\(site)::uuid IS NULL OR site_id = \(site))
            ORDER BY id LIMIT \(page.limit)
            """, scope: scope, decode: Self.device)
    }

    /// One device, if the scope sees it.
    package func device(_ id: DeviceID, scope: Scope) async throws -> DeviceRow? {
        try await pool.query(
            """
            SELECT id, organization_id, site_id, hostname, platform, agent_version, last_seen_at, created_at
            FROM devices
            WHERE id = \(id)
            """, scope: scope, decode: Self.device
        ).first
    }

    /// What is known of a device and its certificate; `nil` if either does not exist.
    package func identity(
        _ device: DeviceID, organization: OrganizationID, certificateSerial: String
    ) async throws -> DeviceIdentity? {
        try await pool.grouped(
            """
            SELECT d.site_id, d.key_hash, d.assignment, d.assignment_version, d.journal_copy,
                   d.journal_position, d.state = 0, c.revoked_at IS NOT NULL, c.not_after
            FROM devices d
            JOIN certificates c ON c.organization_id = d.organization_id AND c.device_id = d.id
            WHERE d.organization_id = \(organization) AND d.id = \(device) AND c.serial = \(certificateSerial)
            """, scope: .organization(organization)
        ) { row in
            let (site, keyHash, assignment, version, copy, position, isActive, isRevoked, end) =
                try row.decode(
                    (SiteID, PostgresData, PostgresData, Int32, Int32, Int, Bool, Bool, Instant).self)
            return DeviceIdentity(
                site: site, keyHash: keyHash.bytes, assignment: assignment.bytes,
                assignmentVersion: Int(version),
                journal: JournalPlace(copy: Int(copy), position: position), isActive: isActive,
                certificateRevoked: isRevoked, certificateEnd: end)
        }.first
    }

    /// Notes what a hello said of the device; a session's end notes only the time.
    package func seen(
        _ device: DeviceID, organization: OrganizationID, hostname: String, platform: String,
        agentVersion: String
    ) async throws {
        _ = try await pool.grouped(
            """
            UPDATE devices SET hostname = \(hostname), platform = \(platform),
                   agent_version = \(agentVersion), last_seen_at = now()
            WHERE organization_id = \(organization) AND id = \(device)
            """, scope: .organization(organization)
        ) { _ in 0 }
    }

    /// Notes how far devices' journals have come; they only rise, and what is said of an earlier copy counts
    /// for nothing. Returns what is done with: a device whose row somebody writes just now is left to the
    /// next call, and is not waited for.
    package func note(
        journals: [(organization: OrganizationID, device: DeviceID, place: JournalPlace)]
    ) async throws -> [DeviceID: JournalPlace] {
        let rows = try await Self.inBatches(journals) { journals in
            try await pool.query(
                """
                WITH locked AS MATERIALIZED (
                    SELECT d.organization_id, d.id, i.copy, i.position
                    FROM unnest(\(journals.map(\.organization)), \(journals.map(\.device)),
                                \(journals.map { Int32($0.place.copy) }), \(journals.map(\.place.position)))
                        AS i(organization_id, id, copy, position)
                    CROSS JOIN LATERAL (
                        SELECT * FROM devices d
                        WHERE d.organization_id = i.organization_id AND d.id = i.id
                        OFFSET 0 FOR UPDATE SKIP LOCKED
                    ) d
                )
                UPDATE devices d SET journal_position = CASE d.journal_copy WHEN l.copy
                    THEN greatest(d.journal_position, l.position) ELSE d.journal_position END
                FROM locked l
                -- As `isLocked` says it of a run; an index of devices leads with the organization.
                WHERE d.organization_id = ANY (ARRAY[l.organization_id]) AND d.id = ANY (ARRAY[l.id])
                RETURNING d.id, l.copy, l.position
                """, scope: .organizations(journals.map(\.organization))
            ) { row in
                let (device, copy, position) = try row.decode((DeviceID, Int32, Int).self)
                return (device, JournalPlace(copy: Int(copy), position: position))
            }
        }
        return Dictionary(rows) { $1 }
    }

    /// Notes that a device's journal was restored from a copy, which begins at this place; once for each
    /// copy, and only when what the copy has forgotten is settled.
    package func restored(
        _ device: DeviceID, organization: OrganizationID, place: JournalPlace
    ) async throws {
        try await pool.execute(
            """
            UPDATE devices SET journal_copy = \(Int32(place.copy)), journal_position = \(place.position)
            WHERE organization_id = \(organization) AND id = \(device)
              AND journal_copy < \(Int32(place.copy))
            """, scope: .organization(organization))
    }

    /// Notes the end of a device's session.
    package func left(_ device: DeviceID, organization: OrganizationID) async throws {
        _ = try await pool.grouped(
            """
            UPDATE devices SET last_seen_at = now()
            WHERE organization_id = \(organization) AND id = (
                -- A row that somebody writes just now is noted by them, and is not waited for: a group
                -- commits devices in the order in which they come.
                SELECT id FROM devices WHERE organization_id = \(organization) AND id = \(device)
                FOR UPDATE SKIP LOCKED)
            """, scope: .organization(organization)
        ) { _ in 0 }
    }

    @Sendable private static func device(_ row: PostgresRow) throws -> DeviceRow {
        let (id, organization, site, hostname, platform, agentVersion, lastSeenAt, createdAt) =
            try row.decode(
                (DeviceID, OrganizationID, SiteID, String, String, String, Instant?, Instant).self)
        return DeviceRow(
            id: id, organization: organization, site: site, hostname: hostname, platform: platform,
            agentVersion: agentVersion, lastSeenAt: lastSeenAt, createdAt: createdAt)
    }
}
