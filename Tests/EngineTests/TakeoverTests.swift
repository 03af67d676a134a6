import Domain
import Ledger
import Redis
import Synchronization
import TestSupport
import Testing
import Trust

@testable import Engine
@testable import Streams

/// What a worker leaves behind: after a clean stop another takes it as if it had just come, after a death
/// once its leases are over.
@Suite(.serialized, .world) struct TakeoverTests {
    /// Runs something that is cancelled before it begins: it does what it does at a stop, and nothing else.
    private func stop(_ body: @escaping @Sendable () async -> Void) async {
        let task = Task {
            while !Task.isCancelled { await Task.yield() }
            await body()
        }
        task.cancel()
        await task.value
    }

    private func lapseLeases(_ bench: TaskBench) async throws {
        let key = RedisArgument.string(bench.front.parts[0].queue.keys.key("leases"))
        let leases = try await bench.place.connection.send(RedisCommand("ZRANGE", arguments: [key, 0, -1]))
        for lease in leases.array?.compactMap(\.text) ?? [] {
            let command = RedisCommand("ZADD", arguments: [key, 0, .string(lease)])
            _ = try await bench.place.connection.send(command)
        }
    }

    @Test("What a stopping pool has is claimed by another with no lease ended and no deadline judged")
    func stoppedPool() async throws {
        try await TaskBench.run { bench in
            let (tenant, worker) = (try await bench.world.tenant(), WorkerID.new(at: .now()))
            var times = PoolTimes()
            times.drain = .zero
            let pool = bench.pool(worker: worker, concurrency: 2, times: times) { _ in
                try await untilCancelled()
            }
            let ids = try await bench.submit(tenant, count: 3)
            _ = try await pool.claimOnce()
            #expect(try await bench.states() == [.running: 2, .queued: 1])
            // And one that it has claimed and not marked.
            let epoch = try await bench.front.epoch()
            let claims = try await bench.front.parts[0].queue.claim(
                owner: "\(worker)", limit: 9, leaseMilliseconds: 60_000, epoch: epoch)
            #expect(claims.items.count == 1)
            await stop { await pool.run() }
            #expect(try await bench.states() == [.queued: 3])
            let next = bench.pool(bell: 1) { _ in }
            _ = try await next.claimOnce()
            try await bench.until("the other has done all") {
                try await bench.states() == [.succeeded: 3]
            }
            for (id, attempt) in zip(ids, [2, 2, 1]) {
                let task = try await bench.task(id)
                #expect(task.attempt == attempt && task.crashes == 0 && task.failures == 0)
            }
        }
    }

    @Test("What a dead pool had stays its own until its leases are over: of a claim, and of what has begun")
    func deadPool() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            let latch = Latch()
            let dead = bench.pool(concurrency: 1) { _ in await latch.pass() }
            let ids = try await bench.submit(tenant, count: 2)
            _ = try await dead.claimOnce()
            let epoch = try await bench.front.epoch()
            let claims = try await bench.front.parts[0].queue.claim(
                owner: "dead", limit: 9, leaseMilliseconds: 60_000, epoch: epoch)
            #expect(claims.items.count == 1)
            let next = bench.pool(bell: 1) { _ in }
            for _ in 0..<2 {
                #expect(try await !bench.partition.reconciler.sweepOnce())
                try await bench.upkeepOnce()
                _ = try await next.claimOnce()
                #expect(try await bench.states() == [.running: 1, .queued: 1])
            }
            try await lapseLeases(bench)
            #expect(try await bench.partition.reconciler.sweepOnce())
            _ = try await next.claimOnce()
            try await bench.until("what was claimed is done") {
                try await bench.states() == [.running: 1, .succeeded: 1]
            }
            #expect(try await bench.task(ids[1]).crashes == 0, "nothing of it had begun")
            try await bench.lapse()
            try await bench.upkeepOnce()
            _ = try await next.claimOnce()
            try await bench.until("what had begun is done") {
                try await bench.states() == [.succeeded: 2]
            }
            let task = try await bench.task(ids[0])
            #expect(task.attempt == 2 && task.crashes == 1)
            latch.open()
            try await bench.until("the dead one's handler ends") { dead.runningCount == 0 }
        }
    }

    @Test("What a stopping dispatcher has claimed is dispatched by another with no lease ended")
    func stoppedDispatcher() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            #expect(try await bench.claim("stopping").count == runs.count)
            try await bench.dispatchAll()
            #expect(try await post.attempts().isEmpty, "the lease holds")
            let stopping = bench.dispatcher(owner: "stopping")
            await stop { await stopping.run() }
            try await bench.dispatchAll()
            #expect(try await post.attempts().map(\.run) == runs.map(\.run))
        }
    }

    @Test("A lease and the look after it fit into ten seconds, and renewals into a lease")
    func times() {
        // The sweep looks each second, deadlines of tasks are judged each 300 ms.
        #expect(Dispatcher.leaseMilliseconds + 1_000 < 10_000)
        #expect(WorkerPool.claimLeaseMilliseconds + 1_000 < 10_000)
        #expect(Ledger.taskLeaseSeconds + 1 < 10)
        let times = PoolTimes()
        #expect(times.renewal * 3 < .seconds(Ledger.taskLeaseSeconds), "two may be lost")
        #expect(times.drain + times.breakOff < .seconds(Ledger.taskLeaseSeconds))
    }
}
