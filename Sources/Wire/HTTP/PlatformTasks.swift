package import Domain

/// A piece of work that runs on the platform itself, as it is shown.
package struct PlatformTask: WireObject, Equatable {
    /// Which one, of which tenant and kind.
    package var id: TaskID
    package var organizationId: OrganizationID
    package var kind: String
    /// Where it is, how soon it is served, and why it or its last attempt ended.
    package var state: TaskState
    package var priority: Priority
    package var reason: String?
    /// How often it was begun, how many attempts failed, how many may, and over how many a worker was lost.
    package var attempt: Int
    package var failures: Int
    package var maximumAttempts: Int
    package var crashes: Int
    /// The worker that has it, or had it last.
    package var workerId: WorkerID?
    /// The key that it was submitted with, and the task that it repeats.
    package var key: String?
    package var retryOf: TaskID?
    /// Its times; `dueAt` is when a scheduled one is queued.
    package var createdAt: Instant
    package var dueAt: Instant?
    package var startedAt: Instant?
    package var finishedAt: Instant?
    package var expiresAt: Instant
    package var cancelRequestedAt: Instant?

    /// A task of an organization, as it is when it is new.
    package init(
        id: TaskID, organizationId: OrganizationID, kind: String, state: TaskState, priority: Priority,
        createdAt: Instant, expiresAt: Instant
    ) {
        (self.id, self.organizationId, self.kind) = (id, organizationId, kind)
        (self.state, self.priority) = (state, priority)
        (self.createdAt, self.expiresAt) = (createdAt, expiresAt)
        (attempt, failures, maximumAttempts, crashes) = (0, 0, 1, 0)
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        organizationId = try reader.field("organizationId")
        kind = try reader.field("kind")
        state = try reader.field("state")
        priority = try reader.field("priority")
        reason = try reader.optional("reason")
        attempt = try reader.field("attempt")
        failures = try reader.field("failures")
        maximumAttempts = try reader.field("maximumAttempts")
        crashes = try reader.field("crashes")
        workerId = try reader.optional("workerId")
        key = try reader.optional("key")
        retryOf = try reader.optional("retryOf")
        createdAt = try reader.field("createdAt")
        dueAt = try reader.optional("dueAt")
        startedAt = try reader.optional("startedAt")
        finishedAt = try reader.optional("finishedAt")
        expiresAt = try reader.field("expiresAt")
        cancelRequestedAt = try reader.optional("cancelRequestedAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("organizationId", organizationId)
        writer.field("kind", kind)
        writer.field("state", state)
        writer.field("priority", priority)
        writer.field("reason", reason)
        writer.field("attempt", attempt)
        writer.field("failures", failures)
        writer.field("maximumAttempts", maximumAttempts)
        writer.field("crashes", crashes)
        writer.field("workerId", workerId)
        writer.field("key", key)
        writer.field("retryOf", retryOf)
        writer.field("createdAt", createdAt)
        writer.field("dueAt", dueAt)
        writer.field("startedAt", startedAt)
        writer.field("finishedAt", finishedAt)
        writer.field("expiresAt", expiresAt)
        writer.field("cancelRequestedAt", cancelRequestedAt)
    }
}

/// Body that sets for how many days an organization keeps what has ended.
package struct NewRetention: WireObject, Equatable {
    /// The days; absent for the installation's default.
    package var days: Int?

    /// So many days.
    package init(days: Int?) { self.days = days }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        days = try reader.optional("days", Int.self, .in(Limits.retentionDays))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) { writer.field("days", days) }
}

/// For how many days an organization keeps what has ended.
package struct Retention: WireObject, Equatable {
    /// Which organization.
    package var organizationId: OrganizationID
    /// The days, and whether they are the installation's default.
    package var days: Int
    package var isDefault: Bool

    /// The retention of an organization.
    package init(organizationId: OrganizationID, days: Int, isDefault: Bool) {
        (self.organizationId, self.days, self.isDefault) = (organizationId, days, isDefault)
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        organizationId = try reader.field("organizationId")
        days = try reader.field("days")
        isDefault = try reader.field("isDefault")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("organizationId", organizationId)
        writer.field("days", days)
        writer.field("isDefault", isDefault)
    }
}

extension TaskState: WireWord {
    /// Its name.
    package var word: String { name }
}
