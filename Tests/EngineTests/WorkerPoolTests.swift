import Domain
import Ledger
import Postgres
import Streams
import Synchronization
import TestSupport
import Testing
import Trust

@testable import Engine

/// Pools side by side, and their stop.
@Suite(.serialized, .world) struct WorkerPoolTests {
    /// Runs a pool until a body is done, then stops it and waits for its end.
    private func running(_ pool: WorkerPool, _ body: () async throws -> Void) async throws {
        let task = Task { await pool.run() }
        do {
            try await body()
        } catch {
            task.cancel()
            await task.value
            throw error
        }
        task.cancel()
        await task.value
    }

    @Test("A pool does no more at once than it may, and goes on as handlers end")
    func concurrency() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            let counts = Mutex((now: 0, most: 0))
            let pool = bench.pool(concurrency: 3) { _ in
                counts.withLock {
                    $0.now += 1
                    $0.most = max($0.most, $0.now)
                }
                // The first ones go on when there are three of them.
                while counts.withLock({ $0.most < 3 }), !Task.isCancelled { await Task.yield() }
                counts.withLock { $0.now -= 1 }
            }
            try await running(pool) {
                try await bench.submit(tenant, count: 40)
                try await bench.until("all are done") { try await bench.states() == [.succeeded: 40] }
            }
            #expect(counts.withLock(\.most) == 3)
        }
    }

    @Test("One tenant's backlog holds up another's tasks no longer than a free slot takes")
    func fairness() async throws {
        try await TaskBench.run { bench in
            let big = try await bench.world.tenant()
            let small = try await bench.world.tenant()
            let order = Mutex<[OrganizationID]>([])
            let pool = bench.pool(concurrency: 1) { work in
                order.withLock { $0.append(work.organization) }
            }
            try await bench.submit(big, count: 200)
            try await bench.submit(small, count: 5)
            try await bench.upkeepOnce()  // Both wait in the queue when the pool begins.
            try await running(pool) {
                try await bench.until("the second's are done") {
                    order.withLock { $0.count { $0 == small.organization } } == 5
                }
            }
            // Which turns follow is a matter of what each of them took.
            let first = order.withLock { $0.firstIndex(of: small.organization) } ?? .max
            #expect(first <= 4)
        }
    }

    @Test("Who takes long is charged for it: of two with a backlog the one with short tasks does more")
    func cost() async throws {
        try await TaskBench.run { bench in
            let long = try await bench.world.tenant()
            let short = try await bench.world.tenant()
            let (front, queue) = (bench.front, bench.front.parts[0].queue)
            try await bench.submit(long, count: 60)
            try await bench.submit(short, count: 60)
            // Claims as a worker makes them, whose tasks take 8 seconds and 2.
            var counts: [OrganizationID: Int] = [:]
            for round in 0..<50 {
                let epoch = try await front.epoch()
                let claim = try #require(
                    try await queue.claim(owner: "w", limit: 1, leaseMilliseconds: 60_000, epoch: epoch)
                        .items.first)
                let marked = try await bench.world.worker.markTasks(
                    [(QueuedRun(claim.organization, claim.run, claim.generation, claim.priority), fresh())],
                    worker: fresh(), epoch: epoch.id, partition: ProbeHandler.kind.partition)
                try #require(marked.count == 1)
                try await queue.acknowledge(
                    dispatched: [claim], dropped: [], deadlineMilliseconds: 1, epoch: epoch)
                let isLong = claim.organization == long.organization
                await front.left([marked[0].entry], costs: [isLong ? 8 : 2])
                // Until the averages are learned.
                if round >= 10 { counts[claim.organization, default: 0] += 1 }
            }
            let ratio = Double(counts[short.organization] ?? 0) / Double(counts[long.organization] ?? 1)
            #expect((3.0...5.0).contains(ratio), "\(ratio)")
        }
    }

    @Test("At a stop a pool claims nothing more, lets handlers finish, and gives back what is not done")
    func drain() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            let latch = Latch()
            var times = PoolTimes()
            times.drain = .milliseconds(300)
            times.breakOff = .milliseconds(300)
            let pool = bench.pool(concurrency: 3, times: times) { work in
                switch work.payload.text {
                case "0": break
                case "1": try await untilCancelled()
                // Heeds nothing.
                default: await latch.pass()
                }
            }
            let ids = try await bench.submit(tenant, count: 5)
            try await running(pool) {
                try await bench.until("three have begun, and one of them has ended") {
                    let states = try await bench.states()
                    return states[.succeeded] == 1 && states[.running] == 3
                }
            }
            // Its last claims took one more after the first had ended.
            #expect(try await bench.states() == [.succeeded: 1, .queued: 4])
            let back = try await bench.task(ids[1])
            #expect(back.attempt == 1 && back.failures == 0 && back.crashes == 0)
            let seen = Mutex<Set<Int>>([])
            let next = bench.pool(bell: 1) { work in _ = seen.withLock { $0.insert(work.attempt) } }
            try await running(next) {
                try await bench.until("another has done the rest") {
                    try await bench.states() == [.succeeded: 5]
                }
            }
            #expect(seen.withLock(\.self) == [1, 2])
            latch.open()
            try await bench.until("the last one has come back") { pool.runningCount == 0 }
            #expect(try await bench.task(ids[2]).attempt == 2)
        }
    }

    @Test("A worker that is told to drain finishes what it has, claims nothing, and then is drained")
    func gate() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            let latch = Latch()
            let gate = ClaimGate(ledger: bench.world.worker)
            let pool = bench.pool(concurrency: 1, gate: gate) { _ in await latch.pass() }
            try await running(pool) {
                try await bench.submit(tenant, count: 2)
                try await bench.until("one has begun") { try await bench.states()[.running] == 1 }
                gate.drain()
                #expect(!gate.isDrained)
                latch.open()
                try await bench.until("it is done") { try await bench.states()[.succeeded] == 1 }
                try await bench.until("it is drained") { gate.isDrained }
                #expect(try await !pool.claimOnce())
                #expect(try await bench.states() == [.succeeded: 1, .queued: 1])
            }
        }
    }

    @Test("A lost data set loses no task and does none twice")
    func rebuild() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            let latch = Latch()
            let attempts = Mutex<[TaskID: Int]>([:])
            let pool = bench.pool(concurrency: 2) { work in
                attempts.withLock { $0[work.id, default: 0] += 1 }
                await latch.pass()
            }
            try await bench.submit(tenant, count: 6)
            _ = try await pool.claimOnce()
            try await bench.place.wipe()
            #expect(try await bench.partition.rebuilder.checkOnce())
            bench.front.forgetEpoch()
            #expect(try await bench.front.parts[0].queue.runningCount(tenant.organization) == 2)
            _ = try await bench.partition.refiller.refillOnce()
            latch.open()
            try await running(pool) {
                try await bench.until("all are done") { try await bench.states() == [.succeeded: 6] }
            }
            #expect(attempts.withLock { $0.values.allSatisfy { $0 == 1 } && $0.count == 6 })
            #expect(try await bench.front.parts[0].queue.runningCount(tenant.organization) == 0)
        }
    }

    @Test("Weights of organizations hold for their tasks, and caps")
    func entitlements() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            _ = try await bench.world.api.setCap(1, of: tenant.organization, scope: .platform)
            let sync = EntitlementSync(ledger: bench.world.worker, front: bench.front)
            #expect(try await sync.compareLimits() == [tenant.organization])
            #expect(try await sync.compareLimits() == [])
            let latch = Latch()
            let pool = bench.pool { _ in await latch.pass() }
            try await bench.submit(tenant, count: 3)
            _ = try await pool.claimOnce()
            #expect(pool.runningCount == 1)
            latch.open()
        }
    }
}

extension QueuedRun {
    fileprivate init(
        _ organization: OrganizationID, _ run: RunID, _ generation: Int, _ priority: Priority
    ) {
        self.init(
            organization: organization, run: run, device: DeviceID(run.value), generation: generation,
            lane: .script, priority: priority)
    }
}
