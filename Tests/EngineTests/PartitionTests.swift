import Domain
import Ledger
import Postgres
import Redis
import Synchronization
import TestSupport
import Testing
import Trust
import Wire

@testable import Engine
@testable import Streams

/// A queue with several partitions, on one server or on the nodes of a cluster.
@Suite(.serialized, .world) struct PartitionTests {
    /// Tenants of all of four partitions.
    private func tenants(_ bench: Bench, devices: Int) async throws -> [TestSupport.Tenant] {
        var tenants: [Int: TestSupport.Tenant] = [:]
        while tenants.count < bench.front.parts.count {
            let tenant = try await bench.world.tenant(devices: devices)
            let part = bench.front.part(of: tenant.organization).number
            if tenants[part] == nil { tenants[part] = tenant }
        }
        return tenants.sorted { $0.key < $1.key }.map(\.value)
    }

    private func submit(_ bench: Bench, _ tenants: [TestSupport.Tenant]) async throws -> [QueuedRun] {
        var runs: [QueuedRun] = []
        for tenant in tenants { runs += try await bench.world.submit(tenant, tenant.all).1 }
        return runs
    }

    @Test("Organizations lie in partitions of their own, evenly, and are served by one dispatcher")
    func spread() async throws {
        try await Bench.run(partitions: 4) { bench in
            let tenants = try await tenants(bench, devices: 3)
            let post = try await Post.open(bench)
            for tenant in tenants { try await post.present(tenant) }
            let runs = try await submit(bench, tenants)
            await bench.front.offer(runs)
            for tenant in tenants {
                for part in bench.front.parts {
                    let depth = try await part.queue.depths(of: [tenant.organization])[0]
                    #expect(depth.ready.isEmpty != part.has(tenant.organization))
                }
            }
            let everywhere = Set(try await QueueRates(front: bench.front).activeOrganizations())
            #expect(everywhere == Set(tenants.map(\.organization)))
            try await bench.dispatchAll()
            let items = try await post.attempts()
            #expect(Set(items.map(\.run)) == Set(runs.map(\.run)) && items.count == runs.count)
            _ = try await post.take(items)
            try await post.finish(items)
            for tenant in tenants {
                let part = bench.front.part(of: tenant.organization)
                #expect(try await part.queue.runningCount(tenant.organization) == 0)
            }
            try await bench.front.tally.report(to: bench.front.parts)
            let rates = try await QueueRates(front: bench.front).rates(of: tenants.map(\.organization))
            #expect(rates.values.map(\.share) == [0.25, 0.25, 0.25, 0.25])
            let counts = (0..<4_000).reduce(into: [0, 0, 0, 0]) { counts, _ in
                counts[Keyspace.partition(of: .new(at: .now()), count: 4)] += 1
            }
            #expect(counts.allSatisfy { (850...1_150).contains($0) }, "\(counts)")
        }
    }

    @Test("A pause of everything, and weights, reach the partitions they concern and no other")
    func controls() async throws {
        try await Bench.run(partitions: 4) { bench in
            let tenants = try await tenants(bench, devices: 1)
            let controls = QueueControls(
                ledger: bench.world.api, front: bench.front, judge: World.judge, logger: .quiet)
            _ = try await controls.pause(ControlRequest(QueueScope()), by: fresh(), level: .platform)
            for part in bench.front.parts {
                #expect(try await part.queue.pauses() == [Pause(organization: nil)])
            }
            await bench.front.offer(try await submit(bench, tenants))
            try await bench.dispatchAll()
            for tenant in tenants {
                try await controls.weigh(tenant.organization, 3, level: .platform)
                for part in bench.front.parts {
                    let found = try await part.queue.entitlements().filter {
                        $0.organization == tenant.organization
                    }
                    #expect(found.map(\.weight) == (part.has(tenant.organization) ? [3] : []))
                }
            }
            // One partition forgets all of it, and the comparison brings it back.
            let part = bench.front.parts[2]
            for name in ["paused", "caps"] {
                _ = try await bench.redis.send(RedisCommand("DEL", .string(part.queue.keys.key(name))))
            }
            #expect(try await EntitlementSync(ledger: bench.world.worker, front: bench.front).compare() == 2)
            #expect(try await part.queue.pauses() == [Pause(organization: nil)])
            #expect(try await part.queue.entitlements().map(\.weight) == [3])
        }
    }

