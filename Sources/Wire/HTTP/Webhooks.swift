package import Domain

/// Body that makes a webhook.
package struct NewWebhook: WireObject, Equatable {
    /// Where it is told: `https://…`.
    package var url: String
    /// What it is told of.
    package var events: [WebhookEventType]
    /// Shown to others.
    package var description: String
    /// Whose it is, and so below what it hears: a partner's, an organization's or the platform's.
    package var home: Place

    /// A webhook to be made.
    package init(url: String, events: [WebhookEventType], description: String = "", home: Place = Place()) {
        (self.url, self.events, self.description, self.home) = (url, events, description, home)
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        url = try reader.field("url", String.self, .in(Limits.webhookURLBytes))
        events = try reader.field("events", [WebhookEventType].self, .in(Limits.webhookEvents))
        description = try reader.optional("description", String.self, .in(Limits.webhookTextBytes)) ?? ""
        home = try Place(from: &reader)
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("url", url)
        writer.field("events", events)
        writer.field("description", description)
        home.fields(to: &writer)
    }
}

/// Body that edits a webhook; what is absent stays.
package struct NewWebhookChanges: WireObject, Equatable {
    /// Where it is told from now on, of what, and what others see.
    package var url: String?
    package var events: [WebhookEventType]?
    package var description: String?
    /// Whether it is told nothing.
    package var disabled: Bool?

    /// An edit.
    package init(
        url: String? = nil, events: [WebhookEventType]? = nil, description: String? = nil,
        disabled: Bool? = nil
    ) {
        (self.url, self.events, self.description, self.disabled) = (url, events, description, disabled)
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        url = try reader.optional("url", String.self, .in(Limits.webhookURLBytes))
        events = try reader.optional("events", [WebhookEventType].self, .in(Limits.webhookEvents))
        description = try reader.optional("description", String.self, .in(Limits.webhookTextBytes))
        disabled = try reader.optional("disabled")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("url", url)
        writer.field("events", events)
        writer.field("description", description)
        writer.field("disabled", disabled)
    }
}

/// A webhook as shown: without its secret.
package struct Webhook: WireObject, Versioned, Equatable {
    /// Its id, where it is told, of what, and what others see.
    package var id: WebhookID
    package var url: String
    package var events: [WebhookEventType]
    package var description: String
    /// Whose it is.
    package var home: Place
    /// Whether it is told, and why not since when: `gone`, `deliveriesFailed` or `failingForDays`.
    package var state: WebhookState
    package var disabledReason: String?
    package var disabledAt: Instant?
    /// Deliveries in a row that were given up, and since when no attempt has succeeded.
    package var failures: Int
    package var failingSince: Instant?
    /// Which secret signs, counted from 1, and until when the one before signs too.
    package var secretVersion: Int
    package var previousSecretExpiresAt: Instant?
    /// How often it was edited, from 1: the number in its `ETag`.
    package var version: Int
    /// When it was made, and edited last.
    package var createdAt: Instant
    package var updatedAt: Instant

    /// A webhook that is told.
    package init(
        id: WebhookID, url: String, events: [WebhookEventType], description: String, home: Place,
        secretVersion: Int, version: Int, createdAt: Instant, updatedAt: Instant
    ) {
        (self.id, self.url, self.events, self.description) = (id, url, events, description)
        (self.home, self.secretVersion, self.version) = (home, secretVersion, version)
        (self.createdAt, self.updatedAt, state, failures) = (createdAt, updatedAt, .active, 0)
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        url = try reader.field("url")
        events = try reader.field("events")
        description = try reader.field("description")
        home = try Place(from: &reader)
        state = try reader.field("state")
        disabledReason = try reader.optional("disabledReason")
        disabledAt = try reader.optional("disabledAt")
        failures = try reader.field("failures")
        failingSince = try reader.optional("failingSince")
        secretVersion = try reader.field("secretVersion")
        previousSecretExpiresAt = try reader.optional("previousSecretExpiresAt")
        version = try reader.field("version")
        createdAt = try reader.field("createdAt")
        updatedAt = try reader.field("updatedAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("url", url)
        writer.field("events", events)
        writer.field("description", description)
        home.fields(to: &writer)
        writer.field("state", state)
        writer.field("disabledReason", disabledReason)
        writer.field("disabledAt", disabledAt)
        writer.field("failures", failures)
        writer.field("failingSince", failingSince)
        writer.field("secretVersion", secretVersion)
        writer.field("previousSecretExpiresAt", previousSecretExpiresAt)
        writer.field("version", version)
        writer.field("createdAt", createdAt)
        writer.field("updatedAt", updatedAt)
    }
}

/// A webhook with the secret that signs what it is told: shown only where it is made.
package struct WebhookSecret: WireObject, Equatable {
    /// The webhook.
    package var webhook: Webhook
    /// The secret: its text is the key.
    package var secret: String

    /// A webhook with its secret.
    package init(webhook: Webhook, secret: String) { (self.webhook, self.secret) = (webhook, secret) }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        webhook = try reader.field("webhook")
        secret = try reader.field("secret")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("webhook", webhook)
        writer.field("secret", secret)
    }
}

