import Domain
import Ledger
import Postgres
import Redis
import TestSupport
import Testing

@testable import Engine
@testable import Streams

/// Claim, mark, inbox, acknowledge: each only when the one before it stands.
@Suite(.serialized, .world) struct OrderTests {
    @Test("Nothing lies in an inbox while its mark is not committed")
    func inboxAfterMark() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            // The row is held, so that the dispatcher stands before its mark.
            let step = try await bench.world.owner.transaction(scope: .none) { transaction in
                try await transaction.execute("SELECT FROM runs FOR UPDATE")
                let step = Task { try await bench.dispatcher.dispatchOnce() }
                try await bench.blockedStatement()
                #expect(try await post.letters().isEmpty)
                return step
            }
            _ = try await step.value
            #expect(try await post.attempts().map(\.run) == [runs[0].run])
        }
    }

    @Test("A claim whose letter could not be written is not acknowledged: its lease brings it back")
    func acknowledgeAfterInbox() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let post = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer(runs)
            let inbox = RedisArgument.string(bench.queue.keys.inbox(post.id))
            _ = try await bench.redis.send(RedisCommand("SET", inbox, "no stream"))
            await #expect(throws: (any Error).self) { try await bench.dispatcher.dispatchOnce() }
            let depth = try await bench.depth(tenant)
            #expect(depth.leased == 1 && depth.running == 0)
            _ = try await bench.redis.send(RedisCommand("DEL", inbox))
        }
    }
}
