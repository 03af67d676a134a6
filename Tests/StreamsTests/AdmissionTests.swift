import Domain
import Redis
import TestSupport
import Testing

@testable import Streams

@Suite struct AdmissionTests {
    @Test("An entry is claimed once, in the order of enqueueing, and leaves no key when it is settled")
    func path() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            let entries = Draw.entries(5)
            #expect(try await bench.enqueue(entries, organization) == .admitted(5))
            let claims = try await bench.claim()
            #expect(claims.map(\.run) == entries.map(\.run))
            #expect(claims.map(\.device) == entries.map(\.device))
            #expect(
                claims.allSatisfy {
                    $0.organization == organization && $0.generation == 1 && $0.presence == nil
                })
            #expect(try await bench.claim().isEmpty)
            try await bench.start(claims)
            #expect(try await bench.queue.runningCount(organization) == 5)
            #expect(try await bench.settle(claims) == 5)
            let left = try await bench.names()
            // The bell's token may wait for a dispatcher that looks in vain.
            #expect(left.subtracting(["bell", "cursor", "sequence"]) == ["epoch", "finish", "virtual"])
            try await bench.invariants()
        }
    }

    @Test("The same generation is admitted once, wherever its run is")
    func dedupe() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            let entries = Draw.entries(2)
            #expect(try await bench.enqueue(entries + entries, organization) == .admitted(2))
            #expect(try await bench.enqueue(entries, organization) == .admitted(0))
            let claims = try await bench.claim()
            #expect(try await bench.enqueue(entries, organization) == .admitted(0))
            try await bench.start(claims)
            #expect(try await bench.enqueue(entries, organization) == .admitted(0))
            #expect(try await bench.claim().isEmpty)
        }
    }

    @Test("A higher generation replaces the entry that waits; a lower one is left out")
    func replace() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            let entry = Draw.entries(1)[0]
            let second = Entry(run: entry.run, generation: 2, device: entry.device)
            #expect(try await bench.enqueue([entry], organization) == .admitted(1))
            #expect(try await bench.enqueue([second], organization, .interactive) == .admitted(1))
            #expect(try await bench.enqueue([entry], organization) == .admitted(0))
            try await bench.invariants()
            #expect(try await bench.claim().map(\.generation) == [2])
        }
    }

    @Test(
        "A retry enqueued before its predecessor's lease ends is claimed; the lease ends without harm"
    )
    func replaceLeased() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            let entry = Draw.entries(1)[0]
            try await bench.enqueue([entry], organization)
            let old = try await bench.claim()
            try await bench.enqueue(
                [Entry(run: entry.run, generation: 2, device: entry.device)], organization)
            let new = try await bench.claim()
            #expect(new.map(\.generation) == [2])
            try await bench.start(old)
            #expect(try await bench.queue.runningCount(organization) == 0)
            try await bench.start(new)
            #expect(try await bench.queue.runningCount(organization) == 1)
            try await bench.invariants()
        }
    }

    @Test("A marked organization admits nothing until refill has cleared the mark")
    func marked() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            try await bench.queue.mark([organization.queue()], epoch: bench.epoch)
            #expect(try await bench.enqueue(Draw.entries(1), organization) == .marked)
            #expect(try await bench.claim().isEmpty)
            let mark = try #require(try await bench.queue.marked(limit: 10, epoch: bench.epoch).first)
            let refilled = try await bench.queue.refill(
                organization.queue(), version: mark.version,
                entries: Draw.entries(3),
                more: false, epoch: bench.epoch)
            #expect(refilled == Refilled(admitted: 3, passed: 3, cleared: true))
            #expect(try await bench.enqueue(Draw.entries(1), organization) == .admitted(1))
        }
    }

    @Test(
        "Refill clears the mark only if nobody marked meanwhile, nothing more was there and all found room",
        arguments: [(false, false, 1), (true, false, 1), (false, true, 1), (false, false, Bench.window + 1)])
    func clearing(markedAgain: Bool, more: Bool, count: Int) async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            try await bench.queue.mark([organization.queue()], epoch: bench.epoch)
            let mark = try #require(try await bench.queue.marked(limit: 1, epoch: bench.epoch).first)
            #expect(mark.room == Bench.window)
            // A commit that finds the organization marked is another version: refill may not have seen its
            // rows.
            if markedAgain { try await bench.enqueue(Draw.entries(1), organization) }
            let refilled = try await bench.queue.refill(
                organization.queue(), version: mark.version,
                entries: Draw.entries(count),
                more: more, epoch: bench.epoch)
            #expect(refilled.admitted == min(count, Bench.window))
            #expect(refilled.cleared == (!markedAgain && !more && count <= Bench.window))
            #expect(try await bench.members("marks").isEmpty == refilled.cleared)
        }
    }

    @Test("Rows that found no room are not overtaken by later ones of the same refill")
    func refillKeepsOrder() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            let entries = Draw.entries(Bench.window + 44)
            try await bench.enqueue(Array(entries[(Bench.window + 43)...]), organization)
            try await bench.queue.mark([organization.queue()], epoch: bench.epoch)
            let mark = try #require(try await bench.queue.marked(limit: 1, epoch: bench.epoch).first)
            let refilled = try await bench.queue.refill(
                organization.queue(), version: mark.version, entries: entries,
                more: false,
                epoch: bench.epoch)
            #expect(
                refilled == Refilled(admitted: Bench.window - 1, passed: Bench.window - 1, cleared: false))
        }
    }

    @Test("A version is never used twice, so a refill from before a clearing does not clear the next mark")
    func versions() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            func refill(_ version: Int) async throws -> Refilled {
                try await bench.queue.refill(
                    organization.queue(), version: version, entries: [],
                    more: false,
                    epoch: bench.epoch)
            }
            try await bench.queue.mark([organization.queue()], epoch: bench.epoch)
            let slow = try #require(try await bench.queue.marked(limit: 1, epoch: bench.epoch).first).version
            #expect(try await refill(slow).cleared)
            try await bench.queue.mark([organization.queue()], epoch: bench.epoch)
            #expect(try await refill(slow).cleared == false)
        }
    }

    @Test("A full window marks its organization; one more does not fit")
    func window() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            #expect(
                try await bench.enqueue(Draw.entries(Bench.window), organization) == .admitted(Bench.window))
            #expect(try await bench.members("marks").isEmpty)
            #expect(try await bench.enqueue(Draw.entries(1), organization) == .marked)
            #expect(try await bench.members("marks") == [organization.queue().name])
            #expect(try await bench.queue.depths(of: [organization])[0].ready[.standard] == Bench.window)
            try await bench.invariants()
        }
    }

    @Test("Windows that were wide while few queues were active do not add up beyond the budget")
    func budgetOfAll() async throws {
        try await Bench.run { bench in
            for _ in 0..<112 {
                let organization = Draw.organization().queue()
                try await bench.queue.mark([organization], epoch: bench.epoch)
                _ = try await bench.queue.refill(
                    organization, version: 0, entries: Draw.entries(Bench.window), more: true,
                    epoch: bench.epoch)
            }
            let count = try await bench.hash("live").count
            #expect(count > 99_000)
            #expect(count <= 100_000 + 14 * 8, "the least window of each queue beyond the budget")
            let last = Draw.organization()
            let few = Draw.entries(8)
            #expect(try await bench.enqueue(few, last) == .admitted(8))
            #expect(try await bench.enqueue(Draw.entries(1), last) == .marked)
            func marked() async throws -> Set<OrganizationQueue> {
                Set(try await bench.queue.marked(limit: 64, epoch: bench.epoch).map(\.queue))
            }
            #expect(try await !marked().contains(last.queue()))
            // It does not wait until others have drained: when its few have gone, more may come.
            try await bench.queue.cancel(few.map { (last, $0.run) }, epoch: bench.epoch)
            #expect(try await marked() == [last.queue()])
        }
    }

    @Test("A marked organization without room is parked until acknowledging has made room")
    func parking() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            try await bench.enqueue(Draw.entries(Bench.window + 1), organization)
            #expect(try await bench.queue.marked(limit: 10, epoch: bench.epoch).isEmpty)
            let stride = Bench.window / 4
            try await bench.start(try await bench.claim(128))
            try await bench.start(try await bench.claim(stride - 129))
            #expect(try await bench.queue.marked(limit: 10, epoch: bench.epoch).isEmpty)
            try await bench.start(try await bench.claim(1))
            #expect(try await bench.queue.marked(limit: 10, epoch: bench.epoch).map(\.room) == [stride])
            // Left to that worker for a while.
            #expect(try await bench.queue.marked(limit: 10, epoch: bench.epoch).isEmpty)
        }
    }

    @Test("Marks come in the order of their last refill")
    func rotation() async throws {
        try await Bench.run { bench in
            let organizations = (0..<3).map { _ in Draw.organization() }
            for (place, organization) in organizations.enumerated() {
                try await bench.queue.mark([organization.queue()], epoch: bench.epoch)
                // The clock of the server has milliseconds; the test does not wait for it.
                _ = try await bench.raw("ZADD", "marks", .int(place + 1), .string(organization.queue().name))
            }
            let first = try await bench.queue.marked(limit: 1, hintMilliseconds: 0, epoch: bench.epoch)
            #expect(first.map(\.queue.organization) == [organizations[0]])
            _ = try await bench.queue.refill(
                organizations[0].queue(), version: first[0].version, entries: [],
                more: true,
                epoch: bench.epoch)
            let next = try await bench.queue.marked(limit: 3, epoch: bench.epoch)
            #expect(next.map(\.queue.organization) == [organizations[1], organizations[2], organizations[0]])
        }
    }

    @Test("A cancelled run is not claimed; one that runs stays")
    func cancel() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            let entries = Draw.entries(4)
            try await bench.enqueue(entries, organization)
            let running = try await bench.claim(1)
            try await bench.start(running)
            let leased = try await bench.claim(1)
            let cancelled = try await bench.queue.cancel(
                entries.prefix(3).map { (organization, $0.run) }, epoch: bench.epoch)
            #expect(cancelled == 2)
            #expect(try await bench.claim().map(\.run) == [entries[3].run])
            // The lease of a cancelled run ends without a start.
            try await bench.start(leased)
            #expect(try await bench.queue.runningCount(organization) == 1)
            try await bench.invariants()
        }
    }

    @Test("Organizations beyond the budget share it: the window shrinks, to 8 entries at the least")
    func budget() async throws {
        try await Bench.run { bench in
            // As if 1,000 and then 20,000 queues were in use.
            for (queues, window) in [(1_000, 100), (20_000, 8)] {
                for start in stride(from: 0, to: queues, by: 1_000) {
                    let fields: [RedisArgument] = (start..<start + 1_000).flatMap {
                        [.string("x\($0):1"), 0]
                    }
                    let command = RedisCommand(
                        "HSET", arguments: [.string(bench.queue.keys.key("depth"))] + fields)
                    _ = try await bench.connection.send(command)
                }
                let organization = Draw.organization()
                #expect(try await bench.enqueue(Draw.entries(window + 1), organization) == .marked)
                #expect(try await bench.queue.depths(of: [organization])[0].ready[.standard] == window)
            }
        }
    }
}
