package import Domain
package import Postgres

/// A row of `oidc_links`, what a name of an issuer stands for: its MAC is judged before it is believed.
package struct OIDCLinkRow: Sendable {
    /// What the name stands for.
    package enum Target: Sendable, Hashable {
        /// A subject stands for a person.
        case user(UserID)
        /// An organization stands for an organization.
        case organization(OrganizationID)
        /// A role stands for a role.
        case role(BindingRow.Role)

        /// What the name is at the issuer.
        package var kind: OIDCLinkKind {
            switch self {
            case .user: .subject
            case .organization: .organization
            case .role: .role
            }
        }
    }

    /// Which link it is, and of which provider, whose home it has.
    package var id: OIDCLinkID
    package var provider: OIDCProviderID
    package var home: LevelColumns
    /// The name at the issuer, byte for byte.
    package var external: String
    package var target: Target
    /// Until when the row grants anything; it is renewed in use.
    package var expiresAt: Instant
    /// How often it was edited.
    package var version: Int
    package var createdBy: PrincipalID?
    package var createdAt: Instant
    package var updatedAt: Instant
    /// The MAC.
    package var mac: RowMAC

    /// A new link's row, without its MAC.
    package init(
        id: OIDCLinkID, provider: OIDCProviderID, home: LevelColumns, external: String, target: Target,
        expiresAt: Instant, createdBy: PrincipalID?, createdAt: Instant
    ) {
        self.id = id
        self.provider = provider
        self.home = home
        self.external = external
        self.target = target
        self.expiresAt = expiresAt
        self.createdBy = createdBy
        self.createdAt = createdAt
        version = 1
        updatedAt = createdAt
        mac = RowMAC(keyID: "", code: [])
    }

    /// What the row's MAC covers under a key.
    package func sealedParts(keyID: String) -> [[UInt8]] {
        [Array("oidc_links".utf8), id.bytes, Array(keyID.utf8), provider.bytes] + home.parts
            + [
                Array(String(version).utf8), Array(target.kind.rawValue.utf8), Array(external.utf8),
                user?.bytes ?? [], organization?.bytes ?? [], Array((builtin ?? "").utf8), made?.bytes ?? [],
                expiresAt.sealedPart, createdBy?.bytes ?? [],
            ]
    }

    fileprivate var user: UserID? { if case .user(let id) = target { id } else { nil } }
    fileprivate var organization: OrganizationID? {
        if case .organization(let id) = target { id } else { nil }
    }
    fileprivate var builtin: String? { if case .role(.builtin(let name)) = target { name } else { nil } }
    fileprivate var made: RoleID? { if case .role(.made(let id)) = target { id } else { nil } }
}

extension Ledger {
    /// Keeps a new link, if nobody has made or edited one of this provider since it was read; `nil` if the
    /// provider has this name already.
    package func insert(
        _ link: OIDCLinkRow, after provider: OIDCProviderRow, scope: Scope
    ) async throws -> Bool? {
        do {
            return try await pool.execute(
                """
                WITH counted AS (
                    UPDATE oidc_providers
                    SET links_made = links_made + 1
                    WHERE id = \(provider.id) AND version = \(provider.version)
                      AND links_made = \(provider.linksMade)
                    RETURNING id
                )
                INSERT INTO oidc_links (id, provider_id, partner_id, organization_id, kind, external, user_id,
                                        target_organization_id, builtin, role_id, expires_at, mac_key, mac,
                                        created_by, created_at, updated_at)
                SELECT \(link.id), counted.id, \(link.home.partner), \(link.home.organization),
                       \(link.target.kind.rawValue), \(link.external), \(link.user), \(link.organization),
                       \(link.builtin), \(link.made), \(link.expiresAt), \(link.mac.keyID),
                       \(PostgresData(link.mac.code)), \(link.createdBy), \(link.createdAt), \(link.createdAt)
                FROM counted
                """, scope: scope) > 0
        } catch let error as PostgresError where error.sqlState == "23505" {
            return nil
        }
    }

    /// Writes what an edit changed, if the row is still of the version before and nobody has made or edited
    /// another of this provider since it was read; `false` if not.
    package func update(_ link: OIDCLinkRow, after provider: OIDCProviderRow, scope: Scope) async throws
        -> Bool
    {
        try await pool.execute(
            """
            WITH counted AS (
                UPDATE oidc_providers
                SET links_made = links_made + 1
                WHERE id = \(provider.id) AND version = \(provider.version)
                  AND links_made = \(provider.linksMade)
                RETURNING id
            )
            UPDATE oidc_links
            SET user_id = \(link.user), target_organization_id = \(link.organization),
                builtin = \(link.builtin), role_id = \(link.made), expires_at = \(link.expiresAt),
                version = \(link.version), updated_at = now(), mac_key = \(link.mac.keyID),
                mac = \(PostgresData(link.mac.code))
            FROM counted
            WHERE oidc_links.id = \(link.id) AND oidc_links.version = \(link.version) - 1
            """, scope: scope) > 0
    }