/// An event for a webhook, and how the last attempt to tell it went.
package struct WebhookDelivery: WireObject, Equatable {
    /// Its id, which each message carries; the webhook, the event and its type.
    package var id: WebhookDeliveryID
    package var webhookId: WebhookID
    package var eventId: WebhookEventID
    package var type: String
    /// Where it is.
    package var state: WebhookDeliveryState
    /// Attempts of all, and how often it was delivered again.
    package var attempts: Int
    package var redeliveries: Int
    /// Of the last attempt: the status, in a word why it failed, and how long it took.
    package var statusCode: Int?
    package var error: String?
    package var latencyMilliseconds: Int?
    package var attemptedAt: Instant?
    /// When it is tried next, if it is.
    package var nextAttemptAt: Instant?
    package var createdAt: Instant

    /// A delivery that was not tried yet.
    package init(
        id: WebhookDeliveryID, webhookId: WebhookID, eventId: WebhookEventID, type: String,
        state: WebhookDeliveryState, createdAt: Instant
    ) {
        (self.id, self.webhookId, self.eventId, self.type) = (id, webhookId, eventId, type)
        (self.state, self.createdAt, attempts, redeliveries) = (state, createdAt, 0, 0)
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        webhookId = try reader.field("webhookId")
        eventId = try reader.field("eventId")
        type = try reader.field("type")
        state = try reader.field("state")
        attempts = try reader.field("attempts")
        redeliveries = try reader.field("redeliveries")
        statusCode = try reader.optional("statusCode")
        error = try reader.optional("error")
        latencyMilliseconds = try reader.optional("latencyMilliseconds")
        attemptedAt = try reader.optional("attemptedAt")
        nextAttemptAt = try reader.optional("nextAttemptAt")
        createdAt = try reader.field("createdAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("webhookId", webhookId)
        writer.field("eventId", eventId)
        writer.field("type", type)
        writer.field("state", state)
        writer.field("attempts", attempts)
        writer.field("redeliveries", redeliveries)
        writer.field("statusCode", statusCode)
        writer.field("error", error)
        writer.field("latencyMilliseconds", latencyMilliseconds)
        writer.field("attemptedAt", attemptedAt)
        writer.field("nextAttemptAt", nextAttemptAt)
        writer.field("createdAt", createdAt)
    }
}

extension WebhookEventType: WireWord {
    /// The type.
    package var word: String { rawValue }
}

extension WebhookState: WireWord {
    /// Its name.
    package var word: String { name }
}

extension WebhookDeliveryState: WireWord {
    /// Its name.
    package var word: String { name }
}
