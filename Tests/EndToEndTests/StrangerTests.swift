import Client
import Domain
import Outbound
import Process
import Testing
import Wire

extension EndToEndTests.HealthyTests {
    /// Devices that are not who they say: at enrolment, and at the gateway's door.
    @Suite(.serialized) struct StrangerTests {
        private let up: UpInstance
        private let raw: RawAPI

        init() throws {
            up = try #require(UpInstance.current)
            raw = RawAPI(
                url: try #require(up.readiness["apiURL"]),
                certificateAuthority: try #require(up.readiness["caCertificate"]))
        }

        private func enrollment(_ token: String, _ request: String) -> [UInt8] {
            NewEnrollment(
                token: token, request: request, hostname: "stranger", platform: "linux", agentVersion: "0",
                machineId: nil
            ).json
        }

        /// A certificate request that openssl makes.
        private func request(_ scratch: Scratch, _ options: String...) async throws -> String {
            try await tool(
                "/usr/bin/openssl",
                ["req", "-new", "-nodes", "-batch", "-keyout", "\(scratch.path)/request.key"] + options
            ).required()
        }

        private static let p256 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]

        @Test("tokens that are changed, used up or expired enrol nobody")
        func tokens() async throws {
            let fleet = try await up.fleet("tokens")
            let good = try await tool(
                "/usr/bin/openssl",
                [
                    "req", "-new", "-nodes", "-batch", "-subj", "/CN=x", "-keyout",
                    "\(fleet.scratch.path)/request.key",
                ]
                    + Self.p256
            ).required()
            let token = try await fleet.token()
            // One changed character anywhere: of the site, the uses, the signature.
            let characters = Array(token)
            for index in stride(from: 0, to: characters.count, by: 3) {
                var changed = characters
                changed[index] = changed[index] == "A" ? "B" : "A"
                let problem = try await raw.problem(
                    "POST", "/v1/enrollments", body: enrollment(String(changed), good))
                #expect(problem.field == "token", "character \(index): \(problem)")
            }
            for nonsense in ["x", "....", String(repeating: "A", count: 4_096)] {
                let problem = try await raw.problem(
                    "POST", "/v1/enrollments", body: enrollment(nonsense, good))
                #expect(problem.field == "token", "\(problem)")
            }
            let expiring = try await fleet.api.createEnrollmentToken(
                NewEnrollmentToken(siteId: fleet.site, expiresInSeconds: 1))
            #expect(try await fleet.api.devices(organization: fleet.organization).items.isEmpty)

            let directory = try fleet.scratch.directory("token-agent")
            #expect(
                try await fleet.enroll(token: token, into: directory).exit == .exited(0),
                "none of that used it up")
            let second = try fleet.scratch.directory("token-second")
            let usedUp = try await fleet.enroll(token: token, into: second)
            #expect(usedUp.exit == .exited(3) && usedUp.errors.contains("used up"), "\(usedUp)")
            #expect(try listDirectory(second).contains("identity.json") == false)

            try await eventually("the token has expired") {
                let problem = try await raw.problem(
                    "POST", "/v1/enrollments", body: enrollment(expiring.token, "no request"))
                return problem.code == "expiredToken" && problem.detail.contains("expired")
            }
            #expect(try await fleet.api.devices(organization: fleet.organization).items.count == 1)
        }

