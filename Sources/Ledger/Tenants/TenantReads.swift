package import Domain
package import Postgres

extension Ledger {
    /// One partner, if the scope sees it.
    package func partner(_ id: PartnerID, scope: Scope) async throws -> TenantRow? {
        try await pool.query(
            "SELECT id, NULL::uuid, NULL::uuid, name, created_at FROM partners WHERE id = \(id)",
            scope: scope,
            decode: Self.oneTenant
        ).first
    }

    /// One organization, if the scope sees it.
    package func organization(_ id: OrganizationID, scope: Scope) async throws -> TenantRow? {
        try await pool.query(
            "SELECT id, partner_id, NULL::uuid, name, created_at FROM organizations WHERE id = \(id)",
            scope: scope,
            decode: Self.oneTenant
        ).first
    }

    /// One site with its name, if the scope sees it.
    package func siteRow(_ id: SiteID, scope: Scope) async throws -> TenantRow? {
        try await pool.query(
            "SELECT id, NULL::uuid, organization_id, name, created_at FROM sites WHERE id = \(id)",
            scope: scope,
            decode: Self.oneTenant
        ).first
    }

    @Sendable private static func oneTenant(_ row: PostgresRow) throws -> TenantRow {
        let (id, partner, organization, name, createdAt) = try row.decode(
            (ID<Subject.Tenant>, PartnerID?, OrganizationID?, String, Instant).self)
        return TenantRow(
            id: id.value, partner: partner, organization: organization, name: name, createdAt: createdAt)
    }
}
