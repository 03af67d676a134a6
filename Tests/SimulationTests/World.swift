import Domain
import Logging
import Redis

@testable import Streams

/// What the simulation does to a caller instead of answering it.
enum Lost: Error {
    /// The request never arrived, or the reply did not.
    case request, reply
}

/// The process was killed where it stood.
struct Crash: Error {}

/// One seed's world: a queue in Redis, a ledger in memory, and the processes and devices that use them.
///
/// Only one of them acts at a time, and whoever is about to call a store may be kept from it (`park`), for a
/// while or for ever. Every choice comes from the seed, so a seed plays the same again.
actor World {
    /// How a world is drawn and watched.
    struct Plan {
        var seed: UInt64
        var mistake: Mistake?
        var lapse: Lapse?
        /// What it is bent towards, instead of what follows from the seed.
        var aim: Aim?
        var isTraced = false
        /// The partition is audited each so many steps.
        var auditEvery = 32
    }

    let plan: Plan
    let connection: RedisConnection
    let queue: Queue
    let organizations: [OrganizationID]
    let queues: [OrganizationQueue]
    let devices: [Device]
    let byID: [DeviceID: Device]
    let workers: [Worker]
    let stations: [Station]
    let callers = [Process("api0"), Process("api1")]
    /// Every key that the world may have.
    let allKeys: [String]

    var random: Generator
    var names = Names()
    var records = Records()
    var shares = Shares()
    /// The steps before the end, how many runs a claim takes, and whether anything goes wrong.
    let steps: Int
    let batch: Int
    let isFaulty: Bool
    let aim: Aim?
    /// How often it has done what it aims at.
    var pursued = 0
    var runsLeft: Int

    /// Virtual time in microseconds: of PostgreSQL, and how far that of Redis is ahead.
    var now = 1_800_000_000_000_000
    var skew = 0
    private var clockInRedis = 0
    var aliveUntil: [GatewayID: Int] = [:]
    var keptAlive: [GatewayID: Int]?
    /// Which process of the server it is.
    var server = 0
    /// Whether somebody has taken the bell's token and nobody has rung since.
    var bellTaken = false
    /// Whether that one has died over it.
    var bellOrphaned = false
    /// The highest cap, and the highest finer limits, that each organization ever had.
    var highestCaps: [OrganizationID: Int] = [:]
    var highestLimits: [OrganizationID: [LimitScope: Int]] = [:]
    /// Whether operators set finer limits, and buckets that a small world empties.
    let hasLimits: Bool
    let hasBuckets: Bool
    /// What the buckets have: of rates, and of interactive runs.
    var rates: [OrganizationID: Bucket] = [:]
    var buckets: [OrganizationID: Bucket] = [:]

    /// Runs whose entries were read before, by a claim or to be set aside: what comes back goes before all.
    var readBefore: Set<RunID> = []
    /// What was marked, and found the inbox of its gateway full.
    var unsent: Set<AttemptName> = []

    /// Whoever handles one of these dies of it; how many are to come.
    var poison: Set<RunID> = []
    var poisonLeft: Int
    /// Runs that are taken alone just now, and by whom; over which so many have died; and notes that could
    /// not be taken back.
    var inTrial: [RunID: Set<String>] = [:]
    var loneDeaths: [RunID: Int] = [:]
    var strays: [RunID: Int] = [:]
    /// Who has died of it, and is to be buried.
    var dying: Process?

    var activities: [Activity] = []
    var running: Activity?
    var isQuiet = false
    var isEntitled = false
    private var driver: CheckedContinuation<Void, Never>?

    var letters: [Letter] = []
    /// Gateways whose inbox may hold something.
    var posted: Set<GatewayID> = []
    /// How many runs the last claim took.
    var lastClaimed = 0
    /// How many entries of each queue were set aside at the last claim.
    var aside: [OrganizationQueue: Int] = [:]
    var guarantees = Guarantees()
    var executed: [AttemptName: Outcome?] = [:]
    var positions: [DeviceID: Int] = [:]
    /// What has settled in this data set of Redis.
    var settled: Set<Settled> = []

    /// Runs that were committed below where a worker's refill had come to.
    var lateRuns: Set<RunID> = []
    var committed: Set<RunID> = []
    /// Every incarnation that there was.
    var everyGateway: [GatewayID] = []
    /// The version of the last mark of each queue.
    var versions: [OrganizationQueue: Int] = [:]

    var reached: Set<Interleaving> = []
    var violations: [String] = []
    var trace: [String] = []
    var step = 0
    var calls = 0

    /// What a letter in an inbox says; Redis carries its number.
    enum Letter {
        case dispatch([(AttemptName, DeviceID)])
        case cancel([(AttemptName, DeviceID)])
    }

    init(_ plan: Plan, slot: Int, connection: RedisConnection, keyNames: [String]) {
        self.plan = plan
        self.connection = connection
        var random = Generator(state: plan.seed &* 0x2545_F491_4F6C_DD1D &+ 1)
        var names = Names()
        let keys = Keyspace(
            prefix: "world\(slot):", librarySuffix: VirtualLibrary.suffix(plan.mistake))
        queue = Queue(
            connection: connection, keys: keys,
            logger: Logger(label: "simulation") { _ in
                SwiftLogNoOpLogHandler()
            })
        let organizations: [OrganizationID] = (0..<3 + random.below(3)).map { _ in names.next() }
        let sites: [[SiteID]] = organizations.map { _ in [names.next(), names.next()] }
        devices = (0..<5 + random.below(6)).map { _ in
            let index = random.below(organizations.count)
            return Device(names.next(), organizations[index], sites[index][random.below(2)])
        }
        byID = Dictionary(uniqueKeysWithValues: devices.map { ($0.id, $0) })
        workers = [Worker("worker0"), Worker("worker1")]
        stations = [Station("gateway0", id: names.next()), Station("gateway1", id: names.next())]
        everyGateway = stations.map(\.id)
        allKeys =
            keyNames.map { keys.key($0) }
            + organizations.flatMap { id in Priority.allCases.map { keys.queue(id, $0) } }
        self.organizations = organizations
        queues = organizations.flatMap { OrganizationQueue.all(of: $0) }
        steps = 60 + random.below(140)
        batch = [2, 4, 8, 16][random.below(4)]
        let goesWrong = random.below(8) != 0
        let aim = plan.aim ?? Aim.of(plan.seed)
        self.aim = aim
        let isFaulty = aim.map { !$0.isCalm } ?? goesWrong
        self.isFaulty = isFaulty
        runsLeft = 20 + random.below(40)
        let hasRunLimits = random.chance(250) || aim == .limits
        let hasSmallBuckets = random.chance(250) || aim == .limits
        (hasLimits, hasBuckets) = (hasRunLimits, hasSmallBuckets)
        poisonLeft = random.chance(80) && isFaulty || aim == .poison ? 1 + random.below(2) : 0
        for organization in organizations {
            let cap = random.chance(500) ? 2 + random.below(6) : nil
            records.limits[organization] = Records.Limits(weight: random.chance(300) ? 2 : 1, cap: cap)
            highestCaps[organization] = cap ?? .max
        }
        for organization in organizations {
            if hasSmallBuckets, random.chance(600) { records.limits[organization]?.bucket = random.bucket() }
            let limits = hasRunLimits && random.chance(600) ? random.limits() : nil
            records.runLimits[organization] = limits
            highestLimits[organization, default: [:]].raise(by: limits)
        }
        self.random = random
        self.names = names
        records.now = now
    }

    func newGateway() -> GatewayID {
        let id: GatewayID = names.next()
        everyGateway.append(id)
        return id
    }

    // MARK: What is seen

    func reach(_ interleaving: Interleaving) {
        if reached.insert(interleaving).inserted { note("* \(interleaving)") }
    }

    func note(_ text: @autoclosure () -> String) {
        guard plan.isTraced else { return }
        let time = Double(now - 1_800_000_000_000_000) / 1_000_000
        trace.append("\(step) \(time)s \(running.map { "\($0.process.name) " } ?? "")\(text())")
    }

    func fail(_ text: String) {
        violations.append("step \(step): \(text)")
        note("VIOLATION \(text)")
    }

    // MARK: Activities

    /// Something that a process does, step by step.
    final class Activity {
        let work: Work
        let process: Process
        var continuation: CheckedContinuation<Void, any Error>?
        var point = ""
        var isOver = false
        var tookBell = false

        init(_ work: Work, _ process: Process) { (self.work, self.process) = (work, process) }
    }

    /// Begins something, and lets it go on to where it is parked or at its end.
    func begin(_ work: Work, _ process: Process) async {
        let activity = Activity(work, process)
        activities.append(activity)
        await advance(activity)
    }

    /// Lets an activity go on to where it is parked again or at its end; killed, it ends here.
    func advance(_ activity: Activity, killed: Bool = false) async {
        running = activity
        if killed { noteDeath(of: activity) }
        await withCheckedContinuation { driver in
            self.driver = driver
            if let continuation = activity.continuation {
                activity.continuation = nil
                if killed { continuation.resume(throwing: Crash()) } else { continuation.resume() }
            } else {
                Task { await self.carryOut() }
            }
        }
        running = nil
        activities.removeAll { $0.isOver }
        if let process = dying {
            dying = nil
            await kill(process)
        }
    }

    private func noteDeath(of activity: Activity) {
        if activity.tookBell, bellTaken { bellOrphaned = true }
        switch (activity.work, activity.point) {
        case (.submit, "enqueue"), (.submit, "epoch"): reach(.deathBetweenCommitAndEnqueue)
        case (.dispatch, "alive"): reach(.deathAfterClaim)
        case (.dispatch, "deliver"): reach(.deathAfterMark)
        case (.dispatch, "acknowledge"): reach(.deathAfterInbox)
        case (.rebuild, "keepEpoch"): reach(.rebuildDies)
        default: break
        }
    }

    private func carryOut() async {
        guard let activity = running else { return }
        do {
            try await perform(activity.work)
        } catch is Crash {
            note("\(activity.work) killed")
        } catch let error as QueueError {
            note("\(activity.work) ends: \(error)")
            if case .staleEpoch = error { activity.process.epoch = nil }
            if case .refused(let reason) = error { fail("\(activity.work): \(reason)") }
        } catch is Lost {
            note("\(activity.work) ends by a lost reply")
        } catch {
            fail("\(activity.work): \(error)")
        }
        activity.isOver = true
        driver?.resume()
    }

    /// A point at which the process may stop, die or be overtaken; most of its points let it pass.
    func park(_ point: String) async throws {
        guard !isQuiet, let activity = running,
            random.chance(330) || aim?.holds(activity.work, at: point) == true
        else { return }
        activity.point = point
        try await withCheckedThrowingContinuation { continuation in
            activity.continuation = continuation
            driver?.resume()
        }
    }

    // MARK: Stores

    /// A call of Redis: parked before it, and lost on either way if the seed says so.
    func call<Value>(
        _ name: String, _ lostReply: Interleaving? = nil, _ body: () async throws -> Value
    ) async throws -> Value {
        try await park(name)
        try await setClock()
        let fate = isFaulty && !isQuiet ? random.below(1_000) : 1_000
        if fate < 12 {
            note("\(name): the request is lost")
            throw Lost.request
        }
        if fate < 16, name == "enqueue" || name == "refill" {
            reach(.refusedAtMemoryLimit)
            throw QueueError.full
        }
        calls += 1
        let value = try await body()
        note(name)
        if fate < 1_000, (16..<34).contains(fate) || random.chance(aim?.loses(name) ?? 0) {
            if let lostReply { reach(lostReply) }
            note("\(name): the reply is lost")
            throw Lost.reply
        }
        return value
    }

    /// A statement of PostgreSQL: parked before it, and lost on either way if the seed says so.
    func commit<Value>(
        _ name: String, _ lostReply: Interleaving? = nil, _ body: (inout Records) -> Value
    ) async throws -> Value {
        try await park(name)
        let fate = isFaulty && !isQuiet ? random.below(1_000) : 1_000
        if fate < 10 { throw Lost.request }
        records.now = now
        let value = body(&records)
        note(name)
        if fate < 1_000, (10..<30).contains(fate) || random.chance(aim?.loses(name) ?? 0) {
            if let lostReply { reach(lostReply) }
            note("\(name): the reply is lost")
            throw Lost.reply
        }
        return value
    }

    /// What the product logs and leaves to upkeep.
    func quietly(_ body: () async throws -> Void) async throws {
        do {
            try await body()
        } catch let crash as Crash {
            throw crash
        } catch {
            note("left to upkeep: \(error)")
        }
    }

    var redisNow: Int { now + skew }

    /// Puts the clock into Redis, and takes heartbeats out whose time is over.
    func setClock() async throws {
        guard clockInRedis != redisNow else { return }
        clockInRedis = redisNow
        let key = "clock:\(queue.keys.key(""))"
        _ = try await connection.send(RedisCommand("SET", .string(key), .int(redisNow)))
        for (gateway, until) in aliveUntil.sorted(by: { $0.key < $1.key }) where until <= redisNow {
            aliveUntil[gateway] = nil
            _ = try await connection.send(RedisCommand("DEL", .string(queue.keys.alive(gateway))))
        }
    }

    // MARK: The front of the queue (`QueueFront`)

    func epoch(of process: Process) async throws -> Epoch {
        if let epoch = process.epoch { return epoch }
        guard let epoch = try await call("epoch", nil, { try await self.queue.epoch() }) else {
            throw QueueError.staleEpoch(current: nil)
        }
        if process.latest != epoch { (process.latest, process.epochSince) = (epoch, now) }
        process.epoch = epoch
        return epoch
    }

    func withEpoch<Value>(
        of process: Process, _ body: (Epoch) async throws -> Value
    ) async throws -> Value {
        do {
            return try await body(epoch(of: process))
        } catch QueueError.staleEpoch {
            process.epoch = nil
            return try await body(epoch(of: process))
        }
    }

    /// The fast path after a commit.
    func offer(_ rows: [Records.Row], and marks: [OrganizationQueue] = [], by process: Process) async throws {
        try await quietly {
            try await withEpoch(of: process) { epoch in
                for queue in queues {
                    let own = rows.filter { $0.queue == queue }
                    if !own.isEmpty { try await enqueue(own, queue, epoch) }
                }
                if !marks.isEmpty { try await mark(queues.filter(marks.contains), epoch) }
            }
        }
    }

    private func enqueue(_ rows: [Records.Row], _ name: OrganizationQueue, _ epoch: Epoch) async throws {
        let entries = rows.map(Entry.init)
        let result = try await call("enqueue") {
            let marks = RedisCommand(
                "ZSCORE", .string(queue.keys.key("marks")), .string(name.name))
            let wasMarked = try await connection.send(marks) != .null
            let result = try await watchingReplacements(by: entries) {
                try await queue.enqueue(entries, in: name, epoch: epoch)
            }
            guard wasMarked else { return result }
            reach(.markedAdmitsNothing)
            if case .admitted(let count) = result, count > 0 {
                fail("a marked queue admitted \(count)")
            }
            return result
        }
        if case .marked = result { note("marked instead") }
    }

    /// Looks at what admits entries: one of a higher generation replaces another, one of the same or a lower
    /// never.
    func watchingReplacements<Value>(by entries: [Entry], _ body: () async throws -> Value) async throws
        -> Value
    {
        guard !entries.isEmpty else { return try await body() }
        let look = RedisCommand(
            "HMGET",
            arguments: [.string(queue.keys.key("live"))] + entries.map { .string($0.run.description) })
        let before = try await connection.send(look).array ?? []
        let known = zip(entries, before).contains { $1 != .null }
        let value = try await body()
        guard known else { return value }
        let after = try await connection.send(look).array ?? []
        for (index, entry) in entries.enumerated() {
            let words = before[index].text?.split(separator: " ") ?? []
            guard let generation = words.first.flatMap({ Int($0) }) else { continue }
            if generation < entry.generation {
                if words.count == 4 { reach(.higherGenerationReplaces) }
            } else if after[index] != before[index] {
                fail("generation \(entry.generation) of \(entry.run.short) replaced \(generation)")
            }
        }
        return value
    }

    func settleInQueue(_ runs: [Settled], by process: Process) async throws {
        guard !runs.isEmpty else { return }
        try await quietly {
            try await withEpoch(of: process) { epoch in
                try await call("settle") {
                    _ = try await self.queue.settle(runs, epoch: epoch)
                    self.settled.formUnion(runs)
                }
            }
        }
    }

    /// Runs that were dispatched and not taken are queued again in the next generation.
    func returned(_ rows: [Records.Row], by process: Process) async throws {
        guard !rows.isEmpty else { return }
        try await settleInQueue(
            rows.map { Settled($0, generation: $0.machine.generation - 1) }, by: process)
        try await offer([], and: rows.map(\.queue), by: process)
    }

    /// Runs that have ended and may be in any place of the queue.
    func ended(_ rows: [Records.Row], by process: Process) async throws {
        guard !rows.isEmpty else { return }
        try await settleInQueue(rows.map { Settled($0) }, by: process)
        try await quietly {
            try await withEpoch(of: process) { epoch in
                let runs = rows.map { ($0.organization, $0.run) }
                _ = try await call("cancel") { try await self.queue.cancel(runs, epoch: epoch) }
            }
        }
    }
}