        @Test("a request with another kind of key is refused; names of its own choice are ignored")
        func requests() async throws {
            let fleet = try await up.fleet("requests")
            let token = try await fleet.token()
            let rsa = try await request(fleet.scratch, "-newkey", "rsa:2048", "-subj", "/CN=x")
            let p384 = try await request(
                fleet.scratch, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp384r1", "-subj", "/CN=x")
            for (what, wrong) in [
                ("RSA", rsa), ("P-384", p384), ("no PEM", "nonsense"), ("cut", String(rsa.dropLast(90))),
            ] {
                let problem = try await raw.problem("POST", "/v1/enrollments", body: enrollment(token, wrong))
                Refused(status: 422, code: "invalid", field: "request").check(problem, what)
            }
            let long = enrollment(token, String(repeating: "A", count: Limits.requestBytesMax + 1))
            Refused(status: 422, code: "invalid", field: "request", says: ["\(Limits.requestBytesMax)"])
                .check(try await raw.problem("POST", "/v1/enrollments", body: long), "too long")
            #expect(try await fleet.api.devices(organization: fleet.organization).items.isEmpty)

            let victim = try await fleet.agent("victim").device
            let ambitious = try await tool(
                "/usr/bin/openssl",
                [
                    "req", "-new", "-nodes", "-batch", "-keyout", "\(fleet.scratch.path)/request.key",
                    "-subj",
                    "/CN=\(victim)/O=CloudRMM", "-addext",
                    "subjectAltName=URI:cloudrmm://x/device/x/\(victim)",
                    "-addext", "basicConstraints=critical,CA:TRUE",
                ] + Self.p256
            ).required()
            let enrolled = try Enrollment.decode(
                try await raw.send("POST", "/v1/enrollments", body: enrollment(token, ambitious)).body)
            #expect(enrolled.deviceId != victim)
            let certificate = try await tool(
                "/usr/bin/openssl", ["x509", "-noout", "-text"], input: enrolled.certificate
            ).required()
            #expect(!certificate.contains("\(victim)") && certificate.contains("\(enrolled.deviceId)"))
            #expect(certificate.contains("CA:FALSE") && !certificate.contains("CA:TRUE"))
        }

        @Test("a device that is revoked loses its session within five seconds, and is let in no more")
        func revoked() async throws {
            let fleet = try await up.fleet("revoked")
            let agent = try await fleet.onlineAgent("revoked")
            let revoked = try await fleet.api.revoke(agent.device).items
            #expect(revoked.count == 1 && revoked[0].revokedAt != nil)
            try await eventually("its session has ended", within: 5) {
                try await !fleet.api.device(agent.device).online
            }
            // It tries again, and is told why it is not let in.
            try await eventually("the agent was told") {
                (text(of: "\(agent.log).err") + text(of: "\(agent.log).out"))
                    .contains("the certificate is revoked")
            }
            #expect(try await !fleet.api.device(agent.device).online)
            _ = try await agent.stop()
        }

        /// A plain request to the gateway; no answer comes unless the TLS session stands.
        private func knock(_ options: String...) async throws -> ToolResult {
            let gateway = try #require(up.readiness["gatewayURL"]).replacing("wss://", with: "https://")
            return try await tool(
                "/usr/bin/curl",
                [
                    "-sS", "-i", "--max-time", "10", "--cacert", raw.certificateAuthority,
                    "\(gateway)/agent/connect",
                ]
                    + options)
        }

        @Test(
            "the gateway talks to nobody without a certificate of its devices' authority, nor below TLS 1.3"
        )
        func gatewayDoor() async throws {
            let fleet = try await up.fleet("door")
            let agent = try await fleet.agent("door")
            let own = ["--cert", "\(agent.directory)/certificate.pem", "--key", "\(agent.directory)/key.pem"]
            let welcome = try await knock(own[0], own[1], own[2], own[3])
            #expect(welcome.output.hasPrefix("HTTP/1.1 426"), "a device is heard: \(welcome)")

            let place = fleet.scratch.path
            let made = try await tool(
                "/usr/bin/openssl",
                [
                    "req", "-x509", "-nodes", "-batch", "-days", "1", "-keyout", "\(place)/own.key", "-out",
                    "\(place)/own.pem", "-subj", "/CN=CloudRMM device CA", "-addext",
                    "subjectAltName=URI:cloudrmm://x/device/\(fleet.organization)/\(agent.device)",
                ] + Self.p256)
            #expect(made.exit == .exited(0), "\(made)")
            let strangers = [
                try await knock(), try await knock("--cert", "\(place)/own.pem", "--key", "\(place)/own.key"),
                try await knock(own[0], own[1], own[2], own[3], "--tls-max", "1.2"),
                // The authority of servers vouches for no device.
                try await knock(
                    "--cert", "\(up.data)/keys/server.pem", "--key", "\(up.data)/keys/server.pem"),
            ]
            for stranger in strangers {
                #expect(stranger.exit != .exited(0) && stranger.output.isEmpty, "\(stranger)")
            }
            try await agent.start()
            try await fleet.untilOnline(agent.device)
            _ = try await agent.stop()
        }
    }
}
