import Foundation
import NIOCore
import Testing
import Trust

@Suite struct InteroperabilityTests {
    let authorities = TestAuthorities.shared

    private func files(_ folder: TemporaryFolder) throws -> (ca: String, certificate: String, key: String) {
        (
            try folder.write("ca.pem", authorities.serverCA.certificate.pem),
            try folder.write("device.pem", authorities.device.certificate.pem),
            try folder.write("device.key", authorities.device.key.pem)
        )
    }

    @Test("openssl s_client speaks to a channel, with certificate and protocol")
    func opensslClient() async throws {
        let context = try authorities.serverContext(clientCA: authorities.deviceCA, alpn: ["rmm/1"])
        let server = try await TestServer.start(context) {
            CannedResponse(Array("hello from the channel".utf8))
        }
        let folder = try TemporaryFolder()
        let (ca, certificate, key) = try files(folder)
        let arguments = [
            "s_client", "-connect", "127.0.0.1:\(server.port)", "-CAfile", ca, "-verify_return_error",
            "-verify_hostname", "gateway.test", "-alpn", "rmm/1", "-crlf", "-ign_eof",
        ]
        let good = try await Tool.run(
            "openssl", arguments + ["-cert", certificate, "-key", key], input: "GET / HTTP/1.1\n\n")
        #expect(good.status == 0)
        #expect(good.output.contains("hello from the channel"))
        #expect(good.output.contains("ALPN protocol: rmm/1") && good.output.contains("TLSv1.3"))
        #expect(good.output.contains("Verify return code: 0 (ok)"))
        let anonymous = try await Tool.run("openssl", arguments, input: "GET / HTTP/1.1\n\n")
        #expect(!anonymous.output.contains("hello"))
        try await server.stop()
    }

    @Test("TLS 1.2 is refused by a listener of 1.3 and served by one of 1.2")
    func versions() async throws {
        func attempt(minimum: TLSContext.Version) async throws -> Tool.Result {
            let context = try authorities.serverContext(clientCA: nil, minimum: minimum)
            let server = try await TestServer.start(context) { CannedResponse(Array("hello".utf8)) }
            let result = try await Tool.run(
                "openssl",
                ["s_client", "-connect", "127.0.0.1:\(server.port)", "-tls1_2", "-crlf", "-ign_eof"],
                input: "GET / HTTP/1.1\n\n")
            try await server.stop()
            return result
        }
        let refused = try await attempt(minimum: .v13)
        #expect(refused.status != 0 && refused.errors.contains("protocol version"))
        #expect(!refused.output.contains("hello"))
        let served = try await attempt(minimum: .v12)
        #expect(served.status == 0 && served.output.contains("hello") && served.output.contains("TLSv1.2"))
    }

    @Test("curl fetches from a channel, in both versions, and refuses it without the authority")
    func curl() async throws {
        let body = Array(repeating: UInt8(ascii: "x"), count: 300_000)
        let context = try authorities.serverContext(clientCA: nil, minimum: .v12, alpn: ["http/1.1"])
        let server = try await TestServer.start(context) { CannedResponse(body) }
        let folder = try TemporaryFolder()
        let ca = try files(folder).ca
        func fetch(_ options: String...) async throws -> Tool.Result {
            try await Tool.run(
                "curl",
                ["--silent", "--show-error", "--noproxy", "*", "https://127.0.0.1:\(server.port)/"] + options)
        }
        for options in [["--tlsv1.3"], ["--tls-max", "1.2"]] {
            let result = try await fetch(
                "--cacert", ca, options[0], options.count > 1 ? options[1] : "--compressed")
            #expect(result.status == 0 && Array(result.output.utf8) == body, "\(result.errors)")
        }
        let refused = try await fetch()
        #expect(refused.status == 60 && refused.output.isEmpty)
        try await server.stop()
    }

    @Test("a blocking client speaks to openssl s_server and notices when it is killed")
    func opensslServer() async throws {
        let folder = try TemporaryFolder()
        let certificate = try folder.write("server.pem", authorities.server.certificate.pem)
        let key = try folder.write("server.key", authorities.server.key.pem)
        let deviceCA = try folder.write("devices.pem", authorities.deviceCA.certificate.pem)
        let client = try authorities.clientContext(identity: authorities.device, alpn: ["rmm/1"])
        try await Tool.blocking {
            let (process, output) = (Process(), Pipe())
            process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
            process.arguments = [
                "s_server", "-accept", "127.0.0.1:0", "-cert", certificate, "-key", key, "-CAfile", deviceCA,
                "-Verify",
                "1", "-verify_return_error", "-alpn", "rmm/1", "-rev",
            ]
            process.standardOutput = output
            process.standardError = FileHandle.nullDevice
            try process.run()
            defer { process.terminate() }
            var text = ""
            while !text.contains("ACCEPT ") || !text.hasSuffix("\n") {
                let more = output.fileHandleForReading.availableData
                try #require(!more.isEmpty)
                text += String(decoding: more, as: UTF8.self)
            }
            let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("ACCEPT ") })
            let port = try #require(line.split(separator: ":").last.flatMap { Int($0) })
            let stream = try TLSStream.connect(
                host: "127.0.0.1", port: port, context: client, serverName: "localhost")
            #expect(try stream.handshakeResult().alpn == "rmm/1")
            try stream.write(Array("stressed\n".utf8))
            var answer: [UInt8] = []
            while answer.last != UInt8(ascii: "\n") { answer += try stream.read() }
            #expect(String(decoding: answer, as: UTF8.self) == "desserts\n")
            kill(process.processIdentifier, SIGKILL)
            #expect {
                _ = try stream.read()
            } throws: { ($0 as? TrustError)?.code == .truncated }
            process.waitUntilExit()
        }
    }

    @Test("sessions of real channels are freed when the channels close")
    func freed() async throws {
        let context = try authorities.serverContext(clientCA: nil)
        let closed = Signal()
        let server = try await TestServer.start { channel in
            try channel.pipeline.syncOperations.addHandlers(TLSHandler(context: context), Echo())
            channel.closeFuture.whenComplete { _ in channel.eventLoop.execute { closed.raise() } }
        }
        let client = try authorities.clientContext(identity: nil)
        for isPolite in [true, false] {
            try await server.connect(client) { stream in
                try stream.write([1])
                #expect(try stream.read() == [1])
                #expect(context.sessionCount == 1)
                if isPolite { stream.close() }
            }
            #expect(try await Tool.blocking { closed.wait() })
            #expect(context.sessionCount == 0 && client.sessionCount == 0)
        }
        try await server.stop()
    }
}
