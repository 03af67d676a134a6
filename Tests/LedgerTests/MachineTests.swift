import Domain
import Postgres
import TestSupport
import Testing

@testable import Ledger

/// Random lives of many runs, in PostgreSQL and in the pure machine side by side.
@Suite(.serialized, .world) struct MachineTests {
    /// One run with the machine that says what it must be.
    private struct Life {
        var machine = RunMachine()
        var run: QueuedRun
        let job: JobID
        let policy: RetryPolicy
        /// What the event of this step does to the machine, judged after the statement has run.
        var refusal: RunMachine.Refusal?
    }

    private enum Event: CaseIterable {
        case mark, staleMark, wait, staleWait, reconnect, take, strangeTake, undeliver, strangeUndeliver
        case start, strangeStart, finish, strangeFinish, cancel, expire, due, lapse, revive, strangeRevive
    }

    private static let words: [Outcome] = [.succeeded, .failed, .timedOut, .cancelled, .unknown]

    /// Every fourth run has one attempt; the others are tried again, half of them also after `unknown`.
    private static let policies = [
        RetryPolicy.none,
        RetryPolicy(
            maximumAttempts: 3, backoffSeconds: 1, maximumBackoffSeconds: 2, outcomes: [.failed, .timedOut]),
        RetryPolicy(
            maximumAttempts: 2, backoffSeconds: 1, maximumBackoffSeconds: 1,
            outcomes: [.failed, .timedOut, .unknown]),
        RetryPolicy(
            maximumAttempts: 100, backoffSeconds: 1, maximumBackoffSeconds: 1, outcomes: [.failed, .unknown]),
    ]

