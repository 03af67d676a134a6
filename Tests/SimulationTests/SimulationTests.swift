import Foundation
import Logging
import Redis
import Streams
import Testing

/// The queue on a virtual clock, with seeded faults.
///
/// `CLOUDRMM_SIMULATION_SEEDS` says how many worlds are played, `CLOUDRMM_SIMULATION_SEED` plays one and
/// prints its steps. One test at a time: they share a database of the server.
@Suite(.serialized) struct SimulationTests {
    /// As many as a busy machine of two cores plays in less than a minute, with those of the rules taken out.
    private static let worldsByDefault = 400

    @Test("Thousands of worlds keep every rule, and reach every interleaving")
    func worlds() async throws {
        let fleet = try await Fleet()
        if let seed = Fleet.setting("CLOUDRMM_SIMULATION_SEED").flatMap({ UInt64($0) }) {
            let outcome = try await fleet.play(World.Plan(seed: seed, isTraced: true, auditEvery: 1))
            for line in outcome.trace { print(line) }
            for violation in outcome.violations { Issue.record("\(violation)") }
            return try await fleet.close()
        }
        let count = Fleet.setting("CLOUDRMM_SIMULATION_SEEDS").flatMap { Int($0) } ?? Self.worldsByDefault
        // The first half is the same each day, so that what it reaches is no matter of luck.
        let fixed = UInt64(max(1, count / 2))
        var report = try await fleet.play(seeds: 1..<1 + fixed)
        print(report.description)
        let first = Fleet.base
        let another = try await fleet.play(seeds: first..<first + UInt64(count) - fixed)
        try await fleet.close()
        print(another.description)
        report.add(another)
        for (seed, violation) in report.failures.prefix(10) {
            Issue.record("CLOUDRMM_SIMULATION_SEED=\(seed): \(violation)")
        }
        #expect(report.failures.isEmpty)
        if count >= 2_000 {
            let missing = Set(Interleaving.allCases).subtracting(report.reached.keys)
            #expect(missing.isEmpty, "no seed reached \(missing.sorted())")
        }
    }

    // MARK: What the simulation is worth: each rule is taken out, and it has to find that.

    @Test("A rule taken out of the library is missed within 500 worlds", arguments: Mistake.allCases)
    func mistake(_ mistake: Mistake) async throws {
        let fleet = try await Fleet(mistake: mistake)
        let report = try await fleet.play(
            seeds: Fleet.plantedBase..<Fleet.plantedBase + 500, mistake: mistake, untilFailure: true)
        try await fleet.close()
        print(
            "simulation: \(mistake) found in \(report.worlds) worlds: \(report.failures.first?.1 ?? "never")")
        #expect(!report.failures.isEmpty)
    }

    @Test("A rule taken out of the processes is missed within 500 worlds", arguments: Lapse.allCases)
    func lapse(_ lapse: Lapse) async throws {
        let fleet = try await Fleet()
        let report = try await fleet.play(
            seeds: Fleet.plantedBase..<Fleet.plantedBase + 500, lapse: lapse, untilFailure: true)
        try await fleet.close()
        print("simulation: \(lapse) found in \(report.worlds) worlds: \(report.failures.first?.1 ?? "never")")
        #expect(!report.failures.isEmpty)
    }
}
