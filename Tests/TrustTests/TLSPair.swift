import NIOCore
import NIOEmbedded
import Trust

/// What the handlers behind TLS see in one channel.
final class Recorder: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    var handshakes: [TLSHandshakeCompleted] = []
    var received: [UInt8] = []
    var readCount = 0
    var errors: [any Error] = []
    var isInactive = false

    var codes: [TrustError.Code] { errors.compactMap { ($0 as? TrustError)?.code } }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let event = event as? TLSHandshakeCompleted { handshakes.append(event) }
        context.fireUserInboundEventTriggered(event)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        readCount += 1
        received += unwrapInboundIn(data).readableBytesView
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { errors.append(error) }

    func channelInactive(context: ChannelHandlerContext) {
        isInactive = true
        context.fireChannelInactive()
    }
}

/// Counts what a channel is asked to read.
final class ReadCounter: ChannelOutboundHandler {
    typealias OutboundIn = ByteBuffer
    var count = 0

    func read(context: ChannelHandlerContext) {
        count += 1
        context.read()
    }
}

/// A client's and a server's channel, each with TLS and a recorder, and the wire between them.
struct TLSPair {
    let server = EmbeddedChannel()
    let client = EmbeddedChannel()
    let serverSide = Recorder()
    let clientSide = Recorder()

    init(server serverContext: TLSContext, client clientContext: TLSContext, name: String? = "gateway.test")
        throws
    {
        try server.pipeline.syncOperations.addHandlers(TLSHandler(context: serverContext), serverSide)
        try client.pipeline.syncOperations.addHandlers(
            TLSHandler(context: clientContext, serverName: name), clientSide)
    }

    /// Connects both and carries bytes until none are left.
    func connect() throws {
        for channel in [server, client] {
            try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
        }
        try exchange()
    }

    /// Carries bytes both ways, in pieces of at most `piece` bytes, until none are left.
    func exchange(piece: Int = .max) throws {
        var moved = true
        while moved {
            let toServer = try Self.carry(from: client, to: server, piece)
            let toClient = try Self.carry(from: server, to: client, piece)
            moved = toServer || toClient
            client.embeddedEventLoop.run()
            server.embeddedEventLoop.run()
        }
    }

    private static func carry(from source: EmbeddedChannel, to target: EmbeddedChannel, _ piece: Int) throws
        -> Bool
    {
        var moved = false
        while var bytes = try source.readOutbound(as: ByteBuffer.self) {
            moved = true
            while bytes.readableBytes > 0, let part = bytes.readSlice(length: min(piece, bytes.readableBytes))
            {
                if target.isActive { try target.writeInbound(part) }
            }
        }
        return moved
    }

    /// The next bytes that `channel` wants on the wire.
    static func output(of channel: EmbeddedChannel) throws -> [UInt8] {
        var all: [UInt8] = []
        while let bytes = try channel.readOutbound(as: ByteBuffer.self) { all += bytes.readableBytesView }
        return all
    }

    /// Whether both sides finished the handshake.
    var isOpen: Bool { serverSide.handshakes.count == 1 && clientSide.handshakes.count == 1 }
}
