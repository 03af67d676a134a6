import Domain
import Ledger
import Postgres
import TestSupport
import Testing

@testable import Engine
@testable import Redis
@testable import Streams

/// Partitions on the masters of a cluster: a slot moves while runs are dispatched, and a master dies and
/// comes back with nothing.
@Suite(.serialized, .world) struct ClusterFaultTests {
    /// The slot of the hash tag {1}. The first of three masters has {3}, the second {1} and {2}, the third
    /// {0}.
    private static let slot = 9_842

    private struct Scene {
        let bench: Bench
        let cluster: RedisCluster
        var tenants: [TestSupport.Tenant] = []
        var runs: [QueuedRun] = []
        var taken: [RunID: Int] = [:]
    }

    @Test("While a slot moves and a master is lost each run is handed to its device exactly once")
    func faults() async throws {
        let cluster = try await RedisCluster()
        defer { cluster.stop() }
        try await Bench.run(on: RedisConfiguration(url: cluster.url()), partitions: 4) { bench in
            var scene = Scene(bench: bench, cluster: cluster)
            for part in bench.front.parts {
                var tenant = try await bench.world.tenant(devices: 12)
                while !part.has(tenant.organization) { tenant = try await bench.world.tenant(devices: 12) }
                scene.tenants.append(tenant)
                for _ in 0..<12 { scene.runs += try await bench.world.submit(tenant, tenant.all).1 }
            }
            let epochs = try await self.epochs(bench)
            // One whose inbox is on the master that is lost takes a new incarnation; this one stays.
            var id: GatewayID = fresh()
            while 5_461..<10_922 ~= ClusterMap.slot(of: Array(bench.queue.keys.alive(id).utf8)[...]) {
                id = fresh()
            }
            let post = try await Post.open(bench, as: id)
            await bench.front.offer(scene.runs)
            let background = Task {
                await withTaskGroup(of: Void.self) { group in
                    group.addTask { await bench.rebuilder.run() }
                    group.addTask { await bench.refiller.run() }
                    group.addTask { await bench.reconciler.run() }
                    group.addTask { await bench.dispatcher.run() }
                }
            }
            try await work(&scene, post, until: scene.runs.count / 6)
            // The slot of {1} goes from the second to the first master, with all others' work under way.
            try await cluster.beginMove(of: Self.slot, from: 1, to: 0)
            while bench.redis.redirections.asked == 0,
                try await cluster.moveKeys(of: Self.slot, from: 1, to: 0, limit: 2) > 0
            {
                // Of all keys this one is asked for by itself.
                _ = try? await bench.front.parts[1].queue.epoch()  // fails where the slot is between two
            }
            try await work(&scene, post, until: scene.runs.count / 3)
            while try await cluster.moveKeys(of: Self.slot, from: 1, to: 0) > 0 {}
            try await cluster.endMove(of: Self.slot, from: 1, to: 0)
            try await work(&scene, post, until: scene.runs.count / 2)
            // The second master has {2}, and comes back without it.
            cluster.end(1)
            try await work(&scene, post, until: scene.runs.count * 7 / 12)
            try await cluster.restart(1)
            try await work(&scene, post, until: scene.runs.count)
            let after = try await rebuilt(bench)
            background.cancel()
            await background.value
            let redirections = bench.redis.redirections
            #expect(redirections.asked > 0)
            #expect(Set(scene.taken.keys) == Set(scene.runs.map(\.run)))
            #expect(scene.taken.values.allSatisfy { $0 == 1 }, "handed out more than once")
            #expect(
                try await bench.world.count("SELECT count(*) FROM run_history WHERE attempt = 1")
                    == scene.runs.count)
            #expect(try await bench.world.count("SELECT count(*) FROM runs") == 0)
            #expect(zip(epochs, after).map { $0 == $1 } == [true, false, false, true])
        }
    }

    /// Takes and finishes what the gateway gets until so many runs were taken.
    private func work(_ scene: inout Scene, _ post: Post, until count: Int) async throws {
        let bench = scene.bench
        var idle = 0
        while scene.taken.count < count {
            do {
                try await bench.front.mail.beat(gateway: post.id, milliseconds: 60_000)
                let items = try await post.attempts()
                for delivery in try await post.take(items) { scene.taken[delivery.run, default: 0] += 1 }
                try await post.finish(items)
                idle = items.isEmpty ? idle + 1 : 0
                for tenant in scene.tenants {
                    // One whose partition does not answer now is said to be here the next time.
                    try? await post.present(tenant)
                }
                // A letter that was lost with its server is missed when its time to be taken is over.
                if idle > 20 { try await bench.lapseMarks() }
            } catch let error as RedisError where error.isTransient {
                bench.front.forgetEpoch()
            } catch let error as QueueError {
                bench.front.forgetEpoch()
                if error == .libraryMissing { try await bench.queue.load(using: bench.redis) }
            }
            if idle > 20 { try? await bench.queue.load(using: bench.redis) }  // where a master lacks it
        }
    }

    /// The epochs when each partition has one again: what was dispatched before its master was lost needs
    /// none, so the work may be over before the rebuild is.
    private func rebuilt(_ bench: Bench) async throws -> [Epoch] {
        let end = ContinuousClock.now + .seconds(60)
        while true {
            do {
                return try await epochs(bench)
            } catch let error as QueueError {
                guard ContinuousClock.now < end else { throw error }
                await Task.yield()
            } catch let error as RedisError where error.isTransient {
                guard ContinuousClock.now < end else { throw error }
                await Task.yield()
            }
        }
    }

    private func epochs(_ bench: Bench) async throws -> [Epoch] {
        bench.front.forgetEpoch()
        var epochs: [Epoch] = []
        for part in bench.front.parts { epochs.append(try await part.epoch()) }
        return epochs
    }
}
