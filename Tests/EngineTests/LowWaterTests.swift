import Domain
import Ledger
import Logging
import Postgres
import Synchronization
import TestSupport
import Testing

@testable import Engine
@testable import Streams

/// Refill begins at a low water instead of walking dead rows, and what comes below it is served all the same.
@Suite(.serialized, .world) struct LowWaterTests {
    /// A refiller on one connection and a clock that stands until it is moved.
    private struct Station: Sendable {
        let pool: PostgresPool
        let refiller: Refiller
        private let clock: Clock

        private final class Clock: Sendable {
            let time = Mutex(ContinuousClock.now)
            let step = Mutex(Duration.zero)
        }

        init(_ bench: Bench) throws {
            pool = try bench.world.pool(user: "crmm_worker", connections: 1)
            let clock = Clock()
            self.clock = clock
            refiller = Refiller(
                ledger: Ledger(pool: pool), front: bench.front,
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
                now: {
                    clock.time.withLock { time in
                        time += clock.step.withLock(\.self)
                        return time
                    }
                })
        }

        /// Lets the low water become too old to be believed.
        func age(_ time: Duration = Refiller.lowWaterLife) { clock.time.withLock { $0 += time } }

        /// Lets so much time pass before each reading of the clock from now on.
        func slow(_ step: Duration) { clock.step.withLock { $0 = step } }

        /// How many entries of the index that refill walks its connection has read so far.
        func entriesRead(_ bench: Bench) async throws -> Int {
            try await pool.execute("SELECT pg_stat_force_next_flush()", scope: .none)
            return try await bench.world.count(
                "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'runs_queued'")
        }
    }

    private func run(_ body: (Bench, Station) async throws -> Void) async throws {
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

    /// Marks an organization, as whoever has work for it would.
    private func mark(_ tenant: Tenant, _ bench: Bench) async throws {
        await bench.front.offer([], and: [tenant.organization.queue()])
        try #require(try await bench.depth(tenant).marked)
    }

    @Test("While a snapshot keeps 20,000 dead rows at the head, they are walked once and then passed by")
    func deadRows() async throws {
        try await run { bench, station in
            let tenant = try await bench.world.tenant(devices: 3)
            try await bench.world.owner.execute(
                """
                INSERT INTO runs (organization_id, id, job_id, device_id, site_id, state, priority, lane,
                                  generation, expires_at, deadline)
                SELECT \(tenant.organization), crmm_uuid7(), gen_random_uuid(), gen_random_uuid(),
                       gen_random_uuid(), 1, \(Priority.standard), 1, 1, now() + interval '1 hour',
                       now() + interval '1 hour'
                FROM generate_series(1, 20000)
                """, scope: .none)
            _ = try await bench.world.submit(tenant, Array(tenant.all[..<2]))
            try await bench.world.owner.transaction(scope: .none, isolation: .repeatableRead) { reader in
                try await reader.execute("SELECT count(*) FROM runs")
                try await bench.world.owner.execute(
                    "UPDATE runs SET state = 2 WHERE device_id <> ALL(\(tenant.all))", scope: .none)
                let before = try await station.entriesRead(bench)
                try await mark(tenant, bench)
                #expect(try await station.refiller.refillOnce() == 2)
                let walked = try await station.entriesRead(bench)
                #expect(walked - before >= 20_000, "from the start")
                let (_, more) = try await bench.world.submit(tenant, [tenant.all[2]])
                try await mark(tenant, bench)
                #expect(try await station.refiller.refillOnce() == more.count)
                let passed = try await station.entriesRead(bench) - walked
                // What other connections read before may be counted late: some dozens, not 20,000.
                #expect(passed <= 200, "from the low water")
            }
        }
    }

    @Test("A run that is queued again below the low water is served by the next look from the start")
    func requeued() async throws {
        try await run { bench, station in
            let tenant = try await bench.world.tenant(devices: 3)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            let old = try #require(runs.min { $0.run < $1.run })
            #expect(try await bench.world.worker.wait([old]) == [old.run])
            try await mark(tenant, bench)
            #expect(try await station.refiller.refillOnce() == 2)
            _ = try await bench.world.gateway.reconnect([(tenant.organization, old.device)])
            try await mark(tenant, bench)
            #expect(try await station.refiller.refillOnce() == 0)
            #expect(try await bench.depth(tenant).marked, "a look from the low water clears no mark")
            station.age()
            #expect(try await station.refiller.refillOnce() == 1)
            #expect(try await !bench.depth(tenant).marked)
        }
    }

    @Test("A run that is committed late, with an id below the low water, is served as well")
    func lateCommit() async throws {
        try await run { bench, station in
            let tenant = try await bench.world.tenant(devices: 3)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            let first = try #require(runs.map(\.run).min())
            let late = RunID(UniqueID(high: first.value.high - 1, low: first.value.low))
            try await bench.world.owner.transaction(scope: .none) { transaction in
                try await transaction.execute(
                    """
                    INSERT INTO runs (organization_id, id, job_id, device_id, site_id, state, priority, lane,
                                      generation, expires_at, deadline)
                    SELECT organization_id, \(late), job_id, device_id, site_id, state, priority, lane,
                           generation, expires_at, deadline
                    FROM runs WHERE id = \(first)
                    """)
                try await mark(tenant, bench)
                #expect(try await station.refiller.refillOnce() == 3)
            }
            try await mark(tenant, bench)
            #expect(try await station.refiller.refillOnce() == 0)
            station.age()
            #expect(try await station.refiller.refillOnce() == 1)
            #expect(try await bench.claim().map(\.run).contains(late))
        }
    }

    @Test(
        "A mark is cleared at refill's own pace, unless looks from the start are slow",
        arguments: [(Duration.zero, false), (.milliseconds(50), true)])
    func pace(took: Duration, staysMarked: Bool) async throws {
        try await run { bench, station in
            let tenant = try await bench.world.tenant(devices: 1)
            _ = try await bench.world.submit(tenant, tenant.all)
            station.slow(took)
            try await mark(tenant, bench)
            #expect(try await station.refiller.refillOnce() == 1)
            #expect(try await !bench.depth(tenant).marked)
            station.slow(.zero)
            // The run waits, so it is marked again and again.
            station.age(.milliseconds(500))
            try await mark(tenant, bench)
            #expect(try await station.refiller.refillOnce() == 0)
            #expect(try await bench.depth(tenant).marked == staysMarked)
            station.age()
            #expect(try await station.refiller.refillOnce() == 0)
            #expect(try await !bench.depth(tenant).marked)
        }
    }
}
