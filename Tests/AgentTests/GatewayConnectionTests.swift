import Domain
import NIOPosix
import NIOWebSocket
import Testing
import Trust
import Wire

@testable import Agent

@Suite("Gateway connection", .timeLimit(.minutes(1))) struct GatewayConnectionTests {
    private let fixture: Fixture

    init() throws { fixture = try Fixture() }

    private func open(_ gateway: TestGateway, _ frames: Mailbox<GatewayFrame> = Mailbox()) async throws
        -> GatewayConnection
    {
        let tls = try TLSContext.client(
            trustedCA: fixture.serverCA.certificate.pem,
            certificatePEM: fixture.certificate(for: fixture.key).pem,
            keyPEM: fixture.key.pem, alpn: ["http/1.1"])
        let hello = Hello(
            agentVersion: "1", hostname: "h", platform: "linux", keySetVersion: 1, assignmentVersion: 1,
            journalPosition: 0, held: [], ended: [])
        return try await GatewayConnection.open(
            ServiceAddress("wss://localhost:\(gateway.port)", scheme: "wss"), tls: tls,
            on: MultiThreadedEventLoopGroup.singleton.next(), hello: { _ in hello },
            receive: { frames.put($1) })
    }

    /// A session that is welcomed on both ends.
    private func withSession(
        _ body: (TestSession, GatewayConnection, Mailbox<GatewayFrame>) async throws -> Void
    ) async throws {
        let gateway = try await TestGateway.start(fixture)
        let frames = Mailbox<GatewayFrame>()
        let connection = try await open(gateway, frames)
        let session = try await gateway.welcomedSession()
        guard case .welcome = try await frames.next() else { throw MailboxClosed() }
        try await body(session, connection, frames)
        connection.close()
        _ = await connection.ended()
        try await gateway.stop()
    }

    @Test("frames go both ways in their order, also large ones")
    func frames() async throws {
        try await withSession { session, connection, frames in
            let names = (0..<100).map { _ in fixture.name() }
            for name in names { connection.send(.accepted(Accepted(name: name, journalPosition: 1))) }
            for name in names {
                let frame = try await session.next()
                #expect(frame.acceptedName == name)
            }
            let large = Dispatch(name: names[0], job: [UInt8](repeating: 7, count: 3_000_000))
            session.send(.dispatch(large))
            session.send(.cancel(names[1]))
            let (first, second) = (try await frames.next(), try await frames.next())
            #expect(first == .dispatch(large) && second == .cancel(names[1]))
        }
    }

    @Test("a frame that is none ends the session with code 4400")
    func nonsense() async throws {
        for text in ["{}", "no json", #"{"type":"hello"}"#, #"{"type":"pong","seq":1,"more":1}"#] {
            try await withSession { session, connection, _ in
                session.send(text: Array(text.utf8))
                let code = try await session.left()
                #expect(code == WebSocketErrorCode(codeNumber: 4400))
                #expect(await connection.ended().reason.hasPrefix("the gateway sent a malformed frame"))
            }
        }
    }

    @Test("a frame over the limit ends the session")
    func tooLarge() async throws {
        try await withSession { session, connection, _ in
            session.send(text: [UInt8](repeating: UInt8(ascii: " "), count: Limits.frameBytesMax + 1))
            // Nothing behind it is read any more.
            session.send(.pong(1))
            #expect(await connection.ended().reason.hasPrefix("the connection failed"))
        }
    }

    @Test("the gateway's close code and reason are known at the end; leaving says 1001")
    func ends() async throws {
        try await withSession { session, connection, _ in
            session.close(code: 4409)
            #expect(
                await connection.ended()
                    == .init(code: 4409, reason: "the gateway closed the session: because"))
        }
        try await withSession { session, connection, _ in
            connection.close()
            let code = try await session.left()
            #expect(code == .goingAway)
        }
    }

    @Test(
        "a server that is not the gateway is refused: another subprotocol, name, CA or a device's certificate"
    )
    func strangers() async throws {
        let key = P256Key()
        let strange = try CertificateAuthority.make(commonName: "stranger", validitySeconds: 60)
        let gateways = [
            try await TestGateway.start(fixture, subprotocol: "cloudrmm.agent.v2"),
            try await TestGateway.start(
                fixture,
                serverCertificate: fixture.serverCA.issueServer(
                    for: key, dnsNames: ["elsewhere"], ipAddresses: [], validitySeconds: 60), serverKey: key),
            try await TestGateway.start(
                fixture,
                serverCertificate: strange.issueServer(
                    for: key, dnsNames: ["localhost"], ipAddresses: [], validitySeconds: 60), serverKey: key),
            try await TestGateway.start(
                fixture, serverCertificate: fixture.certificate(for: key), serverKey: key),
        ]
        for gateway in gateways {
            await #expect(throws: AgentError.self) { try await open(gateway) }
            try await gateway.stop()
        }
        await #expect(throws: AgentError.self, "nobody listens there") { try await open(gateways[0]) }
    }
}
