import Domain
import Postgres
import Synchronization
import TestSupport
import Testing

@testable import Ledger

/// What went wrong with an organization's use is found and mended, and what is under way is not taken for it.
@Suite(.serialized, .world) struct UsageCheckTests {
    private func used(_ tenant: Tenant) async throws -> OpenWork {
        let row = try await World.here().api.openWork(of: [tenant.organization], scope: tenant.scope)
        return try #require(row[tenant.organization]).used
    }

    /// Compares, whenever it was compared last.
    private func check(_ tenant: Tenant) async throws -> UsageCheck {
        let world = try World.here()
        try await world.owner.execute("DELETE FROM queue_usage_checks", scope: .none)
        return try await world.worker.checkUsage(of: tenant.organization)
    }

    /// A tenant with runs in every state, a job that no folder has seen the end of, one that is half
    /// expanded, one that is expanded not at all, and one that has ended.
    private func busy(_ world: World) async throws -> Tenant {
        let tenant = try await world.tenant(devices: 6)
        for device in tenant.all { _ = try await world.submit(tenant, [device]) }
        let (_, ended) = try await world.submit(tenant, tenant.all)
        _ = try await world.gateway.settle(
            try await world.send(ended).map { AttemptResult($0, .failed) })
        let (_, single) = try await world.submit(tenant, [tenant.all[0]])
        _ = try await world.gateway.settle(try await world.send(single).map { AttemptResult($0) })
        for chunks in 0..<2 {
            var job = world.job(tenant, devices: nil)
            job.expectedRuns = 5
            _ = try await world.api.submit([job], scope: tenant.scope)
            for _ in 0..<chunks {
                #expect(try await world.worker.expand((tenant.organization, job.id), chunk: 2) == .goesOn)
            }
        }
        let (_, several) = try await world.submit(tenant, tenant.all)
        for (state, run) in (0...4).map(Int16.init).shuffled().enumerated().map({ ($1, several[$0]) }) {
            try await world.owner.execute(
                """
                UPDATE runs SET state = \(state), due_at = CASE WHEN \(state) = 0 THEN now() END
                WHERE id = \(run.run)
                """, scope: .none)
        }
        return tenant
    }

