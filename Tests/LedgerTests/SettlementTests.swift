import Domain
import Postgres
import TestSupport
import Testing

@testable import Ledger

@Suite(.serialized, .world) struct SettlementTests {
    @Test("A single run settles with its job in one commit: outcome, output and counts")
    func single() async throws {
        let world = try World.here()
        let tenant = try await world.tenant()
        let (job, runs) = try await world.submit(tenant, tenant.all)
        let marked = try await world.send(runs)[0]
        let settled = try await world.gateway.settle([
            AttemptResult(marked, .failed, exitCode: 3, reason: "why")
        ])
        #expect(settled.map(\.isSettled) == [true])
        let row = try #require(try await world.api.job(job, scope: tenant.scope))
        #expect(row.state == .completed && row.counts == [.failed: 1] && row.finishedAt != nil)
        #expect(try await world.count("SELECT count(*) FROM job_deltas WHERE job_id = \(job)") == 0)
        let run = try #require(try await world.api.run(marked.run, scope: tenant.scope))
        #expect(run.state == .failed && run.exitCode == 3 && run.reason == "why" && run.attempt == 1)
        #expect(
            try await world.api.output(of: marked.run, scope: tenant.scope)?.stdoutHead == Array("out".utf8))
        #expect(try await world.count("SELECT count(*) FROM runs WHERE id = \(marked.run)") == 0)
    }

    @Test("Counts are exact after every step, with deltas unfolded and folded; the folder completes the job")
    func counts() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant(devices: 6)
        let (job, runs) = try await world.submit(tenant, tenant.all)
        func counts() async throws -> [RunState: Int]? {
            try await world.api.job(job, scope: tenant.scope)?.counts
        }
        #expect(try await counts() == [.queued: 6])
        let marked = try await world.send(Array(runs[..<4]))
        #expect(try await counts() == [.queued: 2, .dispatched: 4])
        try await world.gateway.start([
            (tenant.organization, marked[0].device, marked[0].run, marked[0].token, now())
        ])
        #expect(try await world.worker.wait([runs[4]]) == [runs[4].run])
        #expect(try await counts() == [.queued: 1, .waiting: 1, .dispatched: 3, .running: 1])
        _ = try await world.gateway.settle([
            AttemptResult(marked[0]), AttemptResult(marked[1], .failed), AttemptResult(marked[2]),
        ])
        let expected: [RunState: Int] = [.queued: 1, .waiting: 1, .dispatched: 1, .succeeded: 2, .failed: 1]
        #expect(try await counts() == expected)
        #expect(try await world.worker.foldDeltas(limit: 1) == 1)
        #expect(try await counts() == expected)
        try await world.fold()
        #expect(try await counts() == expected)
        #expect(try await world.count("SELECT count(*) FROM job_deltas") == 0)
        #expect(try await world.api.job(job, scope: tenant.scope)?.state == .active)
        _ = try await world.gateway.settle([AttemptResult(marked[3], .timedOut)])
        try await world.lapse([runs[4].run, runs[5].run])
        #expect(try await world.worker.expire(limit: 9).count == 2)
        let end: [RunState: Int] = [.succeeded: 2, .failed: 1, .timedOut: 1, .expired: 2]
        #expect(try await counts() == end)
        #expect(try await world.api.job(job, scope: tenant.scope)?.state == .active)
        try await world.fold()
        let row = try #require(try await world.api.job(job, scope: tenant.scope))
        #expect(row.state == .completed && row.finishedAt != nil && row.counts == end)
    }

    @Test("A site's principal reads the same exact counts of its jobs")
    func siteCounts() async throws {
        let world = try World.here()
        let tenant = try await world.tenant(devices: 3)
        let site = Scope.site(tenant.sites[0])
        let job = world.job(tenant, devices: tenant.all, site: tenant.sites[0])
        let runs = try await world.api.submit([job], scope: site).queued
        _ = try await world.gateway.settle(try await world.send([runs[0]]).map { AttemptResult($0) })
        #expect(try await world.api.job(job.id, scope: tenant.scope)?.counts == [.queued: 2, .succeeded: 1])
        #expect(try await world.api.job(job.id, scope: site)?.counts == [.queued: 2, .succeeded: 1])
    }

    @Test("Folders that work at the same time count every delta once")
    func concurrentFolders() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant(devices: 60)
        let (job, runs) = try await world.submit(tenant, tenant.all)
        let marked = try await world.send(runs)
        let (worker, gateway) = (world.worker, world.gateway)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for part in 0..<6 {
                group.addTask {
                    for run in marked[part * 10..<part * 10 + 10] {
                        _ = try await gateway.settle([AttemptResult(run)])
                    }
                }
                group.addTask { for _ in 0..<20 { _ = try await worker.foldDeltas(limit: 3) } }
            }
            try await group.waitForAll()
        }
        #expect(try await world.api.job(job, scope: tenant.scope)?.counts == [.succeeded: 60])
        try await world.fold()
        let row = try await world.api.job(job, scope: tenant.scope)
        #expect(row?.counts == [.succeeded: 60] && row?.state == .completed)
        #expect(try await world.count("SELECT ended[1]::bigint FROM jobs WHERE id = \(job)") == 60)
    }

    @Test("A second word about a settled attempt is a duplicate and changes nothing")
    func duplicate() async throws {
        let world = try World.here()
        let tenant = try await world.tenant()
        let (job, runs) = try await world.submit(tenant, tenant.all)
        let marked = try await world.send(runs)[0]
        _ = try await world.gateway.settle([AttemptResult(marked)])
        #expect(try await world.gateway.settle([AttemptResult(marked, .failed)]) == [.duplicate])
        #expect(try await world.api.job(job, scope: tenant.scope)?.counts == [.succeeded: 1])
        #expect(
            try await world.count(
                "SELECT count(*) FROM attempts WHERE organization_id = \(tenant.organization)") == 0)
    }

    @Test("The word about another attempt is kept as evidence, once, and settles nothing")
    func late() async throws {
        let world = try World.here()
        let tenant = try await world.tenant(devices: 2)
        let (job, runs) = try await world.submit(tenant, tenant.all)
        let marked = try await world.send(runs)
        let strange = AttemptResult(marked[0], token: fresh())
        #expect(try await world.gateway.settle([strange]) == [.late])
        #expect(try await world.gateway.settle([strange]) == [.late])
        #expect(try await world.api.job(job, scope: tenant.scope)?.counts == [.dispatched: 2])
        _ = try await world.gateway.settle([AttemptResult(marked[1])])
        #expect(try await world.gateway.settle([AttemptResult(marked[1], token: fresh())]) == [.late])
        #expect(try await world.api.job(job, scope: tenant.scope)?.counts == [.dispatched: 1, .succeeded: 1])
        let evidence = try await world.owner.query(
            """
            SELECT run_id, token, kind FROM attempts
            WHERE organization_id = \(tenant.organization) ORDER BY recorded_at
            """, scope: .none
        ) { try $0.decode((RunID, AttemptToken, String).self) }
        #expect(evidence.map(\.0) == [marked[0].run, marked[1].run])
        #expect(evidence.first?.1 == strange.token)
        #expect(evidence.allSatisfy { $0.2 == "late" })
    }

    @Test("An attempt's number alone does not settle it, nor does a token with another number")
    func wrongAttempt() async throws {
        let world = try World.here()
        let tenant = try await world.tenant()
        let (_, runs) = try await world.submit(tenant, tenant.all)
        let marked = try await world.send(runs)[0]
        var result = AttemptResult(marked)
        result.attempt = 2
        #expect(try await world.gateway.settle([result]) == [.late])
        #expect(try await world.api.run(marked.run, scope: tenant.scope)?.state == .dispatched)
    }

    @Test("A result for another device's run, or another organization's, is foreign and leaves no trace")
    func foreign() async throws {
        let world = try World.here()
        let (tenant, other) = (try await world.tenant(devices: 2), try await world.tenant())
        let (_, runs) = try await world.submit(tenant, tenant.all)
        let marked = try await world.send(runs)
        #expect(
            try await world.gateway.settle([AttemptResult(marked[0], device: tenant.all[1])]) == [.foreign])
        #expect(
            try await world.gateway.settle([
                AttemptResult(marked[0], device: other.all[0], organization: other.organization)
            ]) == [.foreign])
        // Also beside a result of the victim's own organization, whose rows the batch's scope sees.
        let mixed = try await world.gateway.settle([
            AttemptResult(marked[0], device: other.all[0], organization: other.organization),
            AttemptResult(marked[1]),
        ])
        #expect(mixed[0] == .foreign && mixed[1].isSettled)
        #expect(try await world.api.run(marked[0].run, scope: tenant.scope)?.state == .dispatched)
        #expect(
            try await world.count("SELECT count(*) FROM attempts WHERE run_id = \(marked[0].run)") == 0)
        try await world.gateway.start([
            (other.organization, other.all[0], marked[0].run, marked[0].token, now()),
            (tenant.organization, tenant.all[1], marked[0].run, marked[0].token, now()),
        ])
        #expect(try await world.api.run(marked[0].run, scope: tenant.scope)?.state == .dispatched)
    }

    @Test("One batch settles results of several organizations, each in its own")
    func acrossOrganizations() async throws {
        let world = try World.here()
        var results: [AttemptResult] = []
        var jobs: [(JobID, Tenant)] = []
        for _ in 0..<4 {
            let tenant = try await world.tenant(devices: 3)
            let (job, runs) = try await world.submit(tenant, tenant.all)
            results += try await world.send(runs).map { AttemptResult($0) }
            jobs.append((job, tenant))
        }
        let settled = try await world.gateway.settle(results.reversed())
        #expect(settled.filter(\.isSettled).count == 12)
        for (result, settlement) in zip(results.reversed(), settled) {
            guard case .settled(let run) = settlement else { continue }
            #expect(run.run == result.run && run.organization == result.organization)
        }
        for (job, tenant) in jobs {
            #expect(try await world.api.job(job, scope: tenant.scope)?.counts == [.succeeded: 3])
        }
    }

    @Test(
        "The agent's word replaces an outcome that was declared without it, exactly once, in the counts too")
    func amendment() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant(devices: 2)
        let (job, runs) = try await world.submit(tenant, tenant.all)
        let marked = try await world.send(runs)
        try await world.lapse(marked.map(\.run))
        #expect(try await world.worker.expire(limit: 9).count == 2)
        try await world.fold()
        #expect(try await world.api.job(job, scope: tenant.scope)?.counts == [.unknown: 2])
        let word = AttemptResult(marked[0], .succeeded, output: "three days later")
        #expect(try await world.gateway.settle([word]) == [.amended(job)])
        #expect(try await world.api.job(job, scope: tenant.scope)?.counts == [.unknown: 1, .succeeded: 1])
        #expect(try await world.gateway.settle([word]) == [.duplicate])
        #expect(try await world.gateway.settle([AttemptResult(marked[0], .failed)]) == [.duplicate])
        try await world.fold()
        let row = try await world.api.job(job, scope: tenant.scope)
        #expect(row?.counts == [.unknown: 1, .succeeded: 1] && row?.state == .completed)
        #expect(try await world.api.run(marked[0].run, scope: tenant.scope)?.state == .succeeded)
        #expect(
            try await world.api.output(of: marked[0].run, scope: tenant.scope)?.stdoutHead
                == Array("three days later".utf8))
        #expect(
            try await world.count(
                """
                SELECT count(*) FROM attempts
                WHERE run_id = \(marked[0].run) AND kind = 'amended' AND outcome = 15
                """
            )
                == 1)
    }

    @Test("Two gateways that bring the same word amend once")
    func concurrentAmendment() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant(devices: 2)
        let (job, runs) = try await world.submit(tenant, tenant.all)
        let marked = try await world.send(runs)
        try await world.lapse(marked.map(\.run))
        _ = try await world.worker.expire(limit: 9)
        let gateway = world.gateway
        let settlements = try await withThrowingTaskGroup(of: Settlement.self) { group in
            for _ in 0..<8 {
                group.addTask { try await gateway.settle([AttemptResult(marked[0])])[0] }
            }
            return try await group.reduce(into: [Settlement]()) { $0.append($1) }
        }
        #expect(settlements.count { $0 == .amended(job) } == 1)
        #expect(settlements.count { $0 == .duplicate } == 7)
        #expect(try await world.api.job(job, scope: tenant.scope)?.counts == [.unknown: 1, .succeeded: 1])
    }

    @Test("An outcome that the agent could not name is amended by its later word; a second unknown is not it")
    func unknownThenWord() async throws {
        let world = try World.here()
        let tenant = try await world.tenant()
        let (job, runs) = try await world.submit(tenant, tenant.all)
        let marked = try await world.send(runs)[0]
        #expect(try await world.gateway.settle([AttemptResult(marked, .unknown)])[0].isSettled)
        #expect(try await world.gateway.settle([AttemptResult(marked, .unknown)]) == [.duplicate])
        #expect(try await world.gateway.settle([AttemptResult(marked, .failed)]) == [.amended(job)])
        #expect(try await world.api.job(job, scope: tenant.scope)?.counts == [.failed: 1])
        #expect(try await world.gateway.settle([AttemptResult(marked, .succeeded)]) == [.duplicate])
    }

    @Test("Results that two gateways settle at the same time in opposite orders settle once each")
    func opposite() async throws {
        let world = try World.here()
        let tenant = try await world.tenant(devices: 40)
        let (job, runs) = try await world.submit(tenant, tenant.all)
        let marked = try await world.send(runs)
        let gateway = world.gateway
        async let one = gateway.settle(marked.map { AttemptResult($0) })
        async let two = gateway.settle(marked.reversed().map { AttemptResult($0) })
        let all = try await one + two
        #expect(all.filter(\.isSettled).count == 40)
        #expect(all.count { $0 == .duplicate } == 40)
        #expect(try await world.api.job(job, scope: tenant.scope)?.counts == [.succeeded: 40])
    }
}
