import Domain
import NIOCore
import NIOWebSocket
import Trust
import Wire

/// One agent's WebSocket on its event loop: decodes frames, keeps time, and hands messages on.
///
/// Everything from an agent is hostile until shown otherwise: frames are bounded by the aggregator before
/// this handler and by the codec's limits here, and the first violation closes the connection with a code
/// that says which.
final class AgentHandler: ChannelInboundHandler {
    typealias InboundIn = WebSocketFrame
    typealias OutboundOut = WebSocketFrame

    /// What the handler hands on. Calls come on the event loop and must not block.
    struct Actions: Sendable {
        var hello: @Sendable (Hello, Session, PeerIdentity) -> Void
        var message: @Sendable (AgentFrame, Session) -> Void
        var closed: @Sendable (Session) -> Void
        var violation: @Sendable (CloseReason) -> Void
        /// A connection that came to no session, and why.
        var failed: @Sendable (String) -> Void
    }

    private let peer: PeerIdentity
    private let actions: Actions
    private let pace: SessionPace
    private let features: Features
    private var session: Session?
    /// When hellos came within the last period of their pace.
    private var hellos: [NIODeadline] = []
    private var saidHello: Bool { !hellos.isEmpty }
    private var isClosing = false
    private var heard = true
    private var silentPeriods = 0
    private var timer: Scheduled<Void>?
    private var certificateTimer: Scheduled<Void>?

    init(
        peer: PeerIdentity, pace: SessionPace, features: Features = [], actions: Actions
    ) {
        self.peer = peer
        self.features = features
        self.pace = pace
        self.actions = actions
    }

    func handlerAdded(context: ChannelHandlerContext) {
        session = Session(
            device: peer.device, organization: peer.organization, features: features,
            deviceKey: peer.key, channel: context.channel)
        let loop = context.eventLoop
        let bound = NIOLoopBound((self, context), eventLoop: loop)
        timer = loop.scheduleTask(in: .seconds(Int64(Limits.helloSecondsMax))) {
            let (handler, context) = bound.value
            handler.close(.noHello, context)
        }
        // A session ends with its certificate.
        let left = peer.certificateEnd.seconds - Instant.now().seconds
        certificateTimer = loop.scheduleTask(in: .seconds(max(0, left))) {
            let (handler, context) = bound.value
            handler.close(.refused("the certificate has expired"), context)
        }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        timer?.cancel()
        certificateTimer?.cancel()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        // What stands behind a violation is not listened to.
        guard !isClosing else { return }
        heard = true
        let frame = unwrapInboundIn(data)
        switch frame.opcode {
        case .text: read(Array(buffer: frame.unmaskedData), context)
        case .ping:
            let pong = WebSocketFrame(fin: true, opcode: .pong, data: frame.unmaskedData)
            context.writeAndFlush(wrapOutboundOut(pong), promise: nil)
        case .pong: break
        case .connectionClose:
            session?.leave()
            context.close(promise: nil)
        default: close(.malformed("only text messages are understood"), context)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        if let session {
            session.end()
            actions.closed(session)
        }
        context.fireChannelInactive()
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        session?.peer(reads: context.channel.isWritable)
        context.fireChannelWritabilityChanged()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        switch error {
        case NIOWebSocketError.invalidFrameLength,
            NIOWebSocketFrameAggregator.Error.accumulatedFrameSizeIsTooLarge,
            NIOWebSocketFrameAggregator.Error.tooManyFragments:
            close(.tooLarge, context)
        case is NIOWebSocketError, is NIOWebSocketFrameAggregator.Error:
            close(.malformed("the WebSocket framing is wrong"), context)
        default: context.close(promise: nil)
        }
    }

    private func read(_ bytes: [UInt8], _ context: ChannelHandlerContext) {
        guard let session else { return }
        let message: AgentFrame
        do {
            message = try AgentFrame.decode(bytes)
        } catch {
            close(.malformed("\(error)"), context)
            return
        }
        switch message {
        case .hello(let hello):
            if !saidHello {
                timer?.cancel()
                listen(context)
            }
            let now = context.eventLoop.now
            hellos.removeAll { $0 + .seconds(Int64(pace.helloSeconds)) <= now }
            hellos.append(now)
            guard hellos.count <= Self.hellosMax else {
                return close(
                    .malformed("more than \(Self.hellosMax) hellos in \(pace.helloSeconds) s"), context)
            }
            actions.hello(hello, session, peer)
        case .ping(let sequence):
            guard saidHello else { return close(.malformed("the first message must be a hello"), context) }
            session.pong(sequence)
        default:
            guard saidHello else { return close(.malformed("the first message must be a hello"), context) }
            switch session.admit(message) {
            case .taken: actions.message(message, session)
            case .kept: break
            case .tooMany: close(.malformed("too many messages before the welcome"), context)
            }
        }
    }

    /// A peer that says nothing for three ping periods is gone.
    private func listen(_ context: ChannelHandlerContext) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleTask(in: .seconds(Int64(pace.pingSeconds))) {
            let (handler, context) = bound.value
            handler.silentPeriods = handler.heard ? 0 : handler.silentPeriods + 1
            handler.heard = false
            if handler.silentPeriods >= 3 {
                handler.close(.silent, context)
            } else {
                handler.listen(context)
            }
        }
    }

