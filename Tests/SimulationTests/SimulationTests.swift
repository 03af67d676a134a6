import Foundation
import Logging
import Redis
import Streams
import Testing

/// The queue on a virtual clock, with seeded faults.
///
/// `CLOUDRMM_SIMULATION_SEEDS` says how many worlds are played, `CLOUDRMM_SIMULATION_SEED` plays one and
/// prints its steps.
@Suite(.serialized) struct SimulationTests {
    @Test("Thousands of worlds keep every rule, and reach every interleaving")
    func worlds() async throws {
        let fleet = try await Fleet()
        if let seed = Fleet.setting("CLOUDRMM_SIMULATION_SEED").flatMap({ UInt64($0) }) {
            let outcome = try await fleet.play(World.Plan(seed: seed, isTraced: true, auditEvery: 1))
            for line in outcome.trace { print(line) }
            for violation in outcome.violations { Issue.record("\(violation)") }
            return try await fleet.close()
        }
        let count = Fleet.setting("CLOUDRMM_SIMULATION_SEEDS").flatMap { Int($0) } ?? 10_000
        let first = Fleet.base
        let report = try await fleet.play(seeds: first..<first + UInt64(count))
        try await fleet.close()
        print(report.description(first: first))
        for (seed, violation) in report.failures.prefix(10) {
            Issue.record("CLOUDRMM_SIMULATION_SEED=\(seed): \(violation)")
        }
        #expect(report.failures.isEmpty)
        if count >= 2_000 {
            let missing = Set(Interleaving.allCases).subtracting(report.reached.keys)
            #expect(missing.isEmpty, "no seed reached \(missing.sorted())")
        }
    }
}
