import Domain
import Ledger
import Postgres
import TestSupport
import Testing
import Trust
import Wire

@testable import Engine
@testable import Gateway
@testable import Streams

/// Agents' sessions with a gateway that serves: hello, presence, what is sent, and what ends a session.
@Suite(.serialized, .world, .timeLimit(.minutes(1))) struct SessionTests {
    /// What connects.
    struct Stranger: CustomTestStringConvertible, Sendable {
        let testDescription: String
        /// Changes the database after the device was enrolled.
        var change: SQL?
        var isOfAnotherInstallation = false
        var isUnknown = false
        var hasAnotherKey = false
    }

    private static let strangers = [
        Stranger(testDescription: "a device of another installation", isOfAnotherInstallation: true),
        Stranger(testDescription: "a certificate that nobody issued here", isUnknown: true),
        Stranger(testDescription: "a certificate for another key", hasAnotherKey: true),
        Stranger(
            testDescription: "a revoked certificate", change: "UPDATE certificates SET revoked_at = now()"),
        Stranger(
            testDescription: "a certificate that has ended on the server",
            change: "UPDATE certificates SET not_after = now()"),
        Stranger(testDescription: "a suspended device", change: "UPDATE devices SET state = 1"),
        Stranger(testDescription: "a device without certificate", change: "DELETE FROM certificates"),
    ]

    @Test("The hello of a device that may hold no session is refused with 4401", arguments: strangers)
    func refused(stranger: Stranger) async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let device = tenant.all[0]
            let made = try Identities.shared.device(
                device, of: tenant.organization,
                deployment: stranger.isOfAnotherInstallation ? fresh() : nil)
            if !stranger.isUnknown { try await bench.keep(made.certificate, device, tenant) }
            if stranger.hasAnotherKey {
                try await bench.world.owner.execute("UPDATE devices SET key_hash = sha256('x')", scope: .none)
            }
            if let change = stranger.change { try await bench.world.owner.execute(change, scope: .none) }
            let (_, runs) = try await bench.world.submit(tenant, [device])
            let marked = try await bench.mark(runs)
            let agent = try await TestAgent.connect(bench, try bench.context(made))
            let name = AttemptName(run: marked[0].run, attempt: 1, token: marked[0].token)
            // In the same breath as the hello, before anybody has judged it. The refusal may be faster.
            try? await agent.send(
                .finished(Finished(name: name, outcome: .succeeded, finishedAt: .now())))
            #expect(await agent.next() == .closed(4401))
            #expect(await agent.next() == nil)
            #expect(try await bench.queue.presence(of: [device]) == [nil])
            #expect(try await bench.world.state(name.run) == .dispatched)
            #expect(bench.gateway.counters.snapshot["settled"] == nil)
            try await bench.world.owner.execute("DELETE FROM certificates", scope: .none)
        }
    }

    @Test("A device that may is welcomed, present and noted")
    func welcomed() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let contexts = try await bench.enroll(tenant)
            var hello = Hello.example(journalPosition: 12)
            hello.hostname = "laptop"
            let agent = try await TestAgent.connect(
                bench, try #require(contexts[tenant.all[0]]), hello: hello)
            let welcome = try await agent.welcome()
            #expect(welcome.session > 0 && welcome.drop.isEmpty && welcome.cancel.isEmpty)
            let presence = try await bench.queue.presence(of: tenant.all)[0]
            #expect(presence?.gateway == bench.gateway.id && presence?.session == welcome.session)
            try await bench.until {
                let row = try await bench.world.api.device(tenant.all[0], scope: tenant.scope)
                return row?.hostname == "laptop" && row?.lastSeenAt != nil
            }
            try await agent.send(.ping(5))
            #expect(await agent.next() == .frame(.pong(5)))
        }
    }

    @Test("A letter ends the session of a device whose site is archived, and its next hello is refused")
    func archived() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let context = try #require(try await bench.enroll(tenant)[tenant.all[0]])
            let agent = try await TestAgent.connect(bench, context)
            _ = try await agent.welcome()
            try await bench.world.owner.execute("UPDATE sites SET closed = true", scope: .none)
            #expect(
                await bench.front.endSessions(of: [(tenant.organization, tenant.all[0])]) == [tenant.all[0]])
            #expect(await agent.next() == .closed(4410))
            let again = try await TestAgent.connect(bench, context)
            #expect(await again.next() == .closed(4401))
            try await bench.world.owner.execute("UPDATE sites SET closed = false", scope: .none)
            let restored = try await TestAgent.connect(bench, context)
            _ = try await restored.welcome()
        }
    }

    @Test("A device that moved shows its old certificate, gets its new assignment and its new place's work")
    func moved() async throws {
        try await Bench.run { bench in
            let (tenant, target) = (try await bench.world.tenant(), try await bench.world.tenant())
            let device = tenant.all[0]
            let context = try #require(try await bench.enroll(tenant)[device])
            let agent = try await TestAgent.connect(bench, context)
            _ = try await agent.welcome()
            let site = try #require(try await bench.world.api.device(target.all[0], scope: .platform)).site
            let place = try #require(try await bench.world.api.site(site, scope: .platform))
            let before = try #require(try await bench.world.api.assigned([device], scope: .platform).first)
            let moved = try await bench.world.api.reassign(
                [Reassigned(before: before, assignment: [7], mac: RowMAC(keyID: "k", code: [1]))], to: place)
            #expect(moved.moved == [device])
            await bench.gateway.endUnwelcome()
            #expect(await agent.next() == .closed(4410))
            let again = try await TestAgent.connect(bench, context)
            #expect(try await again.welcome().assignment?.bytes == [7])
            let (_, runs) = try await bench.world.submit(target, [device])
            let marked = try await bench.dispatch(runs)
            let names = try await again.dispatches(1)
            #expect(names.map(\.run) == marked.map(\.run))
            try await again.send(
                .finished(Finished(name: names[0], outcome: .succeeded, finishedAt: .now())))
            try await bench.until { try await bench.world.state(names[0].run) == .succeeded }
        }
    }

    @Test("Only the agents' path with the agents' protocol leads to a session")
    func otherRequests() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let context = try #require(try await bench.enroll(tenant)[tenant.all[0]])
            for (path, subprotocol) in [("/", "cloudrmm.agent.v1"), ("/agent/connect", "cloudrmm.agent.v2")] {
                let agent = try await TestAgent.connect(
                    bench, context, hello: nil, path: path, subprotocol: subprotocol)
                let answer = await agent.next()
                #expect(answer != .opened)
                #expect(answer == .refused(426))
            }
            #expect(bench.gateway.sessionCount == 0)
        }
    }

    @Test("A newer session of a device ends the older one with 4409, whose end takes nothing from the newer")
    func superseded() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let context = try #require(try await bench.enroll(tenant)[tenant.all[0]])
            let first = try await TestAgent.connect(bench, context)
            let older = try await first.welcome()
            let second = try await TestAgent.connect(bench, context)
            let newer = try await second.welcome()
            #expect(newer.session > older.session)
            #expect(await first.next() == .closed(4409))
            #expect(await first.next() == nil)
            try await second.send(.ping(1))
            #expect(await second.next() == .frame(.pong(1)))
            #expect(try await bench.queue.presence(of: tenant.all)[0]?.session == newer.session)
            #expect(bench.gateway.sessionCount == 1)
        }
    }

    @Test("A session that ends takes its presence with it")
    func ended() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let context = try #require(try await bench.enroll(tenant)[tenant.all[0]])
            let agent = try await TestAgent.connect(bench, context)
            _ = try await agent.welcome()
            try await agent.leave()
            try await bench.until { try await bench.queue.presence(of: tenant.all) == [nil] }
            #expect(bench.gateway.sessionCount == 0)
        }
    }

    @Test(
        "A dispatch in the inbox goes to its device, noted as sent, and its result is settled"
    )
    func dispatch() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let context = try #require(try await bench.enroll(tenant)[tenant.all[0]])
            let agent = try await TestAgent.connect(bench, context)
            _ = try await agent.welcome()
            let (job, runs) = try await bench.world.submit(tenant, tenant.all)
            let marked = try await bench.dispatch(runs)
            let name = try #require(try await agent.dispatches(1).first)
            #expect(name == AttemptName(run: marked[0].run, attempt: 1, token: marked[0].token))
            #expect(try await bench.world.count("SELECT count(*) FROM runs WHERE sent_at IS NOT NULL") == 1)
            try await agent.send(.accepted(Accepted(name: name, journalPosition: 1)))
            try await agent.send(.started(Started(name: name, at: .now(), journalPosition: 2)))
            try await bench.until { try await bench.world.state(name.run) == .running }
            try await agent.send(
                .finished(Finished(name: name, outcome: .succeeded, exitCode: 0, finishedAt: .now())))
            #expect(await agent.next() == .frame(.acknowledged(name)))
            let row = try await bench.world.api.job(job, scope: tenant.scope)
            #expect(row?.state == .completed && row?.counts == [.succeeded: 1])
        }
    }

    @Test("A dispatch that an agent rejects fails its run with the agent's reason")
    func rejected() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let context = try #require(try await bench.enroll(tenant)[tenant.all[0]])
            let agent = try await TestAgent.connect(bench, context)
            _ = try await agent.welcome()
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            _ = try await bench.dispatch(runs)
            let name = try #require(try await agent.dispatches(1).first)
            try await agent.send(.rejected(Rejected(name: name, code: "signature", message: "is not signed")))
            #expect(await agent.next() == .frame(.acknowledged(name)))
            let run = try await bench.world.api.run(name.run, scope: tenant.scope)
            #expect(run?.state == .failed && run?.reason == "rejected:signature")
        }
    }

    @Test("A hello is sent what it does not hold, noted as sent, and told to drop and to cancel the rest")
    func reconciled() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let device = tenant.all[0]
            let context = try #require(try await bench.enroll(tenant)[device])
            var jobs: [JobID] = []
            var runs: [QueuedRun] = []
            for _ in 0..<3 {
                let (job, made) = try await bench.world.submit(tenant, [device])
                jobs.append(job)
                runs += made
            }
            let marked = try await bench.mark(runs)
            let names = jobs.compactMap { job in
                marked.first { $0.job == job }.map {
                    AttemptName(run: $0.run, attempt: $0.attempt, token: $0.token)
                }
            }
            let ended = AttemptName(run: fresh(), attempt: 1, token: fresh())
            _ = try await bench.world.gateway.take([(tenant.organization, names[1].run, names[1].token)])
            _ = try await bench.world.api.requestCancel(jobs[1], scope: tenant.scope)
            _ = try await bench.world.api.cancelRuns(
                of: jobs[1], organization: tenant.organization, scope: tenant.scope)
            var hello = Hello.example()
            hello.held = [names[1], ended]
            hello.ended = [names[2]]
            let agent = try await TestAgent.connect(bench, context, hello: hello)
            let welcome = try await agent.welcome()
            #expect(welcome.drop == [ended])
            #expect(welcome.cancel == [names[1]])
            #expect(try await agent.dispatches(1) == [names[0]])
            #expect(
                try await bench.world.count(
                    "SELECT count(*) FROM runs WHERE id = \(names[0].run) AND sent_at IS NOT NULL") == 1)
        }
    }

    @Test("A restored journal is sent nothing again: its open attempts end as unknown")
    func regressed() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let context = try #require(try await bench.enroll(tenant)[tenant.all[0]])
            try await bench.world.owner.execute("UPDATE devices SET journal_position = 100", scope: .none)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            _ = try await bench.mark(runs)
            // What was never sent cannot have run, and would be sent.
            try await bench.world.owner.execute("UPDATE runs SET sent_at = now()", scope: .none)
            let agent = try await TestAgent.connect(bench, context, hello: .example(journalPosition: 99))
            _ = try await agent.welcome()
            try await bench.until { try await bench.world.state(runs[0].run) == .unknown }
            let run = try await bench.world.api.run(runs[0].run, scope: tenant.scope)
            #expect(run?.reason == "journalRegress")
            // What the copy forgot is settled; from here on it is a journal like any other.
            try await bench.until {
                try await bench.world.count(
                    "SELECT journal_position FROM devices WHERE id = \(tenant.all[0])") == 99
            }
            let (_, later) = try await bench.world.submit(tenant, tenant.all)
            _ = try await bench.mark(later)
            try await bench.world.owner.execute("UPDATE runs SET sent_at = now()", scope: .none)
            let back = try await TestAgent.connect(bench, context, hello: .example(journalPosition: 99))
            _ = try await back.welcome()
            #expect(try await back.dispatches(1).map(\.run) == later.map(\.run))
        }
    }

    @Test("What a device accepted since its hello counts: a copy restored from before that is seen")
    func regressedBetweenHellos() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let device = tenant.all[0]
            let context = try #require(try await bench.enroll(tenant)[device])
            let agent = try await TestAgent.connect(bench, context, hello: .example(journalPosition: 10))
            _ = try await agent.welcome()
            let (_, runs) = try await bench.world.submit(tenant, [device])
            _ = try await bench.dispatch(runs)
            let name = try #require(try await agent.dispatches(1).first)
            try await agent.send(.accepted(Accepted(name: name, journalPosition: 11)))
            try await agent.send(.ping(1))
            #expect(await agent.next() == .frame(.pong(1)))
            try await agent.leave()
            let back = try await TestAgent.connect(bench, context, hello: .example(journalPosition: 10))
            _ = try await back.welcome()
            try await bench.until { try await bench.world.state(name.run) == .unknown }
            #expect(bench.gateway.counters.snapshot["journalRegressed"] == 1)
            // Written also where no hello follows.
            try await back.send(.accepted(Accepted(name: name, journalPosition: 20)))
            try await bench.until(looks: 100_000) {
                try await bench.world.count("SELECT journal_position FROM devices WHERE id = \(device)") == 20
            }
        }
    }

    @Test("What a device started since its hello counts: a copy restored from before that is seen")
    func regressedAfterTheStart() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let context = try #require(try await bench.enroll(tenant)[tenant.all[0]])
            let agent = try await TestAgent.connect(bench, context, hello: .example(journalPosition: 10))
            _ = try await agent.welcome()
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            _ = try await bench.dispatch(runs)
            let name = try #require(try await agent.dispatches(1).first)
            try await agent.send(.accepted(Accepted(name: name, journalPosition: 11)))
            // The copy is made here: accepted, and not begun.
            try await agent.send(.started(Started(name: name, at: .now(), journalPosition: 12)))
            try await agent.send(.ping(1))
            #expect(await agent.next() == .frame(.pong(1)))
            try await agent.leave()
            let back = try await TestAgent.connect(bench, context, hello: .example(journalPosition: 11))
            _ = try await back.welcome()
            try await bench.until { try await bench.world.state(name.run) == .unknown }
        }
    }

    @Test("Presence that was lost while the session lives comes back with its next hello")
    func presenceComesBack() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let device = tenant.all[0]
            let context = try #require(try await bench.enroll(tenant)[device])
            let agent = try await TestAgent.connect(bench, context)
            let first = try await agent.welcome()
            let presence = try #require(try await bench.queue.presence(of: [device])[0])
            let epoch = try await bench.front.epoch()
            // As by the end of a half-open session that was answered later than this one.
            try await bench.queue.absent(
                device: device, gateway: presence.gateway, session: presence.session, epoch: epoch)
            try await agent.send(.hello(.example()))
            #expect(try await agent.welcome().session == first.session)
            #expect(try await bench.queue.presence(of: [device]) == [presence])
            // A later session elsewhere is the one that counts.
            _ = try await bench.queue.present(device: device, gateway: fresh(), epoch: epoch)
            try await agent.send(.hello(.example()))
            #expect(await agent.next() == .closed(4409))
        }
    }

    @Test("A repeated hello brings what a push has lost, and is judged like the first")
    func repeated() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let device = tenant.all[0]
            let context = try #require(try await bench.enroll(tenant)[device])
            let agent = try await TestAgent.connect(bench, context)
            let first = try await agent.welcome()
            #expect(first.helloSeconds == 300)
            let (_, runs) = try await bench.world.submit(tenant, [device])
            let marked = try await bench.mark(runs)
            let ended = AttemptName(run: fresh(), attempt: 1, token: fresh())
            var hello = Hello.example()
            hello.held = [ended]
            try await agent.send(.hello(hello))
            let second = try await agent.welcome()
            #expect(second.drop == [ended] && second.session == first.session)
            #expect(try await agent.dispatches(1).map(\.token) == marked.map(\.token))
            try await bench.counted("hellosRepeated", 1)

            try await bench.world.owner.execute("UPDATE devices SET state = 1", scope: .none)
            try await agent.send(.hello(.example()))
            #expect(await agent.next() == .closed(4401))
        }
    }

    @Test("A repeated hello that cannot be answered leaves the session as it is")
    func repeatedInVain() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let context = try #require(try await bench.enroll(tenant)[tenant.all[0]])
            let agent = try await TestAgent.connect(bench, context)
            _ = try await agent.welcome()
            try await bench.world.owner.execute(
                "ALTER TABLE devices RENAME COLUMN state TO gone", scope: .none)
            try await agent.send(.hello(.example()))
            try await bench.counted("hellosFailed", 1)
            try await bench.world.owner.execute(
                "ALTER TABLE devices RENAME COLUMN gone TO state", scope: .none)
            try await agent.send(.hello(.example()))
            _ = try await agent.welcome()
        }
    }

    @Test("A device's waiting runs are queued again when it connects, in the next generation")
    func wakes() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let context = try #require(try await bench.enroll(tenant)[tenant.all[0]])
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            #expect(try await bench.world.worker.wait(runs).count == 1)
            let agent = try await TestAgent.connect(bench, context)
            _ = try await agent.welcome()
            try await bench.until { try await bench.world.state(runs[0].run) == .queued }
            try await bench.until {
                try await bench.queue.depths(of: [tenant.organization]).first?.ready == [.standard: 1]
            }
            #expect(try await bench.world.count("SELECT generation::bigint FROM runs") == 2)
        }
    }

    @Test("A device whose sessions come and go has its waiting runs woken later, but woken")
    func flapping() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let context = try #require(try await bench.enroll(tenant)[tenant.all[0]])
            for _ in 0..<3 {
                let agent = try await TestAgent.connect(bench, context)
                _ = try await agent.welcome()
                try await agent.leave()
            }
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            #expect(try await bench.world.worker.wait(runs).count == 1)
            let agent = try await TestAgent.connect(bench, context)
            _ = try await agent.welcome()
            try await bench.counted("wakesDelayed", 1)
            try await bench.until(looks: 100_000) { try await bench.world.state(runs[0].run) == .queued }
        }
    }

    @Test("A dispatch for a device that has left goes back, and its stale presence is withdrawn")
    func goneDevice() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            _ = try await bench.queue.present(
                tenant.all, gateway: bench.gateway.id, epoch: bench.front.epoch())
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            _ = try await bench.dispatch(runs)
            try await bench.until { try await bench.world.state(runs[0].run) == .queued }
            try await bench.until { try await bench.queue.presence(of: tenant.all) == [nil] }
        }
    }

    @Test("On a new data set a gateway takes a new incarnation, says whom it holds, and wakes their runs")
    func reincarnates() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let context = try #require(try await bench.enroll(tenant)[tenant.all[0]])
            let agent = try await TestAgent.connect(bench, context)
            let welcome = try await agent.welcome()
            let old = bench.gateway.id
            // Its heartbeat has seen the data set that is lost now.
            try await bench.until(looks: 100_000) {
                try await bench.queue.alive([old]).contains(old)
            }
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            #expect(try await bench.world.worker.wait(runs).count == 1)
            try await bench.wipe()
            #expect(try await bench.rebuilder.checkOnce())
            try await bench.until(looks: 100_000) {
                let presence = try await bench.queue.presence(of: tenant.all)[0]
                return presence?.gateway == bench.gateway.id && presence?.session == welcome.session
            }
            #expect(bench.gateway.id != old)
            try await bench.until(looks: 100_000) { try await bench.world.state(runs[0].run) == .queued }
            // The session itself goes on, and gets its dispatches from the new inbox.
            _ = try await bench.dispatch(runs.map { $0.inGeneration(2) })
            #expect(try await agent.dispatches(1).map(\.run) == runs.map(\.run))
        }
    }

    @Test("A dispatch for a session that has a successor elsewhere goes back instead of into the void")
    func halfOpen() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let context = try #require(try await bench.enroll(tenant)[tenant.all[0]])
            let agent = try await TestAgent.connect(bench, context)
            _ = try await agent.welcome()
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            // The device has gone to another gateway; here nobody has noticed.
            let other: GatewayID = fresh()
            _ = try await bench.queue.present(tenant.all, gateway: other, epoch: bench.front.epoch())
            _ = try await bench.dispatch(runs)
            try await bench.until { try await bench.world.state(runs[0].run) == .queued }
            #expect(try await bench.world.count("SELECT count(*) FROM runs WHERE sent_at IS NOT NULL") == 0)
            #expect(try await bench.queue.presence(of: tenant.all)[0]?.gateway == other)
        }
    }

    @Test("An agent cannot end another device's run")
    func thief() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 2)
            let contexts = try await bench.enroll(tenant)
            let (_, runs) = try await bench.world.submit(tenant, [tenant.all[0]])
            let marked = try await bench.mark(runs)
            let agent = try await TestAgent.connect(bench, try #require(contexts[tenant.all[1]]))
            _ = try await agent.welcome()
            let name = AttemptName(run: marked[0].run, attempt: 1, token: marked[0].token)
            try await agent.send(.started(Started(name: name, at: .now(), journalPosition: 2)))
            try await agent.send(.finished(Finished(name: name, outcome: .succeeded, finishedAt: .now())))
            #expect(await agent.next() == .frame(.acknowledged(name)))
            #expect(try await bench.world.state(name.run) == .dispatched)
            #expect(bench.gateway.counters.snapshot["foreign"] == 1)
        }
    }

    @Test("A gateway that stops says so to its agents with 1001 and ends its incarnation")
    func stops() async throws {
        var kept: TestAgent?
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let context = try #require(try await bench.enroll(tenant)[tenant.all[0]])
            let agent = try await TestAgent.connect(bench, context)
            _ = try await agent.welcome()
            #expect(try await bench.world.worker.openGateways() == [bench.gateway.id])
            kept = agent
        }
        let last = await kept?.next()
        #expect(last == .closed(1001))
    }
}

extension QueuedRun {
    /// The same run after it has been queued again.
    fileprivate func inGeneration(_ generation: Int) -> QueuedRun {
        QueuedRun(
            organization: organization, run: run, device: device, generation: generation, lane: lane,
            priority: priority)
    }
}
