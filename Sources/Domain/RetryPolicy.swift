/// Which attempts of a run are followed by another one, and how long after.
///
/// The policy is part of what a principal submits; `maximumAttempts` is signed, so no server can make a
/// device start more than was asked for.
package struct RetryPolicy: Sendable, Hashable {
    /// Attempts at most, the first one included; 1 means none is repeated.
    package var maximumAttempts: Int
    /// The longest wait before the second attempt; it doubles with each further one.
    package var backoffSeconds: Int
    /// The longest wait before any attempt.
    package var maximumBackoffSeconds: Int
    /// The outcomes that are followed by another attempt.
    package var outcomes: Set<RetriedOutcome>

    /// A policy.
    package init(
        maximumAttempts: Int, backoffSeconds: Int, maximumBackoffSeconds: Int, outcomes: Set<RetriedOutcome>
    ) {
        self.maximumAttempts = maximumAttempts
        self.backoffSeconds = backoffSeconds
        self.maximumBackoffSeconds = maximumBackoffSeconds
        self.outcomes = outcomes
    }

    /// One attempt, whatever its outcome.
    package static let none = RetryPolicy(
        maximumAttempts: 1, backoffSeconds: 1, maximumBackoffSeconds: 1, outcomes: [])

    /// How long another attempt waits; the second one is its try 0.
    package var backoff: Backoff {
        Backoff(base: .seconds(backoffSeconds), limit: .seconds(maximumBackoffSeconds))
    }

    /// Whether an attempt that ended like this is followed by another, if nothing else speaks against it.
    package func allowsAnother(after attempt: Int, endedAs outcome: Outcome) -> Bool {
        attempt < maximumAttempts && outcomes.contains { $0.outcome == outcome }
    }
}

/// An outcome that may be followed by another attempt.
package enum RetriedOutcome: String, Sendable, CaseIterable {
    case failed
    case timedOut
    /// Only of a job that says that it is idempotent: the attempt may have run.
    case unknown

    /// The outcome itself.
    package var outcome: Outcome {
        switch self {
        case .failed: .failed
        case .timedOut: .timedOut
        case .unknown: .unknown
        }
    }
}
