package import Domain
import Synchronization

/// How many deliveries of each webhook a process has under way, so that a receiver that answers slowly takes
/// a few of the pool's places and no more.
///
/// Who finds no place is told when there will be one by what an attempt took last: they come back one after
/// another, not all at once.
package final class WebhookSlots: Sendable {
    private struct Use: Sendable {
        var running = 0
        var latency = Duration.seconds(1)
        /// Until when places are promised.
        var promised: ContinuousClock.Instant?
    }

    /// How many at a time.
    package let limit: Int
    private let state = Mutex<[WebhookID: Use]>([:])
    private let now: @Sendable () -> ContinuousClock.Instant

    /// So many places a webhook; `now` is the clock of promises.
    package init(limit: Int = 4, now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }) {
        self.limit = limit
        self.now = now
    }

    /// Takes a place; else how long to wait for one.
    package func take(_ webhook: WebhookID) -> Duration? {
        let now = now()
        return state.withLock { state in
            var use = state[webhook] ?? Use()
            defer { state[webhook] = use }
            if use.running < limit {
                use.running += 1
                return nil
            }
            let next = max(use.promised ?? now, now) + use.latency / limit
            use.promised = min(next, now + Self.waitMax)
            return max(Self.waitMin, (use.promised ?? next) - now)
        }
    }

    /// Gives a place back, with how long it was used.
    package func free(_ webhook: WebhookID, after latency: Duration) {
        state.withLock { state in
            guard var use = state[webhook] else { return }
            use.running -= 1
            use.latency = latency
            let isIdle = use.running == 0 && (use.promised ?? .now) <= now()
            state[webhook] = isIdle ? nil : use
        }
    }

    private static let waitMin = Duration.milliseconds(200)
    private static let waitMax = Duration.seconds(600)
}
