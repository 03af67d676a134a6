package import Domain
package import Postgres

/// A row of `api_keys`: it grants power, so its MAC is judged before anything in it is believed.
package struct APIKeyRow: Sendable {
    /// Its id, and the SHA-256 of its secret.
    package var id: APIKeyID
    package var keyHash: [UInt8]
    /// The secret before the last rotation, and until when it is good.
    package var previousHash: [UInt8]?
    package var previousExpiresAt: Instant?
    /// The first characters of the secret, for people to tell keys apart.
    package var prefix: String
    /// The level that it may act on.
    package var place: LevelColumns
    /// What it may do, and until when.
    package var name: String
    package var permissions: [String]
    package var expiresAt: Instant
    package var revokedAt: Instant?
    /// Who made it: its rights are never more than those that this principal has by now. `nil` is the
    /// installation itself.
    package var createdBy: PrincipalID?
    /// Whether what is made with it counts as made by its maker.
    package var actsForMaker: Bool
    /// How often it was edited.
    package var version: Int
    package var createdAt: Instant
    package var lastUsedAt: Instant?
    /// The MAC.
    package var mac: RowMAC

    /// A new key's row, without its MAC.
    package init(
        id: APIKeyID, keyHash: [UInt8], prefix: String, place: LevelColumns, name: String,
        permissions: [String], expiresAt: Instant, createdBy: PrincipalID?, actsForMaker: Bool,
        createdAt: Instant
    ) {
        self.id = id
        self.keyHash = keyHash
        self.prefix = prefix
        self.place = place
        self.name = name
        self.permissions = permissions
        self.expiresAt = expiresAt
        self.createdBy = createdBy
        self.actsForMaker = actsForMaker
        self.createdAt = createdAt
        version = 1
        mac = RowMAC(keyID: "", code: [])
    }

    /// What the row's MAC covers under a key: every column that says what the key may do, where and until
    /// when. The permissions stand last, since their number varies.
    package func sealedParts(keyID: String) -> [[UInt8]] {
        [Array("api_keys".utf8), id.bytes, Array(keyID.utf8), keyHash, previousHash ?? []]
            + [previousExpiresAt.map(\.sealedPart) ?? []] + place.parts
            + [
                Array(String(version).utf8), Array(name.utf8), expiresAt.sealedPart,
                createdBy?.bytes ?? [], [actsForMaker ? 1 : 0],
            ] + permissions.map { Array($0.utf8) }
    }
}

extension Instant {
    /// What a MAC covers of an instant.
    package var sealedPart: [UInt8] { Array(String(microseconds).utf8) }
}

extension Ledger {
    /// Keeps a new key; its level must be one that the scope sees.
    package func insert(_ key: APIKeyRow, scope: Scope) async throws {
        try await pool.execute(
            """
            INSERT INTO api_keys (id, partner_id, organization_id, site_id, name, key_hash, prefix,
                                  permissions, expires_at, mac_key, mac, created_by, acts_for_maker,
                                  created_at)
            VALUES (\(key.id), \(key.place.partner), \(key.place.organization), \(key.place.site),
                    \(key.name), \(PostgresData(key.keyHash)),
                    \(key.prefix), \(key.permissions), \(key.expiresAt),
                    \(key.mac.keyID), \(PostgresData(key.mac.code)), \(key.createdBy), \(key.actsForMaker),
                    \(key.createdAt))
            """, scope: scope)
    }

    /// Writes what a rotation or a renaming changed, if the row is still of the version before; `false` if
    /// not.
    package func update(_ key: APIKeyRow, scope: Scope) async throws -> Bool {
        try await pool.execute(
            """
            UPDATE api_keys
            SET name = \(key.name), key_hash = \(PostgresData(key.keyHash)), prefix = \(key.prefix),
                previous_hash = \(key.previousHash.map { PostgresData($0) }),
                previous_expires_at = \(key.previousExpiresAt), expires_at = \(key.expiresAt),
                version = \(key.version), mac_key = \(key.mac.keyID), mac = \(PostgresData(key.mac.code))
            WHERE id = \(key.id) AND version = \(key.version) - 1 AND revoked_at IS NULL
            """, scope: scope) > 0
    }

