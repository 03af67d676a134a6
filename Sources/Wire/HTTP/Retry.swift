package import Domain

/// Which attempts of a run are followed by another, as a caller says it.
package struct Retry: WireObject, Equatable {
    /// Attempts at most, the first one included.
    package var maximumAttempts: Int
    /// The longest wait before the second attempt, in seconds; it doubles with each further one. The wait
    /// itself is random, from nothing up to that.
    package var backoffSeconds: Int
    /// The longest wait before any attempt, in seconds.
    package var maximumBackoffSeconds: Int
    /// The outcomes that are followed by another attempt; absent means all that the job allows.
    package var on: [RetriedOutcome]?

    /// A policy.
    package init(
        maximumAttempts: Int, backoffSeconds: Int = Limits.backoffSecondsDefault,
        maximumBackoffSeconds: Int? = nil, on: [RetriedOutcome]? = nil
    ) {
        self.maximumAttempts = maximumAttempts
        self.backoffSeconds = backoffSeconds
        self.maximumBackoffSeconds =
            maximumBackoffSeconds ?? max(backoffSeconds, Limits.maximumBackoffSecondsDefault)
        self.on = on
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        maximumAttempts = try reader.field("maximumAttempts", Int.self, .in(Limits.attempts))
        backoffSeconds =
            try reader.optional("backoffSeconds", Int.self, .in(Limits.backoffSeconds))
            ?? Limits.backoffSecondsDefault
        maximumBackoffSeconds =
            try reader.optional("maximumBackoffSeconds", Int.self, .in(Limits.backoffSeconds))
            ?? max(backoffSeconds, Limits.maximumBackoffSecondsDefault)
        on = try reader.optional("on", [RetriedOutcome].self, .in(1...RetriedOutcome.allCases.count))
        guard !reader.isRecording else { return }
        guard maximumBackoffSeconds >= backoffSeconds else {
            throw FieldError(
                .invalid, field: reader.name(of: "maximumBackoffSeconds"),
                "is \(maximumBackoffSeconds); it must be at least backoffSeconds, which is \(backoffSeconds)")
        }
        if let on, Set(on).count != on.count {
            throw FieldError(.invalid, field: reader.name(of: "on"), "names an outcome twice")
        }
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("maximumAttempts", maximumAttempts)
        writer.field("backoffSeconds", backoffSeconds)
        writer.field("maximumBackoffSeconds", maximumBackoffSeconds)
        writer.field("on", on)
    }

    /// The policy of a job; an attempt whose end is unknown is followed by another only if that is harmless.
    package func policy(idempotent: Bool) -> RetryPolicy {
        let all = RetriedOutcome.allCases.filter { idempotent || $0 != .unknown }
        return RetryPolicy(
            maximumAttempts: maximumAttempts, backoffSeconds: backoffSeconds,
            maximumBackoffSeconds: maximumBackoffSeconds, outcomes: Set(on ?? all))
    }

    /// What is shown of a policy.
    package init(_ policy: RetryPolicy) {
        self.init(
            maximumAttempts: policy.maximumAttempts, backoffSeconds: policy.backoffSeconds,
            maximumBackoffSeconds: policy.maximumBackoffSeconds,
            on: RetriedOutcome.allCases.filter(policy.outcomes.contains))
    }
}

extension RetriedOutcome: WireWord {
    /// Its raw value.
    package var word: String { rawValue }
}
