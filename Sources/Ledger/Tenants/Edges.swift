package import Domain
package import Postgres

/// A site with the levels above it, as the rows say it.
package struct SitePlace: Sendable {
    /// The site.
    package let site: SiteID
    /// Its organization.
    package let organization: OrganizationID
    /// Its partner; `nil` in a site's scope, which does not see that far up.
    package let partner: PartnerID?
    /// The edges from the site upwards, as far as the scope sees, each to be judged by its MAC.
    package let edges: [SealedEdge]
}

/// Where a device belongs, as its row says it.
package struct DevicePlace: Sendable {
    /// The device's own edge, to be judged by its MAC.
    package let edge: SealedEdge
    /// The device's site, with its own edges.
    package let site: SitePlace
}

extension Ledger {
    /// A partner's edge; none if the scope does not see the partner.
    package func edges(of partner: PartnerID, scope: Scope) async throws -> [SealedEdge] {
        try await pool.query(
            "SELECT mac_key, mac, state <> 0 FROM partners WHERE id = \(partner)", scope: scope
        ) { row in
            let (keyID, code, isArchived) = try row.decode((String, PostgresData, Bool).self)
            return SealedEdge(
                .partner(partner), RowMAC(keyID: keyID, code: code.bytes), isArchived: isArchived)
        }
    }

    /// The edges from an organization upwards, as far as the scope sees; none if it does not see the
    /// organization.
    package func edges(of organization: OrganizationID, scope: Scope) async throws -> [SealedEdge] {
        try await pool.query(
            """
            SELECT o.partner_id, o.mac_key, o.mac, o.state <> 0 OR o.closed, p.mac_key, p.mac
            FROM organizations o
            LEFT JOIN partners p ON p.id = o.partner_id
            WHERE o.id = \(organization) AND o.state < 2
            """, scope: scope
        ) { row in
            let (partner, keyID, code, isArchived, partnerKeyID, partnerCode) = try row.decode(
                (PartnerID, String, PostgresData, Bool, String?, PostgresData?).self)
            return [
                SealedEdge(
                    .organization(organization, of: partner), RowMAC(keyID: keyID, code: code.bytes),
                    isArchived: isArchived)
            ]
                + Self.edge(.partner(partner), partnerKeyID, partnerCode)
        }.first ?? []
    }

    /// The edges from each of these organizations upwards, as far as the scope sees.
    package func edges(
        of organizations: Set<OrganizationID>, scope: Scope
    ) async throws -> [OrganizationID: [SealedEdge]] {
        let found = try await pool.query(
            """
            SELECT o.id, o.partner_id, o.mac_key, o.mac, p.mac_key, p.mac
            FROM organizations o
            LEFT JOIN partners p ON p.id = o.partner_id
            WHERE o.id = ANY(\(Array(organizations)))
            """, scope: scope
        ) { row in
            let (id, partner, keyID, code, partnerKeyID, partnerCode) = try row.decode(
                (OrganizationID, PartnerID, String, PostgresData, String?, PostgresData?).self)
            let own = SealedEdge(.organization(id, of: partner), RowMAC(keyID: keyID, code: code.bytes))
            return (id, [own] + Self.edge(.partner(partner), partnerKeyID, partnerCode))
        }
        return Dictionary(found) { first, _ in first }
    }

    /// Where a site belongs, if the scope sees it.
    package func site(_ id: SiteID, scope: Scope) async throws -> SitePlace? {
        try await pool.query(
            Self.sites("SELECT \(id)::uuid"), scope: scope, decode: Self.sitePlace
        ).first
    }

    /// The places of those of the devices that the scope sees.
    package func places(of devices: [DeviceID], scope: Scope) async throws -> [DeviceID: DevicePlace] {
        let results = try await pool.pipeline(
            scope: scope,
            [
                """
                SELECT d.id, d.organization_id, d.site_id, d.mac_key, d.mac, d.state = 2
                FROM \(fragment: Self.named(devices))
                """,
                Self.sites("SELECT DISTINCT d.site_id FROM \(fragment: Self.named(devices))"),
            ])
        let sites = Dictionary(
            uniqueKeysWithValues: try results[1].rows.map(Self.sitePlace).map { ($0.site, $0) })
        var places: [DeviceID: DevicePlace] = [:]
        for row in results[0].rows {
            let (device, organization, site, keyID, code, isArchived) = try row.decode(
                (DeviceID, OrganizationID, SiteID, String, PostgresData, Bool).self)
            // A device whose site is not there, or is another tenant's, is nowhere.
            guard let place = sites[site], place.organization == organization else { continue }
            places[device] = DevicePlace(
                edge: SealedEdge(
                    .device(device, at: site, of: organization), RowMAC(keyID: keyID, code: code.bytes),
                    isArchived: isArchived),
                site: place)
        }
        return places
    }

    // Those of the devices that the scope sees, as `d`: one probe a device, whatever the statistics say.
    private static func named(_ devices: [DeviceID]) -> SQL {
        """
        unnest(\(devices)) AS i(id)
        CROSS JOIN LATERAL (SELECT * FROM devices d WHERE d.id = i.id OFFSET 0) d
        """
    }

    /// The sites of these ids with what is above them, one probe each; only a site's own scope does not see
    /// its organization.
    private static func sites(_ ids: SQL) -> SQL {
        """
        SELECT s.id, s.organization_id, s.mac_key, s.mac, s.state <> 0 OR s.closed, o.partner_id, o.mac_key,
               o.mac, p.mac_key, p.mac
        FROM (\(fragment: ids)) i(id)
        CROSS JOIN LATERAL (SELECT * FROM sites s WHERE s.id = i.id OFFSET 0) s
        LEFT JOIN LATERAL (
            SELECT * FROM organizations o WHERE o.id = s.organization_id OFFSET 0
        ) o ON true
        LEFT JOIN LATERAL (SELECT * FROM partners p WHERE p.id = o.partner_id OFFSET 0) p ON true
        WHERE o.id IS NOT NULL OR (SELECT crmm_site()) IS NOT NULL
        """
    }

    @Sendable private static func sitePlace(_ row: PostgresRow) throws -> SitePlace {
        let (
            site, organization, keyID, code, isArchived, partner, organizationKeyID, organizationCode,
            partnerKeyID, partnerCode
        ) = try row.decode(
            (
                SiteID, OrganizationID, String, PostgresData, Bool, PartnerID?, String?, PostgresData?,
                String?, PostgresData?
            ).self)
        var edges = [
            SealedEdge(
                .site(site, of: organization), RowMAC(keyID: keyID, code: code.bytes),
                isArchived: isArchived)
        ]
        if let partner {
            edges += edge(.organization(organization, of: partner), organizationKeyID, organizationCode)
            edges += edge(.partner(partner), partnerKeyID, partnerCode)
        }
        return SitePlace(site: site, organization: organization, partner: partner, edges: edges)
    }

    private static func edge(_ edge: ParentEdge, _ keyID: String?, _ code: PostgresData?) -> [SealedEdge] {
        guard let keyID, let code else { return [] }
        return [SealedEdge(edge, RowMAC(keyID: keyID, code: code.bytes))]
    }
}