    @Test("A partition that is lost is built anew, and the others go on with what they hold")
    func loss() async throws {
        try await Bench.run(partitions: 4) { bench in
            let tenants = try await tenants(bench, devices: 2)
            let runs = try await submit(bench, tenants)
            await bench.front.offer(runs)
            let epochs = try await epochs(bench)
            let lost = bench.front.parts[1]
            for key in try await bench.place.keys() where key.hasPrefix(lost.queue.keys.key("")) {
                _ = try await bench.redis.send(RedisCommand("DEL", .string(key)))
            }
            #expect(try await bench.rebuilder.checkOnce())
            bench.front.forgetEpoch()
            let after = try await self.epochs(bench)
            #expect(zip(epochs, after).map { $0 == $1 } == [true, false, true, true])
            while try await bench.refiller.refillOnce() > 0 {}
            let post = try await Post.open(bench)
            for tenant in tenants { try await post.present(tenant) }
            try await bench.dispatchAll()
            #expect(Set(try await post.attempts().map(\.run)) == Set(runs.map(\.run)))
        }
    }

    private func epochs(_ bench: Bench) async throws -> [Epoch] {
        var epochs: [Epoch] = []
        for part in bench.front.parts { epochs.append(try await part.epoch()) }
        return epochs
    }

    @Test("Another number of partitions takes over all work: nothing is lost and nothing is done twice")
    func otherNumber() async throws {
        try await Bench.run { bench in
            var seen: [RunID: Int] = [:]
            func work(_ bench: Bench, _ tenants: [TestSupport.Tenant], limit: Int = .max) async throws {
                let post = try await Post.open(bench)
                for tenant in tenants { try await post.present(tenant) }
                repeat {
                    try await bench.dispatchAll()
                    let items = try await post.attempts()
                    for delivery in try await post.take(items) { seen[delivery.run, default: 0] += 1 }
                    try await post.finish(items)
                } while try await bench.refiller.refillOnce() > 0
            }
            var tenants: [TestSupport.Tenant] = []
            for _ in 0..<6 { tenants.append(try await bench.world.tenant(devices: 4)) }
            var runs = try await submit(bench, tenants)
            await bench.front.offer(runs)
            let held = try await bench.claim()
            #expect(held.count == runs.count)
            try await bench.beside(partitions: 4) { four in
                #expect(try await four.rebuilder.checkOnce())
                // What the old process holds and knows is worth nothing any more.
                let gateway = try await Post.open(bench)
                #expect(try await bench.mark(held, gateway: gateway.id).isEmpty)
                await #expect(throws: QueueError.staleEpoch(current: nil)) {
                    bench.front.forgetEpoch()
                    _ = try await bench.front.epoch()
                }
                #expect(try await !bench.rebuilder.checkOnce(), "whoever started last prevails")
                try await work(four, tenants)
                #expect(Set(seen.keys) == Set(runs.map(\.run)))
                let more = try await submit(four, tenants)
                runs += more
                await four.front.offer(more)
            }
            // And back, by a process that starts.
            try await bench.beside(partitions: 1) { one in
                #expect(try await one.rebuilder.checkOnce())
                let keys = try await one.place.keys().filter { key in
                    (1...3).contains { key.hasPrefix("\(one.queue.keys.prefix){\($0)}:") }
                }
                #expect(keys.allSatisfy { $0.hasSuffix(":sequence") }, "\(keys)")
                while try await one.refiller.refillOnce() > 0 {}
                try await work(one, tenants)
            }
            #expect(Set(seen.keys) == Set(runs.map(\.run)))
            #expect(seen.values.allSatisfy { $0 == 1 })
            #expect(try await bench.world.count("SELECT count(*) FROM run_history") == runs.count)
            #expect(try await bench.world.count("SELECT count(*) FROM runs") == 0)
        }
    }

    @Test("What was claimed in a partition that there is no more is not marked")
    func fewer() async throws {
        try await Bench.run(partitions: 4) { four in
            var tenants: [TestSupport.Tenant] = []
            for _ in 0..<12 { tenants.append(try await four.world.tenant(devices: 1)) }
            let runs = try await submit(four, tenants)
            await four.front.offer(runs)
            var held: [(part: Int, epoch: Epoch, claims: [Claim])] = []
            for part in four.front.parts {
                let epoch = try await part.epoch()
                let claims = try await part.queue.claim(
                    owner: "old", limit: 128, leaseMilliseconds: 5_000, epoch: epoch)
                held.append((part.number, epoch, claims.items))
            }
            #expect(held.reduce(0) { $0 + $1.claims.count } == runs.count)
            try await four.beside(partitions: 1) { one in
                #expect(try await one.rebuilder.checkOnce())
                let post = try await Post.open(one)
                for (part, epoch, claims) in held {
                    let requests = claims.map { claim in
                        MarkRequest(
                            organization: claim.organization, run: claim.run, generation: claim.generation,
                            gateway: post.id, token: .new(at: .now()))
                    }
                    let marked = try await one.world.worker.mark(
                        requests, epoch: epoch.id, partition: part)
                    #expect(marked.isEmpty, "partition \(part)")
                }
            }
        }
    }
}

