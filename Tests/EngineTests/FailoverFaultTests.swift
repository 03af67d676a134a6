import Domain
import Ledger
import Postgres
import Redis
import TestSupport
import Testing

@testable import Engine
@testable import Streams

/// The master of Redis dies while runs are dispatched: its successor lacks what was not replicated, and no
/// run is lost or handed out twice.
@Suite(.serialized, .world) struct FailoverFaultTests {
    @Test("After a failover in the middle of dispatch each run has been handed to its device exactly once")
    func failover() async throws {
        let servers = try await RedisFailover()
        defer { servers.stop() }
        try await Bench.run(on: RedisConfiguration(url: servers.url())) { bench in
            let tenant = try await bench.world.tenant(devices: 25)
            let post = try await Post.open(bench, holding: tenant.all)
            var runs: [QueuedRun] = []
            for _ in 0..<12 { runs += try await bench.world.submit(tenant, tenant.all).1 }
            await bench.front.offer(runs)
            let background = Task {
                await withTaskGroup(of: Void.self) { group in
                    group.addTask { await bench.rebuilder.run() }
                    group.addTask { await bench.refiller.run() }
                    group.addTask { await bench.reconciler.run() }
                    group.addTask { await bench.dispatcher.run() }
                }
            }
            var taken: [RunID: Int] = [:]
            var isKilled = false
            while taken.count < runs.count {
                do {
                    try await bench.queue.beat(gateway: post.id, milliseconds: 60_000)
                    try await post.present(tenant.all)
                    let items = try await post.attempts()
                    for delivery in try await post.take(items) { taken[delivery.run, default: 0] += 1 }
                    try await post.finish(items)
                    // A letter that was lost with the master is missed when its time to be taken is over.
                    if isKilled, items.isEmpty { try await bench.lapseMarks() }
                } catch let error as RedisError where error.isTransient {
                    bench.front.forgetEpoch()
                } catch is QueueError {
                    bench.front.forgetEpoch()
                }
                if !isKilled, taken.count > runs.count / 4 {
                    isKilled = true
                    servers.killMaster()
                }
            }
            background.cancel()
            await background.value
            #expect(isKilled)
            #expect(Set(taken.keys) == Set(runs.map(\.run)))
            #expect(taken.values.allSatisfy { $0 == 1 }, "handed out more than once")
            let settled = try await bench.world.count("SELECT count(*) FROM run_history WHERE attempt = 1")
            #expect(settled == runs.count)
            #expect(try await bench.world.count("SELECT count(*) FROM runs") == 0)
        }
    }
}
