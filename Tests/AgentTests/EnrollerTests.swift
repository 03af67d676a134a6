import Domain
import NIOCore
import NIOPosix
import Process
import Testing
import Trust
import Wire

@testable import Agent

@Suite("Enroller", .timeLimit(.minutes(1))) struct EnrollerTests {
    private let fixture: Fixture

    init() throws { fixture = try Fixture() }

    private func enroller(_ token: String? = nil, port: Int = 1) throws -> Enroller {
        try Enroller(
            apiURL: "https://localhost:\(port)", token: token ?? fixture.token(),
            serverCA: fixture.serverCA.certificate.pem)
    }

    private func message(_ body: () throws -> Void) -> String {
        do {
            try body()
            return "accepted"
        } catch { return (error as? AgentError)?.message ?? "\(error)" }
    }

    @Test("tokens and CA files that are none, or do not belong together, are refused with a sentence")
    func tokens() throws {
        #expect(message { _ = try enroller("no token") } == "this is not an enrolment token")
        #expect(
            message { _ = try enroller(String(repeating: "A", count: 5_000)) }
                == "an enrolment token has at most 4096 characters")
        #expect(
            message { _ = try enroller(fixture.token(serverCA: fixture.deviceCA)) }
                == "the CA file is not the CA that the token names")
        #expect(
            message { _ = try Enroller(apiURL: "http://h", token: fixture.token(), serverCA: "x") }
                == "\"http://h\" must begin with https://")
        #expect(
            message { _ = try Enroller(apiURL: "https://h", token: fixture.token(), serverCA: "x") }
                == "the CA file holds no certificate")
        let expired = try enroller(fixture.token(expiresIn: 10))
        #expect(
            message { _ = try expired.enroll(hostname: "h", machineID: nil, now: fixture.now + .seconds(10)) }
                .hasPrefix("the enrolment token expired at "))
    }

    @Test("an answer is accepted only if it fits the token in everything")
    func answers() throws {
        let enroller = try enroller()
        let key = P256Key()
        func judge(_ change: (inout Enrollment) throws -> Void) -> String {
            message {
                var enrollment = try fixture.enrollment(key: key)
                try change(&enrollment)
                _ = try enroller.judge(enrollment, key: key, now: fixture.now)
            }
        }
        #expect(judge { _ in } == "accepted")
        #expect(
            judge { $0 = try fixture.enrollment(key: key, rootKey: SigningKey()) }
                == "the root key is not the token's")
        #expect(judge { $0.deploymentId = .new(at: fixture.now) } == "the deployment is not the token's")
        #expect(
            judge { $0.keySet = Base64Bytes(fixture.keySet(by: SigningKey())) }
                == "the server's answer does not hold")
        #expect(
            judge { $0.assignment = Base64Bytes(fixture.assignment(key: key, by: SigningKey())) }
                == "the server's answer does not hold")
        #expect(
            judge { $0.assignment = Base64Bytes(fixture.assignment()) }
                == "the assignment is another device's or for another key")
        #expect(
            judge { $0.deviceId = .new(at: fixture.now) }
                == "the assignment is another device's or for another key")
        let site = fixture.assignment(key: key, site: .new(at: fixture.now))
        #expect(
            judge { $0.assignment = Base64Bytes(site) } == "the assignment is for another site than the token"
        )
        let partner = fixture.assignment(key: key, partner: .new(at: fixture.now))
        #expect(
            judge { $0.assignment = Base64Bytes(partner) }
                == "the assignment is for another partner than the token")
        let organization = fixture.assignment(key: key, organization: .new(at: fixture.now))
        #expect(
            judge { $0.assignment = Base64Bytes(organization) }
                == "the assignment is for another organization than the token")
        #expect(
            judge { $0 = try fixture.enrollment(key: key, certificateKey: P256Key()) }
                == "the certificate is for another key")
        #expect(judge { $0.gatewayUrl = "ws://localhost" } == "\"ws://localhost\" must begin with wss://")
        let otherCA = KeySetPayload(
            version: 1, jobKeys: [fixture.signer.publicKey.bytes], serverCA: fixture.serverCA.certificate.pem,
            deviceCA: fixture.serverCA.certificate.pem)
        #expect(
            judge { $0.keySet = Base64Bytes(fixture.sign(.keySet, otherCA, by: fixture.root)) }
                == "the key set's device CA is not the token's")
    }

    @Test(
        "an enrolment over TLS fills the directory, a second one is refused, problems are the server's words"
    )
    func overTLS() async throws {
        try await withDirectory { directory in
            let data = try DataDirectory("\(directory)/agent")
            let refusing = try await CannedAPI.start(fixture) { _ in
                (409, Array(#"{"detail":"the token is\u001b[2J used up"}"#.utf8), true)
            }
            let refused = try enroller(port: refusing.port)
            #expect(
                await onThread { try refused.enroll(into: data, now: fixture.now) }
                    == "the server refused the enrolment: the token is[2J used up")
            #expect(!data.isEnrolled)

            let api = try await CannedAPI.start(fixture) { request in
                // The key is the device's own, so the answer is made of its request.
                let body = try NewEnrollment.decode(request)
                let own = try CertificateRequest(pem: body.request)
                let certificate = try fixture.deviceCA.issueDevice(
                    request: own,
                    deviceURI:
                        "cloudrmm://\(fixture.deployment)/device/\(fixture.organization)/\(fixture.device)")
                var enrollment = try fixture.enrollment(key: fixture.key)
                enrollment.certificate = certificate.pem
                let assignment = AssignmentPayload(
                    device: fixture.device, keyHash: certificate.publicKeyHash, partner: fixture.partner,
                    site: fixture.site,
                    version: 1)
                enrollment.assignment = Base64Bytes(fixture.sign(.assignment, assignment))
                return (201, enrollment.json, false)
            }
            let enroller = try enroller(port: api.port)
            #expect(await onThread { try enroller.enroll(into: data, now: fixture.now) } == "accepted")
            let loaded = try data.load()
            #expect(loaded.verifier.device == fixture.device && loaded.gatewayURL == "wss://localhost:3002")
            #expect(try JSON.parse(AgentStatus(data).json)["running"] == .bool(false))
            #expect(
                await onThread { try enroller.enroll(into: data, now: fixture.now) }.hasPrefix(
                    "a device is enrolled in "))
            try await refusing.stop()
            try await api.stop()
        }
    }

    @Test("of a CA file with several certificates only the one that the token names is believed")
    func severalAuthorities() async throws {
        let stranger = try CertificateAuthority.make(commonName: "stranger", validitySeconds: 60)
        let api = try await CannedAPI.start(fixture, by: stranger) { _ in (409, Array("{}".utf8), false) }
        let enroller = try Enroller(
            apiURL: "https://localhost:\(api.port)", token: fixture.token(),
            serverCA: fixture.serverCA.certificate.pem + stranger.certificate.pem)
        let now = fixture.now
        let message = await onThread { try enroller.enroll(hostname: "h", machineID: nil, now: now) }
        #expect(message != "the server refused the enrolment with status 409", "the stranger was believed")
        try await api.stop()
    }

    private func onThread(_ body: @escaping @Sendable () throws -> Identity) async -> String {
        do {
            return try await onOwnThread("enroll") { () throws(ProcessError) in
                do {
                    _ = try body()
                    return "accepted"
                } catch { return (error as? AgentError)?.message ?? "\(error)" }
            }
        } catch { return "\(error)" }
    }

    @Test("addresses are taken apart, and what is none is refused")
    func addresses() throws {
        #expect(try ServiceAddress("https://h", scheme: "https").port == 443)
        let address = try ServiceAddress("wss://[::1]:3002/base/", scheme: "wss")
        #expect(
            address.host == "::1" && address.port == 3002 && address.path == "/base"
                && address.authority == "[::1]:3002")
        for bad in [
            "https://", "https://h:0", "https://h:x", "https://h:70000", "https://u@h", "https://h?q",
            "http://h", "h", "https://h /", "https://[::1]x",
        ] {
            #expect(throws: AgentError.self) { try ServiceAddress(bad, scheme: "https") }
        }
    }
}

