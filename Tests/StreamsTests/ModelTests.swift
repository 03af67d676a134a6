import Domain
import Redis
import TestSupport
import Testing

@testable import Streams

/// Random operations against a small model of what the queue holds.
@Suite struct ModelTests {
    @Test("Random operations lose no entry, start nothing twice and keep every count", arguments: 1...5)
    func random(seed: Int) async throws {
        try await Bench.run { bench in
            var model = Model(bench: bench, seed: UInt64(seed))
            for step in 0..<150 {
                try await model.step()
                if step % 10 == 9 { try await model.compare() }
            }
            try await model.drain()
            #expect(
                try await bench.names().subtracting(["bell", "buckets", "cursor", "sequence"]) == [
                    "epoch", "finish", "virtual",
                ])
        }
    }
}

/// What the queue ought to hold. A live run waits, is leased, or runs; leases and running runs are sets
/// besides.
private struct Model {
    enum Place { case waiting, leased, running }
    struct Live {
        let organization: OrganizationID
        let entry: Entry
        var place: Place
    }

    let bench: Bench
    var random: Generator
    let organizations = (0..<4).map { _ in Draw.organization() }
    let devices = (0..<6).map { _ in Draw.device() }
    var live: [RunID: Live] = [:]
    var generations: [RunID: (OrganizationID, Entry)] = [:]
    var leases: [Claim] = []
    var lost: [Claim] = []
    var running: Set<Settled> = []
    var pauses: Set<Pause> = []
    var caps: [OrganizationID: Int] = [:]

    init(bench: Bench, seed: UInt64) {
        self.bench = bench
        random = Generator(state: seed)
    }

    mutating func step() async throws {
        switch Int.random(in: 0..<20, using: &random) {
        case 0...3: try await enqueue()
        case 4: try await enqueueAgain()
        case 5...8: try await claim()
        case 9...10: try await acknowledge()
        case 11: try await release()
        case 12...13: try await settle()
        case 14: try await cancel()
        case 15: try await reclaim()
        case 16: try await entitle()
        case 17: try await bench.queue.sweep(epoch: bench.epoch)
        case 18:
            for member in try await bench.members("due") {
                _ = try await bench.raw("ZADD", "due", 1, .string(member))
            }
        default: try await settleLeased()
        }
    }

    private mutating func enqueue() async throws {
        let organization = pick(organizations)!
        guard live.values.count(where: { $0.organization == organization }) < 120 else { return }
        let entries = (0..<Int.random(in: 1...30, using: &random)).map { _ in
            Entry(run: Draw.run(), generation: 1, device: pick(devices)!)
        }
        #expect(try await bench.enqueue(entries, organization, priority()) == .admitted(entries.count))
        for entry in entries { admit(entry, organization) }
    }

    /// The same generation again, or the next one.
    private mutating func enqueueAgain() async throws {
        guard let (organization, entry) = pick(Array(generations.values)) else { return }
        let next = Entry(run: entry.run, generation: entry.generation + 1, device: entry.device)
        if live[entry.run] != nil {
            #expect(try await bench.enqueue([entry], organization, priority()) == .admitted(0))
        }
        #expect(try await bench.enqueue([next], organization, priority()) == .admitted(1))
        admit(next, organization)
    }

    private mutating func admit(_ entry: Entry, _ organization: OrganizationID) {
        live[entry.run] = Live(organization: organization, entry: entry, place: .waiting)
        generations[entry.run] = (organization, entry)
    }

    private mutating func claim() async throws {
        let lease = Bool.random(using: &random) ? 0 : 60_000
        let owner = Bool.random(using: &random) ? "a" : "b"
        take(try await bench.claim(Int.random(in: 1...40, using: &random), owner: owner, lease: lease))
    }

    private mutating func take(_ claims: [Claim]) {
        for claim in claims {
            let known = live[claim.run]
            #expect(known?.place == .waiting && known?.entry.generation == claim.generation)
            for organization in [nil, claim.organization] {
                for priority in [nil, claim.priority] {
                    #expect(!pauses.contains(Pause(organization: organization, priority: priority)))
                }
            }
            live[claim.run]?.place = .leased
        }
        leases += claims
        for (organization, _) in claims.shares {
            let taken =
                leases.count { $0.organization == organization }
                + running.count { $0.organization == organization }
            #expect(taken <= caps[organization] ?? .max)
        }
        for device in devices {
            #expect(leases.count { $0.device == device } + running.count { $0.device == device } <= 4)
        }
    }

    private func isCurrent(_ claim: Claim) -> Bool {
        live[claim.run]?.entry.generation == claim.generation && live[claim.run]?.place != .running
    }

    private mutating func acknowledge() async throws {
        // Some of those whose lease was lost; the model then takes the dispatch for certain, as the queue
        // does.
        let late = lost.filter { isCurrent($0) && hasRoom($0) }.prefix(1)
        let ending = Array(leases.shuffled(using: &random).prefix(15))
        let dropped = Array(ending.suffix(4))
        let dispatched = Array(ending.dropLast(4)) + late
        try await bench.queue.acknowledge(
            dispatched: dispatched, dropped: dropped, deadlineMilliseconds: 1, epoch: bench.epoch)
        leases.removeAll { ending.contains($0) }
        lost.removeAll { late.contains($0) }
        for claim in dispatched where isCurrent(claim) {
            live[claim.run]?.place = .running
            running.insert(claim.settled)
        }
        for claim in dropped where isCurrent(claim) { live[claim.run] = nil }
    }

