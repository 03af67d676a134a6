import Domain
import Redis
import Testing

@testable import Streams

@Suite struct SettlementTests {
    /// One organization with so many entries, claimed by "a".
    private func claimed(
        _ bench: Bench, _ count: Int = 3, lease: Int = 60_000
    ) async throws -> (OrganizationID, [Claim]) {
        let organization = Draw.organization()
        try await bench.enqueue(Draw.entries(count), organization)
        return (organization, try await bench.claim(count, lease: lease))
    }

    @Test("Dispatched runs count as running, dropped ones are gone and may be enqueued again")
    func acknowledge() async throws {
        try await Bench.run { bench in
            let (organization, claims) = try await claimed(bench)
            let result = try await bench.queue.acknowledge(
                dispatched: Array(claims.prefix(2)), dropped: [claims[2]], deadlineMilliseconds: 77,
                epoch: bench.epoch)
            #expect(result == Acknowledged(started: 2, lost: 0))
            let page = try await bench.queue.membership(epoch: bench.epoch)
            #expect(Set(page.items.map(\.run)) == Set(claims.prefix(2).map(\.settled)))
            #expect(page.items.allSatisfy { $0.deadlineMilliseconds == 77 } && page.next == nil)
            let again = Entry(run: claims[2].run, generation: 1, device: claims[2].device)
            #expect(try await bench.enqueue([again], organization) == .admitted(1))
            try await bench.invariants()
        }
    }

    @Test("Acknowledging and settling twice change nothing the second time")
    func idempotent() async throws {
        try await Bench.run { bench in
            let (organization, claims) = try await claimed(bench)
            try await bench.start(claims)
            let again = try await bench.queue.acknowledge(
                dispatched: claims, dropped: [], deadlineMilliseconds: 1, epoch: bench.epoch)
            #expect(again == Acknowledged(started: 0, lost: 3))
            #expect(try await bench.queue.runningCount(organization) == 3)
            #expect(try await bench.settle(claims) == 3)
            #expect(try await bench.settle(claims) == 0)
            #expect(try await bench.queue.runningCount(organization) == 0)
            try await bench.invariants()
        }
    }

    @Test("A result that overtakes its acknowledgement leaves nothing running")
    func overtaken() async throws {
        try await Bench.run { bench in
            let (organization, claims) = try await claimed(bench)
            #expect(try await bench.settle(claims) == 0)
            try await bench.start(claims)
            #expect(try await bench.queue.runningCount(organization) == 0)
            #expect(try await bench.hash("slots").isEmpty)
            try await bench.invariants()
        }
    }

    @Test(
        "A dispatch whose lease was reclaimed still counts, and the entry that went back is not claimed again"
    )
    func lostLease() async throws {
        try await Bench.run { bench in
            let (organization, claims) = try await claimed(bench, 3, lease: 0)
            #expect(try await bench.queue.reclaim(now: 10, epoch: bench.epoch).count == 3)
            let second = try await bench.claim(1, owner: "b")
            try await bench.start(claims)
            #expect(try await bench.queue.runningCount(organization) == 3)
            #expect(try await bench.claim().isEmpty)
            // The other's mark is refused, and its drop does not end what runs.
            try await bench.drop(second)
            #expect(try await bench.queue.runningCount(organization) == 3)
            #expect(try await bench.settle(claims) == 3)
            try await bench.invariants()
        }
    }

