import Domain
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOWebSocket
import Synchronization
import Trust
import Wire

/// The gateway's port: TLS 1.3 with a device's certificate, one HTTP request that upgrades, then an agent's
/// session.
struct Listener {
    let group: MultiThreadedEventLoopGroup
    let tls: @Sendable () -> TLSContext
    let pace: SessionPace
    let connections: ConnectionCount
    let actions: AgentHandler.Actions

    static let path = "/agent/connect"
    static let subprotocol = "cloudrmm.agent.v1"

    /// Opens the port; 0 takes any free one.
    func bind(host: String, port: Int) async throws -> any Channel {
        do {
            return try await ServerBootstrap(group: group)
                .serverChannelOption(.backlog, value: 1_024)
                .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
                .childChannelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try connections.admit(channel)
                        try self.initialize(channel)
                    }
                }
                .bind(host: host, port: port).get()
        } catch {
            throw GatewayError(.bind, "the gateway cannot listen on \(host) port \(port): \(error)")
        }
    }

    private func initialize(_ channel: any Channel) throws {
        let pipeline = channel.pipeline.syncOperations
        let capture = PeerCapture(failed: actions.failed)
        try pipeline.addHandler(TLSHandler(context: tls()))
        try pipeline.addHandler(capture)
        let bound = NIOLoopBound(capture, eventLoop: channel.eventLoop)
        let upgrader = NIOWebSocketServerUpgrader(
            maxFrameSize: Limits.frameBytesMax, automaticErrorHandling: false,
            shouldUpgrade: { channel, head in
                channel.eventLoop.makeCompletedFuture { Self.answer(head) }
            },
            upgradePipelineHandler: { channel, head in
                channel.eventLoop.makeCompletedFuture {
                    bound.value.upgraded()
                    try self.upgrade(
                        channel, bound.value.certificate, Features(header: head.headers[Features.header]))
                }
            })
        let plain = PlainRequestHandler()
        let boundPlain = NIOLoopBound(plain, eventLoop: channel.eventLoop)
        try pipeline.configureHTTPServerPipeline(
            withServerUpgrade: (
                upgraders: [upgrader],
                completionHandler: { context in
                    context.pipeline.syncOperations.removeHandler(boundPlain.value, promise: nil)
                }
            ))
        try pipeline.addHandler(plain)
    }

    /// The headers of an upgrade's answer, or `nil` where there is none.
    private static func answer(_ head: HTTPRequestHead) -> HTTPHeaders? {
        guard head.uri == path else { return nil }
        let offered = head.headers[canonicalForm: "Sec-WebSocket-Protocol"]
        guard offered.contains(where: { $0 == subprotocol }) else { return nil }
        var headers: HTTPHeaders = ["Sec-WebSocket-Protocol": subprotocol]
        let agreed = Features(header: head.headers[Features.header])
        if !agreed.isEmpty { headers.add(name: Features.header, value: agreed.header) }
        return headers
    }

    private func upgrade(
        _ channel: any Channel, _ certificate: Certificate?, _ features: Features
    ) throws {
        guard let certificate, let peer = PeerIdentity(certificate) else {
            actions.violation(.refused("the certificate names no device"))
            channel.close(promise: nil)
            return
        }
        let pipeline = channel.pipeline.syncOperations
        try pipeline.addHandler(
            NIOWebSocketFrameAggregator(
                minNonFinalFragmentSize: 1, maxAccumulatedFrameCount: 1_024,
                maxAccumulatedFrameSize: Limits.frameBytesMax))
        try pipeline.addHandler(
            AgentHandler(peer: peer, pace: pace, features: features, actions: actions))
    }
}

/// Counts the connections that there are, sessions or not yet: past a number the next is closed before
/// anything is read from it, so that descriptors are left for all else that the process does.
final class ConnectionCount: Sendable {
    private let count = Atomic(0)
    private let max: Int
    private let onRefusal: @Sendable () -> Void

    /// So many at once; `onRefusal` is told of each beyond.
    init(max: Int, onRefusal: @escaping @Sendable () -> Void) {
        self.max = max
        self.onRefusal = onRefusal
    }

    /// Counts a connection until it is closed.
    /// - Throws: `full`, upon which it is closed.
    func admit(_ channel: any Channel) throws(GatewayError) {
        let isAdmitted = count.add(1, ordering: .relaxed).newValue <= max
        channel.closeFuture.whenComplete { _ in self.count.subtract(1, ordering: .relaxed) }
        guard isAdmitted else {
            onRefusal()
            throw GatewayError(.full, "there are \(max) connections, which is the limit")
        }
    }
}

/// Answers what is not an upgrade: this port serves agents only.
private final class PlainRequestHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard case .end = unwrapInboundIn(data) else { return }
        let text =
            "This is an agent gateway: connect to \(Listener.path) by WebSocket, "
            + "subprotocol \(Listener.subprotocol).\n"
        let headers: HTTPHeaders = [
            "Content-Type": "text/plain", "Content-Length": String(text.utf8.count), "Connection": "close",
        ]
        let head = HTTPResponseHead(version: .http1_1, status: .upgradeRequired, headers: headers)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(string: text)))), promise: nil)
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        context.writeAndFlush(wrapOutboundOut(.end(nil))).whenComplete { _ in bound.value.close(promise: nil)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // An upgrade to something else gets the answer that any other request gets.
        if error as? NIOWebSocketUpgradeError == .unsupportedWebSocketTarget { return }
        context.close(promise: nil)
    }
}
