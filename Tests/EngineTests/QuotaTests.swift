import Domain
import Ledger
import Postgres
import Streams
import Synchronization
import TestSupport
import Testing
import Trust
import Wire

@testable import Engine

/// What an organization may have open: what is over it is refused, alone, and told when there will be room.
@Suite(.serialized, .world) struct QuotaTests {
    private func ping(_ target: Target, key: String? = nil, hash: UInt8 = 1) -> JobRequest {
        JobRequest(job: NewJob(kind: .ping, target: target), idempotencyKey: key, requestHash: [hash])
    }

    private func set(_ bench: Bench, _ tenant: TestSupport.Tenant, runs: Int?, bytes: Int? = nil) async throws
    {
        try await bench.world.api.setOpenWorkMax(
            runs: runs, bytes: bytes, of: tenant.organization, scope: tenant.scope)
    }

    private func refusal(_ outcome: Result<AcceptedJob, EngineError>) -> EngineError? {
        switch outcome {
        case .success: nil
        case .failure(let error): error
        }
    }

    /// Ends all runs of a tenant as their devices would.
    private func finish(_ bench: Bench, _ tenant: TestSupport.Tenant) async throws {
        let runs = try await bench.world.worker.queuedRuns(
            of: [(tenant.organization.queue(.standard), after: ID(.zero))], limit: 100
        ).values.flatMap(\.self)
        let marked = try await bench.world.mark(runs, epoch: bench.front.epoch().id)
        _ = try await bench.world.gateway.take(marked.map { ($0.organization, $0.run, $0.token) })
        _ = try await bench.world.gateway.settle(
            marked.map {
                AttemptResult(
                    organization: $0.organization, device: $0.device, run: $0.run, attempt: $0.attempt,
                    token: $0.token, outcome: .succeeded, exitCode: 0, reason: nil, startedAt: nil,
                    finishedAt: .now(),
                    output: OutputRow(
                        stdoutHead: [], stdoutTail: [], stdoutBytes: 0, stderrHead: [], stderrTail: [],
                        stderrBytes: 0))
            })
    }

