import Domain
import Postgres
import TestSupport
import Testing

@testable import Ledger

/// Deltas become counts: by several folders at once, each exactly once, and none waits for another.
@Suite(.serialized, .world) struct FolderTests {
    /// A tenant with so many jobs of two runs each, all of which have succeeded and are not folded.
    private func ended(_ jobs: Int) async throws -> (World, Tenant, [JobID]) {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant(devices: 2)
        var made: [JobID] = []
        for _ in 0..<jobs {
            let (job, runs) = try await world.submit(tenant, tenant.all)
            _ = try await world.gateway.settle(try await world.send(runs).map { AttemptResult($0) })
            made.append(job)
        }
        return (world, tenant, made)
    }

    private func row(_ job: JobID, _ tenant: Tenant) async throws -> JobRow {
        try #require(try await World.here().api.job(job, scope: tenant.scope))
    }

    @Test("A job whose row another transaction holds is passed over; the others are folded meanwhile")
    func held() async throws {
        let (world, tenant, jobs) = try await ended(3)
        let worker = world.worker
        let folded = try await world.owner.transaction(scope: .none) { transaction in
            try await transaction.execute("SELECT FROM jobs WHERE id = \(jobs[0]) FOR UPDATE")
            return try await worker.foldDeltas(limit: 9)
        }
        #expect(folded == 2)
        #expect(try await row(jobs[0], tenant).state == .active)
        #expect(try await row(jobs[1], tenant).state == .completed)
        #expect(try await row(jobs[2], tenant).state == .completed)
        #expect(try await worker.foldDeltas(limit: 9) == 1)
        #expect(try await row(jobs[0], tenant).state == .completed)
        #expect(try await worker.foldDeltas(limit: 9) == 0)
    }

    @Test("A folder goes past as many held jobs as there are to those that are free")
    func pastHeld() async throws {
        let (world, tenant, jobs) = try await ended(5)
        let worker = world.worker
        let folded = try await world.owner.transaction(scope: .none) { transaction in
            try await transaction.execute("SELECT FROM jobs WHERE id < \(jobs[4]) FOR UPDATE")
            return try await worker.foldDeltas(limit: 1)
        }
        #expect(folded == 1)
        #expect(try await row(jobs[4], tenant).state == .completed)
    }

    @Test("While one folder is at a job's deltas, another folds the next job and waits for nothing")
    func together() async throws {
        let (world, tenant, jobs) = try await ended(2)
        let worker = world.worker
        let (first, second) = try await world.owner.transaction(scope: .none) { transaction in
            // The first folder stops between the job's row and its deltas.
            try await transaction.execute("SELECT FROM job_deltas WHERE job_id = \(jobs[0]) FOR UPDATE")
            let first = Task { try await worker.foldDeltas(limit: 1) }
            try await world.blockedStatement()
            return (first, try await worker.foldDeltas(limit: 9))
        }
        #expect(second == 1)
        #expect(try await first.value == 1)
        for job in jobs {
            let row = try await row(job, tenant)
            #expect(row.state == .completed && row.counts == [.succeeded: 2])
        }
    }

    @Test("A delta of a transaction that has not committed is counted later, and once")
    func uncommitted() async throws {
        let (world, tenant, jobs) = try await ended(1)
        let worker = world.worker
        try await world.owner.execute("UPDATE jobs SET total = 3", scope: .none)
        let folded = try await world.owner.transaction(scope: .none) { transaction in
            try await transaction.execute(
                """
                INSERT INTO job_deltas (organization_id, job_id, outcome, n)
                VALUES (\(tenant.organization), \(jobs[0]), 11, 1)
                """)
            return try await worker.foldDeltas(limit: 9)
        }
        #expect(folded == 1)
        #expect(try await world.count("SELECT count(*) FROM job_deltas") == 1)
        #expect(try await row(jobs[0], tenant).state == .active)
        #expect(try await worker.foldDeltas(limit: 9) == 1)
        let row = try await row(jobs[0], tenant)
        #expect(row.state == .completed && row.counts == [.succeeded: 2, .failed: 1])
    }

    @Test("Folders and writers on the same jobs at the same time: every delta is counted once")
    func exact() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant(devices: 40)
        var jobs: [JobID] = []
        var marked: [MarkedRun] = []
        for _ in 0..<6 {
            let (job, runs) = try await world.submit(tenant, tenant.all)
            jobs.append(job)
            marked += try await world.send(runs)
        }
        let results = marked.shuffled().map { AttemptResult($0) }
        let (worker, gateway) = (world.worker, world.gateway)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for part in 0..<4 {
                group.addTask {
                    for start in stride(from: part * 60, to: part * 60 + 60, by: 3) {
                        _ = try await gateway.settle(Array(results[start..<start + 3]))
                    }
                }
                group.addTask { for _ in 0..<60 { _ = try await worker.foldDeltas(limit: 1 + part) } }
            }
            try await group.waitForAll()
        }
        try await world.fold()
        for job in jobs {
            let row = try await row(job, tenant)
            #expect(row.state == .completed && row.counts == [.succeeded: 40])
            #expect(try await world.count("SELECT ended[1]::bigint FROM jobs WHERE id = \(job)") == 40)
        }
    }
}

extension World {
    /// Asks until a statement of a service waits for a lock.
    fileprivate func blockedStatement() async throws {
        let waiting: SQL = """
            SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND usename LIKE 'crmm\\_%' AND wait_event_type = 'Lock'
            """
        for _ in 0..<20_000 where try await count(waiting) > 0 { return }
        Issue.record("nothing waits for a lock")
    }
}