    @Test("SQL and the machine agree on every step of 400 random lives")
    func agree() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant(devices: 400)
        let jobs = tenant.all.enumerated().map { index, device in
            var job = world.job(tenant, devices: [device])
            job.retry = Self.policies[index % 4]
            job.maximumAttempts = job.retry.maximumAttempts
            job.idempotent = job.retry.outcomes.contains(.unknown)
            return job
        }
        let runs = try await world.api.submit(jobs, scope: tenant.scope).queued
        let devices = Dictionary(uniqueKeysWithValues: zip(tenant.all, jobs))
        var lives = try runs.map { run in
            let job = try #require(devices[run.device])
            return Life(run: run, job: job.id, policy: job.retry)
        }
        var generator = SystemRandomNumberGenerator()
        var refused = 0
        var ends: Set<RunState> = []
        for step in 0..<30 {
            var groups: [Event: [Int]] = [:]
            for index in lives.indices {
                groups[Self.event(for: lives[index].machine, step, &generator), default: []].append(index)
            }
            for (event, members) in groups {
                try await apply(event, members, &lives, world, tenant)
                refused += members.count { lives[$0].refusal != nil }
            }
            try await compare(lives, world, "step \(step)")
            ends.formUnion(lives.map(\.machine.state))
        }
        #expect(ends.isSuperset(of: RunState.allCases))
        #expect(lives.contains { $0.machine.attempt > 2 })
        #expect(refused > 1_000)
    }

    /// Ends come late, so that lives are long.
    private static func event(
        for machine: RunMachine, _ step: Int, _ generator: inout SystemRandomNumberGenerator
    ) -> Event {
        // Else few runs would come to a third attempt.
        switch machine.state {
        case .scheduled where Bool.random(using: &generator): return .due
        case .queued where step < 16 && Bool.random(using: &generator): return .mark
        case .dispatched, .running:
            if Int.random(in: 0..<3, using: &generator) == 0 { return .finish }
        default: break
        }
        if step < 16, !machine.state.isOutcome {
            return [
                .mark, .wait, .reconnect, .take, .undeliver, .staleMark, .strangeTake, .strangeUndeliver,
                .due,
                .start, .finish, .finish, .lapse, .revive,
            ]
            .randomElement(using: &generator) ?? .mark
        }
        return Event.allCases.randomElement(using: &generator) ?? .mark
    }

    private func apply(
        _ event: Event, _ members: [Int], _ lives: inout [Life], _ world: World, _ tenant: Tenant
    ) async throws {
        let isStrange = [.strangeTake, .strangeUndeliver, .strangeStart, .strangeFinish, .strangeRevive]
            .contains(event)
        func token(_ life: Life) -> AttemptToken { isStrange ? fresh() : life.machine.token ?? fresh() }
        let chosen = members.map { (index: $0, life: lives[$0], token: token(lives[$0])) }
        let names = chosen.map { (tenant.organization, $0.life.run.run, $0.token) }
        func judge(_ change: (inout RunMachine, AttemptToken) throws(RunMachine.Refusal) -> Void) {
            for item in chosen {
                lives[item.index].refusal = nil
                do {
                    try change(&lives[item.index].machine, item.token)
                } catch {
                    lives[item.index].refusal = error
                }
            }
        }
        /// The statement touched exactly the runs that the machine let go on.
        func expectDone(_ done: Set<RunID>) {
            let accepted = Set(chosen.filter { lives[$0.index].refusal == nil }.map(\.life.run.run))
            #expect(done == accepted, "\(event)")
        }
        switch event {
        case .mark, .staleMark:
            let late = event == .staleMark ? 1 : 0
            let marked = try await world.worker.mark(
                chosen.map {
                    MarkRequest(
                        organization: tenant.organization, run: $0.life.run.run,
                        generation: $0.life.machine.generation - late, gateway: fresh(), token: $0.token)
                }, epoch: World.epoch, partition: 0)
            judge { machine, token throws(RunMachine.Refusal) in
                _ = try machine.mark(generation: machine.generation - late, token: token)
            }
            expectDone(Set(marked.map(\.run)))
        case .wait, .staleWait:
            let late = event == .staleWait ? 1 : 0
            let waiting = try await world.worker.wait(
                chosen.map { QueuedRun($0.life.run, generation: $0.life.machine.generation - late) })
            judge { machine, _ throws(RunMachine.Refusal) in
                try machine.wait(generation: machine.generation - late)
            }
            expectDone(waiting)
        case .reconnect:
            let back = try await world.gateway.reconnect(
                chosen.map { (tenant.organization, $0.life.run.device) })
            judge { machine, _ throws(RunMachine.Refusal) in try machine.reconnect() }
            expectDone(Set(back.map(\.run)))
        case .take, .strangeTake:
            let taken = try await world.gateway.take(names)
            judge { machine, token throws(RunMachine.Refusal) in try machine.sent(token: token) }
            expectDone(Set(taken.map(\.run)))
        case .undeliver, .strangeUndeliver:
            let back = try await world.worker.undeliver(names)
            judge { machine, token throws(RunMachine.Refusal) in try machine.undeliver(token: token) }
            expectDone(Set(back.map(\.run)))
        case .start, .strangeStart:
            try await world.gateway.start(
                chosen.map { (tenant.organization, $0.life.run.device, $0.life.run.run, $0.token, now()) })
            judge { machine, token throws(RunMachine.Refusal) in try machine.start(token: token) }
        case .finish, .strangeFinish:
            try await finish(chosen, &lives, world, tenant)
        case .cancel:
            for item in chosen {
                // A job with one run may have ended, of which the folder need not know yet.
                _ = try? await world.api.requestCancel(item.life.job, scope: tenant.scope)
            }
            _ = try await world.api.cancelRuns(
                of: nil, organization: tenant.organization, scope: tenant.scope)
            judge { machine, _ throws(RunMachine.Refusal) in try machine.cancel() }
        case .due:
            try await world.owner.execute(
                """
                UPDATE runs SET due_at = now() + CASE WHEN id = ANY(\(chosen.map(\.life.run.run)))
                                                      THEN interval '-1 second' ELSE interval '1 hour' END
                WHERE due_at IS NOT NULL
                """, scope: .none)
            let due = try await world.worker.queueDue(limit: 10_000)
            judge { machine, _ throws(RunMachine.Refusal) in try machine.becomeDue() }
            expectDone(Set(due.map(\.run)))
        case .lapse:
            let may = chosen.filter {
                $0.life.policy.allowsAnother(after: $0.life.machine.attempt, endedAs: .unknown)
            }
            try await world.owner.execute(
                """
                UPDATE runs SET deadline = now() - interval '1 second'
                WHERE id = ANY(\(may.map(\.life.run.run)))
                """, scope: .none)
            let lapsed = try await world.worker.lapse(limit: 1_000)
            try await world.owner.execute(
                "UPDATE runs SET deadline = expires_at WHERE deadline < now()", scope: .none)
            judge { machine, token throws(RunMachine.Refusal) in
                // Those that may not are left alone.
                guard may.contains(where: { $0.token == token }) else { throw .openAttempt }
                try machine.lapse()
            }
            expectDone(Set(lapsed.map(\.run)))
        case .revive, .strangeRevive:
            let revived = try await world.gateway.revive(names)
            judge { machine, token throws(RunMachine.Refusal) in
                guard token == machine.token else { throw .staleAttempt }
                try machine.revive()
            }
            expectDone(revived)
        case .expire:
            try await world.lapse(chosen.map(\.life.run.run))
            let ended = try await world.worker.expire(limit: 1_000)
            judge { machine, _ throws(RunMachine.Refusal) in try machine.expire() }
            expectDone(Set(ended.map(\.run)))
        }
    }

    /// A word each: settled or amended where the machine accepts it, a duplicate where it says so.
    private func finish(
        _ chosen: [(index: Int, life: Life, token: AttemptToken)], _ lives: inout [Life], _ world: World,
        _ tenant: Tenant
    ) async throws {
        let outcomes = chosen.map { _ in Self.words.randomElement() ?? .failed }
        let results = zip(chosen, outcomes).map { item, outcome in
            AttemptResult(
                organization: tenant.organization, device: item.life.run.device, run: item.life.run.run,
                attempt: item.life.machine.attempt, token: item.token, outcome: outcome, exitCode: nil,
                reason: nil, startedAt: nil, finishedAt: now(),
                output: OutputRow(
                    stdoutHead: [], stdoutTail: [], stdoutBytes: 0, stderrHead: [], stderrTail: [],
                    stderrBytes: 0))
        }
        let settlements = try await world.gateway.settle(results)
        for ((item, outcome), settlement) in zip(zip(chosen, outcomes), settlements) {
            let before = lives[item.index].machine
            let isRetry =
                !before.state.isOutcome && !before.cancelRequested
                && item.life.policy.allowsAnother(after: before.attempt, endedAs: outcome)
            lives[item.index].refusal = nil
            do {
                if isRetry {
                    try lives[item.index].machine.retry(token: item.token, after: outcome)
                    #expect(settlement.isRetried, "\(before) \(settlement)")
                } else {
                    try lives[item.index].machine.finish(token: item.token, outcome: outcome)
                    let expected: Settlement? = before.state.isOutcome ? .amended(item.life.job) : nil
                    #expect(
                        expected.map { settlement == $0 } ?? settlement.isSettled, "\(before) \(settlement)")
                }
            } catch {
                lives[item.index].refusal = error
                #expect(settlement == (error == .duplicate ? .duplicate : .late), "\(before) \(error)")
            }
        }
    }

    /// What PostgreSQL keeps of a run.
    private struct Kept: Equatable {
        var state: RunState
        var attempt: Int
        var token: AttemptToken?
        var generation: Int?
        var wasSent: Bool?
        var cancelRequested: Bool?
        var isAmendable: Bool
    }

    private func compare(_ lives: [Life], _ world: World, _ moment: String) async throws {
        let rows = try await world.owner.query(
            """
            SELECT id, state, attempt, CASE WHEN due_at IS NULL THEN token END, generation,
                   sent_at IS NOT NULL,
                   cancel_requested_at IS NOT NULL, false FROM runs
            UNION ALL
            SELECT id, state, attempt, token, NULL, NULL, NULL, amendable FROM run_history
            """, scope: .none
        ) { row in
            let (id, state, attempt, token, generation, wasSent, cancelled, amendable) = try row.decode(
                (RunID, RunState, Int32, AttemptToken?, Int32?, Bool?, Bool?, Bool).self)
            return (
                id,
                Kept(
                    state: state, attempt: Int(attempt), token: token, generation: generation.map(Int.init),
                    wasSent: wasSent, cancelRequested: cancelled, isAmendable: amendable)
            )
        }
        let kept = Dictionary(uniqueKeysWithValues: rows)
        #expect(rows.count == lives.count)
        for life in lives {
            let machine = life.machine
            let isOpen = !machine.state.isOutcome
            let expected = Kept(
                state: machine.state, attempt: machine.attempt, token: machine.token,
                generation: isOpen ? machine.generation : nil, wasSent: isOpen ? machine.wasSent : nil,
                cancelRequested: isOpen ? machine.cancelRequested : nil, isAmendable: machine.isAmendable)
            try #require(kept[life.run.run] == expected, "\(moment)")
        }
    }
}

extension QueuedRun {
    fileprivate init(_ run: QueuedRun, generation: Int) {
        self.init(
            organization: run.organization, run: run.run, device: run.device, generation: generation,
            lane: run.lane, priority: run.priority)
    }
}
