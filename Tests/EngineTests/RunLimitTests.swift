import Domain
import Ledger
import Postgres
import Redis
import TestSupport
import Testing

@testable import Engine
@testable import Streams

/// Limits finer than an organization's cap hold, and hold nobody else up.
@Suite(.serialized, .world) struct RunLimitTests {
    private func limit(
        _ bench: Bench, _ tenant: Tenant, _ running: [RunLane: Int], rate: RunLimits.Rate? = nil
    ) async throws {
        try await bench.world.api.setRunLimits(
            RunLimits(running: running, rate: rate), of: tenant.organization, scope: tenant.scope)
        _ = try await bench.reconciler.checkLimits()
    }

    private func refill(_ bench: Bench, _ refiller: Refiller? = nil, steps: Int = 20) async throws -> Int {
        var admitted = 0
        for _ in 0..<steps { admitted += try await (refiller ?? bench.refiller).refillOnce() }
        return admitted
    }

    private func mark(_ bench: Bench, _ tenant: Tenant) async {
        await bench.front.offer([], and: [tenant.organization.queue()])
    }

    /// Moves claims on as a worker and a gateway would, to running in PostgreSQL and the queue.
    private func dispatch(_ bench: Bench, _ claims: [Claim]) async throws -> [MarkedRun] {
        let marked = try await bench.mark(claims, gateway: fresh())
        try await bench.queue.acknowledge(
            dispatched: claims, dropped: [], deadlineMilliseconds: 1, epoch: bench.front.epoch())
        return marked
    }

