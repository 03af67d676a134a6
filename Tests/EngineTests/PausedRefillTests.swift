import Domain
import Ledger
import Postgres
import TestSupport
import Testing
import Wire

@testable import Engine
@testable import Streams

/// What a pause of a job or of a kind holds back takes no place in the queue, and is walked past once.
@Suite(.serialized, .world) struct PausedRefillTests {
    /// A refiller on one connection, whose clock stands.
    private struct Station: Sendable {
        let pool: PostgresPool
        let refiller: Refiller

        init(_ bench: Bench) throws {
            pool = try bench.world.pool(user: "crmm_worker", connections: 1)
            refiller = Refiller(
                ledger: Ledger(pool: pool), front: bench.front, logger: .quiet,
                now: { [now = ContinuousClock.now] in now })
        }

        /// Refills until that brings nothing and leaves no mark; returns how many came.
        func refill(_ bench: Bench, _ tenant: TestSupport.Tenant) async throws -> Int {
            var admitted = 0
            for _ in 0..<40 {
                let step = try await refiller.refillOnce()
                admitted += step
                if step == 0, try await !bench.depth(tenant).marked { return admitted }
            }
            Issue.record("it is marked still")
            return admitted
        }

        func entriesRead(_ bench: Bench) async throws -> Int {
            // As a transaction too: one flush may come before what the session has counted.
            try await pool.execute("SELECT pg_stat_force_next_flush()", scope: .none)
            try await pool.transaction(scope: .none) { transaction in
                _ = try await transaction.execute("SELECT pg_stat_force_next_flush()")
            }
            return try await bench.world.count(
                "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'runs_queued'")
        }
    }

    private func with(_ body: (Bench, Station) async throws -> Void) async throws {
        try await Bench.run { bench in
            let station = try Station(bench)
            do {
                try await body(bench, station)
            } catch {
                await station.pool.close()
                throw error
            }
            await station.pool.close()
        }
    }

    private func controls(_ bench: Bench) -> QueueControls {
        QueueControls(ledger: bench.world.api, front: bench.front, judge: World.judge, logger: .quiet)
    }

    private func ready(_ bench: Bench, _ tenant: TestSupport.Tenant) async throws -> Int {
        try await bench.depth(tenant).ready.values.reduce(0, +)
    }

    @Test("The backlog of a paused job takes no place, is walked once, and flows as soon as it is resumed")
    func job() async throws {
        try await with { bench, station in
            let tenant = try await bench.world.tenant(devices: 4)
            let held = tenant.all.suffix(3)
            let (paused, backlog) = try await bench.world.submit(
                tenant, (0..<5_000).map { held[held.startIndex + $0 % 3] })
            let post = try await Post.open(bench, holding: tenant.all)
            await bench.front.offer(Array(backlog.prefix(20)))
            try await controls(bench).pause(paused, scope: tenant.scope)
            // What was in the queue is claimed and refused once, as many at a time as its devices have
            // places.
            for _ in 0..<5 { try await bench.dispatchAll() }
            #expect(try await post.attempts().isEmpty)
            let (_, behind) = try await bench.world.submit(tenant, [tenant.all[0], tenant.all[0]])
            await bench.front.offer([], and: [tenant.organization.queue()])
            #expect(try await station.refill(bench, tenant) == 2)
            #expect(try await ready(bench, tenant) == 2, "nothing of the paused job is in the queue")
            let claims = try await bench.claim()
            #expect(Set(claims.map(\.run)) == Set(behind.map(\.run)))
            let walked = try await station.entriesRead(bench)
            for _ in 0..<5 {
                await bench.front.offer([], and: [tenant.organization.queue()])
                #expect(try await station.refiller.refillOnce() == 0)
                #expect(try await !bench.depth(tenant).marked)
                #expect(try await bench.claim().isEmpty, "no run is claimed to be refused")
            }
            #expect(try await station.entriesRead(bench) - walked <= 50)
            try await controls(bench).resume(paused, scope: tenant.scope)
            #expect(try await station.refiller.refillOnce() > 200)
        }
    }

    @Test("One of two paused jobs that is resumed flows though the other is walked past")
    func twoJobs() async throws {
        try await with { bench, station in
            let tenant = try await bench.world.tenant(devices: 2)
            let one = try await bench.world.submit(tenant, [DeviceID](repeating: tenant.all[0], count: 3))
            let two = try await bench.world.submit(tenant, [DeviceID](repeating: tenant.all[1], count: 3))
            for job in [one.job, two.job] { try await controls(bench).pause(job, scope: tenant.scope) }
            await bench.front.offer([], and: [tenant.organization.queue()])
            #expect(try await station.refill(bench, tenant) == 0)
            try await controls(bench).resume(one.job, scope: tenant.scope)
            #expect(try await station.refill(bench, tenant) == 3)
            #expect(Set(try await bench.claim().map(\.run)).isSubset(of: one.runs.map(\.run)))
        }
    }

    @Test("Of an organization with limits, too, a job flows as soon as it is resumed")
    func limited() async throws {
        try await with { bench, station in
            let tenant = try await bench.world.tenant(devices: 2)
            try await bench.world.api.setRunLimits(
                RunLimits(running: [RunLane(.device, ""): 100]), of: tenant.organization, scope: tenant.scope)
            _ = try await bench.reconciler.checkLimits()
            let (job, _) = try await bench.world.submit(tenant, tenant.all)
            try await controls(bench).pause(job, scope: tenant.scope)
            await bench.front.offer([], and: [tenant.organization.queue()])
            #expect(try await station.refill(bench, tenant) == 0)
            try await controls(bench).resume(job, scope: tenant.scope)
            #expect(try await station.refill(bench, tenant) == 2)
        }
    }

    @Test(
        "The backlog of a paused kind is walked in bounded steps, and flows as soon as the pause is lifted",
        arguments: [false, true])
    func kind(everywhere: Bool) async throws {
        try await with { bench, station in
            let tenant = try await bench.world.tenant(devices: 3)
            _ = try await bench.world.submit(tenant, (0..<5_000).map { tenant.all[$0 % 3] })
            let scope = QueueScope(organization: everywhere ? nil : tenant.organization, kind: .script)
            let level: Level = everywhere ? .platform : .organization(tenant.organization)
            let controls = controls(bench)
            _ = try await controls.pause(
                ControlRequest(scope, reason: nil), by: World.principal, level: level)
            await bench.front.offer([], and: [tenant.organization.queue()])
            let start = try await station.entriesRead(bench)
            #expect(try await station.refiller.refillOnce() == 0)
            #expect(try await station.entriesRead(bench) - start <= 2_500, "a step is bounded")
            #expect(try await station.refill(bench, tenant) == 0)
            let walked = try await station.entriesRead(bench)
            #expect(walked - start >= 5_000)
            for _ in 0..<5 {
                await bench.front.offer([], and: [tenant.organization.queue()])
                #expect(try await station.refill(bench, tenant) == 0)
            }
            #expect(try await station.entriesRead(bench) - walked <= 50)
            _ = try await controls.resume(ResumeRequest(scope), by: World.principal, level: level)
            #expect(try await station.refiller.refillOnce() > 200)
        }
    }
}
