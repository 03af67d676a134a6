import Domain
import Ledger
import Postgres
import Redis
import Streams
import TestSupport
import Testing
import Trust

@testable import Engine

/// Runs over which dispatchers crash.
@Suite(.serialized, .world) struct PoisonTests {
    /// A worker claims all there is and dies.
    private func crash(_ bench: Bench) async throws {
        _ = try await bench.claim()
        try await bench.lapseLeases()
        #expect(try await bench.reconciler.sweepOnce())
    }

    private func notes(_ bench: Bench) async throws -> Int {
        try await bench.world.count("SELECT count(*) FROM suspects")
    }

    @Test("Suspects are taken one by one, after the others, and are none any more once they have passed")
    func alone() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 5)
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(Array(runs[..<3]))
            try await crash(bench)
            await bench.front.offer(Array(runs[3...]))
            try await bench.dispatchAll()
            let letters = try await post.letters().map { letter in
                switch letter {
                case .dispatch(let items): items.map(\.run)
                case .cancel, .end: [] as [RunID]
                }
            }
            #expect(letters.map(\.count) == [2, 1, 1, 1])
            #expect(Set(letters[0]) == Set(runs[3...].map(\.run)))
            #expect(try await notes(bench) == 0)
        }
    }

    @Test("However often a batch crashes, none of its runs is to blame")
    func together() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 2)
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            for _ in 0..<5 { try await crash(bench) }
            try await bench.dispatchAll()
            #expect(try await post.attempts().count == 2)
        }
    }

    @Test("A run over which three dispatchers died alone fails as poison, with the evidence of each")
    func poison() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let (job, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            for number in 1...3 {
                try await crash(bench)
                #expect(try await bench.world.worker.beginTrial(runs[0], owner: "dead \(number)") == .begun)
            }
            try await crash(bench)
            try await bench.dispatchAll()
            #expect(try await post.attempts().isEmpty)
            let depth = try await bench.depth(tenant)
            #expect(depth.ready.isEmpty && depth.leased == 0 && depth.running == 0)
            let letters = try await bench.world.api.deadLetters(
                DeadLetterFilter(), limit: 10, scope: tenant.scope)
            #expect(letters.map(\.run.id) == runs.map(\.run) && letters[0].reason == .poison)
            #expect(letters[0].run.state == .failed && letters[0].run.reason == "poison")
            let crashes = try await bench.world.api.crashes(
                of: runs[0].run, organization: tenant.organization, scope: tenant.scope)
            #expect(crashes.map(\.owner) == ["dead 1", "dead 2", "dead 3"])
            #expect(crashes.allSatisfy { $0.attempt == 1 })
            while try await bench.world.worker.foldDeltas(limit: 10) > 0 {}
            #expect(try await bench.world.api.job(job, scope: tenant.scope)?.state == .completed)
            // The evidence stays as long as the letter does.
            try await bench.world.worker.forgetSuspects()
            #expect(try await notes(bench) == 3)
            _ = try await bench.world.api.discard(runs.map(\.run), scope: tenant.scope)
            try await bench.world.worker.forgetSuspects()
            #expect(try await notes(bench) == 0)
        }
    }

    /// Whoever has these claims dies behind the mark: they are reclaimed, found to be dispatched, and queued
    /// again when their gateway has not taken them in time.
    private func dieBehindMark(
        _ claims: [Claim], _ bench: Bench, gateway: GatewayID, alone: Bool = false, isSwept: Bool = true
    ) async throws {
        #expect(try await bench.mark(claims, gateway: gateway, alone: alone).count == claims.count)
        try await bench.lapseLeases()
        if isSwept {
            #expect(try await bench.reconciler.sweepOnce())
            try await bench.dispatchAll()
        }
        try await bench.lapseMarks()
        #expect(try await bench.reconciler.judgeDeadlines())
        #expect(try await bench.refiller.refillOnce() >= claims.count)
    }

    @Test(
        "What was marked by who then died is taken alone in its next generation, and then no suspect",
        arguments: [true, false])
    func aloneBehindMark(isSwept: Bool) async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 3)
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(Array(runs[..<2]))
            try await dieBehindMark(bench.claim(), bench, gateway: post.id, isSwept: isSwept)
            try await bench.dispatchAll()
            let letters = try await post.letters().map { letter in
                if case .dispatch(let items) = letter { items.map(\.run) } else { [] as [RunID] }
            }
            #expect(letters.map(\.count) == [1, 1, 1] && letters.first == [runs[2].run])
            #expect(Set(letters.joined()) == Set(runs.map(\.run)))
            #expect(try await notes(bench) == 0)
            #expect(try await bench.world.count("SELECT count(*) FROM runs WHERE suspect") == 0)
            let depth = try await bench.depth(tenant)
            #expect(depth.leased == 0 && depth.running == 3)
        }
    }

    @Test("A suspect whose device is away stays one, and an earlier crash stays noted")
    func putAside() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: [])
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            #expect(try await bench.world.worker.beginTrial(runs[0], owner: "dead") == .begun)
            try await dieBehindMark(bench.claim(), bench, gateway: post.id)
            try await bench.dispatchAll()
            #expect(try await bench.world.state(runs[0].run) == .waiting)
            #expect(try await bench.world.count("SELECT count(*) FROM runs WHERE suspect") == 1)
            #expect(try await notes(bench) == 1)
        }
    }

    @Test("A trial goes on behind a note that was taken back")
    func gap() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            let worker = bench.world.worker
            for owner in ["first", "second"] {
                #expect(try await worker.beginTrial(runs[0], owner: owner) == .begun)
            }
            try await worker.endTrial(tenant.organization, runs[0].run, of: "first")
            #expect(try await worker.beginTrial(runs[0], owner: "third") == .begun)
            #expect(try await notes(bench) == 2)
        }
    }

    @Test("A run over which three dispatchers died alone behind its mark fails as poison")
    func poisonBehindMark() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            try await dieBehindMark(bench.claim(), bench, gateway: post.id)
            for number in 1...3 {
                let claims = try await bench.claim()
                try #require(claims.map(\.crashes) == [0])
                #expect(try await bench.mark(claims, gateway: post.id).isEmpty, "not among others")
                let suspect = QueuedRun(
                    organization: claims[0].organization, run: claims[0].run, device: claims[0].device,
                    generation: claims[0].generation, lane: claims[0].lane, priority: claims[0].priority)
                #expect(try await bench.world.worker.beginTrial(suspect, owner: "dead \(number)") == .begun)
                try await dieBehindMark(claims, bench, gateway: post.id, alone: true)
            }
            try await bench.dispatchAll()
            #expect(try await post.attempts().isEmpty)
            let letters = try await bench.world.api.deadLetters(
                DeadLetterFilter(), limit: 10, scope: tenant.scope)
            #expect(letters.map(\.run.id) == runs.map(\.run) && letters.first?.reason == .poison)
            let crashes = try await bench.world.api.crashes(
                of: runs[0].run, organization: tenant.organization, scope: tenant.scope)
            #expect(crashes.map(\.owner) == ["dead 1", "dead 2", "dead 3"])
            let depth = try await bench.depth(tenant)
            #expect(depth.ready.isEmpty && depth.leased == 0 && depth.running == 0)
        }
    }

    @Test("A failure that is no crash is not counted as one")
    func failure() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            try await crash(bench)
            try await bench.world.owner.execute(
                "ALTER TABLE runs ADD CONSTRAINT no CHECK (state <> 3)", scope: .none)
            await #expect(throws: PostgresError.self) { try await bench.dispatcher.dispatchOnce() }
            #expect(try await notes(bench) == 0)
            try await bench.world.owner.execute("ALTER TABLE runs DROP CONSTRAINT no", scope: .none)
            try await bench.lapseLeases()
            #expect(try await bench.reconciler.sweepOnce())
            try await bench.dispatchAll()
            #expect(try await post.attempts().map(\.run) == runs.map(\.run))
        }
    }

    @Test("A note that cannot be taken back after a trial goes before the next batch")
    func noteLeft() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 2)
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(Array(runs[..<1]))
            try await crash(bench)
            for statement: SQL in [
                """
                CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
                AS $$ BEGIN RAISE EXCEPTION 'no'; END $$
                """,
                "CREATE TRIGGER refuse BEFORE DELETE ON suspects FOR EACH ROW EXECUTE FUNCTION refuse()",
            ] {
                try await bench.world.owner.execute(statement, scope: .none)
            }
            try await bench.dispatchAll()
            #expect(try await notes(bench) == 1)
            try await bench.world.owner.execute("DROP TRIGGER refuse ON suspects", scope: .none)
            await bench.front.offer(Array(runs[1...]))
            try await bench.dispatchAll()
            #expect(try await notes(bench) == 0)
            #expect(try await post.attempts().count == 2)
        }
    }

    @Test("A suspect that was cancelled or moved on meanwhile is not tried")
    func stale() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            try await bench.world.owner.execute("UPDATE runs SET generation = 2", scope: .none)
            #expect(try await bench.world.worker.beginTrial(runs[0], owner: "late") == .stale)
            #expect(try await notes(bench) == 0)
        }
    }

    @Test("A suspect that somebody slow has marked goes on counting, wherever its device is")
    func dispatchedBefore() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            let claims = try await bench.claim("slow")
            try await bench.lapseLeases()
            #expect(try await bench.reconciler.sweepOnce())
            #expect(try await bench.mark(claims, gateway: fresh()).count == 1)
            try await bench.dispatchAll()
            #expect(try await notes(bench) == 0)
            #expect(try await bench.depth(tenant).running == 1)
        }
    }

    @Test("A suspect that has ended, of which the queue was not told, leaves nothing behind")
    func endedBefore() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            try await crash(bench)
            #expect(try await bench.world.api.cancelRun(runs[0].run, scope: tenant.scope) != nil)
            try await bench.dispatchAll()
            #expect(try await post.letters().isEmpty)
            #expect(try await notes(bench) == 0)
            let depth = try await bench.queue.depths(of: [tenant.organization]).first
            #expect(depth?.leased ?? 0 == 0 && depth?.running ?? 0 == 0)
            #expect(try await bench.raw("ZCARD", "leases").int == 0)
        }
    }
}
