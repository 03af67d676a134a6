import Client
import Domain
import History
import Process
import Testing
import Wire

extension EndToEndTests {
    /// Everything that can die dies, at named points and in the servers, under load; each installation's
    /// history is judged afterwards.
    ///
    /// The seed decides the plan and is printed; CLOUDRMM_FAULT_SEED repeats it. The full plan runs only
    /// where CLOUDRMM_FAULT_PLAN is `full`, or `long` (with outages of a minute).
    @Suite(.serialized) struct FaultSuiteTests {
        @Test(
            "a violation that is planted in the product is found, and without it there is none",
            .enabled(if: environmentVariable("CLOUDRMM_FAULT_PLAN") == "planted"), .timeLimit(.minutes(20)),
            arguments: (FaultPlan.plants.map(\.name) + [""]).filter { only ?? $0 == $0 })
        func planted(_ name: String) async throws {
            let plants = FaultPlan.plants.filter { $0.name == name }
            // The control: the same copy and all the strikes, and nothing planted.
            let plan = FaultPlan.planted(plants.isEmpty ? FaultPlan.plants.map(\.name) : [name])
            let (history, failure) = try await Self.history(
                of: plan.clusters[0], in: plan, variables: [("CLOUDRMM_PLANT", name)])
            let rules = Set(Checker.violations(in: history).map(\.rule))
            print("planted \(name): \(rules.map(\.rawValue).sorted())")
            guard let plant = plants.first else { return #expect(rules.isEmpty && failure == nil) }
            #expect(!rules.isDisjoint(with: plant.rules), "\(rules)")
            #expect(!rules.contains(.notStruck), "it struck")
        }

        @Test("no run is lost, started twice or recorded twice, whatever dies", .timeLimit(.minutes(40)))
        func faults() async throws {
            let seed =
                environmentVariable("CLOUDRMM_FAULT_SEED").flatMap(UInt64.init) ?? .random(in: 1...999_999)
            let plan =
                switch environmentVariable("CLOUDRMM_FAULT_PLAN") {
                case "full": FaultPlan.full(seed: seed, isLong: false)
                case "long": FaultPlan.full(seed: seed, isLong: true)
                default: FaultPlan.short(seed: seed)
                }
            print("fault plan of seed \(seed):\n\(plan.text)")
            var waiting = plan.clusters.filter { Self.only ?? $0.name == $0.name }[...]
            await withTaskGroup(of: Void.self) { group in
                for _ in 0..<Self.sideBySide {
                    if let next = waiting.popFirst() { group.addTask { await Self.run(next, of: plan) } }
                }
                while await group.next() != nil {
                    if let next = waiting.popFirst() { group.addTask { await Self.run(next, of: plan) } }
                }
            }
        }

        /// The one installation, or planted violation, that is wanted.
        private static let only = environmentVariable("CLOUDRMM_FAULT_CLUSTER")
        /// Installations at a time; two cores are full with them.
        private static let sideBySide = 3

        private static func run(_ plan: ClusterPlan, of whole: FaultPlan) async {
            do {
                let (history, failure) = try await history(of: plan, in: whole)
                if let failure { Issue.record("\(plan.name), seed \(whole.seed): \(failure)") }
                for violation in Checker.violations(in: history).prefix(20) {
                    Issue.record("\(plan.name), seed \(whole.seed): \(violation)")
                }
                let starts = history.events.count { $0.kind == .started }
                print("\(plan.name): \(history.events.count) events, \(starts) starts")
            } catch {
                Issue.record("\(plan.name), seed \(whole.seed): \(error)")
            }
        }

        /// Carries out the plan of an installation; what was seen is judged also where that ends early.
        private static func history(
            of plan: ClusterPlan, in whole: FaultPlan, variables: [(String, String)] = []
        ) async throws -> (History, failure: (any Error)?) {
            let cluster = try await FaultCluster(
                plan.name, migratorDiesAt: plan.migrationStep, variables: variables
            ) { scratch in
                plan.hasSentinels
                    ? .watched(try await WatchedRedis(scratch)) : .single(try await DurableRedis(scratch))
            }
            cluster.log.note(.plan, "seed \(whole.seed)\n\(whole.text)")
            var failure: (any Error)?
            do { try await perform(plan, of: whole, on: cluster) } catch { failure = error }
            try await cluster.stop()
            try cluster.log.keep(as: "\(plan.name)-\(whole.seed)", complaints: cluster.scratch.path)
            return (cluster.log.history, failure)
        }

        private static func perform(
            _ plan: ClusterPlan, of whole: FaultPlan, on cluster: FaultCluster
        ) async throws {
            var failure: (any Error)?
            for (index, strikes) in plan.rounds.enumerated() {
                let began = ContinuousClock.now
                // The rounds after one that failed are carried out, and everything is judged in the end.
                do {
                    try await Round(
                        cluster: cluster, plan: whole, name: "\(plan.name)-\(index)", strikes: strikes,
                        jobsPerAgent: plan.jobsPerAgent[index]
                    ).run()
                } catch {
                    failure = failure ?? error
                }
                let took = (ContinuousClock.now - began).components.seconds
                print("\(plan.name): \(strikes.map(\.name).joined(separator: " + ")) took \(took) s")
            }
            // What waited for the absent device runs now.
            try await cluster.absent?.process.start()
            try await cluster.untilAllEnded()
            await cluster.gatherStarts()
            try await cluster.gatherOutcomes()
            try await TaskLoad(cluster).gather()
            if let failure { throw failure }
        }
    }
}
