import Domain
import Redis
import TestSupport
import Testing

@testable import Streams

/// What the priorities of one organization get of its service.
@Suite struct PriorityTests {
    /// Serves so many runs while the given queues never run empty; returns how many each priority got.
    private func serve(
        _ count: Int, of organization: OrganizationID, saturated: [Priority], by limit: Int, _ bench: Bench
    ) async throws -> [Priority: Int] {
        var served: [Priority: Int] = [:]
        while served.values.reduce(0, +) < count {
            for priority in saturated {
                let ready = try await bench.queue.depths(of: [organization])[0].ready[priority] ?? 0
                if ready < limit { try await bench.enqueue(Draw.entries(128), organization, priority) }
            }
            let claims = try await bench.claim(limit)
            #expect(claims.count == limit, "nothing is left unused")
            for claim in claims { served[claim.priority, default: 0] += 1 }
            try await bench.finish(claims)
        }
        return served
    }

    @Test(
        "While higher ones take all they can, 15 of 100 runs are standard and 5 bulk, however large a claim",
        arguments: [1, 7, 40],
        [
            ([Priority.interactive, .standard, .bulk], [80, 15, 5]),
            ([.interactive, .standard], [85, 15, 0]), ([.interactive, .bulk], [95, 0, 5]),
            ([.standard, .bulk], [0, 95, 5]), ([.bulk], [0, 0, 100]),
        ])
    func guarantees(limit: Int, scene: ([Priority], [Int])) async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            try await bench.queue.limitInteractive(
                organization: organization, rate: 10_000, burst: 100_000, epoch: bench.epoch)
            let count = 20 * limit * (limit == 1 ? 10 : 1)
            let served = try await serve(
                count, of: organization, saturated: scene.0, by: limit, bench)
            for (priority, share) in zip(Priority.allCases, scene.1) {
                let exact = Double(count * share) / 100
                #expect(abs(Double(served[priority] ?? 0) - exact) <= 1, "\(priority)")
            }
            try await bench.invariants()
        }
    }

    @Test("What a lower priority is owed is not kept for it while it has nothing, nor left in Redis")
    func noSavings() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            try await bench.enqueue(Draw.entries(100), organization, .standard)
            try await bench.enqueue(Draw.entries(1), organization, .bulk)
            try await bench.finish(try await bench.claim(19))
            #expect(try await bench.hash("credits") == ["\(organization):2": "95"])
            let twentieth = try await bench.claim(1)
            #expect(twentieth.map(\.priority) == [.bulk])
            try await bench.finish(twentieth)
            try await bench.finish(try await bench.claim(60))
            #expect(try await bench.hash("credits").isEmpty)
            // The next one waits for as long as the first did.
            try await bench.enqueue(Draw.entries(1), organization, .bulk)
            let next = try await bench.claim(20).map(\.priority)
            #expect(next.count(where: { $0 == .bulk }) == 1)
        }
    }

    @Test("An organization without a choice of priorities costs no credit and no token")
    func noCost() async throws {
        try await Bench.run { bench in
            let (one, other) = (Draw.organization(), Draw.organization())
            try await bench.enqueue(Draw.entries(50), one, .interactive)
            for priority in Priority.allCases { try await bench.enqueue(Draw.entries(5), other, priority) }
            #expect(try await bench.claim(60).count == 60)
            #expect(try await bench.names().isDisjoint(with: ["credits", "buckets"]))
        }
    }

    @Test("Interactive runs beyond the bucket are served as standard ones are: the older first")
    func bucket() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            try await bench.queue.limitInteractive(
                organization: organization, rate: 0.01, burst: 3, epoch: bench.epoch)
            let old = Draw.entries(10)
            let interactive = Draw.entries(10)
            let young = Draw.entries(10)
            try await bench.enqueue(old + young, organization, .standard)
            try await bench.enqueue(interactive, organization, .interactive)
            var order: [RunID] = []
            for limit in [1, 2, 5, 6, 2, 8, 6] {
                let claims = try await bench.claim(limit)
                order += claims.map(\.run).sorted()
                try await bench.finish(claims)
            }
            // Three before all others; then by age, first what is standard, then what wanted to be more.
            #expect(Set(order[..<3]) == Set(interactive[..<3].map(\.run)))
            #expect(order[3...] == (old + interactive[3...] + young).map(\.run)[...])
            try await bench.invariants()
        }
    }

    @Test("What the bucket lets through in a claim is not compared by its age once more")
    func partOfBucket() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            try await bench.queue.limitInteractive(
                organization: organization, rate: 0.01, burst: 1, epoch: bench.epoch)
            let entries = Draw.entries(6)
            try await bench.enqueue([entries[0], entries[4]], organization, .interactive)
            try await bench.enqueue(
                [entries[1], entries[2], entries[3], entries[5]], organization, .standard)
            for expected in [[entries[0], entries[1]], [entries[2], entries[3]], [entries[4], entries[5]]] {
                let claims = try await bench.claim(2)
                #expect(Set(claims.map(\.run)) == Set(expected.map(\.run)))
                try await bench.finish(claims)
            }
        }
    }

    @Test("A bucket fills again with time, and one that is full is not kept")
    func refilledBucket() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            try await bench.queue.limitInteractive(
                organization: organization, rate: 0.01, burst: 2, epoch: bench.epoch)
            func drawTwo() async throws -> [Priority] {
                let claims = try await bench.claim(2)
                try await bench.finish(claims)
                return claims.map(\.priority)
            }
            try await bench.enqueue(Draw.entries(20), organization, .standard)
            try await bench.enqueue(Draw.entries(20), organization, .interactive)
            #expect(try await drawTwo() == [.interactive, .interactive])
            #expect(try await drawTwo() == [.standard, .standard])
            // As if the time of one run had passed, then that of many.
            for (earlier, priorities) in [
                (100_000.0, [Priority.interactive, .standard]), (900_000, [.interactive, .interactive]),
            ] {
                let score = try #require(
                    try await bench.raw("ZSCORE", "buckets", .string("\(organization)")).double)
                _ = try await bench.raw(
                    "ZADD", "buckets", .double(score - earlier), .string("\(organization)"))
                #expect(try await drawTwo() == priorities)
            }
            _ = try await bench.raw("ZADD", "buckets", 1, .string("\(organization)"))
            try await bench.queue.sweep(epoch: bench.epoch)
            #expect(try await bench.members("buckets").isEmpty)
        }
    }

    @Test("Marking everything interactive gains nothing against the organization's standard runs")
    func noGain() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            try await bench.queue.limitInteractive(
                organization: organization, rate: 0.01, burst: 0, epoch: bench.epoch)
            let old = Draw.entries(100)
            try await bench.enqueue(Draw.entries(100), organization, .interactive)
            try await bench.enqueue(old, organization, .standard)
            for _ in 0..<10 {
                let claims = try await bench.claim(10)
                #expect(claims.allSatisfy { $0.priority == .standard })
                try await bench.finish(claims)
            }
            #expect(try await bench.claim(100).allSatisfy { $0.priority == .interactive })
        }
    }

    @Test("A rate or burst of interactive runs that cannot be is refused")
    func badBucket() async throws {
        try await Bench.run { bench in
            for rate in [0, 0.009, 10_001, .nan] {
                await #expect(
                    throws: QueueError.refused("a rate of interactive runs is from 0.01 to 10,000 a second")
                ) {
                    try await bench.queue.limitInteractive(
                        organization: Draw.organization(), rate: rate, burst: nil, epoch: bench.epoch)
                }
            }
            for burst in [-1, 100_001] {
                await #expect(
                    throws: QueueError.refused("a burst of interactive runs is from 0 to 100,000")
                ) {
                    try await bench.queue.limitInteractive(
                        organization: Draw.organization(), rate: nil, burst: burst, epoch: bench.epoch)
                }
            }
        }
    }

    /// When B's runs come among all that are served, if A has its load in these priorities.
    private func turns(of load: [Priority], by limit: Int) async throws -> [Bool] {
        var turns: [Bool] = []
        try await Bench.run { bench in
            let (a, b) = (Draw.organization(), Draw.organization())
            for _ in 0..<20 {
                for priority in load { try await bench.enqueue(Draw.entries(40), a, priority) }
                try await bench.enqueue(Draw.entries(10), b)
                let claims = try await bench.claim(limit)
                turns += claims.map { $0.organization == b }
                try await bench.finish(claims)
            }
        }
        return turns
    }

    @Test("Splitting A's load over priorities gains it no more than one turn against B", arguments: [1, 16])
    func splitting(limit: Int) async throws {
        let whole = try await turns(of: [.standard], by: limit)
        #expect(whole.count(where: \.self) == whole.count / 2)
        for load in [[Priority.interactive], [.interactive, .standard], Priority.allCases] {
            let split = try await turns(of: load, by: limit)
            var (ahead, most) = (0, 0)
            for (turn, other) in zip(whole, split) {
                ahead += (turn ? 1 : 0) - (other ? 1 : 0)
                most = max(most, abs(ahead))
            }
            #expect(split.count == whole.count && most <= 8)
        }
    }

    @Test("Weights of 1, 2 and 5 give these shares, and a new weight holds from the next claim on")
    func weights() async throws {
        try await Bench.run { bench in
            let organizations = (0..<3).map { _ in Draw.organization() }
            for (organization, weight) in zip(organizations, [1.0, 2, 5]) {
                try await bench.queue.weigh(organization: organization, weight: weight, epoch: bench.epoch)
            }
            func shares(of count: Int) async throws -> [Int] {
                var served: [OrganizationID: Int] = [:]
                for _ in 0..<count / 8 {
                    for organization in organizations {
                        for priority in Priority.allCases {
                            try await bench.enqueue(Draw.entries(4), organization, priority)
                        }
                    }
                    let claims = try await bench.claim(8)
                    served.merge(claims.shares, uniquingKeysWith: +)
                    try await bench.finish(claims)
                }
                return organizations.map { served[$0] ?? 0 }
            }
            for (share, expected) in zip(try await shares(of: 320), [40, 80, 200]) {
                #expect(abs(share - expected) <= 3)
            }
            try await bench.queue.weigh(organization: organizations[0], weight: 5, epoch: bench.epoch)
            try await bench.queue.weigh(organization: organizations[2], weight: 1, epoch: bench.epoch)
            for (share, expected) in zip(try await shares(of: 80), [50, 20, 10]) {
                #expect(abs(share - expected) <= 3)
            }
        }
    }
}
