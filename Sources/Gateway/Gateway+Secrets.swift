import Domain
import Engine
import Ledger
import Logging
import Synchronization
import Trust
import Wire

/// Secrets on their way to devices, which the gateway asks the API for and cannot read.
///
/// An attempt whose job names secrets is noted as sent like any other, and waits here for them: a crash in
/// between has it sent again at the device's next hello. While no API answers it goes on waiting, as long as
/// the device's session lives. Who reads what the API answered takes it away with the same statement.
extension Gateway {
    /// An attempt that waits.
    struct Awaited: Sendable {
        let delivery: Delivery
        /// When it is asked for again, in case the request was lost; `nil` before it was asked for.
        var nextRequest: ContinuousClock.Instant?
    }

    /// Has an attempt wait for its secrets; they go to whichever session its device has then.
    func awaitSecrets(of delivery: Delivery) {
        awaited.withLock { $0[delivery.run] = Awaited(delivery: delivery) }
        secretBell.yield()
    }

    /// Asks and sends until the task is cancelled.
    func deliverSecrets() async {
        for await _ in secretCalls {
            while !Task.isCancelled, awaited.withLock({ !$0.isEmpty }) {
                var wait = Duration.milliseconds(20)
                do {
                    try await deliverSecretsOnce(now: .now)
                } catch {
                    logger.warning("secrets are not delivered", metadata: ["error": "\(error)"])
                    wait = .milliseconds(500)
                }
                // Cancellation ends the wait early, which is what is wanted.
                try? await Task.sleep(for: wait)
            }
        }
    }

    func deliverSecretsOnce(now: ContinuousClock.Instant) async throws {
        let (waiting, asking) = awaited.withLock { awaited in
            // Who has gone says hello when it comes again, and is sent what is open then.
            awaited = awaited.filter { sessions[$0.value.delivery.device] != nil }
            let due = awaited.values.filter { $0.nextRequest.map { $0 <= now } ?? true }
            return (Array(awaited.values), due.prefix(Self.requestsMax).map(\.delivery))
        }
        let requests = asking.compactMap { delivery in
            sessions[delivery.device].map { SecretRequest(delivery, deviceKey: $0.deviceKey) }
        }
        if !requests.isEmpty {
            try await ledger.request(requests)
            awaited.withLock { awaited in
                for request in requests where awaited[request.run]?.delivery.token == request.token {
                    awaited[request.run]?.nextRequest = now + Self.patienceForSecrets
                }
            }
        }
        let answers = try await ledger.takeAnswers(
            to: waiting.map { ($0.delivery.organization, $0.delivery.run, $0.delivery.token) })
        guard !answers.isEmpty else { return }
        let answered = awaited.withLock { awaited in
            waiting.map(\.delivery).filter { delivery in
                guard answers[delivery.run] != nil, awaited[delivery.run]?.delivery.token == delivery.token
                else { return false }
                awaited[delivery.run] = nil
                return true
            }
        }
        try await deliver(answered, answers)
    }

    private func deliver(_ answered: [Delivery], _ answers: [RunID: SecretAnswer]) async throws {
        var secrets: [RunID: [[UInt8]]] = [:]
        var refused: [AttemptResult] = []
        for delivery in answered {
            switch answers[delivery.run] {
            case .sealed(let sealed)?: secrets[delivery.run] = sealed
            case .refused(let reason)?: refused.append(AttemptResult(withoutSecrets: delivery, reason))
            case nil: break
            }
        }
        if !refused.isEmpty {
            counters.increment("secretsRefused", by: refused.count)
            let settlements = try await ledger.settle(refused)
            counters.count(settlements)
            await front.settled(settlements.compactMap(\.settledRun))
        }
        // Once more: meanwhile an attempt may have ended, or another one begun.
        let taken = try await ledger.take(
            answered.filter { secrets[$0.run] != nil }.map { ($0.organization, $0.run, $0.token) })
        guard !taken.isEmpty else { return }
        send(
            taken, try await contents.contents(of: taken.map { ($0.organization, $0.job) }),
            secrets: secrets)
    }

    private static let requestsMax = 256
    private static let patienceForSecrets = Duration.seconds(10)
}

extension SecretRequest {
    /// The request for an attempt of a device that has shown this key.
    fileprivate init(_ delivery: Delivery, deviceKey: [UInt8]) {
        self.init(
            organization: delivery.organization, run: delivery.run, token: delivery.token, job: delivery.job,
            device: delivery.device, deviceKey: deviceKey)
    }
}

extension AttemptResult {
    /// An attempt that was not sent, since its job's secrets are not to be had.
    fileprivate init(withoutSecrets delivery: Delivery, _ reason: String) {
        let message = Array(reason.utf8)
        self.init(
            organization: delivery.organization, device: delivery.device, run: delivery.run,
            attempt: delivery.attempt, token: delivery.token, outcome: .failed, exitCode: nil,
            reason: "rejected:secret", startedAt: nil, finishedAt: .now(),
            output: OutputRow(
                stdoutHead: [], stdoutTail: [], stdoutBytes: 0, stderrHead: message, stderrTail: [],
                stderrBytes: message.count))
    }
}
