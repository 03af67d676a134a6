import Domain
import Engine
import Ledger
import TestSupport
import Testing
import Trust
import Wire

@testable import Gateway

/// Requests for certificates pass through the gateway to the API, and answers back.
@Suite(.serialized, .world, .timeLimit(.minutes(1))) struct RenewalTests {
    @Test("A request reaches the API once, and the device its answer; without the feature none is heard")
    func pass() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 2)
            let device = tenant.all[0]
            let contexts = try await bench.enroll(tenant)
            let context = try #require(contexts[device])
            let old = try await TestAgent.connect(bench, context)
            _ = try await old.welcome()
            try await old.send(.renew("x"))
            #expect(await old.next() == .closed(4400))

            let agent = try await TestAgent.connect(bench, context, features: .renewal)
            _ = try await agent.welcome()
            try await agent.send(.renew("request"))
            try await agent.send(.renew("another"))
            var open: [OpenRenewal] = []
            try await bench.until {
                open = try await bench.world.api.openRenewals(limit: 9)
                return !open.isEmpty
            }
            #expect(open.map(\.request) == ["request"] && open[0].assigned.device == device)
            let isNoted = try await bench.world.api.answer(
                open[0],
                with: RenewedCertificate(pem: "pem", serial: "5e", keyHash: [1], end: .now() + .seconds(9)))
            #expect(isNoted)
            #expect(await agent.next() == .frame(.renewed(Renewed(certificate: "pem"))))
            try await agent.send(.renew("another"))
            try await agent.send(.ping(1))
            #expect(await agent.next() == .frame(.pong(1)))
            #expect(bench.gateway.counters.snapshot["renewalsOverlooked"] == 2, "no sooner than in a while")
            #expect(try await bench.world.api.openRenewals(limit: 9).isEmpty)

            let second = tenant.all[1]
            let other = try await TestAgent.connect(
                bench, try #require(contexts[second]), features: .renewal)
            _ = try await other.welcome()
            try await other.send(.renew("request"))
            try await bench.until {
                open = try await bench.world.api.openRenewals(limit: 9)
                return !open.isEmpty
            }
            try await bench.world.api.refuse(open[0], "no")
            #expect(await other.next() == .frame(.renewed(Renewed(refusal: "no"))))
            for nonsense in ["\0", "é"] {
                let third = try await TestAgent.connect(
                    bench, try #require(contexts[second]), features: .renewal)
                _ = try await third.welcome()
                try await third.send(.renew(nonsense))
                #expect(await third.next() == .closed(4400))
            }
        }
    }
}