    /// Whether counting one more run breaks no limit that the model checks.
    private func hasRoom(_ claim: Claim) -> Bool {
        leases.count { $0.device == claim.device } + running.count { $0.device == claim.device } < 4
            && caps[claim.organization] == nil
    }

    private mutating func release() async throws {
        let claims = Array(leases.shuffled(using: &random).prefix(10))
        let released = claims.filter { isCurrent($0) }
        let delay = Bool.random(using: &random) ? 0 : 3_600_000
        #expect(
            try await bench.queue.release(claims, delayMilliseconds: delay, epoch: bench.epoch)
                == released.count)
        leases.removeAll { claims.contains($0) }
        for claim in released { live[claim.run]?.place = .waiting }
    }

    private mutating func settle() async throws {
        let runs = Array(running.sorted { $0.run < $1.run }.shuffled(using: &random).prefix(15))
        #expect(try await bench.queue.settle(runs, epoch: bench.epoch) == runs.count)
        for run in runs { forget(run) }
    }

    /// A result that overtakes its acknowledgement.
    private mutating func settleLeased() async throws {
        guard let claim = pick(leases) else { return }
        let member = running.contains(claim.settled) ? 1 : 0
        #expect(try await bench.queue.settle([claim.settled], epoch: bench.epoch) == member)
        forget(claim.settled)
    }

    private mutating func forget(_ run: Settled) {
        running.remove(run)
        if let known = live[run.run], known.entry.generation <= run.generation { live[run.run] = nil }
    }

    private mutating func cancel() async throws {
        let runs = Array(
            live.values.sorted { $0.entry.run < $1.entry.run }.shuffled(using: &random).prefix(5))
        let waiting = runs.filter { $0.place != .running }
        let cancelled = try await bench.queue.cancel(
            runs.map { ($0.organization, $0.entry.run) }, epoch: bench.epoch)
        #expect(cancelled == waiting.count)
        for run in waiting { live[run.entry.run] = nil }
    }

    private mutating func reclaim() async throws {
        let returned =
            if Bool.random(using: &random) {
                try await bench.queue.reclaim(now: 20, epoch: bench.epoch)
            } else {
                try await bench.queue.reclaim(owner: "b", epoch: bench.epoch)
            }
        let left = Set(try await bench.members("leases"))
        let gone = leases.filter { !left.contains($0.id) }
        leases.removeAll { !left.contains($0.id) }
        #expect(Set(returned.map(\.id)) == Set(gone.filter { isCurrent($0) }.map(\.id)))
        for claim in returned { live[claim.run]?.place = .waiting }
        lost += gone
    }

    private mutating func entitle() async throws {
        let organization = pick(organizations)!
        switch Int.random(in: 0..<6, using: &random) {
        case 0, 1:
            // Of everybody only rarely, else little is claimed.
            let isAll = Int.random(in: 0..<8, using: &random) == 0
            let pause = Pause(
                organization: isAll ? nil : organization,
                priority: Bool.random(using: &random) ? priority() : nil)
            let isNew = try await bench.queue.pause(
                organization: pause.organization, priority: pause.priority, epoch: bench.epoch)
            #expect(isNew == pauses.insert(pause).inserted)
        case 2, 3:
            guard let pause = pick(pauses.sorted { $0.name < $1.name }) else { return }
            pauses.remove(pause)
            #expect(
                try await bench.queue.resume(
                    organization: pause.organization, priority: pause.priority, epoch: bench.epoch))
        case 4:
            let taken =
                leases.count { $0.organization == organization }
                + running.count { $0.organization == organization }
            caps[organization] = caps[organization] == nil ? taken + 2 : nil
            try await bench.queue.cap(
                organization: organization, limit: caps[organization], epoch: bench.epoch)
        default:
            let weight = Double.random(in: 0.1...5, using: &random)
            try await bench.queue.weigh(organization: organization, weight: weight, epoch: bench.epoch)
        }
    }

    func compare() async throws {
        try await bench.invariants()
        #expect(Set(try await bench.hash("live").keys) == Set(live.keys.map(\.description)))
        #expect(Set(try await bench.members("leases")) == Set(leases.map(\.id)))
        let members = running.map {
            "\($0.organization) \($0.run) \($0.generation) \($0.device)/\($0.lane.rawValue)"
        }
        #expect(Set(try await bench.members("running")) == Set(members))
    }

    /// Everything that was admitted comes to its end, once.
    mutating func drain() async throws {
        for pause in pauses {
            try await bench.queue.resume(
                organization: pause.organization, priority: pause.priority, epoch: bench.epoch)
        }
        for organization in organizations {
            try await bench.queue.cap(organization: organization, limit: nil, epoch: bench.epoch)
            try await bench.queue.weigh(organization: organization, weight: 1, epoch: bench.epoch)
        }
        (pauses, caps) = ([], [:])
        for member in try await bench.members("due") {
            _ = try await bench.raw("ZADD", "due", 1, .string(member))
        }
        var rounds = 0
        while !live.isEmpty, rounds < 200 {
            try await settle()
            while !leases.isEmpty { try await acknowledge() }
            take(try await bench.claim())
            rounds += 1
        }
        while !leases.isEmpty { try await acknowledge() }
        while !running.isEmpty { try await settle() }
        #expect(live.isEmpty, "an entry that nobody can claim")
        try await compare()
        try await bench.queue.sweep(epoch: bench.epoch)
        try await compare()
    }

    private mutating func pick<Element>(_ elements: [Element]) -> Element? {
        elements.randomElement(using: &random)
    }

    private mutating func priority() -> Priority { pick(Priority.allCases)! }
}

/// SplitMix64: the same numbers for the same seed.
struct Generator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
