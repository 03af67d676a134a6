import Domain
import Postgres
import TestSupport
import Testing

@testable import Ledger

@Suite(.serialized, .world) struct UniqueTests {
    private func job(
        _ world: World, _ tenant: Tenant, _ onConflict: UniqueConflict = .reject, key: String = "u",
        whileRunning: Bool = true, idempotencyKey: String? = nil, hash: UInt8 = 1, site: SiteID? = nil
    ) -> SubmittedJob {
        var job = world.job(
            tenant, devices: tenant.devices[0], site: site, key: idempotencyKey, hash: hash)
        job.unique = UniqueSlot(
            key: key, place: site?.value ?? tenant.organization.value, site: site,
            whileRunning: whileRunning, onConflict: onConflict)
        return job
    }

    private func submit(_ world: World, _ jobs: [SubmittedJob]) async throws -> [Submission] {
        try await world.api.submit(jobs, scope: .organizations(jobs.map(\.organization))).outcomes
    }

    @Test("A key keeps other jobs out until its holder has ended, and tells who that is")
    func reject() async throws {
        let world = try World.here()
        let (tenant, other) = (try await world.tenant(), try await world.tenant())
        let first = job(world, tenant)
        let (outcomes, runs) = try await world.api.submit([first], scope: tenant.scope).both
        #expect(outcomes == [.accepted(.active)])
        let sent = try await world.send(runs)
        for conflict in [UniqueConflict.reject, .return] {
            #expect(try await submit(world, [job(world, tenant, conflict)]) == [.held(first.id, .active)])
        }
        #expect(
            try await submit(world, [job(world, tenant, key: "v"), job(world, other)])
                == [.accepted(.active), .accepted(.active)], "another key, another tenant")
        _ = try await world.gateway.settle(sent.map { AttemptResult($0) })
        #expect(try await submit(world, [job(world, tenant)]) == [.accepted(.active)])
        let count: SQL = "SELECT count(*) FROM jobs WHERE organization_id = \(tenant.organization)"
        #expect(try await world.count(count) == 3)
    }

    @Test("A key that is held while queued is free once a run has left")
    func whileQueued() async throws {
        let world = try World.here()
        let tenant = try await world.tenant()
        let first = job(world, tenant, whileRunning: false)
        let runs = try await world.api.submit([first], scope: tenant.scope).queued
        #expect(try await submit(world, [job(world, tenant)]) == [.held(first.id, .active)])
        _ = try await world.send(runs)
        #expect(try await submit(world, [job(world, tenant)]) == [.accepted(.active)])
        #expect(try await world.api.job(first.id, scope: tenant.scope)?.cancelRequestedAt == nil)
    }

    @Test("A job that replaces takes the key, and the one before is cancelled in the same commit")
    func replace() async throws {
        let world = try World.here()
        let tenant = try await world.tenant()
        let jobs = (0..<3).map { _ in job(world, tenant, .replace) }
        let first = try await world.api.submit([jobs[0]], scope: tenant.scope)
        #expect(first.outcomes == [.accepted(.active)])
        #expect(try await submit(world, [jobs[1]]) == [.replacing(jobs[0].id, .active)])
        #expect(try await world.mark(first.queued).isEmpty, "it does not leave any more")
        let row = try await world.api.job(jobs[0].id, scope: tenant.scope)
        #expect(row?.cancelRequestedAt != nil)
        #expect(try await submit(world, [job(world, tenant)]) == [.held(jobs[1].id, .active)])
        _ = try await world.api.cancelRuns(of: jobs[0].id, organization: nil, scope: tenant.scope)
        try await world.fold()
        #expect(try await submit(world, [jobs[2]]) == [.replacing(jobs[1].id, .active)])
    }

    @Test("In a batch each job counts as if it came alone, and one conflict leaves its neighbours alone")
    func batch() async throws {
        let world = try World.here()
        let tenant = try await world.tenant()
        let held = job(world, tenant, key: "held")
        _ = try await submit(world, [held])
        let batch = [
            world.job(tenant, devices: tenant.all), job(world, tenant, key: "held"), job(world, tenant),
            job(world, tenant), job(world, tenant, .replace), job(world, tenant, .return),
            job(world, tenant, key: "w"), world.job(tenant, devices: [fresh()]),
            job(world, tenant, key: "k", idempotencyKey: "i"),
            job(world, tenant, key: "k", idempotencyKey: "i"),
            job(world, tenant, key: "k", idempotencyKey: "i", hash: 2),
            world.job(tenant, devices: tenant.all),
        ]
        let taken = Submission.accepted(.active)
        #expect(
            try await submit(world, batch) == [
                taken, .held(held.id, .active), taken, .held(batch[2].id, .active),
                .replacing(batch[2].id, .active), .held(batch[4].id, .active), taken, .missingDevice, taken,
                .repeated(batch[8].id, .active), .idempotencyConflict, taken,
            ])
        let orphans: SQL = """
            SELECT count(*) FROM job_slots s WHERE NOT EXISTS (SELECT FROM jobs j WHERE j.id = s.job_id)
            """
        #expect(try await world.count(orphans) == 0)
    }

    @Test("Of submissions at the same time one wins", arguments: [UniqueConflict.reject, .replace])
    func races(conflict: UniqueConflict) async throws {
        try await World.with(connections: 8) { world in
            for _ in 0..<10 {
                let tenant = try await world.tenant()
                let jobs = (0..<8).map { _ in job(world, tenant, conflict) }
                let outcomes = try await withThrowingTaskGroup(of: Submission.self) { group in
                    for job in jobs { group.addTask { try await submit(world, [job])[0] } }
                    return try await group.reduce(into: [Submission]()) { $0.append($1) }
                }
                #expect(outcomes.count { $0 == .accepted(.active) } == 1, "\(outcomes)")
                let live: SQL = """
                    SELECT count(*) FROM jobs WHERE organization_id = \(tenant.organization)
                      AND cancel_requested_at IS NULL
                    """
                #expect(try await world.count(live) == 1)
            }
        }
    }

    @Test("Of a submission and the holder's end one comes first: then the key is free or held, never lost")
    func end() async throws {
        try await World.with(connections: 4) { world in
            for _ in 0..<30 {
                let tenant = try await world.tenant()
                let first = job(world, tenant)
                let runs = try await world.api.submit([first], scope: tenant.scope).queued
                let sent = try await world.send(runs)
                async let settled = world.gateway.settle(sent.map { AttemptResult($0) })
                async let second = submit(world, [job(world, tenant)])
                #expect(try await settled[0].isSettled)
                switch try await second[0] {
                case .accepted: break
                case .held(let holder, _):
                    #expect(holder == first.id)
                    #expect(try await submit(world, [job(world, tenant)]) == [.accepted(.active)])
                default: Issue.record("neither free nor held")
                }
            }
        }
    }

    @Test("An idempotency key that another transaction commits meanwhile leaves no key with a job of nobody")
    func idempotencyRace() async throws {
        try await World.with(connections: 8) { world in
            for _ in 0..<10 {
                let tenant = try await world.tenant()
                let jobs = (0..<6).map { index in
                    job(world, tenant, .replace, key: "\(index)", idempotencyKey: "i", hash: UInt8(index))
                }
                let outcomes = try await withThrowingTaskGroup(of: Submission.self) { group in
                    for job in jobs { group.addTask { try await submit(world, [job])[0] } }
                    return try await group.reduce(into: [Submission]()) { $0.append($1) }
                }
                #expect(outcomes.count { $0 == .accepted(.active) } == 1)
                #expect(outcomes.count { $0 == .idempotencyConflict } == 5, "\(outcomes)")
                let slots: SQL =
                    "SELECT count(*) FROM job_slots WHERE organization_id = \(tenant.organization)"
                #expect(try await world.count(slots) == 1)
            }
        }
    }

    @Test("A site's key holds and meets the keys of its own site, and sees no slot of another")
    func sites() async throws {
        let world = try World.here()
        let tenant = try await world.tenant(sites: 2)
        let scope = Scope.site(tenant.sites[0])
        let first = job(world, tenant, site: tenant.sites[0])
        #expect(try await world.api.submit([first], scope: tenant.scope).outcomes == [.accepted(.active)])
        let again = job(world, tenant, site: tenant.sites[0])
        #expect(try await world.api.submit([again], scope: scope).outcomes == [.held(first.id, .active)])
        let seen = try await world.logins[0].pool.query(
            "SELECT count(*) FROM job_slots", scope: .site(tenant.sites[1])
        ) { try $0.decode(Int.self) }
        #expect(seen == [0])
    }
}
