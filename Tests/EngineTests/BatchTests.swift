import Domain
import Ledger
import TestSupport
import Testing

@testable import Engine
@testable import Streams

/// In which pieces a batch of claims leaves.
@Suite(.serialized, .world) struct BatchTests {
    @Test("Who has few runs in a batch does not wait for the marks of who has many")
    func fewFirst() async throws {
        try await Bench.run { bench in
            let (few, many) = (
                try await bench.world.tenant(devices: 3), try await bench.world.tenant(devices: 120)
            )
            let post = try await Post.open(bench, holding: few.all + many.all)
            let (_, crowd) = try await bench.world.submit(many, many.all)
            let (_, runs) = try await bench.world.submit(few, few.all)
            await bench.front.offer(crowd + runs)
            _ = try await bench.dispatcher.dispatchOnce()
            let arrived = try await post.attempts()
            #expect(arrived.count == 123)
            #expect(Set(arrived.prefix(3).map(\.run)) == Set(runs.map(\.run)))
        }
    }

    @Test("A batch of many who have few each leaves as one")
    func together() async throws {
        try await Bench.run { bench in
            var tenants: [TestSupport.Tenant] = []
            for _ in 0..<5 { tenants.append(try await bench.world.tenant(devices: 8)) }
            for tenant in tenants {
                let (_, runs) = try await bench.world.submit(tenant, tenant.all)
                await bench.front.offer(runs)
            }
            let claims = try await bench.claim()
            #expect(Dispatcher.passes(claims).map(\.count) == [40])
            #expect(Dispatcher.passes([]) == [[]])
        }
    }
}
