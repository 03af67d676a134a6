import Domain
import Postgres
import Redis
import Synchronization
import TestSupport
import Testing
import Trust
import Wire

@testable import Engine
@testable import Ledger
@testable import Streams

/// What operators hold back, refuse and weigh: PostgreSQL decides, the queue follows.
@Suite(.serialized, .world) struct QueueControlTests {
    private func controls(_ bench: Bench) -> QueueControls {
        QueueControls(ledger: bench.world.api, front: bench.front, judge: World.judge, logger: .quiet)
    }

    private final class End: Sendable {
        let isReached = Mutex(false)
    }

    /// Submits a job of a kind and a priority for each device.
    private func submit(
        _ bench: Bench, _ tenant: TestSupport.Tenant, _ kind: JobKind = .script,
        _ priority: Priority = .standard
    ) async throws -> [QueuedRun] {
        var job = bench.world.job(tenant, devices: tenant.all)
        (job.kind, job.priority) = (kind, priority)
        return try await bench.world.api.submit([job], scope: tenant.scope).queued
    }

    // MARK: Pauses

    @Test(
        "A pause holds back what it covers and nothing else",
        arguments: [
            QueueScope(kind: .script), QueueScope(priority: .bulk), QueueScope(kind: .ping, priority: .bulk),
            QueueScope(),
        ])
    func covered(scope: QueueScope) async throws {
        try await Bench.run { bench in
            let (one, other) = (try await bench.world.tenant(), try await bench.world.tenant())
            for isOfOne in [false, true] {
                var scope = scope
                if isOfOne { scope.organization = one.organization }
                try await bench.world.pause(scope)
                for tenant in [one, other] {
                    for kind in [JobKind.script, .ping] {
                        for priority in [Priority.standard, .bulk] {
                            let runs = try await submit(bench, tenant, kind, priority)
                            let isHeld = scope.covers(
                                organization: tenant.organization, kind: kind, priority: priority)
                            let found = try await bench.world.worker.queuedRuns(
                                of: [(tenant.organization.queue(priority), after: RunID(.zero))],
                                limit: 100)
                            #expect(
                                found.values.joined().contains { $0.run == runs[0].run } == !isHeld,
                                "refill, \(scope): \(kind) \(priority)")
                            let marked = try await bench.world.mark(runs, epoch: bench.front.epoch().id)
                            #expect(marked.isEmpty == isHeld, "\(scope): \(kind) \(priority)")
                        }
                    }
                }
                try await bench.world.resume(scope)
            }
        }
    }

    @Test("While everything is paused nothing leaves; after it what waited flows without a scan")
    func killSwitch() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 3)
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(Array(runs[..<2]))
            let claims = try await bench.claim("before")
            _ = try await controls(bench).pause(ControlRequest(QueueScope()), by: fresh(), level: .platform)
            #expect(try await bench.mark(claims, gateway: post.id).isEmpty, "claimed before")
            try await bench.queue.release(claims, delayMilliseconds: 0, epoch: bench.front.epoch())
            let paused = bench.dispatcher(owner: "paused")
            #expect(try await !paused.dispatchOnce())
            #expect(try await bench.depth(tenant).ready == [.standard: 2], "nothing was claimed")
            try await bench.age(.seconds(3))
            #expect(try await !bench.reconciler.markStragglers(), "stragglers are left alone")
            #expect(try await post.attempts().isEmpty)
            _ = try await controls(bench).resume(ResumeRequest(QueueScope()), by: fresh(), level: .platform)
            _ = try await bench.refiller.refillOnce()
            let resumed = bench.dispatcher(owner: "resumed")
            while try await resumed.dispatchOnce() {}
            #expect(Set(try await post.attempts().map(\.run)) == Set(runs.map(\.run)))
        }
    }

    @Test("The dispatcher believes for half a second what it read of the pause of everything")
    func gate() async throws {
        try await Bench.run { bench in
            let clock = Mutex(ContinuousClock.now)
            let gate = ClaimGate(ledger: bench.world.worker) { clock.withLock { $0 } }
            #expect(try await gate.isOpen())
            try await bench.world.pause(QueueScope())
            clock.withLock { $0 += .milliseconds(499) }
            #expect(try await gate.isOpen())
            clock.withLock { $0 += .milliseconds(1) }
            #expect(try await !gate.isOpen())
            try await bench.world.resume(QueueScope())
            clock.withLock { $0 += .milliseconds(500) }
            #expect(try await gate.isOpen())
            for scope in [QueueScope(kind: .script), QueueScope(priority: .bulk)] {
                try await bench.world.pause(scope)
                clock.withLock { $0 += .seconds(1) }
                #expect(try await gate.isOpen(), "\(scope)")
            }
        }
    }

    @Test("A paused kind is refused by the mark once and not brought again; resumed it flows at once")
    func kind() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 2)
            let post = try await Post.open(bench, holding: tenant.all)
            let held = try await submit(bench, tenant, .script)
            _ = try await controls(bench).pause(
                ControlRequest(QueueScope(organization: tenant.organization, kind: .script)), by: fresh(),
                level: .organization(tenant.organization))
            let free = try await submit(bench, tenant, .ping)
            await bench.front.offer(held + free)
            try await bench.dispatchAll()
            #expect(Set(try await post.attempts().map(\.run)) == Set(free.map(\.run)))
            try await bench.age(.seconds(3))
            _ = try await bench.reconciler.markStragglers()
            #expect(try await bench.refiller.refillOnce() == 0)
            _ = try await controls(bench).resume(
                ResumeRequest(QueueScope(organization: tenant.organization, kind: .script)), by: fresh(),
                level: .organization(tenant.organization))
            _ = try await bench.refiller.refillOnce()
            try await bench.dispatchAll()
            #expect(Set(try await post.attempts().map(\.run)) == Set(held.map(\.run)))
        }
    }

    @Test("The pause of an organization keeps it from taking slots, and a rebuild keeps the pause")
    func organization() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            let scope = QueueScope(organization: tenant.organization)
            _ = try await controls(bench).pause(
                ControlRequest(scope, reason: "maintenance"), by: fresh(), level: .partner(tenant.partner))
            #expect(try await bench.claim().isEmpty)
            try await bench.wipe()
            try #require(try await bench.rebuilder.checkOnce())
            #expect(try await bench.depth(tenant).paused)
            _ = try await controls(bench).resume(
                ResumeRequest(scope), by: fresh(), level: .partner(tenant.partner))
            #expect(try await !bench.depth(tenant).paused)
            #expect(try await bench.refiller.refillOnce() == 1)
        }
    }

    @Test("A mark that waited while a pause was committed refuses by it")
    func markAfterPause() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            let epoch = try await bench.front.epoch().id
            let marking = try await bench.world.owner.transaction(scope: .none) { transaction in
                // What a rebuild holds, so that the mark has begun and waits.
                try await transaction.execute(
                    "SELECT pg_advisory_xact_lock(\(Ledger.rebuildLock), 0)")
                let marking = Task { try await bench.world.mark(runs, epoch: epoch) }
                try await bench.blockedStatement()
                try await bench.world.pause(QueueScope())
                return marking
            }
            #expect(try await marking.value.isEmpty)
        }
    }

    @Test("A pause returns when the marks that did not know of it are over")
    func awaitsMarks() async throws {
        try await Bench.run { bench in
            let (end, controls) = (End(), controls(bench))
            let pausing = try await bench.world.owner.transaction(scope: .none) { transaction in
                // What a mark holds until it has committed.
                try await transaction.execute("SELECT pg_advisory_xact_lock_shared(\(Ledger.rebuildLock), 0)")
                let pausing = Task {
                    _ = try await controls.pause(
                        ControlRequest(QueueScope()), by: fresh(), level: .platform)
                    end.isReached.withLock { $0 = true }
                }
                while try await !bench.world.worker.isEverythingPaused() {}
                // One that waits for nobody returns within as many questions.
                for _ in 0..<100 { _ = try await bench.world.worker.isEverythingPaused() }
                #expect(end.isReached.withLock { !$0 })
                return pausing
            }
            try await pausing.value
        }
    }

    // MARK: Weights and caps

    @Test("A weight and a cap act when the call returns")
    func weights() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 5)
            let level = Level.partner(tenant.partner)
            try await controls(bench).weigh(tenant.organization, 2.5, level: level)
            try await controls(bench).cap(tenant.organization, 2, level: level)
            #expect(try await bench.depth(tenant).weight == 2.5)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            #expect(try await bench.claim().count == 2)
            try await controls(bench).cap(tenant.organization, nil, level: level)
            #expect(try await bench.claim().count == 3)
        }
    }

    @Test(
        "What was committed and did not reach the queue is brought by the comparison, and what is extra goes")
    func comparison() async throws {
        try await Bench.run { bench in
            let (one, other) = (try await bench.world.tenant(), try await bench.world.tenant())
            // Died between the commit and Redis.
            _ = try await bench.world.api.setWeight(4, of: one.organization, scope: .platform)
            _ = try await bench.world.api.setCap(7, of: one.organization, scope: .platform)
            try await bench.world.pause(QueueScope(organization: one.organization))
            // The same in the other direction.
            let epoch = try await bench.front.epoch()
            try await bench.queue.weigh(organization: other.organization, weight: 3, epoch: epoch)
            try await bench.queue.cap(organization: other.organization, limit: 1, epoch: epoch)
            try await bench.queue.pause(organization: other.organization, epoch: epoch)
            let sync = EntitlementSync(ledger: bench.world.worker, front: bench.front)
            #expect(try await sync.compare() == 2)
            let (brought, removed) = (try await bench.depth(one), try await bench.depth(other))
            #expect(brought.weight == 4 && brought.cap == 7 && brought.paused)
            #expect(removed.weight == 1 && removed.cap == nil && !removed.paused)
            #expect(try await sync.compare() == 0, "nothing is left to be put right")
        }
    }

    // MARK: Rates

    @Test("What was marked and what ended is counted once, by organization, over the last minute")
    func rates() async throws {
        try await Bench.run { bench in
            let (one, other) = (try await bench.world.tenant(devices: 3), try await bench.world.tenant())
            for tenant in [one, other] {
                let post = try await Post.open(bench, holding: tenant.all)
                let (_, runs) = try await bench.world.submit(tenant, tenant.all)
                await bench.front.offer(runs)
                try await bench.dispatchAll()
                let attempts = try await post.attempts()
                _ = try await post.take(attempts)
                try await post.finish(tenant.organization == one.organization ? attempts : [])
            }
            for _ in 0..<2 { try await bench.front.tally.report(to: bench.front.parts) }
            let now = Int(Instant.now().microseconds / 1_000)
            let read = try await bench.queue.rates(
                of: [one.organization, other.organization], atMilliseconds: now)
            #expect(read.total == WorkCount(marked: 4, ended: 3))
            #expect(read.byOrganization[one.organization] == WorkCount(marked: 3, ended: 3))
            #expect(read.byOrganization[other.organization] == WorkCount(marked: 1))
            #expect(read.seconds >= 60 && read.seconds < 75)
            let later = try await bench.queue.rates(of: [], atMilliseconds: now + 90_000)
            #expect(later.total == WorkCount())
            let rates = try await QueueRates(front: bench.front).rates(
                of: [one.organization, other.organization])
            #expect(rates[one.organization]?.share == 0.75)
            #expect(rates[one.organization]?.entitlement == nil, "nothing of it is left")
            #expect(rates[other.organization]?.entitlement == 1, "its run is on a device")
        }
    }

    @Test("A period that ended before it was reported is reported whole, and one that failed is said again")
    func tally() async throws {
        try await Bench.run { bench in
            let time = Mutex(Instant(microseconds: 15_000_000 * 100))
            let (one, tally) = (OrganizationID.new(at: .now()), WorkTally { time.withLock { $0 } })
            tally.marked([one, one])
            try await tally.report(to: bench.front.parts)
            tally.marked([one])
            time.withLock { $0 = $0 + .seconds(15) }
            tally.ended([one])
            try await tally.report(to: bench.front.parts)
            let read = try await bench.queue.rates(of: [one], atMilliseconds: 15_000 * 101)
            #expect(read.byOrganization[one] == WorkCount(marked: 3, ended: 1) && read.seconds == 60)
            for key in try await bench.place.keys() where key.contains("rate") {
                let left = try await bench.redis.send(RedisCommand("TTL", .string(key))).int
                #expect((1...120).contains(left ?? -1), "\(key) expires")
            }
        }
    }

    // MARK: Workers

    @Test("A worker that is told to drain ends its batch, claims nothing more and says so; then it stops")
    func drainedWorker() async throws {
        try await Bench.run { bench in
            let gate = ClaimGate(ledger: bench.world.worker)
            let presence = WorkerPresence(
                ledger: bench.world.worker, role: "worker", host: "host", processID: 1, gate: gate,
                logger: .quiet)
            try await presence.beatOnce()
            let id = try #require(presence.current)
            func state() async throws -> WorkerState? {
                try await bench.world.api.worker(id, scope: .platform)?.state
            }
            #expect(try await state() == .running)
            try await gate.batch {
                let row = try await bench.world.api.requestDrain(of: id, by: fresh(), scope: .platform)
                #expect(row?.state == .draining)
                try await presence.beatOnce()
                #expect(!gate.isDrained, "a batch is under way")
                try await presence.beatOnce()
                #expect(try await state() == .draining)
            }
            #expect(gate.isDrained)
            try await presence.beatOnce()
            #expect(try await state() == .drained)
            let batch = try await gate.batch { true }
            #expect(batch == nil)
            await presence.end()
            #expect(try await state() == .stopped)
            #expect(
                try await bench.world.api.requestDrain(of: id, by: fresh(), scope: .platform) == nil)
            try await bench.world.owner.execute(
                "UPDATE workers SET stopped_at = NULL, seen_at = now() - interval '16 seconds'", scope: .none)
            #expect(try await state() == .lost)
        }
    }

    @Test("A worker that was forgotten begins anew, and those of yesterday are forgotten")
    func forgottenWorker() async throws {
        try await Bench.run { bench in
            let presence = WorkerPresence(
                ledger: bench.world.gateway, role: "gateway", host: "host", processID: 1, logger: .quiet)
            try await presence.beatOnce()
            let first = presence.current
            try await bench.world.owner.execute(
                "UPDATE workers SET seen_at = now() - interval '25 hours'", scope: .none)
            try await bench.world.worker.beginWorker(fresh(), role: "worker", host: "h", processID: 2)
            try await presence.beatOnce()
            #expect(presence.current != first)
            let rows = try await bench.world.api.workers(PageRequest(after: nil, limit: 10), scope: .platform)
            #expect(rows.count == 2 && rows.allSatisfy { $0.state == .running })
        }
    }
}
