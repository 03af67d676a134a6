import Domain
import Engine
import Ledger
import Postgres
import Streams
import Synchronization
import Trust

/// What organizations get of the queue when others have backlogs, by what arrives in an inbox.
extension Measure {
    /// Shares of three organizations with the weights 1, 2 and 5 while all have runs queued.
    func weights() async throws {
        let (count, warm) = (value("runs", 8_000), value("warm", 2_000))
        let weights = [1.0, 2, 5]
        let tenants = try await bed.tenants(weights.count, devices: 1_000)
        try await backlog(tenants, max(1_000, (count + warm) / 1_000 * 1_000))
        for (tenant, weight) in zip(tenants, weights) {
            _ = try await bed.api.setWeight(weight, of: tenant.organization, scope: .platform)
        }
        _ = try await EntitlementSync(ledger: bed.worker, front: bed.front).compare()
        let sink = try await Sink(bed, holding: tenants.flatMap(\.devices))
        let served = try await running(sink) {
            await mark(tenants)
            let before = try await arrivals(at: sink, from: warm)
            let after = try await arrivals(at: sink, from: warm + count)
            return tenants.map { Double((after[$0.organization] ?? 0) - (before[$0.organization] ?? 0)) }
        }
        let total = served.reduce(0, +)
        let sum = weights.reduce(0, +)
        var result: [String: Double] = ["runs": total]
        for (got, weight) in zip(served, weights) {
            let percent = 100 * got / total
            result["weight\(Int(weight))Percent"] = percent
            result["worstPoints"] = max(result["worstPoints"] ?? 0, abs(percent - 100 * weight / sum))
        }
        say(result)
    }

    /// What has arrived of each organization once so much has in all.
    private func arrivals(at sink: Sink, from total: Int) async throws -> [OrganizationID: Int] {
        let deadline = ContinuousClock.now + .seconds(180)
        while true {
            let arrived = sink.arrived
            if arrived.values.reduce(0, +) >= total { return arrived }
            guard ContinuousClock.now < deadline else { throw BenchError("no \(total) runs in 180 s") }
            try await Task.sleep(for: .milliseconds(1))
        }
    }

    /// The queue's functions alone: slots come free one by one (or `limit` at a time), A has always runs
    /// ready, B has `ready` of them and adds one for each that was claimed. B's share of the claims, and how
    /// many claims its runs wait.
    func few() async throws {
        let (count, ready, limit) = (value("claims", 4_000), value("ready", 3), value("limit", 1))
        let (a, b) = (OrganizationID.new(at: .now()), OrganizationID.new(at: .now()))
        let epoch = try await bed.front.epoch()
        var waiting: [RunID: Int] = [:]
        func add(_ number: Int, to organization: OrganizationID, at claim: Int) async throws {
            guard number > 0 else { return }
            // A device each: here none of its lanes is to be full.
            let entries = (0..<number).map { _ in
                Entry(run: .new(at: .now()), generation: 1, device: .new(at: .now()))
            }
            _ = try await bed.queue.enqueue(
                entries, in: OrganizationQueue(organization, .standard), epoch: epoch)
            if organization == b { for entry in entries { waiting[entry.run] = claim } }
        }
        try await add(100, to: a, at: 0)
        try await add(ready, to: b, at: 0)
        var served: [OrganizationID: Int] = [:]
        var waits: [Double] = []
        for claim in 1...count {
            let claims = try await bed.queue.claim(
                owner: "bench", limit: limit, leaseMilliseconds: 60_000, epoch: epoch
            ).items
            _ = try await bed.queue.acknowledge(
                dispatched: claims, dropped: [], deadlineMilliseconds: .max >> 16, epoch: epoch)
            _ = try await bed.queue.settle(
                claims.map {
                    Settled(
                        organization: $0.organization, run: $0.run, generation: 1, device: $0.device,
                        lane: $0.lane)
                }, epoch: epoch)
            for item in claims {
                served[item.organization, default: 0] += 1
                if let since = waiting.removeValue(forKey: item.run) { waits.append(Double(claim - since)) }
            }
            for organization in [a, b] {
                try await add(claims.count { $0.organization == organization }, to: organization, at: claim)
            }
        }
        let (gotA, gotB) = (Double(served[a] ?? 0), Double(served[b] ?? 0))
        let sorted = waits.sorted()
        guard !sorted.isEmpty else { throw BenchError("B got nothing") }
        say([
            "bPercent": 100 * gotB / (gotA + gotB), "claimed": gotA + gotB,
            "p50claims": sorted[sorted.count / 2], "p99claims": sorted[sorted.count * 99 / 100],
        ])
    }

