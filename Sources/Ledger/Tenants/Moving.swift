package import Domain
package import Postgres

/// What a device carries when it moves: its assignment as the rows have it.
package struct Assigned: Sendable {
    /// Which device, and where it is.
    package let device: DeviceID
    package let organization: OrganizationID
    package let site: SiteID
    /// Its assignment as an encoded statement, to be verified before anything is taken from it.
    package let assignment: [UInt8]
    package let version: Int
}

/// A device with the assignment that it gets.
package struct Reassigned: Sendable {
    /// What it had, which must still be so.
    package let before: Assigned
    /// The new assignment as an encoded statement, its version one higher, and the MAC of where it belongs
    /// then.
    package let assignment: [UInt8]
    package let mac: RowMAC

    /// A device's new assignment.
    package init(before: Assigned, assignment: [UInt8], mac: RowMAC) {
        self.before = before
        self.assignment = assignment
        self.mac = mac
    }
}

extension Ledger {
    /// The assignments of those of the devices that the scope sees.
    package func assigned(_ devices: [DeviceID], scope: Scope) async throws -> [Assigned] {
        try await pool.query(
            """
            SELECT d.id, d.organization_id, d.site_id, d.assignment, d.assignment_version
            FROM unnest(\(devices)) AS i(id)
            CROSS JOIN LATERAL (SELECT * FROM devices d WHERE d.id = i.id OFFSET 0) d
            """, scope: scope
        ) { row in
            let (device, organization, site, assignment, version) = try row.decode(
                (DeviceID, OrganizationID, SiteID, PostgresData, Int32).self)
            return Assigned(
                device: device, organization: organization, site: site, assignment: assignment.bytes,
                version: Int(version))
        }
    }

    /// Puts devices at a site with new assignments, in one transaction; those of one call come from one
    /// organization. A device that has moved meanwhile stays where it is.
    ///
    /// Certificates and tags follow a device. Its runs stay with the organization for which they were made;
    /// if that is another one now, those that were not sent end, and the others get the request to be
    /// cancelled.
    /// - Returns: the devices that moved, the runs that ended, and those whose gateways are to be told.
    package func reassign(
        _ devices: [Reassigned], to place: SitePlace
    ) async throws -> (moved: Set<DeviceID>, ended: [SettledRun], sent: [CancelledRun]) {
        guard let from = devices.first?.before.organization else { return ([], [], []) }
        // Of devices that have left by the statement before.
        let left: SQL = """
            SELECT r.organization_id, r.id FROM runs r
            WHERE r.organization_id = \(from) AND r.organization_id <> \(place.organization)
              AND r.device_id = ANY (\(devices.map(\.before.device)))
              AND EXISTS (SELECT FROM devices d
                          WHERE d.organization_id = \(place.organization) AND d.id = r.device_id)
            """
        let results = try await pool.pipeline(
            scope: .organizations([from, place.organization]),
            [
                """
                UPDATE devices d
                SET organization_id = \(place.organization), site_id = \(place.site),
                    assignment = i.assignment, assignment_version = i.version, mac_key = i.mac_key,
                    mac = i.mac, version = d.version + 1, updated_at = now()
                FROM unnest(
                    \(devices.map(\.before.device)), \(devices.map(\.before.site)),
                    \(devices.map { PostgresData($0.assignment) }),
                    \(devices.map { Int32($0.before.version + 1) }), \(devices.map(\.mac.keyID)),
                    \(devices.map { PostgresData($0.mac.code) })
                ) AS i(id, site_id, assignment, version, mac_key, mac), sites s
                WHERE d.organization_id = \(from) AND d.id = i.id AND d.site_id = i.site_id
                  AND d.assignment_version = i.version - 1
                  AND s.organization_id = \(place.organization) AND s.id = \(place.site) AND s.state = 0
                  AND NOT s.closed
                RETURNING d.id
                """,
                """
                UPDATE device_tags SET site_id = \(place.site)
                WHERE organization_id = \(place.organization)
                  AND device_id = ANY (\(devices.map(\.before.device)))
                  AND site_id <> \(place.site)
                  AND EXISTS (SELECT FROM devices d
                              WHERE d.organization_id = device_tags.organization_id
                                AND d.id = device_tags.device_id AND d.site_id = \(place.site))
                """,
                """
                WITH locked AS MATERIALIZED (
                    \(fragment: left) AND r.sent_at IS NULL ORDER BY r.id FOR UPDATE OF r
                ), ended AS MATERIALIZED (
                    SELECT organization_id, id, 13::smallint AS outcome, 'moved'::text AS reason FROM locked
                ), \(fragment: Self.endWithoutWord)
                """,
                """
                WITH locked AS MATERIALIZED (
                    \(fragment: left) AND r.sent_at IS NOT NULL AND r.cancel_requested_at IS NULL
                    ORDER BY r.id FOR UPDATE OF r
                )
                UPDATE runs r SET cancel_requested_at = now(), deadline = now() + interval '2 minutes'
                FROM locked l WHERE \(fragment: Self.isLocked)
                RETURNING r.organization_id, r.job_id, r.id, r.device_id, r.attempt, r.token
                """,
            ])
        return (
            Set(try results[0].rows.map { try $0.decode(DeviceID.self) }),
            try results[2].rows.map(Self.settledRun), try results[3].rows.map(Self.cancelledRun)
        )
    }

    /// Puts an organization below another partner that is in use, with the MAC of that; `false` if somebody
    /// else has edited it meanwhile.
    package func moveOrganization(
        _ id: OrganizationID, to partner: PartnerID, mac: RowMAC, version: Int
    ) async throws -> Bool {
        try await pool.execute(
            """
            UPDATE organizations o
            SET partner_id = p.id, mac_key = \(mac.keyID), mac = \(PostgresData(mac.code)),
                version = o.version + 1, updated_at = now()
            FROM (SELECT id FROM partners WHERE id = \(partner) AND state = 0 FOR SHARE) p
            WHERE o.id = \(id) AND o.version = \(version) AND o.state < 2
            """, scope: .platform) > 0
    }
}
