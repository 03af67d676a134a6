import Domain
import Ledger
import TestSupport
import Testing
import Trust
import Wire

@testable import Gateway

/// What both ends agree on, and what a gateway notes of how a device is and how it went.
@Suite(.serialized, .world, .timeLimit(.minutes(1))) struct AgreementTests {
    @Test("What both know is agreed on: an agent is told the limits and the time, and its own is noted")
    func agreed() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let context = try #require(try await bench.enroll(tenant)[tenant.all[0]])
            let plain = try await TestAgent.connect(bench, context).welcome()
            #expect(plain.limits == nil && plain.at == nil)
            var hello = Hello.example()
            hello.at = .now() + .seconds(-7_200)
            let agent = try await TestAgent.connect(bench, context, hello: hello, features: .known)
            let welcome = try await agent.welcome()
            #expect(welcome.limits == .own)
            #expect(abs((try #require(welcome.at) - .now()).components.seconds) < 60)
            try await bench.until {
                let row = try await bench.world.api.device(tenant.all[0], scope: tenant.scope)
                return abs((row?.clockSkewMilliseconds ?? 0) + 7_200_000) < 60_000
            }
        }
    }

    @Test("An agent that took leave is told from one that vanished and from one whose session was closed")
    func departures() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let device = tenant.all[0]
            let context = try #require(try await bench.enroll(tenant)[device])
            var session = 0
            func departure(_ end: (TestAgent) async throws -> Void) async throws -> Departure? {
                session += 1
                var hello = Hello.example()
                hello.hostname = "host-\(session)"
                let agent = try await TestAgent.connect(bench, context, hello: hello)
                _ = try await agent.welcome()
                var row: DeviceRow?
                try await bench.until {
                    row = try await bench.world.api.device(device, scope: tenant.scope)
                    return row?.hostname == hello.hostname
                }
                #expect(row?.departure == .vanished)
                let begun = row?.lastSeenAt
                try await end(agent)
                try await bench.until {
                    row = try await bench.world.api.device(device, scope: tenant.scope)
                    return row?.lastSeenAt != begun
                }
                return row?.departure
            }
            #expect(try await departure { try await $0.takeLeave() } == .left)
            #expect(try await departure { try await $0.leave() } == .vanished)
            let closed = try await departure { _ in
                bench.gateway.end(bench.gateway.sessions.all)
            }
            #expect(closed == .closed)
        }
    }
}
