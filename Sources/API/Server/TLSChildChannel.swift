import HummingbirdCore
import Logging
import NIOCore
import Trust

/// HTTP/1.1 behind our own TLS: the handler stands in front of everything that Hummingbird adds.
struct TLSChildChannel: ServerChildChannel {
    typealias Value = HTTP1Channel.Value

    /// How long a client may leave answers unread.
    static let writeStallLimit = TimeAmount.seconds(60)

    let http: HTTP1Channel
    /// What the next connection is met with.
    let tls: @Sendable () -> TLSContext

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
        do {
            // The initializer runs on the channel's own loop.
            try channel.pipeline.syncOperations.addHandlers([
                TLSHandler(context: tls()), WriteStallHandler(limit: Self.writeStallLimit),
            ])
        } catch {
            return channel.eventLoop.makeFailedFuture(error)
        }
        return http.setup(channel: channel, logger: logger)
    }

    func handle(value: Value, logger: Logger) async { await http.handle(value: value, logger: logger) }
}

/// Closes a connection whose peer does not catch up for a while with what there is to read: it would hold
/// its place, and a stop, for ever.
final class WriteStallHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let limit: TimeAmount
    private var timer: Scheduled<Void>?

    init(limit: TimeAmount) { self.limit = limit }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        timer?.cancel()
        timer = nil
        if !context.channel.isWritable {
            let channel = context.channel
            timer = context.eventLoop.scheduleTask(in: limit) { channel.close(promise: nil) }
        }
        context.fireChannelWritabilityChanged()
    }

    func handlerRemoved(context: ChannelHandlerContext) { timer?.cancel() }
}
