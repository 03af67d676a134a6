import Domain
import Redis
import TestSupport
import Testing

@testable import Streams

@Suite struct ControlTests {
    @Test("Every function refuses a stale epoch and changes nothing", arguments: StaleCall.all)
    func staleEpoch(call: StaleCall) async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            try await bench.enqueue(Draw.entries(3), organization)
            let claims = try await bench.claim(2)
            let before = try await bench.dump()
            await #expect(throws: QueueError.staleEpoch(current: bench.epoch)) {
                try await call.body(bench.queue, organization, claims, Epoch("old"))
            }
            let after = try await bench.dump()
            #expect(before == after)
            // The same call with the right epoch is no refusal.
            try await call.body(bench.queue, organization, claims, bench.epoch)
        }
    }

    @Test("A lost data set has no epoch, and calls say so")
    func lost() async throws {
        try await Bench.run { bench in
            for key in try await bench.keys() {
                _ = try await bench.connection.send(RedisCommand("DEL", .string(key)))
            }
            #expect(try await bench.queue.epoch() == nil)
            await #expect(throws: QueueError.staleEpoch(current: nil)) { try await bench.claim() }
        }
    }

    @Test("A key of a foreign type is refused before anything changes")
    func foreignType() async throws {
        try await Bench.run { bench in
            _ = try await bench.raw("SET", "live", "x")
            let before = try await bench.names()
            let error = await #expect(throws: QueueError.self) {
                try await bench.enqueue(Draw.entries(1), Draw.organization())
            }
            #expect(error == .refused("the key live is a string"))
            #expect(try await bench.names() == before)
        }
    }

    @Test("A missing library is told apart from other errors")
    func libraryMissing() async throws {
        try await Bench.run { bench in
            let keys = Keyspace(prefix: bench.prefix, librarySuffix: "_absent")
            let queue = Queue(connection: bench.connection, keys: keys, logger: Bench.logger)
            await #expect(throws: QueueError.libraryMissing) {
                try await queue.claim(owner: "a", limit: 1, leaseMilliseconds: 1, epoch: bench.epoch)
            }
        }
    }

    @Test("Errors of the server become the queue's own where they mean something to its caller")
    func errors() {
        let meanings: [(String, QueueError?)] = [
            ("OOM command not allowed when used memory > 'maxmemory'.", .full),
            ("STALEEPOCH x", .staleEpoch(current: Epoch("x"))),
            ("STALEEPOCH", .staleEpoch(current: nil)), ("ERR Function not found", .libraryMissing),
            ("REFUSED because", .refused("because")), ("ERR other", nil), ("LOADING soon", nil),
        ]
        for (text, meaning) in meanings {
            let word = String(text.prefix { $0 != " " })
            #expect(QueueError(RedisError(.server(word), text)) == meaning)
        }
        #expect(QueueError(RedisError(.timeout, "late")) == nil)
    }

    @Test("A dispatcher that takes the bell's token and dies does not silence the organization")
    func baton() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            try await bench.enqueue(Draw.entries(3), organization)
            try await bench.enqueue(Draw.entries(3), organization)
            #expect(try await bench.takeBell())
            #expect(try await bench.takeBell() == false)
            try await bench.queue.sweep(epoch: bench.epoch)
            #expect(try await bench.takeBell())
            // A claim that leaves something passes the token on; the one that takes the last does not.
            _ = try await bench.claim(2)
            #expect(try await bench.takeBell())
            _ = try await bench.claim(4)
            #expect(try await bench.takeBell() == false)
            try await bench.invariants()
        }
    }

    @Test("Waiting for the bell ends with the token, or without it after the time limit")
    func waiting() async throws {
        try await Bench.run { bench in
            let blocking = RedisBlockingConnection(
                configuration: try Bench.configuration(), logger: Bench.logger)
            let early = try await bench.queue.waitForBell(on: blocking, timeout: .milliseconds(5))
            #expect(early == false)
            async let rung = bench.queue.waitForBell(on: blocking)
            try await bench.enqueue(Draw.entries(1), Draw.organization())
            #expect(try await rung)
            await blocking.close()
        }
    }

    @Test("The sweep puts an organization with entries back into service that nobody would have served")
    func sweepOffers() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            try await bench.enqueue(Draw.entries(2), organization)
            _ = try await bench.raw("DEL", "ready")
            _ = try await bench.raw("DEL", "bell")
            #expect(try await bench.claim().isEmpty)
            #expect(try await bench.queue.sweep(epoch: bench.epoch).offered == 1)
            #expect(try await bench.takeBell())
            #expect(try await bench.claim().count == 2)
        }
    }

    @Test("The sweep corrects counters that the stream does not confirm", arguments: ["0", "50"])
    func sweepCorrects(depth: String) async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            try await bench.enqueue(Draw.entries(4), organization)
            try await bench.queue.release(
                [try await bench.claim(1)[0]], delayMilliseconds: 0, epoch: bench.epoch)
            let field = "\(organization):1"
            _ = try await bench.raw("HSET", "depth", .string(field), .string(depth))
            _ = try await bench.raw("DEL", "returned")
            #expect(try await bench.queue.sweep(epoch: bench.epoch).corrected == 1)
            try await bench.invariants()
            #expect(try await bench.claim().count == 4)
        }
    }

    @Test("A claim does not trust a depth that is too high")
    func driftInClaim() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            try await bench.enqueue(Draw.entries(2), organization)
            _ = try await bench.raw("HSET", "depth", .string("\(organization):1"), 99)
            let claims = try await bench.queue.claim(
                owner: "a", limit: 50, leaseMilliseconds: 1_000, epoch: bench.epoch)
            #expect(claims.items.count == 2)
            #expect(!claims.more)
            try await bench.invariants()
        }
    }

    @Test("An entry that is pending for no lease goes back after ten minutes")
    func orphan() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            try await bench.enqueue(Draw.entries(1), organization)
            let name = bench.queueName(organization)
            let read = try await bench.connection.send(
                RedisCommand(
                    "XREADGROUP", "GROUP", "dispatch", "leased", "STREAMS",
                    .string(bench.queue.keys.key(name)), ">"))
            let id = try #require(read.array?.first?.array?.last?.array?.first?.array?.first?.text)
            try await bench.queue.sweep(epoch: bench.epoch)
            #expect(try await bench.claim().isEmpty)
            _ = try await bench.raw(
                "XCLAIM", name, "dispatch", "leased", 0, .string(id), "IDLE", 600_001, "JUSTID")
            try await bench.queue.sweep(epoch: bench.epoch)
            #expect(try await bench.claim().count == 1)
            try await bench.invariants()
        }
    }

    @Test("The sweep goes round all queues, a page at a time")
    func sweepRound() async throws {
        try await Bench.run { bench in
            for _ in 0..<600 { try await bench.enqueue(Draw.entries(1), Draw.organization()) }
            _ = try await bench.raw("DEL", "ready")
            var offered = 0
            for _ in 0..<600 where offered < 600 {
                offered += try await bench.queue.sweep(limit: 50, epoch: bench.epoch).offered
            }
            #expect(offered == 600)
            try await bench.invariants()
        }
    }

    @Test(
        "A rebuild begins a new data set: the old entries are gone, entitlements and running runs are loaded")
    func rebuild() async throws {
        try await Bench.run { bench in
            let (old, capped, paused) = (Draw.organization(), Draw.organization(), Draw.organization())
            try await bench.enqueue(Draw.entries(5), old)
            let lost = try await bench.claim(2)
            let next = Epoch.fresh()
            let running = (0..<200).map { _ in
                Membership(
                    organization: capped, run: Draw.run(), generation: 3, device: Draw.device(),
                    deadlineMilliseconds: 5)
            }
            let entitlements = [
                Entitlement(organization: capped, weight: 2.5, cap: 201),
                Entitlement(organization: paused, paused: true),
            ]
            try await bench.queue.rebuild(epoch: next, entitlements: entitlements, running: running)
            #expect(try await bench.queue.epoch() == next)
            #expect(try await bench.queue.runningCount(capped) == 200)
            let depth = try await bench.queue.depths(of: [capped, paused])
            #expect(depth[0].cap == 201 && depth[0].weight == 2.5 && depth[1].paused)
            await #expect(throws: QueueError.staleEpoch(current: next)) { try await bench.start(lost) }
            let new = Bench(place: bench.place, epoch: next)
            #expect(try await new.names().filter { $0.hasPrefix("queue:") }.isEmpty)
            for organization in [capped, paused] { try await new.enqueue(Draw.entries(5), organization) }
            // What runs already is not admitted again.
            let again = Entry(run: running[0].run.run, generation: 3, device: running[0].run.device)
            #expect(try await new.enqueue([again], capped) == .admitted(0))
            #expect(try await new.claim().shares == [capped: 1])
            try await new.invariants()
        }
    }

    @Test(
        "While a rebuild goes on all calls are refused; one overtaken can neither delete nor open"
    )
    func overtakenRebuild() async throws {
        try await Bench.run { bench in
            let (first, second) = (Epoch("first"), Epoch("second"))
            _ = try await bench.queue.call("rebuild", epoch: first, [])
            await #expect(throws: QueueError.staleEpoch(current: nil)) { try await bench.claim() }
            #expect(try await bench.queue.epoch() == nil)
            _ = try await bench.queue.call("rebuild", epoch: second, [])
            for step in ["configure", "load", "clear", "open"] {
                await #expect(throws: QueueError.staleEpoch(current: second)) {
                    try await bench.queue.call(step, epoch: first, [])
                }
            }
            try await bench.queue.rebuild(epoch: second, entitlements: [], running: [])
            #expect(try await bench.queue.epoch() == second)
        }
    }

    @Test("Depths name every organization that has entries, runs or a mark, with the facts")
    func depths() async throws {
        try await Bench.run { bench in
            let (busy, running, marked) = (Draw.organization(), Draw.organization(), Draw.organization())
            try await bench.enqueue(Draw.entries(1), running)
            try await bench.start(try await bench.claim())
            try await bench.enqueue(Draw.entries(3), busy)
            try await bench.enqueue(Draw.entries(1), busy, .bulk)
            try await bench.queue.mark([marked.queue()], epoch: bench.epoch)
            _ = try await bench.claim(1)
            let depths = try await bench.queue.depths()
            let found = Dictionary(uniqueKeysWithValues: depths.map { ($0.organization, $0) })
            #expect(Set(found.keys) == [busy, running, marked])
            #expect(found[busy]?.ready == [.standard: 2, .bulk: 1])
            #expect(found[busy]?.leased == 1)
            #expect((found[busy]?.oldestMilliseconds ?? 0) > 1_700_000_000_000)
            #expect(found[running]?.running == 1 && found[running]?.ready == [:])
            #expect(found[marked]?.marked == true && found[marked]?.oldestMilliseconds == nil)
        }
    }
}

