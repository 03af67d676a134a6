import Domain
import Ledger
import Postgres
import Redis
import Synchronization
import TestSupport
import Testing

@testable import Engine
@testable import Streams

/// What a process does beside a suspect that it tries: nothing.
@Suite(.serialized, .world) struct TrialTests {
    /// A run that a worker has, which is going to die.
    private func claimToDie(_ run: QueuedRun, _ bench: Bench) async throws {
        await bench.front.offer([run])
        #expect(try await bench.claim("died").map(\.run) == [run.run])
    }

    /// The worker has died: its claims are suspects.
    private func bury(_ bench: Bench) async throws {
        try await bench.queue.reclaim(owner: "died", .crashed, epoch: bench.front.epoch())
    }

    private func notes(_ bench: Bench) async throws -> Int {
        try await bench.world.count("SELECT count(*) FROM suspects")
    }

    /// Asks until so many wait to be let in.
    private func waits(_ count: Int, for lock: SharedLock) async throws {
        let end = ContinuousClock.now + .seconds(30)
        while lock.waiting < count, ContinuousClock.now < end { await Task.yield() }
        try #require(lock.waiting == count)
    }

    @Test("A suspect is not tried while another dispatcher of its process has a batch under way")
    func batchFirst() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 2)
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            let gate = ClaimGate(ledger: bench.world.worker)
            let one = bench.dispatcher(owner: "one", gate: gate, trialTime: .seconds(120))
            let other = bench.dispatcher(owner: "other", gate: gate, trialTime: .seconds(120))
            try await claimToDie(runs[0], bench)
            await bench.front.offer([runs[1]])
            // The row is held, so that the other run's dispatcher stands before its mark.
            let steps = try await bench.world.owner.transaction(scope: .none) { transaction in
                try await transaction.execute("SELECT FROM runs WHERE id = \(runs[1].run) FOR UPDATE")
                let batch = Task { try await one.dispatchOnce() }
                try await bench.blockedStatement()
                try await bury(bench)
                let trial = Task { try await other.dispatchOnce() }
                try await waits(1, for: gate.crashes)
                #expect(try await notes(bench) == 0)
                #expect(try await post.letters().isEmpty)
                return [batch, trial]
            }
            for step in steps { _ = try await step.value }
            #expect(try await post.attempts().map(\.run) == [runs[1].run, runs[0].run])
            #expect(try await notes(bench) == 0)
        }
    }

    @Test("No dispatcher of a process claims while another tries a suspect")
    func trialFirst() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 2)
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            let gate = ClaimGate(ledger: bench.world.worker)
            let one = bench.dispatcher(owner: "one", gate: gate, trialTime: .seconds(120))
            let other = bench.dispatcher(owner: "other", gate: gate, trialTime: .seconds(120))
            try await claimToDie(runs[0], bench)
            try await bury(bench)
            let steps = try await bench.world.owner.transaction(scope: .none) { transaction in
                try await transaction.execute("SELECT FROM runs WHERE id = \(runs[0].run) FOR UPDATE")
                let trial = Task { try await one.dispatchOnce() }
                try await bench.blockedStatement()
                await bench.front.offer([runs[1]])
                let batch = Task { try await other.dispatchOnce() }
                try await waits(1, for: gate.crashes)
                #expect(try await bench.depth(tenant).leased == 1)
                return [trial, batch]
            }
            for step in steps { _ = try await step.value }
            #expect(try await post.attempts().map(\.run) == runs.map(\.run))
        }
    }

    @Test("Where another's batch does not end, a suspect is handed back, and others of the process go on")
    func stuckBatch() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 3)
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            let gate = ClaimGate(ledger: bench.world.worker)
            let stuck = bench.dispatcher(owner: "stuck", gate: gate)
            let other = bench.dispatcher(owner: "other", gate: gate, trialTime: .milliseconds(4))
            try await claimToDie(runs[0], bench)
            await bench.front.offer([runs[1]])
            let step = try await bench.world.owner.transaction(scope: .none) { transaction in
                try await transaction.execute("SELECT FROM runs WHERE id = \(runs[1].run) FOR UPDATE")
                let step = Task { try await stuck.dispatchOnce() }
                try await bench.blockedStatement()
                try await bury(bench)
                #expect(try await !other.dispatchOnce())
                #expect(try await bench.depth(tenant).leased == 1)
                await bench.front.offer([runs[2]])
                _ = try await other.dispatchOnce()
                #expect(try await post.attempts().map(\.run) == [runs[2].run])
                return step
            }
            _ = try await step.value
            #expect(try await notes(bench) == 0)
        }
    }

    @Test("Suspects that do not come to their turn in time are handed back, which is no crash")
    func handedBack() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 3)
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(Array(runs[..<2]))
            #expect(try await bench.claim("died").count == 2)
            try await bury(bench)
            await bench.front.offer([runs[2]])
            let hurried = bench.dispatcher(owner: "hurried", trialTime: .zero)
            #expect(try await hurried.dispatchOnce(), "they may be claimed at once")
            let attempts = try await post.attempts().map(\.run)
            #expect(attempts.count == 2 && attempts[0] == runs[2].run, "one is tried in any case")
            let depth = try await bench.depth(tenant)
            #expect(depth.leased == 0 && depth.running == 2)
            let again = try await bench.claim("again")
            #expect(again.map(\.run) == runs.map(\.run).filter { !attempts.contains($0) })
            #expect(again.map(\.crashes) == [1])
            #expect(try await notes(bench) == 0)
        }
    }

    @Test("Who waits to be alone is not passed by those who share")
    func order() async throws {
        let lock = SharedLock()
        let done = Done()
        let tasks = try await lock.shared {
            var tasks = [Task { _ = await lock.alone(until: .now + .seconds(60)) { done.note(1) } }]
            try await waits(1, for: lock)
            for count in 2...3 {
                tasks.append(Task { await lock.shared { done.note(2) } })
                try await waits(count, for: lock)
            }
            tasks.append(Task { _ = await lock.alone(until: .now + .seconds(60)) { done.note(3) } })
            try await waits(4, for: lock)
            done.note(0)
            return tasks
        }
        for task in tasks { await task.value }
        #expect(done.numbers == [0, 1, 2, 2, 3])
        #expect(lock.waiting == 0)
    }

    private final class Done: Sendable {
        private let state = Mutex<[Int]>([])
        var numbers: [Int] { state.withLock { $0 } }
        func note(_ number: Int) { state.withLock { $0.append(number) } }
    }
}