    @Test("The use of an organization that has everything is right, before and after a fold")
    func right() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await busy(world)
        #expect(try await check(tenant) == .right)
        try await world.fold()
        _ = try await world.worker.foldDeltas(limit: 9)
        #expect(try await check(tenant) == .right)
        #expect(try await world.count("SELECT count(*) FROM queue_usage_deltas") == 0)
        #expect(try await used(tenant).runs > 20)
        #expect(try await check(world.tenant()) == .right, "there is nothing of it")
    }

    @Test("A use that has drifted either way is brought to what jobs and runs come to, once")
    func mended() async throws {
        let world = try World.here()
        try await world.clear()
        let (tenant, other) = (try await busy(world), try await busy(world))
        let before = try await used(tenant)
        for (runs, bytes) in [(7, -5), (-9, 0), (0, 3)] {
            try await world.owner.execute(
                """
                INSERT INTO queue_usage_deltas (organization_id, runs, bytes)
                VALUES (\(tenant.organization), \(runs), \(bytes))
                """, scope: .none)
            #expect(try await check(tenant) == .mended(OpenWork(runs: -runs, bytes: -bytes)))
            #expect(try await used(tenant) == before)
            #expect(try await check(tenant) == .right)
        }
        // As if all had been submitted by a release that knows no use.
        try await world.owner.pipeline(
            scope: .none, ["DELETE FROM queue_usage_deltas", "DELETE FROM queue_usage"])
        #expect(try await check(tenant) == .mended(before))
        #expect(try await used(tenant) == before)
        #expect(try await used(other) == OpenWork())
        try await world.fold()
        _ = try await world.worker.foldDeltas(limit: 9)
        #expect(try await used(tenant) == QuotaTests().counted(tenant))
    }

    @Test("A comparison comes once in its time, by one worker, and the next is told where to go on")
    func due() async throws {
        let world = try World.here()
        try await world.clear()
        for _ in 0..<3 { _ = try await world.tenant() }
        let worker = world.worker
        func due() async throws -> [OrganizationID] {
            var (found, last): ([OrganizationID], OrganizationID?) = ([], ID(.zero))
            while let after = last {
                let page = try await worker.usageChecksDue(after: after, limit: 2)
                #expect(page.due.allSatisfy { after.value < $0.value })
                found += page.due
                last = page.next
            }
            return found
        }
        let all = try await due()
        #expect(try await world.count("SELECT count(*) FROM organizations") == all.count)
        #expect(try await worker.checkUsage(of: all[1]) == .right)
        #expect(try await due() == all.filter { $0 != all[1] })
        #expect(try await worker.checkUsage(of: all[1]) == .early)
        try await world.owner.execute(
            "UPDATE queue_usage_checks SET due_at = due_at - interval '\(fragment: "900")' second",
            scope: .none)
        #expect(try await due() == all)
        try await world.owner.transaction(scope: .none) { transaction in
            try await transaction.execute("SELECT pg_advisory_xact_lock(hashtext('crmm usage'))")
            #expect(try await worker.checkUsage(of: all[1]) == .busy)
        }
        #expect(try await worker.checkUsage(of: all[1]) == .right)
    }

    @Test("What has not committed counts on neither side, and a held row of the use is not waited for")
    func uncommitted() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await busy(world)
        try await world.owner.transaction(scope: .none) { transaction in
            try await transaction.execute("SELECT FROM queue_usage FOR UPDATE")
            try await transaction.execute("SELECT FROM runs FOR UPDATE")
            // A submission that has told the use and is not through.
            try await transaction.pipeline([
                """
                INSERT INTO queue_usage_deltas (organization_id, runs, bytes)
                VALUES (\(tenant.organization), 1, 1)
                """,
                """
                INSERT INTO jobs (organization_id, id, kind, state, priority, statement, timeout_seconds,
                                  maximum_attempts, idempotent, charged, created_by, expires_at)
                VALUES (\(tenant.organization), crmm_uuid7(), 'script', 0, 1, '1', 60, 1, false, 1,
                        \(World.principal), now() + interval '1 hour')
                """,
            ])
            #expect(try await check(tenant) == .right)
        }
        #expect(try await check(tenant) == .right)
    }

    private final class Found: Sendable {
        let checks = Mutex<[OrganizationID: [UsageCheck]]>([:])
    }

    @Test("While everybody works, comparisons mend what was wrong before, once, and nothing else")
    func together() async throws {
        let world = try World.here()
        try await world.clear()
        let tenants = [
            try await world.tenant(sites: 2, devices: 4), try await world.tenant(devices: 5),
        ]
        let wrong = OpenWork(runs: 1_000, bytes: -700)
        for tenant in tenants {
            try await world.owner.execute(
                """
                INSERT INTO queue_usage_deltas (organization_id, runs, bytes)
                VALUES (\(tenant.organization), \(wrong.runs), \(wrong.bytes))
                """, scope: .none)
        }
        let found = Found()
        let (worker, owner) = (world.worker, world.owner)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<3 {
                for tenant in tenants {
                    group.addTask { for _ in 0..<12 { try await QuotaTests.step(world, tenant) } }
                    group.addTask {
                        for _ in 0..<20 {
                            try await owner.execute("DELETE FROM queue_usage_checks", scope: .none)
                            let check = try await worker.checkUsage(of: tenant.organization)
                            found.checks.withLock { $0[tenant.organization, default: []].append(check) }
                        }
                    }
                }
                group.addTask { for _ in 0..<40 { _ = try await worker.foldDeltas(limit: 3) } }
            }
            try await group.waitForAll()
        }
        try await world.fold()
        _ = try await worker.foldDeltas(limit: 9)
        for tenant in tenants {
            let mended = found.checks.withLock { $0[tenant.organization] ?? [] }.compactMap { check in
                if case .mended(let by) = check { by } else { nil as OpenWork? }
            }
            #expect(mended == [OpenWork() - wrong])
            #expect(try await check(tenant) == .right)
            #expect(try await used(tenant) == QuotaTests().counted(tenant))
        }
    }
}
