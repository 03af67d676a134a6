package import Domain
package import Postgres

/// A row of `webhook_deliveries`: an event for a webhook, and how the last attempt went.
package struct WebhookDeliveryRow: Sendable, Hashable {
    /// Which one, of which webhook and event.
    package let id: WebhookDeliveryID
    package let webhook: WebhookID
    package let event: WebhookEventID
    /// The event's type: of `WebhookEventType`, or a test.
    package let type: String
    /// Where it is.
    package let state: WebhookDeliveryState
    /// Attempts of all, those that failed since it was first delivered or delivered again, and how often it
    /// was delivered again.
    package let attempts: Int
    package let failures: Int
    package let repeats: Int
    /// Of the last attempt: the status or, if there was none, why; and how long it took.
    package let status: Int?
    package let error: String?
    package let latencyMilliseconds: Int?
    package let attemptedAt: Instant?
    /// When it is tried next, if it is.
    package let nextAt: Instant?
    package let createdAt: Instant
}

/// What somebody asked to be sent: the delivery, and its entry for the queue.
package struct RequestedDelivery: Sendable {
    /// The delivery.
    package let id: WebhookDeliveryID
    /// Its entry for the queue.
    package let queued: QueuedRun
}

extension Ledger {
    /// The deliveries of a webhook that the scope sees, newest first.
    package func deliveries(
        of webhook: WebhookID, before: WebhookDeliveryID?, limit: Int, scope: Scope
    ) async throws -> [WebhookDeliveryRow] {
        let before = before ?? WebhookDeliveryID(UniqueID(high: .max, low: .max))
        return try await pool.query(
            """
            SELECT \(fragment: Self.deliveryColumns) FROM webhook_deliveries d
            WHERE (d.webhook_id, d.id) < (\(webhook), \(before)) AND d.webhook_id = \(webhook)
            ORDER BY d.webhook_id DESC, d.id DESC LIMIT \(limit)
            """, scope: scope, decode: Self.delivery)
    }

    /// One delivery, if the scope sees its webhook's home.
    package func delivery(_ id: WebhookDeliveryID, scope: Scope) async throws -> WebhookDeliveryRow? {
        try await pool.query(
            "SELECT \(fragment: Self.deliveryColumns) FROM webhook_deliveries d WHERE d.id = \(id)",
            scope: scope, decode: Self.delivery
        ).first
    }

    /// Makes an event for one webhook alone, with its delivery.
    /// - Returns: `nil` if there is no active webhook of this id that the scope sees.
    package func testWebhook(_ id: WebhookID, scope: Scope) async throws -> RequestedDelivery? {
        guard try await webhook(id, scope: scope)?.state == .active else { return nil }
        return try await pool.query(
            """
            WITH event AS (
                INSERT INTO webhook_events (id, organization_id, partner_id, type, subject_id, payload, at,
                                            spread)
                SELECT crmm_uuid7(), w.organization_id, w.partner_id, \(WebhookEventType.test), w.id,
                       json_build_object('id', w.id)::text, clock_timestamp(), true
                FROM webhooks w WHERE w.id = \(id) AND w.state = 0
                RETURNING id, type
            ), pairs AS MATERIALIZED (
                SELECT e.id AS event_id, e.type, w.id AS webhook_id, w.owner, w.organization_id, w.partner_id
                FROM event e CROSS JOIN webhooks w WHERE w.id = \(id)
            ), \(fragment: Self.madeDeliveries)
            SELECT t.organization_id, t.id, t.generation, t.priority, d.id
            FROM queued t JOIN made d ON d.task_id = t.id
            """, scope: .platform, decode: Self.requestedDelivery
        ).first
    }

