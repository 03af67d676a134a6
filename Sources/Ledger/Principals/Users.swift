package import Domain
package import Postgres

/// A row of `users`: it grants power, so its MAC is judged before anything in it is believed.
package struct UserRow: Sendable {
    /// Who it is.
    package var id: UserID
    /// Where the person is at home: the platform, a partner or an organization.
    package var home: LevelColumns
    package var email: String
    package var name: String
    package var state: UserState
    /// Until when the row grants anything; it is renewed in use.
    package var expiresAt: Instant
    /// How often it was edited.
    package var version: Int
    package var createdBy: PrincipalID?
    package var createdAt: Instant
    package var updatedAt: Instant
    /// The MAC.
    package var mac: RowMAC

    /// A new person's row, without its MAC.
    package init(
        id: UserID, home: LevelColumns, email: String, name: String, state: UserState, expiresAt: Instant,
        createdBy: PrincipalID?, createdAt: Instant
    ) {
        self.id = id
        self.home = home
        self.email = email
        self.name = name
        self.state = state
        self.expiresAt = expiresAt
        self.createdBy = createdBy
        self.createdAt = createdAt
        version = 1
        updatedAt = createdAt
        mac = RowMAC(keyID: "", code: [])
    }

    /// What the row's MAC covers under a key.
    package func sealedParts(keyID: String) -> [[UInt8]] {
        [Array("users".utf8), id.bytes, Array(keyID.utf8)] + home.parts
            + [
                Array(String(version).utf8), Array(email.utf8), [UInt8(state.rawValue)],
                expiresAt.sealedPart,
            ]
    }
}

extension UserState: SmallintCoded {}

extension Ledger {
    /// Keeps a new person; `false` if the home has one of this address.
    package func insert(_ user: UserRow, scope: Scope) async throws -> Bool {
        try await pool.execute(
            """
            INSERT INTO users (id, partner_id, organization_id, email, name, state, expires_at, mac_key, mac,
                               created_by, created_at, updated_at)
            VALUES (\(user.id), \(user.home.partner), \(user.home.organization), \(user.email), \(user.name),
                    \(user.state), \(user.expiresAt), \(user.mac.keyID), \(PostgresData(user.mac.code)),
                    \(user.createdBy), \(user.createdAt), \(user.createdAt))
            ON CONFLICT (partner_id, organization_id, email) DO NOTHING
            """, scope: scope) > 0
    }

    /// Writes what an edit or a renewal changed, if the row is still of the version before; `false` if not.
    package func update(_ user: UserRow, scope: Scope) async throws -> Bool {
        try await pool.execute(
            """
            UPDATE users
            SET name = \(user.name), state = \(user.state), expires_at = \(user.expiresAt),
                version = \(user.version), updated_at = now(), mac_key = \(user.mac.keyID),
                mac = \(PostgresData(user.mac.code))
            WHERE id = \(user.id) AND version = \(user.version) - 1
            """, scope: scope) > 0
    }

    /// Writes a person's renewal.
    package func renew(_ user: UserRow) async throws {
        try await pool.execute(
            """
            UPDATE users
            SET expires_at = \(user.expiresAt), mac_key = \(user.mac.keyID),
                mac = \(PostgresData(user.mac.code))
            WHERE id = \(user.id) AND version = \(user.version) AND expires_at < \(user.expiresAt)
            """, scope: .platform)
    }

    /// A person, if the scope sees the home.
    package func user(_ id: UserID, scope: Scope) async throws -> UserRow? {
        try await pool.query(
            "SELECT \(fragment: Self.userColumns) FROM users u WHERE id = \(id)", scope: scope,
            decode: Self.user
        ).first
    }

    /// The people that the scope sees, by id.
    package func users(_ page: PageRequest, scope: Scope) async throws -> [UserRow] {
        try await pool.query(
            """
            SELECT \(fragment: Self.userColumns) FROM users u
            WHERE \(fragment: page.isAfter("id"))
            \(fragment: page.order(by: "id"))
            """, scope: scope, decode: Self.user)
    }

    /// Everybody with this address, at whatever home; at most `limit`.
    package func users(email: String, limit: Int) async throws -> [UserRow] {
        try await pool.query(
            """
            SELECT \(fragment: Self.userColumns) FROM users u WHERE email = \(email)
            ORDER BY id LIMIT \(limit)
            """, scope: .platform, decode: Self.user)
    }

    /// Everybody with this address whose home the scope sees, those who are disabled first; at most `limit`.
    package func users(email: String, scope: Scope, limit: Int) async throws -> [UserRow] {
        try await pool.query(
            """
            SELECT \(fragment: Self.userColumns) FROM users u WHERE email = \(email)
            ORDER BY state DESC, id LIMIT \(limit)
            """, scope: scope, decode: Self.user)
    }

    private static let userColumns: SQL = """
        u.id, u.partner_id, u.organization_id, u.email, u.name, u.state, u.expires_at, u.version,
        u.created_by, u.created_at, u.updated_at, u.mac_key, u.mac
        """

    @Sendable private static func user(_ row: PostgresRow) throws -> UserRow {
        let (
            id, partner, organization, email, name, state, expiresAt, version, createdBy, createdAt,
            updatedAt,
            macKey, mac
        ) = try row.decode(
            (
                UserID, PartnerID?, OrganizationID?, String, String, UserState, Instant, Int, PrincipalID?,
                Instant, Instant, String, PostgresData
            ).self)
        var user = UserRow(
            id: id, home: LevelColumns(partner, organization, nil), email: email, name: name, state: state,
            expiresAt: expiresAt, createdBy: createdBy, createdAt: createdAt)
        (user.version, user.updatedAt) = (version, updatedAt)
        user.mac = RowMAC(keyID: macKey, code: mac.bytes)
        return user
    }
}
