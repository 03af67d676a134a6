import ArgumentParser
import Domain
import Wire

/// Which attempts of a run are followed by another.
struct RetryOptions: ParsableArguments {
    @Option(help: "Attempts at most on each device; 1 if nothing is said.") var attempts: Int?
    @Option(help: "Seconds of the longest wait before the second attempt; it doubles with each further one.")
    var backoff: Int?
    @Option(help: "Seconds of the longest wait before any attempt.") var maximumBackoff: Int?
    @Option(
        name: .customLong("retry-on"),
        help: "Only after this outcome: failed, timedOut or unknown; may be repeated.")
    var outcomes: [RetriedOutcome] = []

    /// The policy that the options describe, if they describe one.
    func retry() throws -> Retry? {
        guard let attempts else {
            guard backoff == nil, maximumBackoff == nil, outcomes.isEmpty else {
                throw Failure(
                    .usage, "--backoff, --maximum-backoff and --retry-on stand only with --attempts")
            }
            return nil
        }
        return Retry(
            maximumAttempts: attempts, backoffSeconds: backoff ?? Limits.backoffSecondsDefault,
            maximumBackoffSeconds: maximumBackoff, on: outcomes.isEmpty ? nil : outcomes)
    }
}

extension Retry {
    /// `up to 3 attempts after failed, timedOut; 2 were followed by another`.
    func line(retries: Int) -> String {
        let outcomes = (on ?? RetriedOutcome.allCases).map(\.rawValue).joined(separator: ", ")
        return
            "up to \(maximumAttempts) attempts after \(outcomes), waiting up to \(backoffSeconds) s at first "
            + "and \(maximumBackoffSeconds) s at most; \(retries) were followed by another"
    }
}

extension RetriedOutcome: ExpressibleByArgument {}

extension Instant: ExpressibleByArgument {
    /// A time of RFC 3339.
    package init?(argument: String) { self.init(argument) }
}
