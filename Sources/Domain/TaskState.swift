/// Where a task is. Each state says who takes a task out of it and after how long.
///
/// | state | holds | leaves by | latest after |
/// |---|---|---|---|
/// | scheduled | not before its time, or until another attempt | its time, cancel | `expiresAt` |
/// | queued | may run now | the mark, cancel | `expiresAt` |
/// | running | a worker has it under a lease | its handler; the worker's stop or death → queued | its lease |
///
/// The others are outcomes. A crash leaves a task in the state of its last commit; the leases and deadlines
/// of all kinds are judged by every worker. The raw values are those of the same states of runs.
package enum TaskState: Int16, Sendable, CaseIterable {
    case scheduled = 0
    case queued = 1
    case running = 4
    case succeeded = 10
    case failed = 11
    case timedOut = 12
    case cancelled = 13
    /// Never tried in time.
    case expired = 14

    /// Whether the task has ended.
    package var isOutcome: Bool { rawValue >= TaskState.succeeded.rawValue }

    /// The word used in JSON, logs and the command line.
    package var name: String { Self.names[self] }
    private static let names = CaseNames<Self>()

    /// The state of a word.
    package init?(name: String) {
        guard let state = Self.names[name] else { return nil }
        self = state
    }
}

/// How an attempt of a task ended, as its worker says it.
package enum TaskOutcome: Sendable, Hashable {
    case succeeded
    /// It is followed by another attempt, as long as the policy has one.
    case failed(reason: String)
    /// It would fail again.
    case refused(reason: String)
    /// It took longer than it may; like a failure.
    case timedOut
    /// Somebody asked for it.
    case cancelled
    /// Nothing was tried: it is done later, as long as it has not expired.
    case postponed

    /// The state of a task that ends so.
    package var state: TaskState {
        switch self {
        case .postponed: .expired
        case .succeeded: .succeeded
        case .failed, .refused: .failed
        case .timedOut: .timedOut
        case .cancelled: .cancelled
        }
    }

    /// Why, in a few words.
    package var reason: String? {
        switch self {
        case .succeeded, .cancelled, .postponed: nil
        case .failed(let reason), .refused(let reason): reason
        case .timedOut: "timedOut"
        }
    }

    /// Whether it counts as a failure, of which a policy allows so many.
    package var isFailure: Bool {
        switch self {
        case .failed, .timedOut: true
        case .succeeded, .refused, .cancelled, .postponed: false
        }
    }

    /// Whether another attempt may follow.
    package var mayBeRepeated: Bool { isFailure || self == .postponed }
}

/// When a task's attempts are repeated, and how long each may take.
package struct TaskPolicy: Sendable, Hashable {
    /// Attempts at most that end in a failure or take too long. An attempt that its worker's stop or death
    /// ended does not count.
    package var maximumAttempts: Int
    /// The longest wait before the second attempt; it doubles with each further one.
    package var backoffSeconds: Int
    /// The longest wait before any attempt.
    package var maximumBackoffSeconds: Int
    /// How long one attempt may take.
    package var timeoutSeconds: Int

    /// A policy.
    package init(
        maximumAttempts: Int = 5, backoffSeconds: Int = 5, maximumBackoffSeconds: Int = 300,
        timeoutSeconds: Int = 300
    ) {
        self.maximumAttempts = maximumAttempts
        self.backoffSeconds = backoffSeconds
        self.maximumBackoffSeconds = maximumBackoffSeconds
        self.timeoutSeconds = timeoutSeconds
    }

    /// How long another attempt waits; the second one is its try 0.
    package var backoff: Backoff {
        Backoff(base: .seconds(backoffSeconds), limit: .seconds(maximumBackoffSeconds))
    }
}