    /// Gives a delivery that is over, or that no task has any more, another task: the same bytes under the
    /// same ids are sent again, and as often as at first.
    /// - Throws: `notFound` if the scope does not see it; `conflict` if it is under way, its webhook is not
    ///   active, or its event is kept no longer.
    package func redeliver(_ id: WebhookDeliveryID, scope: Scope) async throws -> RequestedDelivery {
        guard let row = try await delivery(id, scope: scope) else {
            throw LedgerError(.notFound, "there is nothing here, or nothing that you may see")
        }
        guard try await webhook(row.webhook, scope: scope)?.state == .active else {
            throw LedgerError(.conflict, "the webhook is disabled: enable it first")
        }
        let made = try await pool.query(
            """
            WITH again AS (
                UPDATE webhook_deliveries d
                SET state = 0, failures = 0, repeats = repeats + 1, task_id = crmm_uuid7(), next_at = now()
                FROM webhook_events e, webhooks w
                WHERE d.id = \(id) AND e.id = d.event_id AND w.id = d.webhook_id
                  AND (d.state <> 0 OR NOT EXISTS (
                          SELECT FROM tasks t
                          WHERE t.organization_id = w.owner AND t.id = d.task_id AND t.state < 10))
                RETURNING d.id, d.task_id, d.repeats, w.owner
            ), \(fragment: Self.queuedTasks(of: "again"))
            SELECT t.organization_id, t.id, t.generation, t.priority, a.id
            FROM queued t JOIN again a ON a.task_id = t.id
            """, scope: .platform, decode: Self.requestedDelivery
        ).first
        guard let made else {
            throw LedgerError(.conflict, "the delivery is under way, or its event is kept no longer")
        }
        return made
    }

    // MARK: Parts of statements

    /// Of `pairs` of an event and a webhook each, the deliveries and their tasks, once a pair.
    static let madeDeliveries: SQL = """
        made AS (
            INSERT INTO webhook_deliveries (id, organization_id, partner_id, webhook_id, event_id, type,
                                            task_id, next_at)
            SELECT crmm_uuid7(), organization_id, partner_id, webhook_id, event_id, type, crmm_uuid7(), now()
            FROM pairs
            ON CONFLICT (webhook_id, event_id) DO NOTHING
            RETURNING id, task_id, repeats,
                      coalesce(organization_id, partner_id, '00000000-0000-0000-0000-000000000000') AS owner
        ), \(fragment: queuedTasks(of: "made"))
        """

    // The handler counts failures by itself; the policy's number is only out of its way.
    static func queuedTasks(of rows: SQL) -> SQL {
        """
        queued AS (
            INSERT INTO tasks (organization_id, id, kind, payload, state, priority, maximum_attempts,
                               backoff_seconds, maximum_backoff_seconds, timeout_seconds, idempotency_key,
                               expires_at, deadline)
            SELECT owner, task_id, 'webhook.deliver',
                   convert_to(json_build_object('delivery', id)::text, 'UTF8'), 1, 1, 100, 5, 300, 60,
                   id || '.' || repeats, now() + interval '7 days', now() + interval '7 days'
            FROM \(fragment: rows)
            RETURNING organization_id, id, generation, priority
        )
        """
    }

    private static let deliveryColumns: SQL = """
        d.id, d.webhook_id, d.event_id, d.type, d.state, d.attempts, d.failures, d.repeats, d.status_code,
        d.error, d.latency_milliseconds, d.attempted_at, d.next_at, d.created_at
        """

    @Sendable private static func delivery(_ row: PostgresRow) throws -> WebhookDeliveryRow {
        let (
            id, webhook, event, type, state, attempts, failures, repeats, status, error, latency, attemptedAt,
            nextAt, createdAt
        ) = try row.decode(
            (
                WebhookDeliveryID, WebhookID, WebhookEventID, String, WebhookDeliveryState, Int32, Int32,
                Int32, Int32?, String?, Int32?, Instant?, Instant?, Instant
            ).self)
        return WebhookDeliveryRow(
            id: id, webhook: webhook, event: event, type: type, state: state, attempts: Int(attempts),
            failures: Int(failures), repeats: Int(repeats), status: status.map(Int.init), error: error,
            latencyMilliseconds: latency.map(Int.init), attemptedAt: attemptedAt, nextAt: nextAt,
            createdAt: createdAt)
    }

    @Sendable private static func requestedDelivery(_ row: PostgresRow) throws -> RequestedDelivery {
        let (organization, task, generation, priority, id) = try row.decode(
            (OrganizationID, TaskID, Int32, Priority, WebhookDeliveryID).self)
        return RequestedDelivery(
            id: id,
            queued: QueuedRun(
                organization: organization, task: task, generation: Int(generation), priority: priority))
    }
}
