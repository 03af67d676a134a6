import Domain
import Redis
import TestSupport
import Testing

@testable import Streams

/// Lanes with limits, and rates: what `bring` admits.
@Suite struct LimitsTests {
    /// A run with its lanes; job and site are small numbers.
    private static func entry(
        job: Int, site: Int = 0, limits: [Int?] = [nil, nil, nil, nil, nil], run: RunID? = nil
    ) -> LimitedEntry {
        let device = Draw.device()
        return LimitedEntry(
            entry: Entry(run: run ?? Draw.run(), generation: 1, device: device),
            lanes: [
                RunLane(.job, "\(job)"), RunLane(.site, "\(site)"), RunLane(.kind, "script"),
                RunLane(.device, "\(device)"), RunLane(.lane, "\(device)/1"),
            ], limits: limits)
    }

    private static func limitedBench(
        _ body: (Bench, OrganizationQueue) async throws -> Void
    ) async throws {
        try await Bench.run { bench in
            let queue = Draw.organization().queue()
            try await bench.queue.limit(
                organization: queue.organization, isLimited: true, epoch: bench.epoch)
            try await body(bench, queue)
        }
    }

    private static func bring(
        _ entries: [LimitedEntry], _ queue: OrganizationQueue, _ bench: Bench, version: Int = 0,
        rate: RunRate? = nil
    ) async throws -> Brought {
        try await bench.queue.bring(
            queue, version: version, entries: entries, more: false, rate: rate, epoch: bench.epoch)
    }

