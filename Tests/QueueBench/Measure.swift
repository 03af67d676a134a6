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
    var words: [String] = []

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
        case "weights": try await weights()
        case "few": try await few()
        case "beside": try await beside()
        case "spread": try await spread()
        case "direct": try await direct()
        case "bypass": try await bypass()
        case "cost": try await cost()
        case "recovery": try await recovery()
        case "cancels": try await cancels()
        case "prepare": try await prepare()
        case "producer": try await producer()
        case "worker": try await worker()
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
    func fill(_ tenant: BenchTenant, _ count: Int) async throws {
        let listed = min(1_000, tenant.devices.count)
        var left = count
        while left > 0 {
            let devices = Array(tenant.devices.prefix(min(listed, left)))
            _ = try await bed.api.submit([tenant.job(devices)], scope: .organization(tenant.organization))
            left -= devices.count
        }
    }

    func mark(_ tenants: [BenchTenant]) async {
        await bed.front.offer([], and: tenants.map { OrganizationQueue($0.organization, .standard) })
    }

    func wait(for sinks: [Sink], total: Int) async throws {
        let deadline = ContinuousClock.now + .seconds(180)
        while sinks.reduce(0, { $0 + $1.settled.load(ordering: .relaxed) }) < total {
            guard ContinuousClock.now < deadline else { throw BenchError("not settled within 180 s") }
            try await Task.sleep(for: .milliseconds(2))
        }
    }

    /// Runs a body beside workers and a sink.
    func running<Value: Sendable>(
        _ sink: Sink, dispatchers: Int = 3, _ body: @escaping @Sendable () async throws -> Value
    ) async throws -> Value {
        let task = Task { await sink.run() }
        defer { task.cancel() }
        return try await Workers(bed: bed, dispatchers: dispatchers).beside(body)
    }

    /// Claims, marks and settles what is queued already.
    func drain() async throws {
        let count = value("runs", 20_000)
        let tenants = try await bed.tenants(value("organizations", 1), devices: value("devices", 1_000))
        for tenant in tenants { try await fill(tenant, count / tenants.count) }
        let total = count / tenants.count * tenants.count
        let sink = try await Sink(bed, holding: tenants.flatMap(\.devices))
        let took = try await running(sink, dispatchers: value("dispatchers", 3)) {
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
            try await phase("whole", { _ in count }) {
                try await seconds {
                    for jobs in calls {
                        let runs = try await bed.api.submit(
                            jobs, scope: .organization(tenant.organization)
                        ).queued
                        await bed.front.offer(runs)
                    }
                    try await wait(for: [sink], total: calls.count * bulk)
                }
            }
        }
        say(["runsPerSecond": Double(calls.count * bulk) / took])
    }

    static func percentiles(_ values: [Double]) -> [String: Double] {
        let sorted = values.sorted()
        func at(_ part: Double) -> Double { sorted[min(sorted.count - 1, Int(part * Double(sorted.count)))] }
        return [
            "p50ms": at(0.5), "p99ms": at(0.99), "maxms": sorted.last ?? 0, "count": Double(sorted.count),
        ]
    }
}

/// Numbers those who pass, from 0.
final class Turnstile: Sendable {
    private let passed = Atomic<Int>(0)

    func pass() -> Int { passed.add(1, ordering: .relaxed).oldValue }
}
