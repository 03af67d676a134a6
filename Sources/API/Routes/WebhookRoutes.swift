import Access
import Domain
import Engine
import HTTPTypes
import Ledger
import Wire

extension Handlers {
    /// Calls about webhooks and their deliveries.
    var webhookRoutes: [Route] { subscriptionRoutes + deliveryRoutes }

    private var subscriptionRoutes: [Route] {
        [
            .post(
                "/v1/webhooks", "Makes a webhook; its secret is shown only here", .permitted(.webhooksWrite)
            ) { (call: Call, new: NewWebhook) in
                let (row, secret) = try await webhooks.create(
                    url: new.url, description: new.description, events: new.events, home: new.home.level,
                    by: call.principal)
                return WebhookSecret(webhook: Webhook(row), secret: secret)
            }.refusing(.conflict),
            .get("/v1/webhooks", "Lists the webhooks that you may see", .permitted(.webhooksRead)) {
                (call: Call, query: SortedQuery) in
                query.page.page(
                    try await ledger.webhooks(query.request, scope: call.scope), id: \.id.value, Webhook.init)
            },
            .get("/v1/webhooks/{id}", "Shows a webhook, but for its secret", .permitted(.webhooksRead)) {
                call in
                Webhook(try found(await ledger.webhook(call.id(), scope: call.scope)))
            },
            .patch(
                "/v1/webhooks/{id}", "Edits a webhook, or says whether it is told", .permitted(.webhooksWrite)
            ) {
                (call: Call, changes: NewWebhookChanges) in
                Webhook(
                    try await webhooks.edit(
                        call.id(), url: changes.url, description: changes.description, events: changes.events,
                        isDisabled: changes.disabled, version: call.version, by: call.principal))
            }.refusing(.conflict),
            .delete("/v1/webhooks/{id}", "Takes a webhook away, with its log", .permitted(.webhooksWrite)) {
                call in
                try await webhooks.delete(call.id(), version: call.version, by: call.principal)
            },
            .post(
                "/v1/webhooks/{id}/rotate",
                "Gives a webhook another secret, shown only here; the one before signs too for a while",
                .permitted(.webhooksWrite), status: .ok, takesIfMatch: true
            ) { (call: Call, new: NewRotation) in
                let (row, secret) = try await webhooks.rotate(
                    call.id(), overlap: .seconds(new.overlapSeconds), version: call.version,
                    by: call.principal)
                return WebhookSecret(webhook: Webhook(row), secret: secret)
            }.refusing(.conflict),
            .post(
                "/v1/webhooks/{id}/enable", "Has a webhook told again, and forgets its failures",
                .permitted(.webhooksWrite), status: .ok
            ) { call in
                Webhook(
                    try await webhooks.edit(call.id(), isDisabled: false, version: nil, by: call.principal))
            }.refusing(.conflict),
        ]
    }

    private var deliveryRoutes: [Route] {
        [
            .post(
                "/v1/webhooks/{id}/test", "Tells a webhook of an event of type webhook.test",
                .permitted(.webhooksWrite),
                status: .accepted
            ) { call in
                let id = try call.id(WebhookID.self)
                _ = try found(await ledger.webhook(id, scope: call.scope))
                guard let made = try await ledger.testWebhook(id, scope: call.scope) else {
                    throw Problem(.conflict, "the webhook is disabled: enable it first")
                }
                return try await shown(made, call)
            }.refusing(.conflict),
            .get(
                "/v1/webhooks/{id}/deliveries", "Lists what a webhook was told of, newest first",
                .permitted(.webhooksRead)
            ) { (call: Call, query: PageQuery) in
                let id = try call.id(WebhookID.self)
                _ = try found(await ledger.webhook(id, scope: call.scope))
                let rows = try await ledger.deliveries(
                    of: id, before: query.cursor.map { WebhookDeliveryID($0.last) }, limit: query.limit + 1,
                    scope: call.scope)
                return query.page(rows, id: \.id.value, WebhookDelivery.init)
            },
            .post(
                "/v1/webhook-deliveries/{id}/redeliver",
                "Tells a webhook once more of an event, as often as at first", .permitted(.webhooksWrite),
                status: .accepted
            ) { call in
                try await shown(ledger.redeliver(call.id(), scope: call.scope), call)
            }.refusing(.conflict),
        ]
    }

    private func shown(_ made: RequestedDelivery, _ call: Call) async throws -> WebhookDelivery {
        await tasks.offer([made.queued], of: .webhookDelivery)
        return WebhookDelivery(try found(await ledger.delivery(made.id, scope: call.scope)))
    }
}

extension Webhook {
    /// A row of webhooks.
    init(_ row: WebhookRow) {
        self.init(
            id: row.id, url: row.url, events: row.events, description: row.description,
            home: Place(row.home), secretVersion: row.secretVersion, version: row.version,
            createdAt: row.createdAt, updatedAt: row.updatedAt)
        (state, disabledReason, disabledAt) = (row.state, row.disabledReason, row.disabledAt)
        (failures, failingSince) = (row.failures, row.failingSince)
        previousSecretExpiresAt = row.previousExpiresAt
    }
}

extension WebhookDelivery {
    /// A row of deliveries.
    init(_ row: WebhookDeliveryRow) {
        self.init(
            id: row.id, webhookId: row.webhook, eventId: row.event, type: row.type, state: row.state,
            createdAt: row.createdAt)
        (attempts, redeliveries, statusCode, error) = (row.attempts, row.repeats, row.status, row.error)
        (latencyMilliseconds, attemptedAt) = (row.latencyMilliseconds, row.attemptedAt)
        nextAttemptAt = row.nextAt
    }
}
