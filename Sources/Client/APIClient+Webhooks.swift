package import Domain
package import Wire

/// Who is told of what happens.
extension APIClient {
    /// Makes a webhook; the secret is in no other answer.
    package func createWebhook(_ new: NewWebhook) async throws -> WebhookSecret {
        try await post("/v1/webhooks", new)
    }

    /// One page of webhooks.
    package func webhooks(_ page: PageOptions = PageOptions()) async throws -> Page<Webhook> {
        try await get("/v1/webhooks", page.parameters)
    }

    /// One webhook, but for its secret.
    package func webhook(_ id: WebhookID) async throws -> Webhook { try await get("/v1/webhooks/\(id)") }

    /// Edits a webhook.
    package func edit(
        _ id: WebhookID, _ changes: NewWebhookChanges, version: Int? = nil
    ) async throws -> Webhook {
        try await patch("/v1/webhooks/\(id)", changes, version: version)
    }

    /// Takes a webhook away.
    package func remove(_ id: WebhookID, version: Int? = nil) async throws {
        try await delete("/v1/webhooks/\(id)", version: version)
    }

    /// Gives a webhook another secret.
    package func rotate(_ id: WebhookID, _ rotation: NewRotation) async throws -> WebhookSecret {
        try await post("/v1/webhooks/\(id)/rotate", rotation)
    }

    /// Has a webhook told again.
    package func enable(_ id: WebhookID) async throws -> Webhook {
        try await post("/v1/webhooks/\(id)/enable")
    }

    /// Sends a webhook a test.
    package func test(_ id: WebhookID) async throws -> WebhookDelivery {
        try await post("/v1/webhooks/\(id)/test")
    }

    /// One page of what a webhook was told of, newest first.
    package func deliveries(
        of id: WebhookID, _ page: PageOptions = PageOptions()
    ) async throws -> Page<WebhookDelivery> {
        try await get("/v1/webhooks/\(id)/deliveries", page.parameters)
    }

    /// Tells a webhook once more of an event.
    package func redeliver(_ id: WebhookDeliveryID) async throws -> WebhookDelivery {
        try await post("/v1/webhook-deliveries/\(id)/redeliver")
    }
}
