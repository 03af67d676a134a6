package import Domain
import Postgres

/// What is sealed with another key than a certain one, and its replacement: each table by its ids, so that
/// whoever begins anew finds what is left.
extension Ledger {
    /// Secrets of which a value does not begin with the mark of a key, by id.
    package func secrets(
        withoutMark mark: [UInt8], after id: SecretID, limit: Int
    ) async throws -> [SecretRow] {
        try await pool.query(
            """
            SELECT \(fragment: Self.secretColumns) FROM secrets s
            WHERE id > \(id) AND \(fragment: Self.lacks(mark))
            ORDER BY id LIMIT \(limit)
            """, scope: .platform, decode: Self.secret)
    }

    /// Puts a secret's values under another key, unless they have changed since; `false` if they have.
    package func reseal(_ secret: SecretID, from old: [[UInt8]], to new: [[UInt8]]) async throws -> Bool {
        try await pool.execute(
            """
            UPDATE secrets SET sealed = \(new.map { PostgresData($0) })
            WHERE id = \(secret) AND sealed = \(old.map { PostgresData($0) })
            """, scope: .platform) > 0
    }

    /// Webhooks of which a secret does not begin with the mark of a key, by id.
    package func webhooks(
        withoutMark mark: [UInt8], after id: WebhookID, limit: Int
    ) async throws -> [WebhookRow] {
        try await pool.query(
            """
            SELECT \(fragment: Self.webhookColumns) FROM webhooks w
            WHERE id > \(id) AND \(fragment: Self.lacks(mark))
            ORDER BY id LIMIT \(limit)
            """, scope: .platform, decode: Self.webhook)
    }

    /// Puts a webhook's secrets under another key, unless they have changed since; `false` if they have.
    package func reseal(_ webhook: WebhookID, from old: [[UInt8]], to new: [[UInt8]]) async throws -> Bool {
        try await pool.execute(
            """
            UPDATE webhooks SET sealed = \(new.map { PostgresData($0) })
            WHERE id = \(webhook) AND sealed = \(old.map { PostgresData($0) })
            """, scope: .platform) > 0
    }

    /// People whose authenticator's secret does not begin with the mark of a key, by id.
    package func users(
        withoutMark mark: [UInt8], after id: UserID, limit: Int
    ) async throws -> [UserID] {
        try await pool.query(
            """
            SELECT user_id FROM user_credentials
            WHERE user_id > \(id) AND sealed IS NOT NULL
              AND \(fragment: Self.begins(without: mark))
            ORDER BY user_id LIMIT \(limit)
            """, scope: .platform
        ) { try $0.decode(UserID.self) }
    }

    /// Puts an authenticator's secret under another key, unless the row has changed since, its expiry and its
    /// last step included, which the MAC covers; `false` if it has.
    package func reseal(_ credentials: CredentialsRow, from old: [UInt8]) async throws -> Bool {
        try await pool.execute(
            """
            UPDATE user_credentials
            SET sealed = \(credentials.sealed.map { PostgresData($0) }), mac_key = \(credentials.mac.keyID),
                mac = \(PostgresData(credentials.mac.code))
            WHERE user_id = \(credentials.user) AND version = \(credentials.version)
              AND expires_at = \(credentials.expiresAt) AND totp_step = \(credentials.lastStep)
              AND sealed = \(PostgresData(old))
            """, scope: .platform) > 0
    }

    /// Providers whose client's secret does not begin with the mark of a key, by id.
    package func oidcProviders(
        withoutMark mark: [UInt8], after id: OIDCProviderID, limit: Int
    ) async throws -> [OIDCProviderRow] {
        try await pool.query(
            """
            SELECT \(fragment: Self.providerColumns) FROM oidc_providers o
            WHERE id > \(id) AND sealed IS NOT NULL AND \(fragment: Self.begins(without: mark))
            ORDER BY id LIMIT \(limit)
            """, scope: .platform, decode: Self.provider)
    }

    /// Puts a client's secret under another key, unless the row has changed since, its expiry included,
    /// which the MAC covers; `false` if it has. Whoever has read the row before writes nothing of it then.
    package func reseal(_ provider: OIDCProviderRow, from old: [UInt8]) async throws -> Bool {
        try await pool.execute(
            """
            UPDATE oidc_providers
            SET sealed = \(provider.terms.sealed.map(PostgresData.init)), mac_key = \(provider.mac.keyID),
                mac = \(PostgresData(provider.mac.code)), links_made = links_made + 1
            WHERE id = \(provider.id) AND version = \(provider.version)
              AND links_made = \(provider.linksMade)
              AND expires_at = \(provider.expiresAt) AND sealed = \(PostgresData(old))
            """, scope: .platform) > 0
    }

    /// Whether the one sealed value does not begin so.
    private static func begins(without mark: [UInt8]) -> SQL {
        "substr(sealed, 1, \(Int32(mark.count))) <> \(PostgresData(mark))"
    }

    /// Whether one of the sealed values does not begin so.
    private static func lacks(_ mark: [UInt8]) -> SQL {
        """
        EXISTS (SELECT FROM unnest(sealed) v
                WHERE substr(v, 1, \(Int32(mark.count))) <> \(PostgresData(mark)))
        """
    }
}
