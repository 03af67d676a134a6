import Domain
import Ledger
import Logging
import Postgres
import Redis
import Streams
import TestSupport
import Testing
import Trust
import Wire

@testable import Engine

/// What runs wait for, seeded on real servers and named by the explainer.
@Suite(.serialized, .world) struct ExplainTests {
    private func explainer(_ bench: Bench) -> Explainer {
        Explainer(ledger: bench.world.api, rates: QueueRates(front: bench.front))
    }

    private func explain(
        _ bench: Bench, _ run: RunID, _ tenant: TestSupport.Tenant
    ) async throws -> (facts: RunFacts, explanation: RunExplanation) {
        let found = try await explainer(bench).facts(of: run, scope: tenant.scope)
        let facts = try #require(found)
        return (facts, RunExplanation(facts))
    }

    private func change(_ bench: Bench, _ statement: SQL) async throws {
        try await bench.world.owner.execute(statement, scope: .none)
    }

    /// Runs that are queued and offered, one for each device given.
    private func queue(
        _ bench: Bench, _ tenant: TestSupport.Tenant, _ devices: [DeviceID]
    ) async throws -> (job: JobID, runs: [QueuedRun]) {
        let made = try await bench.world.submit(tenant, devices)
        await bench.front.offer(made.runs)
        return made
    }

    private func pause(_ bench: Bench, _ scope: QueueScope, _ level: Level = .platform) async throws {
        let controls = QueueControls(
            ledger: bench.world.api, front: bench.front, judge: World.judge, logger: .quiet)
        _ = try await controls.pause(
            ControlRequest(scope, reason: "a storm"), by: World.principal, level: level)
    }