extension Entry {
    init(_ row: Records.Row) {
        self.init(run: row.run, generation: row.machine.generation, device: row.device, lane: row.lane)
    }
}

extension Settled {
    init(_ row: Records.Row, generation: Int? = nil) {
        self.init(
            organization: row.organization, run: row.run, generation: generation ?? row.machine.generation,
            device: row.device, lane: row.lane)
    }
}

extension World {
    var outcome: Fleet.Outcome {
        Fleet.Outcome(
            seed: plan.seed, reached: reached, violations: violations, trace: trace, steps: step, calls: calls
        )
    }
}

/// One rule taken out of the processes: the simulation must find it.
enum Lapse: String, CaseIterable {
    /// The mark accepts claims of a data set that is lost.
    case markAcceptsAnyDataSet
    /// Whoever puts a run aside does not read presence again.
    case presenceIsReadOnce
    /// Whoever commits work of an absent device does not look again.
    case submissionLooksOnce
    /// The mark does not look at pauses.
    case markIgnoresPauses
    /// What waits for its time is queued before.
    case dueIsEarly
    /// Suspects are taken together.
    case suspectsTogether
    /// A rebuild tells the new data set of no limits.
    case rebuildForgetsLimits

    /// Where it shows, if chance alone rarely brings it.
    var aim: Aim? {
        switch self {
        case .markAcceptsAnyDataSet: .mark
        case .presenceIsReadOnce: .parking
        case .submissionLooksOnce: .committing
        case .markIgnoresPauses: .mark
        case .dueIsEarly: nil
        case .suspectsTogether: .poison
        case .rebuildForgetsLimits: .limits
        }
    }
}