    /// The whole path at saturation: A has a backlog, B has so many callers, each of which submits its next
    /// run when its last has arrived. B's share of what arrives, and how long its runs wait.
    func beside() async throws {
        let (ready, duration) = (value("ready", 3), value("seconds", 5))
        let tenants = try await bed.tenants(2, devices: 1_000)
        let (a, b) = (tenants[0], tenants[1])
        try await backlog([a], value("runs", 200_000))
        let sink = try await Sink(bed, holding: a.devices + b.devices)
        let callers = b.devices.prefix(ready).map { ($0, sink.follow($0)) }
        let commits = Submitter.commits(ledger: bed.api, front: bed.front)
        let (waits, before, after) = try await running(sink) {
            await mark([a])
            let before = try await arrivals(at: sink, from: 2_000)
            let end = ContinuousClock.now + .seconds(duration)
            let waits = try await withThrowingTaskGroup(of: [Double].self) { group in
                for (device, arrivals) in callers {
                    group.addTask {
                        var waits: [Double] = []
                        var arrivals = arrivals.makeAsyncIterator()
                        while ContinuousClock.now < end {
                            let began = ContinuousClock.now
                            _ = try await commits(
                                [b.job([device])], size: 2, scope: .organization(b.organization))
                            guard let arrived = await arrivals.next() else { break }
                            waits.append((arrived - began) / .milliseconds(1))
                        }
                        return waits
                    }
                }
                return try await group.reduce(into: []) { $0 += $1 }
            }
            return (waits, before, sink.arrived)
        }
        func got(_ tenant: BenchTenant) -> Double {
            Double((after[tenant.organization] ?? 0) - (before[tenant.organization] ?? 0))
        }
        var result = Self.percentiles(waits)
        result["bPercent"] = 100 * got(b) / (got(a) + got(b))
        result["aPerSecond"] = got(a) / Double(duration)
        result["bPerSecond"] = got(b) / Double(duration)
        say(result)
    }

    /// How long the first run of B waits while A has a backlog over 100 devices and takes every slot: from
    /// its submission, and from the first slot that is free for it. A slot is a dispatcher; it is free when
    /// it goes for its next batch.
    func neighbour() async throws {
        let freed = Freed()
        let waits = try await waits(.plain, value("runs", 1_000_000), samples: value("samples", 100), freed)
        var result: [String: Double] = [:]
        for (name, parts) in [("", waits.map(\.whole)), ("beyond_", waits.map(\.beyondSlot))] {
            for (member, value) in Self.percentiles(parts) { result[name + member] = value }
        }
        say(result)
    }

    /// What B's wait becomes when A's backlog is spread over sites, kinds, keys or priorities: ratios to the
    /// wait beside a plain backlog that was measured just before.
    func spread() async throws {
        let (count, samples, rounds) = (value("runs", 120_000), value("samples", 40), value("rounds", 5))
        var all: [Spread: [[Double]]] = [:]
        for _ in 0..<rounds {
            for spread in Spread.allCases {
                try await bed.clear()
                let waits = try await waits(spread, count, samples: samples)
                all[spread, default: []].append(waits.map(\.whole))
            }
        }
        var result: [String: Double] = [:]
        for (spread, waits) in all {
            let pooled = Self.percentiles(waits.flatMap(\.self))
            for name in ["p50ms", "p99ms"] {
                result["\(spread)_\(name)"] = pooled[name]
                let ratios = zip(waits, all[.plain] ?? []).map {
                    (Self.percentiles($0)[name] ?? 0) / (Self.percentiles($1)[name] ?? 1)
                }.sorted()
                result["\(spread)_\(name)_ratio"] = ratios[ratios.count / 2]
                result["\(spread)_\(name)_least"] = ratios[0]
                result["\(spread)_\(name)_most"] = ratios[ratios.count - 1]
            }
        }
        say(result)
    }

