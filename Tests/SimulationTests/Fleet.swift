import Foundation
import Logging
import Redis
import Streams

/// Plays worlds side by side on one connection, each under a prefix of its own.
struct Fleet {
    private let connection: RedisConnection
    private let keyNames: [String]
    private static let sideBySide = 32

    /// What a world came to.
    struct Outcome: Sendable {
        let seed: UInt64
        let reached: Set<Interleaving>
        let violations: [String]
        let trace: [String]
        let steps: Int
        let calls: Int
    }

    /// What many worlds came to.
    struct Report {
        var reached: [Interleaving: Int] = [:]
        var failures: [(UInt64, String)] = []
        var seeds: Range<UInt64> = 0..<0
        var worlds = 0
        var steps = 0
        var calls = 0
        var time = Duration.zero

        mutating func add(_ outcome: Outcome) {
            worlds += 1
            steps += outcome.steps
            calls += outcome.calls
            for interleaving in outcome.reached { reached[interleaving, default: 0] += 1 }
            if let violation = outcome.violations.first { failures.append((outcome.seed, violation)) }
        }

        mutating func add(_ other: Report) {
            reached.merge(other.reached, uniquingKeysWith: +)
            failures += other.failures
        }

        var description: String {
            let rate = Int(Double(worlds) / (time / .seconds(1)))
            let counts = Interleaving.allCases.map { "\($0) \(reached[$0] ?? 0)" }.joined(separator: ", ")
            return """
                simulation: \(worlds) worlds from seed \(seeds.lowerBound) on, \(steps) steps, \
                \(calls) calls, \(time), \(rate) seeds/s, \(failures.count) failed
                simulation: reached by so many seeds: \(counts)
                """
        }
    }

    static func setting(_ name: String) -> String? { ProcessInfo.processInfo.environment[name] }

    /// The first seed of a run of tests: another one each day.
    static var base: UInt64 {
        setting("CLOUDRMM_SIMULATION_BASE").flatMap { UInt64($0) }
            ?? UInt64(Date.now.timeIntervalSince1970 / 86_400) * 1_000_000
    }

    /// The first seed where a rule is taken out: the same each day, so that it is found or not by the worlds
    /// and not by the date.
    static var plantedBase: UInt64 {
        setting("CLOUDRMM_SIMULATION_BASE").flatMap { UInt64($0) } ?? 3_000_000
    }

    init(mistake: Mistake? = nil) async throws {
        var configuration = try RedisConfiguration(url: Self.setting("CLOUDRMM_TEST_REDIS_URL") ?? "")
        // A database of its own, so that a rebuild's scan finds no keys of other suites.
        configuration.database = 11
        connection = RedisConnection(
            configuration: configuration,
            logger: Logger(label: "simulation") { _ in SwiftLogNoOpLogHandler() })
        keyNames = try VirtualLibrary.keyNames()
        // What a run that was killed has left.
        _ = try await connection.send(RedisCommand("FLUSHDB"))
        try await connection.load(VirtualLibrary.source(mistake))
    }

    func close() async throws { await connection.close() }

    /// Plays one world.
    func play(_ plan: World.Plan, slot: Int = 0) async throws -> Outcome {
        let world = World(plan, slot: slot, connection: connection, keyNames: keyNames)
        try await world.play()
        return await world.outcome
    }

    /// Plays worlds until all are played, or until one fails where that is what is looked for.
    func play(
        seeds: Range<UInt64>, mistake: Mistake? = nil, lapse: Lapse? = nil, untilFailure: Bool = false
    ) async throws -> Report {
        let tally = Tally(seeds)
        let start = ContinuousClock.now
        try await withThrowingTaskGroup(of: Void.self) { group in
            for slot in 0..<Self.sideBySide {
                group.addTask {
                    while let seed = await tally.next(untilFailure: untilFailure) {
                        let plan = World.Plan(
                            seed: seed, mistake: mistake, lapse: lapse,
                            aim: seed % 2 == 0 ? nil : mistake?.aim ?? lapse?.aim)
                        await tally.add(try await play(plan, slot: slot))
                    }
                }
            }
            try await group.waitForAll()
        }
        var report = await tally.report
        report.seeds = seeds
        report.time = ContinuousClock.now - start
        return report
    }
}

/// Hands out seeds and takes in what they came to.
private actor Tally {
    private var seeds: Range<UInt64>
    private(set) var report = Fleet.Report()

    init(_ seeds: Range<UInt64>) { self.seeds = seeds }

    func next(untilFailure: Bool) -> UInt64? {
        untilFailure && !report.failures.isEmpty ? nil : seeds.popFirst()
    }

    func add(_ outcome: Fleet.Outcome) { report.add(outcome) }
}
