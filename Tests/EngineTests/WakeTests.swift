import TestSupport
import Testing

@testable import Engine

/// What wakes the refiller of a process.
@Suite(.serialized, .world) struct WakeTests {
    @Test("Work that is offered, and a batch that leaves room, wake refill at once")
    func refill() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let wake = bench.front.parts[0].refill
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await wake.wait(atMost: .zero)
            #expect(!wake.isCalled)
            await bench.front.offer(runs)
            #expect(wake.isCalled)
            await wake.wait(atMost: .zero)
            #expect(!wake.isCalled)
            try await bench.dispatchAll()
            #expect(wake.isCalled)
            #expect(try await post.attempts().count == 1)
        }
    }
}