    @Test("Each pause is named by what it covers, with who set it, since when and why")
    func pauses() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            _ = try await Post.open(bench, holding: tenant.all)
            let run = try await queue(bench, tenant, tenant.all).runs[0].run
            let organization = tenant.organization
            let steps: [(QueueScope, Level, WaitCause)] = [
                (
                    QueueScope(organization: organization, priority: .standard),
                    .organization(organization), .priorityPaused
                ),
                (QueueScope(kind: .script), .platform, .kindPaused),
                (QueueScope(organization: organization), .organization(organization), .organizationPaused),
                (QueueScope(), .platform, .everythingPaused),
            ]
            try await pause(bench, QueueScope(kind: .ping))
            #expect(try await explain(bench, run, tenant).explanation.cause == .turn)
            for (index, (scope, level, cause)) in steps.enumerated() {
                try await pause(bench, scope, level)
                let (facts, explanation) = try await explain(bench, run, tenant)
                #expect(explanation.cause == cause)
                #expect(explanation.others == steps[..<index].reversed().map(\.2))
                #expect(explanation.sentence.contains("paused since"))
                #expect(explanation.sentence.contains("by the platform") == (level == .platform))
                #expect(explanation.sentence.hasSuffix(": a storm."))
                #expect(explanation.since.map { $0 <= facts.now } == true)
            }
        }
    }

    @Test("Times, backoffs, silent and offline devices are named with their times")
    func outsideTheQueue() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let later = Instant.now() + .seconds(600)
            var job = bench.world.job(tenant, devices: tenant.all)
            job.retry = RetryPolicy(
                maximumAttempts: 3, backoffSeconds: 600, maximumBackoffSeconds: 600, outcomes: [.failed])
            (job.maximumAttempts, job.notBefore) = (3, later)
            _ = try await bench.world.api.submit([job], scope: tenant.scope)
            let run = try #require(
                try await bench.world.api.runs(of: job.id, after: nil, limit: 1, scope: tenant.scope).first
            ).id
            let scheduled = try await explain(bench, run, tenant).explanation
            #expect(scheduled.cause == .notBefore)
            #expect(scheduled.estimatedStart.map { abs(($0 - later) / .seconds(1)) < 0.2 } == true)

            try await change(bench, "UPDATE runs SET due_at = now() WHERE due_at IS NOT NULL")
            #expect(try await bench.reconciler.queueDue())
            _ = try await bench.refiller.refillOnce()
            let absent = try await explain(bench, run, tenant)
            #expect(absent.explanation.cause == .deviceOffline && absent.facts.state == .queued)
            try await bench.dispatchAll()
            try await change(bench, "UPDATE devices SET last_seen_at = now() - interval '1 hour'")
            let waiting = try await explain(bench, run, tenant)
            #expect(waiting.facts.state == .waiting && waiting.explanation.cause == .deviceOffline)
            #expect(waiting.explanation.since == waiting.facts.device.lastSeenAt)
            #expect(waiting.explanation.since.map { waiting.facts.now - $0 >= .seconds(3_600) } == true)
            #expect(waiting.explanation.sentence.contains("device host, which is offline: last heard at"))
            let post = try await Post.open(bench, holding: tenant.all)
            #expect(try await explain(bench, run, tenant).explanation.cause == .deviceReturned)

            try await post.connect(tenant.all, of: tenant)
            _ = try await bench.refiller.refillOnce()
            try await bench.dispatchAll()
            let items = try await post.attempts()
            _ = try await post.take(items)
            try await post.finish(items, .failed)
            let retry = try await explain(bench, run, tenant)
            #expect(retry.explanation.cause == .retryBackoff && retry.facts.dueAt == retry.explanation.until)
            #expect(retry.explanation.sentence.contains("attempt 2 of 3, at "))
            #expect(retry.explanation.sentence.hasSuffix(": attempt 1 failed (exit code 0)."))
            try await change(bench, "UPDATE runs SET due_at = NULL WHERE state = 0")
            #expect(try await explain(bench, run, tenant).explanation.cause == .deviceSilent)
        }
    }

    @Test("What the queue holds back is named: a busy lane, a full cap, a delay, and what a worker holds")
    func inTheQueue() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 2)
            let post = try await Post.open(bench, holding: tenant.all)
            let device = tenant.all[0]
            let lane = Limits.runsPerDevice
            let (_, busy) = try await queue(bench, tenant, [DeviceID](repeating: device, count: 1))
            var runs = busy
            for _ in 0..<lane { runs += try await queue(bench, tenant, [device]).runs }
            let first = try await explain(bench, runs[0].run, tenant)
            #expect(first.explanation.cause == .turn && first.facts.spot == .ready)
            let claims = try await bench.claim()
            #expect(claims.count == lane)
            #expect(try await explain(bench, runs[0].run, tenant).explanation.cause == .beingDispatched)
            let aside = try await explain(bench, runs[lane].run, tenant)
            #expect(aside.facts.spot == .setAside && aside.explanation.cause == .laneBusy)
            #expect(aside.facts.laneLoad == RunFacts.Load(lane, of: lane))

            let epoch = try await bench.front.epoch()
            #expect(
                try await bench.queue.release(claims, delayMilliseconds: 600_000, epoch: epoch) == lane)
            let given = try await explain(bench, runs[0].run, tenant)
            #expect(given.facts.spot == .delayed && given.explanation.cause == .setBack)
            // The delay ends.
            for member in try await bench.raw("ZRANGE", "due", 0, -1).array?.compactMap(\.text) ?? [] {
                try await bench.raw("ZADD", "due", 0, .string(member))
            }
            try await bench.dispatchAll()
            let marked = try await explain(bench, runs[0].run, tenant)
            #expect(marked.facts.state == .dispatched && marked.explanation.cause == .beingDispatched)
            let items = try await post.attempts()
            _ = try await post.take(items)
            #expect(try await explain(bench, runs[0].run, tenant).explanation.cause == .notStarted)
            let started = try #require(items.first { $0.run == runs[0].run })
            let startedAt = Instant.now()
            try await bench.world.gateway.start(
                [(started.organization, started.device, started.run, started.token, startedAt)])
            let running = try await explain(bench, started.run, tenant).explanation
            #expect(running.cause == .running && running.until == running.since.map { $0 + .seconds(60) })
            let beside = try await explain(bench, runs[1].run, tenant)
            #expect(beside.explanation.cause == .notStarted && beside.explanation.others.isEmpty)
            #expect(beside.facts.laneHolders.first?.run == started.run)
            let later = try await explain(bench, runs[lane].run, tenant)
            #expect(later.explanation.cause == .laneBusy)
            #expect(later.explanation.sentence.contains("busy with run \(started.run) and 3 more since"))

            let (_, other) = try await queue(bench, tenant, [tenant.all[1]])
            #expect(try await explain(bench, other[0].run, tenant).explanation.cause == .turn)
            try await bench.queue.cap(organization: tenant.organization, limit: lane, epoch: epoch)
            let capped = try await explain(bench, other[0].run, tenant).explanation
            #expect(capped.cause == .organizationCap && capped.sentence.contains("\(lane) of \(lane) are"))
            try await bench.queue.cap(organization: tenant.organization, limit: lane + 1, epoch: epoch)
            #expect(try await explain(bench, other[0].run, tenant).explanation.cause == .turn)
        }
    }

    @Test("A paused job, an unreleased wave, an expiry and a cancel are named; an ended run says how")
    func ofTheJob() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let (job, runs) = try await queue(bench, tenant, tenant.all)
            let run = runs[0].run
            try await change(bench, "UPDATE runs SET wave = 2 WHERE id = \(run)")
            #expect(try await explain(bench, run, tenant).explanation.cause == .waveNotReleased)
            try await change(bench, "UPDATE jobs SET state = 2 WHERE id = \(job)")
            let paused = try await explain(bench, run, tenant).explanation
            #expect(paused.cause == .jobPaused && paused.others == [.waveNotReleased])
            try await change(bench, "UPDATE runs SET expires_at = now() WHERE id = \(run)")
            #expect(try await explain(bench, run, tenant).explanation.cause == .expiring)
            try await change(
                bench, "UPDATE runs SET wave = 0, expires_at = now() + interval '1 hour' WHERE id = \(run)")
            try await change(bench, "UPDATE jobs SET state = 1 WHERE id = \(job)")
            try await bench.dispatchAll()
            let items = try await post.attempts()
            _ = try await post.take(items)
            _ = try await bench.world.api.requestCancel(job, scope: tenant.scope)
            let cancelled = try await explain(bench, run, tenant).explanation
            #expect(cancelled.cause == .cancelling && cancelled.others == [.notStarted])
            try await post.finish(items, .failed)
            let ended = try await explain(bench, run, tenant)
            #expect(ended.explanation.cause == .ended && ended.facts.ending?.exitCode == 0)
            #expect(ended.explanation.sentence.hasPrefix("It failed at "))
        }
    }

    @Test("A run has a place behind its queue and the more urgent ones, and a time by the drain rate")
    func turn() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 5)
            _ = try await Post.open(bench, holding: tenant.all)
            let (job, runs) = try await queue(bench, tenant, tenant.all)
            let urgent = try await bench.world.submit(tenant, Array(tenant.all[..<2]), .interactive)
            await bench.front.offer(urgent.runs)
            _ = try await bench.world.submit(tenant, tenant.all, .bulk)
            let order = runs.map(\.run).sorted()
            let still = try await explain(bench, order[3], tenant).explanation
            #expect(still.cause == .turn && still.position == 6 && still.estimatedStart == nil)
            bench.front.tally.ended(Array(repeating: tenant.organization, count: 60))
            try await bench.front.tally.report(to: bench.front.parts)
            let (facts, moving) = try await explain(bench, order[3], tenant)
            let rate = try #require(facts.ahead?.drainRate)
            #expect((60.0 / 80...1).contains(rate))
            #expect(moving.estimatedStart == facts.now + .milliseconds(Int(5 / rate * 1_000)))
            let cut = try await bench.world.api.runsAhead(
                of: order[3], in: tenant.organization.queue(.standard), countingAtMost: 4)
            #expect(cut == RunFacts.Ahead(runs: 4, isExact: false))
            let whole = try await bench.world.api.runsAhead(
                of: order[3], in: tenant.organization.queue(.standard), countingAtMost: 5)
            #expect(whole == RunFacts.Ahead(runs: 5, isExact: true))

            let (row, explained) = try #require(try await explainer(bench).explain(job, scope: tenant.scope))
            #expect(row.id == job && explained.groups.map(\.cause) == [.turn])
            #expect(explained.groups.map(\.count) == [5] && explained.groups[0].first == order[0])
        }
    }

    @Test("A job names what most of its runs wait for first, and how the others ended")
    func job() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 4)
            let post = try await Post.open(bench, holding: [tenant.all[0]])
            let (job, _) = try await queue(bench, tenant, tenant.all)
            let again = try await queue(bench, tenant, [tenant.all[0]])
            try await bench.dispatchAll()
            let items = try await post.attempts()
            _ = try await post.take(items)
            func explain() async throws -> JobExplanation {
                let explained = try await explainer(bench).explain(job, scope: tenant.scope)
                return try #require(explained).1
            }
            let before = try await explain()
            #expect(before.groups.map(\.cause) == [.deviceOffline, .notStarted])
            #expect(before.groups.map(\.count) == [3, 1])
            try await post.finish(items.filter { $0.run != again.runs[0].run })
            #expect(
                try await explain().sentence
                    == "Of its 3 open runs 3 wait for a device that is offline; ended so far: 1 succeeded.")
            let stranger = try await bench.world.tenant()
            #expect(try await explainer(bench).explain(job, scope: stranger.scope) == nil)
            #expect(try await explainer(bench).facts(of: items[0].run, scope: stranger.scope) == nil)
        }
    }

    @Test("Without Redis, what PostgreSQL knows is explained")
    func withoutRedis() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let run = try await queue(bench, tenant, tenant.all).runs[0].run
            let lost = try RedisConfiguration(url: "unix:///nonexistent/redis.sock")
            let connection = RedisConnection(configuration: lost, logger: .quiet)
            let queue = Queue(connection: connection, keys: bench.queue.keys, logger: .quiet)
            let explainer = Explainer(
                ledger: bench.world.api,
                rates: QueueRates(front: QueueFront(queue: queue, logger: .quiet)))
            let facts = try #require(try await explainer.facts(of: run, scope: tenant.scope))
            #expect(facts.spot == nil && facts.cap == nil && facts.device.isOnline == nil)
            #expect(RunExplanation(facts).cause == .turn && facts.ahead?.runs == 0)
            await connection.close()
        }
    }
}
