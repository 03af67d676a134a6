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
    package var name: String
    /// Whether it, or a level above it, is archived.
    package var isArchived = false
    /// The branding of a partner, the contacts of an organization or a site: JSON as the API wrote it.
    package var branding: String?
    package var contacts: String?
    /// The time zone of an organization or a site.
    package var timeZone: String?
    /// How often it was edited, from 1.
    package var version = 1
    /// When it was made, and edited last.
    package let createdAt: Instant
    package let updatedAt: Instant
}

/// A place in a list ordered by id: the id after which the page begins.
package struct PageRequest: Sendable {
    /// The id of the last item of the page before.
    package let after: UniqueID?
    /// How many items at the most.
    package let limit: Int
    /// Whether the newest come first; ids are in the order in which they were made.
    package let isDescending: Bool

    /// A page after an id.
    package init(after: UniqueID?, limit: Int, isDescending: Bool = false) {
        self.after = after
        self.limit = limit
        self.isDescending = isDescending
    }

    var afterID: ID<Subject.Tenant> { ID(after ?? .zero) }

    /// The condition on the column of ids: what comes after the page before.
    func isAfter(_ column: SQL) -> SQL {
        isDescending
            ? "\(fragment: column) < \(ID<Subject.Tenant>(after ?? UniqueID(high: .max, low: .max)))"
            : "\(fragment: column) > \(afterID)"
    }

    /// The order and the length of the page.
    func order(by column: SQL) -> SQL {
        isDescending
            ? "ORDER BY \(fragment: column) DESC LIMIT \(limit)"
            : "ORDER BY \(fragment: column) LIMIT \(limit)"
    }
}

/// What is told of a new row beside its name.
package struct TenantDetails: Sendable {
    /// JSON for the branding of a partner, or for the contacts of another.
    package var text: String?
    /// The time zone.
    package var timeZone: String?

    /// Nothing unless said.
    package init(text: String? = nil, timeZone: String? = nil) {
        self.text = text
        self.timeZone = timeZone
    }
}

extension Ledger {
    // MARK: Making

    /// Makes a partner; only the platform's scope may.
    package func createPartner(
        _ id: PartnerID, name: String, _ details: TenantDetails = TenantDetails(), mac: RowMAC, scope: Scope
    ) async throws -> TenantRow {
        try await one(
            """
            INSERT INTO partners AS t (id, name, branding, mac_key, mac)
            VALUES (\(id), \(name), coalesce(\(details.text), '{}'), \(mac.keyID), \(PostgresData(mac.code)))
            RETURNING \(fragment: Self.partnerColumns)
            """, scope: scope, decode: Self.partnerRow)
    }

    /// Makes an organization of a partner that the scope sees and that is in use.
    package func createOrganization(
        _ id: OrganizationID, partner: PartnerID, name: String, _ details: TenantDetails = TenantDetails(),
        mac: RowMAC, scope: Scope
    ) async throws -> TenantRow {
        try await one(
            """
            INSERT INTO organizations AS t (id, partner_id, name, time_zone, contacts, mac_key, mac)
            SELECT \(id), p.id, \(name), \(details.timeZone), coalesce(\(details.text), '[]'), \(mac.keyID),
                   \(PostgresData(mac.code))
            FROM partners p
            WHERE p.id = \(partner) AND p.state = 0 AND \(fragment: Self.exists(details.timeZone))
            FOR SHARE OF p
            RETURNING \(fragment: Self.organizationColumns)
            """, scope: scope, missing: "partnerId names no partner that you may see and that is in use",
            decode: Self.organizationRow)
    }

    /// Makes a site of an organization that the scope sees and that is in use.
    package func createSite(
        _ id: SiteID, organization: OrganizationID, name: String, _ details: TenantDetails = TenantDetails(),
        mac: RowMAC, scope: Scope
    ) async throws -> TenantRow {
        try await one(
            """
            INSERT INTO sites AS t (organization_id, id, name, time_zone, contacts, mac_key, mac)
            SELECT o.id, \(id), \(name), \(details.timeZone), coalesce(\(details.text), '[]'), \(mac.keyID),
                   \(PostgresData(mac.code))
            FROM organizations o
            WHERE o.id = \(organization) AND o.state = 0 AND NOT o.closed
              AND \(fragment: Self.exists(details.timeZone))
            FOR SHARE OF o
            RETURNING \(fragment: Self.siteColumns)
            """, scope: scope,
            missing: "organizationId names no organization that you may see and that is in use",
            decode: Self.siteRow)
    }

