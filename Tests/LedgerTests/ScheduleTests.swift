import Domain
import Postgres
import TestSupport
import Testing
import Trust

@testable import Ledger

/// What waits for its time, and what is tried again.
@Suite(.serialized, .world) struct ScheduleTests {
    static let policy = RetryPolicy(
        maximumAttempts: 3, backoffSeconds: 10, maximumBackoffSeconds: 15,
        outcomes: [.failed, .timedOut, .unknown])

    /// Commits one job for devices with a policy, without telling anybody.
    func submit(
        _ world: World, _ tenant: Tenant, _ devices: [DeviceID], retry: RetryPolicy = policy,
        idempotent: Bool = false, notBefore: Instant? = nil
    ) async throws -> (job: JobID, runs: [QueuedRun]) {
        var job = world.job(tenant, devices: devices)
        (job.retry, job.idempotent, job.notBefore) = (retry, idempotent, notBefore)
        job.maximumAttempts = retry.maximumAttempts
        let (outcomes, runs) = try await world.api.submit([job], scope: tenant.scope).both
        try #require(outcomes == [.accepted(.active)])
        return (job.id, runs)
    }

    /// The next attempt of runs that are due or will be.
    func again(_ world: World) async throws -> [MarkedRun] {
        try await world.owner.execute(
            "UPDATE runs SET due_at = now() WHERE due_at IS NOT NULL", scope: .none)
        return try await world.send(try await world.worker.queueDue(limit: 1_000))
    }

    // MARK: Times