    /// Writes a link's renewal.
    package func renew(_ link: OIDCLinkRow) async throws {
        try await pool.execute(
            """
            UPDATE oidc_links
            SET expires_at = \(link.expiresAt), mac_key = \(link.mac.keyID),
                mac = \(PostgresData(link.mac.code))
            WHERE id = \(link.id) AND version = \(link.version) AND expires_at < \(link.expiresAt)
            """, scope: .platform)
    }

    /// Takes a link away; `false` if there is none that the scope sees.
    package func deleteOIDCLink(_ id: OIDCLinkID, version: Int?, scope: Scope) async throws -> Bool {
        try await pool.execute(
            "DELETE FROM oidc_links WHERE id = \(id) AND version = coalesce(\(version), version)",
            scope: scope)
            > 0
    }

    /// A link, if the scope sees its home.
    package func oidcLink(_ id: OIDCLinkID, scope: Scope) async throws -> OIDCLinkRow? {
        try await pool.query(
            "SELECT \(fragment: Self.linkColumns) FROM oidc_links l WHERE id = \(id)", scope: scope,
            decode: Self.link
        ).first
    }

    /// The links that the scope sees, by id, optionally of one provider.
    package func oidcLinks(
        of provider: OIDCProviderID?, _ page: PageRequest, scope: Scope
    ) async throws -> [OIDCLinkRow] {
        try await pool.query(
            """
            SELECT \(fragment: Self.linkColumns) FROM oidc_links l
            WHERE id > \(page.afterID) AND (\(provider)::uuid IS NULL OR provider_id = \(provider))
            ORDER BY id LIMIT \(page.limit)
            """, scope: scope, decode: Self.link)
    }

    /// All links of a provider, whoever asks; at most `limit`.
    package func oidcLinks(of provider: OIDCProviderID, limit: Int) async throws -> [OIDCLinkRow] {
        try await pool.query(
            """
            SELECT \(fragment: Self.linkColumns) FROM oidc_links l WHERE provider_id = \(provider)
            ORDER BY id LIMIT \(limit)
            """, scope: .platform, decode: Self.link)
    }

    /// What names of an issuer stand for, whoever asks.
    package func oidcLinks(
        of provider: OIDCProviderID, subject: String, organization: String?, roles: [String]
    ) async throws -> [OIDCLinkRow] {
        try await pool.query(
            """
            SELECT \(fragment: Self.linkColumns) FROM oidc_links l
            WHERE provider_id = \(provider)
              AND (kind = 'subject' AND external = \(subject)
                   OR kind = 'organization' AND external = \(organization)
                   OR kind = 'role' AND external = ANY(\(roles)))
            ORDER BY id
            """, scope: .platform, decode: Self.link)
    }

    private static let linkColumns: SQL = """
        l.id, l.provider_id, l.partner_id, l.organization_id, l.kind, l.external, l.user_id,
        l.target_organization_id, l.builtin, l.role_id, l.expires_at, l.version, l.created_by, l.created_at,
        l.updated_at, l.mac_key, l.mac
        """

    @Sendable private static func link(_ row: PostgresRow) throws -> OIDCLinkRow {
        let (
            id, provider, partner, organization, kind, external, user, targetOrganization, builtin, made,
            expiresAt, version, createdBy, createdAt, updatedAt, macKey, mac
        ) = try row.decode(
            (
                OIDCLinkID, OIDCProviderID, PartnerID?, OrganizationID?, OIDCLinkKind, String, UserID?,
                OrganizationID?, String?, RoleID?, Instant, Int, PrincipalID?, Instant, Instant, String,
                PostgresData
            ).self)
        // The table has the target of the kind, and no other.
        let target: OIDCLinkRow.Target =
            switch kind {
            case .subject: .user(user ?? UserID(.zero))
            case .organization: .organization(targetOrganization ?? OrganizationID(.zero))
            case .role: .role(made.map(BindingRow.Role.made) ?? .builtin(builtin ?? ""))
            }
        var link = OIDCLinkRow(
            id: id, provider: provider, home: LevelColumns(partner, organization, nil), external: external,
            target: target, expiresAt: expiresAt, createdBy: createdBy, createdAt: createdAt)
        (link.version, link.updatedAt) = (version, updatedAt)
        link.mac = RowMAC(keyID: macKey, code: mac.bytes)
        return link
    }
}
