import Domain
import Ledger
import TestSupport
import Testing

/// What a list of queues counts, and how far.
@Suite(.world) struct QueueDepthTests {
    private func depths(
        _ tenant: Tenant, after: OrganizationQueue? = nil, limit: Int = 10, atMost: Int = 100
    ) async throws -> [QueueDepth] {
        try await World.here().api.queueDepths(
            after: after, limit: limit, countingAtMost: atMost, scope: tenant.scope)
    }

    @Test("There is a row for each priority, with its own counts")
    func rows() async throws {
        let world = try World.here()
        let tenant = try await world.tenant(devices: 3)
        _ = try await world.submit(tenant, tenant.all, .bulk)
        let (_, runs) = try await world.submit(tenant, tenant.all, .interactive)
        _ = try await world.worker.wait([runs[0]])
        _ = try await world.mark([runs[1]])
        let depths = try await depths(tenant)
        #expect(depths.map(\.queue) == OrganizationQueue.all(of: tenant.organization))
        #expect(depths.map(\.queued) == [1, 0, 3])
        #expect(depths.map(\.waiting) == [1, 0, 0])
        #expect(depths.map(\.running) == [1, 0, 0])
        #expect(depths.map { $0.oldestAgeSeconds == nil } == [false, true, false])
        #expect(depths.allSatisfy { $0.isExact })
    }

    @Test(
        "Counting ends at its limit and says so; what was not counted, the counter of open runs has",
        arguments: [(2, false), (9, false), (10, true)])
    func limit(atMost: Int, isExact: Bool) async throws {
        let world = try World.here()
        let tenant = try await world.tenant(devices: 3)
        for _ in 0..<3 { _ = try await world.submit(tenant, tenant.all, .bulk) }
        let (_, runs) = try await world.submit(tenant, [tenant.all[0]], .standard)
        _ = try await world.worker.wait(runs)
        _ = try await world.submit(tenant, [tenant.all[0]], .standard)
        _ = try await world.mark(try await world.submit(tenant, [tenant.all[0]], .bulk).1)
        let depths = try await depths(tenant, atMost: atMost)
        #expect(depths.map(\.queued) == [0, 1, 9] && depths.map(\.waiting) == [0, 1, 0])
        #expect(depths.map(\.isExact) == [true, true, isExact])
    }

    @Test("Several long queues of an organization share what its counter has more; a cut page says at least")
    func several() async throws {
        let world = try World.here()
        let tenant = try await world.tenant(devices: 3)
        for _ in 0..<3 { _ = try await world.submit(tenant, tenant.all, .bulk) }
        for _ in 0..<2 { _ = try await world.submit(tenant, tenant.all, .standard) }
        #expect(try await depths(tenant, atMost: 2).map(\.queued) == [0, 7, 7])
        #expect(try await depths(tenant, limit: 2, atMost: 2).map(\.queued) == [0, 2])
    }

    @Test("Runs that wait or run are never said to be queued")
    func others() async throws {
        let world = try World.here()
        let tenant = try await world.tenant(devices: 3)
        for _ in 0..<2 { _ = try await world.submit(tenant, tenant.all, .bulk) }
        _ = try await world.worker.wait(try await world.submit(tenant, tenant.all, .interactive).1)
        let depths = try await depths(tenant, atMost: 3)
        #expect(depths.map(\.queued) == [0, 0, 3] && depths.map(\.waiting) == [3, 0, 0])
        #expect(depths.allSatisfy { !$0.isExact })
    }

    @Test("A page begins behind the queue that is named")
    func pages() async throws {
        let world = try World.here()
        let tenant = try await world.tenant(devices: 1)
        let all = OrganizationQueue.all(of: tenant.organization)
        #expect(try await depths(tenant, limit: 2).map(\.queue) == Array(all[..<2]))
        #expect(try await depths(tenant, after: all[1]).map(\.queue) == [all[2]])
        #expect(try await depths(tenant, after: all[2]).isEmpty)
    }
}
