import Domain
import Redis
import TestSupport
import Testing

@testable import Streams

@Suite struct FairnessTests {
    @Test("Two organizations with backlog share a claim evenly, however much each has waiting")
    func even() async throws {
        try await Bench.run { bench in
            let (large, small) = (Draw.organization(), Draw.organization())
            try await bench.enqueue(Draw.entries(200), large)
            try await bench.enqueue(Draw.entries(40), small)
            // One run of each at first, then turns of two.
            let shares = try await bench.claim(42).shares
            #expect(shares == [large: 21, small: 21])
            // What the small one cannot use goes to the other.
            let rest = try await bench.claim(100).shares
            #expect(rest == [large: 81, small: 19])
            try await bench.invariants()
        }
    }

    @Test(
        "An organization that lets its queue run empty again and again gets no more than one with a backlog")
    func rememberedTags() async throws {
        try await Bench.run { bench in
            // The one that runs empty wins every tie by its id.
            let (restless, patient) = (Draw.organization(), Draw.organization())
            func serve(_ count: Int) async throws -> [OrganizationID: Int] {
                var served: [OrganizationID: Int] = [:]
                for _ in 0..<count {
                    for (organization, least) in [(restless, 1), (patient, 20)] {
                        let ready = try await bench.queue.depths(of: [organization])[0].ready[.standard] ?? 0
                        try await bench.enqueue(Draw.entries(least - ready), organization)
                    }
                    let claims = try await bench.claim(1)
                    served.merge(claims.shares, uniquingKeysWith: +)
                    try await bench.finish(claims)
                }
                return served
            }
            // What is left of its turn it has at once, and then no more than the other.
            let first = try await serve(22)
            #expect(first == [restless: 15, patient: 7])
            let then = try await serve(200)
            #expect(then == [restless: 100, patient: 100])
        }
    }

