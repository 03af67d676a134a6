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
            "SELECT mac_key, mac FROM partners WHERE id = \(partner)", scope: scope
        ) { row in
            let (keyID, code) = try row.decode((String, PostgresData).self)
            return SealedEdge(.partner(partner), RowMAC(keyID: keyID, code: code.bytes))
        }
    }

    /// The edges from an organization upwards, as far as the scope sees; none if it does not see the
    /// organization.
    package func edges(of organization: OrganizationID, scope: Scope) async throws -> [SealedEdge] {
        try await pool.query(
            """
            SELECT o.partner_id, o.mac_key, o.mac, p.mac_key, p.mac
            FROM organizations o
            LEFT JOIN partners p ON p.id = o.partner_id
            WHERE o.id = \(organization)
            """, scope: scope
        ) { row in
            let (partner, keyID, code, partnerKeyID, partnerCode) = try row.decode(
                (PartnerID, String, PostgresData, String?, PostgresData?).self)
            return [
                SealedEdge(.organization(organization, of: partner), RowMAC(keyID: keyID, code: code.bytes))
            ]
                + Self.edge(.partner(partner), partnerKeyID, partnerCode)
        }.first ?? []
    }

    /// Where a site belongs, if the scope sees it.
    package func site(_ id: SiteID, scope: Scope) async throws -> SitePlace? {
        try await pool.query(
            "\(fragment: Self.sites) AND s.id = \(id)", scope: scope, decode: Self.sitePlace
        ).first
    }

    /// The places of those of the devices that the scope sees.
    package func places(of devices: [DeviceID], scope: Scope) async throws -> [DeviceID: DevicePlace] {
        let results = try await pool.pipeline(
            scope: scope,
            [
                "SELECT id, organization_id, site_id, mac_key, mac FROM devices WHERE id = ANY(\(devices))",
                """
                \(fragment: Self.sites)
                  AND s.id IN (SELECT site_id FROM devices WHERE id = ANY(\(devices)))
                """,
            ])
        let sites = Dictionary(
            uniqueKeysWithValues: try results[1].rows.map(Self.sitePlace).map { ($0.site, $0) })
        var places: [DeviceID: DevicePlace] = [:]
        for row in results[0].rows {
            let (device, organization, site, keyID, code) = try row.decode(
                (DeviceID, OrganizationID, SiteID, String, PostgresData).self)
            // A device whose site is not there, or is another tenant's, is nowhere.
            guard let place = sites[site], place.organization == organization else { continue }
            places[device] = DevicePlace(
                edge: SealedEdge(
                    .device(device, at: site, of: organization), RowMAC(keyID: keyID, code: code.bytes)),
                site: place)
        }
        return places
    }

    /// Sites with what is above them; only a site's own scope does not see its organization.
    private static let sites: SQL = """
        SELECT s.id, s.organization_id, s.mac_key, s.mac, o.partner_id, o.mac_key, o.mac, p.mac_key, p.mac
        FROM sites s
        LEFT JOIN organizations o ON o.id = s.organization_id
        LEFT JOIN partners p ON p.id = o.partner_id
        WHERE (o.id IS NOT NULL OR (SELECT crmm_site()) IS NOT NULL)
        """

    @Sendable private static func sitePlace(_ row: PostgresRow) throws -> SitePlace {
        let (
            site, organization, keyID, code, partner, organizationKeyID, organizationCode, partnerKeyID,
            partnerCode
        ) = try row.decode(
            (
                SiteID, OrganizationID, String, PostgresData, PartnerID?, String?, PostgresData?, String?,
                PostgresData?
            ).self)
        var edges = [SealedEdge(.site(site, of: organization), RowMAC(keyID: keyID, code: code.bytes))]
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
