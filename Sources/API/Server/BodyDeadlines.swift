import NIOCore
import Synchronization

/// Closes connections whose request takes too long to bring its body.
///
/// One look a second at all of them: a timer for each would wake the connection's event loop twice a request.
final class BodyDeadlines: Sendable {
    /// How long a body may take to arrive.
    static let timeout = Duration.seconds(60)

    private struct Arrivals {
        var next = 0
        var open: [Int: (channel: any Channel, since: ContinuousClock.Instant)] = [:]
    }

    private let arrivals = Mutex(Arrivals())

    /// A body begins to arrive on a connection; returns what `end` takes.
    func begin(_ channel: any Channel, at now: ContinuousClock.Instant = .now) -> Int {
        arrivals.withLock { arrivals in
            arrivals.next += 1
            arrivals.open[arrivals.next] = (channel, now)
            return arrivals.next
        }
    }

    /// It has arrived, or will not.
    func end(_ arrival: Int) { _ = arrivals.withLock { $0.open.removeValue(forKey: arrival) } }

    /// Closes the connections whose time is over.
    func close(at now: ContinuousClock.Instant) {
        let late = arrivals.withLock { arrivals in
            arrivals.open.values.filter { now - $0.since > Self.timeout }.map(\.channel)
        }
        for channel in late { channel.close(promise: nil) }
    }

    /// Looks each second, until it is cancelled.
    func run() async {
        while (try? await Task.sleep(for: .seconds(1))) != nil {  // cancelled: it ends
            close(at: .now)
        }
    }
}
