import Domain
import Ledger
import Postgres
import Redis
import TestSupport
import Testing
import Trust

@testable import Engine
@testable import Streams

/// What may happen between two steps of the path of a run, each as one test: who finds it again, and that
/// nothing runs twice. The rules are those of the queue's protocol.
@Suite(.serialized, .world) struct InterleavingTests {
    // MARK: Before the claim

    @Test("Work that was committed and never enqueued is brought by the stragglers' scan, however old it is")
    func lostEnqueue() async throws {
        try await Bench.run { bench in
            let (tenant, other) = (try await bench.world.tenant(), try await bench.world.tenant())
            let post = try await Post.open(bench, holding: tenant.all + other.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            let (_, others) = try await bench.world.submit(other, other.all)
            #expect(try await bench.refiller.refillOnce() == 0)
            try await bench.dispatchAll()
            #expect(try await post.attempts().isEmpty, "nobody told the queue")
            #expect(try await !bench.reconciler.markStragglers(), "the fast path may be on its way")
            try await bench.age(.seconds(3))
            #expect(try await bench.reconciler.markStragglers())
            #expect(try await bench.refiller.refillOnce() == 2)
            try await bench.dispatchAll()
            #expect(Set(try await post.attempts().map(\.run)) == Set((runs + others).map(\.run)))
            #expect(try await !bench.reconciler.markStragglers(), "nothing is queued any more")
        }
    }

    @Test("A lost run is found behind any number of younger ones that the queue holds")
    func lostBehindOthers() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 151)
            let runs = try await bench.world.submit(tenant, tenant.all).runs.sorted { $0.run < $1.run }
            let lost = try #require(runs.last)
            await bench.front.offer(runs.dropLast())
            #expect(try await bench.depth(tenant).ready.values.reduce(0, +) == 150)
            #expect(try await !bench.reconciler.markStragglers())
            try await bench.world.owner.execute(
                "UPDATE runs SET queued_at = now() - interval '3 seconds' WHERE id = \(lost.run)",
                scope: .none)
            #expect(try await bench.reconciler.markStragglers())
            #expect(try await bench.refiller.refillOnce() == 1)
            #expect(try await bench.claim().count + bench.claim().count == 151)
        }
    }

    @Test("A job over a site is expanded, brought and dispatched by workers alone")
    func expansion() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(sites: 2, devices: 3)
            let post = try await Post.open(bench, holding: tenant.all)
            let job = SubmittedJob(
                id: fresh(), organization: tenant.organization, site: nil, kind: .ping, priority: .standard,
                statement: [1], devices: nil, targetSite: tenant.sites[1], timeoutSeconds: 60,
                maximumAttempts: 1, idempotent: false, expiresAt: .now() + .seconds(60), principal: fresh(),
                idempotencyKey: nil, requestHash: [])
            _ = try await bench.world.api.submit([job], scope: tenant.scope)
            #expect(try await bench.reconciler.expandOnce())
            #expect(try await !bench.reconciler.expandOnce())
            #expect(try await bench.refiller.refillOnce() == 3)
            try await bench.dispatchAll()
            #expect(Set(try await post.attempts().map(\.device)) == Set(tenant.devices[1]))
        }
    }

    // MARK: Claim and mark

    @Test("A claim whose owner died comes back when its lease has lapsed, and leaves once")
    func lapsedLease() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            #expect(try await bench.claim().count == 1)
            try await bench.dispatchAll()
            #expect(try await post.attempts().isEmpty, "the lease holds")
            #expect(try await !bench.reconciler.sweepOnce())
            try await bench.lapseLeases()
            #expect(try await bench.reconciler.sweepOnce())
            try await bench.dispatchAll()
            #expect(try await post.attempts().map(\.run) == runs.map(\.run))
            try await bench.dispatchAll()
            #expect(try await post.attempts().isEmpty)
        }
    }

    @Test("An entry of an older generation is refused at the mark and dropped; the newer one is brought")
    func staleGeneration() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            try await bench.world.owner.execute("UPDATE runs SET generation = 2", scope: .none)
            try await bench.dispatchAll()
            #expect(try await post.attempts().isEmpty)
            #expect(try await bench.world.state(runs[0].run) == .queued)
            let depth = try await bench.depth(tenant)
            #expect(depth.ready.isEmpty && depth.leased == 0 && depth.running == 0)
            try await bench.age(.seconds(3))
            #expect(try await bench.reconciler.markStragglers())
            #expect(try await bench.refiller.refillOnce() == 1)
            try await bench.dispatchAll()
            #expect(try await post.attempts().map(\.attempt) == [1])
        }
    }

    @Test("A cancel that comes between enqueue and mark stops the run, and a worker ends it")
    func cancelBeforeMark() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let (job, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            _ = try await bench.world.api.requestCancel(job, scope: tenant.scope)
            try await bench.dispatchAll()
            #expect(try await post.attempts().isEmpty)
            #expect(try await bench.reconciler.judgeDeadlines())
            #expect(try await bench.world.state(runs[0].run) == .cancelled)
            #expect(try await bench.refiller.refillOnce() == 0)
        }
    }

    @Test("A cancel between claim and mark stops it too")
    func cancelAfterClaim() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let (job, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            let claims = try await bench.claim()
            _ = try await bench.world.api.requestCancel(job, scope: tenant.scope)
            #expect(try await bench.mark(claims, gateway: fresh()).isEmpty)
        }
    }

    @Test("A paused organization's runs are not marked, whatever the queue knows; they come when it goes on")
    func paused() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            try await bench.world.pause(QueueScope(organization: tenant.organization))
            try await bench.dispatchAll()
            #expect(try await post.attempts().isEmpty)
            try await bench.world.resume(QueueScope(organization: tenant.organization))
            try await bench.age(.seconds(3))
            #expect(try await bench.reconciler.markStragglers())
            _ = try await bench.refiller.refillOnce()
            try await bench.dispatchAll()
            #expect(try await post.attempts().map(\.run) == runs.map(\.run))
        }
    }

    @Test("What was not sent in time expires, in PostgreSQL and in the queue")
    func expired() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 3)
            let post = try await Post.open(bench, holding: [tenant.all[0], tenant.all[2]])
            let (job, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer([runs[1]])
            try await bench.dispatchAll()
            #expect(try await bench.world.state(runs[1].run) == .waiting)
            await bench.front.offer([runs[0]])
            try await bench.world.owner.execute(
                "UPDATE runs SET expires_at = now() - interval '1 s', deadline = now() - interval '1 s'",
                scope: .none)
            try await bench.dispatchAll()
            #expect(try await post.attempts().isEmpty, "expired runs are not marked")
            #expect(try await bench.reconciler.judgeDeadlines())
            for run in runs { #expect(try await bench.world.state(run.run) == .expired) }
            while try await bench.world.worker.foldDeltas(limit: 100) > 0 {}
            let row = try await bench.world.api.job(job, scope: tenant.scope)
            #expect(row?.state == .completed && row?.counts == [.expired: 3])
        }
    }

    @Test("Two dispatchers on one backlog let every run leave once")
    func twoDispatchers() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 300)
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs, and: [tenant.organization.queue()])
            let second = bench.dispatcher(owner: "second")
            var items: [InboxLetter.Item] = []
            for _ in 0..<40 where items.count < runs.count {
                _ = try await bench.refiller.refillOnce()
                async let one = bench.dispatcher.dispatchOnce()
                async let two = second.dispatchOnce()
                _ = try await (one, two)
                items += try await post.attempts()
            }
            #expect(items.count == 300)
            #expect(Set(items.map(\.run)) == Set(runs.map(\.run)))
            #expect(items.allSatisfy { $0.attempt == 1 })
            #expect(try await bench.depth(tenant).running == 300)
        }
    }

    @Test("A run that lies in the queue twice leaves once: the mark takes it from the other dispatcher")
    func claimedTwice() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            let claims = try await bench.claim("slow")
            try await bench.lapseLeases()
            #expect(try await bench.reconciler.sweepOnce())
            try await bench.dispatchAll()
            #expect(try await post.attempts().count == 1)
            #expect(try await bench.mark(claims, gateway: post.id).isEmpty, "the slow one comes too late")
        }
    }

    // MARK: Between mark and acknowledgement

    @Test("A worker that died between commit and inbox: the same attempt and token leave later")
    func lostInbox() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            let marked = try #require(try await bench.mark(try await bench.claim(), gateway: post.id).first)
            try await bench.lapseLeases()
            _ = try await bench.reconciler.sweepOnce()
            try await bench.dispatchAll()
            #expect(try await post.attempts().isEmpty, "a marked run is not marked again")
            #expect(try await !bench.reconciler.judgeDeadlines(), "its gateway still has its time")
            try await bench.lapseMarks()
            #expect(try await bench.reconciler.judgeDeadlines())
            #expect(try await bench.refiller.refillOnce() == 1)
            try await bench.dispatchAll()
            let again = try #require(try await post.attempts().first)
            #expect(again.attempt == 1 && again.token == marked.token)
            #expect(try await post.take([again]).count == 1)
            #expect(try await post.finish([again]).count == 1)
            #expect(try await bench.world.state(runs[0].run) == .succeeded)
        }
    }

    @Test(
        "A worker that died between inbox and acknowledgement: the run leaves no second time"
    )
    func lostAcknowledgement() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            let marked = try await bench.mark(try await bench.claim(), gateway: post.id)
            let letter = InboxLetter.dispatch(
                marked.map {
                    InboxLetter.Item(
                        organization: $0.organization, job: $0.job, run: $0.run, device: $0.device,
                        attempt: $0.attempt, token: $0.token)
                })
            _ = try await bench.queue.deliver([Letter(gateway: post.id, payload: letter.encoded)])
            let items = try await post.attempts()
            #expect(try await post.take(items).count == 1)
            try await bench.lapseLeases()
            #expect(try await bench.reconciler.sweepOnce())
            try await bench.dispatchAll()
            #expect(try await post.attempts().isEmpty)
            try await post.finish(items)
            #expect(try await bench.world.state(runs[0].run) == .succeeded)
            let depth = try await bench.depth(tenant)
            #expect(depth.ready.isEmpty && depth.leased == 0 && depth.running == 0)
        }
    }

    @Test("An agent that answers before its dispatch is acknowledged settles, and leaves nothing running")
    func fastAgent() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            let post = try await Post.open(bench, holding: tenant.all)
            let claims = try await bench.claim()
            let marked = try await bench.mark(claims, gateway: post.id)
            let items = marked.map {
                InboxLetter.Item(
                    organization: $0.organization, job: $0.job, run: $0.run, device: $0.device,
                    attempt: $0.attempt, token: $0.token)
            }
            try await post.finish(items)
            try await bench.queue.acknowledge(
                dispatched: claims, dropped: [], deadlineMilliseconds: 9_999_999_999_999,
                epoch: bench.front.epoch())
            #expect(try await bench.world.state(runs[0].run) == .succeeded)
            #expect(try await bench.depth(tenant).running == 0)
        }
    }

    // MARK: Gateways

    @Test("What lies in a dead gateway's inbox goes to the device's next gateway, as the same attempt")
    func buried() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 2)
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            try await bench.dispatchAll()
            #expect(try await !bench.reconciler.buryGateways(), "it lives")
            try await post.die()
            let next = try await Post.open(bench, holding: tenant.all)
            #expect(try await bench.depth(tenant).running == 2)
            #expect(try await bench.reconciler.buryGateways())
            #expect(try await bench.depth(tenant).running == 0, "what goes back holds no slot")
            #expect(try await bench.refiller.refillOnce() == 2)
            try await bench.dispatchAll()
            #expect(try await bench.depth(tenant).running == 2)
            let items = try await next.attempts()
            #expect(Set(items.map(\.run)) == Set(runs.map(\.run)))
            #expect(items.allSatisfy { $0.attempt == 1 })
            #expect(try await bench.world.worker.openGateways() == [next.id])
            #expect(try await !bench.reconciler.buryGateways(), "a gateway is buried once")
        }
    }

    @Test("A waiting run whose device came in while its dispatcher died is woken, and only that one")
    func wakes() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 2)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            let post = try await Post.open(bench)
            await bench.front.offer(runs)
            try await bench.dispatchAll()
            for run in runs { #expect(try await bench.world.state(run.run) == .waiting) }
            // Its gateway looked for waiting runs before this one was parked.
            try await post.present([tenant.all[0]])
            #expect(try await bench.reconciler.wakePresent(after: (ID(.zero), ID(.zero))) == nil)
            #expect(try await bench.world.state(runs[0].run) == .queued)
            #expect(try await bench.world.state(runs[1].run) == .waiting)
            try await bench.dispatchAll()
            #expect(try await post.attempts().map(\.run) == [runs[0].run])
        }
    }

    @Test("A cancel whose letter was lost is told again, until the device has answered")
    func lostCancel() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let (job, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            try await bench.dispatchAll()
            let items = try await post.attempts()
            _ = try await post.take(items)
            _ = try await bench.world.api.requestCancel(job, scope: tenant.scope)
            let (_, sent) = try await bench.world.api.cancelRuns(
                of: job, organization: tenant.organization, scope: tenant.scope)
            #expect(sent.count == 1)
            // Whoever was to tell its gateway died here.
            _ = try await bench.reconciler.repeatCancels()
            #expect(try await post.letters().isEmpty, "its letter may be on its way")
            try await bench.world.owner.execute(
                "UPDATE runs SET cancel_requested_at = now() - interval '4 seconds'", scope: .none)
            for _ in 0..<2 {
                _ = try await bench.reconciler.repeatCancels()
                #expect(try await post.letters() == [.cancel(items)])
            }
            try await post.finish(items)
            _ = try await bench.reconciler.repeatCancels()
            #expect(try await post.letters().isEmpty)
        }
    }

    @Test("The comparison of memberships ends the one of a generation that went back")
    func staleMembership() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            try await bench.dispatchAll()
            // A worker put it back, died before it told the queue, and another dispatched it again.
            let back = try await bench.world.worker.undeliver(
                post.attempts().map { ($0.organization, $0.run, $0.token) })
            await bench.front.offer([], and: back.map(\.queue))
            #expect(try await bench.refiller.refillOnce() == 1)
            try await bench.dispatchAll()
            #expect(try await bench.depth(tenant).running == 2)
            _ = try await bench.reconciler.compareMembership()
            #expect(try await bench.depth(tenant).running == 1)
        }
    }

    @Test("What a dead gateway had sent already stays with its device")
    func buriedAfterSending() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            try await bench.dispatchAll()
            let items = try await post.attempts()
            _ = try await post.take(items)
            // The letter was read and handed on, and the gateway died before it was removed.
            let letter = Letter(gateway: post.id, payload: InboxLetter.dispatch(items).encoded)
            _ = try await bench.queue.deliver([letter])
            try await post.die()
            #expect(try await bench.reconciler.buryGateways())
            #expect(try await bench.world.state(runs[0].run) == .dispatched)
            #expect(try await bench.refiller.refillOnce() == 0)
        }
    }

    @Test("A run for a device whose gateway has died waits until the device is back")
    func deadPresence() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            try await post.die()
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            for _ in 0..<5 { _ = try await bench.dispatcher.dispatchOnce() }
            #expect(try await post.attempts().isEmpty)
            let end = try await bench.world.state(runs[0].run)
            let generation = try await bench.world.count("SELECT generation::bigint FROM runs")
            #expect(end == .waiting)
            #expect(generation == 1)
            let next = try await Post.open(bench)
            try await next.connect(tenant.all, of: tenant)
            _ = try await bench.refiller.refillOnce()
            try await bench.dispatchAll()
            #expect(try await next.attempts().map(\.run) == [runs[0].run])
        }
    }

    @Test("A full inbox gives its runs back, and the queue forgets them until refill brings them")
    func fullInbox() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let filler = Letter(gateway: post.id, payload: [0])
            for _ in 0..<20 { _ = try await bench.queue.deliver(Array(repeating: filler, count: 500)) }
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            _ = try await bench.dispatcher.dispatchOnce()
            #expect(try await bench.world.state(runs[0].run) == .queued)
            #expect(try await bench.depth(tenant).running == 0)
            #expect(try await bench.depth(tenant).marked)
            _ = try await post.letters()
            #expect(try await bench.refiller.refillOnce() == 1)
            try await bench.dispatchAll()
            #expect(try await post.attempts().map(\.attempt) == [1])
        }
    }

    // MARK: Waiting

    @Test("A device that connects between claim and waiting is not left waiting")
    func connectsMeanwhile() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            let post = try await Post.open(bench)
            // The row is held, so that the dispatcher stands between its claim and its commit of `waiting`.
            let step = try await bench.world.owner.transaction(scope: .none) { transaction in
                try await transaction.execute("SELECT FROM runs FOR UPDATE")
                let step = Task { try await bench.dispatcher.dispatchOnce() }
                try await bench.blockedStatement()
                try await post.connect(tenant.all, of: tenant)
                return step
            }
            _ = try await step.value
            #expect(try await bench.world.state(runs[0].run) == .queued)
            try await bench.dispatchAll()
            #expect(try await post.attempts().map(\.run) == [runs[0].run])
        }
    }

    @Test("An offline device's run waits, holds no place, and leaves after the device has connected")
    func waits() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            try await bench.dispatchAll()
            #expect(try await bench.world.state(runs[0].run) == .waiting)
            let depth = try await bench.depth(tenant)
            #expect(depth.ready.isEmpty && depth.leased == 0 && depth.running == 0 && depth.setAside == 0)
            let post = try await Post.open(bench)
            try await post.connect(tenant.all, of: tenant)
            _ = try await bench.refiller.refillOnce()
            try await bench.dispatchAll()
            #expect(try await post.attempts().map(\.run) == [runs[0].run])
        }
    }

    @Test("While a data set is new, a missing presence puts nothing to waiting")
    func settling() async throws {
        try await Bench.run(settling: .seconds(3_600)) { bench in
            let tenant = try await bench.world.tenant()
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            try await bench.dispatchAll()
            #expect(try await bench.world.state(runs[0].run) == .queued)
            #expect(try await bench.depth(tenant).leased == 0)
        }
    }
}
