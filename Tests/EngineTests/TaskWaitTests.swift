import Domain
import Ledger
import Postgres
import Synchronization
import TestSupport
import Testing
import Trust

@testable import Engine

/// Handlers that say themselves when they go on.
@Suite(.serialized, .world) struct TaskWaitTests {
    @Test("A failure that says its wait is repeated after that, and counts")
    func failure() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            let pool = bench.pool { _ in throw TaskFailure("not yet", again: .seconds(3_000)) }
            let policy = TaskPolicy(maximumAttempts: 2, backoffSeconds: 1, maximumBackoffSeconds: 1)
            let id = try await bench.submit(tenant, policy: policy)[0]
            _ = try await pool.claimOnce()
            try await bench.until("it is over") { pool.runningCount == 0 }
            let task = try await bench.task(id)
            #expect(task.state == .scheduled && task.failures == 1 && task.reason == "not yet")
            #expect(task.dueAt! > .now() + .seconds(2_000))
            try await bench.lapse()
            try await bench.upkeepOnce()
            _ = try await pool.claimOnce()
            try await bench.until("it is over") { pool.runningCount == 0 }
            #expect(try await bench.task(id).state == .failed)
        }
    }

    @Test("A postponement counts no failure, also where the policy has one attempt; after its expiry it ends")
    func postponement() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            let wait = Mutex(Duration.seconds(60))
            let pool = bench.pool { _ in throw TaskPostponement(by: wait.withLock(\.self)) }
            let id = try await bench.submit(tenant, policy: TaskPolicy(maximumAttempts: 1))[0]
            for _ in 0..<3 {
                _ = try await pool.claimOnce()
                try await bench.until("it is over") { pool.runningCount == 0 }
                let task = try await bench.task(id)
                #expect(task.state == .scheduled && task.failures == 0 && task.reason == nil)
                try await bench.lapse()
                try await bench.upkeepOnce()
            }
            wait.withLock { $0 = .seconds(100_000) }
            _ = try await pool.claimOnce()
            try await bench.until("it is over") { pool.runningCount == 0 }
            #expect(try await bench.task(id).state == .expired)
        }
    }
}
