package import NIOCore
import NIOHTTP1
import NIOPosix
import NIOWebSocket
import Synchronization
package import Trust
package import Wire

/// One session with a gateway: TLS with the device's certificate, a WebSocket, and the session's own clock.
///
/// Hello is sent as soon as the WebSocket stands; welcome in time, pings and their pongs are looked after
/// here, everything else is handed to `receive` on the event loop, in order. Many connections may share one
/// event loop.
package final class GatewayConnection: Sendable {
    /// The WebSocket subprotocol that both ends must name.
    package static let subprotocol = "cloudrmm.agent.v1"
    /// The path of the WebSocket below the gateway's address.
    package static let path = "/agent/connect"

    /// How a session ended.
    package struct End: Sendable, Equatable {
        /// The close code that the gateway gave, if it gave one.
        package let code: Int?
        /// One sentence without its end.
        package let reason: String
    }

    /// What both ends have agreed on.
    package let features: Features

    private let channel: any Channel
    private let end: EventLoopFuture<End>

    private init(channel: any Channel, features: Features, end: EventLoopFuture<End>) {
        self.channel = channel
        self.features = features
        self.end = end
    }

    /// Connects, shakes hands and sends what `hello` returns; throws `connection` if it does not come that
    /// far in 20 s, and at once when the task is cancelled (the connection itself then goes with its event
    /// loop).
    ///
    /// `receive` gets the connection and every frame after that, the welcome first. It is called on the event
    /// loop and must not block.
    package static func open(
        _ address: ServiceAddress, tls: TLSContext, on loop: any EventLoop,
        offering offered: Features = .known,
        hello: @escaping @Sendable (Features) -> Hello,
        receive: @escaping @Sendable (GatewayConnection, GatewayFrame) -> Void
    ) async throws -> GatewayConnection {
        let opened = loop.makePromise(of: GatewayConnection.self)
        let end = loop.makePromise(of: End.self)
        let bootstrap = ClientBootstrap(group: loop)
            .connectTimeout(.seconds(10))
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let request = UpgradeRequest(
                        address: address, offered: offered, opened: opened, end: end)
                    let bound = NIOLoopBound(request, eventLoop: channel.eventLoop)
                    let upgrader = NIOWebSocketClientUpgrader(
                        maxFrameSize: Limits.frameBytesMax, automaticErrorHandling: false
                    ) { channel, head in
                        channel.eventLoop.makeCompletedFuture {
                            let agreed = Features(header: head.headers[Features.header])
                            let connection = GatewayConnection(
                                channel: channel, features: agreed.intersection(offered),
                                end: end.futureResult)
                            try bound.value.upgraded(
                                head, connection,
                                SessionHandler(connection, hello: hello, receive: receive, end: end))
                        }
                    }
                    let pipeline = channel.pipeline.syncOperations
                    try pipeline.addHandler(TLSHandler(context: tls, serverName: address.host))
                    try pipeline.addHTTPClientHandlers(
                        leftOverBytesStrategy: .forwardBytes,
                        withClientUpgrade: (upgraders: [upgrader], completionHandler: { _ in }))
                    try pipeline.addHandler(request)
                }
            }
        bootstrap.connect(host: address.host, port: address.port).whenFailure { error in
            opened.fail(AgentError(.connection, "cannot connect to \(address.authority)", cause: error))
            end.succeed(End(code: nil, reason: "there was no connection"))
        }
        return try await withTaskCancellationHandler {
            try await opened.futureResult.get()
        } onCancel: {
            opened.fail(CancellationError())
        }
    }

    /// Sends frames in this order; what is sent after the end is dropped. Callable from anywhere.
    package func send(_ frames: AgentFrame...) {
        for frame in frames {
            channel.write(SessionHandler.Outgoing.frame(ByteBuffer(bytes: frame.encoded)), promise: nil)
        }
        channel.flush()
    }

    /// Takes leave and closes; `ended` says when that is done.
    package func close() {
        channel.writeAndFlush(SessionHandler.Outgoing.leave, promise: nil)
        channel.close(promise: nil)
    }

    /// Waits until the session is over and the connection closed; a cancelled wait takes leave.
    package func ended() async -> End {
        await withTaskCancellationHandler {
            // Neither future fails: the end is only ever told, and a close that fails is still one.
            let end = try? await end.get()
            // As above.
            _ = try? await channel.closeFuture.get()
            return end ?? End(code: nil, reason: "the connection was closed")
        } onCancel: {
            close()
        }
    }
}

