import Domain
import Ledger
import Postgres
import TestSupport
import Testing
import Trust
import Wire

@testable import Engine
@testable import Gateway
@testable import Streams

/// Which sessions a gateway ends by itself, and which connections it does not take.
@Suite(.serialized, .world, .timeLimit(.minutes(1))) struct EndedSessionTests {
    @Test("A gateway finds by itself whose session is to end, and leaves the others alone")
    func unwelcome() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 2)
            let contexts = try await bench.enroll(tenant)
            let (one, other) = (tenant.all[0], tenant.all[1])
            let first = try await TestAgent.connect(bench, try #require(contexts[one]))
            let second = try await TestAgent.connect(bench, try #require(contexts[other]))
            _ = (try await first.welcome(), try await second.welcome())
            try await bench.world.owner.execute(
                "UPDATE devices SET state = 1 WHERE id = \(one)", scope: .none)
            await bench.gateway.endUnwelcome()
            #expect(await first.next() == .closed(4410))
            try await second.send(.ping(1))
            #expect(await second.next() == .frame(.pong(1)))
        }
    }

    @Test("A gateway finds revoked certificates by itself, at once and when it looks through all sessions")
    func revoked() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 3)
            let contexts = try await bench.enroll(tenant)
            var agents: [TestAgent] = []
            for device in tenant.all {
                let agent = try await TestAgent.connect(bench, try #require(contexts[device]))
                _ = try await agent.welcome()
                agents.append(agent)
            }
            try await bench.world.owner.execute(
                "UPDATE certificates SET revoked_at = now() WHERE device_id = \(tenant.all[0])", scope: .none)
            // Within a second, and nobody says so.
            #expect(await agents[0].next() == .closed(4410))
            // Too long ago for the look of each second.
            try await bench.world.owner.execute(
                """
                UPDATE certificates SET revoked_at = now() - interval '1 day'
                WHERE device_id = \(tenant.all[1])
                """, scope: .none)
            await bench.gateway.endUnwelcome()
            #expect(await agents[1].next() == .closed(4410))
            // One that has another that is good is let be.
            try await bench.world.owner.execute(
                """
                INSERT INTO certificates (organization_id, device_id, serial, key_hash, not_after, revoked_at)
                SELECT organization_id, device_id, 'another', key_hash, not_after, now() FROM certificates
                WHERE device_id = \(tenant.all[2])
                """, scope: .none)
            await bench.gateway.endUnwelcome()
            try await agents[2].send(.ping(1))
            #expect(await agents[2].next() == .frame(.pong(1)))
        }
    }

    @Test(
        "Past the limit of connections the next is closed at once and counted, and one that ends makes room")
    func full() async throws {
        try await Bench.run(connectionsMax: 2) { bench in
            let tenant = try await bench.world.tenant(devices: 3)
            let contexts = try await bench.enroll(tenant)
            var agents: [TestAgent] = []
            for device in tenant.all.prefix(2) {
                let agent = try await TestAgent.connect(bench, try #require(contexts[device]))
                _ = try await agent.welcome()
                agents.append(agent)
            }
            let last = try #require(contexts[tenant.all[2]])
            let refused = try await TestAgent.connect(bench, last, hello: nil)
            #expect(await refused.next() != .opened)
            #expect(bench.gateway.counters.snapshot["failed.descriptors"] == 1)
            try await agents[0].send(.ping(1))
            #expect(await agents[0].next() == .frame(.pong(1)))
            // Its end comes in its own time.
            bench.gateway.sessions.all.first { $0.device == tenant.all[0] }?.close(.goingAway)
            #expect(await agents[0].next() == .closed(1001))
            try await bench.until {
                let agent = try await TestAgent.connect(bench, last, hello: nil)
                return await agent.next() == .opened
            }
        }
    }
}
