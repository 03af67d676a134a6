package import Domain
package import Postgres

/// A row of partners, organizations or sites.
package struct TenantRow: Sendable {
    /// Its id, whatever level it is.
    package let id: UniqueID
    /// The level above, if there is one.
    package let partner: PartnerID?
    package let organization: OrganizationID?
    /// Shown to operators.
    package let name: String
    /// When it was made.
    package let createdAt: Instant
}

/// A place in a list ordered by id: the id after which the page begins.
package struct PageRequest: Sendable {
    /// The id of the last item of the page before.
    package let after: UniqueID?
    /// How many items at the most.
    package let limit: Int

    /// A page after an id.
    package init(after: UniqueID?, limit: Int) {
        self.after = after
        self.limit = limit
    }

    var afterID: ID<Subject.Tenant> { ID(after ?? .zero) }
}

extension Ledger {
    /// Makes a partner; only the platform's scope may.
    package func createPartner(
        _ id: PartnerID, name: String, mac: RowMAC, scope: Scope
    ) async throws -> TenantRow {
        try await one(
            """
            INSERT INTO partners (id, name, mac_key, mac)
            VALUES (\(id), \(name), \(mac.keyID), \(PostgresData(mac.code)))
            RETURNING id, NULL::uuid, NULL::uuid, name, created_at
            """, scope: scope)
    }

    /// Makes an organization of a partner that the scope sees.
    package func createOrganization(
        _ id: OrganizationID, partner: PartnerID, name: String, mac: RowMAC, scope: Scope
    ) async throws -> TenantRow {
        try await one(
            """
            INSERT INTO organizations (id, partner_id, name, mac_key, mac)
            SELECT \(id), p.id, \(name), \(mac.keyID), \(PostgresData(mac.code))
            FROM partners p WHERE p.id = \(partner)
            RETURNING id, partner_id, NULL::uuid, name, created_at
            """, scope: scope, missing: "partnerId names no partner that you may see")
    }

    /// Makes a site of an organization that the scope sees.
    package func createSite(
        _ id: SiteID, organization: OrganizationID, name: String, mac: RowMAC, scope: Scope
    ) async throws -> TenantRow {
        try await one(
            """
            INSERT INTO sites (organization_id, id, name, mac_key, mac)
            SELECT o.id, \(id), \(name), \(mac.keyID), \(PostgresData(mac.code))
            FROM organizations o WHERE o.id = \(organization)
            RETURNING id, NULL::uuid, organization_id, name, created_at
            """, scope: scope, missing: "organizationId names no organization that you may see")
    }

    /// The partners that the scope sees, by id.
    package func partners(_ page: PageRequest, scope: Scope) async throws -> [TenantRow] {
        try await pool.query(
            """
            SELECT id, NULL::uuid, NULL::uuid, name, created_at FROM partners
            WHERE id > \(page.afterID) ORDER BY id LIMIT \(page.limit)
            """, scope: scope, decode: Self.tenant)
    }

    /// The organizations that the scope sees, by id.
    package func organizations(_ page: PageRequest, scope: Scope) async throws -> [TenantRow] {
        try await pool.query(
            """
            SELECT id, partner_id, NULL::uuid, name, created_at FROM organizations
            WHERE id > \(page.afterID) ORDER BY id LIMIT \(page.limit)
            """, scope: scope, decode: Self.tenant)
    }

    /// The sites that the scope sees, by id.
    package func sites(_ page: PageRequest, scope: Scope) async throws -> [TenantRow] {
        try await pool.query(
            """
            SELECT id, NULL::uuid, organization_id, name, created_at FROM sites
            WHERE id > \(page.afterID) ORDER BY id LIMIT \(page.limit)
            """, scope: scope, decode: Self.tenant)
    }

    private func one(_ statement: SQL, scope: Scope, missing: String = "nothing was made") async throws
        -> TenantRow
    {
        guard let row = try await pool.query(statement, scope: scope, decode: Self.tenant).first else {
            throw LedgerError(.notFound, missing)
        }
        return row
    }

    @Sendable private static func tenant(_ row: PostgresRow) throws -> TenantRow {
        let (id, partner, organization, name, createdAt) = try row.decode(
            (ID<Subject.Tenant>, PartnerID?, OrganizationID?, String, Instant).self)
        return TenantRow(
            id: id.value, partner: partner, organization: organization, name: name, createdAt: createdAt)
    }
}
