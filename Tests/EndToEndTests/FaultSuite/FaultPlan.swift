import Faults
import History

/// One thing that is done to an installation under load.
enum Strike: Sendable, Hashable {
    /// A process dies or freezes at a named point, at the passage that is said. A frozen one stays so for
    /// longer than a lease and a heartbeat, then goes on.
    case point(FaultPoint, Fault.Action, passage: Int)
    /// Redis loses everything; is killed and started with, or without, what it had written; is away; has no
    /// memory left; cannot write its append-only file.
    case redisFlushed, redisKilled, redisEmptied, redisAway, redisFull, redisDiskFull
    /// The master of Redis dies; stands still until its replica is the master, and goes on; changes places
    /// with its replica.
    case redisMasterKilled, redisMasterFrozen, redisMasterSwitched
    /// PostgreSQL is restarted; its backends are killed five a second; a lock holds every connection of the
    /// services; a transaction holds the oldest snapshot.
    case postgresRestarted, postgresBackendsKilled, postgresLocked, postgresSnapshotHeld

    /// As the log and the plan name it.
    var name: String {
        if case .point(let point, let action, let passage) = self {
            return "\(point.rawValue):\(action):\(passage)"
        }
        return "\(self)"
    }

    /// Whether only tasks pass where it strikes.
    var isOfTasks: Bool {
        guard case .point(let point, _, _) = self else { return false }
        return ["pool.", "tasks."].contains(where: point.rawValue.hasPrefix)
    }

    /// The process that it strikes, for those at a point.
    var process: String? {
        guard case .point(let point, _, _) = self else { return nil }
        switch point.rawValue.prefix(while: { $0 != "." }) {
        case "api": return "api"
        case "gateway": return "gateway"
        case "agent": return "agent-a"
        default: return "worker"
        }
    }

    /// Whether it needs a Redis with a replica and sentinels.
    var isOfSentinels: Bool {
        switch self {
        case .redisMasterKilled, .redisMasterFrozen, .redisMasterSwitched: true
        case .point, .redisFlushed, .redisKilled, .redisEmptied, .redisAway, .redisFull, .redisDiskFull,
            .postgresRestarted, .postgresBackendsKilled, .postgresLocked, .postgresSnapshotHeld:
            false
        }
    }
}

/// What is done to one installation: one round after the other, each with a load of its own.
struct ClusterPlan: Sendable {
    let name: String
    /// The passage at which its first migrator dies.
    let migrationStep: Int
    /// The strikes of each round happen at once.
    let rounds: [[Strike]]
    /// Jobs for each agent in each round.
    let jobsPerAgent: [Int]

    /// Whether its Redis has a replica and sentinels, by which alone all processes know it.
    var hasSentinels: Bool { rounds.contains { $0.contains(where: \.isOfSentinels) } }
}

/// The plan of a whole run, which its seed decides.
struct FaultPlan: Sendable {
    let seed: UInt64
    let clusters: [ClusterPlan]
    /// How long what is away stays away, and how long the snapshot is held.
    let outage: Duration
    let snapshot: Duration
    /// How long jobs may take to end once everything works again.
    var recoverySeconds = 120

    /// Every named point, every freeze and every trouble of the servers, on installations side by side.
    static func full(seed: UInt64, isLong: Bool) -> FaultPlan {
        var draws = Seed(seed, part: "points")
        func kills(_ points: [FaultPoint]) -> [Strike] {
            points.map { .point($0, .kill, passage: passage($0, &draws)) }
        }
        func points(_ prefix: String) -> [FaultPoint] {
            FaultPoint.allCases.filter { $0.rawValue.hasPrefix(prefix) }
        }
        func stop(_ points: [FaultPoint]) -> Strike {
            let point = points[Int.random(in: 0..<points.count, using: &draws)]
            return .point(point, .stop, passage: passage(point, &draws))
        }
        let upkeep = points("refiller") + points("reconciler") + points("rebuilder")
        let parts: [(String, [Strike])] = [
            (
                "dispatcher",
                kills(points("dispatcher")) + [
                    .point(.dispatcherAfterClaim, .stop, passage: 1), stop([.dispatcherAfterMark]),
                ]
            ),
            // In two: a device whose sessions come and go all the time is served later and later.
            ("gateway-in", kills([.gatewayAfterRead, .gatewayAfterSend, .gatewayAfterResult])),
            (
                "gateway-out",
                kills([
                    .gatewayBeforeCommit, .gatewayAfterCommit, .gatewayBeforeAcknowledge,
                    .gatewayAfterAcknowledge,
                ])
            ),
            ("gateway-frozen", [stop(points("gateway"))]),
            (
                "redis",
                [.redisFlushed, .redisKilled, .redisEmptied, .redisAway, .redisFull, .redisDiskFull]
            ),
            ("failover", [.redisMasterKilled, .redisMasterFrozen, .redisMasterSwitched]),
            ("upkeep", kills(upkeep)),
            ("agent", kills(points("agent")) + [stop(points("agent"))]),
            ("api", kills(points("api")) + [stop(points("api"))]),
            ("postgres", [.postgresRestarted, .postgresBackendsKilled, .postgresLocked]),
            (
                "tasks",
                kills(points("pool") + points("tasks")) + [
                    .point(.poolAfterEffect, .stop, passage: 1), stop([.poolAfterClaim, .poolAfterMark]),
                ]
            ),
        ]
        var clusters = parts.map { name, strikes in
            cluster(name, strikes.map { [$0] }, seed: seed)
        }
        // Beside a snapshot that is held, everything at once.
        var storm = Seed(seed, part: "storm")
        let rounds = (0..<3).map { index in
            everywhere(&storm) + (index == 0 ? [.postgresSnapshotHeld] : [])
        }
        clusters.insert(cluster("storm", rounds, seed: seed, isShuffled: false), at: 0)
        return FaultPlan(
            seed: seed, clusters: clusters, outage: isLong ? .seconds(60) : .seconds(10),
            snapshot: isLong ? .seconds(600) : .seconds(120))
    }