    @Test("A run whose lane is full is passed over; a settled one makes its place free and marks the queue")
    func lane() async throws {
        try await Self.limitedBench { bench, queue in
            let limits: [Int?] = [2, nil, nil, nil, nil]
            let capped = (0..<4).map { _ in Self.entry(job: 1, limits: limits) }
            let others = (0..<3).map { _ in Self.entry(job: 2) }
            let brought = try await Self.bring(capped + others, queue, bench)
            #expect(brought.admitted == 5)
            #expect(brought.blocked == [nil, nil, .job, .job, nil, nil, nil])
            #expect(
                try await bench.queue.taken([capped[0].lanes[0]], organization: queue.organization) == [2])
            let claims = try await bench.claim()
            #expect(claims.map(\.run) == (capped[..<2] + others).map(\.entry.run))
            try await bench.start(claims)
            try await bench.settle(Array(claims.suffix(1)))
            #expect(try await bench.members("marks").isEmpty, "nobody waits for that lane")
            try await bench.settle(Array(claims.prefix(1)))
            let marked = try #require(try await bench.queue.marked(limit: 9, epoch: bench.epoch).first)
            #expect(marked.queue == queue)
            let again = try await Self.bring(Array(capped[2...]), queue, bench, version: marked.version)
            #expect(again.blocked == [nil, .job] && again.cleared)
            try await bench.invariants()
        }
    }

    @Test(
        "Each lane has its limit: the one that is full is named", arguments: LimitScope.allCases)
    func scopes(scope: LimitScope) async throws {
        try await Self.limitedBench { bench, queue in
            let first = Self.entry(
                job: 1, limits: LimitScope.allCases.map { $0 == scope ? 1 : nil })
            let second = LimitedEntry(
                entry: Entry(run: Draw.run(), generation: 1, device: first.entry.device),
                lanes: first.lanes, limits: first.limits)
            let brought = try await Self.bring([first, second], queue, bench)
            #expect(brought.blocked == [nil, scope])
        }
    }

    @Test("Runs of a limited organization come by bring alone")
    func others() async throws {
        try await Self.limitedBench { bench, queue in
            #expect(try await bench.enqueue(Draw.entries(3), queue.organization) == .marked)
            let mark = try #require(try await bench.queue.marked(limit: 9, epoch: bench.epoch).first)
            let refilled = try await bench.queue.refill(
                queue, version: mark.version, entries: Draw.entries(3), more: false, epoch: bench.epoch)
            #expect(refilled == Refilled(admitted: 0, passed: 0, cleared: false))
            try await bench.queue.limit(
                organization: queue.organization, isLimited: false, epoch: bench.epoch)
            let after = try await bench.queue.refill(
                queue, version: mark.version, entries: Draw.entries(3), more: false, epoch: bench.epoch)
            #expect(after.admitted == 3 && after.cleared)
        }
    }

    @Test("A rate lets its burst in and then a run for each of its times")
    func rate() async throws {
        try await Self.limitedBench { bench, queue in
            let rate = RunRate(perSecond: 0.01, burst: 5)
            let entries = (0..<12).map { Self.entry(job: $0) }
            try await bench.queue.mark([queue], epoch: bench.epoch)
            func bring(_ entries: [LimitedEntry]) async throws -> Int {
                try await Self.bring(entries, queue, bench, rate: rate).admitted
            }
            #expect(try await bring(entries) == 5)
            // The queue is left alone until the next run may come: 100 seconds.
            #expect(try await bench.queue.marked(limit: 9, epoch: bench.epoch).isEmpty)
            let since = try #require(try await bench.raw("ZSCORE", "marks", .string(queue.name)).double)
            let time = try await bench.connection.send(RedisCommand("TIME")).array?.first?.double ?? 0
            #expect(since - time * 1_000 > 30_000 && since - time * 1_000 <= 101_000)
            try await bench.finish(try await bench.claim())
            #expect(try await bring(Array(entries[5...])) == 0)
            let name: RedisArgument = .string("\(queue.organization)")
            let full = try #require(try await bench.raw("ZSCORE", "rates", name).double)
            _ = try await bench.raw("ZADD", "rates", .double(full - 200_000), name)
            #expect(try await bring(Array(entries[5...])) == 2)
            // However long nobody claims: no more than a burst waits, for all of it could begin at once.
            _ = try await bench.raw("ZADD", "rates", 1, name)
            #expect(try await bring(Array(entries[7...])) == 3)
            _ = try await bench.raw("ZADD", "rates", 1, name)
            #expect(try await bring(Array(entries[10...])) == 0)
        }
    }

    @Test("Labels count runs that came before their organization was limited, once, and only while they live")
    func labels() async throws {
        try await Bench.run { bench in
            let queue = Draw.organization().queue()
            let entries = (0..<3).map { _ in Self.entry(job: 1, limits: [3, nil, nil, nil, nil]) }
            _ = try await bench.queue.enqueue(entries.map(\.entry), in: queue, epoch: bench.epoch)
            #expect(
                try await bench.queue.waiting(organization: queue.organization) == entries.map(\.entry.run))
            let claims = try await bench.claim(1)
            try await bench.finish(claims)
            try await bench.queue.limit(
                organization: queue.organization, isLimited: true, epoch: bench.epoch)
            let labelled = entries.map { LabelledRun(run: $0.entry.run, lanes: $0.lanes) }
            for _ in 0..<2 {
                try await bench.queue.label(
                    labelled, organization: queue.organization, epoch: bench.epoch)
            }
            #expect(
                try await bench.queue.taken([entries[0].lanes[0]], organization: queue.organization) == [2])
        }
    }

    @Test("Random ends of runs leak no place, and no lane holds more than its limit", arguments: 1...4)
    func random(seed: Int) async throws {
        try await Self.limitedBench { bench, queue in
            var random = Generator(state: UInt64(seed))
            var pending: [RunID: LimitedEntry] = [:]
            var leases: [Claim] = []
            var running: [Claim] = []
            for step in 0..<200 {
                switch Int.random(in: 0..<9, using: &random) {
                case 0...2:
                    for _ in 0..<Int.random(in: 1...6, using: &random) {
                        let entry = Self.entry(
                            job: Int.random(in: 0..<4, using: &random),
                            site: Int.random(in: 0..<2, using: &random), limits: [3, 5, nil, 2, nil])
                        pending[entry.entry.run] = entry
                    }
                    _ = try await Self.bring(
                        pending.values.sorted { $0.entry.run < $1.entry.run }, queue, bench)
                case 3...4:
                    leases += try await bench.claim(
                        Int.random(in: 1...8, using: &random), owner: "a",
                        lease: Bool.random(using: &random) ? 0 : 60_000)
                case 5:
                    let some = Array(leases.shuffled(using: &random).prefix(4))
                    try await bench.start(some)
                    leases.removeAll { some.contains($0) }
                    running += some
                    for claim in some { pending[claim.run] = nil }
                case 6:
                    let some = Array(running.shuffled(using: &random).prefix(3))
                    try await bench.settle(some)
                    running.removeAll { some.contains($0) }
                case 7:
                    // A worker has died: its leases are reclaimed, or end late and are dropped.
                    _ = try await bench.queue.reclaim(now: 20, epoch: bench.epoch)
                    let left = Set(try await bench.members("leases"))
                    leases.removeAll { !left.contains($0.id) }
                    let dropped = Array(leases.prefix(1))
                    try await bench.drop(dropped)
                    leases.removeAll { dropped.contains($0) }
                    for claim in dropped { pending[claim.run] = nil }
                default:
                    let some = Array(pending.keys.sorted().prefix(1))
                    _ = try await bench.queue.cancel(
                        some.map { (queue.organization, $0) }, epoch: bench.epoch)
                    for run in some { pending[run] = nil }
                    leases.removeAll { some.contains($0.run) }
                }
                if step % 10 == 9 { try await Self.compare(bench) }
            }
        }
    }

    /// Places are those of the runs in `live`, and no lane has too many.
    private static func compare(_ bench: Bench) async throws {
        let lanes = try await bench.hash("lanes")
        #expect(Set(lanes.keys) == Set(try await bench.hash("live").keys))
        var taken: [String: Int] = [:]
        for value in lanes.values {
            let words = value.split(separator: " ")
            for name in words.dropFirst() { taken["\(words[0]) \(name)", default: 0] += 1 }
        }
        #expect(try await bench.hash("taken").mapValues { Int($0) } == taken)
        for (lane, count) in taken {
            if lane.contains(" job=") { #expect(count <= 3) }
            if lane.contains(" site=") { #expect(count <= 5) }
        }
    }
}
