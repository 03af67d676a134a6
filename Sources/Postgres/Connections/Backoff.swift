/// How long to wait before the next attempt to connect: full jitter under a bound that doubles from 50 ms to
/// 5 s.
struct Backoff {
    private(set) var failures = 0

    /// The wait after one more failure.
    mutating func next() -> Duration {
        let bound = min(50 << min(failures, 7), 5_000)
        failures += 1
        return .milliseconds(Int.random(in: 0...bound))
    }

    /// Starts anew after success.
    mutating func reset() { failures = 0 }
}