    @Test("Who submits one run after another among many with backlog has a turn of them at once, by weight")
    func ahead() async throws {
        try await Bench.run { bench in
            let others = (0..<255).map { _ in Draw.organization() }
            let (single, heavy) = (Draw.organization(), Draw.organization())
            try await bench.queue.weigh(organization: heavy, weight: 2, epoch: bench.epoch)
            for organization in others { try await bench.enqueue(Draw.entries(40), organization) }
            while try await bench.raw("GET", "virtual").double ?? 0 < 1 { _ = try await bench.claim(128) }
            var served: [OrganizationID: [Int]] = [:]
            for _ in 0..<48 {
                for organization in [single, heavy] {
                    let ready = try await bench.queue.depths(of: [organization])[0].ready
                    if ready.isEmpty { try await bench.enqueue(Draw.entries(1), organization) }
                }
                let shares = try await bench.claim(128).shares
                for organization in [single, heavy] {
                    served[organization, default: []].append(shares[organization] ?? 0)
                }
            }
            // A turn of all others takes sixteen claims.
            for (organization, turn) in [(single, 8), (heavy, 16)] {
                let counts = try #require(served[organization])
                #expect(counts[..<7].allSatisfy { $0 == 1 })
                for start in [0, 16, 32] { #expect(counts[start..<start + 16].reduce(0, +) == turn) }
            }
            try await bench.invariants()
        }
    }

    @Test("Of those who come again and again, who has had least is first, whatever it is called")
    func newest() async throws {
        try await Bench.run { bench in
            let others = (0..<200).map { _ in Draw.organization() }
            let newest = Draw.organization()
            #expect(others.allSatisfy { "\($0)" < "\(newest)" })
            for organization in others { try await bench.enqueue(Draw.entries(1), organization) }
            for _ in 0..<4 {
                for organization in try await bench.claim(128).shares.keys {
                    try await bench.enqueue(Draw.entries(1), organization)
                }
            }
            try await bench.enqueue(Draw.entries(1), newest)
            #expect(try await bench.claim(128).shares[newest] == 1)
            try await bench.invariants()
        }
    }

    @Test("An interactive run does not wait for the turn of what its organization has queued")
    func interactive() async throws {
        try await Bench.run { bench in
            let organizations = (0..<256).map { _ in Draw.organization() }
            for organization in organizations { try await bench.enqueue(Draw.entries(40), organization) }
            while try await bench.raw("GET", "virtual").double ?? 0 < 1 { _ = try await bench.claim(128) }
            // The last of those that wait for their second turn.
            let waiting = try await bench.raw("ZREVRANGEBYSCORE", "ready", 1, 1, "LIMIT", 0, 1)
            let last = waiting.array?.first?.text
            let organization = try #require(last.flatMap { OrganizationID($0) })
            var (served, interactive): ([Int], Int) = ([], 0)
            for _ in 0..<14 {
                try await bench.enqueue(Draw.entries(1), organization, .interactive)
                let claims = try await bench.claim(128).filter { $0.organization == organization }
                served.append(claims.count)
                interactive += claims.count { $0.priority == .interactive }
            }
            #expect(served == [Int](repeating: 1, count: 7) + [Int](repeating: 0, count: 7))
            #expect(interactive == 6, "standard has its guaranteed share")
            try await bench.invariants()
        }
    }

    @Test("63 runs ready at each claim of 64 give half, not 63 of 64, against an equal one")
    func bursts() async throws {
        try await Bench.run { bench in
            let (greedy, steady) = (Draw.organization(), Draw.organization())
            var served: [OrganizationID: Int] = [:]
            for _ in 0..<20 {
                for (organization, most) in [(greedy, 63), (steady, 200)] {
                    let ready = try await bench.queue.depths(of: [organization])[0].ready[.standard] ?? 0
                    try await bench.enqueue(Draw.entries(most - ready), organization)
                }
                let claims = try await bench.claim(64)
                served.merge(claims.shares, uniquingKeysWith: +)
                try await bench.finish(claims)
            }
            #expect(served[greedy, default: 0] + served[steady, default: 0] == 1_280)
            #expect(abs(served[greedy, default: 0] - served[steady, default: 0]) <= 8)
        }
    }

    @Test("Weights give shares, and a change of weight rescales what was charged already")
    func weights() async throws {
        try await Bench.run { bench in
            let (light, heavy) = (Draw.organization(), Draw.organization())
            try await bench.queue.weigh(organization: heavy, weight: 3, epoch: bench.epoch)
            for organization in [light, heavy] { try await bench.enqueue(Draw.entries(200), organization) }
            // One run of each at first, then turns of two and six.
            let shares = try await bench.claim(82).shares
            #expect(shares == [light: 21, heavy: 61])
            try await bench.finish(try await bench.claim(1))
            let virtual = try #require(try await bench.raw("GET", "virtual").double)
            let before = try #require(try await bench.raw("ZSCORE", "ready", .string("\(heavy)")).double)
            try await bench.queue.weigh(organization: heavy, weight: 0.5, epoch: bench.epoch)
            let after = try #require(try await bench.raw("ZSCORE", "ready", .string("\(heavy)")).double)
            #expect(abs(after - (virtual + (before - virtual) * 3 / 0.5)) < 1e-9)
            #expect(before >= virtual)
        }
    }

    @Test("A weight or a cap that cannot be is refused", arguments: [0, -1, 1_001, .nan, .infinity])
    func badWeight(weight: Double) async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            await #expect(throws: QueueError.refused("a weight is from 0.001 to 1,000")) {
                try await bench.queue.weigh(organization: organization, weight: weight, epoch: bench.epoch)
            }
            await #expect(throws: QueueError.refused("a cap is not negative")) {
                try await bench.queue.cap(organization: organization, limit: -1, epoch: bench.epoch)
            }
        }
    }

    @Test("A paused organization occupies no slot and goes on where it was")
    func pause() async throws {
        try await Bench.run { bench in
            let (paused, other) = (Draw.organization(), Draw.organization())
            for organization in [paused, other] { try await bench.enqueue(Draw.entries(10), organization) }
            try await bench.queue.pause(organization: paused, epoch: bench.epoch)
            try await bench.enqueue(Draw.entries(1), paused)
            try await bench.queue.sweep(epoch: bench.epoch)
            #expect(try await bench.claim(1).shares == [other: 1])
            #expect(try await bench.claim(100).shares == [other: 9])
            #expect(try await bench.members("ready").isEmpty)
            _ = try await bench.takeBell()
            try await bench.queue.resume(organization: paused, epoch: bench.epoch)
            #expect(try await bench.takeBell())
            #expect(try await bench.claim(100).shares == [paused: 11])
            try await bench.invariants()
        }
    }

    @Test("A cap counts what is leased and what runs, occupies no slot, and a settled run opens it")
    func cap() async throws {
        try await Bench.run { bench in
            let (capped, other) = (Draw.organization(), Draw.organization())
            try await bench.queue.cap(organization: capped, limit: 3, epoch: bench.epoch)
            for organization in [capped, other] { try await bench.enqueue(Draw.entries(50), organization) }
            let first = try await bench.claim(60)
            #expect(first.shares == [capped: 3, other: 50])
            try await bench.start(first)
            #expect(try await bench.claim().isEmpty)
            _ = try await bench.takeBell()
            try await bench.settle(first.filter { $0.organization == capped }.suffix(2))
            #expect(try await bench.takeBell())
            #expect(try await bench.claim().shares == [capped: 2])
            try await bench.invariants()
        }
    }

    @Test("Lowering a cap takes an organization out of service, raising it brings it back")
    func changedCap() async throws {
        try await Bench.run { bench in
            let organizations = (0..<40).map { _ in Draw.organization() }
            for organization in organizations { try await bench.enqueue(Draw.entries(2), organization) }
            for organization in organizations.dropLast() {
                try await bench.queue.cap(organization: organization, limit: 0, epoch: bench.epoch)
            }
            #expect(try await bench.claim(1).shares == [organizations[39]: 1])
            try await bench.queue.cap(organization: organizations[0], limit: nil, epoch: bench.epoch)
            #expect(try await bench.claim(3).shares == [organizations[0]: 2, organizations[39]: 1])
            try await bench.invariants()
        }
    }

    @Test("Four runs of a device leave the queue; the fifth waits aside and blocks nobody")
    func lane() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            let device = Draw.device()
            let busy = Draw.entries(6, device: device)
            let others = Draw.entries(3)
            try await bench.enqueue(busy + others, organization)
            let first = try await bench.claim(2)
            try await bench.start(first)
            let second = try await bench.claim(100)
            #expect(Set(second.map(\.run)) == Set((busy[2..<4] + others).map(\.run)))
            #expect(try await bench.queue.depths(of: [organization])[0].setAside == 2)
            try await bench.invariants()
            try await bench.start(second)
            #expect(try await bench.claim().isEmpty)
            _ = try await bench.takeBell()
            // A settled run opens the lane for one more.
            try await bench.settle([first[0]])
            #expect(try await bench.takeBell())
            #expect(try await bench.claim().count == 1)
            try await bench.settle([first[1]])
            #expect(try await bench.claim().count == 1)
            try await bench.invariants()
        }
    }

    @Test("What waits behind entries that were taken out before they were claimed is served after a sweep")
    func behind() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            let device = Draw.device()
            try await bench.enqueue(Draw.entries(4, device: device), organization)
            let running = try await bench.claim()
            try await bench.start(running)
            let waiting = Draw.entries(5, device: device)
            try await bench.enqueue(waiting, organization)
            #expect(try await bench.claim().isEmpty)
            try await bench.settle(running)
            for entry in waiting[..<4] {
                _ = try await bench.queue.cancel([(organization, entry.run)], epoch: bench.epoch)
            }
            #expect(try await bench.claim().isEmpty, "no slot has told of the room")
            try await bench.queue.sweep(epoch: bench.epoch)
            #expect(try await bench.claim().map(\.run) == [waiting[4].run])
            try await bench.invariants()
        }
    }

    @Test(
        "What is set aside does not fill the window; with as many aside its organization waits for a lane"
    )
    func aside() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            let device = Draw.device()
            try await bench.enqueue(Draw.entries(4, device: device), organization)
            let running = try await bench.claim()
            try await bench.start(running)
            for _ in 0..<Bench.window / 128 {
                try await bench.enqueue(Draw.entries(128, device: device), organization)
                #expect(try await bench.claim().isEmpty)
            }
            let depth = try await bench.queue.depths(of: [organization])[0]
            #expect(depth.setAside == Bench.window)
            #expect(try await bench.enqueue(Draw.entries(10, device: device), organization) == .admitted(10))
            let late = Draw.entries(1)
            try await bench.enqueue(late, organization)
            #expect(try await bench.claim(5).isEmpty)
            #expect(try await bench.members("ready").isEmpty)
            try await bench.invariants()
            try await bench.settle([running[0]])
            #expect(try await bench.claim(1).map(\.device) == [device])
            try await bench.invariants()
        }
    }

    @Test("Interactive runs of an organization come before its standard and bulk ones")
    func priorities() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            let entries = Draw.entries(3)
            for (entry, priority) in zip(entries, [Priority.bulk, .standard, .interactive]) {
                try await bench.enqueue([entry], organization, priority)
            }
            #expect(try await bench.claim().map(\.run) == entries.reversed().map(\.run))
            try await bench.invariants()
        }
    }

    @Test("More organizations than a call serves are all served once, then a turn each in the same order")
    func many() async throws {
        try await Bench.run { bench in
            let organizations = (0..<256).map { _ in Draw.organization() }
            for organization in organizations { try await bench.enqueue(Draw.entries(18), organization) }
            var shares: [OrganizationID: Int] = [:]
            for turn in [1, 9, 17] {
                for _ in 0..<(turn == 1 ? 2 : 16) {
                    let claims = try await bench.queue.claim(
                        owner: "a", limit: 128, leaseMilliseconds: 60_000, epoch: bench.epoch)
                    #expect(claims.more && claims.items.count == 128)
                    shares.merge(claims.items.shares, uniquingKeysWith: +)
                    #expect(shares.values.allSatisfy { $0 == turn || $0 == max(1, turn - 8) })
                }
                #expect(shares == Dictionary(uniqueKeysWithValues: organizations.map { ($0, turn) }))
            }
        }
    }

    @Test("A small claim takes one run of each before it takes two")
    func small() async throws {
        try await Bench.run { bench in
            let organizations = (0..<150).map { _ in Draw.organization() }
            for organization in organizations { try await bench.enqueue(Draw.entries(2), organization) }
            var shares: [OrganizationID: Int] = [:]
            for limit in [30, 30, 31, 31, 28] {
                shares.merge(try await bench.claim(limit).shares, uniquingKeysWith: +)
            }
            #expect(shares == Dictionary(uniqueKeysWithValues: organizations.map { ($0, 1) }))
        }
    }

    @Test("Organizations that have less than a turn waiting are served in one call as they come")
    func few() async throws {
        try await Bench.run { bench in
            let organizations = (0..<200).map { _ in Draw.organization() }
            for organization in organizations { try await bench.enqueue(Draw.entries(1), organization) }
            let first = try await bench.claim(128)
            #expect(first.shares.count == 128)
            #expect(try await bench.claim(128).shares.count == 72)
            try await bench.invariants()
        }
    }

    @Test("What stands for many organizations or queues is no list, in which each is found by walking")
    func tables() async throws {
        try await Bench.run { bench in
            let organizations = (0..<40).map { _ in Draw.organization() }
            for organization in organizations { try await bench.enqueue(Draw.entries(2), organization) }
            try await bench.queue.mark(organizations.map { $0.queue() }, epoch: bench.epoch)
            _ = try await bench.queue.marked(limit: 1, epoch: bench.epoch)
            for (key, encoding) in [("ready", "skiplist"), ("marks", "skiplist"), ("versions", "hashtable")] {
                let name = RedisArgument.string(bench.queue.keys.key(key))
                let shown = try await bench.connection.send(RedisCommand("OBJECT", "ENCODING", name))
                #expect(shown.text == encoding, "\(key)")
            }
            #expect(try await bench.members("ready").count == 40)
            try await bench.finish(try await bench.claim(80))
            #expect(try await bench.members("ready").isEmpty)
            try await bench.invariants()
        }
    }
}

extension Sequence<Claim> {
    /// How many each organization got.
    var shares: [OrganizationID: Int] { reduce(into: [:]) { $0[$1.organization, default: 0] += 1 } }
}
