import Domain
import Synchronization
import Testing
import Wire

@testable import Agent

@Suite("Runner machine") struct RunnerMachineTests {
    private let fixture: Fixture
    private let now: Instant

    init() throws {
        fixture = try Fixture()
        now = fixture.now
    }

    private func machine() throws -> RunnerMachine {
        var state = JournalState()
        try state.apply(.base(position: 0, repeated: 0))
        return RunnerMachine(journal: state)
    }

    private func key(_ job: JobPayload, _ attempt: Int = 1) -> AttemptKey {
        AttemptKey(job: job.job, attempt: attempt)
    }

    private func refusal(_ step: RunnerMachine.DispatchStep) -> Refusal.Code? {
        if case .refuse(.refused(_, let refusal, _), _) = step { refusal.code } else { nil }
    }

    /// Takes an attempt from dispatch to its place; true if it starts.
    private func admit(_ machine: inout RunnerMachine, _ job: JobPayload, _ name: AttemptName) -> Bool {
        guard case .accept(let key, _) = machine.dispatch(name, .success(fixture.verified(job)), now: now),
            case .start = machine.admit(key)
        else { return false }
        return true
    }

    private func run(
        _ machine: inout RunnerMachine, _ job: JobPayload, _ name: AttemptName, _ outcome: Outcome
    ) {
        #expect(admit(&machine, job, name))
        let key = key(job, name.attempt)
        #expect(machine.start(key, now: now) != nil)
        machine.settled(key, [.ended(key, outcome.end(at: now))])
        #expect(machine.release(LaneName(job.kind)) == nil)
    }

