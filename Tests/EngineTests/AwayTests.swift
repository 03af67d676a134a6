import Domain
import Ledger
import Postgres
import Streams
import TestSupport
import Testing
import Trust
import Wire

@testable import Engine

/// Work for devices that nobody holds waits for them from its commit on.
@Suite(.serialized, .world) struct AwayTests {
    /// Submits a job for devices, and says what its runs have come to.
    @discardableResult
    private static func submit(
        _ bench: Bench, _ tenant: Tenant, _ devices: [DeviceID], notBefore: Instant? = nil
    ) async throws -> [DeviceID: RunState] {
        var job = NewJob(kind: .ping, target: .devices(devices))
        job.notBefore = notBefore
        let accepted = try await bench.submitter().submit(
            [JobRequest(job: job, idempotencyKey: nil, requestHash: [])], by: World.principal,
            level: .organization(tenant.organization))[0].get()
        return Dictionary(
            uniqueKeysWithValues: try await bench.world.api.runs(
                of: accepted.id, after: nil, limit: 10, scope: tenant.scope
            ).map { ($0.device, $0.state) })
    }

    @Test("What nobody holds waits, what a gateway holds is queued, and what has its time is scheduled")
    func states() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 2)
            let (held, away) = (tenant.all[0], tenant.all[1])
            let post = try await Post.open(bench, holding: [held])
            #expect(try await Self.submit(bench, tenant, tenant.all) == [held: .queued, away: .waiting])
            #expect(try await bench.depth(tenant).ready == [.standard: 1])
            let later = try await Self.submit(bench, tenant, [away], notBefore: .now() + .seconds(60))
            #expect(later == [away: .scheduled])
            try await bench.dispatchAll()
            #expect(try await post.attempts().map(\.device) == [held])
            try await post.connect([away], of: tenant)
            try await bench.dispatchAll()
            #expect(try await post.attempts().map(\.device) == [away])
        }
    }

    @Test("A device that comes between the look and the commit does not wait")
    func comesMeanwhile() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench)
            // The commit is held until the device has come, whose gateway finds nothing that waits.
            let states = try await withThrowingTaskGroup(of: [DeviceID: RunState]?.self) { tasks in
                try await bench.world.owner.transaction(scope: .none) { transaction in
                    _ = try await transaction.execute("LOCK TABLE jobs IN SHARE MODE")
                    tasks.addTask { try await Self.submit(bench, tenant, tenant.all) }
                    repeat {
                        await Task.yield()
                    } while try await !bench.world.isHeld()
                    try await post.connect(tenant.all, of: tenant)
                }
                return try await tasks.next()
            }
            #expect(states == [tenant.all[0]: .queued])
            try await bench.dispatchAll()
            #expect(try await post.attempts().map(\.device) == tenant.all)
        }
    }

    @Test("A missing presence means nothing in a new data set: the work goes through the queue")
    func settling() async throws {
        try await Bench.run(settling: .seconds(3_600)) { bench in
            let tenant = try await bench.world.tenant()
            #expect(try await Self.submit(bench, tenant, tenant.all) == [tenant.all[0]: .queued])
        }
    }

    @Test("What was committed as waiting by a process that died then is woken by a worker")
    func dies() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let job = bench.world.job(tenant, devices: tenant.all)
            let done = try await bench.world.api.submit([job], away: Set(tenant.all), scope: tenant.scope)
            #expect(done.outcomes == [.accepted(.active)] && done.queued.isEmpty)
            let run = try #require(done.waiting.first?.run)
            _ = try await Post.open(bench, holding: tenant.all)
            #expect(try await bench.reconciler.wakePresent(after: (ID(.zero), ID(.zero))) == nil)
            #expect(try await bench.world.state(run) == .queued)
        }
    }
}

extension World {
    /// Whether somebody waits for a lock on the table of jobs.
    fileprivate func isHeld() async throws -> Bool {
        try await owner.query(
            """
            SELECT EXISTS (
                SELECT FROM pg_locks
                WHERE relation = 'jobs'::regclass AND NOT granted
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
            """, scope: .none
        ) { row in try row.decode(Bool.self) }.first ?? false
    }
}
