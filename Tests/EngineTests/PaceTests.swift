import Logging
import Synchronization
import TestSupport
import Testing

@testable import Engine

/// How long a step of upkeep waits.
@Suite struct PaceTests {
    @Test("A step that found nothing waits in proportion to what it took, within bounds")
    func idle() {
        #expect(idleWait(.milliseconds(50), timesTook: 10, .milliseconds(1)) == .milliseconds(50))
        #expect(idleWait(.milliseconds(50), timesTook: 10, .milliseconds(100)) == .seconds(1))
        #expect(idleWait(.milliseconds(50), timesTook: 10, .seconds(60)) == .seconds(2))
        #expect(idleWait(.seconds(3), timesTook: 0, .seconds(60)) == .seconds(3))
    }

    @Test("A step is not repeated before that time has passed")
    func repeated() async {
        let looks = Mutex<[(began: ContinuousClock.Instant, ended: ContinuousClock.Instant)]>([])
        await repeating(every: .zero, idle: .zero, timesTook: 1_000, .quiet, "test") {
            let began = ContinuousClock.now
            guard looks.withLock(\.isEmpty) else {
                looks.withLock { $0.append((began, began)) }
                throw CancellationError()
            }
            for _ in 0..<10 { await Task.yield() }
            looks.withLock { $0.append((began, .now)) }
            return false
        }
        let (first, second) = looks.withLock { ($0[0], $0[1]) }
        #expect(second.began - first.ended >= min(.seconds(2), (first.ended - first.began) * 1_000))
    }
}
