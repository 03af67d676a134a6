import Domain
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOWebSocket
import Synchronization
import Testing
import Trust
import Wire

@testable import Agent

/// A queue of what came, to be waited for.
final class Mailbox<Element: Sendable>: Sendable {
    private let stream: AsyncStream<Element>
    private let continuation: AsyncStream<Element>.Continuation

    init() { (stream, continuation) = AsyncStream.makeStream() }

    func put(_ element: Element) { continuation.yield(element) }

    func close() { continuation.finish() }

    /// The next element; throws when none will come.
    func next() async throws -> Element {
        for await element in stream { return element }
        throw MailboxClosed()
    }
}

struct MailboxClosed: Error {}

/// A gateway on a port of this machine that says what the test tells it to.
final class TestGateway: Sendable {
    let port: Int
    private let channel: any Channel
    private let sessions: Mailbox<TestSession>
    private let handshakes: Handshakes

    private init(channel: any Channel, sessions: Mailbox<TestSession>, handshakes: Handshakes) {
        self.handshakes = handshakes
        self.channel = channel
        self.sessions = sessions
        port = channel.localAddress?.port ?? 0
    }

    static func start(
        _ fixture: Fixture, subprotocol: String = GatewayConnection.subprotocol,
        serverCertificate: Certificate? = nil,
        serverKey: P256Key = P256Key(), features: Features = []
    ) async throws -> TestGateway {
        let certificate =
            try serverCertificate
            ?? fixture.serverCA.issueServer(
                for: serverKey, dnsNames: ["localhost"], ipAddresses: [], validitySeconds: 3_600)
        let tls = try TLSContext.server(
            certificatePEM: certificate.pem, keyPEM: serverKey.pem,
            clientCA: fixture.deviceCA.certificate.pem,
            minimum: .v13, alpn: ["http/1.1"])
        let sessions = Mailbox<TestSession>()
        let handshakes = Handshakes()
        let upgrader = NIOWebSocketServerUpgrader(
            maxFrameSize: Limits.frameBytesMax,
            shouldUpgrade: { channel, head in
                let isRight =
                    head.uri == GatewayConnection.path
                    && head.headers["sec-websocket-protocol"] == [GatewayConnection.subprotocol]
                let headers = HTTPHeaders([
                    ("Sec-WebSocket-Protocol", subprotocol), (Features.header, features.header),
                ])
                return channel.eventLoop.makeSucceededFuture(isRight ? headers : nil)
            },
            upgradePipelineHandler: { channel, _ in
                channel.eventLoop.makeCompletedFuture {
                    let session = TestSession(channel: channel)
                    try channel.pipeline.syncOperations.addHandlers(
                        NIOWebSocketFrameAggregator(
                            minNonFinalFragmentSize: 0, maxAccumulatedFrameCount: 64,
                            maxAccumulatedFrameSize: Limits.frameBytesMax),
                        FrameCollector(session: session))
                    sessions.put(session)
                }
            })
        let channel = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandlers(
                        TLSHandler(context: tls), HandshakeWatch(handshakes))
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline(
                        withServerUpgrade: (upgraders: [upgrader], completionHandler: { _ in }))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        return TestGateway(channel: channel, sessions: sessions, handshakes: handshakes)
    }

    /// Which handshakes so far resumed an earlier session.
    var resumptions: [Bool] { handshakes.resumed.withLock { $0 } }

    /// Waits for the next session and its hello.
    func session() async throws -> (TestSession, Hello) {
        let session = try await sessions.next()
        guard case .hello(let hello) = try await session.next() else { throw MailboxClosed() }
        return (session, hello)
    }

    /// Waits for the next session and welcomes it.
    func welcomedSession(
        _ welcome: Welcome = Welcome(session: 1, pingSeconds: 3_600, helloSeconds: 3_600)
    ) async throws -> TestSession {
        let (session, _) = try await session()
        session.send(.welcome(welcome))
        return session
    }

    func stop() async throws { try await channel.close() }
}

extension AgentFrame {
    /// The attempt that is accepted by this.
    var acceptedName: AttemptName? { if case .accepted(let accepted) = self { accepted.name } else { nil } }
}

/// One agent's session at a `TestGateway`.
final class TestSession: Sendable {
    private let channel: any Channel
    fileprivate let frames = Mailbox<AgentFrame>()
    fileprivate let closeCode = Mutex<WebSocketErrorCode?>(nil)

    fileprivate init(channel: any Channel) { self.channel = channel }

    func next() async throws -> AgentFrame { try await frames.next() }

    func send(_ frame: GatewayFrame) { send(text: frame.encoded) }

    func send(text: [UInt8]) {
        channel.writeAndFlush(
            WebSocketFrame(fin: true, opcode: .text, data: ByteBuffer(bytes: text)), promise: nil)
    }

    /// Says why and closes.
    func close(code: Int) {
        var data = ByteBuffer()
        data.write(webSocketErrorCode: WebSocketErrorCode(codeNumber: code))
        data.writeString("because")
        channel.writeAndFlush(WebSocketFrame(fin: true, opcode: .connectionClose, data: data), promise: nil)
        channel.close(promise: nil)
    }

    /// Waits for the agent to leave; the close code that it gave.
    func left() async throws -> WebSocketErrorCode? {
        do { while true { _ = try await frames.next() } } catch is MailboxClosed {}
        return closeCode.withLock { $0 }
    }
}

private final class Handshakes: Sendable {
    let resumed = Mutex<[Bool]>([])
}

private final class HandshakeWatch: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let handshakes: Handshakes

    init(_ handshakes: Handshakes) { self.handshakes = handshakes }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let done = event as? TLSHandshakeCompleted {
            handshakes.resumed.withLock { $0.append(done.resumed) }
        }
        context.fireUserInboundEventTriggered(event)
    }
}

private final class FrameCollector: ChannelInboundHandler {
    typealias InboundIn = WebSocketFrame

    private let session: TestSession

    init(session: TestSession) { self.session = session }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let frame = unwrapInboundIn(data)
        var bytes = frame.unmaskedData
        switch frame.opcode {
        case .text:
            do {
                session.frames.put(try AgentFrame.decode(bytes.readBytes(length: bytes.readableBytes) ?? []))
            } catch {
                Issue.record("the agent sent a malformed frame: \(error)")
            }
        case .connectionClose:
            session.closeCode.withLock { $0 = bytes.readWebSocketErrorCode() }
        default: break
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    func handlerRemoved(context: ChannelHandlerContext) { session.frames.close() }
}
