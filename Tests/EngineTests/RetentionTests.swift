import Domain
import Ledger
import Postgres
import TestSupport
import Testing
import Trust

@testable import Engine

/// The handler that removes what an organization keeps no longer.
@Suite(.serialized, .world) struct RetentionTests {
    private func handle(_ tenant: Tenant, days: Int = 90) async throws {
        let handler = RetentionHandler(ledger: try World.here().worker, defaultDays: days, limit: 2)
        try await handler.handle(
            TaskAttempt(
                organization: tenant.organization, id: fresh(), attempt: 1,
                payload: RetentionHandler.Payload()))
    }

    /// A job whose runs have ended so many days ago.
    private func endedJob(_ tenant: Tenant, days: Int) async throws -> JobID {
        let world = try World.here()
        let (job, runs) = try await world.submit(tenant, tenant.all)
        let marked = try await world.mark(runs)
        _ = try await world.gateway.take(marked.map { ($0.organization, $0.run, $0.token) })
        _ = try await world.gateway.settle(
            marked.map {
                AttemptResult(
                    organization: $0.organization, device: $0.device, run: $0.run, attempt: $0.attempt,
                    token: $0.token, outcome: .succeeded, exitCode: 0, reason: nil, startedAt: nil,
                    finishedAt: .now(),
                    output: OutputRow(
                        stdoutHead: [65], stdoutTail: [], stdoutBytes: 1, stderrHead: [], stderrTail: [],
                        stderrBytes: 0))
            })
        while try await world.worker.foldDeltas(limit: 10) > 0 {}
        // Ids carry the time, so the job and its runs get older ones.
        let old = JobID.new(at: .now() + .seconds(-(days * 86_400 + 60)))
        try await world.owner.pipeline(
            scope: .none,
            [
                """
                UPDATE jobs SET id = \(old),
                    finished_at = now() - make_interval(days => \(Int32(days)), mins => 1)
                WHERE id = \(job)
                """,
                "UPDATE run_history SET job_id = \(old) WHERE job_id = \(job)",
                "UPDATE job_slots SET job_id = \(old) WHERE job_id = \(job)",
            ])
        return old
    }

    @Test("What ended longer ago than is kept goes, with runs, output and slots; all else stays")
    func removal() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant(devices: 5)
        let other = try await world.tenant()
        let old = try await endedJob(tenant, days: 91)
        let young = try await endedJob(tenant, days: 89)
        let theirs = try await endedJob(other, days: 91)
        let (open, _) = try await world.submit(tenant, tenant.all)
        try await world.owner.execute(
            """
            INSERT INTO job_slots (organization_id, place, key, job_id, while_running, replaces)
            VALUES (\(tenant.organization), \(tenant.organization), 'k', \(old), true, false)
            """, scope: .none)
        try await handle(tenant)
        #expect(try await world.api.job(old, scope: .platform) == nil)
        for job in [young, theirs, open] {
            #expect(try await world.api.job(job, scope: .platform) != nil, "\(job)")
        }
        #expect(try await world.count("SELECT count(*) FROM run_history WHERE job_id = \(old)") == 0)
        #expect(try await world.count("SELECT count(*) FROM run_history WHERE job_id = \(young)") == 5)
        #expect(try await world.count("SELECT count(*) FROM run_output") == 6)
        #expect(try await world.count("SELECT count(*) FROM job_slots") == 0)
        #expect(try await world.count("SELECT count(*) FROM runs") == 5)
    }

    @Test("A job stays for 30 days while a device may still say how its run has ended")
    func amendable() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant(devices: 2)
        let job = try await endedJob(tenant, days: 3)
        func lose(_ days: Int) async throws {
            try await world.owner.execute(
                """
                UPDATE run_history SET state = 15, amendable = true,
                       finished_at = now() - make_interval(days => \(Int32(days)))
                WHERE id = (SELECT id FROM run_history WHERE job_id = \(job) ORDER BY id LIMIT 1)
                """, scope: .none)
        }
        try await lose(29)
        try await handle(tenant, days: 1)
        #expect(try await world.count("SELECT count(*) FROM run_history WHERE job_id = \(job)") == 2)
        try await lose(31)
        try await handle(tenant, days: 1)
        #expect(try await world.api.job(job, scope: .platform) == nil)
    }

    @Test("An organization's own number of days holds for it")
    func ownDays() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant()
        let job = try await endedJob(tenant, days: 10)
        let scope = Scope.organization(tenant.organization)
        #expect(try await world.api.setRetentionDays(11, of: tenant.organization, scope: scope))
        try await handle(tenant, days: 5)
        #expect(try await world.api.job(job, scope: .platform) != nil)
        #expect(try await world.api.setRetentionDays(9, of: tenant.organization, scope: scope))
        try await handle(tenant)
        #expect(try await world.api.job(job, scope: .platform) == nil)
    }

    @Test("Ended tasks go likewise, open ones never")
    func tasks() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            let ids = try await bench.submit(tenant, count: 4)
            _ = try await bench.tasks.cancel(ids[0], scope: tenant.scope)
            _ = try await bench.tasks.cancel(ids[1], scope: tenant.scope)
            try await bench.world.owner.execute(
                """
                UPDATE tasks SET created_at = now() - interval '100 days',
                    finished_at = CASE WHEN id = \(ids[0]) THEN now() - interval '91 days'
                                       WHEN id = \(ids[1]) THEN now() - interval '89 days' END
                """, scope: .none)
            try await handle(tenant)
            #expect(try await bench.states() == [.cancelled: 1, .queued: 2])
        }
    }

    @Test("Each organization gets one task a day, whoever submits them")
    func daily() async throws {
        let world = try World.here()
        try await world.clear()
        for _ in 0..<3 { _ = try await world.tenant() }
        let count = try await world.count("SELECT count(*) FROM organizations")
        let tasks = Tasks(ledger: world.worker, fronts: [:])
        let now = Instant.now()
        #expect(try await RetentionHandler.submitDaily(tasks, world.worker, at: now) == count)
        #expect(try await RetentionHandler.submitDaily(tasks, world.worker, at: now) == 0)
        #expect(
            try await RetentionHandler.submitDaily(tasks, world.worker, at: now + .seconds(86_400)) == count)
    }
}
