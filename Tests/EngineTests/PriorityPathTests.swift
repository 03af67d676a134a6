import Domain
import Ledger
import Postgres
import Redis
import TestSupport
import Testing

@testable import Engine
@testable import Streams

/// A run stays in the queue of its priority, whichever way it comes back to it.
@Suite(.serialized, .world) struct PriorityPathTests {
    /// A job of each priority for the tenant's one device, oldest first bulk; committed, and nobody told.
    private func submitEach(_ bench: Bench, _ tenant: Tenant) async throws -> [Priority: QueuedRun] {
        var runs: [Priority: QueuedRun] = [:]
        for priority in Priority.allCases.reversed() {
            let (_, made) = try await bench.world.submit(tenant, tenant.all, priority)
            #expect(made.map(\.priority) == [priority])
            runs[priority] = made[0]
        }
        return runs
    }

    private func priorities(_ claims: [Claim]) -> [RunID: Priority] {
        Dictionary(uniqueKeysWithValues: claims.map { ($0.run, $0.priority) })
    }

    private func priorities(_ runs: [Priority: QueuedRun]) -> [RunID: Priority] {
        Dictionary(uniqueKeysWithValues: runs.map { ($0.value.run, $0.key) })
    }

    @Test("Stragglers and refill bring runs of every priority, each to its own queue")
    func refill() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 1)
            let runs = try await submitEach(bench, tenant)
            try await bench.age(.seconds(10))
            #expect(try await bench.reconciler.markStragglers())
            #expect(try await bench.depth(tenant).markedPriorities == Set(Priority.allCases))
            #expect(try await bench.refiller.refillOnce() == 3)
            #expect(try await bench.depth(tenant).ready == [.interactive: 1, .standard: 1, .bulk: 1])
            #expect(try await !bench.depth(tenant).marked)
            #expect(priorities(try await bench.claim()) == priorities(runs))
        }
    }

    @Test("The fast path queues runs of every priority, also while another of the organization is marked")
    func fastPath() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 1)
            let runs = try await submitEach(bench, tenant)
            await bench.front.offer([], and: [tenant.organization.queue(.bulk)])
            await bench.front.offer(Array(runs.values))
            #expect(try await bench.depth(tenant).ready == [.interactive: 1, .standard: 1])
            #expect(try await bench.depth(tenant).markedPriorities == [.bulk])
            #expect(try await bench.refiller.refillOnce() == 1)
            #expect(priorities(try await bench.claim()) == priorities(runs))
        }
    }

    @Test("After a rebuild runs are in their queues, and rate and burst of interactive runs hold")
    func rebuild() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 1)
            let runs = try await submitEach(bench, tenant)
            await bench.front.offer(Array(runs.values))
            try await bench.world.owner.execute(
                """
                UPDATE organizations SET interactive_rate = 0.5, interactive_burst = 7
                WHERE id = \(tenant.organization)
                """, scope: .none)
            try await bench.wipe()
            #expect(try await bench.rebuilder.checkOnce())
            let limits = try await bench.raw(
                "HMGET", "caps", .string("\(tenant.organization):rate"),
                .string("\(tenant.organization):burst"))
            #expect(limits.array?.map(\.text) == ["0.5", "7"])
            #expect(try await bench.refiller.refillOnce() == 3)
            #expect(priorities(try await bench.claim()) == priorities(runs))
        }
    }

    @Test("A run that is undelivered, or whose device comes back, is queued again in its priority")
    func back() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 1)
            let runs = try await submitEach(bench, tenant)
            await bench.front.offer(Array(runs.values))
            // Nobody holds the device: all wait, then it connects.
            try await bench.dispatchAll()
            let post = try await Post.open(bench)
            try await post.connect(tenant.all, of: tenant)
            #expect(try await bench.depth(tenant).ready == [.interactive: 1, .standard: 1, .bulk: 1])
            // Marked and never taken: the gateway dies with them in its inbox.
            try await bench.dispatchAll()
            try await post.die()
            _ = try await bench.reconciler.buryGateways()
            #expect(try await bench.depth(tenant).markedPriorities == Set(Priority.allCases))
            while try await bench.refiller.refillOnce() > 0 {}
            let claims = try await bench.claim()
            #expect(priorities(claims) == priorities(runs))
            #expect(claims.allSatisfy { $0.generation == 3 })
        }
    }

    @Test("A submitted job's priority is its runs', also where a worker expands it")
    func submitted() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 2)
            var job = bench.world.job(tenant, devices: nil)
            job.priority = .bulk
            _ = try await bench.world.api.submit([job], scope: tenant.scope)
            #expect(try await bench.reconciler.expandOnce())
            #expect(try await bench.depth(tenant).markedPriorities == [.bulk])
            #expect(try await bench.refiller.refillOnce() == 2)
            #expect(try await bench.depth(tenant).ready == [.bulk: 2])
            #expect(try await bench.world.api.job(job.id, scope: tenant.scope)?.priority == .bulk)
        }
    }
}
