import Domain
import Ledger
import TestSupport
import Testing
import Trust
import Wire

@testable import Gateway

/// Traces go only to agents that asked for them, and decide nothing.
@Suite(.serialized, .world) struct TraceTests {
    @Test(
        "An attempt carries its job's trace to an agent that asked, and what that says is settled alike",
        arguments: [false, true])
    func dispatch(asked: Bool) async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let contexts = try await bench.enroll(tenant)
            let agent = try await TestAgent.connect(
                bench, try #require(contexts[tenant.all[0]]),
                features: asked ? .traces : [])
            _ = try await agent.welcome()
            let trace = TraceContext.new()
            var job = bench.world.job(tenant, devices: tenant.all)
            job.trace = trace
            let runs = try await bench.world.api.submit([job], scope: tenant.scope).queued
            _ = try await bench.dispatch(runs)
            guard case .frame(.dispatch(let dispatch))? = await agent.next() else {
                Issue.record("no dispatch")
                return
            }
            #expect(dispatch.trace == (asked ? trace : nil))
            // Another trace than its job's: a word that is not believed, and no reason to refuse the result.
            let finished = AgentFrame.finished(
                Finished(name: dispatch.name, outcome: .succeeded, finishedAt: .now()))
            try await agent.send(asked ? finished.carrying(.new()) : finished)
            #expect(await agent.next() == .frame(.acknowledged(dispatch.name)))
            #expect(try await bench.world.state(dispatch.name.run) == .succeeded)
            #expect(try await bench.world.api.job(job.id, scope: tenant.scope)?.trace == trace)
        }
    }

    @Test("A job without a trace is sent without one")
    func none() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let contexts = try await bench.enroll(tenant)
            let agent = try await TestAgent.connect(
                bench, try #require(contexts[tenant.all[0]]),
                features: .traces)
            _ = try await agent.welcome()
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            _ = try await bench.dispatch(runs)
            guard case .frame(.dispatch(let dispatch))? = await agent.next() else {
                Issue.record("no dispatch")
                return
            }
            #expect(dispatch.trace == nil)
        }
    }
}
