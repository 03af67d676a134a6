import Domain
import Postgres
import TestSupport
import Testing

@testable import Ledger

/// An organization's open work is a row and deltas, and never a count of a backlog; it comes out as one.
@Suite(.serialized, .world) struct QuotaTests {
    /// What the ledger says that an organization has open.
    private func used(_ tenant: Tenant) async throws -> OpenWork {
        let row = try await World.here().api.openWork(of: [tenant.organization], scope: tenant.scope)
        return try #require(row[tenant.organization]).used
    }

    /// The same, counted: open runs, those that a target still has to become, and bytes of open jobs.
    func counted(_ tenant: Tenant) async throws -> OpenWork {
        let world = try World.here()
        return OpenWork(
            runs: try await world.count(
                """
                SELECT (SELECT count(*) FROM runs WHERE organization_id = \(tenant.organization))
                       + (SELECT coalesce(sum(greatest(charged - expanded, 0)), 0)::bigint FROM jobs
                          WHERE organization_id = \(tenant.organization) AND total IS NULL)
                """),
            bytes: try await world.count(
                """
                SELECT coalesce(sum(octet_length(statement) + coalesce(octet_length(target_devices), 0)), 0)
                FROM jobs WHERE organization_id = \(tenant.organization) AND state < 10
                """))
    }

    /// The number of rows of deltas.
    private func deltas() async throws -> Int {
        try await World.here().count("SELECT count(*) FROM queue_usage_deltas")
    }

    @Test("A submission counts its runs and bytes in its own commit, one row an organization")
    func submission() async throws {
        let world = try World.here()
        try await world.clear()
        let (one, other) = (try await world.tenant(devices: 3), try await world.tenant())
        let jobs = [
            world.job(one, devices: [one.all[0]]), world.job(one, devices: one.all),
            world.job(other, devices: other.all),
        ]
        _ = try await world.api.submit(jobs, scope: .organizations([one.organization, other.organization]))
        // A statement of three bytes each; a list of one is not kept.
        #expect(try await used(one) == OpenWork(runs: 4, bytes: 3 + 3 + 48))
        #expect(try await used(other) == OpenWork(runs: 1, bytes: 3))
        #expect(jobs[0].work + jobs[1].work == OpenWork(runs: 4, bytes: 54))
        #expect(try await deltas() == 2)
        try await world.fold()
        #expect(try await deltas() == 0)
        #expect(try await used(one) == OpenWork(runs: 4, bytes: 54))
    }

