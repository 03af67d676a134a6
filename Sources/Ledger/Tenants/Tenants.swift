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
    package func createPartner(_ id: PartnerID, name: String, scope: Scope) async throws -> TenantRow {
        try await one(
            """
            INSERT INTO partners (id, name) VALUES (\(id), \(name))
            RETURNING id, NULL::uuid, NULL::uuid, name, created_at
            """, scope: scope)
    }

    /// Makes an organization of a partner that the scope sees.
    package func createOrganization(
        _ id: OrganizationID, partner: PartnerID, name: String, scope: Scope
    ) async throws -> TenantRow {
        try await one(
            """
            INSERT INTO organizations (id, partner_id, name)
            SELECT \(id), p.id, \(name) FROM partners p WHERE p.id = \(partner)
            RETURNING id, partner_id, NULL::uuid, name, created_at
            """, scope: scope, missing: "partnerId names no partner that you may see")
    }

    /// Makes a site of an organization that the scope sees.
    package func createSite(
        _ id: SiteID, organization: OrganizationID, name: String, scope: Scope
    ) async throws -> TenantRow {
        try await one(
            """
            INSERT INTO sites (organization_id, id, name)
            SELECT o.id, \(id), \(name) FROM organizations o WHERE o.id = \(organization)
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

    /// Where a site belongs, if the scope sees it.
    package func site(_ id: SiteID, scope: Scope) async throws -> SitePlace? {
        try await pool.query(
            """
            SELECT s.organization_id, o.partner_id FROM sites s
            LEFT JOIN organizations o ON o.id = s.organization_id WHERE s.id = \(id)
            """, scope: scope
        ) { row in
            let (organization, partner) = try row.decode((OrganizationID, PartnerID?).self)
            return SitePlace(site: id, organization: organization, partner: partner)
        }.first
    }

    /// Whether the scope sees an organization.
    package func seesOrganization(_ id: OrganizationID, scope: Scope) async throws -> Bool {
        try await !pool.query("SELECT id FROM organizations WHERE id = \(id)", scope: scope) { row in
            try row.decode(OrganizationID.self)
        }.isEmpty
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

/// A site with the levels above it.
package struct SitePlace: Sendable {
    /// The site.
    package let site: SiteID
    /// Its organization.
    package let organization: OrganizationID
    /// Its partner; `nil` when the scope does not see that far up.
    package let partner: PartnerID?
}