    @Test("Claims whose lease has expired go back to the head of their queue, with a crash more; others stay")
    func reclaim() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            let entries = Draw.entries(6)
            try await bench.enqueue(entries, organization)
            let dead = try await bench.claim(2, owner: "dead", lease: 0)
            let alive = try await bench.claim(2, owner: "alive")
            let reclaimed = try await bench.queue.reclaim(now: 128, epoch: bench.epoch)
            #expect(Set(reclaimed.map(\.run)) == Set(dead.map(\.run)))
            #expect(reclaimed.allSatisfy { $0.crashes == 1 })
            try await bench.invariants()
            let again = try await bench.claim(3, owner: "next", lease: 0)
            #expect(again.map(\.run) == (entries[0..<2] + entries[4..<5]).map(\.run))
            #expect(again.map(\.crashes) == [1, 1, 0])
            #expect(
                Set(try await bench.queue.reclaim(now: 128, epoch: bench.epoch).map(\.crashes)) == [1, 2])
            #expect(try await bench.members("leases").count == alive.count)
        }
    }

    @Test("Reclaiming takes no more than its limit")
    func reclaimLimit() async throws {
        try await Bench.run { bench in
            _ = try await claimed(bench, 5, lease: 0)
            var counts: [Int] = []
            for _ in 0..<3 { counts.append(try await bench.queue.reclaim(now: 2, epoch: bench.epoch).count) }
            #expect(counts == [2, 2, 1])
        }
    }

    @Test(
        "An owner that has gone gives back its claims at once, and nobody else's",
        arguments: [OwnerEnd.stopped, .crashed])
    func reclaimOwner(end: OwnerEnd) async throws {
        try await Bench.run { bench in
            let organizations = [Draw.organization(), Draw.organization()]
            for organization in organizations { try await bench.enqueue(Draw.entries(150), organization) }
            let mine = try await bench.claim(owner: "a") + bench.claim(owner: "a")
            _ = try await bench.claim(20, owner: "a2")
            let returned = try await bench.queue.reclaim(owner: "a", end, epoch: bench.epoch)
            #expect(Set(returned.map(\.run)) == Set(mine.map(\.run)))
            #expect(returned.allSatisfy { $0.crashes == (end == .crashed ? 1 : 0) })
            #expect(try await bench.members("leases").count == 20)
            try await bench.invariants()
        }
    }

    @Test("Renewed leases do not expire; those of others do")
    func renew() async throws {
        try await Bench.run { bench in
            let (_, claims) = try await claimed(bench, 3, lease: 0)
            try await bench.enqueue(Draw.entries(1), Draw.organization())
            _ = try await bench.claim(1, owner: "b", lease: 0)
            #expect(
                try await bench.queue.renew(owner: "a", leaseMilliseconds: 60_000, epoch: bench.epoch) == 3)
            #expect(try await bench.queue.reclaim(now: 10, epoch: bench.epoch).count == 1)
            try await bench.start(claims)
            #expect(try await bench.members("running").count == 3)
        }
    }

    @Test(
        "A released claim waits out its delay and comes back at the head; without delay it is there at once")
    func release() async throws {
        try await Bench.run { bench in
            let organization = Draw.organization()
            let entries = Draw.entries(4)
            try await bench.enqueue(entries, organization)
            let claims = try await bench.claim(3)
            #expect(try await bench.queue.release([claims[0]], delayMilliseconds: 0, epoch: bench.epoch) == 1)
            #expect(
                try await bench.queue.release(
                    Array(claims[1...]), delayMilliseconds: 3_600_000, epoch: bench.epoch) == 2)
            try await bench.invariants()
            #expect(try await bench.claim().map(\.run) == [entries[0].run, entries[3].run])
            // A released one is admitted still: a second enqueue of it is left out.
            #expect(try await bench.enqueue([entries[1]], organization) == .admitted(0))
            #expect(try await bench.queue.sweep(epoch: bench.epoch).moved == 0)
            // The hour has passed for one of them.
            let due = try await bench.members("due")
            _ = try await bench.raw("ZADD", "due", 1, .string(due[0]))
            _ = try await bench.takeBell()
            #expect(try await bench.queue.sweep(epoch: bench.epoch).moved == 1)
            #expect(try await bench.takeBell())
            #expect(try await bench.claim().count == 1)
            _ = try await bench.raw("ZADD", "due", 1, .string(due[1]))
            #expect(try await bench.claim().count == 1)
            try await bench.invariants()
        }
    }

    @Test("A run that waits out a delay can be cancelled and replaced")
    func cancelDelayed() async throws {
        try await Bench.run { bench in
            let (organization, claims) = try await claimed(bench, 2)
            try await bench.queue.release(claims, delayMilliseconds: 3_600_000, epoch: bench.epoch)
            #expect(try await bench.queue.cancel([(organization, claims[0].run)], epoch: bench.epoch) == 1)
            let next = Entry(run: claims[1].run, generation: 2, device: claims[1].device)
            #expect(try await bench.enqueue([next], organization) == .admitted(1))
            #expect(try await bench.members("due").isEmpty)
            #expect(try await bench.claim().map(\.generation) == [2])
            try await bench.invariants()
        }
    }

    @Test("Membership is corrected to what PostgreSQL says, with its counts")
    func correct() async throws {
        try await Bench.run { bench in
            let (organization, claims) = try await claimed(bench, 3)
            try await bench.start(claims)
            let missing = Membership(
                organization: organization, run: Draw.run(), generation: 4, device: Draw.device(),
                deadlineMilliseconds: 9)
            let result = try await bench.queue.correct(
                missing: [missing], extra: claims.prefix(2).map(\.settled), epoch: bench.epoch)
            #expect(result == (1, 2))
            #expect(try await bench.queue.runningCount(organization) == 2)
            #expect(
                Set(try await bench.queue.membership(epoch: bench.epoch).items.map(\.run)) == [
                    missing.run, claims[2].settled,
                ])
            try await bench.invariants()
        }
    }

    @Test("Membership of any size is read page by page")
    func pages() async throws {
        try await Bench.run { bench in
            let rows = (0..<700).map { _ in
                Membership(
                    organization: Draw.organization(), run: Draw.run(), generation: 1, device: Draw.device(),
                    deadlineMilliseconds: 1_800_000_000_000)
            }
            _ = try await bench.queue.correct(missing: rows, extra: [], epoch: bench.epoch)
            var found: Set<Membership> = []
            var cursor: String?
            repeat {
                let page = try await bench.queue.membership(after: cursor, epoch: bench.epoch)
                found.formUnion(page.items)
                cursor = page.next
            } while cursor != nil
            #expect(found == Set(rows))
        }
    }

    @Test(
        "An owner's name is a word of at most 64 letters",
        arguments: ["", "a b", "a*", String(repeating: "a", count: 65)])
    func badOwner(owner: String) async throws {
        try await Bench.run { bench in
            let error = await #expect(throws: QueueError.self) { try await bench.claim(1, owner: owner) }
            #expect(error == .refused("an owner is named by 1 to 64 letters, digits or any of -._:"))
            _ = try await bench.claim(1, owner: String(repeating: "a", count: 64))
        }
    }
}
