package import Domain
import FoundationEssentials
package import Ledger
package import Postgres
import Trust

/// A task to be submitted.
package struct TaskRequest: Sendable {
    /// The tenant, and which handler does it.
    package var organization: OrganizationID
    package var kind: TaskKind
    /// The payload as JSON.
    package let payload: [UInt8]
    /// How soon it is served among the organization's tasks of this kind.
    package var priority = Priority.standard
    /// When its attempts are repeated.
    package var policy = TaskPolicy()
    /// When it may run at the earliest, and how long after that or now it may still be begun.
    package var notBefore: Instant?
    package var expiresInSeconds = 86_400
    /// At most one task of the organization and kind has this key, as long as the task is kept.
    package var key: String?

    /// A request for a handler's work.
    package init<Handler: TaskHandler>(
        _ handler: Handler.Type, _ payload: Handler.Payload, of organization: OrganizationID
    ) throws {
        self.organization = organization
        kind = Handler.kind
        self.payload = Array(try JSONEncoder().encode(payload))
    }
}

/// Submits, cancels and repeats tasks: work that runs on the platform itself.
package struct Tasks: Sendable {
    private let ledger: Ledger
    private let fronts: [String: QueueFront]

    /// The tasks behind a login; `fronts` are the queues of the kinds. What has none is brought to its queue
    /// by the stragglers' scan.
    package init(ledger: Ledger, fronts: [TaskKind: QueueFront]) {
        self.ledger = ledger
        self.fronts = Dictionary(uniqueKeysWithValues: fronts.map { ($0.key.name, $0.value) })
    }

    /// Commits tasks, each with its outcome in the same order, and offers them to their queues.
    package func submit(_ requests: [TaskRequest], scope: Scope) async throws -> [AcceptedTask] {
        let accepted = try await ledger.submit(requests.map(Self.checked), scope: scope)
        await offer(accepted, of: requests)
        return accepted
    }

    /// Submits tasks with what else a transaction does. After its commit they are to be offered.
    package func submit(
        _ requests: [TaskRequest], in transaction: PostgresTransaction
    ) async throws -> [AcceptedTask] {
        try await Ledger.submit(requests.map(Self.checked), in: transaction)
    }

    /// The fast path after a commit; nothing is lost without it.
    package func offer(_ accepted: [AcceptedTask], of requests: [TaskRequest]) async {
        var queued: [String: [QueuedRun]] = [:]
        for (accepted, request) in zip(accepted, requests) {
            if case .accepted(_, let run?) = accepted { queued[request.kind.name, default: []].append(run) }
        }
        for (kind, runs) in queued { await fronts[kind]?.offer(runs) }
    }

    /// The same for tasks of one kind that the ledger made itself.
    package func offer(_ runs: [QueuedRun], of kind: TaskKind) async {
        if !runs.isEmpty { await fronts[kind.name]?.offer(runs) }
    }

    /// Cancels a task: at once if no worker has it; else its handler is told, and its word decides.
    /// - Returns: the task as it stands; `nil` if the scope does not see it.
    package func cancel(_ id: TaskID, scope: Scope) async throws -> TaskRow? {
        guard let task = try await ledger.cancelTask(id, scope: scope) else { return nil }
        if task.state == .cancelled, let front = fronts[task.kind] {
            await front.withdraw([(task.organization, RunID(id.value))])
        }
        return task
    }

    /// Submits an ended task once more, as a new one; whoever asks again gets the same.
    /// - Returns: the new task; `nil` if the scope does not see the old one.
    package func retry(_ id: TaskID, scope: Scope) async throws -> TaskID? {
        guard let (new, kind, queued) = try await ledger.retryTask(id, as: .new(at: .now()), scope: scope)
        else { return nil }
        if let queued { await fronts[kind]?.offer([queued]) }
        return new
    }

    private static func checked(_ request: TaskRequest) throws -> SubmittedTask {
        func refuse(_ field: String, _ message: String) -> EngineError {
            EngineError(.invalid, field: field, message)
        }
        func check(_ field: String, _ value: Int, _ range: ClosedRange<Int>) throws {
            guard range.contains(value) else {
                throw refuse(
                    field, "is \(value), allowed are \(range.lowerBound) to \(range.upperBound)")
            }
        }
        try check("payload bytes", request.payload.count, 0...SubmittedTask.payloadBytesMax)
        try check("expiresInSeconds", request.expiresInSeconds, 1...2_592_000)
        try check("maximumAttempts", request.policy.maximumAttempts, 1...100)
        try check("backoffSeconds", request.policy.backoffSeconds, 1...86_400)
        try check("maximumBackoffSeconds", request.policy.maximumBackoffSeconds, 1...86_400)
        try check("timeoutSeconds", request.policy.timeoutSeconds, 1...86_400)
        if let key = request.key {
            try check("key bytes", key.utf8.count, 1...SubmittedTask.keyBytesMax)
            guard !key.contains("\0") else { throw refuse("key", "has a zero byte") }
        }
        let now = Instant.now()
        let from = max(now, request.notBefore ?? now)
        guard from - now <= .seconds(366 * 86_400) else {
            throw refuse("notBefore", "is \(from), allowed is up to 366 days from now")
        }
        return SubmittedTask(
            id: .new(at: now), organization: request.organization, kind: request.kind,
            payload: request.payload, priority: request.priority, policy: request.policy,
            notBefore: request.notBefore, expiresAt: from + .seconds(request.expiresInSeconds),
            key: request.key)
    }
}
