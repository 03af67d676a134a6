import Domain
import Ledger
import Postgres
import Redis
import Streams
import TestSupport
import Testing

@testable import Engine

/// Runs that limits keep out of the queue are told which, with their numbers.
@Suite(.serialized, .world) struct ExplainLimitTests {
    private func explainer(_ bench: Bench) -> Explainer {
        Explainer(ledger: bench.world.api, rates: QueueRates(front: bench.front))
    }

    private func explain(
        _ bench: Bench, _ run: RunID, _ tenant: TestSupport.Tenant
    ) async throws -> (facts: RunFacts, explanation: RunExplanation) {
        let found = try await explainer(bench).facts(of: run, scope: tenant.scope)
        let facts = try #require(found)
        return (facts, RunExplanation(facts))
    }

    private func limit(
        _ bench: Bench, _ tenant: TestSupport.Tenant, _ limits: RunLimits
    ) async throws {
        try await bench.world.api.setRunLimits(limits, of: tenant.organization, scope: tenant.scope)
        _ = try await bench.reconciler.checkLimits()
    }

    /// What counts a run on the first device by the scope, and what a run that finds it full waits for.
    private static let scopes: [(LimitScope, WaitCause, says: String)] = [
        (.job, .jobCap, "under its job's cap: 1 of 1 are under way"),
        (.site, .siteCap, "under its site's cap: 1 of 1 are under way"),
        (.kind, .kindCap, "under the cap of kind script: 1 of 1 are under way"),
        (.device, .deviceCap, "under the cap of device host: 1 of 1 are under way"),
        (.lane, .deviceLaneCap, "under the cap of its lane of device host: 1 of 1 are under way"),
    ]

    @Test(
        "A full limit of each scope is named with its load, set for each or for one",
        arguments: [false, true])
    func scopes(forOne: Bool) async throws {
        #expect(Self.scopes.map(\.0) == LimitScope.allCases)
        try await Bench.run { bench in
            for (scope, cause, says) in Self.scopes {
                let tenant = try await bench.world.tenant()
                let device = tenant.all[0]
                _ = try await Post.open(bench, holding: tenant.all)
                let (job, runs) = try await bench.world.submit(tenant, [device, device])
                let lanes = RunLane.all(
                    job: job, site: tenant.sites[0], kind: "script", device: device, lane: .script)
                let lane = try #require(lanes.first { $0.scope == scope })
                try await limit(
                    bench, tenant, RunLimits(running: [forOne ? lane : RunLane(scope, ""): 1]))
                await bench.front.offer([], and: [tenant.organization.queue()])
                // One that has not read the limits of before.
                let refiller = Refiller(ledger: bench.world.worker, front: bench.front, logger: .quiet)
                #expect(try await refiller.refillOnce() == 1)
                let order = runs.map(\.run).sorted()
                let admitted = try await explain(bench, order[0], tenant)
                #expect(admitted.explanation.cause == .turn && admitted.facts.fullLimits.isEmpty)
                let (facts, held) = try await explain(bench, order[1], tenant)
                #expect(held.cause == cause && held.others.isEmpty, "\(scope): \(held)")
                #expect(held.sentence.contains(says), "\(held.sentence)")
                #expect(facts.fullLimits.map(\.load) == [RunFacts.Load(1, of: 1)])
                let (_, whole) = try #require(
                    try await explainer(bench).explain(job, scope: tenant.scope))
                #expect(Set(whole.groups.map(\.cause)) == [.turn, cause])
                try await limit(bench, tenant, RunLimits(running: [RunLane(scope, ""): 2]))
                #expect(try await explain(bench, order[1], tenant).explanation.cause == .turn)
            }
        }
    }

    @Test("The rate is named with the time of the next start, and goes after limits that are full")
    func rate() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 4)
            _ = try await Post.open(bench, holding: tenant.all)
            let (job, runs) = try await bench.world.submit(tenant, tenant.all)
            // One in a hundred seconds, two at once.
            let rate = RunLimits.Rate(perSecond: 0.01, burst: 2)
            try await limit(bench, tenant, RunLimits(rate: rate))
            let order = runs.map(\.run).sorted()
            #expect(try await explain(bench, order[0], tenant).explanation.cause == .turn)
            await bench.front.offer([], and: [tenant.organization.queue()])
            #expect(try await bench.refiller.refillOnce() == 2)
            let (facts, held) = try await explain(bench, order[3], tenant)
            #expect(held.cause == .rateLimit && held.until == facts.rateLimitedUntil)
            let wait = try #require(held.until) - facts.now
            #expect(wait > .seconds(60) && wait <= .seconds(101), "\(wait)")
            #expect(held.sentence.contains("rate limit, which lets a run start at"))
            #expect(try await explain(bench, order[0], tenant).explanation.cause == .turn)
            try await limit(
                bench, tenant, RunLimits(running: [RunLane(.job, "\(job)"): 1], rate: rate))
            let both = try await explain(bench, order[3], tenant).explanation
            #expect(both.cause == .jobCap && both.others == [.rateLimit])
            // The time has come: nothing holds it back but its turn.
            try await bench.raw("ZADD", "rates", 1, .string("\(tenant.organization)"))
            try await limit(bench, tenant, RunLimits(rate: rate))
            #expect(try await explain(bench, order[3], tenant).explanation.cause == .turn)
        }
    }
}