    // MARK: Reading

    /// One partner, if the scope sees it.
    package func partner(_ id: PartnerID, scope: Scope) async throws -> TenantRow? {
        try await pool.query(
            "SELECT \(fragment: Self.partnerColumns) FROM partners t WHERE id = \(id)", scope: scope,
            decode: Self.partnerRow
        ).first
    }

    /// One organization, if the scope sees it.
    package func organization(_ id: OrganizationID, scope: Scope) async throws -> TenantRow? {
        try await pool.query(
            """
            SELECT \(fragment: Self.organizationColumns) FROM organizations t WHERE id = \(id) AND state < 2
            """, scope: scope, decode: Self.organizationRow
        ).first
    }

    /// One site with its name, if the scope sees it.
    package func siteRow(_ id: SiteID, scope: Scope) async throws -> TenantRow? {
        try await pool.query(
            "SELECT \(fragment: Self.siteColumns) FROM sites t WHERE id = \(id)", scope: scope,
            decode: Self.siteRow
        ).first
    }

    /// The partners that the scope sees, by id; those in use or those archived, or both.
    package func partners(
        archived: Bool? = nil, _ page: PageRequest, scope: Scope
    ) async throws -> [TenantRow] {
        try await pool.query(
            """
            SELECT \(fragment: Self.partnerColumns) FROM partners t
            WHERE \(fragment: page.isAfter("id"))
                \(fragment: archived.map { "AND (state <> 0) = \($0)" } ?? "")
            \(fragment: page.order(by: "id"))
            """, scope: scope, decode: Self.partnerRow)
    }

    /// The organizations that the scope sees, by id, optionally of one partner.
    package func organizations(
        partner: PartnerID? = nil, archived: Bool? = nil, _ page: PageRequest, scope: Scope
    ) async throws -> [TenantRow] {
        let ofPartner: SQL = partner.map { "AND partner_id = \($0)" } ?? ""
        return try await pool.query(
            """
            SELECT \(fragment: Self.organizationColumns) FROM organizations t
            WHERE \(fragment: page.isAfter("id")) AND state < 2 \(fragment: ofPartner)
                \(fragment: Self.only(archived))
            \(fragment: page.order(by: "id"))
            """, scope: scope, decode: Self.organizationRow)
    }

    /// The sites that the scope sees, by id, optionally of one organization.
    package func sites(
        organization: OrganizationID? = nil, archived: Bool? = nil, _ page: PageRequest, scope: Scope
    ) async throws -> [TenantRow] {
        let ofOrganization: SQL = organization.map { "AND organization_id = \($0)" } ?? ""
        return try await pool.query(
            """
            SELECT \(fragment: Self.siteColumns) FROM sites t
            WHERE \(fragment: page.isAfter("id")) \(fragment: ofOrganization) \(fragment: Self.only(archived))
            \(fragment: page.order(by: "id"))
            """, scope: scope, decode: Self.siteRow)
    }

    // MARK: Editing

    /// Writes a partner as edited, if it is still of the version before; `nil` if not.
    package func updatePartner(_ row: TenantRow, scope: Scope) async throws -> TenantRow? {
        try await pool.query(
            """
            UPDATE partners t
            SET name = \(row.name), branding = coalesce(\(row.branding), '{}'),
                version = \(row.version), updated_at = now()
            WHERE id = \(PartnerID(row.id)) AND version = \(row.version) - 1
            RETURNING \(fragment: Self.partnerColumns)
            """, scope: scope, decode: Self.partnerRow
        ).first
    }

