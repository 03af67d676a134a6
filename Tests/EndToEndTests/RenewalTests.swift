import Client
import Domain
import Process
import Testing
import Wire

extension EndToEndTests.HealthyTests {
    /// A device's certificate is renewed in the session that it opened.
    @Suite(.serialized) struct RenewalTests {
        private let up: UpInstance

        init() throws { up = try #require(UpInstance.current) }

        @Test("a device that wants one is issued another certificate, works on, and comes back with it")
        func renewed() async throws {
            let fleet = try await up.fleet("renewal")
            let agent = try await fleet.agent("renewal")
            let file = "\(agent.directory)/certificate.pem"
            let before = try readFile(file, max: 65_536)
            try await agent.start(["--renew-certificate", "yes"])
            try await eventually("another certificate lies in the agent's directory") {
                try readFile(file, max: 65_536) != before
            }
            func run() async throws -> Run {
                try await fleet.outcome(try await fleet.submit(Script(.sh, "true"), on: [agent.device]))
            }
            #expect(try await run().state == .succeeded)
            _ = try await agent.stop()
            try await eventually("the device has left") {
                let device = try await fleet.api.device(agent.device)
                return !device.online && device.offlineReason == "left"
            }
            try await agent.start()
            try await fleet.untilOnline(agent.device)
            #expect(try await run().state == .succeeded)
            let certificates = try await fleet.api.certificates(of: agent.device).items
            #expect(certificates.count == 2 && certificates.allSatisfy { $0.revokedAt == nil })
            #expect(try await fleet.api.device(agent.device).clockSkewMilliseconds != nil)
            // Both end with the device.
            _ = try await fleet.api.revoke(agent.device)
            try await eventually("the device is sent away") {
                try await !fleet.api.device(agent.device).online
            }
            _ = try await agent.stop()
        }
    }
}