    /// Hellos that may come in one period of their pace; an agent says at most two or three.
    private static let hellosMax = 4

    private func close(_ reason: CloseReason, _ context: ChannelHandlerContext) {
        guard !isClosing else { return }
        isClosing = true
        actions.violation(reason)
        session?.close(reason)
    }
}

/// Who a peer is by its certificate, which TLS has verified up to the device authority.
struct PeerIdentity: Sendable {
    let deployment: DeploymentID
    let organization: OrganizationID
    let device: DeviceID
    let serial: String
    let keyHash: [UInt8]
    /// The public key, in DER.
    let key: [UInt8]
    let certificateEnd: Instant

    /// The identity of a device's certificate; `nil` for a certificate that names none.
    init?(_ certificate: Certificate) {
        guard certificate.uriNames.count == 1 else { return nil }
        let parts = certificate.uriNames[0].split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 6, parts[0] == "cloudrmm:", parts[1].isEmpty, parts[3] == "device",
            let deployment = DeploymentID(parts[2]), let organization = OrganizationID(parts[4]),
            let device = DeviceID(parts[5]),
            // A key of another kind is no device's.
            let key = try? certificate.p256PublicKey()
        else { return nil }
        self.key = key.der
        self.deployment = deployment
        self.organization = organization
        self.device = device
        serial = certificate.serial
        keyHash = certificate.publicKeyHash
        certificateEnd = Instant(seconds: certificate.notAfter)
    }
}

/// Catches what the handshake found, so that the upgrade can be judged by it, and keeps time until then.
final class PeerCapture: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private(set) var certificate: Certificate?
    /// Told why a connection did not come as far as an upgrade.
    private let failed: @Sendable (String) -> Void
    private var timer: Scheduled<Void>?

    /// How long a connection may take to become a session's, handshake included.
    static let upgradeTimeout = TimeAmount.seconds(20)

    init(failed: @escaping @Sendable (String) -> Void) { self.failed = failed }

    func handlerAdded(context: ChannelHandlerContext) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleTask(in: Self.upgradeTimeout) {
            let (handler, context) = bound.value
            handler.failed("upgradeTimeout")
            context.close(promise: nil)
        }
    }

    func handlerRemoved(context: ChannelHandlerContext) { timer?.cancel() }

    /// The connection is a session's from now on.
    func upgraded() { timer?.cancel() }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if certificate == nil, let error = error as? TrustError { failed("handshake.\(error.code)") }
        context.fireErrorCaught(error)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let handshake = event as? TLSHandshakeCompleted { certificate = handshake.peerCertificate }
        context.fireUserInboundEventTriggered(event)
    }
}
