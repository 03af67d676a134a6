package import Domain
package import Postgres

/// A row of `roles`, a set of permissions that a tenant made: its MAC is judged before it is believed.
package struct RoleRow: Sendable {
    /// Which role it is.
    package var id: RoleID
    /// Whose it is: the platform's, a partner's or an organization's.
    package var home: LevelColumns
    package var name: String
    package var permissions: [String]
    /// Until when the row grants anything; it is renewed in use.
    package var expiresAt: Instant
    /// How often it was edited.
    package var version: Int
    package var createdBy: PrincipalID?
    package var createdAt: Instant
    package var updatedAt: Instant
    /// The MAC.
    package var mac: RowMAC

    /// A new role's row, without its MAC.
    package init(
        id: RoleID, home: LevelColumns, name: String, permissions: [String], expiresAt: Instant,
        createdBy: PrincipalID?, createdAt: Instant
    ) {
        self.id = id
        self.home = home
        self.name = name
        self.permissions = permissions
        self.expiresAt = expiresAt
        self.createdBy = createdBy
        self.createdAt = createdAt
        version = 1
        updatedAt = createdAt
        mac = RowMAC(keyID: "", code: [])
    }

    /// What the row's MAC covers under a key. The permissions stand last, since their number varies.
    package func sealedParts(keyID: String) -> [[UInt8]] {
        [Array("roles".utf8), id.bytes, Array(keyID.utf8)] + home.parts
            + [Array(String(version).utf8), Array(name.utf8), expiresAt.sealedPart]
            + permissions.map { Array($0.utf8) }
    }
}

/// A row of `role_bindings`: a person's role on a level. Its MAC is judged before it is believed.
package struct BindingRow: Sendable {
    /// What a binding gives.
    package enum Role: Sendable, Hashable {
        /// A role that is built in, by its name.
        case builtin(String)
        /// A role that a tenant made.
        case made(RoleID)
    }

    /// Which binding it is.
    package var id: BindingID
    package var user: UserID
    package var place: LevelColumns
    package var role: Role
    /// Until when the row grants anything; it is renewed in use.
    package var expiresAt: Instant
    package var createdBy: PrincipalID?
    package var createdAt: Instant
    /// The MAC.
    package var mac: RowMAC

    /// A new binding's row, without its MAC.
    package init(
        id: BindingID, user: UserID, place: LevelColumns, role: Role, expiresAt: Instant,
        createdBy: PrincipalID?, createdAt: Instant
    ) {
        self.id = id
        self.user = user
        self.place = place
        self.role = role
        self.expiresAt = expiresAt
        self.createdBy = createdBy
        self.createdAt = createdAt
        mac = RowMAC(keyID: "", code: [])
    }

    /// What the row's MAC covers under a key.
    package func sealedParts(keyID: String) -> [[UInt8]] {
        [Array("role_bindings".utf8), id.bytes, Array(keyID.utf8), user.bytes] + place.parts
            + [
                Array((builtin ?? "").utf8), made?.bytes ?? [], expiresAt.sealedPart,
                createdBy?.bytes ?? [],
            ]
    }

    fileprivate var builtin: String? {
        switch role {
        case .builtin(let name): name
        case .made: nil
        }
    }

    fileprivate var made: RoleID? {
        switch role {
        case .builtin: nil
        case .made(let id): id
        }
    }
}

extension Ledger {
    /// Keeps a new role; `false` if its home has one of this name.
    package func insert(_ role: RoleRow, scope: Scope) async throws -> Bool {
        try await pool.execute(
            """
            INSERT INTO roles (id, partner_id, organization_id, name, permissions, expires_at, mac_key, mac,
                               created_by, created_at, updated_at)
            VALUES (\(role.id), \(role.home.partner), \(role.home.organization), \(role.name),
                    \(role.permissions), \(role.expiresAt), \(role.mac.keyID), \(PostgresData(role.mac.code)),
                    \(role.createdBy), \(role.createdAt), \(role.createdAt))
            ON CONFLICT (partner_id, organization_id, name) DO NOTHING
            """, scope: scope) > 0
    }

