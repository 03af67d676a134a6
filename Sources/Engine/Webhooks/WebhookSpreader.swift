import Domain
package import Ledger
package import Logging

/// Takes events from the outbox to the webhooks that listen: a delivery and a task each.
///
/// Any number of processes do it at the same time, and each event is spread by one of them, in one statement:
/// a crash leaves it as it was, or done.
package struct WebhookSpreader: Sendable {
    private let ledger: Ledger
    private let tasks: Tasks
    private let logger: Logger

    /// A spreader on the API's login.
    package init(ledger: Ledger, tasks: Tasks, logger: Logger) {
        (self.ledger, self.tasks, self.logger) = (ledger, tasks, logger)
    }

    /// Spreads until the task is cancelled: half a second after a change at the latest.
    package func run() async {
        await repeating(every: .zero, idle: .milliseconds(500), logger, "events for webhooks") {
            try await spreadOnce()
        }
    }

    /// Spreads a batch; returns whether there may be more.
    package func spreadOnce() async throws -> Bool {
        let (events, queued) = try await ledger.spreadEvents(limit: Self.limit)
        await tasks.offer(queued, of: .webhookDelivery)
        return events >= Self.limit
    }

    private static let limit = 200
}