/// Asks for the WebSocket, and is gone when it stands.
private final class UpgradeRequest: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundOut = HTTPClientRequestPart

    static let timeout = TimeAmount.seconds(20)

    private let address: ServiceAddress
    private let offered: Features
    private let opened: EventLoopPromise<GatewayConnection>
    private let end: EventLoopPromise<GatewayConnection.End>
    private var context: ChannelHandlerContext?
    private var timer: Scheduled<Void>?
    private var isOver = false

    init(
        address: ServiceAddress, offered: Features, opened: EventLoopPromise<GatewayConnection>,
        end: EventLoopPromise<GatewayConnection.End>
    ) {
        self.address = address
        self.offered = offered
        self.opened = opened
        self.end = end
    }

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func channelActive(context: ChannelHandlerContext) {
        timer = context.eventLoop.assumeIsolated().scheduleTask(in: Self.timeout) {
            self.fail(context, "\(self.address.authority) did not answer in time")
        }
        var headers = HTTPHeaders([
            ("Host", address.authority), ("Sec-WebSocket-Protocol", GatewayConnection.subprotocol),
        ])
        if !offered.isEmpty { headers.add(name: Features.header, value: offered.header) }
        headers.add(name: "Content-Length", value: "0")
        let head = HTTPRequestHead(
            version: .http1_1, method: .GET, uri: address.path + GatewayConnection.path, headers: headers)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if case .head(let head) = unwrapInboundIn(data) {
            fail(context, "\(address.authority) refused the connection with HTTP status \(head.status.code)")
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        fail(context, "cannot connect to \(address.authority)", error)
    }

    func channelInactive(context: ChannelHandlerContext) {
        fail(context, "\(address.authority) closed the connection")
        context.fireChannelInactive()
    }

    /// The gateway has agreed: the session takes over, unless it agreed to something else.
    func upgraded(
        _ head: HTTPResponseHead, _ connection: GatewayConnection, _ session: SessionHandler
    ) throws {
        guard let context, !isOver else { throw ChannelError.ioOnClosedChannel }
        guard head.headers["sec-websocket-protocol"] == [GatewayConnection.subprotocol] else {
            let message = "\(address.authority) does not speak \(GatewayConnection.subprotocol)"
            fail(context, message)
            throw AgentError(.protocolViolation, message)
        }
        isOver = true
        timer?.cancel()
        let pipeline = context.pipeline.syncOperations
        try pipeline.addHandlers(
            NIOWebSocketFrameAggregator(
                minNonFinalFragmentSize: 0, maxAccumulatedFrameCount: 1_024,
                maxAccumulatedFrameSize: Limits.frameBytesMax),
            session)
        pipeline.removeHandler(self, promise: nil)
        opened.succeed(connection)
    }

    private func fail(_ context: ChannelHandlerContext, _ message: String, _ cause: (any Error)? = nil) {
        guard !isOver else { return }
        isOver = true
        timer?.cancel()
        let failure = AgentError(.connection, message, cause: cause)
        opened.fail(failure)
        end.succeed(GatewayConnection.End(code: nil, reason: message))
        context.close(promise: nil)
    }
}

/// Frames to and from WebSocket messages, and the session's clock.
private final class SessionHandler: ChannelDuplexHandler {
    typealias InboundIn = WebSocketFrame
    typealias OutboundIn = Outgoing
    typealias OutboundOut = WebSocketFrame

    enum Outgoing: Sendable {
        case frame(ByteBuffer)
        /// A close frame that says "going away".
        case leave
    }

    /// Until the handler is removed.
    private var connection: GatewayConnection?
    private let hello: @Sendable (Features) -> Hello
    private let features: Features
    private let receive: @Sendable (GatewayConnection, GatewayFrame) -> Void
    private let end: EventLoopPromise<GatewayConnection.End>
    private var machine = SessionMachine(now: 0, spread: .random(in: 0..<1))
    private var start = NIODeadline.now()
    private var timer: Scheduled<Void>?
    private var isOver = false
    private var isReading = false
    private var wantsFlush = false