/// One call of the queue, to be tried with any epoch.
struct StaleCall: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let body: @Sendable (Queue, OrganizationID, [Claim], Epoch) async throws -> Void

    init(
        _ name: String,
        _ body: @escaping @Sendable (Queue, OrganizationID, [Claim], Epoch) async throws -> Void
    ) {
        testDescription = name
        self.body = body
    }

    static let all: [StaleCall] = [
        StaleCall("enqueue") { queue, organization, _, epoch in
            _ = try await queue.enqueue(
                Draw.entries(1), in: organization.queue(), epoch: epoch)
        },
        StaleCall("enqueue of several slices") { queue, organization, _, epoch in
            _ = try await queue.enqueue(
                Draw.entries(200), in: organization.queue(), epoch: epoch)
        },
        StaleCall("mark") { queue, organization, _, epoch in
            try await queue.mark([organization.queue()], epoch: epoch)
        },
        StaleCall("marked") { queue, _, _, epoch in _ = try await queue.marked(limit: 1, epoch: epoch) },
        StaleCall("refill") { queue, organization, _, epoch in
            _ = try await queue.refill(
                organization.queue(), version: 1, entries: [], more: false,
                epoch: epoch)
        },
        StaleCall("cancel") { queue, organization, claims, epoch in
            try await queue.cancel([(organization, claims[0].run)], epoch: epoch)
        },
        StaleCall("claim") { queue, _, _, epoch in
            _ = try await queue.claim(owner: "a", limit: 1, leaseMilliseconds: 1, epoch: epoch)
        },
        StaleCall("renew") { queue, _, _, epoch in
            try await queue.renew(owner: "a", leaseMilliseconds: 1, epoch: epoch)
        },
        StaleCall("acknowledge") { queue, _, claims, epoch in
            try await queue.acknowledge(
                dispatched: claims, dropped: [], deadlineMilliseconds: 1, epoch: epoch)
        },
        StaleCall("release") { queue, _, claims, epoch in
            try await queue.release(claims, delayMilliseconds: 1, epoch: epoch)
        },
        StaleCall("settle") { queue, _, claims, epoch in
            try await queue.settle(claims.map(\.settled), epoch: epoch)
        },
        StaleCall("reclaim") { queue, _, _, epoch in _ = try await queue.reclaim(now: 1, epoch: epoch) },
        StaleCall("reclaim of an owner") { queue, _, _, epoch in
            try await queue.reclaim(owner: "a", epoch: epoch)
        },
        StaleCall("sweep") { queue, _, _, epoch in try await queue.sweep(epoch: epoch) },
        StaleCall("pause") { queue, organization, _, epoch in
            try await queue.pause(organization: organization, epoch: epoch)
        },
        StaleCall("resume") { queue, organization, _, epoch in
            try await queue.resume(organization: organization, epoch: epoch)
        },
        StaleCall("weigh") { queue, organization, _, epoch in
            try await queue.weigh(organization: organization, weight: 2, epoch: epoch)
        },
        StaleCall("cap") { queue, organization, _, epoch in
            try await queue.cap(organization: organization, limit: 2, epoch: epoch)
        },
        StaleCall("membership") { queue, _, _, epoch in _ = try await queue.membership(epoch: epoch) },
        StaleCall("correct") { queue, _, claims, epoch in
            try await queue.correct(missing: [], extra: claims.map(\.settled), epoch: epoch)
        },
        StaleCall("present") { queue, _, claims, epoch in
            _ = try await queue.present(device: claims[0].device, gateway: Draw.gateway(), epoch: epoch)
        },
        StaleCall("republish") { queue, _, claims, epoch in
            _ = try await queue.republish([(claims[0].device, 1)], gateway: Draw.gateway(), epoch: epoch)
        },
        StaleCall("absent") { queue, _, claims, epoch in
            try await queue.absent(
                device: claims[0].device, gateway: Draw.gateway(), session: 1, epoch: epoch)
        },
    ]
}
