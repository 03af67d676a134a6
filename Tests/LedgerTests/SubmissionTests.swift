import Domain
import Postgres
import TestSupport
import Testing

@testable import Ledger

@Suite(.serialized, .world) struct SubmissionTests {
    @Test("A job over a list of devices is committed with a queued run each, in the order of its tree")
    func list() async throws {
        let world = try World.here()
        let tenant = try await world.tenant(sites: 2, devices: 3)
        let devices = tenant.all.reversed() as [DeviceID]
        let (job, runs) = try await world.submit(tenant, devices)
        #expect(runs.map(\.device) == devices)
        #expect(runs.allSatisfy { $0.generation == 1 && $0.lane == .script })
        let row = try #require(try await world.api.job(job, scope: tenant.scope))
        #expect(row.state == .active && row.total == 6 && row.counts == [.queued: 6])
        let content = try await world.gateway.contents(of: [(tenant.organization, job)])[job]
        #expect(content?.devices == devices)
        #expect(content?.statement == [1, 2, 3])
        let marked = try await world.send(runs)
        let leaves = try await world.gateway.openAttempts(
            of: devices[4], organization: tenant.organization
        ).map(\.leaf)
        #expect(leaves == [4])
        #expect(marked.count == 6)
    }

    @Test("The same key with the same body is the same job, with another body a conflict, and makes no run")
    func idempotency() async throws {
        let world = try World.here()
        let tenant = try await world.tenant()
        let first = world.job(tenant, devices: tenant.all, key: "k")
        #expect(try await world.api.submit([first], scope: tenant.scope).outcomes == [.accepted(.active)])
        let again = world.job(tenant, devices: tenant.all, key: "k")
        let repeated = try await world.api.submit([again], scope: tenant.scope)
        #expect(repeated.outcomes == [.repeated(first.id, .active)])
        #expect(repeated.queued.isEmpty)
        let other = world.job(tenant, devices: tenant.all, key: "k", hash: 2)
        let conflict = try await world.api.submit([other], scope: tenant.scope)
        #expect(conflict.outcomes == [.idempotencyConflict])
        #expect(conflict.queued.isEmpty)
        #expect(
            try await world.api.jobs(organization: nil, before: nil, limit: 9, scope: tenant.scope).count == 1
        )
        #expect(try await world.api.runs(of: first.id, after: nil, limit: 9, scope: tenant.scope).count == 1)
    }

    @Test("A key belongs to its principal and its organization")
    func keyOwners() async throws {
        let world = try World.here()
        let tenants = [try await world.tenant(), try await world.tenant()]
        let jobs = [
            world.job(tenants[0], devices: tenants[0].all, key: "k"),
            world.job(tenants[0], devices: tenants[0].all, key: "k", hash: 2, principal: fresh()),
            world.job(tenants[1], devices: tenants[1].all, key: "k", hash: 3),
        ]
        let scope = Scope.organizations(tenants.map(\.organization))
        #expect(
            try await world.api.submit(jobs, scope: scope).outcomes
                == Array(repeating: .accepted(.active), count: 3)
        )
    }

    @Test("In a batch, a conflict and a repetition leave their neighbours alone")
    func batch() async throws {
        let world = try World.here()
        let tenant = try await world.tenant()
        let kept = world.job(tenant, devices: tenant.all, key: "kept")
        _ = try await world.api.submit([kept], scope: tenant.scope)
        let batch = [
            world.job(tenant, devices: tenant.all),
            world.job(tenant, devices: tenant.all, key: "kept", hash: 9),
            world.job(tenant, devices: tenant.all, key: "new"),
            world.job(tenant, devices: tenant.all, key: "kept"),
            world.job(tenant, devices: tenant.all, key: "new"),
        ]
        let (outcomes, runs) = try await world.api.submit(batch, scope: tenant.scope).both
        #expect(
            outcomes == [
                .accepted(.active), .idempotencyConflict, .accepted(.active), .repeated(kept.id, .active),
                .repeated(batch[2].id, .active),
            ])
        #expect(runs.count == 2)
        #expect(
            try await world.count("SELECT count(*) FROM runs WHERE organization_id = \(tenant.organization)")
                == 3)
    }

    @Test(
        "A job with a device that is another's, or gone, is refused whole; its neighbours are not"
    )
    func foreignDevice() async throws {
        let world = try World.here()
        let (mine, other) = (try await world.tenant(), try await world.tenant())
        let jobs = [
            world.job(mine, devices: mine.all), world.job(mine, devices: mine.all + other.all),
            world.job(mine, devices: mine.all), world.job(mine, devices: [fresh()]),
            world.job(mine, devices: mine.all),
        ]
        let (outcomes, runs) = try await world.api.submit(jobs, scope: mine.scope).both
        let taken = Submission.accepted(.active)
        #expect(outcomes == [taken, .missingDevice, taken, .missingDevice, taken])
        #expect(runs.map(\.device) == mine.all + mine.all + mine.all)
        #expect(try await world.api.job(jobs[1].id, scope: mine.scope) == nil)
        // Under a scope that sees both, the organization of the job still decides.
        let wide = world.job(mine, devices: other.all)
        let both = Scope.organizations([mine.organization, other.organization])
        let refused = try await world.api.submit([wide], scope: both)
        #expect(refused.outcomes == [.missingDevice] && refused.queued.isEmpty)
    }

    @Test("A job cannot be submitted for an organization that the scope does not see")
    func foreignOrganization() async throws {
        let world = try World.here()
        let (mine, other) = (try await world.tenant(), try await world.tenant())
        let refused = await #expect(throws: PostgresError.self) {
            try await world.api.submit([world.job(other, devices: other.all)], scope: mine.scope)
        }
        #expect(refused?.sqlState == "42501")
        #expect(
            try await world.count("SELECT count(*) FROM jobs WHERE organization_id = \(other.organization)")
                == 0)
    }

    @Test("A site's or an organization's job is expanded by a worker over the devices that it has then")
    func expand() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant(sites: 2, devices: 3)
        let other = try await world.tenant(devices: 5)
        let whole = world.job(tenant, devices: nil)
        let site = world.job(tenant, devices: nil, targetSite: tenant.sites[1])
        let (outcomes, runs) = try await world.api.submit([whole, site], scope: tenant.scope).both
        #expect(outcomes == [.accepted(.accepted), .accepted(.accepted)])
        #expect(runs.isEmpty)
        #expect(try await world.api.job(whole.id, scope: tenant.scope)?.total == nil)
        #expect(try await world.worker.expand(limit: 4) == [tenant.organization, tenant.organization])
        #expect(try await world.worker.expand(limit: 4) == [])
        #expect(try await world.api.job(whole.id, scope: tenant.scope)?.counts == [.queued: 6])
        let rows = try await world.api.runs(of: site.id, after: nil, limit: 9, scope: tenant.scope)
        #expect(Set(rows.map(\.device)) == Set(tenant.devices[1]))
        #expect(try await world.api.job(site.id, scope: tenant.scope)?.state == .active)
        #expect(
            try await world.count("SELECT count(*) FROM runs WHERE organization_id = \(other.organization)")
                == 0)
    }

    @Test("A job over no devices is completed by its expansion, one that was cancelled before is cancelled")
    func expandNothing() async throws {
        let world = try World.here()
        try await world.clear()
        let (empty, tenant) = (try await world.tenant(devices: 0), try await world.tenant())
        let (idle, cancelled) = (world.job(empty, devices: nil), world.job(tenant, devices: nil))
        _ = try await world.api.submit([idle], scope: empty.scope)
        _ = try await world.api.submit([cancelled], scope: tenant.scope)
        _ = try await world.api.requestCancel(cancelled.id, scope: tenant.scope)
        _ = try await world.worker.expand(limit: 4)
        let idleRow = try await world.api.job(idle.id, scope: empty.scope)
        #expect(idleRow?.state == .completed && idleRow?.total == 0 && idleRow?.finishedAt != nil)
        let row = try await world.api.job(cancelled.id, scope: tenant.scope)
        #expect(row?.state == .cancelled && row?.total == 0 && row?.finishedAt != nil)
    }

    @Test("Several workers expand each accepted job once")
    func expandOnce() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant(devices: 3)
        let jobs = (0..<6).map { _ in world.job(tenant, devices: nil) }
        _ = try await world.api.submit(jobs, scope: tenant.scope)
        let worker = world.worker
        let expanded = try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    var count = 0
                    while true {
                        let organizations = try await worker.expand(limit: 2)
                        if organizations.isEmpty { return count }
                        count += organizations.count
                    }
                }
            }
            return try await group.reduce(0, +)
        }
        #expect(expanded == 6)
        #expect(try await world.count("SELECT count(*) FROM runs") == 18)
    }

    @Test("Every run's device and site are of the run's organization")
    func orphans() async throws {
        let world = try World.here()
        let orphans: SQL = """
            SELECT count(*) FROM (
                SELECT organization_id, device_id, site_id FROM runs
                UNION ALL SELECT organization_id, device_id, site_id FROM run_history
            ) r
            WHERE NOT EXISTS (SELECT FROM devices d WHERE d.organization_id = r.organization_id
                              AND d.id = r.device_id AND d.site_id = r.site_id)
            """
        try await world.clear()
        let (tenant, other) = (try await world.tenant(sites: 2, devices: 2), try await world.tenant())
        let (_, runs) = try await world.submit(tenant, tenant.all)
        let foreign = try await world.api.submit([world.job(tenant, devices: other.all)], scope: .platform)
        #expect(foreign.outcomes == [.missingDevice])
        _ = try await world.api.submit([world.job(tenant, devices: nil)], scope: tenant.scope)
        _ = try await world.worker.expand(limit: 4)
        _ = try await world.gateway.settle(try await world.send([runs[0]]).map { AttemptResult($0) })
        #expect(try await world.count("SELECT count(*) FROM runs") == 7)
        #expect(try await world.count(orphans) == 0)
        try await world.owner.execute(
            "UPDATE runs SET device_id = \(other.all[0]) WHERE id = \(runs[1].run)", scope: .none)
        #expect(try await world.count(orphans) == 1)
    }

    @Test(
        "What a halved batch has committed keeps its outcome when the rest fails", arguments: [false, true])
    func halved(mayBeThere: Bool) async throws {
        try await World.with { world in
            let tenant = try await world.tenant(devices: 2)
            // A device that is gone halves the batch, and the half that finds the first job committed fails.
            let jobs = [[tenant.all[0]], [tenant.all[1], fresh()]].map { world.job(tenant, devices: $0) }
            let failure: SQL =
                mayBeThere ? "PERFORM pg_terminate_backend(pg_backend_pid())" : "RAISE EXCEPTION 'no'"
            try await world.owner.pipeline(
                scope: .none,
                [
                    """
                    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                        IF NEW.total = 2 AND EXISTS (
                            SELECT FROM jobs WHERE total = 1 AND xmin <> pg_current_xact_id()::xid
                        ) THEN
                            \(fragment: failure);
                        END IF;
                        RETURN NEW;
                    END $$
                    """,
                    "CREATE TRIGGER fail BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION fail()",
                ])
            let (outcomes, runs) = try await world.api.submit(jobs, scope: tenant.scope).both
            #expect(outcomes == [.accepted(.active), .failed(mayBeThere: mayBeThere)])
            #expect(runs.map(\.device) == [tenant.all[0]])
            #expect(try await world.count("SELECT count(*) FROM jobs") == 1)
            #expect(try await world.api.job(jobs[0].id, scope: tenant.scope)?.state == .active)
        }
    }

    @Test("Many jobs have their outcomes in order; of equal keys in one batch the first wins")
    func many() async throws {
        let world = try World.here()
        let tenant = try await world.tenant(devices: 3)
        var jobs = (0..<250).map { world.job(tenant, devices: [tenant.all[$0 % 3]], key: "\($0)") }
        jobs[170] = world.job(tenant, devices: [tenant.all[0], fresh()], key: "170")
        jobs[240] = world.job(tenant, devices: [tenant.all[0]], key: "0")
        let (outcomes, runs) = try await world.api.submit(jobs, scope: tenant.scope).both
        var expected = [Submission](repeating: .accepted(.active), count: 250)
        expected[170] = .missingDevice
        expected[240] = .repeated(jobs[0].id, .active)
        #expect(outcomes == expected)
        #expect(runs.count == 248)
        #expect(runs.prefix(170).map(\.device) == (0..<170).map { tenant.all[$0 % 3] })
    }

    @Test("Each service wakes what waits within its scope, and the API does nothing else to a run's state")
    func wake() async throws {
        let world = try World.here()
        let (tenant, other) = (try await world.tenant(), try await world.tenant())
        for (name, pool) in world.logins {
            let job = world.job(tenant, devices: tenant.all)
            let done = try await world.api.submit([job], away: Set(tenant.all), scope: tenant.scope)
            #expect(done.queued.isEmpty && done.waiting.map(\.device) == tenant.all)
            func wake(_ scope: Scope) async throws -> [RunID] {
                try await pool.query(
                    "SELECT run FROM crmm_wake(\([tenant.organization]), \(tenant.all))", scope: scope
                ) { row in try row.decode(RunID.self) }
            }
            for stranger in [other.scope, .none] {
                #expect(try await wake(stranger).isEmpty, "\(name)")
            }
            #expect(try await world.state(done.waiting[0].run) == .waiting, "\(name)")
            #expect(try await wake(tenant.scope) == done.waiting.map(\.run), "\(name)")
            #expect(try await wake(tenant.scope).isEmpty, "\(name): it is woken once")
            let queued = try await world.worker.queuedRuns(
                of: [(tenant.organization.queue(), after: ID(.zero))], limit: 9
            ).values.flatMap(\.self)
            #expect(queued.contains { $0.run == done.waiting[0].run && $0.generation == 2 }, "\(name)")
        }
    }
}
