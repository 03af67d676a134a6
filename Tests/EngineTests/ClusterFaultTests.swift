import Domain
import TestSupport
import Testing

@testable import Engine
@testable import Redis
@testable import Streams

/// Partitions on the masters of a cluster: a slot moves while runs are dispatched; a master dies and comes
/// back with nothing; one dies, or stands still, and its replica takes its slots.
@Suite(.serialized, .world) struct ClusterFaultTests {
    /// The slot of the hash tag {1}.
    private static let slot = 9_842

    @Test("While a slot moves and a master is lost each run is handed to its device exactly once")
    func faults() async throws {
        let cluster = try await RedisCluster()
        defer { cluster.stop() }
        // One whose inbox is on the master that is lost takes a new incarnation; this one stays.
        try await ClusterScene.run(on: cluster, inboxOnSecond: false, rebuilt: [1, 2]) { scene in
            let (bench, count) = (scene.bench, scene.runs.count)
            try await scene.work(until: count / 6)
            // The slot of {1} goes from the second to the first master, with all others' work under way.
            try await cluster.beginMove(of: Self.slot, from: 1, to: 0)
            while bench.redis.redirections.asked == 0,
                try await cluster.moveKeys(of: Self.slot, from: 1, to: 0, limit: 2) > 0
            {
                // Of all keys this one is asked for by itself.
                _ = try? await bench.front.parts[1].queue.epoch()  // fails where the slot is between two
            }
            try await scene.work(until: count / 3)
            while try await cluster.moveKeys(of: Self.slot, from: 1, to: 0) > 0 {}
            try await cluster.endMove(of: Self.slot, from: 1, to: 0)
            try await scene.work(until: count / 2)
            // The second master has {2}, and comes back without it.
            cluster.end(1)
            try await scene.work(until: count * 7 / 12)
            try await cluster.restart(1)
            #expect(bench.redis.redirections.asked > 0)
        }
    }

    @Test(
        "When a replica takes the slots of its master each run is handed to its device exactly once",
        arguments: [false, true])
    func succession(isFrozen: Bool) async throws {
        let cluster = try await RedisCluster()
        defer { cluster.stop() }
        let replica = try await cluster.addReplica(of: 1)
        try await ClusterScene.run(on: cluster, inboxOnSecond: true, rebuilt: [1, 2]) { scene in
            try await scene.work(until: scene.runs.count / 4)
            if isFrozen { try cluster.suspend(1) } else { cluster.end(1) }
            try await cluster.untilServed(Self.slot, by: replica, asSeenBy: [0, 2])
            try await scene.work(until: scene.runs.count / 2)
            // It comes back, takes itself for the master until it hears of the other, and follows it.
            if isFrozen { try cluster.resume(1) } else { try await cluster.restart(1) }
            try await scene.work(until: scene.runs.count)
            try await cluster.untilServed(Self.slot, by: replica, asSeenBy: [0, 1, 2])
        }
    }
}