    /// The key of a secret's hash, whatever its state: the caller judges MAC, expiry and revocation.
    package func apiKey(hash: [UInt8]) async throws -> APIKeyRow? {
        try await pool.query(
            """
            SELECT \(fragment: Self.keyColumns) FROM api_keys k
            WHERE key_hash = \(PostgresData(hash)) OR previous_hash = \(PostgresData(hash))
            """, scope: .platform, decode: Self.key
        ).first
    }

    /// A key by its id, if the scope sees it.
    package func apiKey(_ id: APIKeyID, scope: Scope) async throws -> APIKeyRow? {
        try await pool.query(
            "SELECT \(fragment: Self.keyColumns) FROM api_keys k WHERE id = \(id)", scope: scope,
            decode: Self.key
        ).first
    }

    /// The keys that the scope sees, by id.
    package func apiKeys(_ page: PageRequest, scope: Scope) async throws -> [APIKeyRow] {
        try await pool.query(
            """
            SELECT \(fragment: Self.keyColumns) FROM api_keys k
            WHERE \(fragment: page.isAfter("id"))
            \(fragment: page.order(by: "id"))
            """, scope: scope, decode: Self.key)
    }

    /// Revokes a key that the scope sees; `false` if there is none that was not revoked.
    package func revokeAPIKey(_ id: APIKeyID, scope: Scope) async throws -> Bool {
        try await pool.execute(
            "UPDATE api_keys SET revoked_at = now() WHERE id = \(id) AND revoked_at IS NULL", scope: scope)
            > 0
    }

    /// Notes when keys were used last.
    package func noteUse(of keys: [(id: APIKeyID, at: Instant)]) async throws {
        try await pool.execute(
            """
            UPDATE api_keys k SET last_used_at = u.at
            FROM unnest(\(keys.map(\.id)), \(keys.map(\.at))) AS u(id, at)
            WHERE k.id = u.id AND (k.last_used_at IS NULL OR k.last_used_at < u.at)
            """, scope: .platform)
    }

    private static let keyColumns: SQL = """
        k.id, k.partner_id, k.organization_id, k.site_id, k.key_hash, k.previous_hash, k.previous_expires_at,
        k.prefix, k.name, k.permissions, k.expires_at, k.revoked_at, k.created_by, k.acts_for_maker,
        k.version, k.created_at, k.last_used_at, k.mac_key, k.mac
        """

    @Sendable private static func key(_ row: PostgresRow) throws -> APIKeyRow {
        let (
            id, partner, organization, site, hash, previousHash, previousExpiresAt, prefix, name, permissions,
            expiresAt, revokedAt, createdBy, actsForMaker, version, createdAt, lastUsedAt, macKey, mac
        ) = try row.decode(
            (
                APIKeyID, PartnerID?, OrganizationID?, SiteID?, PostgresData, PostgresData?, Instant?, String,
                String, [String], Instant, Instant?, PrincipalID?, Bool, Int, Instant, Instant?, String,
                PostgresData
            ).self)
        var key = APIKeyRow(
            id: id, keyHash: hash.bytes, prefix: prefix, place: LevelColumns(partner, organization, site),
            name: name, permissions: permissions, expiresAt: expiresAt, createdBy: createdBy,
            actsForMaker: actsForMaker, createdAt: createdAt)
        (key.previousHash, key.previousExpiresAt) = (previousHash?.bytes, previousExpiresAt)
        (key.revokedAt, key.version, key.lastUsedAt) = (revokedAt, version, lastUsedAt)
        key.mac = RowMAC(keyID: macKey, code: mac.bytes)
        return key
    }
}