    init(
        _ connection: GatewayConnection, hello: @escaping @Sendable (Features) -> Hello,
        receive: @escaping @Sendable (GatewayConnection, GatewayFrame) -> Void,
        end: EventLoopPromise<GatewayConnection.End>
    ) {
        self.connection = connection
        features = connection.features
        self.hello = hello
        self.receive = receive
        self.end = end
    }

    func handlerAdded(context: ChannelHandlerContext) {
        start = .now()
        send(.hello(hello(features)), context)
        schedule(context)
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        finish("the connection was closed")
        connection = nil
    }

    func channelInactive(context: ChannelHandlerContext) {
        finish("the connection was closed")
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        close(context, .protocolError, "the connection failed: \(error)")
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isOver else { return }
        isReading = true
        var message = unwrapInboundIn(data)
        switch message.opcode {
        case .text:
            let bytes = message.data.readBytes(length: message.data.readableBytes) ?? []
            do {
                act(machine.receive(try GatewayFrame.decode(bytes), now: now), context)
            } catch {
                close(
                    context, WebSocketErrorCode(codeNumber: 4400),
                    "the gateway sent a malformed frame: \(error)")
            }
        case .ping:
            write(
                context,
                WebSocketFrame(fin: true, opcode: .pong, maskKey: .random(), data: message.unmaskedData))
        case .pong: break
        case .connectionClose:
            let code = message.data.readWebSocketErrorCode().map { Int(UInt16(webSocketErrorCode: $0)) }
            let reason = message.data.readString(length: message.data.readableBytes) ?? ""
            finish(
                "the gateway closed the session\(reason.isEmpty ? "" : ": \(printable(reason))")", code: code)
            context.close(promise: nil)
        default: close(context, .unacceptableData, "the gateway sent a message that is not text")
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        isReading = false
        if wantsFlush { context.flush() }
        wantsFlush = false
        context.fireChannelReadComplete()
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard !isOver else {
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        }
        switch unwrapOutboundIn(data) {
        case .frame(let bytes):
            context.write(
                wrapOutboundOut(WebSocketFrame(fin: true, opcode: .text, maskKey: .random(), data: bytes)),
                promise: promise)
        case .leave: close(context, .goingAway, "the agent left")
        }
    }

    /// What is answered while a read goes on leaves together at its end.
    func flush(context: ChannelHandlerContext) {
        if isReading { wantsFlush = true } else { context.flush() }
    }

    private var now: Double { Double((NIODeadline.now() - start).nanoseconds) / 1e9 }

    private func act(_ action: SessionMachine.Action, _ context: ChannelHandlerContext) {
        switch action {
        case .none: break
        case .deliver(let frame):
            if case .welcome = frame { schedule(context) }
            if let connection { receive(connection, frame) }
        case .ping(let sequence): send(.ping(sequence), context)
        case .hello: send(.hello(hello(features)), context)
        case .end(let reason): close(context, .policyViolation, reason)
        }
    }

    private func schedule(_ context: ChannelHandlerContext) {
        timer?.cancel()
        guard !isOver, let next = machine.nextTick else { return }
        let delay = TimeAmount.nanoseconds(Int64(max(0, next - now) * 1e9) + 1)
        timer = context.eventLoop.assumeIsolated().scheduleTask(in: delay) {
            self.act(self.machine.tick(now: self.now), context)
            self.schedule(context)
        }
    }

    private func send(_ frame: AgentFrame, _ context: ChannelHandlerContext) {
        write(
            context,
            WebSocketFrame(
                fin: true, opcode: .text, maskKey: .random(), data: ByteBuffer(bytes: frame.encoded)))
    }

    private func write(_ context: ChannelHandlerContext, _ frame: WebSocketFrame) {
        context.writeAndFlush(wrapOutboundOut(frame), promise: nil)
    }

    private func close(_ context: ChannelHandlerContext, _ code: WebSocketErrorCode, _ reason: String) {
        guard !isOver else { return }
        finish(reason)
        var data = context.channel.allocator.buffer(capacity: 2)
        data.write(webSocketErrorCode: code)
        write(context, WebSocketFrame(fin: true, opcode: .connectionClose, maskKey: .random(), data: data))
        context.close(promise: nil)
    }

    private func finish(_ reason: String, code: Int? = nil) {
        guard !isOver else { return }
        isOver = true
        timer?.cancel()
        end.succeed(GatewayConnection.End(code: code, reason: reason))
    }
}