    /// How long the first run of each submission of B waits, in milliseconds.
    private struct Wait: Sendable {
        let whole: Double
        /// From when a slot was free after the submission was answered.
        let beyondSlot: Double
    }

    /// When the dispatchers were free, in order, and when the one was that took a run.
    private final class Freed: Sendable {
        private let instants = Mutex<[ContinuousClock.Instant]>([])
        private let runs = Mutex<[RunID: ContinuousClock.Instant]>([:])

        func note(_ instant: ContinuousClock.Instant) { instants.withLock { $0.append(instant) } }

        func note(_ taken: [RunID], _ times: Steps.Times) {
            runs.withLock { runs in for run in taken { runs[run] = times.free } }
        }

        /// The first slot that was free for a run: the one that took it, if it was free before the submission
        /// was answered, or any after that.
        func slot(for run: RunID, committed: ContinuousClock.Instant, offered: ContinuousClock.Instant)
            -> ContinuousClock.Instant?
        {
            guard let taken = runs.withLock({ $0[run] }) else { return nil }
            let any = instants.withLock { instants in instants.first { $0 >= offered } }
            return min(max(taken, committed), any ?? .now)
        }

        func clear() {
            instants.withLock { $0 = [] }
            runs.withLock { $0 = [:] }
        }
    }

    /// With `freed` the dispatchers are the bench's, which say when they are free.
    private func waits(
        _ spread: Spread, _ count: Int, samples: Int, _ freed: Freed? = nil
    ) async throws -> [Wait] {
        let a = try await bed.tenants(1, devices: 100, sites: spread == .sites ? 10 : 1)[0]
        let b = try await bed.tenants(1, devices: 100)[0]
        try await backlog([a], count, spread)
        let sink = try await Sink(bed, holding: a.devices + b.devices)
        guard let freed else {
            return try await running(sink) { try await submit(b, beside: a, samples, to: sink, nil) }
        }
        return try await timing(
            sink, isFree: { freed.note($0) }, note: { freed.note($0, $1) }
        ) { try await submit(b, beside: a, samples, to: sink, freed) }
    }

    private func submit(
        _ b: BenchTenant, beside a: BenchTenant, _ samples: Int, to sink: Sink, _ freed: Freed?
    ) async throws -> [Wait] {
        let devices = b.devices.map { ($0, sink.follow($0)) }
        await bed.front.offer(all: [a.organization])
        try await Task.sleep(for: .seconds(1))
        var waits: [Wait] = []
        for sample in 0..<samples {
            let (device, arrivals) = devices[sample % devices.count]
            let jobs = (0..<10).map { _ in b.job([device]) }
            let began = ContinuousClock.now
            let runs = try await bed.api.submit(jobs, scope: .organization(b.organization)).queued
            let committed = ContinuousClock.now
            await bed.front.offer(runs)
            let offered = ContinuousClock.now
            var first: ContinuousClock.Instant?
            var left = jobs.count
            for await arrival in arrivals {
                first = first ?? arrival
                left -= 1
                if left == 0 { break }
            }
            guard let first else { throw BenchError("nothing of B arrived") }
            // The runs of a batch have one slot; the oldest went with the first.
            let slot = freed?.slot(for: runs[0].run, committed: committed, offered: offered) ?? committed
            waits.append(
                Wait(
                    whole: (first - began) / .milliseconds(1), beyondSlot: (first - slot) / .milliseconds(1)))
            freed?.clear()
            try await Task.sleep(for: .milliseconds(20))
        }
        let inFront = try await bed.number(
            "SELECT count(*) FROM runs WHERE state = 1 AND organization_id = \(a.organization)")
        guard inFront > 0 else { throw BenchError("A had not enough runs") }
        return waits
    }
}
