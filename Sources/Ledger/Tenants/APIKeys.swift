package import Domain
package import Postgres

/// A row of `api_keys`: it grants power, so its MAC is judged before anything in it is believed.
package struct APIKeyRow: Sendable {
    /// Its id and the SHA-256 of its secret.
    package var id: APIKeyID
    package var keyHash: [UInt8]
    /// The level that it may act on; none of the three means the platform.
    package var partner: PartnerID?
    package var organization: OrganizationID?
    package var site: SiteID?
    /// What it may do, and until when.
    package var name: String
    package var permissions: [String]
    package var expiresAt: Instant
    package var revokedAt: Instant?
    /// Which key made the MAC, and the MAC.
    package var macKey: String
    package var mac: [UInt8]
    /// Who made it.
    package var createdBy: APIKeyID?

    /// A key's row.
    package init(
        id: APIKeyID, keyHash: [UInt8], partner: PartnerID?, organization: OrganizationID?, site: SiteID?,
        name: String,
        permissions: [String], expiresAt: Instant, revokedAt: Instant?, macKey: String, mac: [UInt8],
        createdBy: APIKeyID?
    ) {
        self.id = id
        self.keyHash = keyHash
        self.partner = partner
        self.organization = organization
        self.site = site
        self.name = name
        self.permissions = permissions
        self.expiresAt = expiresAt
        self.revokedAt = revokedAt
        self.macKey = macKey
        self.mac = mac
        self.createdBy = createdBy
    }
}

extension Ledger {
    /// Keeps a new key; its level must be one that the scope sees.
    package func insert(_ key: APIKeyRow, scope: Scope) async throws {
        try await pool.execute(
            """
            INSERT INTO api_keys (id, partner_id, organization_id, site_id, name, key_hash, permissions,
                                  expires_at, mac_key, mac, created_by)
            VALUES (\(key.id), \(key.partner), \(key.organization), \(key.site), \(key.name),
                    \(PostgresData(key.keyHash)), \(key.permissions), \(key.expiresAt), \(key.macKey),
                    \(PostgresData(key.mac)), \(key.createdBy))
            """, scope: scope)
    }

    /// The key of a secret's hash, whatever its state: the caller judges MAC, expiry and revocation.
    package func apiKey(hash: [UInt8]) async throws -> APIKeyRow? {
        try await pool.query(
            """
            SELECT id, partner_id, organization_id, site_id, name, permissions, expires_at, revoked_at,
                   mac_key, mac, created_by
            FROM api_keys WHERE key_hash = \(PostgresData(hash))
            """, scope: .platform
        ) { row in
            let (
                id, partner, organization, site, name, permissions, expiresAt, revokedAt, macKey, mac,
                createdBy
            ) =
                try row.decode(
                    (
                        APIKeyID, PartnerID?, OrganizationID?, SiteID?, String, [String], Instant, Instant?,
                        String, PostgresData, APIKeyID?
                    ).self)
            return APIKeyRow(
                id: id, keyHash: hash, partner: partner, organization: organization, site: site, name: name,
                permissions: permissions, expiresAt: expiresAt, revokedAt: revokedAt, macKey: macKey,
                mac: mac.bytes,
                createdBy: createdBy)
        }.first
    }

    /// Revokes a key that the scope sees.
    package func revokeAPIKey(_ id: APIKeyID, scope: Scope) async throws -> Bool {
        try await pool.execute(
            "UPDATE api_keys SET revoked_at = now() WHERE id = \(id) AND revoked_at IS NULL", scope: scope)
            > 0
    }
}