    /// Writes what an edit or a renewal changed, if the row is still of the version before; `false` if not.
    package func update(_ role: RoleRow, scope: Scope) async throws -> Bool {
        try await pool.execute(
            """
            UPDATE roles
            SET name = \(role.name), permissions = \(role.permissions), expires_at = \(role.expiresAt),
                version = \(role.version), updated_at = now(), mac_key = \(role.mac.keyID),
                mac = \(PostgresData(role.mac.code))
            WHERE id = \(role.id) AND version = \(role.version) - 1
            """, scope: scope) > 0
    }

    /// Whether another role of the same home has this name, also one that the scope does not see.
    package func isTaken(_ name: String, at home: LevelColumns, by other: RoleID) async throws -> Bool {
        try await pool.query(
            """
            SELECT id FROM roles
            WHERE name = \(name) AND id <> \(other) AND partner_id IS NOT DISTINCT FROM \(home.partner)
              AND organization_id IS NOT DISTINCT FROM \(home.organization)
            LIMIT 1
            """, scope: .platform
        ) { try $0.decode(RoleID.self) }.isEmpty == false
    }

    /// Writes a role's renewal.
    package func renew(_ role: RoleRow) async throws {
        try await pool.execute(
            """
            UPDATE roles
            SET expires_at = \(role.expiresAt), mac_key = \(role.mac.keyID),
                mac = \(PostgresData(role.mac.code))
            WHERE id = \(role.id) AND version = \(role.version) AND expires_at < \(role.expiresAt)
            """, scope: .platform)
    }

    /// Takes a role away that nobody is bound to; `false` if there is none that the scope sees.
    /// - Throws: `conflict` while somebody is bound to it.
    package func deleteRole(_ id: RoleID, version: Int?, scope: Scope) async throws -> Bool {
        do {
            return try await pool.execute(
                "DELETE FROM roles WHERE id = \(id) AND version = coalesce(\(version), version)", scope: scope
            )
                > 0
        } catch let error as PostgresError where error.sqlState == "23503" {
            throw LedgerError(
                .conflict, "somebody is bound to the role, or a link names it: take those away first")
        }
    }

    /// A role, if the scope sees its home.
    package func role(_ id: RoleID, scope: Scope) async throws -> RoleRow? {
        try await pool.query(
            "SELECT \(fragment: Self.roleColumns) FROM roles r WHERE id = \(id)", scope: scope,
            decode: Self.role
        ).first
    }

    /// The roles of these ids, whoever asks: what bindings name.
    package func roles(_ ids: [RoleID]) async throws -> [RoleRow] {
        guard !ids.isEmpty else { return [] }
        return try await pool.query(
            "SELECT \(fragment: Self.roleColumns) FROM roles r WHERE id = ANY(\(ids))", scope: .platform,
            decode: Self.role)
    }

    /// The roles that the scope sees, by id.
    package func roles(_ page: PageRequest, scope: Scope) async throws -> [RoleRow] {
        try await pool.query(
            """
            SELECT \(fragment: Self.roleColumns) FROM roles r
            WHERE id > \(page.afterID) ORDER BY id LIMIT \(page.limit)
            """, scope: scope, decode: Self.role)
    }

    /// Keeps a new binding; `false` if the person has this role there already.
    package func insert(_ binding: BindingRow, scope: Scope) async throws -> Bool {
        try await pool.execute(
            """
            INSERT INTO role_bindings (id, user_id, partner_id, organization_id, site_id, builtin, role_id,
                                       expires_at, mac_key, mac, created_by, created_at)
            VALUES (\(binding.id), \(binding.user), \(binding.place.partner), \(binding.place.organization),
                    \(binding.place.site), \(binding.builtin), \(binding.made), \(binding.expiresAt),
                    \(binding.mac.keyID), \(PostgresData(binding.mac.code)), \(binding.createdBy),
                    \(binding.createdAt))
            ON CONFLICT (user_id, partner_id, organization_id, site_id, builtin, role_id) DO NOTHING
            """, scope: scope) > 0
    }

