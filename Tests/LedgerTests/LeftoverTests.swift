import Domain
import Postgres
import TestSupport
import Testing

@testable import Ledger

/// What jobs leave behind them is removed: slots that nobody holds, and notes of pauses.
@Suite(.serialized, .world) struct LeftoverTests {
    private func job(_ world: World, _ tenant: Tenant, key: String) -> SubmittedJob {
        var job = world.job(tenant, devices: tenant.all)
        job.unique = UniqueSlot(
            key: key, place: tenant.organization.value, site: nil, whileRunning: true, onConflict: .reject)
        return job
    }

    private func removeAll(_ world: World, limit: Int) async throws -> Int {
        var removed = 0
        var place: SlotPlace? = .start
        while let after = place {
            let step = try await world.worker.removeSlots(after: after, limit: limit)
            removed += step.removed
            place = step.next
        }
        return removed
    }

    @Test("Slots of jobs that have ended are removed a page at a time, and those that are held stay")
    func slots() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant()
        let jobs = (0..<7).map { job(world, tenant, key: "key \($0)") }
        let runs = try await world.api.submit(jobs, scope: tenant.scope).queued
        #expect(try await removeAll(world, limit: 3) == 0)
        let ended = Set(jobs[..<5].map(\.id))
        try await world.owner.execute(
            "UPDATE jobs SET state = 10 WHERE id = ANY (\(Array(ended)))", scope: .none)
        #expect(try await world.worker.removeSlots(limit: 3).removed == 3)
        #expect(try await removeAll(world, limit: 2) == 2)
        #expect(try await world.count("SELECT count(*) FROM job_slots") == 2)
        #expect(runs.count == 7)
        // Free keys are taken as before, and held ones are not.
        let again = [job(world, tenant, key: "key 0"), job(world, tenant, key: "key 6")]
        #expect(
            try await world.api.submit(again, scope: tenant.scope).outcomes == [
                .accepted(.active), .held(jobs[6].id, .active),
            ])
    }

    @Test("A key that is taken while its slot is being removed is held by who took it")
    func race() async throws {
        try await World.with(connections: 4) { world in
            for _ in 0..<20 {
                let tenant = try await world.tenant()
                _ = try await world.api.submit([job(world, tenant, key: "k")], scope: tenant.scope)
                try await world.owner.execute("UPDATE jobs SET state = 10", scope: .none)
                let next = job(world, tenant, key: "k")
                async let removed = world.worker.removeSlots()
                async let taken = world.api.submit([next], scope: tenant.scope).outcomes
                _ = try await removed
                #expect(try await taken == [.accepted(.active)])
                let last = job(world, tenant, key: "k")
                #expect(
                    try await world.api.submit([last], scope: tenant.scope).outcomes == [
                        .held(next.id, .active)
                    ])
            }
        }
    }

    @Test("A paused job is listed until it is resumed; the note of one that has ended is removed")
    func pauses() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant(sites: 2)
        var jobs: [JobID] = []
        for _ in 0..<4 { jobs.append(try await world.submit(tenant, tenant.all).job) }
        let listed: SQL = "SELECT count(*) FROM paused_jobs"
        func holds() async throws -> Holds? {
            try await world.worker.holds(of: [tenant.organization])[tenant.organization]
        }
        #expect(try await holds() == nil)
        for job in jobs { _ = try await world.api.pauseJob(job, scope: tenant.scope) }
        _ = try await world.api.pauseJob(jobs[0], scope: tenant.scope)
        #expect(try await world.count(listed) == 4)
        let four = try await holds()
        #expect(four?.count == 4)
        _ = try await world.api.resumeJob(jobs[0], scope: tenant.scope)
        #expect(try await world.count(listed) == 3)
        let three = try await holds()
        #expect(three != four && three?.count == 3)
        #expect(try await world.worker.forgetPauses() == nil)
        #expect(try await world.count(listed) == 3)
        try await world.owner.execute("UPDATE jobs SET state = 10 WHERE id = \(jobs[1])", scope: .none)
        var after: (OrganizationID, JobID)?
        repeat { after = try await world.worker.forgetPauses(after: after, limit: 1) } while after != nil
        #expect(try await world.count(listed) == 2)
        let other = try await world.tenant()
        #expect(try await world.worker.holds(of: [other.organization]).isEmpty)
    }

    @Test("A site's key pauses and resumes its site's job; another organization sees no note of it")
    func scopes() async throws {
        let world = try World.here()
        try await world.clear()
        let (tenant, other) = (try await world.tenant(sites: 2), try await world.tenant())
        var job = world.job(tenant, devices: [tenant.devices[0][0]])
        job.site = tenant.sites[0]
        _ = try await world.api.submit([job], scope: tenant.scope)
        let site = Scope.site(tenant.sites[0])
        #expect(try await world.api.pauseJob(job.id, scope: .site(tenant.sites[1])) == nil)
        #expect(try await world.api.pauseJob(job.id, scope: other.scope) == nil)
        #expect(try await world.count("SELECT count(*) FROM paused_jobs") == 0)
        #expect(try await world.api.pauseJob(job.id, scope: site) == tenant.organization)
        for (scope, count) in [(tenant.scope, 1), (other.scope, 0), (.site(other.sites[0]), 0)] {
            let seen = try await world.logins[0].pool.query(
                "SELECT count(*) FROM paused_jobs", scope: scope
            ) { try $0.decode(Int.self) }
            #expect(seen == [count])
        }
        #expect(try await world.api.resumeJob(job.id, scope: site) == tenant.organization)
        #expect(try await world.count("SELECT count(*) FROM paused_jobs") == 0)
    }
}
