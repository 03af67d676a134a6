import Domain
package import Ledger
import Streams
import Synchronization
import Trust

/// How the organizations with the most work stand, read at most every five seconds however often it is shown.
package final class QueueGauges: Sendable {
    private struct Standing: Sendable {
        var name: String
        var queued = 0
        var waiting = 0
        var running = 0
        var oldest = 0.0
    }

    private let ledger: Ledger
    private let front: QueueFront
    private let last = Mutex<(at: ContinuousClock.Instant, standings: [Standing])?>(nil)

    /// Gauges on a worker's login.
    package init(ledger: Ledger, front: QueueFront) {
        self.ledger = ledger
        self.front = front
    }

    /// Adds what is known; what does not answer now is as it was, or missing.
    package func show(in text: inout Exposition) async {
        for standing in await standings() {
            text.add(.runs, [standing.name, "queued"], Double(standing.queued))
            text.add(.runs, [standing.name, "waiting"], Double(standing.waiting))
            text.add(.runs, [standing.name, "running"], Double(standing.running))
            text.add(.oldest, [standing.name], standing.oldest)
        }
    }

    private func standings() async -> [Standing] {
        let known = last.withLock { $0 }
        if let known, ContinuousClock.now - known.at < .seconds(5) { return known.standings }
        // Why it failed is in the log of whoever needs it.
        guard let read = try? await read() else { return known?.standings ?? [] }
        last.withLock { $0 = (.now, read) }
        return read
    }

    /// The busiest by what PostgreSQL has, up to a bound; the rest as the queue holds them.
    private func read() async throws -> [Standing] {
        func work(_ depth: Depth) -> Int {
            depth.ready.values.reduce(0, +) + depth.setAside + depth.running + depth.leased
        }
        var all: [Depth] = []
        for part in front.parts { all += try await part.queue.depths() }
        let depths = all.sorted {
            ($0.marked ? 1 : 0, work($0), $1.organization) > ($1.marked ? 1 : 0, work($1), $0.organization)
        }
        var standings: [Standing] = []
        for depth in depths.prefix(EngineMetrics.organizationsMax) {
            let organization = depth.organization
            var standing = Standing(name: "\(organization)")
            for queue in try await ledger.queueDepths(
                after: nil, limit: Priority.allCases.count, scope: .organization(organization))
            {
                standing.queued += queue.queued
                standing.waiting += queue.waiting
                standing.running += queue.running
                standing.oldest = max(standing.oldest, queue.oldestAgeSeconds ?? 0)
            }
            standings.append(standing)
        }
        let now = Double(Instant.now().microseconds) / 1e6
        var others = Standing(name: "other")
        for depth in depths.dropFirst(EngineMetrics.organizationsMax) {
            others.queued += depth.ready.values.reduce(0, +) + depth.setAside
            others.running += depth.running
            if let oldest = depth.oldestMilliseconds {
                others.oldest = max(others.oldest, now - Double(oldest) / 1_000)
            }
        }
        return standings + [others]
    }
}