@Suite("HTTP answers") struct HTTPAnswerTests {
    private func read(_ text: String, pieces: Int = 1) throws -> HTTPAnswer? {
        var reader = HTTPAnswerReader()
        let bytes = Array(text.utf8)
        for start in stride(from: 0, to: bytes.count, by: pieces) {
            if let answer = try reader.next() { return answer }
            try reader.take(Array(bytes[start..<min(start + pieces, bytes.count)]))
        }
        return try reader.next()
    }

    @Test("answers with a length and in chunks read the same, however they are cut", arguments: 1...40)
    func framings(_ pieces: Int) throws {
        let expected = HTTPAnswer(status: 201, body: Array("hello".utf8))
        #expect(
            try read("HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello", pieces: pieces) == expected)
        #expect(
            try read(
                "HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n"
                    + "2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
                pieces: pieces)
                == expected)
    }

    @Test("an answer that is too large, of no known framing or not HTTP is refused")
    func refusals() {
        for bad in [
            "HTTP/1.1 200 OK\r\nContent-Length: 262145\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "SMTP hello\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40001\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\nX: " + String(repeating: "x", count: 20_000),
        ] {
            #expect(throws: AgentError.self, "\(bad.prefix(80))") { try read(bad, pieces: 4_096) }
        }
    }

    @Test("an answer that ends in the middle is an error and not a wait")
    func truncated() throws {
        var reader = HTTPAnswerReader()
        try reader.take(Array("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe".utf8))
        #expect(try reader.next() == nil)
        try reader.take([])
        #expect(try reader.next() == nil)
        #expect(throws: AgentError.self) { try reader.take([]) }
    }
}

