import Client
import Domain
import Faults
import History
import Process
import Synchronization
import Wire

/// One round: a load, what strikes meanwhile, and the wait until all of it has ended.
struct Round: Sendable {
    let cluster: FaultCluster
    let plan: FaultPlan
    let name: String
    let strikes: [Strike]
    let jobsPerAgent: Int

    /// Longer than a lease, a heartbeat and what passes until their ends are noticed.
    private static let freeze = Duration.seconds(8)

    func run() async throws {
        let load = Load(cluster, name: name)
        if let tasks { try await tasks.begin() }
        for strike in strikes {
            cluster.log.note(.armed, strike.name)
            try await arm(strike)
        }
        let ends: [Load.Pending]
        do {
            ends = try await strikeUnderLoad(load)
        } catch {
            // The next round is to find nothing that waits for this one.
            try Witness.open(load.gate)
            throw error
        }
        // The strikes are over, and everything was accepted.
        try Witness.open(load.gate)
        try await untilEnded(ends)
        if let tasks { try await tasks.untilEnded(within: plan.recoverySeconds) }
    }

    /// The tasks of the round, where it strikes what only they pass.
    private var tasks: TaskLoad? { strikes.contains(where: \.isOfTasks) ? TaskLoad(cluster) : nil }

    private func strikeUnderLoad(_ load: Load) async throws -> [Load.Pending] {
        try await withThrowingTaskGroup(of: [Load.Pending].self) { group in
            group.addTask { try await load.run(perAgent: jobsPerAgent) }
            let before = cluster.witness.lines.count
            let open = Open(strikes.count)
            for strike in strikes {
                group.addTask {
                    defer { open.close() }
                    if strike.process == nil { try await untilUnderway(since: before) }
                    try await perform(strike, since: before)
                    cluster.log.note(.struck, strike.name)
                    return []
                }
            }
            group.addTask { try await goOn(load) { open.isOpen } }
            var ends: [Load.Pending] = []
            for try await part in group { ends += part }
            return ends
        }
    }

    /// A server is struck when scripts of the round run and others still wait.
    private func untilUnderway(since before: Int) async throws {
        try await eventually("scripts of \(name) have started", within: 60) {
            cluster.witness.lines.count > before + jobsPerAgent / 2
        }
    }

    /// New jobs as long as a strike is not over.
    private func goOn(_ load: Load, while isStriking: () -> Bool) async throws -> [Load.Pending] {
        var jobs: [Load.Pending] = []
        var index = 0
        while isStriking() {
            await hold(.seconds(1))
            jobs += try await load.trickle(index)
            if let tasks { try await tasks.trickle() }
            index += 1
        }
        return jobs
    }

    private func untilEnded(_ jobs: [Load.Pending]) async throws {
        var open = jobs
        do {
            try await eventually("all jobs of \(name) have ended", within: plan.recoverySeconds) {
                while let last = open.last {
                    let job = try await persist("job \(last.id) is told") { try await last.api.job(last.id) }
                    guard job.state.isEnd else { return false }
                    open.removeLast()
                }
                return true
            }
        } catch is TooLate {
            // The history says which are lost.
        }
    }

    // MARK: Strikes

    /// Starts the process of a point anew, armed.
    private func arm(_ strike: Strike) async throws {
        guard case .point(let point, let action, let passage) = strike, let name = strike.process else {
            return
        }
        let process = try await cluster.process(name)
        try await process.stop()
        try await process.start((point, action, passage))
    }

    private func perform(_ strike: Strike, since before: Int) async throws {
        let postgres = cluster.postgres
        switch strike {
        case .point(let point, let action, _):
            try await strikeAt(point, action, strike, since: before)
        case .redisFlushed, .redisKilled, .redisEmptied, .redisAway, .redisFull, .redisDiskFull:
            try await perform(strike, on: cluster.redis())
        case .redisMasterKilled: try await cluster.watchedRedis().loseMaster()
        case .redisMasterFrozen: try await cluster.watchedRedis().freezeMaster()
        case .redisMasterSwitched: try await cluster.watchedRedis().switchOver()
        case .postgresRestarted: try await postgres.restart()
        case .postgresBackendsKilled: try await killBackends()
        case .postgresLocked:
            let seconds = plan.outage.components.seconds
            try await inSession(
                "BEGIN; LOCK TABLE runs IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(\(seconds)); COMMIT")
        case .postgresSnapshotHeld:
            let seconds = plan.snapshot.components.seconds
            try await inSession(
                """
                BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM runs; SELECT pg_sleep(\(seconds));
                COMMIT
                """)
        }
    }

    private func perform(_ strike: Strike, on redis: DurableRedis) async throws {
        switch strike {
        case .redisFlushed: try await redis.command("FLUSHALL")
        case .redisKilled:
            try await redis.crash()
            try await redis.start()
        case .redisEmptied:
            try await redis.crash()
            try await redis.lose()
            try await redis.start()
        case .redisAway:
            try await redis.crash()
            await hold(plan.outage)
            try await redis.start()
        case .redisFull:
            try await redis.limitMemory(true)
            try await eventually("the memory is full") { try await redis.hasFullMemory() }
            await hold(plan.outage)
            try await redis.limitMemory(false)
        case .redisDiskFull:
            try await redis.limitFiles(true)
            try await eventually("the append-only file is full") { try await redis.hasFullDisk() }
            await hold(plan.outage)
            try await redis.limitFiles(false)
        case .point, .redisMasterKilled, .redisMasterFrozen, .redisMasterSwitched, .postgresRestarted,
            .postgresBackendsKilled, .postgresLocked, .postgresSnapshotHeld:
            throw TooLate(description: "\(strike.name) does not strike the one server of Redis")
        }
    }

    private func strikeAt(
        _ point: FaultPoint, _ action: Fault.Action, _ strike: Strike, since before: Int
    ) async throws {
        let process = try await cluster.process(strike.process ?? "")
        // Some points are passed only after something else.
        switch point {
        case .rebuilderMidWay:
            // With something under way that a rebuild has to load.
            try await untilUnderway(since: before)
            try await cluster.redis().command("FLUSHALL")
        case .reconcilerMidBurial: try await cluster.process("gateway").crash()
        default: break
        }
        try await eventually("\(strike.name) has struck", within: 60) { await process.hasStruck }
        guard action == .stop else { return }
        // Who takes over from a worker that stands still.
        let other = strike.process == "worker" ? try await cluster.process("worker-2") : nil
        try await other?.start()
        await hold(Self.freeze)
        try await process.resume()
        try await other?.stop()
    }

    /// Five a second.
    private func killBackends() async throws {
        for _ in 0..<(plan.outage.components.seconds * 5) {
            async let pause: Void = hold(.milliseconds(200))
            try await cluster.postgres.execute(
                """
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'crmm%'
                ORDER BY random() LIMIT 1
                """)
            await pause
        }
    }

    /// Runs statements as the owner in a session of their own, however long they take.
    private func inSession(_ statements: String) async throws {
        let session = try Running(
            "/usr/bin/psql", ["-q", cluster.postgres.url("owner"), "-c", statements],
            log: "\(cluster.scratch.path)/session-\(name)")
        guard await session.child.wait() == .exited(0) else {
            throw TooLate(description: "the session of \(name) failed: \(text(of: "\(session.outputPath)"))")
        }
    }
}

/// How many strikes are not over.
private final class Open: Sendable {
    private let count: Atomic<Int>

    init(_ count: Int) { self.count = Atomic(count) }

    var isOpen: Bool { count.load(ordering: .relaxed) > 0 }

    func close() { count.subtract(1, ordering: .relaxed) }
}