    @Test("A job at its limit holds up nobody behind it, and goes on when one of its runs has ended")
    func noBlocking() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 3)
            try await limit(bench, tenant, [RunLane(.job, ""): 2])
            let long = try await bench.world.submit(
                tenant, (0..<3_000).map { tenant.all[$0 % 3] }
            )
            let behind = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(long.runs.suffix(1) + behind.runs)
            #expect(try await bench.depth(tenant).ready.isEmpty, "the fast path marks only")
            #expect(try await refill(bench) == 4)
            let claims = try await bench.claim()
            #expect(
                Set(claims.map(\.run))
                    == Set(long.runs.map(\.run).sorted()[..<2] + behind.runs.map(\.run).sorted()[..<2]))
            _ = try await dispatch(bench, claims)
            let ended = try #require(claims.first { $0.run == long.runs.map(\.run).min() })
            let end = Settled(
                organization: ended.organization, run: ended.run, generation: 1, device: ended.device)
            #expect(try await bench.queue.settle([end], epoch: bench.front.epoch()) == 1)
            #expect(try await bench.depth(tenant).marked, "its lane has more")
            #expect(try await bench.refiller.refillOnce() == 1)
            #expect(try await bench.claim().map(\.run) == [long.runs.map(\.run).sorted()[2]])
        }
    }

    @Test("A backlog that is blocked as a whole is walked once, not each time it is marked")
    func noWalks() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 3)
            let pool = try bench.world.pool(user: "crmm_worker", connections: 1)
            let refiller = Refiller(
                ledger: Ledger(pool: pool), front: bench.front, logger: .quiet,
                now: { [now = ContinuousClock.now] in now })
            func entriesRead() async throws -> Int {
                try await pool.execute("SELECT pg_stat_force_next_flush()", scope: .none)
                return try await bench.world.count(
                    "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'runs_queued'")
            }
            do {
                try await limit(bench, tenant, [RunLane(.job, ""): 2])
                _ = try await bench.world.submit(tenant, (0..<5_000).map { tenant.all[$0 % 3] })
                await mark(bench, tenant)
                let start = try await entriesRead()
                #expect(try await refill(bench, refiller) == 2)
                #expect(try await !bench.depth(tenant).marked)
                let walked = try await entriesRead()
                #expect(walked - start >= 5_000)
                for _ in 0..<5 {
                    await mark(bench, tenant)
                    #expect(try await refiller.refillOnce() == 0)
                    #expect(try await !bench.depth(tenant).marked)
                }
                #expect(try await entriesRead() - walked <= 50)
            } catch {
                await pool.close()
                throw error
            }
            await pool.close()
        }
    }

    @Test("Two workers that refill, and a rebuild, admit no more than a limit allows")
    func rebuild() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 8)
            try await limit(bench, tenant, [RunLane(.kind, "script"): 3])
            _ = try await bench.world.submit(tenant, tenant.all)
            let other = Refiller(ledger: bench.world.worker, front: bench.front, logger: .quiet)
            await mark(bench, tenant)
            async let one = refill(bench)
            async let two = refill(bench, other)
            let admitted = try await (one, two)
            #expect(admitted.0 + admitted.1 == 3)
            let claims = try await bench.claim()
            _ = try await dispatch(bench, Array(claims.prefix(2)))
            try await bench.wipe()
            #expect(try await bench.rebuilder.checkOnce())
            #expect(try await refill(bench) == 1, "two are on devices")
            #expect(try await refill(bench, other) == 0)
        }
    }

    @Test("A limit that is set later counts what runs and waits already; without it all goes on")
    func late() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 6)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(Array(runs[..<2]))
            _ = try await dispatch(bench, Array(try await bench.claim().prefix(1)))
            try await limit(bench, tenant, [RunLane(.site, ""): 3])
            await mark(bench, tenant)
            #expect(try await refill(bench) == 1)
            try await limit(bench, tenant, [:])
            #expect(try await bench.depth(tenant).marked)
            let other = Refiller(ledger: bench.world.worker, front: bench.front, logger: .quiet)
            #expect(try await refill(bench, other) == 3)
        }
    }

    @Test("Runs of a paused job and of a wave that was not released are passed by")
    func gates() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 2)
            try await limit(bench, tenant, [RunLane(.device, ""): 100])
            let paused = try await bench.world.submit(tenant, tenant.all)
            let gated = try await bench.world.submit(tenant, tenant.all)
            let free = try await bench.world.submit(tenant, tenant.all)
            try await bench.world.owner.execute(
                "UPDATE jobs SET state = 2 WHERE id = \(paused.job)", scope: .none)
            try await bench.world.owner.execute(
                "UPDATE runs SET wave = 1 WHERE job_id = \(gated.job)", scope: .none)
            await mark(bench, tenant)
            #expect(try await refill(bench) == 2)
            #expect(Set(try await bench.claim().map(\.run)) == Set(free.runs.map(\.run)))
        }
    }

    @Test("A run that was dispatched by a worker which died before acknowledging goes on counting")
    func crashed() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 3)
            try await limit(bench, tenant, [RunLane(.job, ""): 1])
            _ = try await bench.world.submit(tenant, tenant.all)
            _ = try await Post.open(bench, holding: tenant.all)
            await mark(bench, tenant)
            #expect(try await refill(bench) == 1)
            let claims = try await bench.claim()
            #expect(try await bench.mark(claims, gateway: fresh()).count == 1)
            try await bench.lapseLeases()
            _ = try await bench.queue.reclaim(now: 10, epoch: bench.front.epoch())
            try await bench.dispatchAll()
            #expect(try await bench.depth(tenant).running == 1)
            await mark(bench, tenant)
            #expect(try await refill(bench) == 0)
        }
    }

    @Test(
        "No other run takes the slot of one that was dispatched by a worker which died before acknowledging")
    func slotOfCrashed() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 3)
            _ = try await bench.world.api.setCap(1, of: tenant.organization, scope: .platform)
            _ = try await bench.reconciler.compareEntitlements()
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            _ = try await Post.open(bench, holding: tenant.all)
            await bench.front.offer(runs)
            let claims = try await bench.claim()
            #expect(try await bench.mark(claims, gateway: fresh()).count == 1)
            try await bench.lapseLeases()
            _ = try await bench.reconciler.sweepOnce()
            #expect(try await bench.depth(tenant).running == 1)
            #expect(try await bench.claim("other").isEmpty)
        }
    }

    @Test("A rate holds over both workers")
    func rate() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 9)
            try await limit(bench, tenant, [:], rate: RunLimits.Rate(perSecond: 0.01, burst: 4))
            _ = try await bench.world.submit(tenant, tenant.all)
            let other = Refiller(ledger: bench.world.worker, front: bench.front, logger: .quiet)
            await mark(bench, tenant)
            let admitted = try await refill(bench)
            let more = try await refill(bench, other)
            #expect(admitted + more == 4)
        }
    }
}
