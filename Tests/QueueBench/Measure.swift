import Domain
import Engine
import Foundation
import Ledger
import Postgres
import Redis
import Streams
import Synchronization

/// The measurements.
struct Measure: Sendable {
    let bed: Bed
    let values: [String: Int]

    func value(_ name: String, _ standard: Int) -> Int { values[name] ?? standard }

    func run(_ verb: String) async throws {
        switch verb {
        case "submit": try await submit()
        case "expand": try await expand()
        case "drain": try await drain()
        case "whole": try await whole()
        case "latency": try await latency()
        case "memory": try await memory()
        case "neighbour": try await neighbour()
        case "insert": try await insert()
        case "append": try await append()
        default: throw BenchError("there is no measurement \(verb)")
        }
    }

    func say(_ members: [String: Double]) {
        let text = members.sorted { $0.key < $1.key }.map { name, value in
            "\"\(name)\": \(String(format: "%.6g", value))"
        }
        print("{\(text.joined(separator: ", "))}")
        fflush(nil)
    }

    func seconds(_ body: () async throws -> Void) async rethrows -> Double {
        let began = ContinuousClock.now
        try await body()
        return (ContinuousClock.now - began) / .seconds(1)
    }

    /// Commits single-device jobs from so many callers at a time, so many jobs a call.
    private func submit() async throws {
        let (count, callers, bulk) = (value("runs", 20_000), value("callers", 50), value("bulk", 1))
        let tenant = try await bed.tenants(1, devices: value("devices", 1_000))[0]
        let calls = stride(from: 0, to: count, by: bulk).map { _ in tenant.singles(bulk) }
        let commits = Submitter.commits(ledger: bed.api, front: bed.front)
        let scope = Scope.organization(tenant.organization)
        let took = try await self.calls(calls.count, callers: callers) { number in
            let outcomes = try await commits(calls[number], size: 2 * bulk, scope: scope)
            guard outcomes.allSatisfy({ $0 == .accepted(.active) }) else {
                throw BenchError("a job came to \(outcomes)")
            }
        }
        say(["runsPerSecond": Double(calls.count * bulk) / took])
    }

    /// Expands one job over an organization's devices.
    private func expand() async throws {
        let devices = value("devices", 10_000)
        let tenant = try await bed.tenants(1, devices: devices)[0]
        let reconciler = Reconciler(ledger: bed.worker, front: bed.front, logger: Bed.logger)
        _ = try await bed.api.submit([tenant.job(nil)], scope: .organization(tenant.organization))
        let took = try await seconds { while try await reconciler.expandOnce() {} }
        let made = try await bed.number("SELECT count(*) FROM runs")
        guard made == devices else { throw BenchError("\(made) runs of \(devices)") }
        say(["runsPerSecond": Double(devices) / took])
    }

    /// Commits the runs of jobs over lists of devices, and tells the queue that there is work.
    private func fill(_ tenant: BenchTenant, _ count: Int) async throws {
        let listed = min(1_000, tenant.devices.count)
        var left = count
        while left > 0 {
            let devices = Array(tenant.devices.prefix(min(listed, left)))
            _ = try await bed.api.submit([tenant.job(devices)], scope: .organization(tenant.organization))
            left -= devices.count
        }
    }

    private func mark(_ tenants: [BenchTenant]) async {
        await bed.front.offer([], and: tenants.map { OrganizationQueue($0.organization, .standard) })
    }

    private func wait(for sinks: [Sink], total: Int) async throws {
        let deadline = ContinuousClock.now + .seconds(180)
        while sinks.reduce(0, { $0 + $1.settled.load(ordering: .relaxed) }) < total {
            guard ContinuousClock.now < deadline else { throw BenchError("not settled within 180 s") }
            try await Task.sleep(for: .milliseconds(2))
        }
    }

    /// Runs a body beside workers and a sink.
    private func running<Value: Sendable>(
        _ sink: Sink, dispatchers: Int = 2, _ body: @escaping @Sendable () async throws -> Value
    ) async throws -> Value {
        let task = Task { await sink.run() }
        defer { task.cancel() }
        return try await Workers(bed: bed, dispatchers: dispatchers).beside(body)
    }

    /// Claims, marks and settles what is queued already.
    private func drain() async throws {
        let count = value("runs", 20_000)
        let tenants = try await bed.tenants(value("organizations", 1), devices: value("devices", 1_000))
        for tenant in tenants { try await fill(tenant, count / tenants.count) }
        let total = count / tenants.count * tenants.count
        let sink = try await Sink(bed, holding: tenants.flatMap(\.devices))
        let took = try await running(sink, dispatchers: value("dispatchers", 2)) {
            try await seconds {
                await mark(tenants)
                try await wait(for: [sink], total: total)
            }
        }
        say(["runsPerSecond": Double(total) / took])
    }

    /// From bulk submit to settlement.
    private func whole() async throws {
        let (count, bulk) = (value("runs", 20_000), value("bulk", 500))
        let tenant = try await bed.tenants(1, devices: value("devices", 1_000))[0]
        let calls = stride(from: 0, to: count, by: bulk).map { _ in tenant.singles(bulk) }
        let sink = try await Sink(bed, holding: tenant.devices)
        let took = try await running(sink) {
            try await seconds {
                for jobs in calls {
                    let (_, runs) = try await bed.api.submit(jobs, scope: .organization(tenant.organization))
                    await bed.front.offer(runs)
                }
                try await wait(for: [sink], total: calls.count * bulk)
            }
        }
        say(["runsPerSecond": Double(calls.count * bulk) / took])
    }

