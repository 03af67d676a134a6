import Faults
import Testing

/// A plan is the seed's, and the whole one leaves nothing out.
struct FaultPlanTests {
    @Test("the whole plan kills at every point, freezes every kind of process, strikes every server")
    func isWhole() {
        for seed in UInt64(1)...50 {
            let plan = FaultPlan.full(seed: seed, isLong: false)
            let strikes = plan.clusters.flatMap(\.rounds).flatMap(\.self)
            var (killed, frozen): (Set<FaultPoint>, Set<String>) = ([], [])
            for case .point(let point, let action, let passage) in strikes {
                #expect(passage > 0)
                if action == .kill { killed.insert(point) } else { frozen.insert(strikeProcess(point)) }
            }
            // The migrator dies before each installation.
            #expect(Set(FaultPoint.allCases).subtracting(killed) == [.migratorMidStep])
            #expect(frozen == ["api", "gateway", "agent-a", "worker"])
            let servers: [Strike] = [
                .redisFlushed, .redisKilled, .redisEmptied, .redisAway, .redisFull, .redisDiskFull,
                .redisMasterKilled, .redisMasterFrozen, .redisMasterSwitched, .postgresRestarted,
                .postgresBackendsKilled, .postgresLocked, .postgresSnapshotHeld,
            ]
            #expect(Set(servers).isSubset(of: strikes))
            #expect(plan.clusters.allSatisfy { $0.rounds.count == $0.jobsPerAgent.count })
            #expect(Set(plan.clusters.map(\.name)).count == plan.clusters.count)
            // Whose Redis has a replica is struck by nothing that is for a single one.
            for cluster in plan.clusters where cluster.hasSentinels {
                #expect(!cluster.rounds.joined().contains { !$0.isOfSentinels }, "\(cluster.name)")
            }
        }
    }

    private func strikeProcess(_ point: FaultPoint) -> String {
        Strike.point(point, .stop, passage: 1).process ?? ""
    }

    @Test("the same seed gives the same plan, another one another")
    func isTheSeeds() {
        let plans = (UInt64(1)...20).map { FaultPlan.full(seed: $0, isLong: false).text }
        #expect(plans == (UInt64(1)...20).map { FaultPlan.full(seed: $0, isLong: true).text })
        #expect(Set(plans).count == plans.count)
        let short = (UInt64(1)...20).map { FaultPlan.short(seed: $0).text }
        #expect(short == (UInt64(1)...20).map { FaultPlan.short(seed: $0).text })
        #expect(Set(short).count == short.count)
    }

    @Test("a round of the short plan strikes each role at once")
    func short() {
        let rounds = FaultPlan.short(seed: 7).clusters[0].rounds
        #expect(rounds.map(\.count) == [4, 1, 1, 4])
        #expect(Set(rounds[0].map(\.process)) == ["api", "gateway", "worker", "agent-a"])
    }
}
