import Domain
import Ledger
import Postgres
import Streams
import TestSupport
import Testing
import Trust

@testable import Engine

/// What waits for its time and what is tried again, on its way through PostgreSQL and the queue.
@Suite(.serialized, .world) struct RetryTests {
    private static let policy = RetryPolicy(
        maximumAttempts: 3, backoffSeconds: 1, maximumBackoffSeconds: 1,
        outcomes: [.failed, .timedOut, .unknown])

    /// Commits a job whose runs are tried three times.
    private func submit(
        _ bench: Bench, _ tenant: Tenant, idempotent: Bool = false, notBefore: Instant? = nil
    ) async throws -> [QueuedRun] {
        var job = bench.world.job(tenant, devices: tenant.all)
        (job.retry, job.maximumAttempts, job.idempotent) = (Self.policy, 3, idempotent)
        job.notBefore = notBefore
        return try await bench.world.api.submit([job], scope: tenant.scope).queued
    }

    /// The time of all scheduled runs comes.
    private func come(_ bench: Bench) async throws {
        try await bench.world.owner.execute(
            "UPDATE runs SET due_at = now() WHERE due_at IS NOT NULL", scope: .none)
    }

    /// The attempts that a device gets once the time of its runs has come.
    private func next(_ bench: Bench, _ post: Post) async throws -> [InboxLetter.Item] {
        try await come(bench)
        #expect(try await bench.reconciler.queueDue())
        _ = try await bench.refiller.refillOnce()
        try await bench.dispatchAll()
        let items = try await post.attempts()
        _ = try await post.take(items)
        return items
    }

    @Test("A run whose time comes is brought and dispatched by workers alone, and not before")
    func scheduled() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 2)
            let post = try await Post.open(bench, holding: tenant.all)
            #expect(try await submit(bench, tenant, notBefore: .now() + .seconds(600)).isEmpty)
            #expect(try await !bench.reconciler.queueDue())
            #expect(try await !bench.reconciler.markStragglers())
            #expect(try await bench.refiller.refillOnce() == 0)
            #expect(Set(try await next(bench, post).map(\.device)) == Set(tenant.all))
            #expect(try await !bench.reconciler.queueDue())
        }
    }

    @Test("A failed attempt leaves its place at once, and the next one is another attempt of the same run")
    func retried() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let runs = try await submit(bench, tenant)
            await bench.front.offer(runs)
            try await bench.dispatchAll()
            var items = try await post.attempts()
            var tokens: Set<AttemptToken> = []
            for attempt in 1...3 {
                #expect(items.map(\.attempt) == [attempt] && items.map(\.run) == runs.map(\.run))
                #expect(tokens.insert(items[0].token).inserted)
                _ = try await post.take(items)
                #expect(try await bench.depth(tenant).running == 1)
                try await post.finish(items, .timedOut)
                #expect(try await bench.depth(tenant).running == 0)
                if attempt < 3 { items = try await next(bench, post) }
            }
            #expect(try await bench.world.state(runs[0].run) == .timedOut)
        }
    }

    @Test("A retry whose settlement Redis never heard of is dispatched all the same, and counted once")
    func untold() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let runs = try await submit(bench, tenant)
            await bench.front.offer(runs)
            try await bench.dispatchAll()
            let first = try await post.attempts()
            _ = try await post.take(first)
            // The gateway dies between its commit and the queue.
            try await post.finish(first, .failed, telling: false)
            #expect(try await next(bench, post).map(\.attempt) == [2])
            _ = try await bench.reconciler.compareMembership()
            #expect(try await bench.depth(tenant).running == 1)
            // The agent was not told either, and says it again.
            #expect(try await post.finish(first, .failed) == [.duplicate])
            #expect(try await bench.world.state(runs[0].run) == .dispatched)
        }
    }

    @Test("The entry of the attempt before is refused at the mark once the next is scheduled")
    func staleEntry() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let runs = try await submit(bench, tenant)
            await bench.front.offer(runs)
            try await bench.dispatchAll()
            let first = try await post.attempts()
            _ = try await post.take(first)
            try await post.finish(first, .failed)
            // A dispatcher that was stopped in between offers what it knew.
            await bench.front.offer(runs)
            try await bench.dispatchAll()
            #expect(try await post.attempts().isEmpty)
            #expect(try await bench.world.state(runs[0].run) == .scheduled)
            #expect(try await next(bench, post).map(\.attempt) == [2])
        }
    }

    @Test("A retry of an offline device waits for it like any other run")
    func offline() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let runs = try await submit(bench, tenant)
            await bench.front.offer(runs)
            try await bench.dispatchAll()
            let first = try await post.attempts()
            _ = try await post.take(first)
            try await post.finish(first, .failed)
            try await post.die()
            #expect(try await next(bench, post).isEmpty)
            #expect(try await bench.world.state(runs[0].run) == .waiting)
            let other = try await Post.open(bench)
            try await other.connect(tenant.all, of: tenant)
            _ = try await bench.refiller.refillOnce()
            try await bench.dispatchAll()
            #expect(try await other.attempts().map(\.attempt) == [2])
        }
    }

    @Test("A silent device's run leaves its place and takes it again when the device is back")
    func silent() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let runs = try await submit(bench, tenant, idempotent: true)
            await bench.front.offer(runs)
            try await bench.dispatchAll()
            let item = try #require(try await post.attempts().first)
            _ = try await post.take([item])
            try await bench.world.gateway.start([
                (item.organization, item.device, item.run, item.token, .now())
            ])
            try await bench.world.owner.execute(
                "UPDATE runs SET deadline = now() - interval '1 second'", scope: .none)
            #expect(try await bench.reconciler.judgeDeadlines())
            #expect(try await bench.world.state(item.run) == .scheduled)
            #expect(try await bench.depth(tenant).running == 0)
            try await come(bench)
            #expect(try await !bench.reconciler.queueDue(), "nothing follows before the device has spoken")
            #expect(
                try await bench.world.gateway.revive([(item.organization, item.run, item.token)]) == [
                    item.run
                ])
            _ = try await bench.reconciler.compareMembership()
            #expect(try await bench.depth(tenant).running == 1)
            #expect(try await post.finish([item]).count { $0.settledRun != nil } == 1)
            #expect(try await bench.depth(tenant).running == 0)
        }
    }
}
