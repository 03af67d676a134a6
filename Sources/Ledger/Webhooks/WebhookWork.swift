package import Domain
import Postgres

/// All that one attempt to tell a webhook needs.
package struct DueDelivery: Sendable {
    /// Which delivery, where it is, and how often it has failed.
    package let id: WebhookDeliveryID
    package let state: WebhookDeliveryState
    package let failures: Int
    /// The webhook as it is now.
    package let webhook: WebhookRow
    /// The event: what is sent.
    package let event: WebhookEventID
    package let type: String
    package let organization: OrganizationID?
    package let partner: PartnerID?
    package let at: Instant
    package let data: String
}

/// How an attempt to tell a webhook went.
package struct WebhookAttempt: Sendable {
    /// What becomes of the delivery.
    package enum End: Sendable, Hashable {
        /// The receiver has taken it.
        case delivered
        /// It is tried again after a wait.
        case again(Duration)
        /// It was the last attempt.
        case givenUp
    }

    /// What becomes of the delivery.
    package var end: End
    /// The answer's status or, if there was none, why.
    package var status: Int?
    package var error: String?
    /// How long it took.
    package var latency: Duration
    /// Whether the receiver says that it wants no more.
    package var isGone: Bool

    /// An attempt.
    package init(end: End, status: Int?, error: String?, latency: Duration, isGone: Bool = false) {
        (self.end, self.status, self.error) = (end, status, error)
        (self.latency, self.isGone) = (latency, isGone)
    }

    fileprivate var state: WebhookDeliveryState {
        switch end {
        case .delivered: .delivered
        case .again: .pending
        case .givenUp: .failed
        }
    }

    fileprivate var wait: Double? { if case .again(let wait) = end { wait / .seconds(1) } else { nil } }
}

/// When failures disable a webhook.
package struct WebhookPatience: Sendable {
    /// Deliveries in a row that were given up.
    package var failures = 20
    /// Seconds without an attempt that succeeded, from the first that failed.
    package var seconds = 3 * 86_400

    /// As an installation has it.
    package init() {}
}

extension Ledger {
    /// Spreads events over the webhooks that listen to them, the oldest first: a delivery and a task each,
    /// once whoever else does it at the same time.
    /// - Returns: how many events were taken, and the tasks for the queue.
    package func spreadEvents(limit: Int) async throws -> (events: Int, queued: [QueuedRun]) {
        let results = try await pool.pipeline(
            scope: .platform,
            [
                """
                WITH taken AS MATERIALIZED (
                    SELECT id, organization_id, partner_id, type FROM webhook_events WHERE NOT spread
                    ORDER BY id LIMIT \(limit) FOR UPDATE SKIP LOCKED
                ), done AS (
                    UPDATE webhook_events e SET spread = true FROM taken t WHERE e.id = t.id
                ), pairs AS MATERIALIZED (
                    SELECT t.id AS event_id, t.type, w.id AS webhook_id, w.owner, w.organization_id,
                           w.partner_id
                    FROM taken t CROSS JOIN LATERAL (
                        SELECT * FROM webhooks w
                        WHERE w.state = 0 AND t.type = ANY (w.events)
                          AND w.owner = ANY (ARRAY[t.organization_id, t.partner_id,
                                                   '00000000-0000-0000-0000-000000000000'::uuid])
                        OFFSET 0
                    ) w
                ), \(fragment: Self.madeDeliveries)
                SELECT organization_id, id, generation, priority, (SELECT count(*) FROM taken) FROM queued
                UNION ALL
                SELECT NULL, NULL, NULL, NULL, count(*) FROM taken
                """
            ])
        var (events, queued): (Int, [QueuedRun]) = (0, [])
        for row in results[0].rows {
            let (organization, task, generation, priority, taken) = try row.decode(
                (OrganizationID?, TaskID?, Int32?, Priority?, Int).self)
            events = taken
            guard let organization, let task, let generation, let priority else { continue }
            queued.append(
                QueuedRun(
                    organization: organization, task: task, generation: Int(generation), priority: priority))
        }
        return (events, queued)
    }

    /// What an attempt needs; `nil` if the delivery, its webhook or its event is gone.
    package func dueDelivery(_ id: WebhookDeliveryID) async throws -> DueDelivery? {
        let results = try await pool.pipeline(
            scope: .platform,
            [
                """
                SELECT d.state, d.failures, e.id, e.type, e.organization_id, e.partner_id, e.at, e.payload
                FROM webhook_deliveries d JOIN webhook_events e ON e.id = d.event_id WHERE d.id = \(id)
                """,
                """
                SELECT \(fragment: Self.webhookColumns)
                FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook_id WHERE d.id = \(id)
                """,
            ])
        guard let delivery = results[0].rows.first, let webhook = results[1].rows.first else { return nil }
        let (state, failures, event, type, organization, partner, at, data) = try delivery.decode(
            (
                WebhookDeliveryState, Int32, WebhookEventID, String, OrganizationID?, PartnerID?, Instant,
                String
            ).self)
        return DueDelivery(
            id: id, state: state, failures: Int(failures), webhook: try Self.webhook(webhook), event: event,
            type: type, organization: organization, partner: partner, at: at, data: data)
    }

