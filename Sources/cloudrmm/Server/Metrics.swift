import Engine
import Foundation
import Gateway
import Postgres
import Redis
import Synchronization

/// What the parts of a process have counted, gathered when somebody asks.
final class Metrics: Sendable {
    private struct Sources: Sendable {
        var pools: [PostgresPool] = []
        var connections: [RedisConnection] = []
        var gauges: QueueGauges?
    }

    /// What the parts of the engine count into.
    let engine = EngineMetrics()
    let tasks = TaskMetrics()
    private let sources = Mutex(Sources())

    func watch(_ pool: PostgresPool) { sources.withLock { $0.pools.append(pool) } }

    func watch(_ connection: RedisConnection) { sources.withLock { $0.connections.append(connection) } }

    /// How organizations stand is shown by the workers.
    func watch(_ gauges: QueueGauges) { sources.withLock { $0.gauges = gauges } }

    /// Everything as Prometheus text.
    func text(gateway: Gateway?, api: EventCounters?) async -> String {
        var text = Exposition()
        let sources = sources.withLock { $0 }
        engine.show(in: &text)
        tasks.show(in: &text)
        if let gauges = sources.gauges { await gauges.show(in: &text) }
        if let api { Self.show(api, in: &text) }
        if let gateway {
            text.add(.sessions, Double(gateway.sessionCount))
            for (event, count) in gateway.counters.snapshot.sorted(by: { $0.key < $1.key }) {
                text.add(.gatewayEvents, [event], Double(count))
            }
        }
        func sum<Part>(_ parts: [Part], _ count: (Part) -> Int) -> Double {
            Double(parts.reduce(0) { $0 + count($1) })
        }
        text.add(.redisConnections, sum(sources.connections, \.generation))
        text.add(.redisFailures, sum(sources.connections, \.failures))
        text.add(.postgresConnections, sum(sources.pools, \.counts.connections))
        text.add(.postgresFailures, sum(sources.pools, \.counts.failures))
        text.add(.postgresWaits, sum(sources.pools, \.counts.leaseWaits))
        Self.showProcess(in: &text)
        return text.text
    }

    private static func show(_ api: EventCounters, in text: inout Exposition) {
        for (event, count) in api.snapshot.sorted(by: { $0.key < $1.key }) {
            text.add(.apiEvents, [event], Double(count))
            if event == "requests" { text.add(.requests, Double(count)) }
            if event.hasPrefix("refused.") {
                text.add(.refusals, [String(event.dropFirst("refused.".count))], Double(count))
            }
        }
    }

    /// What the kernel says of this process. Source: proc(5), fields 14, 15, 22 and 24 of stat.
    private static func showProcess(in text: inout Exposition) {
        // Where there is no such file system, nothing is known.
        guard let stat = try? String(contentsOfFile: "/proc/self/stat", encoding: .utf8),
            let uptime = try? String(contentsOfFile: "/proc/uptime", encoding: .utf8),  // as above
            let end = stat.lastIndex(of: ")")
        else { return }
        // The name may have blanks; behind it the third field begins.
        let fields = stat[stat.index(after: end)...].split(separator: " ").map { Double($0) ?? 0 }
        let (ticks, page) = (Double(sysconf(Int32(_SC_CLK_TCK))), Double(sysconf(Int32(_SC_PAGESIZE))))
        guard fields.count > 21, ticks > 0,
            let up = uptime.split(separator: " ").first.flatMap({ Double($0) })
        else { return }
        text.add(.cpu, (fields[11] + fields[12]) / ticks)
        text.add(.memory, fields[21] * page)
        text.add(.started, Date().timeIntervalSince1970 - up + fields[19] / ticks)
    }
}
