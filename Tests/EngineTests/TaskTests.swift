import Domain
import Ledger
import Postgres
import Redis
import Streams
import Synchronization
import TestSupport
import Testing
import Trust

@testable import Engine

/// Tasks from their submission to their end.
@Suite(.serialized, .world) struct TaskTests {
    @Test("A task is done once with its payload, and leaves nothing in the queue")
    func path() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            let seen = Mutex<[String]>([])
            let pool = bench.pool { work in
                #expect(work.organization == tenant.organization && work.attempt == 1)
                seen.withLock { $0.append(work.payload.text) }
            }
            let ids = try await bench.submit(tenant, count: 3)
            #expect(try await !pool.claimOnce())
            try await bench.until("all are done") { try await bench.states() == [.succeeded: 3] }
            try await bench.until("the pool is idle") { pool.runningCount == 0 }
            #expect(seen.withLock { $0.sorted() } == ["0", "1", "2"])
            let task = try await bench.task(ids[0])
            #expect(task.attempt == 1 && task.finishedAt != nil && task.reason == nil && task.crashes == 0)
            let depth = try #require(
                try await bench.front.parts[0].queue.depths(of: [tenant.organization]).first)
            #expect(depth.ready.isEmpty && depth.running == 0 && depth.leased == 0 && !depth.marked)
            #expect(bench.metrics.count(ProbeHandler.kind, "succeeded") == 3)
        }
    }

    @Test("A paused job of a tenant holds up none of its tasks, and brings none of its runs among them")
    func besideAPausedJob() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant(devices: 2)
            let (job, _) = try await bench.world.submit(tenant, tenant.all)
            _ = try await bench.world.api.pauseJob(job, scope: tenant.scope)
            let part = bench.front.parts[0]
            // Marked, so that refill has to bring what is submitted.
            try await part.queue.mark(OrganizationQueue.all(of: tenant.organization), epoch: part.epoch())
            _ = try await bench.submit(tenant, count: 3)
            _ = try await bench.partition.refiller.refillOnce()
            let depth = try #require(try await part.queue.depths(of: [tenant.organization]).first)
            #expect(depth.ready.values.reduce(0, +) == 3 && !depth.marked)
        }
    }

    @Test("Nothing of the payload comes into Redis")
    func payload() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            _ = try await bench.tasks.submit(
                [try bench.request(tenant, "a word that is nowhere else")], scope: tenant.scope)
            for key in try await bench.place.keys() {
                let dump = try await bench.place.connection.send(RedisCommand("DUMP", .string(key)))
                guard case .string(let bytes) = dump else { continue }
                #expect(!String(decoding: bytes, as: UTF8.self).contains("a word"), "\(key)")
            }
        }
    }

    @Test(
        "A handler that throws is tried again after a wait, as often as the policy says, then it has failed")
    func failure() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            let pool = bench.pool { _ in throw ProbeFailure() }
            let policy = TaskPolicy(maximumAttempts: 3, backoffSeconds: 60)
            let id = try await bench.submit(tenant, policy: policy)[0]
            for attempt in 1...3 {
                _ = try await pool.claimOnce()
                try await bench.until("attempt \(attempt) is over") { pool.runningCount == 0 }
                let task = try await bench.task(id)
                #expect(task.attempt == attempt && task.failures == attempt)
                #expect(task.reason == "ProbeFailure")
                #expect(task.state == (attempt < 3 ? .scheduled : .failed))
                if attempt < 3 {
                    // Not before its time.
                    try await bench.upkeepOnce()
                    #expect(try await bench.task(id).state == .scheduled || task.dueAt! <= .now())
                    try await bench.lapse()
                    try await bench.upkeepOnce()
                }
            }
            #expect(bench.metrics.count(ProbeHandler.kind, "repeated") == 2)
            #expect(bench.metrics.count(ProbeHandler.kind, "failed") == 1)
        }
    }

    @Test("A refusal, and a payload that cannot be read, are not tried again")
    func refusal() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            let pool = bench.pool { _ in throw TaskRefusal("there is no such address") }
            let ids = try await bench.submit(tenant, count: 2)
            try await bench.world.owner.execute(
                "UPDATE tasks SET payload = 'no' WHERE id = \(ids[1])", scope: .none)
            _ = try await pool.claimOnce()
            try await bench.until("both are over") { pool.runningCount == 0 }
            #expect(try await bench.states() == [.failed: 2])
            #expect(try await bench.task(ids[0]).reason == "there is no such address")
            #expect(try await bench.task(ids[1]).reason?.hasPrefix("the payload cannot be read") == true)
        }
    }

    @Test("A task of a dead worker is done by another, and what the dead one says later is refused")
    func fence() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            let latch = Latch()
            let first = bench.pool { _ in await latch.pass() }
            let id = try await bench.submit(tenant)[0]
            _ = try await first.claimOnce()
            #expect(try await bench.task(id).state == .running)
            try await bench.lapse()
            try await bench.upkeepOnce()
            #expect(try await bench.task(id).crashes == 1)
            let second = bench.pool(bell: 1) { work in
                #expect(work.attempt == 2)
                throw TaskRefusal("as the second says")
            }
            _ = try await second.claimOnce()
            try await bench.until("the second is done") { second.runningCount == 0 }
            latch.open()
            try await bench.until("the first is done") { first.runningCount == 0 }
            let task = try await bench.task(id)
            #expect(task.state == .failed && task.attempt == 2 && task.reason == "as the second says")
            #expect(bench.metrics.count(ProbeHandler.kind, "late") == 1)
            let depth = try #require(
                try await bench.front.parts[0].queue.depths(of: [tenant.organization]).first)
            #expect(depth.running == 0 && depth.leased == 0)
        }
    }

    @Test("What a worker says of a task that another has begun meanwhile changes nothing")
    func fenceWhileOtherRuns() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            let (old, new) = (Latch(), Latch())
            let first = bench.pool { _ in await old.pass() }
            let id = try await bench.submit(tenant)[0]
            _ = try await first.claimOnce()
            try await bench.lapse()
            try await bench.upkeepOnce()
            let second = bench.pool(bell: 1) { _ in
                await new.pass()
                throw TaskRefusal("as the second says")
            }
            _ = try await second.claimOnce()
            old.open()
            try await bench.until("the first is done") { first.runningCount == 0 }
            let task = try await bench.task(id)
            #expect(task.state == .running && task.attempt == 2)
            #expect(bench.metrics.count(ProbeHandler.kind, "late") == 1)
            new.open()
            try await bench.until("the second is done") { second.runningCount == 0 }
            #expect(try await bench.task(id).reason == "as the second says")
        }
    }

    @Test("A handler whose lease is lost is told to break off")
    func lostLease() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            let pool = bench.pool { _ in try await untilCancelled() }
            let id = try await bench.submit(tenant)[0]
            _ = try await pool.claimOnce()
            try await bench.lapse()
            try await bench.upkeepOnce()
            try await pool.renewOnce()
            try await bench.until("it has broken off") { pool.runningCount == 0 }
            #expect(try await bench.task(id).state == .queued)
            #expect(bench.metrics.count(ProbeHandler.kind, "late") == 1)
        }
    }

    @Test("A renewed lease outlives its first time")
    func renewal() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            let latch = Latch()
            let pool = bench.pool { _ in await latch.pass() }
            let id = try await bench.submit(tenant)[0]
            _ = try await pool.claimOnce()
            try await bench.lapse()
            try await pool.renewOnce()
            try await bench.upkeepOnce()
            #expect(try await bench.task(id).state == .running)
            latch.open()
            try await bench.until("it is done") { try await bench.task(id).state == .succeeded }
        }
    }

    @Test("A task over which three workers died alone fails as poison; among others it does not")
    func poison() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            let latch = Latch()
            let ids = try await bench.submit(tenant, count: 2)
            for crash in 1...3 {
                // A worker of its own each time, which dies with both tasks.
                let pool = bench.pool { _ in await latch.pass() }
                _ = try await pool.claimOnce()
                #expect(pool.runningCount == 2)
                try await bench.lapse()
                try await bench.upkeepOnce()
                let task = try await bench.task(ids[0])
                #expect(task.crashes == crash)
                #expect(task.state == (crash == 1 ? .queued : .scheduled))
                try await bench.lapse()
                try await bench.upkeepOnce()
            }
            _ = try await bench.tasks.cancel(ids[1], scope: tenant.scope)
            for crash in 4...6 {
                let pool = bench.pool { _ in await latch.pass() }
                _ = try await pool.claimOnce()
                #expect(pool.runningCount == 1)
                try await bench.lapse()
                try await bench.upkeepOnce()
                let task = try await bench.task(ids[0])
                #expect(task.state == (crash < 6 ? .scheduled : .failed))
                try await bench.lapse()
                try await bench.upkeepOnce()
            }
            #expect(try await bench.task(ids[0]).reason == "poison")
            latch.open()
        }
    }

    @Test("A handler that takes too long is told so, and its attempt has timed out")
    func timeout() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            let pool = bench.pool { _ in try await untilCancelled() }
            let policy = TaskPolicy(maximumAttempts: 1, timeoutSeconds: 1)
            let id = try await bench.submit(tenant, policy: policy)[0]
            _ = try await pool.claimOnce()
            try await bench.until("it has timed out") {
                try await pool.renewOnce()
                return try await bench.task(id).state == .timedOut
            }
            #expect(try await bench.task(id).reason == "timedOut")
        }
    }

    @Test("A cancel ends what nobody has at once, and reaches the handler of what runs")
    func cancel() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            let pool = bench.pool { _ in try await untilCancelled() }
            let ids = try await bench.submit(tenant, count: 2)
            #expect(try await bench.tasks.cancel(ids[1], scope: tenant.scope)?.state == .cancelled)
            _ = try await pool.claimOnce()
            #expect(pool.runningCount == 1)
            let asked = try #require(try await bench.tasks.cancel(ids[0], scope: tenant.scope))
            #expect(asked.state == .running && asked.cancelRequestedAt != nil)
            try await pool.renewOnce()
            try await bench.until("it has broken off") { pool.runningCount == 0 }
            #expect(try await bench.states() == [.cancelled: 2])
            // What has ended stays as it is.
            #expect(try await bench.tasks.cancel(ids[0], scope: tenant.scope)?.state == .cancelled)
        }
    }

    @Test("A task that a cancel was asked for is not tried again, but what its handler did counts")
    func cancelAgainstEnd() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            let latch = Latch()
            let pool = bench.pool { work in
                await latch.pass()
                if work.payload.text == "0" { throw ProbeFailure() }
            }
            let ids = try await bench.submit(tenant, count: 2)
            _ = try await pool.claimOnce()
            for id in ids { _ = try await bench.tasks.cancel(id, scope: tenant.scope) }
            latch.open()
            try await bench.until("both are over") { pool.runningCount == 0 }
            #expect(try await bench.task(ids[0]).state == .failed)
            #expect(try await bench.task(ids[1]).state == .succeeded)
        }
    }

    @Test("The same key is the same task, also after it has ended, and among equals of one batch")
    func keys() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            let other = try await bench.world.tenant()
            let request = try bench.request(tenant, key: "daily")
            let ids = try await bench.tasks.submit(
                [request, request, try bench.request(tenant)], scope: tenant.scope)
            #expect(ids[0].id == ids[1].id && ids[2].id != ids[0].id)
            guard case .repeated = ids[1], case .accepted = ids[0] else {
                Issue.record("the first is not new, or the second is")
                return
            }
            let pool = bench.pool { _ in }
            _ = try await pool.claimOnce()
            try await bench.until("they are done") { try await bench.states() == [.succeeded: 2] }
            let again = try await bench.tasks.submit([request], scope: tenant.scope)
            #expect(again == [.repeated(ids[0].id)])
            let theirs = try await bench.tasks.submit(
                [try bench.request(other, key: "daily")], scope: other.scope)
            #expect(theirs[0].id != ids[0].id)
        }
    }

    @Test("Submitted in a transaction, a task is there if that commits")
    func transaction() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            let pool = bench.world.logins[0].pool
            let request = try bench.request(tenant)
            await #expect(throws: ProbeFailure.self) {
                try await pool.transaction(scope: tenant.scope) { transaction in
                    _ = try await bench.tasks.submit([request], in: transaction)
                    throw ProbeFailure()
                }
            }
            #expect(try await bench.states() == [:])
            let accepted = try await pool.transaction(scope: tenant.scope) {
                try await bench.tasks.submit([request], in: $0)
            }
            // Nobody offers it: the scan finds it.
            try await bench.world.owner.execute(
                "UPDATE tasks SET queued_at = queued_at - interval '3 seconds'", scope: .none)
            _ = try await bench.partition.reconciler.markStragglers()
            _ = try await bench.partition.refiller.refillOnce()
            let workers = bench.pool { _ in }
            _ = try await workers.claimOnce()
            try await bench.until("it is done") {
                try await bench.task(accepted[0].id).state == .succeeded
            }
        }
    }

    @Test("A task of an organization that the scope does not see is refused, and nothing is submitted")
    func foreign() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            let other = try await bench.world.tenant()
            await #expect(throws: LedgerError.self) {
                try await bench.tasks.submit(
                    [try bench.request(tenant), try bench.request(other)], scope: tenant.scope)
            }
            #expect(try await bench.states() == [:])
            let id = try await bench.submit(other)[0]
            #expect(try await bench.tasks.cancel(id, scope: tenant.scope) == nil)
            #expect(try await bench.tasks.retry(id, scope: tenant.scope) == nil)
            #expect(try await bench.world.api.task(id, scope: tenant.scope) == nil)
            #expect(try await bench.task(id).state == .queued)
        }
    }

    @Test("What is not allowed in a task is refused with field, value and limit")
    func badInput() async throws {
        try await TaskBench.run { bench in
            let tenant = try await bench.world.tenant()
            func refused(_ field: String, _ change: (inout TaskRequest) -> Void) async throws {
                var request = try bench.request(tenant)
                change(&request)
                let error = await #expect(throws: EngineError.self, "\(field)") {
                    try await bench.tasks.submit([request], scope: tenant.scope)
                }
                #expect(error?.code == .invalid && error?.field == field)
            }
            try await refused("expiresInSeconds") { $0.expiresInSeconds = 0 }
            try await refused("maximumAttempts") { $0.policy.maximumAttempts = 101 }
            try await refused("backoffSeconds") { $0.policy.backoffSeconds = 0 }
            try await refused("maximumBackoffSeconds") { $0.policy.maximumBackoffSeconds = 86_401 }
            try await refused("timeoutSeconds") { $0.policy.timeoutSeconds = 0 }
            try await refused("key bytes") { $0.key = String(repeating: "k", count: 201) }
            try await refused("key") { $0.key = "a\0b" }
            try await refused("notBefore") { $0.notBefore = .now() + .seconds(400 * 86_400) }
            let large = try bench.request(tenant, String(repeating: "x", count: 65_536))
            let error = await #expect(throws: EngineError.self) {
                try await bench.tasks.submit([large], scope: tenant.scope)
            }
            #expect(error?.field == "payload bytes")
            // {"text":"…"} takes 11 bytes beside its text.
            let largest = try bench.request(tenant, String(repeating: "x", count: 65_525))
            _ = try await bench.tasks.submit([largest], scope: tenant.scope)
        }
    }
}
