import Domain
import Ledger
import Postgres
import TestSupport
import Testing

@testable import Engine
@testable import Redis
@testable import Streams

/// Four partitions on three masters, runs of an organization in each, all parts of a worker, and a gateway
/// that takes and finishes what it gets.
///
/// The first master has the slot of {3}, the second {1} and {2}, the third {0}.
struct ClusterScene {
    let bench: Bench
    let cluster: RedisCluster
    let runs: [QueuedRun]
    private let tenants: [TestSupport.Tenant]
    private let post: Post
    private let epochs: [Epoch]
    private(set) var taken: [RunID: Int] = [:]

    /// The slots of the second master.
    static let slots = 5_461..<10_922

    /// Runs a body over the scene, then works until nothing is left, and judges: each run was handed out
    /// once, and the partitions that are said, and no others, are other data sets. The gateway's inbox is on
    /// the second master, or on another.
    static func run(
        on cluster: RedisCluster, inboxOnSecond: Bool, rebuilt: Set<Int>,
        _ body: (inout ClusterScene) async throws -> Void
    ) async throws {
        try await Bench.run(on: RedisConfiguration(url: cluster.url()), partitions: 4) { bench in
            var scene = try await ClusterScene(bench, cluster, inboxOnSecond: inboxOnSecond)
            await bench.front.offer(scene.runs)
            let background = Task {
                await withTaskGroup(of: Void.self) { group in
                    group.addTask { await bench.rebuilder.run() }
                    group.addTask { await bench.refiller.run() }
                    group.addTask { await bench.reconciler.run() }
                    group.addTask { await bench.dispatcher.run() }
                }
            }
            do {
                try await body(&scene)
                try await scene.work(until: scene.runs.count)
                try await scene.judge(rebuilt)
            } catch {
                background.cancel()
                await background.value
                throw error
            }
            background.cancel()
            await background.value
        }
    }

    private init(_ bench: Bench, _ cluster: RedisCluster, inboxOnSecond: Bool) async throws {
        (self.bench, self.cluster) = (bench, cluster)
        var (tenants, runs): ([TestSupport.Tenant], [QueuedRun]) = ([], [])
        for part in bench.front.parts {
            var tenant = try await bench.world.tenant(devices: 12)
            while !part.has(tenant.organization) { tenant = try await bench.world.tenant(devices: 12) }
            tenants.append(tenant)
            for _ in 0..<12 { runs += try await bench.world.submit(tenant, tenant.all).1 }
        }
        (self.tenants, self.runs) = (tenants, runs)
        epochs = try await Self.epochs(bench)
        var id: GatewayID = fresh()
        while Self.slots.contains(ClusterMap.slot(of: Array(bench.queue.keys.alive(id).utf8)[...]))
            != inboxOnSecond
        { id = fresh() }
        post = try await Post.open(bench, as: id)
    }

    /// Takes and finishes what the gateway gets until so many runs were taken.
    mutating func work(until count: Int) async throws {
        var idle = 0
        while taken.count < count {
            do {
                try await bench.front.mail.beat(gateway: post.id, milliseconds: 60_000)
                let items = try await post.attempts()
                for delivery in try await post.take(items) { taken[delivery.run, default: 0] += 1 }
                try await post.finish(items)
                idle = items.isEmpty ? idle + 1 : 0
                for tenant in tenants {
                    // One whose partition does not answer now is said to be here the next time.
                    try? await post.present(tenant)
                }
                // A letter that was lost with its server is missed when its time to be taken is over.
                if idle > 20 { try await bench.lapseMarks() }
            } catch let error as RedisError where error.isTransient {
                bench.front.forgetEpoch()
            } catch is QueueError {
                bench.front.forgetEpoch()
            }
        }
    }

    private func judge(_ rebuilt: Set<Int>) async throws {
        let after = try await untilRebuilt()
        #expect(Set(taken.keys) == Set(runs.map(\.run)))
        #expect(taken.values.allSatisfy { $0 == 1 }, "handed out more than once")
        let first = try await bench.world.count("SELECT count(*) FROM run_history WHERE attempt = 1")
        #expect(first == runs.count)
        #expect(try await bench.world.count("SELECT count(*) FROM runs") == 0)
        #expect(Set(epochs.indices.filter { epochs[$0] != after[$0] }) == rebuilt)
    }

    /// The epochs when each partition has one again: what was dispatched before its master was lost needs
    /// none, so the work may be over before the rebuild is.
    private func untilRebuilt() async throws -> [Epoch] {
        let end = ContinuousClock.now + .seconds(60)
        while true {
            do {
                return try await Self.epochs(bench)
            } catch let error as QueueError {
                guard ContinuousClock.now < end else { throw error }
                await Task.yield()
            } catch let error as RedisError where error.isTransient {
                guard ContinuousClock.now < end else { throw error }
                await Task.yield()
            }
        }
    }

    private static func epochs(_ bench: Bench) async throws -> [Epoch] {
        bench.front.forgetEpoch()
        var epochs: [Epoch] = []
        for part in bench.front.parts { epochs.append(try await part.epoch()) }
        return epochs
    }
}