    /// Writes a binding's renewal.
    package func renew(_ binding: BindingRow) async throws {
        try await pool.execute(
            """
            UPDATE role_bindings
            SET expires_at = \(binding.expiresAt), mac_key = \(binding.mac.keyID),
                mac = \(PostgresData(binding.mac.code))
            WHERE id = \(binding.id) AND expires_at < \(binding.expiresAt)
            """, scope: .platform)
    }

    /// Takes a binding away; `false` if there is none that the scope sees.
    package func deleteBinding(_ id: BindingID, scope: Scope) async throws -> Bool {
        try await pool.execute("DELETE FROM role_bindings WHERE id = \(id)", scope: scope) > 0
    }

    /// A binding, if the scope sees its level.
    package func binding(_ id: BindingID, scope: Scope) async throws -> BindingRow? {
        try await pool.query(
            "SELECT \(fragment: Self.bindingColumns) FROM role_bindings b WHERE id = \(id)", scope: scope,
            decode: Self.binding
        ).first
    }

    /// All bindings of a person, whoever asks: what the person's rights come from; at most `limit`.
    package func bindings(of user: UserID, limit: Int) async throws -> [BindingRow] {
        try await pool.query(
            """
            SELECT \(fragment: Self.bindingColumns) FROM role_bindings b WHERE user_id = \(user)
            ORDER BY id LIMIT \(limit)
            """, scope: .platform, decode: Self.binding)
    }

    /// The bindings that the scope sees, by id, optionally of one person.
    package func bindings(user: UserID?, _ page: PageRequest, scope: Scope) async throws -> [BindingRow] {
        try await pool.query(
            """
            SELECT \(fragment: Self.bindingColumns) FROM role_bindings b
            WHERE id > \(page.afterID) AND (\(user)::uuid IS NULL OR user_id = \(user))
            ORDER BY id LIMIT \(page.limit)
            """, scope: scope, decode: Self.binding)
    }

    private static let roleColumns: SQL = """
        r.id, r.partner_id, r.organization_id, r.name, r.permissions, r.expires_at, r.version, r.created_by,
        r.created_at, r.updated_at, r.mac_key, r.mac
        """

    @Sendable private static func role(_ row: PostgresRow) throws -> RoleRow {
        let (
            id, partner, organization, name, permissions, expiresAt, version, createdBy, createdAt, updatedAt,
            macKey, mac
        ) = try row.decode(
            (
                RoleID, PartnerID?, OrganizationID?, String, [String], Instant, Int, PrincipalID?, Instant,
                Instant, String, PostgresData
            ).self)
        var role = RoleRow(
            id: id, home: LevelColumns(partner, organization, nil), name: name, permissions: permissions,
            expiresAt: expiresAt, createdBy: createdBy, createdAt: createdAt)
        (role.version, role.updatedAt) = (version, updatedAt)
        role.mac = RowMAC(keyID: macKey, code: mac.bytes)
        return role
    }

    private static let bindingColumns: SQL = """
        b.id, b.user_id, b.partner_id, b.organization_id, b.site_id, b.builtin, b.role_id, b.expires_at,
        b.created_by, b.created_at, b.mac_key, b.mac
        """

    @Sendable private static func binding(_ row: PostgresRow) throws -> BindingRow {
        let (
            id, user, partner, organization, site, builtin, made, expiresAt, createdBy, createdAt, macKey, mac
        ) = try row.decode(
            (
                BindingID, UserID, PartnerID?, OrganizationID?, SiteID?, String?, RoleID?, Instant,
                PrincipalID?, Instant, String, PostgresData
            ).self)
        // The table has one of the two.
        let role = made.map(BindingRow.Role.made) ?? .builtin(builtin ?? "")
        var binding = BindingRow(
            id: id, user: user, place: LevelColumns(partner, organization, site), role: role,
            expiresAt: expiresAt, createdBy: createdBy, createdAt: createdAt)
        binding.mac = RowMAC(keyID: macKey, code: mac.bytes)
        return binding
    }
}
