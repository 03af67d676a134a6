import Domain
import Ledger
import Postgres
import Streams
import TestSupport
import Testing
import Trust
import Wire

@testable import Engine

/// Cancels and pauses of what was submitted: PostgreSQL decides, the queue and the gateways follow at once.
@Suite(.serialized, .world) struct JobControlTests {
    private static func controls(_ bench: Bench) -> QueueControls {
        QueueControls(ledger: bench.world.api, front: bench.front, judge: World.judge, logger: .quiet)
    }

    private static func refusal(_ body: () async throws -> Void) async throws -> EngineError {
        try await #require(throws: EngineError.self) { try await body() }
    }

    @Test("A cancelled run leaves the queue at once; one that was sent is told to its gateway at once")
    func run() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 2)
            let submitter = try bench.submitter()
            let post = try await Post.open(bench, holding: [tenant.all[0]])
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer([runs[0]])
            try await bench.dispatchAll()
            let attempts = try await post.attempts()
            _ = try await post.take(attempts)
            await bench.front.offer([runs[1]])
            #expect(try await bench.depth(tenant).ready == [.standard: 1])
            try await submitter.cancel(runs[1].run, scope: tenant.scope)
            #expect(try await bench.depth(tenant).ready.values.reduce(0, +) == 0)
            #expect(try await bench.world.state(runs[1].run) == .cancelled)
            try await submitter.cancel(runs[0].run, scope: tenant.scope)
            guard case .cancel(let items)? = try await post.letters().first else {
                Issue.record("the gateway was not told")
                return
            }
            #expect(items.map(\.run) == [runs[0].run] && items[0].token == attempts[0].token)
            try await post.finish(attempts, .cancelled)
            let late = try await Self.refusal { try await submitter.cancel(runs[0].run, scope: tenant.scope) }
            #expect(late.code == .conflict && late.message.contains("cancelled"))
            let none: RunID = fresh()
            let unseen = try await Self.refusal { try await submitter.cancel(none, scope: tenant.scope) }
            #expect(unseen.code == .notFound)
        }
    }

    @Test("A cancel of a job of more runs than a chunk has ends all that were not sent before it answers")
    func largeJob() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 1_100)
            let (job, _) = try await bench.world.submit(tenant, tenant.all)
            try await bench.submitter().cancel(job, scope: tenant.scope)
            #expect(try await bench.world.count("SELECT count(*) FROM runs") == 0)
            try await bench.world.clear()
        }
    }

    @Test("A filter cancels what it finds; above a threshold only with the exact number")
    func filter() async throws {
        try await Bench.run { bench in
            let (tenant, other) = (try await bench.world.tenant(), try await bench.world.tenant())
            let submitter = try bench.submitter()
            let jobs = (0...Limits.uncountedCancelsMax).map { _ in
                bench.world.job(tenant, devices: tenant.all)
            }
            let runs = try await bench.world.api.submit(jobs, scope: tenant.scope).queued
            let (kept, _) = try await bench.world.submit(other, other.all)
            await bench.front.offer(runs)
            var request = CancelRequest(organization: tenant.organization)
            request.dryRun = true
            #expect(
                try await submitter.cancel(request, scope: .platform)
                    == CancelledJobs(matched: jobs.count, dryRun: true))
            request.dryRun = false
            let uncounted = try await Self.refusal {
                _ = try await submitter.cancel(request, scope: .platform)
            }
            #expect(uncounted.code == .invalid && uncounted.field == "expectedCount")
            #expect(uncounted.message.contains("\(jobs.count)") && uncounted.message.contains("100"))
            request.expectedCount = jobs.count - 1
            let wrong = try await Self.refusal { _ = try await submitter.cancel(request, scope: .platform) }
            #expect(wrong.code == .conflict && wrong.field == "expectedCount")
            #expect(try await bench.world.count("SELECT count(*) FROM runs") == jobs.count + 1)
            request.expectedCount = jobs.count
            #expect(
                try await submitter.cancel(request, scope: .platform)
                    == CancelledJobs(matched: jobs.count, cancelled: jobs.count))
            #expect(try await bench.world.count("SELECT count(*) FROM runs") == 1)
            #expect(try await bench.depth(tenant).ready.values.reduce(0, +) == 0)
            #expect(try await bench.world.api.job(kept, scope: .platform)?.cancelRequestedAt == nil)
            request.expectedCount = nil
            let none = try await Self.refusal { _ = try await submitter.cancel(request, scope: .platform) }
            #expect(none.code == .notFound && none.field == "organizationId")
            // Another's organization has nothing that this scope sees.
            let foreign = try await Self.refusal {
                _ = try await submitter.cancel(
                    CancelRequest(organization: other.organization), scope: tenant.scope)
            }
            #expect(foreign.code == .notFound)
        }
    }

    @Test("More jobs than the limit are refused whole")
    func tooMany() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let (job, _) = try await bench.world.submit(tenant, tenant.all)
            try await bench.world.owner.execute(
                """
                INSERT INTO jobs (organization_id, id, kind, state, priority, statement, timeout_seconds,
                                  maximum_attempts, idempotent, created_by, expires_at)
                SELECT organization_id, crmm_uuid7(), kind, state, priority, statement, timeout_seconds,
                       maximum_attempts, idempotent, created_by, expires_at
                FROM jobs, generate_series(1, \(Limits.cancelledJobsMax)) WHERE id = \(job)
                """, scope: .none)
            let request = CancelRequest(organization: tenant.organization)
            let submitter = try bench.submitter()
            let refused = try await Self.refusal {
                _ = try await submitter.cancel(request, scope: tenant.scope)
            }
            #expect(refused.code == .invalid && refused.field == "organizationId")
            #expect(refused.message.contains("\(Limits.cancelledJobsMax)"))
            #expect(
                try await bench.world.count("SELECT count(*) FROM jobs WHERE cancel_requested_at IS NOT NULL")
                    == 0)
            try await bench.world.clear()
        }
    }

    @Test("A paused job starts nothing though it is claimed, and flows without a scan when it is resumed")
    func pause() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 2)
            let post = try await Post.open(bench, holding: tenant.all)
            let controls = Self.controls(bench)
            let (job, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            try await controls.pause(job, scope: tenant.scope)
            try await bench.dispatchAll()
            #expect(try await post.attempts().isEmpty)
            #expect(try await bench.world.state(runs[0].run) == .queued)
            try await controls.resume(job, scope: tenant.scope)
            _ = try await bench.refiller.refillOnce()
            try await bench.dispatchAll()
            #expect(Set(try await post.attempts().map(\.run)) == Set(runs.map(\.run)))
            let again = try await Self.refusal { try await controls.resume(job, scope: tenant.scope) }
            #expect(again.code == .conflict && again.message == "the job is not paused: it is active")
            for body in [controls.pause, controls.resume] {
                let none: JobID = fresh()
                let unseen = try await Self.refusal { try await body(none, tenant.scope) }
                #expect(unseen.code == .notFound)
            }
        }
    }
}