/// Turns among partitions.
@Suite struct PartitionTurnsTests {
    /// What each partition got.
    private final class Shares: Sendable {
        let counts = Mutex([0, 0, 0])
        var total: Int { counts.withLock { $0.reduce(0, +) } }
    }

    @Test("Partitions that always want a turn get runs by their weights; one that was idle has no credit")
    func shares() async throws {
        let turns = PartitionTurns(partitions: 3, batches: 1)
        turns.weigh(0, 1)
        turns.weigh(1, 3)
        let shares = Shares()
        await withTaskGroup(of: Void.self) { tasks in
            for partition in 0..<2 {
                // Two each, so that each always waits for a turn when one is free.
                for _ in 0..<2 {
                    tasks.addTask {
                        while shares.total < 4_000 {
                            await turns.take(partition) {
                                shares.counts.withLock { $0[partition] += 10 }
                                await Task.yield()
                                return ((), runs: 10)
                            }
                        }
                    }
                }
            }
        }
        let share = shares.counts.withLock { Double($0[1]) / Double($0[0] + $0[1]) }
        #expect((0.70...0.80).contains(share), "\(share)")
        // It comes late and is no further behind than the others are now.
        shares.counts.withLock { $0 = [0, 0, 0] }
        await withTaskGroup(of: Void.self) { tasks in
            for partition in [0, 2, 0, 2] {
                tasks.addTask {
                    while shares.total < 2_000 {
                        await turns.take(partition) {
                            shares.counts.withLock { $0[partition] += 10 }
                            await Task.yield()
                            return ((), runs: 10)
                        }
                    }
                }
            }
        }
        let late = shares.counts.withLock { Double($0[2]) / Double($0[0] + $0[2]) }
        #expect((0.4...0.6).contains(late), "\(late)")
    }

    @Test("A batch that fails gives its turn back")
    func failure() async throws {
        let turns = PartitionTurns(partitions: 1, batches: 1)
        for _ in 0..<3 {
            await #expect(throws: CancellationError.self) {
                try await turns.take(0) { () async throws -> (Int, runs: Int) in throw CancellationError() }
            }
        }
        #expect(await turns.take(0) { (7, runs: 1) } == 7)
    }
}
