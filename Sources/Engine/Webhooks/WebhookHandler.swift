package import Domain
package import Ledger
package import Logging
package import Outbound
package import Trust

/// Tells webhooks of events: one attempt of a delivery a call.
///
/// A delivery is sent at least once: an attempt whose process dies between the answer and its record is
/// followed by another with the same ids and bytes.
package struct WebhookHandler: TaskHandler {
    /// Which delivery.
    package struct Payload: Codable, Sendable {
        /// Its id.
        package var delivery: String

        /// About a delivery.
        package init(delivery: WebhookDeliveryID) { self.delivery = delivery.description }
    }

    /// How deliveries are repeated and when a webhook is given up.
    package struct Policy: Sendable {
        /// Attempts of a delivery; a day lies between the first and the last of ten, half a day by the mean.
        package var attempts = 10
        /// The longest wait before the second attempt; it doubles with each further one up to the limit.
        package var backoff = Backoff(base: .seconds(180), limit: .seconds(43_200))
        /// When failures disable a webhook.
        package var patience = WebhookPatience()

        /// As an installation has it.
        package init() {}
    }

    /// Deliveries to webhooks.
    package static let kind = TaskKind.webhookDelivery

    /// How many a process sends at a time, of all webhooks.
    package static let concurrency = 32

    private let ledger: Ledger
    private let client: HTTPClient
    private let keys: SealingKeys
    private let slots: WebhookSlots
    private let policy: Policy
    private let now: @Sendable () -> Instant
    private let logger: Logger

    /// A handler on the API's login, whose keys open the secrets. The client is a guarded one; `now` is the
    /// clock of signatures.
    package init(
        ledger: Ledger, client: HTTPClient, keys: SealingKeys, slots: WebhookSlots = WebhookSlots(),
        policy: Policy = Policy(), now: @escaping @Sendable () -> Instant = { .now() }, logger: Logger
    ) {
        (self.ledger, self.client, self.keys, self.slots) = (ledger, client, keys, slots)
        (self.policy, self.now, self.logger) = (policy, now, logger)
    }

    /// Sends a delivery that is pending, and records how that went.
    package func handle(_ work: TaskAttempt<Payload>) async throws {
        guard let id = WebhookDeliveryID(work.payload.delivery) else {
            throw TaskRefusal("the payload names no delivery")
        }
        guard let due = try await ledger.dueDelivery(id) else { throw TaskRefusal("its webhook is gone") }
        guard due.state == .pending else { return }
        guard due.webhook.state == .active else {
            try await ledger.dropDelivery(id)
            throw TaskRefusal("its webhook is disabled")
        }
        if let wait = slots.take(due.webhook.id) {
            try await ledger.postponeDelivery(id, by: wait)
            throw TaskPostponement(by: wait)
        }
        let began = ContinuousClock.now
        let attempt: WebhookAttempt
        do {
            attempt = try await send(due, began)
            slots.free(due.webhook.id, after: attempt.latency)
        } catch {
            slots.free(due.webhook.id, after: .now - began)
            throw error
        }
        try await record(attempt, of: due)
    }

    // MARK: Sending

    private func send(_ due: DueDelivery, _ began: ContinuousClock.Instant) async throws -> WebhookAttempt {
        let secrets: [SecretBytes]
        do {
            secrets = try due.webhook.secrets(with: keys, at: now())
        } catch {
            // A row that was altered, or sealed by a key that is not here: nothing is sent unsigned.
            logger.error(
                "the secret of a webhook cannot be opened",
                metadata: ["webhook.id": "\(due.webhook.id)", "error": "\(error)"])
            return failure(of: due, status: nil, error: "secret", began)
        }
        do {
            let answer = try await client.send(WebhookMessage(due, secrets: secrets, at: now()).request)
            guard (200..<300).contains(answer.status) else {
                return failure(of: due, status: answer.status, error: Self.word(of: answer.status), began)
            }
            return WebhookAttempt(end: .delivered, status: answer.status, error: nil, latency: .now - began)
        } catch let error as OutboundError {
            if error.code == .cancelled { throw CancellationError() }
            logger.debug(
                "a webhook was not reached",
                metadata: [
                    "webhook.id": "\(due.webhook.id)", "error.code": "\(error.code)",
                    "cause": "\(error.cause ?? "")",
                ])
            return failure(of: due, status: nil, error: "\(error.code)", began)
        }
    }

    private func failure(
        of due: DueDelivery, status: Int?, error: String, _ began: ContinuousClock.Instant
    ) -> WebhookAttempt {
        var generator = SystemRandomNumberGenerator()
        let isGone = status == 410
        let isLast = due.failures + 1 >= policy.attempts || isGone
        // Never at once: jitter may come to nothing.
        let wait = max(.seconds(1), policy.backoff.wait(attempt: due.failures, using: &generator))
        return WebhookAttempt(
            end: isLast ? .givenUp : .again(wait), status: status, error: error, latency: .now - began,
            isGone: isGone)
    }

    private static func word(of status: Int) -> String {
        switch status {
        case 300..<400: "redirect"
        case 410: "gone"
        default: "status"
        }
    }

    // MARK: Recording

    private func record(_ attempt: WebhookAttempt, of due: DueDelivery) async throws {
        let isDisabled = try await ledger.record(
            attempt, of: due.id, webhook: due.webhook.id, patience: policy.patience)
        if isDisabled {
            logger.notice("a webhook was disabled", metadata: ["webhook.id": "\(due.webhook.id)"])
        }
        let reason = attempt.status.map { "status \($0)" } ?? attempt.error ?? ""
        switch attempt.end {
        case .delivered: return
        case .again(let wait): throw TaskFailure(reason, again: wait)
        case .givenUp: throw TaskRefusal(reason)
        }
    }
}

extension WebhookRow {
    /// The secrets in force at a time, the newest first.
    package func secrets(with keys: SealingKeys, at time: Instant) throws -> [SecretBytes] {
        let isOverlapping = previousExpiresAt.map { $0 > time } ?? false
        return try sealed.prefix(isOverlapping ? 2 : 1).enumerated().map { index, bytes in
            let label = SecretLabel.webhook(
                id, partner: home.partner, organization: home.organization, version: secretVersion - index)
            return try keys.open(SealedSecret(bytes: bytes), for: label)
        }
    }
}
