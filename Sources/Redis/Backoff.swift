/// How long to wait before the next attempt to connect: exponential, with full jitter.
///
/// The ceiling is 50 ms after the first failure and doubles up to 2 s; the wait is anything between nothing
/// and the ceiling, so that many clients of a server that went away do not come back at once.
struct Backoff {
    private var failures = 0

    /// The ceiling of the next wait.
    var ceiling: Duration { min(.milliseconds(50) * (1 << min(failures, 6)), .seconds(2)) }

    /// The next wait.
    mutating func next(using random: inout some RandomNumberGenerator) -> Duration {
        let limit = ceiling
        failures += 1
        return limit * Double.random(in: 0...1, using: &random)
    }

    /// The server answered: the next failure begins from the start.
    mutating func reset() {
        failures = 0
    }
}
