package import Domain
package import Postgres

/// A row of `secrets`: what a value is called, whose it is, and the value sealed.
package struct SecretRow: Sendable {
    /// Which one.
    package var id: SecretID
    /// Whose it is: neither id is the platform's; a site's has its organization too.
    package var partner: PartnerID?
    package var organization: OrganizationID?
    package var site: SiteID?
    /// What it is called there, and what others see.
    package var name: String
    package var description: String
    /// The value, sealed, and after it the one before; the version is the first one's.
    package var sealed: [[UInt8]]
    package var secretVersion = 1
    /// How often it was changed, from 1.
    package var version = 1
    package var createdBy: PrincipalID?
    package var createdAt: Instant
    package var updatedAt: Instant

    /// A new secret of a level; `organization` is that of a site.
    package init(
        id: SecretID, home: Level, organization: OrganizationID?, name: String, description: String,
        createdBy: PrincipalID?, createdAt: Instant
    ) {
        let columns = LevelColumns(home)
        (self.id, partner, site) = (id, columns.partner, columns.site)
        self.organization = columns.organization ?? organization
        (self.name, self.description, sealed) = (name, description, [])
        (self.createdBy, self.createdAt, updatedAt) = (createdBy, createdAt, createdAt)
    }

    /// Whose it is.
    package var home: Level {
        if let site { return .site(site) }
        if let organization { return .organization(organization) }
        if let partner { return .partner(partner) }
        return .platform
    }

    /// The sealed value of a version; `nil` if it is not kept, or not any more.
    package func sealed(version: Int) -> [UInt8]? {
        let index = secretVersion - version
        return sealed.indices.contains(index) ? sealed[index] : nil
    }
}

extension Ledger {
    /// How many secrets an owner may have.
    package static let secretsMax = 200

    /// Keeps a new secret; `false` if its owner has one of this name, or as many as it may.
    package func insert(_ secret: SecretRow, scope: Scope) async throws -> Bool {
        try await pool.execute(
            """
            INSERT INTO secrets (id, partner_id, organization_id, site_id, name, description, sealed,
                                 created_by, created_at, updated_at)
            SELECT \(secret.id), \(secret.partner), \(secret.organization), \(secret.site), \(secret.name),
                   \(secret.description), \(secret.sealed.map { PostgresData($0) }), \(secret.createdBy),
                   \(secret.createdAt), \(secret.createdAt)
            WHERE (SELECT count(*) FROM secrets WHERE owner = \(Self.owner(of: secret))) < \(Self.secretsMax)
            ON CONFLICT (owner, name) DO NOTHING
            """, scope: scope) > 0
    }

    /// Writes another value, if the row is still of the version before; `false` if not.
    package func updateSecret(_ secret: SecretRow, scope: Scope) async throws -> Bool {
        try await pool.execute(
            """
            UPDATE secrets
            SET sealed = \(secret.sealed.map { PostgresData($0) }), secret_version = \(secret.secretVersion),
                version = \(secret.version), updated_at = now()
            WHERE id = \(secret.id) AND version = \(secret.version) - 1
              AND secret_version = \(secret.secretVersion) - 1
            """, scope: scope) > 0
    }

    /// Takes a secret away; `false` if there is none that the scope sees.
    package func deleteSecret(_ id: SecretID, version: Int?, scope: Scope) async throws -> Bool {
        try await pool.execute(
            "DELETE FROM secrets WHERE id = \(id) AND version = coalesce(\(version), version)", scope: scope)
            > 0
    }

    /// A secret, if the scope sees its home.
    package func secret(_ id: SecretID, scope: Scope) async throws -> SecretRow? {
        try await secrets([id], scope: scope)[id]
    }

    /// Those of these secrets that the scope sees.
    package func secrets(_ ids: [SecretID], scope: Scope) async throws -> [SecretID: SecretRow] {
        let rows = try await pool.query(
            "SELECT \(fragment: Self.secretColumns) FROM secrets s WHERE id = ANY(\(ids))", scope: scope,
            decode: Self.secret)
        return Dictionary(rows.map { ($0.id, $0) }) { first, _ in first }
    }

    /// The secret of a level that has a name.
    package func secret(named name: String, of home: Level, scope: Scope) async throws -> SecretRow? {
        let owner = Self.owner(of: LevelColumns(home))
        return try await pool.query(
            """
            SELECT \(fragment: Self.secretColumns) FROM secrets s
            WHERE owner = \(owner) AND name = \(name)
            """, scope: scope, decode: Self.secret
        ).first
    }

    /// The secrets that the scope sees, by id.
    package func secrets(_ page: PageRequest, scope: Scope) async throws -> [SecretRow] {
        try await pool.query(
            """
            SELECT \(fragment: Self.secretColumns) FROM secrets s
            WHERE id > \(page.afterID) ORDER BY id LIMIT \(page.limit)
            """, scope: scope, decode: Self.secret)
    }

    /// The secrets of these names that a job for an organization may be given and that the scope sees: those
    /// of the platform, the partner, the organization and its sites, or one site of it.
    package func secrets(
        named names: [String], for organization: OrganizationID, site: SiteID?, limit: Int, scope: Scope
    ) async throws -> [SecretRow] {
        let ofSite: SQL = site.map { "AND (s.site_id IS NULL OR s.site_id = \($0))" } ?? ""
        // Each owner's names by the index that leads with it; the sites' by their organization.
        return try await pool.query(
            """
            SELECT \(fragment: Self.secretColumns) FROM secrets s
            WHERE s.owner = ANY (ARRAY[(SELECT o.partner_id FROM organizations o
                                        WHERE o.id = \(organization)),
                                       '00000000-0000-0000-0000-000000000000'::uuid])
              AND s.name = ANY (\(names))
            UNION ALL
            SELECT \(fragment: Self.secretColumns) FROM secrets s
            WHERE s.organization_id = \(organization) AND s.name = ANY (\(names)) \(fragment: ofSite)
            LIMIT \(limit)
            """, scope: scope, decode: Self.secret)
    }

    /// The id of whose it is, as the table has it.
    private static func owner(of secret: SecretRow) -> OrganizationID {
        owner(of: LevelColumns(secret.home))
    }

    private static func owner(of home: LevelColumns) -> OrganizationID {
        OrganizationID(home.site?.value ?? home.organization?.value ?? home.partner?.value ?? .zero)
    }

    static let secretColumns: SQL = """
        s.id, s.partner_id, s.organization_id, s.site_id, s.name, s.description, s.sealed, s.secret_version,
        s.version, s.created_by, s.created_at, s.updated_at
        """

    @Sendable static func secret(_ row: PostgresRow) throws -> SecretRow {
        let (
            id, partner, organization, site, name, description, sealed, secretVersion, version, createdBy,
            createdAt, updatedAt
        ) = try row.decode(
            (
                SecretID, PartnerID?, OrganizationID?, SiteID?, String, String, [PostgresData], Int, Int,
                PrincipalID?, Instant, Instant
            ).self)
        var secret = SecretRow(
            id: id, home: .platform, organization: organization, name: name, description: description,
            createdBy: createdBy, createdAt: createdAt)
        (secret.partner, secret.site, secret.sealed) = (partner, site, sealed.map(\.bytes))
        (secret.secretVersion, secret.version, secret.updatedAt) = (secretVersion, version, updatedAt)
        return secret
    }
}