    @Test("an attempt that was seen is answered from the journal and never starts again")
    func redelivery() throws {
        var machine = try machine()
        let (job, name) = (fixture.job(), fixture.name())
        func again() -> RunnerMachine.DispatchStep? { machine.known(name) }
        #expect(again() == nil)
        #expect(
            machine.dispatch(name, .success(fixture.verified(job)), now: now)
                == .accept(key(job), .accepted(key(job), name, expiresAt: fixture.verified(job).expiresAt)))
        #expect(again() == .ignore, "the first answer is still on its way to the disk")
        _ = machine.admit(key(job))
        #expect(again() == .confirm)
        _ = machine.start(key(job), now: now)
        #expect(again() == .confirm)
        let end = Outcome.failed.end(at: now)
        machine.settled(key(job), [.ended(key(job), end)])
        #expect(again() == .resend(key(job)))
        machine.sessionChanged(isServing: true)
        #expect(machine.nextResult()?.1 == name)
        #expect(machine.nextResult() == nil, "in flight already")
        guard case .forget(key(job)) = machine.acknowledged(name) else {
            Issue.record("kept"); return
        }
        guard case .nothing = machine.acknowledged(name) else { Issue.record("forgotten twice"); return }
        #expect(
            again()
                == .send(.finished(Finished(name: name, outcome: .failed, reason: "replay", finishedAt: now)))
        )
    }

    @Test("the same attempt under another run or token is a replay")
    func otherName() throws {
        var machine = try machine()
        let job = fixture.job()
        #expect(admit(&machine, job, fixture.name()))
        let other = fixture.name()
        let step = machine.dispatch(other, .success(fixture.verified(job)), now: now)
        #expect(refusal(step) == .replay)
        guard case .refuse(_, let answer) = step else { return }
        #expect(machine.known(other) == .send(answer), "the same attempt gets the same answer")
    }

    @Test("a run belongs to one job: another job's attempt under it is refused, also after the first ended")
    func otherJob() throws {
        var machine = try machine()
        let (job, other, name) = (fixture.job(attempts: 3), fixture.job(), fixture.name())
        func dispatch(_ job: JobPayload, _ attempt: Int) -> Refusal.Code? {
            let name = AttemptName(run: name.run, attempt: attempt, token: .new(at: now))
            return refusal(machine.dispatch(name, .success(fixture.verified(job)), now: now))
        }
        #expect(admit(&machine, job, name))
        #expect(dispatch(other, 1) == .replay)
        _ = machine.start(key(job), now: now)
        machine.settled(key(job), [.ended(key(job), Outcome.failed.end(at: now))])
        #expect(dispatch(other, 1) == .replay)
        #expect(dispatch(job, 2) == nil, "the run's own next attempt")
    }

    @Test("the next attempt needs an end of the previous that the signed policy lets follow")
    func nextAttempt() throws {
        for (outcome, idempotent, expected) in [
            (Outcome.failed, false, nil), (.timedOut, false, nil), (.unknown, true, nil),
            (.unknown, false, Refusal.Code.attempts), (.succeeded, true, .attempts),
            (.cancelled, true, .attempts),
        ] {
            var machine = try machine()
            let job = fixture.job(idempotent: idempotent)
            if !idempotent {
                let step = machine.dispatch(
                    fixture.name(attempt: 2), .success(fixture.verified(job)), now: now)
                #expect(refusal(step) == .attempts, "attempt 1 is not known")
            }
            run(&machine, job, fixture.name(), outcome)
            let next = machine.dispatch(fixture.name(attempt: 2), .success(fixture.verified(job)), now: now)
            #expect(refusal(next) == expected, "after \(outcome)")
        }
    }

    @Test(
        "an idempotent job's attempt may follow one that a restored copy does not know, but not the reverse")
    func unknownPrevious() throws {
        var machine = try machine()
        let job = fixture.job(idempotent: true)
        #expect(admit(&machine, job, fixture.name(attempt: 2)))
        let step = machine.dispatch(fixture.name(attempt: 1), .success(fixture.verified(job)), now: now)
        #expect(refusal(step) == .replay)
    }

    @Test("an attempt may follow one that was refused in passing; one that was refused for good has no next")
    func afterRefusal() throws {
        for (code, expected) in [
            (Refusal.Code.full, nil), (.notYetValid, nil), (.target, Refusal.Code.attempts),
        ] {
            var machine = try machine()
            let (job, first) = (fixture.job(), fixture.name())
            #expect(refusal(machine.dispatch(first, .failure(Refusal(code, "no")), now: now)) == code)
            let other = machine.dispatch(
                fixture.name(attempt: 2), .success(fixture.verified(job)), now: now)
            #expect(refusal(other) == .attempts, "another run's refusal says nothing")
            let second = AttemptName(run: first.run, attempt: 2, token: .new(at: now))
            #expect(refusal(machine.dispatch(second, .success(fixture.verified(job)), now: now)) == expected)
        }
    }

    @Test("the next attempt is refused while the previous lives, and an earlier one after a later")
    func order() throws {
        var machine = try machine()
        let job = fixture.job()
        let first = fixture.name()
        #expect(admit(&machine, job, first))
        #expect(
            refusal(machine.dispatch(fixture.name(attempt: 2), .success(fixture.verified(job)), now: now))
                == .attempts)
        _ = machine.start(key(job), now: now)
        machine.settled(key(job), [.ended(key(job), Outcome.failed.end(at: now))])
        _ = machine.release(.script)
        run(&machine, job, fixture.name(attempt: 2), .failed)
        #expect(
            refusal(machine.dispatch(fixture.name(attempt: 1), .success(fixture.verified(job)), now: now))
                == .replay)
    }

    @Test("a script that hangs keeps neither a ping waiting nor more than its lane")
    func lanes() throws {
        var machine = try machine()
        let scripts = (0..<RunnerMachine.laneConcurrencyMax).map { _ in fixture.job() }
        for job in scripts { #expect(admit(&machine, job, fixture.name())) }
        #expect(admit(&machine, fixture.job(.ping), fixture.name()))
        let waiting = (0..<RunnerMachine.laneQueueMax).map { _ in fixture.job() }
        for job in waiting { #expect(!admit(&machine, job, fixture.name())) }
        #expect(
            refusal(machine.dispatch(fixture.name(), .success(fixture.verified(fixture.job())), now: now))
                == .full)
        #expect(
            refusal(
                machine.dispatch(fixture.name(), .success(fixture.verified(fixture.job(.ping))), now: now))
                == nil)
        machine.settled(key(scripts[0]), [.ended(key(scripts[0]), Outcome.succeeded.end(at: now))])
        #expect(machine.release(.script) == key(waiting[0]), "first come, first served")
    }

    @Test("results beyond the outbox's bound keep new work out, at most sixteen are in flight, oldest first")
    func outbox() throws {
        var machine = try machine()
        let names = (0..<Outbox.resultsMax).map { _ in fixture.name() }
        for name in names.dropLast() { run(&machine, fixture.job(.ping), name, .succeeded) }
        run(&machine, fixture.job(.ping), names[names.count - 1], .succeeded)
        #expect(
            refusal(machine.dispatch(fixture.name(), .success(fixture.verified(fixture.job())), now: now))
                == .full)
        #expect(machine.nextResult() == nil, "there is no session")
        machine.sessionChanged(isServing: true)
        var sent: [AttemptName] = []
        while let (_, name, _) = machine.nextResult() { sent.append(name) }
        #expect(sent == Array(names.prefix(Outbox.inFlightMax)))
        _ = machine.acknowledged(names[3])
        #expect(machine.nextResult()?.1 == names[Outbox.inFlightMax])
        #expect(
            refusal(machine.dispatch(fixture.name(), .success(fixture.verified(fixture.job())), now: now))
                == nil)
        machine.sessionChanged(isServing: true)
        #expect(machine.nextResult()?.1 == names[0], "after a reconnect everything is sent again")
        #expect(machine.held().ended.count == Limits.helloAttemptsMax)
    }

    @Test("what a gateway says that it takes is obeyed where it is lower than one's own")
    func limits() throws {
        var machine = try machine()
        for _ in 0..<20 { run(&machine, fixture.job(.ping), fixture.name(), .succeeded) }
        var said = SessionLimits.own
        (said.resultsInFlight, said.helloAttempts) = (3, 2)
        (said.outputHeadBytes, said.outputTailBytes) = (0, Int.max)
        machine.sessionChanged(isServing: true)
        machine.obey(said)
        var sent = 0
        while machine.nextResult() != nil { sent += 1 }
        #expect(sent == 3)
        #expect(machine.held().ended.count == 2)
        #expect(machine.limits.outputHeadBytes == 0)
        #expect(machine.limits.outputTailBytes == Limits.outputTailBytes)
        (said.resultsInFlight, said.helloAttempts) = (Int.max, Int.max)
        machine.obey(said)
        while machine.nextResult() != nil { sent += 1 }
        #expect(sent == Outbox.inFlightMax)
    }

    @Test("a cancel kills what runs, takes out what waits, and is remembered for what has not come yet")
    func cancel() throws {
        var machine = try machine()
        let names = (0..<5).map { _ in fixture.name() }
        let jobs = names.map { _ in fixture.job() }
        for (job, name) in zip(jobs, names) { #expect(admit(&machine, job, name) == (name != names[4])) }
        let killed = Counter()
        #expect(!machine.attach(key(jobs[0])) { killed.add() })
        guard case .kill(let kill) = machine.cancel(names[0], now: now) else {
            Issue.record("not killed"); return
        }
        kill()
        #expect(killed.count == 1 && machine.finish(key(jobs[0]))?.intent == .cancel)
        _ = machine.cancel(names[1], now: now)
        #expect(machine.attach(key(jobs[1])) {}, "asked for before there was anything to kill")
        guard case .settle(let waiting, .cancel) = machine.cancel(names[4], now: now) else {
            Issue.record("not settled"); return
        }
        #expect(waiting == key(jobs[4]))

        let (late, lateJob) = (fixture.name(), fixture.job())
        guard case .record = machine.cancel(late, now: now) else { Issue.record("no tombstone"); return }
        guard case .nothing = machine.cancel(late, now: now) else { Issue.record("two tombstones"); return }
        guard
            case .cancelled(let key, _) = machine.dispatch(
                late, .success(fixture.verified(lateJob)), now: now)
        else { Issue.record("the dispatch was not cancelled"); return }
        #expect(key == self.key(lateJob))
    }

    @Test(
        "a cancel that comes while the acceptance is on its way to the disk ends the attempt without a start")
    func cancelWhileRecording() throws {
        var machine = try machine()
        let (job, name) = (fixture.job(), fixture.name())
        _ = machine.dispatch(name, .success(fixture.verified(job)), now: now)
        guard case .nothing = machine.cancel(name, now: now) else { Issue.record("too early"); return }
        guard case .settle(_, .cancel) = machine.admit(key(job)) else { Issue.record("started"); return }
    }

    @Test("however often it is asked to end, the end of an attempt is written once")
    func settlesOnce() throws {
        for (first, second) in [(true, true), (true, false), (false, true), (false, false)] {
            var machine = try machine()
            func ask(_ isCancel: Bool, _ name: AttemptName) -> RunnerMachine.Step {
                isCancel ? machine.cancel(name, now: now) : machine.drop(name)
            }
            for _ in 0..<RunnerMachine.laneConcurrencyMax {
                #expect(admit(&machine, fixture.job(), fixture.name()))
            }
            let (job, name) = (fixture.job(), fixture.name())
            #expect(!admit(&machine, job, name))
            guard case .settle = ask(first, name) else { Issue.record("not settled"); return }
            guard case .nothing = ask(second, name) else { Issue.record("settled twice"); return }
            #expect(machine.finish(key(job)) == nil)
            guard case .nothing = machine.admit(key(job)) else { Issue.record("started"); return }
            let end = JournalRecord.ended(key(job), Outcome.cancelled.end(at: now))
            if first {
                let after = machine.settled(key(job), [end])
                if case .forget(key(job)) = after { #expect(!second) } else { #expect(second) }
            } else {
                machine.settled(key(job), [end, .forgotten(key(job))])
            }
            #expect(machine.release(.script) == nil, "it does not wait for a place any more")
        }
    }

    @Test("a running attempt is asked to end until its end is written, and dropped even then")
    func asksWhileSettling() throws {
        var machine = try machine()
        let (job, name) = (fixture.job(), fixture.name())
        #expect(admit(&machine, job, name))
        _ = machine.start(key(job), now: now)
        _ = machine.attach(key(job)) {}
        guard case .kill = machine.cancel(name, now: now) else { Issue.record("not killed"); return }
        let finish = machine.finish(key(job))
        #expect(finish?.intent == .cancel)
        let again = machine.finish(key(job))
        #expect(again == nil)
        guard case .nothing = machine.drop(name) else { Issue.record("killed again"); return }
        #expect(machine.stop().isEmpty)
        let end = JournalRecord.ended(key(job), Outcome.cancelled.end(at: now))
        guard case .forget(key(job)) = machine.settled(key(job), [end]) else {
            Issue.record("kept"); return
        }
    }

    @Test("what the server has settled is dropped: results are forgotten, scripts killed")
    func drop() throws {
        var machine = try machine()
        let (ended, endedJob) = (fixture.name(), fixture.job())
        run(&machine, endedJob, ended, .failed)
        guard case .forget(key(endedJob)) = machine.drop(ended) else {
            Issue.record("kept"); return
        }
        let (running, job) = (fixture.name(), fixture.job())
        #expect(admit(&machine, job, running))
        _ = machine.attach(key(job)) {}
        guard case .kill = machine.drop(running) else { Issue.record("not killed"); return }
        #expect(machine.finish(key(job))?.intent == .drop)
        guard case .nothing = machine.drop(fixture.name()) else { Issue.record("unknown"); return }
    }

    @Test("a stopping agent takes nothing, kills what runs and leaves the rest to be sent again")
    func stop() throws {
        var machine = try machine()
        let (running, job) = (fixture.name(), fixture.job())
        #expect(admit(&machine, job, running))
        _ = machine.start(key(job), now: now)
        _ = machine.attach(key(job)) {}
        let (accepted, other) = (fixture.name(), fixture.job())
        _ = machine.dispatch(accepted, .success(fixture.verified(other)), now: now)
        #expect(machine.stop().count == 1)
        #expect(machine.finish(key(job))?.intent == .stop)
        guard case .nothing = machine.admit(key(other)) else { Issue.record("started"); return }
        #expect(
            machine.dispatch(fixture.name(), .success(fixture.verified(fixture.job())), now: now) == .ignore)
        machine.settled(key(job), [.ended(key(job), Outcome.cancelled.end(at: now))])
        #expect(machine.journal.held == [key(other)])
    }

    @Test("a clock that jumps ahead and back lets nothing start a second time, and keeps out nothing else")
    func clockJumps() throws {
        var machine = try machine()
        let (job, name) = (fixture.job(), fixture.name())
        run(&machine, job, name, .succeeded)
        _ = machine.acknowledged(name)
        let expiry = fixture.verified(job).expiresAt
        let early = machine.prune(now: now)
        #expect(early == nil)
        let record = machine.prune(now: now + .seconds(400 * 86_400))
        #expect(record == .pruned(through: expiry))
        #expect(machine.known(name) == nil, "its key is gone")
        for name in [name, fixture.name()] {
            #expect(refusal(machine.dispatch(name, .success(fixture.verified(job)), now: now)) == .expired)
        }
        let later = VerifiedJob(payload: fixture.job(), expiresAt: expiry + .seconds(1))
        #expect(refusal(machine.dispatch(fixture.name(), .success(later), now: now)) == nil)
    }

    @Test("in a session without end what has expired is looked for now and then")
    func pruneIsDue() throws {
        var machine = try machine()
        for _ in 0..<RunnerMachine.pruneEvery {
            #expect(!machine.isPruneDue)
            let name = fixture.name()
            run(&machine, fixture.job(.ping), name, .succeeded)
            _ = machine.acknowledged(name)
        }
        #expect(machine.isPruneDue)
        let record = machine.prune(now: now + .seconds(86_400))
        #expect(record != nil && !machine.isPruneDue && machine.journal.entries.isEmpty)
    }

    @Test("of what a gateway can make up one session gets a bounded number written, and all answered")
    func madeUp() throws {
        var machine = try machine()
        machine.sessionChanged(isServing: true)
        let stranger = Result<VerifiedJob, Refusal>.failure(Refusal(.signature, "no"))
        for _ in 0..<RunnerMachine.answersWrittenMax / 2 {
            #expect(refusal(machine.dispatch(fixture.name(), stranger, now: now)) == .signature)
            guard case .record = machine.cancel(fixture.name(), now: now) else {
                Issue.record("not written"); return
            }
        }
        let (refused, cancelled) = (fixture.name(), fixture.name())
        let answer = AgentFrame.rejected(Rejected(name: refused, code: "signature", message: "no"))
        #expect(machine.dispatch(refused, stranger, now: now) == .send(answer))
        #expect(machine.known(refused) == .send(answer))
        guard case .nothing = machine.cancel(cancelled, now: now) else { Issue.record("written"); return }
        let step = machine.dispatch(cancelled, .success(fixture.verified(fixture.job())), now: now)
        guard case .cancelled = step else { Issue.record("not remembered"); return }
        machine.sessionChanged(isServing: true)
        #expect(refusal(machine.dispatch(fixture.name(), stranger, now: now)) == .signature)
    }

    @Test("a refusal is remembered by its name, whatever comes under it later")
    func rememberedRefusal() throws {
        var machine = try machine()
        let (name, job) = (fixture.name(), fixture.job())
        let step = machine.dispatch(name, .failure(Refusal(.signature, "no")), now: now)
        #expect(refusal(step) == .signature)
        #expect(
            machine.dispatch(name, .success(fixture.verified(job)), now: now)
                == .send(.rejected(Rejected(name: name, code: "signature", message: "no"))))
    }
}

private final class Counter: Sendable {
    private let value = Atomic(0)

    var count: Int { value.load(ordering: .acquiring) }

    func add() { value.add(1, ordering: .acquiringAndReleasing) }
}
