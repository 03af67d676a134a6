import Domain
import Ledger
import Postgres
import Redis
import TestSupport
import Testing
import Trust

@testable import Engine
@testable import Streams

/// The queue is a copy: it is lost, corrected and drained here, and PostgreSQL brings everything back.
@Suite(.serialized, .world) struct RebuildTests {
    @Test(
        "A lost data set is built again: what runs goes on, the backlog comes, nothing runs twice"
    )
    func lost() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 5)
            let post = try await Post.open(bench, holding: tenant.all)
            let (job, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(Array(runs[..<2]))
            try await bench.dispatchAll()
            let running = try await post.attempts()
            _ = try await post.take(running)
            await bench.front.offer(Array(runs[2...]))
            let leased = try await bench.claim().prefix(1)
            let old = try await bench.front.epoch()
            try await bench.wipe()
            #expect(try await !bench.dispatcher.dispatchOnce(), "a lost data set gives nothing")
            #expect(try await bench.rebuilder.checkOnce())
            let depth = try await bench.depth(tenant)
            #expect(depth.running == 2 && depth.marked && depth.ready.isEmpty)
            #expect(
                try await bench.mark(Array(leased), gateway: post.id, epoch: old.id).isEmpty,
                "a claim of the old data set")
            try await bench.queue.beat(gateway: post.id, milliseconds: 60_000)
            try await post.present(tenant.all)
            #expect(try await bench.refiller.refillOnce() == 3)
            try await bench.dispatchAll()
            let brought = try await post.attempts()
            #expect(Set(brought.map(\.run)) == Set(runs[2...].map(\.run)))
            _ = try await post.take(brought)
            let settled = try await post.finish(running + brought)
            #expect(settled.count == 5)
            while try await bench.world.worker.foldDeltas(limit: 100) > 0 {}
            let row = try await bench.world.api.job(job, scope: tenant.scope)
            #expect(row?.state == .completed && row?.counts == [.succeeded: 5])
            #expect(try await bench.depth(tenant).running == 0)
            #expect(try await !bench.rebuilder.checkOnce(), "the new data set is the one in force")
        }
    }

    @Test("Another server process counts as a lost data set, though it has the same keys")
    func anotherProcess() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            try await bench.raw("SET", "epoch", "kept@another-process")
            try await bench.world.owner.execute(
                "UPDATE queue_partitions SET epoch = 'kept@another-process'", scope: .none)
            #expect(try await bench.rebuilder.checkOnce())
            #expect(try await bench.epoch() != "kept@another-process")
            #expect(try await bench.refiller.refillOnce() == runs.count)
        }
    }

    @Test("Of workers that notice the loss at the same time one builds, and all find what it built")
    func rivals() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            _ = try await bench.world.submit(tenant, tenant.all)
            try await bench.wipe()
            try await bench.world.owner.execute(
                "UPDATE queue_partitions SET started_at = now() - interval '1 hour'", scope: .none)
            let rebuilders = (0..<6).map { _ in bench.anotherRebuilder() }
            let built = try await withThrowingTaskGroup(of: Bool.self) { group in
                // One that was overtaken says so; what counts is the end.
                for rebuilder in rebuilders {
                    // It may be overtaken; then the other one's data set stands.
                    group.addTask { (try? await rebuilder.checkOnce()) ?? false }
                }
                return try await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
            }
            #expect(built >= 1)
            for rebuilder in rebuilders { while try await rebuilder.checkOnce() {} }
            #expect(try await bench.epoch() == bench.queue.epoch()?.id)
            #expect(try await bench.refiller.refillOnce() == 1)
        }
    }

    @Test("While one worker builds, the others leave it alone")
    func exclusive() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            _ = try await bench.world.submit(tenant, tenant.all)
            try await bench.wipe()
            let (steps, begun, after) = try await bench.world.owner.transaction(scope: .none) { transaction in
                // The first stands in the middle of its work.
                try await transaction.execute("LOCK TABLE runs IN ACCESS EXCLUSIVE MODE")
                let first = Task { try await bench.rebuilder.checkOnce() }
                try await bench.blockedStatement()
                let begun = try await bench.epoch()
                let other = bench.anotherRebuilder()
                let second = Task { try await other.checkOnce() }
                let after = try await bench.epoch(unlike: begun, orEnd: second)
                return ([first, second], begun, after)
            }
            // One that was overtaken says so.
            for step in steps { _ = await step.result }
            #expect(after == begun)
            while try await bench.rebuilder.checkOnce() {}
            #expect(try await bench.epoch() == bench.queue.epoch()?.id)
        }
    }

    @Test("A rebuild that died is begun again")
    func diedRebuilding() async throws {
        try await Bench.run { bench in
            let kept = try await bench.epoch()
            #expect(try await bench.world.worker.beginEpoch("never@built", replacing: kept, partition: 0))
            #expect(
                try await !bench.world.worker.beginEpoch("late@built", replacing: kept, partition: 0),
                "the epoch is changed once")
            #expect(try await bench.rebuilder.checkOnce())
            #expect(try await bench.epoch() == bench.queue.epoch()?.id)
        }
    }

    @Test("A rebuild waits for the marks that are under way, and no mark of the old data set comes after it")
    func markUnderWay() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            let claims = try await bench.claim()
            let old = try await bench.front.epoch()
            try await bench.wipe()
            let rebuilding = try await bench.world.owner.transaction(scope: .none) { transaction in
                // What a mark holds until it has committed.
                try await transaction.execute(
                    "SELECT pg_advisory_xact_lock_shared(\(Int32(0x6372_6d6d)), \(Int32(0)))")
                let rebuilding = Task { try await bench.rebuilder.checkOnce() }
                try await bench.blockedStatement()
                #expect(try await bench.epoch() == old.id)
                return rebuilding
            }
            #expect(try await rebuilding.value)
            #expect(try await bench.mark(claims, gateway: fresh(), epoch: old.id).isEmpty)
            #expect(try await bench.world.state(runs[0].run) == .queued)
        }
    }

    @Test("A rebuild keeps weights, caps and pauses")
    func entitlements() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 5)
            let post = try await Post.open(bench, holding: tenant.all)
            _ = try await bench.world.submit(tenant, tenant.all)
            try await bench.world.owner.execute(
                "UPDATE organizations SET weight = 3, running_cap = 2 WHERE id = \(tenant.organization)",
                scope: .none)
            try await bench.wipe()
            #expect(try await bench.rebuilder.checkOnce())
            try await bench.queue.beat(gateway: post.id, milliseconds: 60_000)
            try await post.present(tenant.all)
            _ = try await bench.refiller.refillOnce()
            try await bench.dispatchAll()
            #expect(try await post.attempts().count == 2)
            let depth = try await bench.depth(tenant)
            #expect(depth.cap == 2 && depth.weight == 3 && depth.running == 2)
        }
    }

    @Test(
        "A run that ended while nobody told the queue is taken out of the running ones; one that runs stays")
    func membership() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 2)
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            try await bench.dispatchAll()
            let items = try await post.attempts()
            _ = try await post.take(items)
            _ = try await bench.reconciler.compareMembership()
            #expect(try await bench.depth(tenant).running == 2)
            // The gateway dies between its commit and the queue.
            try await post.finish([items[0]], telling: false)
            #expect(try await bench.depth(tenant).running == 2)
            _ = try await bench.reconciler.compareMembership()
            #expect(try await bench.depth(tenant).running == 1)
            try await post.finish([items[1]])
            #expect(try await bench.depth(tenant).running == 0)
        }
    }

    @Test("A run whose dispatch was never acknowledged is counted as running once it is compared")
    func unacknowledged() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            _ = try await bench.mark(try await bench.claim(), gateway: post.id)
            #expect(try await bench.depth(tenant).running == 0)
            _ = try await bench.reconciler.compareMembership()
            #expect(try await bench.depth(tenant).running == 1)
            try await bench.lapseLeases()
            _ = try await bench.reconciler.sweepOnce()
            try await bench.dispatchAll()
            #expect(try await bench.depth(tenant).running == 1, "a run is counted once")
        }
    }

    @Test("2,000 queued runs of one organization go through the window, none twice, none left")
    func drain() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 500)
            let post = try await Post.open(bench, holding: tenant.all)
            var jobs: [JobID] = []
            for _ in 0..<4 {
                let (job, runs) = try await bench.world.submit(tenant, tenant.all)
                await bench.front.offer(runs)
                jobs.append(job)
            }
            var seen: Set<RunID> = []
            var rounds = 0
            while seen.count < 2_000, rounds < 100 {
                rounds += 1
                _ = try await bench.refiller.refillOnce()
                let depth = try await bench.depth(tenant)
                #expect(depth.ready.values.reduce(0, +) + depth.leased <= 1_024, "the window is bounded")
                try await bench.dispatchAll()
                let items = try await post.attempts()
                _ = try await post.take(items)
                #expect(seen.isDisjoint(with: items.map(\.run)))
                seen.formUnion(items.map(\.run))
                let settled = try await post.finish(items)
                #expect(settled.count == items.count)
                _ = try await bench.reconciler.sweepOnce()
            }
            #expect(seen.count == 2_000)
            while try await bench.world.worker.foldDeltas(limit: 2_000) > 0 {}
            for job in jobs {
                let row = try await bench.world.api.job(job, scope: tenant.scope)
                #expect(row?.state == .completed && row?.counts == [.succeeded: 500])
            }
            let depth = try await bench.depth(tenant)
            #expect(depth.ready.isEmpty && depth.running == 0 && depth.leased == 0)
        }
    }

    @Test("A device with a long queue of its own does not keep the others of its organization waiting")
    func slowDevice() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 301)
            let post = try await Post.open(bench, holding: tenant.all)
            let slow = try await bench.world.submit(tenant, Array(repeating: tenant.all[0], count: 260)).runs
            await bench.front.offer(slow)
            try await bench.dispatchAll()
            let others = try await bench.world.submit(tenant, Array(tenant.all[1...])).runs
            await bench.front.offer(others, and: [tenant.organization.queue()])
            var items: [InboxLetter.Item] = []
            for _ in 0..<20 where items.count < 304 {
                _ = try await bench.refiller.refillOnce()
                try await bench.dispatchAll()
                items += try await post.attempts()
                _ = try await bench.reconciler.sweepOnce()
            }
            #expect(Set(items.map(\.run)).isSuperset(of: others.map(\.run)))
            #expect(items.count { $0.device == tenant.all[0] } == 4)
        }
    }
}