    /// Says of a delivery that is pending that its webhook is told nothing any more.
    package func dropDelivery(_ id: WebhookDeliveryID) async throws {
        try await pool.execute(
            "UPDATE webhook_deliveries SET state = 3, next_at = NULL WHERE id = \(id) AND state = 0",
            scope: .platform)
    }

    /// Says when a delivery is tried that could not be now.
    package func postponeDelivery(_ id: WebhookDeliveryID, by wait: Duration) async throws {
        try await pool.execute(
            """
            UPDATE webhook_deliveries SET next_at = now() + make_interval(secs => \(wait / .seconds(1)))
            WHERE id = \(id) AND state = 0
            """, scope: .platform)
    }

    /// Records an attempt with what it says of the webhook, and disables that where its patience is over.
    ///
    /// A delivery that was ended meanwhile is left as it is.
    /// - Returns: whether the webhook was disabled by it.
    package func record(
        _ attempt: WebhookAttempt, of delivery: WebhookDeliveryID, webhook: WebhookID,
        patience: WebhookPatience
    ) async throws -> Bool {
        let isDelivered = attempt.end == .delivered
        let log: SQL = """
            UPDATE webhook_deliveries
            SET state = \(attempt.state), attempts = attempts + 1,
                failures = failures + CASE WHEN \(isDelivered) THEN 0 ELSE 1 END,
                status_code = \(attempt.status.map(Int32.init)), error = \(attempt.error),
                latency_milliseconds = \(Int32(clamping: Int(attempt.latency / .milliseconds(1)))),
                attempted_at = now(), next_at = now() + make_interval(secs => \(attempt.wait))
            WHERE id = \(delivery) AND state = 0
            """
        if isDelivered {
            // Who fails seldom is written seldom.
            try await pool.pipeline(
                scope: .platform,
                [
                    log,
                    """
                    UPDATE webhooks SET failures = 0, failing_since = NULL
                    WHERE id = \(webhook) AND (failures > 0 OR failing_since IS NOT NULL)
                    """,
                ])
            return false
        }
        let results = try await pool.pipeline(
            scope: .platform,
            [
                log,
                """
                UPDATE webhooks
                SET failures = failures + CASE WHEN \(attempt.end == .givenUp) THEN 1 ELSE 0 END,
                    failing_since = coalesce(failing_since, now())
                WHERE id = \(webhook)
                """,
                """
                UPDATE webhooks
                SET state = 2, disabled_at = now(), version = version + 1, updated_at = now(),
                    disabled_reason = CASE WHEN \(attempt.isGone) THEN 'gone'
                                           WHEN failures >= \(patience.failures) THEN 'deliveriesFailed'
                                           ELSE 'failingForDays' END
                WHERE id = \(webhook) AND state = 0
                  AND (\(attempt.isGone) OR failures >= \(patience.failures)
                       OR failing_since <= now() - make_interval(secs => \(Double(patience.seconds))))
                RETURNING id
                """,
            ])
        return !results[2].rows.isEmpty
    }

    // MARK: Retention

    /// Removes a part of an organization's deliveries that are older than so many days; returns how many.
    package func removeDeliveries(
        before days: Int, of organization: OrganizationID, limit: Int
    ) async throws -> Int {
        try await pool.execute(
            """
            DELETE FROM webhook_deliveries WHERE id IN (
                SELECT id FROM webhook_deliveries
                WHERE organization_id = \(organization)
                  AND id < crmm_uuid7_floor(now() - make_interval(days => \(Int32(days))))
                ORDER BY organization_id, id LIMIT \(limit))
            """, scope: .organization(organization))
    }

    /// Removes a part of what no organization keeps: events, and the deliveries and tasks of partners' and
    /// the platform's webhooks that are older than so many days.
    package func removeWebhookWork(before days: Int, limit: Int) async throws {
        let floor: SQL = "crmm_uuid7_floor(now() - make_interval(days => \(Int32(days))))"
        try await pool.pipeline(
            scope: .platform,
            [
                """
                DELETE FROM webhook_events WHERE id IN (
                    SELECT id FROM webhook_events WHERE id < \(fragment: floor) ORDER BY id LIMIT \(limit))
                """,
                """
                DELETE FROM webhook_deliveries WHERE id IN (
                    SELECT id FROM webhook_deliveries
                    WHERE id < \(fragment: floor) AND organization_id IS NULL ORDER BY id LIMIT \(limit))
                """,
                """
                DELETE FROM tasks t USING (
                    SELECT t.organization_id, t.id FROM tasks t
                    WHERE t.id < \(fragment: floor) AND t.kind = 'webhook.deliver' AND t.state >= 10
                      AND NOT EXISTS (SELECT FROM organizations o WHERE o.id = t.organization_id)
                    ORDER BY t.id LIMIT \(limit)) l
                WHERE \(fragment: Self.isLockedTask) AND t.state >= 10
                """,
            ])
    }
}