    @Test("What is not committed is not counted: repeats, conflicts, devices that are gone")
    func refused() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant()
        _ = try await world.api.submit(
            [world.job(tenant, devices: tenant.all, key: "k")], scope: tenant.scope)
        let outcomes = try await world.api.submit(
            [
                world.job(tenant, devices: tenant.all, key: "k"),
                world.job(tenant, devices: tenant.all, key: "k", hash: 2),
                world.job(tenant, devices: [fresh()]), world.job(tenant, devices: tenant.all),
            ], scope: tenant.scope
        ).outcomes
        guard case .repeated = outcomes[0], outcomes[1] == .idempotencyConflict,
            outcomes[2] == .missingDevice, outcomes[3] == .accepted(.active)
        else {
            Issue.record("\(outcomes)")
            return
        }
        #expect(try await used(tenant) == OpenWork(runs: 2, bytes: 6))
    }

    @Test("A job of one run frees what it had by its settlement, one of several by the fold after it")
    func settlement() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant(devices: 2)
        let (_, single) = try await world.submit(tenant, [tenant.all[0]])
        let (_, several) = try await world.submit(tenant, tenant.all)
        _ = try await world.gateway.settle(try await world.send(single).map { AttemptResult($0) })
        #expect(try await used(tenant) == OpenWork(runs: 2, bytes: 3 + 32))
        let sent = try await world.send(several)
        _ = try await world.gateway.settle([AttemptResult(sent[0])])
        #expect(try await used(tenant).runs == 2, "no row is written for it")
        try await world.fold()
        #expect(try await used(tenant) == OpenWork(runs: 1, bytes: 35))
        _ = try await world.gateway.settle([AttemptResult(sent[1], .failed)])
        try await world.fold()
        #expect(try await used(tenant) == OpenWork())
    }

    @Test("Counters that are amended after their job has ended free nothing twice")
    func amendment() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant()
        let (_, runs) = try await world.submit(tenant, tenant.all)
        _ = try await world.submit(tenant, tenant.all)
        let sent = try await world.send(runs)
        _ = try await world.gateway.settle([AttemptResult(sent[0], .unknown)])
        guard case .amended = try await world.gateway.settle([AttemptResult(sent[0])])[0] else {
            Issue.record("it was not amended")
            return
        }
        try await world.fold()
        #expect(try await used(tenant) == OpenWork(runs: 1, bytes: 3))
    }

    @Test("A job over an organization counts the devices of its submission until it is whole, then its runs")
    func expansion() async throws {
        let world = try World.here()
        try await world.clear()
        // Submitted with three devices: one has gone, or two have come, when the job is expanded.
        for (devices, before, after) in [(2, 3, 2), (5, 4, 5)] {
            let tenant = try await world.tenant(devices: devices)
            var job = world.job(tenant, devices: nil)
            job.expectedRuns = 3
            _ = try await world.api.submit([job], scope: tenant.scope)
            #expect(try await used(tenant) == OpenWork(runs: 3, bytes: 3))
            let place = (tenant.organization, job.id)
            #expect(try await world.worker.expand(place, chunk: 2) == .goesOn)
            #expect(try await used(tenant) == counted(tenant))
            #expect(try await world.worker.expand(place, chunk: 2) == .goesOn || devices == 2)
            #expect(try await used(tenant).runs == (devices == 2 ? after : before))
            while try await world.worker.expand(place, chunk: 2) == .goesOn {}
            #expect(try await used(tenant) == OpenWork(runs: after, bytes: 3))
            try await world.fold()
            #expect(try await used(tenant) == OpenWork(runs: after, bytes: 3))
        }
    }

    @Test("A job that was cancelled before it was expanded frees what it had")
    func cancelledTarget() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant(devices: 3)
        var job = world.job(tenant, devices: nil)
        job.expectedRuns = 3
        _ = try await world.api.submit([job], scope: tenant.scope)
        _ = try await world.api.requestCancel(job.id, scope: tenant.scope)
        #expect(try await world.worker.expand((tenant.organization, job.id), chunk: 9) == .whole)
        #expect(try await used(tenant) == OpenWork())
    }

    @Test("A site's work counts for its organization, whose use the site does not read")
    func site() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant(sites: 2)
        let site = Scope.site(tenant.sites[0])
        let job = world.job(tenant, devices: tenant.devices[0], site: tenant.sites[0])
        _ = try await world.api.submit([job], scope: site)
        #expect(try await used(tenant) == OpenWork(runs: 1, bytes: 3))
        let seen = try await world.api.openWork(of: [tenant.organization], scope: site)
        #expect(seen[tenant.organization]?.used == OpenWork())
        try await world.fold()
        let hidden = try await world.api.openWork(of: [tenant.organization], scope: site)
        #expect(hidden[tenant.organization]?.used == OpenWork())
    }

    @Test(
        "Nobody writes the use or the quota of an organization of others, and no service more than its part")
    func foreign() async throws {
        let world = try World.here()
        let (mine, other) = (try await world.tenant(), try await world.tenant(sites: 1))
        func isRefused(_ login: Int, _ statement: SQL, _ scope: Scope) async throws -> Bool {
            do {
                return try await world.logins[login].pool.execute(statement, scope: scope) == 0
            } catch let error as PostgresError {
                return error.sqlState == "42501"
            }
        }
        try await world.api.setOpenWorkMax(runs: 5, bytes: nil, of: other.organization, scope: other.scope)
        let delta: SQL = """
            INSERT INTO queue_usage_deltas (organization_id, runs, bytes) VALUES (\(other.organization), 1, 1)
            """
        for scope in [mine.scope, .partner(mine.partner), .site(mine.sites[0]), .none] {
            await #expect(throws: PostgresError.self) {
                try await world.api.setOpenWorkMax(
                    runs: 9, bytes: nil, of: other.organization, scope: scope)
            }
            for login in 0..<3 { #expect(try await isRefused(login, delta, scope)) }
            let seen = try await world.api.openWork(of: [other.organization], scope: scope)
            #expect(seen[other.organization]?.runsMax == nil)
        }
        // The API sets quotas and no use; workers the reverse; gateways add and read nothing.
        for (login, statement) in [
            (0, "UPDATE queue_usage SET runs = 0"), (0, "DELETE FROM queue_usage_deltas"),
            (1, "UPDATE queue_usage SET runs_max = 1"), (2, "SELECT * FROM queue_usage"),
            (2, "DELETE FROM queue_usage_deltas"), (2, "UPDATE queue_usage SET runs = 0"),
        ] as [(Int, SQL)] {
            #expect(try await isRefused(login, statement, other.scope))
        }
        let row = try await world.api.openWork(of: [other.organization], scope: other.scope)
        #expect(row[other.organization]?.runsMax == 5)
    }

    @Test("A quota is set beside the use, which stays, and taken back")
    func quota() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant()
        _ = try await world.submit(tenant, tenant.all)
        func row() async throws -> OpenWorkRow? {
            try await world.api.openWork(of: [tenant.organization], scope: tenant.scope)[tenant.organization]
        }
        for (runs, bytes) in [(7, nil), (nil, 1 << 40), (nil, nil)] as [(Int?, Int?)] {
            try await world.api.setOpenWorkMax(
                runs: runs, bytes: bytes, of: tenant.organization, scope: tenant.scope)
            try await world.fold()
            _ = try await world.worker.foldDeltas(limit: 9)
            let row = try #require(try await row())
            #expect(row.runsMax == runs && row.bytesMax == bytes)
            #expect(row.used == OpenWork(runs: 1, bytes: 3))
        }
    }

    @Test("A delta of a transaction that has not committed is added later, and once; a held row is passed by")
    func uncommitted() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant()
        let worker = world.worker
        _ = try await world.submit(tenant, tenant.all)
        _ = try await worker.foldDeltas(limit: 9)
        try await world.owner.transaction(scope: .none) { transaction in
            try await transaction.execute(
                """
                INSERT INTO queue_usage_deltas (organization_id, runs, bytes)
                VALUES (\(tenant.organization), 10, 100)
                """)
            _ = try await worker.foldDeltas(limit: 9)
        }
        #expect(try await deltas() == 1)
        #expect(try await used(tenant) == OpenWork(runs: 11, bytes: 103))
        try await world.owner.transaction(scope: .none) { transaction in
            try await transaction.execute("SELECT FROM queue_usage FOR UPDATE")
            _ = try await worker.foldDeltas(limit: 9)
        }
        #expect(try await deltas() == 1)
        _ = try await worker.foldDeltas(limit: 9)
        #expect(try await deltas() == 0)
        #expect(try await used(tenant) == OpenWork(runs: 11, bytes: 103))
    }

    @Test("After random work by everybody at once, the folded use is what rows come to", arguments: 0..<3)
    func random(round: Int) async throws {
        let world = try World.here()
        try await world.clear()
        let tenants = [
            try await world.tenant(sites: 2, devices: 4), try await world.tenant(devices: 5),
        ]
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<3 {
                for tenant in tenants {
                    group.addTask { for _ in 0..<12 { try await Self.step(world, tenant) } }
                }
                group.addTask { for _ in 0..<40 { _ = try await world.worker.foldDeltas(limit: 3) } }
            }
            try await group.waitForAll()
        }
        for tenant in tenants { _ = try await world.submit(tenant, [tenant.all[0]]) }
        try await world.fold()
        _ = try await world.worker.foldDeltas(limit: 9)
        #expect(try await deltas() == 0)
        for tenant in tenants {
            #expect(try await used(tenant) == counted(tenant))
            #expect(try await counted(tenant).runs > 0)
        }
    }

    /// One thing that happens to jobs and runs, drawn by lot.
    static func step(_ world: World, _ tenant: Tenant) async throws {
        let open = try await world.owner.query(
            """
            SELECT id, job_id FROM runs WHERE organization_id = \(tenant.organization)
            ORDER BY random() LIMIT 3
            """, scope: .none
        ) { try $0.decode((RunID, JobID).self) }
        switch Int.random(in: 0..<11) {
        case 0, 1, 2:
            let devices = Array(tenant.all.shuffled().prefix(.random(in: 1...3)))
            var jobs = [world.job(tenant, devices: devices), world.job(tenant, devices: [devices[0]])]
            jobs[1].maximumAttempts = 3
            jobs[1].retry = RetryPolicy(
                maximumAttempts: 3, backoffSeconds: 1, maximumBackoffSeconds: 1, outcomes: [.failed])
            _ = try await world.api.submit(jobs, scope: tenant.scope)
        case 3:
            var job = world.job(tenant, devices: nil, targetSite: Bool.random() ? tenant.sites[0] : nil)
            job.expectedRuns = .random(in: 0...9)
            _ = try await world.api.submit([job], scope: tenant.scope)
        case 4:
            for job in try await world.worker.unexpandedJobs(besides: [], limit: 2) {
                _ = try await world.worker.expand((job.organization, job.id), chunk: 2)
            }
        case 5, 6:
            _ = try await world.worker.queueDue(limit: 9)
            let queued = try await world.worker.queuedRuns(
                of: [(tenant.organization.queue(), after: ID(.zero))], limit: 6
            ).values.flatMap(\.self)
            let marked = try await world.mark(queued)
            _ = try await world.gateway.take(marked.map { ($0.organization, $0.run, $0.token) })
            let outcomes: [Outcome] = [.succeeded, .failed, .unknown, .timedOut]
            let results = marked.map { AttemptResult($0, outcomes.randomElement() ?? .failed) }
            _ = try await world.gateway.settle(results)
            // Once more: duplicates, and words that amend.
            _ = try await world.gateway.settle(
                results.map {
                    var result = $0
                    if result.outcome == .unknown { result.outcome = .succeeded }
                    return result
                })
        case 7:
            if let (run, _) = open.first { _ = try await world.api.cancelRun(run, scope: tenant.scope) }
        case 8:
            guard let (_, job) = open.first else { return }
            // It may have ended meanwhile.
            _ = try? await world.api.requestCancel(job, scope: tenant.scope)
            _ = try await world.api.cancelRuns(
                of: job, organization: tenant.organization, scope: tenant.scope)
        case 9:
            let letters = try await world.api.deadLetters(DeadLetterFilter(), limit: 3, scope: tenant.scope)
            guard let letter = letters.randomElement() else { return }
            if Bool.random() {
                _ = try await world.api.discard([letter.run.id], scope: tenant.scope)
            } else {
                var job = world.job(tenant, devices: [letter.run.device])
                (job.retryOf, job.redriven) = (letter.run.job, [letter.run.id])
                _ = try await world.api.submit([job], scope: tenant.scope)
            }
        default:
            try await world.lapse(open.prefix(1).map(\.0))
            _ = try await world.worker.expire(limit: 9)
        }
    }
}