    @Test("Of a bulk what fits is taken and what does not is refused by organization, field, value and limit")
    func bulk() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 4)
            let other = try await bench.world.tenant()
            try await set(bench, tenant, runs: 5)
            let submitter = try bench.submitter()
            let outcomes = try await submitter.submit(
                [
                    ping(.devices(Array(tenant.all[..<3]))), ping(.devices(tenant.all)),
                    ping(.devices(other.all)), ping(.devices(Array(tenant.all[..<2]))),
                    ping(.devices([tenant.all[0]])),
                ], by: World.principal, level: .platform)
            #expect(outcomes.map { refusal($0)?.code } == [nil, .quotaExceeded, nil, nil, .quotaExceeded])
            let first = try #require(refusal(outcomes[1]))
            #expect(first.field == "openRuns" && first.retryAfterSeconds == 3_600, "nothing drains")
            #expect(first.message.contains("\(tenant.organization) would be 7; allowed are 5"))
            #expect(refusal(outcomes[4])?.message.contains("would be 6; allowed are 5") == true)
            #expect(try await bench.world.count("SELECT count(*) FROM runs") == 6)
            // Whoever is full stops nobody else.
            let later = try await submitter.submit(
                [ping(.devices([tenant.all[0]])), ping(.devices(other.all))], by: World.principal,
                level: .platform)
            #expect(later.map { refusal($0)?.code } == [.quotaExceeded, nil])
            let metrics = bench.front.metrics
            var text = Exposition()
            metrics.show(in: &text)
            let shown = text.text
            #expect(shown.contains(#"cloudrmm_job_refusals_total{reason="quotaExceeded"} 3"#))
            #expect(shown.contains(#"cloudrmm_job_refusals_total{reason="draining"} 0"#))
            #expect(
                shown.contains(
                    "cloudrmm_quota_refusals_total{organization=\"\(tenant.organization)\","
                        + "quota=\"openRuns\"} 3"))
        }
    }

    @Test(
        "A repeat of what was taken is answered as before while the quota is full; another body is not taken")
    func repeated() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            try await set(bench, tenant, runs: 1)
            for submitter in [try bench.submitter(), try bench.submitter()] {
                func submit(_ key: String?, _ hash: UInt8 = 1) async throws -> Result<
                    AcceptedJob, EngineError
                > {
                    try await submitter.submit(
                        [ping(.devices(tenant.all), key: key, hash: hash)], by: World.principal,
                        level: .organization(tenant.organization))[0]
                }
                let first = try await submit("key").get()
                #expect(try await submit("key").get() == first)
                #expect(refusal(try await submit("key", 2))?.code == .quotaExceeded)
                #expect(refusal(try await submit(nil))?.code == .quotaExceeded)
            }
            #expect(try await bench.world.count("SELECT count(*) FROM jobs") == 1)
        }
    }

    @Test("There is room again as soon as runs have ended, and nothing is held for what was not committed")
    func room() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 2)
            _ = try await Post.open(bench, holding: tenant.all)
            try await set(bench, tenant, runs: 2)
            let submitter = try bench.submitter()
            func submit() async throws -> Result<AcceptedJob, EngineError> {
                try await submitter.submit(
                    [ping(.devices(tenant.all))], by: World.principal,
                    level: .organization(tenant.organization)
                )[0]
            }
            try await bench.world.owner.execute(
                "ALTER TABLE jobs ADD CONSTRAINT no CHECK (kind <> 'ping') NOT VALID", scope: .none)
            for _ in 0..<3 { await #expect(throws: PostgresError.self) { _ = try await submit() } }
            try await bench.world.owner.execute("ALTER TABLE jobs DROP CONSTRAINT no", scope: .none)
            for _ in 0..<3 {
                _ = try await submit().get()
                #expect(refusal(try await submit())?.code == .quotaExceeded)
                try await finish(bench, tenant)
                _ = try await bench.world.worker.foldDeltas(limit: 10)
            }
        }
    }

    @Test("Callers of one process never pass the quota together, and the refusal of one is his alone")
    func together() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let other = try await bench.world.tenant()
            try await set(bench, tenant, runs: 10)
            let submitter = try bench.submitter()
            let request = ping(.devices(tenant.all))
            let requestOfOther = ping(.devices(other.all))
            let taken = try await withThrowingTaskGroup(of: [Bool].self) { group in
                for _ in 0..<40 {
                    group.addTask {
                        try await submitter.submit(
                            [request, requestOfOther], by: World.principal, level: .platform
                        ).map { outcome in if case .success = outcome { true } else { false } }
                    }
                }
                var taken = [0, 0]
                for try await part in group { for index in 0..<2 where part[index] { taken[index] += 1 } }
                return taken
            }
            #expect(taken[0] <= 10 && taken[0] > 0 && taken[1] == 40)
            #expect(
                try await bench.world.count(
                    "SELECT count(*) FROM runs WHERE organization_id = \(tenant.organization)") == taken[0])
            // What came in while use was read may have counted twice, until now.
            for _ in stride(from: taken[0], to: 10, by: 1) {
                _ = try await submitter.submit([request], by: World.principal, level: .platform)[0].get()
            }
            let full = try await submitter.submit([request], by: World.principal, level: .platform)[0]
            #expect(refusal(full)?.code == .quotaExceeded)
        }
    }

    @Test("A job over a site or an organization counts all its devices when it is submitted")
    func targets() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(sites: 2, devices: 3)
            try await set(bench, tenant, runs: 5)
            let submitter = try bench.submitter()
            func submit(_ target: Target) async throws -> Result<AcceptedJob, EngineError> {
                try await submitter.submit(
                    [ping(target)], by: World.principal, level: .organization(tenant.organization))[0]
            }
            let alone = try #require(refusal(try await submit(.organization(tenant.organization))))
            #expect(alone.code == .quotaExceeded && alone.retryAfterSeconds == 3_600)
            #expect(alone.message.contains("would be 6; allowed are 5; the job alone has 6"))
            _ = try await submit(.site(tenant.sites[0])).get()
            let over = try #require(refusal(try await submit(.site(tenant.sites[1]))))
            #expect(over.code == .quotaExceeded && over.message.contains("would be 6; allowed are 5"))
            _ = try await submit(.devices(tenant.devices[1].dropLast())).get()
        }
    }

    @Test("Bytes are a quota of their own")
    func bytes() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            try await set(bench, tenant, runs: nil, bytes: 5_000)
            let submitter = try bench.submitter()
            func submit(_ bytes: Int) async throws -> Result<AcceptedJob, EngineError> {
                let script = Script(.sh, String(repeating: "#", count: bytes))
                let job = NewJob(kind: .script, target: .devices(tenant.all), script: script)
                return try await submitter.submit(
                    [JobRequest(job: job, idempotencyKey: nil, requestHash: [])], by: World.principal,
                    level: .organization(tenant.organization))[0]
            }
            _ = try await submit(3_000).get()
            let over = try #require(refusal(try await submit(3_000)))
            #expect(over.code == .quotaExceeded && over.field == "openBytes")
            #expect(over.message.contains("allowed are 5000"))
            _ = try await submit(10).get()
        }
    }

    @Test("The wait is what the excess takes at the tenant's own rate, from a second to an hour")
    func wait() async throws {
        #expect(QuotaWatch.seconds(1, 0) == 3_600, "nothing drains")
        #expect(QuotaWatch.seconds(1, nil) == 60, "not known")
        #expect(QuotaWatch.seconds(1, 50) == 1)
        #expect(QuotaWatch.seconds(100, 50) == 2 && QuotaWatch.seconds(101, 50) == 3)
        #expect(QuotaWatch.seconds(1e9, 0.001) == 3_600)
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 3)
            try await set(bench, tenant, runs: 2)
            // 75 runs in the minute and a quarter, at most, that is read: a second each, or a little less.
            bench.front.tally.ended(Array(repeating: tenant.organization, count: 75))
            try await bench.front.tally.report(to: bench.front.parts)
            let submitter = try bench.submitter()
            let target = Array(tenant.all[..<2])
            _ = try await submitter.submit(
                [ping(.devices(target))], by: World.principal, level: .organization(tenant.organization))[0]
                .get()
            let outcome = try await submitter.submit(
                [ping(.devices(target))], by: World.principal, level: .organization(tenant.organization))[0]
            let seconds = try #require(refusal(outcome)?.retryAfterSeconds)
            #expect((1...2).contains(seconds))
            #expect(refusal(outcome)?.message.contains("room for it is expected in \(seconds) s") == true)
        }
    }

    @Test(
        "While there is room enough nothing is read; what others have taken is seen when it gets less, or old"
    )
    func believed() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            try await set(bench, tenant, runs: 80)
            let begin = ContinuousClock.now
            let clock = Clock(begin)
            let watch = QuotaWatch(ledger: bench.world.api, front: bench.front) { clock.now }
            func sift(_ n: Int) async throws -> Int {
                var jobs = (0..<n).map { ($0, bench.world.job(tenant, devices: tenant.all)) }
                    .map { (index: $0.0, job: $0.1) }
                var outcomes = [Result<AcceptedJob, EngineError>?](repeating: nil, count: n)
                try await watch.sift(&jobs, &outcomes, scope: tenant.scope)
                watch.end(jobs.map { ($0.job, isCommitted: true) })
                return jobs.count
            }
            // Each has taken what it says without a commit, as another process would have it.
            func others(_ n: Int) async throws {
                try await bench.world.owner.execute(
                    "UPDATE queue_usage SET runs = \(n)", scope: .none)
            }
            #expect(try await sift(5) == 5)
            try await others(80)
            #expect(try await sift(5) == 5, "an eighth of the room is let through")
            #expect(try await sift(1) == 0, "then it is read")
            try await others(0)
            #expect(try await sift(1) == 1, "nothing is refused by what was read before")
            try await others(80)
            #expect(try await sift(1) == 1)
            clock.advance(QuotaWatch.life)
            #expect(try await sift(1) == 0, "what is old is read anew")
            // A quota that is taken back, or set, is heeded likewise.
            try await set(bench, tenant, runs: nil)
            #expect(try await sift(100) == 100)
        }
    }
}

/// A clock that stands until it is moved.
private final class Clock: Sendable {
    private let moment: Mutex<ContinuousClock.Instant>

    init(_ begin: ContinuousClock.Instant) { moment = Mutex(begin) }

    var now: ContinuousClock.Instant { moment.withLock { $0 } }
    func advance(_ duration: Duration) { moment.withLock { $0 += duration } }
}
