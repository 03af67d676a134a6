import Domain
import Redis
import TestSupport
import Testing

@testable import Streams

/// Marks, windows and what is set aside are each queue's own; and every key has a bound.
@Suite struct QueueTests {
    @Test("A marked bulk backlog does not stop the fast path of interactive runs")
    func marks() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            try await bench.queue.mark([organization.queue(.bulk)], epoch: bench.epoch)
            #expect(try await bench.enqueue(Draw.entries(1), organization, .bulk) == .marked)
            #expect(try await bench.enqueue(Draw.entries(2), organization, .interactive) == .admitted(2))
            #expect(try await bench.queue.depths(of: [organization])[0].markedPriorities == [.bulk])
            let marked = try await bench.queue.marked(limit: 9, epoch: bench.epoch)
            #expect(marked.map(\.queue) == [organization.queue(.bulk)])
            let refilled = try await bench.queue.refill(
                organization.queue(.interactive), version: marked[0].version, entries: [], more: false,
                epoch: bench.epoch)
            #expect(!refilled.cleared, "a version belongs to its queue")
        }
    }

    @Test("A full window of one priority leaves the windows of the others")
    func windows() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            #expect(try await bench.enqueue(Draw.entries(Bench.window + 1), organization, .bulk) == .marked)
            #expect(try await bench.queue.marked(limit: 9, epoch: bench.epoch).isEmpty, "parked")
            #expect(
                try await bench.enqueue(Draw.entries(Bench.window), organization, .interactive)
                    == .admitted(Bench.window))
            // What leaves the interactive queue makes no room for bulk.
            try await bench.queue.pause(organization: organization, priority: .bulk, epoch: bench.epoch)
            try await bench.start(try await bench.claim(128))
            #expect(try await bench.queue.marked(limit: 9, epoch: bench.epoch).isEmpty)
            try await bench.queue.resume(organization: organization, priority: .bulk, epoch: bench.epoch)
            try await bench.queue.pause(
                organization: organization, priority: .interactive, epoch: bench.epoch)
            for _ in 0..<Bench.window / 4 / 64 { try await bench.start(try await bench.claim(64)) }
            let marked = try await bench.queue.marked(limit: 9, epoch: bench.epoch)
            #expect(marked.map(\.queue) == [organization.queue(.bulk)])
        }
    }

    @Test("Bulk entries that wait for a device, one more than may, stop no standard ones")
    func aside() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            let device = Draw.device()
            try await bench.enqueue(Draw.entries(4, device: device), organization, .bulk)
            let running = try await bench.claim()
            try await bench.start(running)
            for _ in 0..<Bench.window / 128 + 1 {
                try await bench.enqueue(Draw.entries(128, device: device), organization, .bulk)
                #expect(try await bench.claim().isEmpty)
            }
            #expect(try await bench.queue.depths(of: [organization])[0].setAside == Bench.window + 1)
            try await bench.enqueue(Draw.entries(3), organization)
            let claims = try await bench.claim()
            #expect(claims.map(\.priority) == [.standard, .standard, .standard])
            #expect(try await bench.members("ready").isEmpty)
            try await bench.invariants()
            try await bench.settle([running[0]])
            #expect(try await bench.claim().map(\.device) == [device])
            try await bench.invariants()
        }
    }

    /// A key of the partition: what it may hold at most.
    private struct Bound {
        let command: String
        let most: Int
    }

    @Test("Every key of a loaded data set has a bound or expires; at most 320 bytes an entry")
    func bounds() async throws {
        try await Bench.run { bench in
            let organizations = (0..<60).map { _ in Draw.organization() }
            var entries = 0
            var devices = 0
            for queue in organizations.flatMap(OrganizationQueue.all) {
                let shared = Draw.entries(12, device: Draw.device())
                let own = Draw.entries(128)
                for slice in [shared, own] {
                    _ = try await bench.queue.enqueue(slice, in: queue, epoch: bench.epoch)
                    entries += slice.count
                }
                devices += own.count + 1
            }
            let bytes = try await memory(bench)
            #expect(bytes / entries <= 320)
            let gateway = Draw.gateway()
            let present = (0..<50).map { _ in Draw.device() }
            _ = try await bench.queue.present(present, gateway: gateway, epoch: bench.epoch)
            try await bench.queue.beat(gateway: gateway, milliseconds: 60_000)
            _ = try await bench.queue.deliver([Letter(gateway: gateway, payload: [1])])
            for organization in organizations.prefix(20) {
                try await bench.queue.weigh(organization: organization, weight: 2, epoch: bench.epoch)
                try await bench.queue.cap(organization: organization, limit: 9_999, epoch: bench.epoch)
                try await bench.queue.limitInteractive(
                    organization: organization, rate: 1, burst: 1, epoch: bench.epoch)
            }
            // One more organization, with limits: a run that has its places and one that waits for them.
            let limited = Draw.organization().queue()
            try await bench.queue.limit(
                organization: limited.organization, isLimited: true, epoch: bench.epoch)
            let lanes = LimitScope.allCases.map { RunLane($0, "x") }
            let two = (0..<2).map { _ in
                LimitedEntry(entry: Draw.entries(1)[0], lanes: lanes, limits: [1, nil, nil, nil, nil])
            }
            _ = try await bench.queue.bring(
                limited, version: 0, entries: two, more: false, rate: RunRate(perSecond: 0.01, burst: 9),
                epoch: bench.epoch)
            try await bench.queue.pause(organization: limited.organization, epoch: bench.epoch)
            (entries, devices) = (entries + 1, devices + 1)
            try await bench.queue.pause(organization: organizations[0], epoch: bench.epoch)
            try await bench.queue.pause(organization: nil, priority: .bulk, epoch: bench.epoch)
            try await bench.queue.mark(organizations.flatMap(OrganizationQueue.all), epoch: bench.epoch)
            try await bench.start(try await bench.claim())
            var leased = 0
            for step in 0..<20 {
                let claims = try await bench.claim()
                leased += claims.count
                let some = Array(claims.prefix(10))
                try await bench.queue.release(
                    some, delayMilliseconds: step % 2 * 60_000, epoch: bench.epoch)
            }
            try await bench.queue.sweep(epoch: bench.epoch)
            let table: [String: Bound] = [
                "live": Bound(command: "HLEN", most: entries + 1), "depth": Bound(command: "HLEN", most: 182),
                "limited": Bound(command: "SCARD", most: 1), "rates": Bound(command: "ZCARD", most: 1),
                "lanes": Bound(command: "HLEN", most: 1), "taken": Bound(command: "HLEN", most: 5),
                "wanted": Bound(command: "HLEN", most: 1),
                "returned": Bound(command: "HLEN", most: 180), "credits": Bound(command: "HLEN", most: 180),
                "slots": Bound(command: "HLEN", most: devices + 5 * 60 + 1),
                "caps": Bound(command: "HLEN", most: 4 * 60 + 1),
                "versions": Bound(command: "HLEN", most: 181),
                "marks": Bound(command: "ZCARD", most: 180), "buckets": Bound(command: "ZCARD", most: 60),
                "ready": Bound(command: "ZCARD", most: 60), "finish": Bound(command: "ZCARD", most: 60),
                "leases": Bound(command: "ZCARD", most: leased),
                "running": Bound(command: "ZCARD", most: 128),
                "due": Bound(command: "ZCARD", most: 200),
                "held": Bound(command: "ZCARD", most: 180 * (Bench.window + 1)),
                "paused": Bound(command: "SCARD", most: 64), "bell": Bound(command: "LLEN", most: 1),
                "presence": Bound(command: "HLEN", most: 51), "virtual": Bound(command: "STRLEN", most: 24),
                "sequence": Bound(command: "STRLEN", most: 24), "cursor": Bound(command: "STRLEN", most: 24),
                "aside": Bound(command: "STRLEN", most: 120),
                "epoch": Bound(command: "STRLEN", most: 128),
            ]
            var seen: Set<String> = []
            for key in try await bench.keys() {
                let name = String(key.dropFirst("\(bench.prefix){0}:".count))
                if let bound = table[name] {
                    seen.insert(name)
                    let count = try await bench.raw(bound.command, name).int ?? .max
                    #expect(count <= bound.most, "\(name)")
                } else if name.hasPrefix("queue:") {
                    #expect(try await bench.raw("XLEN", name).int ?? .max <= 2 * Bench.window + 1)
                    #expect(try await bench.hash("depth")[String(name.dropFirst("queue:".count))] != nil)
                } else {
                    let life = try await bench.connection.send(RedisCommand("PTTL", .string(key)))
                    #expect(life.int ?? -1 > 0, "\(key) has neither a bound nor an expiry")
                }
            }
            // Tags that virtual time has passed are gone.
            #expect(seen.union(["finish"]) == Set(table.keys), "the data set holds all there is")
        }
    }

    /// What the keys of this partition take.
    private func memory(_ bench: Bench) async throws -> Int {
        var bytes = 0
        for key in try await bench.keys() {
            bytes +=
                try await bench.connection.send(
                    RedisCommand("MEMORY", "USAGE", .string(key), "SAMPLES", 0)
                ).int ?? 0
        }
        return bytes
    }
}
