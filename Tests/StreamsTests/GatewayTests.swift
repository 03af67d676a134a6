import Domain
import Redis
import Testing

@testable import Streams

@Suite struct GatewayTests {
    @Test("A claim brings the presence of its device")
    func presenceInClaim() async throws {
        try await Bench.run { bench in
            let gateway = Draw.gateway()
            let entries = Draw.entries(2)
            let session = try await bench.queue.present(
                device: entries[1].device, gateway: gateway, epoch: bench.epoch)
            try await bench.enqueue(entries, Draw.organization())
            let claims = try await bench.claim()
            #expect(claims.map(\.presence) == [nil, Presence(gateway: gateway, session: session)])
        }
    }

    @Test("Session numbers rise, across devices, gateways and lost data sets")
    func numbers() async throws {
        try await Bench.run { bench in
            let devices = (0..<300).map { _ in Draw.device() }
            let first = try await bench.queue.present(devices, gateway: Draw.gateway(), epoch: bench.epoch)
            #expect(first == first.sorted() && Set(first).count == 300)
            let next = Epoch.fresh()
            _ = try await bench.raw("DEL", "sequence")
            try await bench.queue.rebuild(epoch: next, entitlements: [], running: [])
            let later = try await bench.queue.present(
                device: devices[0], gateway: Draw.gateway(), epoch: next)
            #expect(later > first[299])
        }
    }

    @Test("A half-open session that is noticed late does not erase its successor")
    func equal() async throws {
        try await Bench.run { bench in
            let device = Draw.device()
            let (old, new) = (Draw.gateway(), Draw.gateway())
            let first = try await bench.queue.present(device: device, gateway: old, epoch: bench.epoch)
            let second = try await bench.queue.present(device: device, gateway: new, epoch: bench.epoch)
            let wrong = [(old, first), (old, second), (new, first)]
            for (gateway, session) in wrong {
                let erased = try await bench.queue.absent(
                    device: device, gateway: gateway, session: session, epoch: bench.epoch)
                #expect(!erased)
            }
            #expect(try await bench.queue.presence(of: [device]) == [Presence(gateway: new, session: second)])
            #expect(
                try await bench.queue.absent(
                    device: device, gateway: new, session: second, epoch: bench.epoch))
            #expect(try await bench.queue.presence(of: [device, Draw.device()]) == [nil, nil])
        }
    }

    @Test("Sessions that are published again do not replace later ones")
    func newer() async throws {
        try await Bench.run { bench in
            let (kept, taken) = (Draw.device(), Draw.device())
            let (one, two) = (Draw.gateway(), Draw.gateway())
            let numbers = try await bench.queue.present([kept, taken], gateway: one, epoch: bench.epoch)
            let later = try await bench.queue.present(device: taken, gateway: two, epoch: bench.epoch)
            let third = Draw.gateway()
            let again = try await bench.queue.republish(
                [(kept, numbers[0]), (taken, numbers[1])], gateway: third, epoch: bench.epoch)
            #expect(again == [true, false])
            let expected = [
                Presence(gateway: third, session: numbers[0]), Presence(gateway: two, session: later),
            ]
            #expect(try await bench.queue.presence(of: [kept, taken]) == expected)
        }
    }

    @Test("An inbox takes as many letters as it may, then says that it is full")
    func bounded() async throws {
        try await Bench.run { bench in
            let (full, other) = (Draw.gateway(), Draw.gateway())
            let letters = (0..<4).map { Letter(gateway: full, payload: [UInt8($0), 0, 255]) }
            let delivered = try await bench.queue.deliver(
                letters + [Letter(gateway: other, payload: [])], max: 3)
            #expect(delivered == [true, true, true, false, true])
            #expect(try await bench.queue.drain(gateway: full) == letters.prefix(3).map(\.payload))
            #expect(try await bench.queue.drain(gateway: full).isEmpty)
            #expect(try await bench.queue.deliver([letters[3]], max: 3) == [true])
        }
    }

    @Test("Draining takes everything and leaves no key")
    func drain() async throws {
        try await Bench.run { bench in
            let gateway = Draw.gateway()
            let payloads = (0..<300).map { [UInt8($0 & 255), UInt8($0 >> 8)] }
            _ = try await bench.queue.deliver(payloads.map { Letter(gateway: gateway, payload: $0) })
            #expect(try await bench.queue.drain(gateway: gateway) == payloads)
            #expect(try await bench.keys().filter { $0.contains("inbox") }.isEmpty)
        }
    }

    @Test("A gateway reads its letters in order, from where it was, and discards what it delivered")
    func read() async throws {
        try await Bench.run { bench in
            let gateway = Draw.gateway()
            let blocking = RedisBlockingConnection(
                configuration: try Bench.configuration(), logger: Bench.logger)
            func read(_ id: String, _ count: Int = 10) async throws -> [(id: String, payload: [UInt8])] {
                try await bench.queue.inbox(
                    gateway: gateway, after: id, count: count, wait: .milliseconds(5), on: blocking)
            }
            #expect(try await read("0").isEmpty)
            _ = try await bench.queue.deliver((1...3).map { Letter(gateway: gateway, payload: [$0]) })
            let first = try await read("0", 2)
            #expect(first.map(\.payload) == [[1], [2]])
            #expect(try await read(first[1].id).map(\.payload) == [[3]])
            try await bench.queue.discard(gateway: gateway, first.map(\.id))
            #expect(try await read("0").map(\.payload) == [[3]])
            await blocking.close()
        }
    }

    @Test("A gateway lives while it beats; its inbox and heartbeat expire by themselves")
    func heartbeat() async throws {
        try await Bench.run { bench in
            let (living, dead) = (Draw.gateway(), Draw.gateway())
            _ = try await bench.queue.deliver([Letter(gateway: living, payload: [1])])
            try await bench.queue.beat(gateway: living, milliseconds: 60_000)
            #expect(try await bench.queue.alive([living, dead]) == [living])
            for key in try await bench.keys() where key.contains("gateway:") {
                let left = try await bench.connection.send(RedisCommand("PTTL", .string(key))).int ?? -1
                #expect(left > 0, "\(key) has an end")
            }
            try await bench.queue.beat(gateway: living, milliseconds: 1)
            _ = try await bench.connection.send(
                RedisCommand("PEXPIRE", .string("\(bench.prefix)gateway:{\(living)}:alive"), 0))
            #expect(try await bench.queue.alive([living]).isEmpty)
        }
    }
}
