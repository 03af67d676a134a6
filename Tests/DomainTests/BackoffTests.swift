import Testing

@testable import Domain

@Suite struct BackoffTests {
    private let backoff = Backoff(base: .milliseconds(200), limit: .seconds(10))

    @Test(
        "The ceiling doubles with every attempt until it meets the limit, for any attempt",
        arguments: [
            (-3, Duration.milliseconds(200)), (0, .milliseconds(200)), (1, .milliseconds(400)),
            (5, .milliseconds(6_400)), (6, .seconds(10)), (7, .seconds(10)), (Int.max, .seconds(10)),
        ])
    func ceiling(attempt: Int, expected: Duration) {
        #expect(backoff.ceiling(attempt: attempt) == expected)
    }

    @Test("A base above the limit is cut to it")
    func baseAboveLimit() {
        #expect(Backoff(base: .seconds(60), limit: .seconds(5)).ceiling(attempt: 0) == .seconds(5))
    }

    @Test("Waits fill the whole range from zero to the ceiling and never leave it")
    func jitter() {
        var generator = SeededGenerator(seed: 7)
        for attempt in 0..<10 {
            let ceiling = backoff.ceiling(attempt: attempt)
            let waits = (0..<2_000).map { _ in backoff.wait(attempt: attempt, using: &generator) }
            #expect(waits.allSatisfy { $0 >= .zero && $0 <= ceiling })
            #expect(waits.contains { $0 < ceiling / 10 })
            #expect(waits.contains { $0 > ceiling - ceiling / 10 })
        }
    }

    @Test("A backoff without any wait waits not at all")
    func zero() {
        var generator = SeededGenerator(seed: 7)
        #expect(Backoff(base: .zero, limit: .zero).wait(attempt: 3, using: &generator) == .zero)
    }
}
