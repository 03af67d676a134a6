/// What a webhook can be told of: the closed list of types. The words stand in subscriptions, in what is sent
/// and in the triggers that write events.
package enum WebhookEventType: String, Sendable, Hashable, CaseIterable {
    /// All runs of a job have ended, or it was cancelled.
    case jobEnded = "job.ended"
    case deviceEnrolled = "device.enrolled"
    /// Renamed, tagged, moved, suspended, or brought back.
    case deviceUpdated = "device.updated"
    case deviceArchived = "device.archived"
    case partnerCreated = "partner.created"
    case partnerUpdated = "partner.updated"
    case partnerArchived = "partner.archived"
    case organizationCreated = "organization.created"
    case organizationUpdated = "organization.updated"
    case organizationArchived = "organization.archived"
    case siteCreated = "site.created"
    case siteUpdated = "site.updated"
    case siteArchived = "site.archived"
    case userCreated = "user.created"
    case userDisabled = "user.disabled"
    /// Another webhook is told nothing any more, by people or after failures.
    case webhookDisabled = "webhook.disabled"

    /// The type of what a test sends, to which nobody subscribes.
    package static let test = "webhook.test"
}

/// Whether a webhook is told of events.
package enum WebhookState: Int16, Sendable, Hashable, CaseIterable {
    /// It is; people disable it, and so do failures.
    case active = 0
    /// It is not: somebody said so; people enable it.
    case disabled = 1
    /// It is not: its receiver failed too often or said that it is gone; people enable it.
    case failed = 2

    /// The state's name on the wire.
    package var name: String {
        switch self {
        case .active: "active"
        case .disabled: "disabled"
        case .failed: "failed"
        }
    }
}

/// Where the delivery of an event to a webhook is.
package enum WebhookDeliveryState: Int16, Sendable, Hashable, CaseIterable {
    /// A task has it, or waits for its next attempt. It leaves by an attempt, in a little more than a day at
    /// the latest; what a crash or a cancelled task leaves behind can be delivered again.
    case pending = 0
    /// The receiver has taken it.
    case delivered = 1
    /// It failed as often as it may; people deliver it again.
    case failed = 2
    /// Its webhook was disabled before; people deliver it again.
    case dropped = 3

    /// The state's name on the wire.
    package var name: String {
        switch self {
        case .pending: "pending"
        case .delivered: "delivered"
        case .failed: "failed"
        case .dropped: "dropped"
        }
    }
}