    /// From a submission to its arrival in the inbox, at a rate.
    private func latency() async throws {
        let (rate, duration) = (value("rate", 100), value("seconds", 10))
        let tenant = try await bed.tenants(1, devices: rate * duration)[0]
        let sink = try await Sink(bed, holding: tenant.devices)
        for device in tenant.devices { sink.watch(device) }
        let begun = try await running(sink) {
            var begun: [ContinuousClock.Instant] = []
            let first = ContinuousClock.now
            for (index, device) in tenant.devices.enumerated() {
                let due = first + .seconds(1) * Double(index) / Double(rate)
                try await Task.sleep(until: due, clock: .continuous)
                let job = tenant.job([device])
                begun.append(due)
                let (_, runs) = try await bed.api.submit([job], scope: .organization(tenant.organization))
                await bed.front.offer(runs)
            }
            try await wait(for: [sink], total: tenant.devices.count)
            return begun
        }
        let waits = zip(tenant.devices, begun).compactMap { device, began in
            sink.arrivals(device).first.map { ($0 - began) / .milliseconds(1) }
        }
        say(Self.percentiles(waits))
    }

    static func percentiles(_ values: [Double]) -> [String: Double] {
        let sorted = values.sorted()
        func at(_ part: Double) -> Double { sorted[min(sorted.count - 1, Int(part * Double(sorted.count)))] }
        return [
            "p50ms": at(0.5), "p99ms": at(0.99), "maxms": sorted.last ?? 0, "count": Double(sorted.count),
        ]
    }

    /// What Redis holds when so many runs are queued over so many organizations, and all were refilled.
    private func memory() async throws {
        let (count, organizations) = (value("runs", 1_000_000), value("organizations", 100))
        let tenants = try await bed.tenants(organizations, devices: max(1, 1_000 / organizations))
        try await backlog(tenants, count / organizations)
        await mark(tenants)
        let refiller = Refiller(ledger: bed.worker, front: bed.front, logger: Bed.logger)
        while try await refiller.refillOnce() > 0 {}
        let info = try await bed.redis.send(RedisCommand("INFO", "memory")).text ?? ""
        let used = info.split(whereSeparator: \.isNewline).first { $0.hasPrefix("used_memory:") }
            .flatMap { Double($0.dropFirst("used_memory:".count)) }
        let queued = try await bed.number("SELECT count(*) FROM runs WHERE state = 1")
        say(["usedMiB": (used ?? 0) / 1_048_576, "queued": Double(queued)])
    }

    /// Queues runs by the database itself: a backlog is not what is measured.
    private func backlog(_ tenants: [BenchTenant], _ each: Int) async throws {
        for tenant in tenants {
            let job = tenant.job(tenant.devices)
            _ = try await bed.api.submit([job], scope: .organization(tenant.organization))
            try await bed.owner.execute(
                """
                INSERT INTO runs (organization_id, id, job_id, device_id, site_id, state, priority, lane,
                                  generation, expires_at, deadline)
                SELECT \(tenant.organization), crmm_uuid7(), \(job.id),
                       (\(tenant.devices)::uuid[])[1 + n % \(tenant.devices.count)], \(tenant.site),
                       1, 1, 0, 1, now() + interval '1 hour', now() + interval '1 hour'
                FROM generate_series(1, \(max(0, each - tenant.devices.count))) AS g(n)
                """, scope: .none, timeout: .seconds(120))
        }
        try await bed.owner.execute("ANALYZE runs", scope: .none)
    }

    /// How long the first run of B waits while A has a backlog over 100 devices and keeps every slot busy.
    private func neighbour() async throws {
        let (count, samples) = (value("runs", 1_000_000), value("samples", 100))
        let tenants = try await bed.tenants(2, devices: 100)
        let (a, b) = (tenants[0], tenants[1])
        try await backlog([a], count)
        let sink = try await Sink(bed, holding: a.devices + b.devices)
        for device in b.devices { sink.watch(device) }
        let waits = try await running(sink) {
            await mark([a])
            try await Task.sleep(for: .seconds(2))
            var waits: [Double] = []
            for sample in 0..<samples {
                let device = b.devices[sample % b.devices.count]
                let seen = sink.arrivals(device).count
                let began = ContinuousClock.now
                let jobs = (0..<10).map { _ in b.job([device]) }
                let (_, runs) = try await bed.api.submit(jobs, scope: .organization(b.organization))
                await bed.front.offer(runs)
                while sink.arrivals(device).count == seen { try await Task.sleep(for: .microseconds(200)) }
                waits.append((sink.arrivals(device)[seen] - began) / .milliseconds(1))
                try await Task.sleep(for: .milliseconds(50))
            }
            return waits
        }
        say(Self.percentiles(waits))
    }
}

/// Numbers those who pass, from 0.
final class Turnstile: Sendable {
    private let passed = Atomic<Int>(0)

    func pass() -> Int { passed.add(1, ordering: .relaxed).oldValue }
}
