import Client
import Domain
import Process
import Testing
import Wire

extension EndToEndTests {
    /// What a process with the gateway's role alone needs of the installation's keys, and what it never does.
    @Suite(.serialized, SeparateProcesses()) struct GatewayFilesTests {
        private let installation: Installation
        /// What a gateway is given, and what it makes beside it.
        private let given = ["device-ca.pem", "server.pem"]
        private let made = ["tickets.key", "tickets.lock"]

        init() throws { installation = try #require(Installation.current) }

        /// A directory of keys with some of the gateway's files, as they are copied to another host.
        private func copy(_ names: [String], as directory: String) throws -> String {
            let keys = try installation.scratch.directory(directory)
            try Directory.make("\(keys)/gateway", mode: 0o700)
            for name in names {
                let bytes = try readFile("\(installation.keys)/gateway/\(name)", max: 65_536)
                try DurableFile.write(bytes, to: "\(keys)/gateway/\(name)")
            }
            return keys
        }

        @Test("a gateway that is given its two files, none of them another role's secret, serves an agent")
        func alone() async throws {
            let keys = try copy(given, as: "alone")
            #expect(try listDirectory("\(installation.keys)/gateway") == given, "more is not to be copied")
            try await installation.crash(.gateway)
            let (gateway, _) = try await installation.startGateway(
                keys: keys, port: installation.gatewayPort)
            #expect(try listDirectory(keys) == ["gateway"])
            #expect(try listDirectory("\(keys)/gateway") == given + made)

            let secrets = [
                "root.seed", "job.seed", "mac.key", "server-ca.key", "device-ca.key", "server.pem",
                "sealing.key",
            ]
            // Heads are codes over what the database has, and come with the first entry and revocation.
            let others = try listDirectory(installation.keys).filter {
                !$0.hasSuffix("-ca.pem") && !["audit.heads", "revocations.head"].contains($0)
            }
            #expect(
                Set(others) == Set(secrets + ["deployment", "gateway", "keyset", "root.pub"]),
                "each file is looked at here")
            for name in given + made {
                let content = try readFile("\(keys)/gateway/\(name)", max: 65_536)
                for secret in secrets {
                    for part in try Self.secretParts(of: "\(installation.keys)/\(secret)") {
                        #expect(!content.contains(part), "\(secret) in \(name)")
                    }
                }
            }

            let fleet = try await installation.fleet("alone")
            let agent = try await fleet.onlineAgent("alone")
            let job = try await fleet.submit(Script(.sh, "echo served"), on: [agent.device])
            let run = try await fleet.outcome(job)
            #expect(try await fleet.api.output(of: run.id).stdout == "served\n")
            _ = try await agent.stop()
            #expect(try await gateway.stop() == .exited(0))
            try await installation.start(.gateway)
        }

        /// A raw secret as it is, and of a PEM the first line of its private key.
        private static func secretParts(of path: String) throws -> [[UInt8]] {
            let bytes = try readFile(path, max: 65_536)
            guard let text = String(validating: bytes, as: UTF8.self), text.contains("-----BEGIN") else {
                return [bytes]
            }
            let lines = text.split(separator: "\n").map(String.init)
            let header = try #require(lines.firstIndex(of: "-----BEGIN PRIVATE KEY-----"))
            return [Array(lines[header + 1].utf8)]
        }

        @Test("a gateway names the file that is missing, what it is and how to get it", arguments: [0, 1])
        func missing(index: Int) async throws {
            let keys = try copy([given[1 - index]], as: "missing-\(index)")
            let result = try await installation.runGateway(keys: keys)
            #expect(result.exit == .exited(1), "\(result)")
            let sentence = "\(keys)/gateway/\(given[index]) is missing: the certificate"
            #expect(result.errors.contains(sentence) && result.errors.contains("copy that directory"))
            #expect(try listDirectory("\(keys)/gateway") == [given[1 - index]], "nothing is made instead")
        }

        @Test("gateways that share a directory resume each other's sessions; with another they do not")
        func resumption() async throws {
            let fleet = try await installation.fleet("resumption")
            let agent = try await fleet.agent("resumption")
            let session = "\(installation.scratch.path)/session"
            /// Connects as the device does, with the session that was kept if there is one.
            func connect(to port: Int) async throws -> String {
                let kept = fileExists(session) ? ["-sess_in", session] : []
                let options = [
                    "s_client", "-connect", "localhost:\(port)", "-ign_eof", "-CAfile",
                    installation.certificateAuthority, "-verify_return_error", "-cert",
                    "\(agent.directory)/certificate.pem", "-key", "\(agent.directory)/key.pem", "-sess_out",
                    session,
                ]
                let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                let said = try await tool("/usr/bin/openssl", options + kept, input: request).required()
                #expect(said.contains("426 Upgrade Required"))
                return said.contains("Reused, TLSv1.3") ? "resumed" : "new"
            }
            let shared = try copy(given, as: "shared")
            let (first, firstPort) = try await installation.startGateway(keys: shared)
            let (second, secondPort) = try await installation.startGateway(keys: shared)
            let (third, thirdPort) = try await installation.startGateway(keys: copy(given, as: "apart"))
            #expect(try await connect(to: firstPort) == "new")
            #expect(try await connect(to: secondPort) == "resumed")
            #expect(try await connect(to: firstPort) == "resumed")
            #expect(try await connect(to: thirdPort) == "new")
            // A gateway that starts again reads the keys that it had.
            #expect(try await first.stop() == .exited(0))
            #expect(try await connect(to: secondPort) == "new")
            let (again, port) = try await installation.startGateway(keys: shared)
            #expect(try await connect(to: port) == "resumed")
            for gateway in [second, third, again] { #expect(try await gateway.stop() == .exited(0)) }
        }

        @Test("a role starts from a file of settings alone", arguments: Installation.RoleName.allCases)
        func fromFile(_ role: Installation.RoleName) async throws {
            try await installation.crash(role)
            let process = try await installation.startFromFile(role)
            #expect(try await process.stop() == .exited(0))
            try await installation.start(role)
        }
    }
}
