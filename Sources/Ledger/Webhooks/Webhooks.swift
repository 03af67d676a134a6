package import Domain
package import Postgres

/// A row of `webhooks`: who is told of what, and how that went last.
package struct WebhookRow: Sendable {
    /// Which one, and whose it is: the platform's, a partner's or an organization's.
    package var id: WebhookID
    package var home: LevelColumns
    /// Where it is told.
    package var url: String
    package var description: String
    /// What it is told of; words that this release does not know are left out.
    package var events: [WebhookEventType]
    /// The sealed secret that signs, and after it the one before; the version is the first one's.
    package var sealed: [[UInt8]]
    package var secretVersion: Int
    /// Until when the secret before signs too.
    package var previousExpiresAt: Instant?
    /// Whether it is told, and why not since when.
    package var state = WebhookState.active
    package var disabledReason: String?
    package var disabledAt: Instant?
    /// Deliveries in a row that were given up, and since when no attempt has succeeded.
    package var failures = 0
    package var failingSince: Instant?
    /// How often it was edited, from 1.
    package var version = 1
    package var createdBy: PrincipalID?
    package var createdAt: Instant
    package var updatedAt: Instant

    /// A new webhook.
    package init(
        id: WebhookID, home: LevelColumns, url: String, description: String, events: [WebhookEventType],
        sealed: [UInt8], createdBy: PrincipalID?, createdAt: Instant
    ) {
        (self.id, self.home, self.url, self.description) = (id, home, url, description)
        (self.events, self.sealed, secretVersion) = (events, [sealed], 1)
        (self.createdBy, self.createdAt, updatedAt) = (createdBy, createdAt, createdAt)
    }
}

extension Ledger {
    /// How many webhooks an owner may have.
    package static let webhooksMax = 50

    /// Keeps a new webhook; `false` if its owner has as many as it may.
    package func insert(_ webhook: WebhookRow, scope: Scope) async throws -> Bool {
        try await pool.execute(
            """
            INSERT INTO webhooks (id, partner_id, organization_id, url, description, events, sealed,
                                  secret_version, created_by, created_at, updated_at)
            SELECT \(webhook.id), \(webhook.home.partner), \(webhook.home.organization), \(webhook.url),
                   \(webhook.description), \(webhook.events.map(\.rawValue)),
                   \(webhook.sealed.map { PostgresData($0) }), \(webhook.secretVersion),
                   \(webhook.createdBy), \(webhook.createdAt), \(webhook.createdAt)
            WHERE (SELECT count(*) FROM webhooks
                   WHERE owner = \(Self.owner(webhook.home))) < \(Self.webhooksMax)
            """, scope: scope) > 0
    }

    /// Writes what an edit changed, if the row is still of the version before; `false` if not. Enabling it
    /// forgets its failures.
    package func update(_ webhook: WebhookRow, scope: Scope) async throws -> Bool {
        try await pool.execute(
            """
            UPDATE webhooks
            SET url = \(webhook.url), description = \(webhook.description),
                events = \(webhook.events.map(\.rawValue)), state = \(webhook.state),
                disabled_reason = \(webhook.disabledReason), disabled_at = \(webhook.disabledAt),
                failures = CASE WHEN state <> 0 AND \(webhook.state) = 0 THEN 0 ELSE failures END,
                failing_since = CASE WHEN state <> 0 AND \(webhook.state) = 0 THEN NULL
                                     ELSE failing_since END,
                version = \(webhook.version), updated_at = now()
            WHERE id = \(webhook.id) AND version = \(webhook.version) - 1
            """, scope: scope) > 0
    }

    /// Writes another secret, if the row is still of the version before; `false` if not.
    package func updateSecret(of webhook: WebhookRow, scope: Scope) async throws -> Bool {
        try await pool.execute(
            """
            UPDATE webhooks
            SET sealed = \(webhook.sealed.map { PostgresData($0) }),
                secret_version = \(webhook.secretVersion),
                previous_expires_at = \(webhook.previousExpiresAt), version = \(webhook.version),
                updated_at = now()
            WHERE id = \(webhook.id) AND version = \(webhook.version) - 1
              AND secret_version = \(webhook.secretVersion) - 1
            """, scope: scope) > 0
    }

    /// Takes a webhook away with its deliveries; `false` if there is none that the scope sees.
    package func deleteWebhook(_ id: WebhookID, version: Int?, scope: Scope) async throws -> Bool {
        try await pool.query(
            """
            WITH gone AS (
                DELETE FROM webhooks WHERE id = \(id) AND version = coalesce(\(version), version)
                RETURNING id
            ), log AS (
                DELETE FROM webhook_deliveries d USING gone g WHERE d.webhook_id = g.id
            )
            SELECT id FROM gone
            """, scope: scope
        ) { row in try row.decode(WebhookID.self) }.first != nil
    }

    /// A webhook, if the scope sees its home.
    package func webhook(_ id: WebhookID, scope: Scope) async throws -> WebhookRow? {
        try await pool.query(
            "SELECT \(fragment: Self.webhookColumns) FROM webhooks w WHERE id = \(id)", scope: scope,
            decode: Self.webhook
        ).first
    }

    /// The webhooks that the scope sees, by id.
    package func webhooks(_ page: PageRequest, scope: Scope) async throws -> [WebhookRow] {
        try await pool.query(
            """
            SELECT \(fragment: Self.webhookColumns) FROM webhooks w
            WHERE \(fragment: page.isAfter("id"))
            \(fragment: page.order(by: "id"))
            """, scope: scope, decode: Self.webhook)
    }

    /// The id that a webhook's tasks stand under.
    static func owner(_ home: LevelColumns) -> OrganizationID {
        home.organization ?? OrganizationID(home.partner?.value ?? .zero)
    }

    static let webhookColumns: SQL = """
        w.id, w.partner_id, w.organization_id, w.url, w.description, w.events, w.sealed, w.secret_version,
        w.previous_expires_at, w.state, w.disabled_reason, w.disabled_at, w.failures, w.failing_since,
        w.version, w.created_by, w.created_at, w.updated_at
        """

    @Sendable static func webhook(_ row: PostgresRow) throws -> WebhookRow {
        let (
            id, partner, organization, url, description, events, sealed, secretVersion, previousExpiresAt,
            state, disabledReason, disabledAt, failures, failingSince, version, createdBy, createdAt,
            updatedAt
        ) = try row.decode(
            (
                WebhookID, PartnerID?, OrganizationID?, String, String, [String], [PostgresData], Int,
                Instant?, WebhookState, String?, Instant?, Int32, Instant?, Int, PrincipalID?, Instant,
                Instant
            ).self)
        var webhook = WebhookRow(
            id: id, home: LevelColumns(partner, organization, nil), url: url, description: description,
            events: events.compactMap(WebhookEventType.init), sealed: [], createdBy: createdBy,
            createdAt: createdAt)
        (webhook.sealed, webhook.secretVersion) = (sealed.map(\.bytes), secretVersion)
        (webhook.previousExpiresAt, webhook.state) = (previousExpiresAt, state)
        (webhook.disabledReason, webhook.disabledAt) = (disabledReason, disabledAt)
        (webhook.failures, webhook.failingSince) = (Int(failures), failingSince)
        (webhook.version, webhook.updatedAt) = (version, updatedAt)
        return webhook
    }
}
