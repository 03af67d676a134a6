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
    /// How its last session ended, for who holds none; and its clock less its gateway's, in milliseconds.
    package var departure = Departure.vanished
    package var clockSkewMilliseconds: Int?
    /// What people call it, and how they sort it; custom fields are JSON as the API wrote it.
    package var displayName: String?
    package var tags: [String]
    package var customFields: String
    /// Whether it may hold a session.
    package var state: DeviceState
    /// How often people edited it, from 1.
    package var version: Int
    /// When it was enrolled, and edited last.
    package let createdAt: Instant
    package let updatedAt: Instant
}

/// Which devices a list shows.
package struct DeviceFilter: Sendable {
    /// Those of an organization, a site, or with a tag.
    package var organization: OrganizationID?
    package var site: SiteID?
    package var tag: String?
    /// Those of a platform, of a state, or with this in host name or display name, whatever the case.
    package var platform: String?
    package var state: DeviceState?
    package var text: String?

    /// Those of an organization or a site, or all.
    package init(organization: OrganizationID? = nil, site: SiteID? = nil) {
        self.organization = organization
        self.site = site
    }

    /// The conditions, each after an AND.
    var conditions: SQL {
        var parts: [SQL] = []
        if let organization { parts.append("AND d.organization_id = \(organization)") }
        if let site { parts.append("AND d.site_id = \(site)") }
        if let tag {
            parts.append(
                """
                AND EXISTS (SELECT FROM device_tags g
                            WHERE g.organization_id = d.organization_id AND g.device_id = d.id
                              AND g.tag = \(tag))
                """)
        }
        if let platform { parts.append("AND d.platform = \(platform)") }
        if let state { parts.append("AND d.state = \(state)") }
        if let text {
            parts.append(
                """
                AND (strpos(lower(d.hostname), lower(\(text))) > 0
                     OR strpos(lower(d.display_name), lower(\(text))) > 0)
                """)
        }
        return .joined(parts, separator: " ")
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
    package let organization: OrganizationID
    package let site: SiteID
    /// Its pinned key, and its assignment as an encoded statement.
    package let keyHash: [UInt8]
    package let assignment: [UInt8]
    package let assignmentVersion: Int
    /// How far its journal was, by the last word that was written.
    package let journal: JournalPlace
    /// Whether the device may hold a session: neither it nor a level above it is archived.
    package let isActive: Bool
    /// Whether the certificate of this serial may be used, and until when.
    package let certificateRevoked: Bool
    package let certificateEnd: Instant
}

extension Ledger {
    /// The devices that the scope sees and the filter lets through, by id.
    package func devices(
        _ filter: DeviceFilter, _ page: PageRequest, scope: Scope
    ) async throws -> [DeviceRow] {
        try await pool.query(
            """
            SELECT \(fragment: Self.deviceColumns) FROM devices d
            WHERE \(fragment: page.isAfter("d.id")) \(fragment: filter.conditions)
            \(fragment: page.order(by: "d.id"))
            """, scope: scope, decode: Self.device)
    }

    /// One device, if the scope sees it.
    package func device(_ id: DeviceID, scope: Scope) async throws -> DeviceRow? {
        try await pool.query(
            "SELECT \(fragment: Self.deviceColumns) FROM devices d WHERE d.id = \(id)", scope: scope,
            decode: Self.device
        ).first
    }

    /// Writes what people say of a device, if it is still of the version before; `nil` if not.
    package func updateDevice(_ row: DeviceRow, scope: Scope) async throws -> DeviceRow? {
        let results = try await pool.pipeline(
            scope: scope,
            [
                """
                UPDATE devices
                SET display_name = \(row.displayName), custom_fields = \(row.customFields),
                    state = \(row.state), version = \(row.version), updated_at = now()
                WHERE organization_id = \(row.organization) AND id = \(row.id)
                  AND version = \(row.version) - 1
                """,
                """
                DELETE FROM device_tags g USING devices d
                WHERE g.organization_id = \(row.organization) AND g.device_id = \(row.id)
                  AND d.organization_id = g.organization_id AND d.id = g.device_id
                  AND d.version = \(row.version) AND NOT g.tag = ANY(\(row.tags))
                """,
                """
                INSERT INTO device_tags (organization_id, tag, device_id, site_id)
                SELECT d.organization_id, t.tag, d.id, d.site_id
                FROM devices d, unnest(\(row.tags)) AS t(tag)
                WHERE d.organization_id = \(row.organization) AND d.id = \(row.id)
                  AND d.version = \(row.version)
                ON CONFLICT DO NOTHING
                """,
                """
                SELECT \(fragment: Self.deviceColumns) FROM devices d
                WHERE d.organization_id = \(row.organization) AND d.id = \(row.id)
                """,
            ])
        guard results[0].affected > 0 else { return nil }
        return try results[3].rows.map(Self.device).first
    }

    /// What is known of a device and its certificate; `nil` if either does not exist.
    ///
    /// A certificate names the organization that the device belonged to when it was issued. A device that was
    /// moved since is found by its id, wherever it is now.
    package func identity(
        _ device: DeviceID, organization: OrganizationID, certificateSerial: String
    ) async throws -> DeviceIdentity? {
        for scope in [Scope.organization(organization), .platform] {
            let place: SQL = scope == .platform ? "" : "d.organization_id = \(organization) AND"
            let found = try await pool.grouped(
                """
                SELECT d.organization_id, d.site_id, d.key_hash, d.assignment, d.assignment_version,
                       d.journal_copy, d.journal_position, d.state = 0 AND s.state = 0 AND NOT s.closed,
                       c.revoked_at IS NOT NULL, c.not_after
                FROM (SELECT * FROM devices d WHERE \(fragment: place) d.id = \(device) OFFSET 0) d
                CROSS JOIN LATERAL (
                    SELECT * FROM certificates c
                    WHERE c.organization_id = d.organization_id AND c.serial = \(certificateSerial)
                      AND c.device_id = d.id OFFSET 0
                ) c
                CROSS JOIN LATERAL (
                    SELECT s.state, s.closed FROM sites s
                    WHERE s.organization_id = d.organization_id AND s.id = d.site_id OFFSET 0
                ) s
                """, scope: scope, decode: Self.deviceIdentity)
            if let identity = found.first { return identity }
        }
        return nil
    }

    @Sendable private static func deviceIdentity(_ row: PostgresRow) throws -> DeviceIdentity {
        let (organization, site, keyHash, assignment, version, copy, position, isActive, isRevoked, end) =
            try row.decode(
                (
                    OrganizationID, SiteID, PostgresData, PostgresData, Int32, Int32, Int, Bool, Bool, Instant
                ).self)
        return DeviceIdentity(
            organization: organization, site: site, keyHash: keyHash.bytes, assignment: assignment.bytes,
            assignmentVersion: Int(version),
            journal: JournalPlace(copy: Int(copy), position: position), isActive: isActive,
            certificateRevoked: isRevoked, certificateEnd: end)
    }

    /// Those of the devices that may hold no session any more where they are said to be: suspended, archived
    /// with or without a level above, moved to another organization, without a certificate that is good, or
    /// gone.
    package func unwelcome(
        _ devices: [(organization: OrganizationID, device: DeviceID)]
    ) async throws -> [DeviceID] {
        guard !devices.isEmpty else { return [] }
        return try await Self.inBatches(devices) { devices in
            try await pool.query(
                """
                SELECT i.id FROM unnest(\(devices.map(\.organization)), \(devices.map(\.device)))
                    AS i(organization_id, id)
                LEFT JOIN LATERAL (
                    SELECT * FROM devices d
                    WHERE d.organization_id = i.organization_id AND d.id = i.id OFFSET 0
                ) d ON true
                LEFT JOIN LATERAL (
                    SELECT s.state, s.closed FROM sites s
                    WHERE s.organization_id = d.organization_id AND s.id = d.site_id OFFSET 0
                ) s ON true
                LEFT JOIN LATERAL (
                    SELECT true AS is_good FROM certificates c
                    WHERE \(fragment: Self.isGood(device: "i.id", organization: "i.organization_id"))
                    LIMIT 1
                ) c ON true
                WHERE (d.state = 0 AND s.state = 0 AND NOT s.closed AND c.is_good) IS NOT TRUE
                """, scope: .organizations(devices.map(\.organization))
            ) { row in try row.decode(DeviceID.self) }
        }
    }

    /// Notes what a hello said of the device; a session's end notes only the time.
    package func seen(
        _ device: DeviceID, organization: OrganizationID, hostname: String, platform: String,
        agentVersion: String, clockSkewMilliseconds: Int?
    ) async throws {
        _ = try await pool.grouped(
            """
            UPDATE devices SET hostname = \(hostname), platform = \(platform),
                   agent_version = \(agentVersion), last_seen_at = now(), departure = NULL,
                   clock_skew_ms = \(clockSkewMilliseconds)
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

    /// Notes the end of a device's session, and how it went.
    package func left(
        _ device: DeviceID, organization: OrganizationID, departure: Departure
    ) async throws {
        let departure = departure == .vanished ? nil : departure.rawValue
        _ = try await pool.grouped(
            """
            UPDATE devices SET last_seen_at = now(), departure = \(departure)
            WHERE organization_id = \(organization) AND id = (
                -- A row that somebody writes just now is noted by them, and is not waited for: a group
                -- commits devices in the order in which they come.
                SELECT id FROM devices WHERE organization_id = \(organization) AND id = \(device)
                FOR UPDATE SKIP LOCKED)
            """, scope: .organization(organization)
        ) { _ in 0 }
    }

    private static let deviceColumns: SQL = """
        d.id, d.organization_id, d.site_id, d.hostname, d.platform, d.agent_version, d.last_seen_at,
        d.display_name,
        ARRAY(SELECT g.tag FROM device_tags g
              WHERE g.organization_id = d.organization_id AND g.device_id = d.id ORDER BY g.tag),
        d.custom_fields, d.state, d.version, d.created_at, d.updated_at, d.departure, d.clock_skew_ms
        """

    @Sendable private static func device(_ row: PostgresRow) throws -> DeviceRow {
        let (
            id, organization, site, hostname, platform, agentVersion, lastSeenAt, displayName, tags,
            customFields, state, version, createdAt, updatedAt, departure, clockSkew
        ) = try row.decode(
            (
                DeviceID, OrganizationID, SiteID, String, String, String, Instant?, String?, [String], String,
                DeviceState, Int, Instant, Instant, Int16?, Int?
            ).self)
        return DeviceRow(
            id: id, organization: organization, site: site, hostname: hostname, platform: platform,
            agentVersion: agentVersion, lastSeenAt: lastSeenAt,
            departure: departure.flatMap(Departure.init) ?? .vanished, clockSkewMilliseconds: clockSkew,
            displayName: displayName, tags: tags,
            customFields: customFields, state: state, version: version, createdAt: createdAt,
            updatedAt: updatedAt)
    }
}

extension DeviceState: SmallintCoded {}