    @Test("A run waits for its time, and nothing but its time queues it")
    func notBefore() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant(devices: 2)
        let (job, queued) = try await submit(
            world, tenant, tenant.all, notBefore: .now() + .seconds(3_600))
        #expect(queued.isEmpty)
        #expect(try await world.worker.queueDue(limit: 100).isEmpty)
        #expect(try await world.worker.queuesWithBacklog().isEmpty)
        #expect(try await world.api.job(job, scope: tenant.scope)?.counts == [.scheduled: 2])
        let early = try await world.worker.mark(
            try await world.api.runs(of: job, after: nil, limit: 10, scope: tenant.scope).map {
                MarkRequest(
                    organization: tenant.organization, run: $0.id, generation: 0, gateway: fresh(),
                    token: fresh())
            }, epoch: World.epoch, partition: 0)
        #expect(early.isEmpty)
        try await world.owner.execute("UPDATE runs SET due_at = now()", scope: .none)
        let due = try await world.worker.queueDue(limit: 100)
        #expect(due.count == 2 && due.allSatisfy { $0.generation == 1 })
        #expect(try await world.mark(due).map(\.attempt) == [1, 1])
    }

    @Test("A time that has come when the job is committed does not delay it")
    func notBeforePast() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant()
        #expect(
            try await submit(world, tenant, tenant.all, notBefore: .now() + .seconds(-1)).runs.count == 1)
    }

    @Test(
        "The runs of a site are scheduled as those of a list are: at their time, or at most 100 ms after"
    )
    func expanded() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant(devices: 3)
        var job = world.job(tenant, devices: nil, targetSite: tenant.sites[0])
        let time = Instant(microseconds: Instant.now().microseconds + 3_600_000_123)
        job.notBefore = time
        job.maximumAttempts = 7
        _ = try await world.api.submit([job], scope: tenant.scope)
        _ = try await world.worker.expand(limit: 1)
        let runs = try await world.api.runs(of: job.id, after: nil, limit: 10, scope: tenant.scope)
        #expect(runs.count == 3)
        for run in runs {
            let due = try #require(run.dueAt)
            #expect(run.state == .scheduled && due >= time && due <= time + .milliseconds(100))
        }
        #expect(try await world.count("SELECT count(*) FROM runs WHERE maximum_attempts = 7") == 3)
    }

    @Test("Organizations that are due at the same instant share a step, and the earlier instant goes first")
    func turns() async throws {
        let world = try World.here()
        try await world.clear()
        let (large, small) = (try await world.tenant(devices: 50), try await world.tenant(devices: 4))
        let time = Instant.now() + .seconds(60)
        _ = try await submit(world, large, large.all, notBefore: time)
        _ = try await submit(world, small, small.all, notBefore: time)
        _ = try await submit(world, small, [small.all[0]], notBefore: time + .seconds(1))
        try await world.owner.execute(
            "UPDATE runs SET due_at = due_at - interval '2 minutes'", scope: .none)
        let first = try await world.worker.queueDue(limit: 30)
        let count = Dictionary(grouping: first, by: \.organization).mapValues(\.count)
        #expect(count == [large.organization: 10, small.organization: 5])
        var rest = 0
        while case let runs = try await world.worker.queueDue(limit: 30), !runs.isEmpty { rest += runs.count }
        #expect(first.count + rest == 55)
    }

    // MARK: Retries

    @Test("A failed attempt is followed by another after a wait within its bound; what it left is kept")
    func retried() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant()
        let (job, runs) = try await submit(world, tenant, tenant.all)
        var marked = try await world.send(runs)
        for attempt in 1...2 {
            let settlement = try await world.gateway.settle([
                AttemptResult(marked[0], .failed, exitCode: 3, reason: "why", output: "out \(attempt)")
            ])
            #expect(settlement[0].isRetried && settlement[0].settledRun?.generation == attempt)
            let run = try #require(try await world.api.run(runs[0].run, scope: tenant.scope))
            #expect(run.state == .scheduled && run.attempt == attempt)
            let wait = try #require(run.dueAt) - now()
            #expect(wait <= .seconds(attempt == 1 ? 10 : 15) + .milliseconds(100))
            let output = try #require(try await world.api.output(of: run.id, scope: tenant.scope))
            #expect(String(decoding: output.stdoutHead, as: UTF8.self) == "out \(attempt)")
            let row = try #require(try await world.api.job(job, scope: tenant.scope))
            #expect(row.counts == [.scheduled: 1] && row.retries == attempt && row.state == .active)
            marked = try await again(world)
            #expect(marked.map(\.attempt) == [attempt + 1] && marked[0].generation == attempt + 1)
        }
        let last = try await world.gateway.settle([AttemptResult(marked[0], .failed, output: "")])
        #expect(last[0].isSettled, "its attempts are used up")
        try await world.fold()
        let row = try #require(try await world.api.job(job, scope: tenant.scope))
        #expect(row.counts == [.failed: 1] && row.retries == 2 && row.state == .completed)
        #expect(try await world.api.run(runs[0].run, scope: tenant.scope)?.attempt == 3)
        let output = try #require(try await world.api.output(of: runs[0].run, scope: tenant.scope))
        #expect(output.stdoutBytes == 0, "the last attempt printed nothing")
        #expect(
            try await world.count(
                """
                SELECT count(*) FROM attempts
                WHERE kind = 'retried' AND exit_code = 3 AND reason = 'why' AND outcome = 11
                  AND started_at IS NOT NULL AND finished_at IS NOT NULL AND attempt IN (1, 2)
                """) == 2)
    }

    @Test("The wait in SQL has the ceiling of the pure backoff")
    func backoff() async throws {
        let world = try World.here()
        let policies = [(1, 1), (10, 15), (30, 3_600), (1, 86_400), (86_400, 86_400)]
        for (base, limit) in policies {
            let policy = RetryPolicy(
                maximumAttempts: 100, backoffSeconds: base, maximumBackoffSeconds: limit, outcomes: [])
            for attempt in 1...100 {
                let seconds = try await world.owner.query(
                    "SELECT crmm_backoff(\(Int32(base)), \(Int32(limit)), \(Int32(attempt)))", scope: .none
                ) { try $0.decode(Double.self) }
                #expect(Duration.seconds(seconds[0]) == policy.backoff.ceiling(attempt: attempt - 1))
            }
        }
    }

    @Test("Waits are jittered over the whole of their bound")
    func jitter() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant(devices: 60)
        let (_, runs) = try await submit(world, tenant, tenant.all)
        let marked = try await world.send(runs)
        _ = try await world.gateway.settle(marked.map { AttemptResult($0, .failed) })
        let waits: SQL = "SELECT extract(epoch FROM due_at - now())::integer FROM runs"
        let seconds = try await world.owner.query(waits, scope: .none) { try $0.decode(Int32.self) }
        #expect(seconds.count == 60 && seconds.allSatisfy { $0 <= 10 })
        #expect(seconds.contains { $0 < 4 } && seconds.contains { $0 > 6 })
    }

    /// What an attempt ends as, of which job, and whether another follows.
    private static let rules: [(Outcome, String?, idempotent: Bool, RetryPolicy, Bool)] = [
        (.failed, nil, false, policy, true), (.timedOut, nil, false, policy, true),
        (.succeeded, nil, false, policy, false), (.cancelled, nil, false, policy, false),
        (.unknown, nil, false, policy, false), (.unknown, "agentRestarted", true, policy, true),
        (.failed, "rejected:target", false, policy, false), (.failed, "rejected:full", false, policy, true),
        (.failed, "rejected:notYetValid", false, policy, true),
        (.failed, nil, false, .none, false),
        (
            .failed, nil, false,
            RetryPolicy(
                maximumAttempts: 2, backoffSeconds: 1, maximumBackoffSeconds: 1, outcomes: [.timedOut]), false
        ),
    ]

    @Test("An outcome is followed by another attempt by the job's rules alone", arguments: rules)
    func rule(
        outcome: Outcome, reason: String?, idempotent: Bool, policy: RetryPolicy, isRetried: Bool
    ) async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant()
        let (_, runs) = try await submit(
            world, tenant, tenant.all, retry: policy, idempotent: idempotent)
        let marked = try await world.send(runs)
        let settlement = try await world.gateway.settle([AttemptResult(marked[0], outcome, reason: reason)])
        #expect(settlement[0].isRetried == isRetried && settlement[0].settledRun != nil)
    }

    @Test("Nothing is tried again after somebody asked to cancel it, nor past its expiry")
    func refused() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant()
        for isRunAsked in [true, false] {
            let (job, runs) = try await submit(world, tenant, tenant.all)
            let marked = try await world.send(runs)
            _ = try await world.api.requestCancel(job, scope: tenant.scope)
            if isRunAsked {
                _ = try await world.api.cancelRuns(
                    of: job, organization: tenant.organization, scope: tenant.scope)
            }
            #expect(try await world.gateway.settle([AttemptResult(marked[0], .failed)])[0].isSettled)
        }
        let (_, runs) = try await submit(world, tenant, tenant.all)
        let marked = try await world.send(runs)
        try await world.owner.execute("UPDATE runs SET expires_at = now()", scope: .none)
        #expect(try await world.gateway.settle([AttemptResult(marked[0], .failed)])[0].isSettled)
    }

    @Test("A cancel ends a run that waits for its next attempt")
    func cancelled() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant()
        let (job, runs) = try await submit(world, tenant, tenant.all)
        _ = try await world.gateway.settle([AttemptResult(try await world.send(runs)[0], .failed)])
        _ = try await world.api.requestCancel(job, scope: tenant.scope)
        let (ended, sent) = try await world.api.cancelRuns(
            of: job, organization: tenant.organization, scope: tenant.scope)
        #expect(ended.map(\.run) == runs.map(\.run) && sent.isEmpty)
        #expect(try await world.state(runs[0].run) == .cancelled)
    }

    @Test("Copies of a word that led to a retry are duplicates wherever the run is; another word is late")
    func copies() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant()
        let (_, runs) = try await submit(world, tenant, tenant.all)
        let first = try await world.send(runs)[0]
        #expect(try await world.gateway.settle([AttemptResult(first, .failed)])[0].isRetried)
        #expect(try await world.gateway.settle([AttemptResult(first, .failed)]) == [.duplicate])
        #expect(try await world.gateway.settle([AttemptResult(first, .succeeded)]) == [.late])
        let second = try await again(world)[0]
        #expect(try await world.gateway.settle([AttemptResult(first, .failed)]) == [.duplicate])
        #expect(try await world.gateway.settle([AttemptResult(second, .succeeded)])[0].isSettled)
        #expect(try await world.gateway.settle([AttemptResult(first, .failed)]) == [.duplicate])
        #expect(try await world.gateway.settle([AttemptResult(second, .succeeded)]) == [.duplicate])
        #expect(try await world.count("SELECT count(*) FROM attempts WHERE kind = 'late'") == 1)
    }

    @Test("A retry that expires unsent ends as its last attempt did", arguments: [false, true])
    func expired(isMarked: Bool) async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant()
        let (job, runs) = try await submit(world, tenant, tenant.all)
        let first = try await world.send(runs)[0]
        _ = try await world.gateway.settle([AttemptResult(first, .failed, exitCode: 9)])
        if isMarked {
            try await world.owner.execute("UPDATE runs SET due_at = now()", scope: .none)
            _ = try await world.mark(try await world.worker.queueDue(limit: 10))
        }
        try await world.lapse(runs.map(\.run))
        #expect(try await world.worker.expire(limit: 10).count == 1)
        let run = try #require(try await world.api.run(runs[0].run, scope: tenant.scope))
        #expect(run.state == .failed && run.attempt == 1 && run.exitCode == 9)
        #expect(run.reason == "notSentInTime" && run.startedAt != nil)
        #expect(try await world.gateway.settle([AttemptResult(first, .failed)]) == [.duplicate])
        try await world.fold()
        #expect(try await world.api.job(job, scope: tenant.scope)?.counts == [.failed: 1])
    }

    // MARK: Long runs and silent devices

    @Test("A run that lives for 24 hours keeps its attempt, whatever looks at it meanwhile")
    func longRun() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant()
        var job = world.job(tenant, devices: tenant.all)
        (job.timeoutSeconds, job.expiresAt) = (86_400, .now() + .seconds(60))
        (job.retry, job.maximumAttempts, job.idempotent) = (Self.policy, 3, true)
        let runs = try await world.api.submit([job], scope: tenant.scope).queued
        let marked = try await world.send(runs)
        try await world.gateway.start([
            (tenant.organization, tenant.all[0], marked[0].run, marked[0].token, now())
        ])
        // All clocks but the device's go on by a day.
        try await world.owner.execute(
            """
            UPDATE runs SET queued_at = queued_at - interval '1 day', sent_at = sent_at - interval '1 day',
                   started_at = started_at - interval '1 day', expires_at = expires_at - interval '1 day',
                   deadline = deadline - interval '1 day'
            """, scope: .none)
        #expect(try await world.worker.lapse(limit: 10).isEmpty)
        #expect(try await world.worker.expire(limit: 10).isEmpty)
        #expect(try await world.worker.undeliver(limit: 10).isEmpty)
        #expect(try await world.worker.awaitWord(limit: 10) == 0)
        #expect(try await world.worker.queueDue(limit: 10).isEmpty)
        let run = try #require(try await world.api.run(runs[0].run, scope: tenant.scope))
        #expect(run.state == .running && run.attempt == 1)
        #expect(try await world.gateway.settle([AttemptResult(marked[0])])[0].isSettled)
    }

    /// An idempotent run that is running on a device which has fallen silent.
    private func silent(_ world: World, _ tenant: Tenant) async throws -> (job: JobID, run: MarkedRun) {
        let (job, runs) = try await submit(world, tenant, tenant.all, idempotent: true)
        let marked = try await world.send(runs)
        try await world.gateway.start([
            (tenant.organization, tenant.all[0], marked[0].run, marked[0].token, now())
        ])
        try await world.owner.execute("UPDATE runs SET deadline = now() - interval '1 s'", scope: .none)
        return (job, marked[0])
    }

    @Test("A silent device's run gives up its place, and no attempt follows until the device has spoken")
    func lapsed() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant()
        let (job, run) = try await silent(world, tenant)
        #expect(try await world.worker.expire(limit: 10).isEmpty, "it belongs to lapse")
        #expect(try await world.worker.lapse(limit: 10).map(\.run) == [run.run])
        #expect(try await world.api.job(job, scope: tenant.scope)?.counts == [.scheduled: 1])
        #expect(try await world.worker.queueDue(limit: 10).isEmpty)
        // The hello: what was open is open again.
        let open = try await world.gateway.openAttempts(of: tenant.all[0], organization: tenant.organization)
        #expect(open.map(\.token) == [run.token] && open[0].isLapsed && open[0].wasSent)
        #expect(
            try await world.gateway.revive([(tenant.organization, run.run, fresh())]).isEmpty,
            "another attempt's token revives nothing")
        #expect(try await world.gateway.revive([(tenant.organization, run.run, run.token)]) == [run.run])
        #expect(try await world.state(run.run) == .dispatched)
        #expect(try await world.gateway.revive([(tenant.organization, run.run, run.token)]).isEmpty)
        // The device knows nothing of it any more: then another attempt follows.
        let lost = try await world.gateway.settle([
            AttemptResult(run, .unknown, reason: "journalRegress", output: "")
        ])
        #expect(lost[0].isRetried)
        #expect(try await again(world).map(\.attempt) == [2])
    }

    @Test("The word of a silent device settles its run as long as nothing followed")
    func lapsedWord() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant()
        let (job, run) = try await silent(world, tenant)
        _ = try await world.worker.lapse(limit: 10)
        #expect(try await world.gateway.settle([AttemptResult(run)])[0].isSettled)
        #expect(try await world.api.job(job, scope: tenant.scope)?.counts == [.succeeded: 1])
    }

    @Test(
        "A silent device's run ends at its expiry, or if it was cancelled at the deadline of that"
    )
    func lapsedEnds() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant()
        for isCancelled in [true, false] {
            let (job, run) = try await silent(world, tenant)
            _ = try await world.worker.lapse(limit: 10)
            if isCancelled {
                _ = try await world.api.requestCancel(job, scope: tenant.scope)
                let (ended, sent) = try await world.api.cancelRuns(
                    of: job, organization: tenant.organization, scope: tenant.scope)
                #expect(ended.isEmpty && sent.map(\.run) == [run.run])
            }
            try await world.lapse([run.run])
            #expect(try await world.worker.expire(limit: 10).count == 1)
            #expect(try await world.state(run.run) == (isCancelled ? .cancelled : .unknown))
            guard case .amended = try await world.gateway.settle([AttemptResult(run)])[0] else {
                Issue.record("its true result came and was not taken")
                continue
            }
        }
    }

    @Test("A silent device's run ends as unknown if no attempt may follow: not idempotent, or none is left")
    func notLapsed() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant()
        for (idempotent, attempts) in [(false, 3), (true, 1)] {
            var policy = Self.policy
            policy.maximumAttempts = attempts
            let (_, runs) = try await submit(
                world, tenant, tenant.all, retry: policy, idempotent: idempotent)
            let marked = try await world.send(runs)
            try await world.gateway.start([
                (tenant.organization, tenant.all[0], marked[0].run, marked[0].token, now())
            ])
            try await world.owner.execute("UPDATE runs SET deadline = now() - interval '1 s'", scope: .none)
            #expect(try await world.worker.lapse(limit: 10).isEmpty)
            #expect(try await world.worker.expire(limit: 10).count == 1)
            #expect(try await world.state(runs[0].run) == .unknown)
        }
    }
}