    /// Writes an organization as edited, if it is still of the version before; `nil` if not.
    package func updateOrganization(_ row: TenantRow, scope: Scope) async throws -> TenantRow? {
        try await pool.query(
            """
            UPDATE organizations t
            SET name = \(row.name), contacts = coalesce(\(row.contacts), '[]'), time_zone = \(row.timeZone),
                version = \(row.version), updated_at = now()
            WHERE id = \(OrganizationID(row.id)) AND state < 2 AND version = \(row.version) - 1
              AND \(fragment: Self.exists(row.timeZone))
            RETURNING \(fragment: Self.organizationColumns)
            """, scope: scope, decode: Self.organizationRow
        ).first
    }

    /// Writes a site as edited, if it is still of the version before; `nil` if not.
    package func updateSite(_ row: TenantRow, scope: Scope) async throws -> TenantRow? {
        try await pool.query(
            """
            UPDATE sites t
            SET name = \(row.name), contacts = coalesce(\(row.contacts), '[]'), time_zone = \(row.timeZone),
                version = \(row.version), updated_at = now()
            WHERE id = \(SiteID(row.id)) AND version = \(row.version) - 1
              AND \(fragment: Self.exists(row.timeZone))
            RETURNING \(fragment: Self.siteColumns)
            """, scope: scope, decode: Self.siteRow
        ).first
    }

    /// Whether the error says that a time zone does not exist.
    package static func isUnknownTimeZone(_ error: any Error) -> Bool {
        (error as? PostgresError)?.sqlState == "22023"
    }

    // MARK: Rows

    /// True, or the error that there is no such time zone.
    private static func exists(_ timeZone: String?) -> SQL {
        timeZone.map { "(now() AT TIME ZONE \($0)) IS NOT NULL" } ?? "true"
    }

    private static func only(_ archived: Bool?) -> SQL {
        archived.map { $0 ? "AND (state <> 0 OR closed)" : "AND state = 0 AND NOT closed" } ?? ""
    }

    private func one(
        _ statement: SQL, scope: Scope, missing: String = "nothing was made",
        decode: (PostgresRow) throws -> TenantRow
    ) async throws -> TenantRow {
        guard let row = try await pool.query(statement, scope: scope, decode: decode).first else {
            throw LedgerError(.notFound, missing)
        }
        return row
    }

    private static let partnerColumns: SQL =
        "t.id, t.name, t.state <> 0, t.branding, t.version, t.created_at, t.updated_at"

    @Sendable private static func partnerRow(_ row: PostgresRow) throws -> TenantRow {
        let (id, name, isArchived, branding, version, createdAt, updatedAt) = try row.decode(
            (PartnerID, String, Bool, String, Int, Instant, Instant).self)
        return TenantRow(
            id: id.value, partner: nil, organization: nil, name: name, isArchived: isArchived,
            branding: branding, version: version, createdAt: createdAt, updatedAt: updatedAt)
    }

    private static let organizationColumns: SQL = """
        t.id, t.partner_id, t.name, t.state <> 0 OR t.closed, t.contacts, t.time_zone, t.version,
        t.created_at, t.updated_at
        """

    @Sendable private static func organizationRow(_ row: PostgresRow) throws -> TenantRow {
        let (id, partner, name, isArchived, contacts, timeZone, version, createdAt, updatedAt) =
            try row.decode(
                (OrganizationID, PartnerID, String, Bool, String, String?, Int, Instant, Instant).self)
        return TenantRow(
            id: id.value, partner: partner, organization: nil, name: name, isArchived: isArchived,
            contacts: contacts, timeZone: timeZone, version: version, createdAt: createdAt,
            updatedAt: updatedAt)
    }

    private static let siteColumns: SQL = """
        t.id, t.organization_id, t.name, t.state <> 0 OR t.closed, t.contacts, t.time_zone, t.version,
        t.created_at, t.updated_at
        """

    @Sendable private static func siteRow(_ row: PostgresRow) throws -> TenantRow {
        let (id, organization, name, isArchived, contacts, timeZone, version, createdAt, updatedAt) =
            try row.decode(
                (SiteID, OrganizationID, String, Bool, String, String?, Int, Instant, Instant).self)
        return TenantRow(
            id: id.value, partner: nil, organization: organization, name: name, isArchived: isArchived,
            contacts: contacts, timeZone: timeZone, version: version, createdAt: createdAt,
            updatedAt: updatedAt)
    }
}
