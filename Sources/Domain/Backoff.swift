/// Exponential backoff with full jitter: the wait before try `n` is uniform in `0 … min(limit, base · 2ⁿ)`.
///
/// Source: M. Brooker, "Exponential backoff and jitter" (2015): full jitter spreads a herd best.
package struct Backoff: Sendable, Equatable {
    /// The upper bound of the first wait.
    package var base: Duration
    /// The upper bound of every wait.
    package var limit: Duration

    /// A backoff that starts at `base` and never waits longer than `limit`.
    package init(base: Duration, limit: Duration) {
        self.base = base
        self.limit = limit
    }

    /// The largest wait before try `attempt`, counted from 0.
    package func ceiling(attempt: Int) -> Duration {
        var ceiling = base
        for _ in 0..<max(0, attempt) {
            if ceiling >= limit { break }
            ceiling = ceiling * 2
        }
        return min(ceiling, limit)
    }

    /// A random wait before try `attempt`, counted from 0.
    package func wait(attempt: Int, using generator: inout some RandomNumberGenerator) -> Duration {
        let (seconds, attoseconds) = ceiling(attempt: attempt).components
        let microseconds = seconds * 1_000_000 + attoseconds / 1_000_000_000_000
        return .microseconds(Int64.random(in: 0...max(0, microseconds), using: &generator))
    }
}
