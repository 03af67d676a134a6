import Redis
import Streams
import TestSupport
import Testing

@testable import Engine
@testable import Gateway
@testable import Redis
@testable import Streams

/// A gateway on a cluster of which one master does not answer.
@Suite(.serialized, .world) struct HungPartitionTests {
    @Test("A partition that hangs delays no beat, and no other partition's new data set")
    func hangs() async throws {
        let cluster = try await RedisCluster()
        defer { cluster.stop() }
        try await Bench.run(on: RedisConfiguration(url: cluster.url()), partitions: 4) { bench in
            let id = bench.gateway.id
            let alive = bench.queue.keys.alive(id)
            let owner = try await cluster.owner(of: ClusterMap.slot(of: Array(alive.utf8)[...]))
            // Each of the three has one partition at least.
            let hung = (owner + 1) % 3
            var tenant = try await bench.world.tenant()
            func node(of part: QueuePart) async throws -> Int {
                let key = part.queue.keys.key("epoch")
                return try await cluster.owner(of: ClusterMap.slot(of: Array(key.utf8)[...]))
            }
            while try await node(of: bench.front.part(of: tenant.organization)) == hung {
                tenant = try await bench.world.tenant()
            }
            let part = bench.front.part(of: tenant.organization)
            let context = try #require(try await bench.enroll(tenant)[tenant.all[0]])
            let agent = try await TestAgent.connect(bench, context)
            _ = try await agent.welcome()

            try cluster.suspend(hung)
            defer { try? cluster.resume(hung) }  // it is ended with the cluster otherwise
            // As many beats as it takes for one that waited for the answer to come too late.
            var (left, beats) = (0, 0)
            while beats < 6 {
                let answer = try await cluster.nodes[owner].direct.send(
                    RedisCommand("PTTL", .string(alive)))
                let now = try #require(answer.int)
                try #require(now > 0, "the heartbeat has lapsed after \(beats) beats")
                if now > left { beats += 1 }
                left = now
            }
            #expect(bench.gateway.id == id)

            try await part.queue.rebuild(epoch: .fresh(), entitlements: [], running: [])
            part.forgetEpoch()
            try await bench.until(looks: 1_000_000) {
                try await part.queue.presence(of: tenant.all)[0]?.gateway == bench.gateway.id
            }
            #expect(bench.gateway.id != id, "a new incarnation")
            _ = agent
        }
    }
}