extension ScheduleTests {
    @Test("A run that retries did not bring to success is a dead letter, unless somebody cancelled it")
    func dead() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant()
        func letters(_ reason: DeadLetterReason = .attempts) async throws -> [RunID] {
            var filter = DeadLetterFilter()
            filter.reason = reason
            return try await world.api.deadLetters(filter, limit: 10, scope: tenant.scope).map(\.run.id)
        }
        var policy = Self.policy
        policy.maximumAttempts = 2
        // One attempt and no other wanted.
        let single = try await world.send(try await submit(world, tenant, tenant.all, retry: .none).runs)
        _ = try await world.gateway.settle([AttemptResult(single[0], .failed)])
        #expect(try await letters().isEmpty)
        // Used up, with the evidence of both attempts.
        let (_, runs) = try await submit(world, tenant, tenant.all, retry: policy)
        _ = try await world.gateway.settle([AttemptResult(try await world.send(runs)[0], .failed)])
        #expect(try await letters().isEmpty)
        _ = try await world.gateway.settle([AttemptResult(try await again(world)[0], .timedOut)])
        #expect(try await letters() == runs.map(\.run))
        #expect(try await letters(.poison).isEmpty)
        let attempts = try await world.api.attempts(
            of: runs[0].run, organization: tenant.organization, scope: tenant.scope)
        #expect(attempts.map(\.attempt) == [1] && attempts[0].kind == "retried")
        #expect(try await world.api.discard(runs.map(\.run), scope: tenant.scope) == runs.map(\.run))
        #expect(try await letters().isEmpty)
        // Without its device's word, until that comes.
        for word in [Outcome.succeeded, .failed] {
            let sent = try await world.send(try await submit(world, tenant, tenant.all, retry: policy).runs)
            try await world.lapse(sent.map(\.run))
            _ = try await world.worker.expire(limit: 10)
            #expect(try await letters() == sent.map(\.run))
            _ = try await world.gateway.settle([AttemptResult(sent[0], word)])
            #expect(try await letters() == (word == .succeeded ? [] : sent.map(\.run)))
        }
        // Somebody asked for its end.
        let (job, unwanted) = try await submit(world, tenant, tenant.all, retry: policy)
        let sent = try await world.send(unwanted)
        _ = try await world.api.requestCancel(job, scope: tenant.scope)
        _ = try await world.api.cancelRuns(of: job, organization: tenant.organization, scope: tenant.scope)
        _ = try await world.gateway.settle([AttemptResult(sent[0], .failed)])
        #expect(try await letters().count == 1)
    }
}