    /// Four rounds on one installation: at a point of each process at once, and a trouble of each server.
    static func short(seed: UInt64) -> FaultPlan {
        var draws = Seed(seed, part: "short")
        let redis: [Strike] = [.redisFlushed, .redisKilled, .redisEmptied]
        let rounds = [
            everywhere(&draws), [redis.randomElement(using: &draws) ?? .redisFlushed],
            [.postgresBackendsKilled], everywhere(&draws, worker: "pool"),
        ]
        return FaultPlan(
            seed: seed, clusters: [cluster("short", rounds, seed: seed, isShuffled: false)],
            outage: .seconds(3), snapshot: .seconds(3))
    }

    /// The violations that can be planted in a copy of the product, the rules that find each, and the strike
    /// that brings it to light.
    static let plants: [(name: String, rules: Set<Violation.Rule>, strikes: [Strike])] = [
        (
            "acknowledgeBeforeCommit", [.outputLost],
            [.point(.gatewayBeforeCommit, .kill, passage: 1)]
        ),
        (
            "journalUnsynced", [.journalLost, .startedTwice],
            [
                .point(.agentAfterExecution, .kill, passage: 2),
                .point(.agentBeforeUpload, .kill, passage: 2),
            ]
        ),
        (
            "markAfterInbox", [.startedTwice, .wrongEnd, .lost],
            [.point(.dispatcherAfterInbox, .kill, passage: 1)]
        ),
        (
            "fenceRemoved", [.startedTwice, .wrongEnd, .lost],
            // Twice: a gateway that has just taken a new incarnation, as the first may have, is not alive to
            // who claimed before, and nothing is marked for it.
            [
                .point(.dispatcherAfterClaim, .stop, passage: 1),
                .point(.dispatcherAfterClaim, .stop, passage: 1),
            ]
        ),
    ]

    /// The strikes of these plants on one installation, one after the other.
    static func planted(_ plants: [String]) -> FaultPlan {
        let strikes = Self.plants.filter { plants.contains($0.name) }.flatMap(\.strikes)
        let cluster = ClusterPlan(
            name: "planted-\(plants.count == 1 ? plants[0] : "none")", migrationStep: 1,
            rounds: strikes.map { [$0] },
            jobsPerAgent: strikes.map { _ in 8 })
        return FaultPlan(
            seed: 0, clusters: [cluster], outage: .seconds(3), snapshot: .seconds(3), recoverySeconds: 40)
    }

    /// A point of each process, all in one round.
    private static func everywhere(_ draws: inout Seed, worker: String = "dispatcher") -> [Strike] {
        ["api", "gateway", worker, "agent"].compactMap { prefix in
            let points = FaultPoint.allCases.filter { $0.rawValue.hasPrefix(prefix) }
            return points.randomElement(using: &draws).map {
                .point($0, .kill, passage: passage($0, &draws))
            }
        }
    }

    private static func cluster(
        _ name: String, _ rounds: [[Strike]], seed: UInt64, isShuffled: Bool = true
    ) -> ClusterPlan {
        var draws = Seed(seed, part: name)
        let rounds = isShuffled ? rounds.shuffled(using: &draws) : rounds
        return ClusterPlan(
            name: name, migrationStep: .random(in: 1...2, using: &draws), rounds: rounds,
            jobsPerAgent: rounds.map { _ in .random(in: 8...24, using: &draws) })
    }

    /// Points that whole batches pass are passed seldom, those of single frames often.
    private static func passage(_ point: FaultPoint, _ draws: inout Seed) -> Int {
        switch point {
        case .agentBeforeJournal, .agentAfterJournal, .agentBeforeExecution, .agentAfterExecution,
            .agentBeforeUpload, .gatewayAfterResult:
            .random(in: 1...6, using: &draws)
        case .rebuilderMidWay: .random(in: 1...3, using: &draws)
        case .reconcilerMidDeadlines, .reconcilerMidExpansion, .reconcilerMidBurial,
            .dispatcherAfterWaiting, .tasksMidDeadlines, .migratorMidStep:
            1
        default: .random(in: 1...3, using: &draws)
        }
    }

    /// The plan in words: what a seed stands for.
    var text: String {
        clusters.map { cluster in
            "\(cluster.name): "
                + cluster.rounds.map { $0.map(\.name).joined(separator: " + ") }.joined(separator: ", ")
        }.joined(separator: "\n")
    }
}