/// An API with one answer, over TLS.
private struct CannedAPI {
    typealias Answer = @Sendable ([UInt8]) throws -> (status: Int, body: [UInt8], isChunked: Bool)

    let channel: any Channel
    var port: Int { channel.localAddress?.port ?? 0 }

    static func start(
        _ fixture: Fixture, by authority: CertificateAuthority? = nil, answer: @escaping Answer
    ) async throws -> CannedAPI {
        let key = P256Key()
        let certificate = try (authority ?? fixture.serverCA).issueServer(
            for: key, dnsNames: ["localhost"], ipAddresses: [], validitySeconds: 3_600)
        let tls = try TLSContext.server(
            certificatePEM: certificate.pem, keyPEM: key.pem, clientCA: nil, minimum: .v12)
        let channel = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandlers(
                        TLSHandler(context: tls), Handler(answer: answer))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        return CannedAPI(channel: channel)
    }

    func stop() async throws { try await channel.close() }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        private let answer: Answer
        private var request: [UInt8] = []

        init(answer: @escaping Answer) { self.answer = answer }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            request += Array(unwrapInboundIn(data).readableBytesView)
            let text = String(decoding: request, as: UTF8.self)
            guard let head = text.range(of: "\r\n\r\n"), text.hasSuffix("}") else { return }
            #expect(text.hasPrefix("POST /v1/enrollments HTTP/1.1\r\n"))
            do {
                let (status, body, isChunked) = try answer(Array(text[head.upperBound...].utf8))
                let framing = isChunked ? "Transfer-Encoding: chunked" : "Content-Length: \(body.count)"
                var bytes = Array("HTTP/1.1 \(status) Whatever\r\n\(framing)\r\n\r\n".utf8)
                bytes +=
                    isChunked
                    ? Array("\(String(body.count, radix: 16))\r\n".utf8) + body + Array("\r\n0\r\n\r\n".utf8)
                    : body
                context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: bytes)), promise: nil)
            } catch {
                Issue.record("\(error)")
                context.close(promise: nil)
            }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    }
}

extension String {
    /// The first place of a text.
    fileprivate func range(of text: String) -> Range<String.Index>? {
        indices.first { self[$0...].hasPrefix(text) }.map { $0..<index($0, offsetBy: text.count) }
    }
}
