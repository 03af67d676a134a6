import Access
import Client
import Domain
import Redis
import TestSupport
import Testing
import Wire

@testable import API
@testable import Engine
@testable import Streams

/// What the queue has of an organization goes with it.
@Suite("Erasing and the queue")
struct ErasedQueueTests {
    /// Which keys of the queue name one of these, by what they hold.
    private func traces(_ queue: Queue, of words: [String]) async throws -> [String] {
        var (cursor, keys): (String, [String]) = ("0", [])
        repeat {
            let page = try await queue.connection.send(
                RedisCommand("SCAN", .string(cursor), "MATCH", .string(queue.keys.pattern), "COUNT", 1_000)
            ).elements()
            cursor = page[0].text ?? "0"
            keys += try page[1].elements().compactMap(\.text)
        } while cursor != "0"
        var found: [String] = []
        for key in keys {
            let held: RedisValue =
                switch try await queue.connection.send(RedisCommand("TYPE", .string(key))).text {
                case "hash": try await queue.connection.send(RedisCommand("HGETALL", .string(key)))
                case "zset": try await queue.connection.send(RedisCommand("ZRANGE", .string(key), 0, -1))
                case "set": try await queue.connection.send(RedisCommand("SMEMBERS", .string(key)))
                case "list": try await queue.connection.send(RedisCommand("LRANGE", .string(key), 0, -1))
                case "stream": try await queue.connection.send(RedisCommand("XRANGE", .string(key), "-", "+"))
                case "string": try await queue.connection.send(RedisCommand("GET", .string(key)))
                case let other: throw Unprepared("\(key) is a \(other ?? "nothing")")
                }
            let text = key + " " + "\(Self.texts(of: held))"
            if words.contains(where: text.contains) { found.append(key) }
        }
        return found.sorted()
    }

    private static func texts(of value: RedisValue) -> [String] {
        if let array = value.array { return array.flatMap(texts) }
        return value.text.map { [$0] } ?? []
    }

    @Test("nothing is left of an erased organization in Redis, and nobody mends it for ever")
    func erase() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let (id, device) = (api.one.organization, api.one.device)
            try await api.connect(device)
            _ = try await admin.weigh(id, NewWeight(weight: 2))
            _ = try await admin.cap(id, NewCap(cap: 9))
            _ = try await admin.limitInteractive(id, InteractiveBucket(perMinute: 60, burst: 5))
            _ = try await admin.limit(
                id,
                QueueLimits(
                    limits: [QueueLimit(scope: .kind, running: 2)], rate: QueueRate(perSecond: 1, burst: 3)))
            _ = try await admin.pause(
                ControlRequest(QueueScope(organization: id, priority: .bulk), reason: "moving house"))
            for priority in Priority.allCases {
                for _ in 0..<3 {
                    _ = try await admin.submit(
                        NewJob(kind: .ping, target: .devices([device]), priority: priority))
                }
            }
            let words = [id.description, api.one.site.description, device.description]
            #expect(try await traces(api.queue, of: words).count > 5)

            let presence = try #require(try await api.queue.presence(of: [device])[0])
            _ = try await admin.archive(id)
            // Its gateway is told that its session ends, and says so.
            let epoch = try #require(try await api.queue.epoch())
            try await api.queue.absent(
                device: device, gateway: presence.gateway, session: presence.session, epoch: epoch)
            let heads = AuditHeads()
            let sealer = try heads.sealer(api)
            try await sealer.seal()
            try await sealer.keepHeads()
            for try await _ in admin.export(id) {}
            _ = try await admin.erase(id, name: "one")
            let eraser = Eraser(ledger: api.ledger, sealer: sealer, seals: try heads.seals())
            try await eraser.eraseAll(of: api)

            let sync = EntitlementSync(
                ledger: api.ledger, front: QueueFront(queue: api.queue, logger: .quiet, settling: .zero))
            _ = try await sync.compare()
            _ = try await api.queue.sweep(epoch: epoch)
            #expect(try await sync.compare() == 0, "what was put right stays so")
            // How far it was served is remembered until the others have been served as far.
            #expect(
                try await traces(api.queue, of: words).allSatisfy { $0 == api.queue.keys.key("finish") })
            try await api.connect(api.other.device)
            for _ in 0..<4 {
                _ = try await admin.submit(NewJob(kind: .ping, target: .devices([api.other.device])))
            }
            let claims = try await api.queue.claim(
                owner: "w", limit: 4, leaseMilliseconds: 5_000, epoch: epoch)
            #expect(claims.items.count == 4)
            _ = try await api.queue.sweep(epoch: epoch)
            #expect(try await traces(api.queue, of: words) == [])
        }
    }
}
