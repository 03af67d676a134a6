import HummingbirdCore
import Logging
import NIOCore
import Trust

/// HTTP/1.1 behind our own TLS: the handler stands in front of everything that Hummingbird adds.
struct TLSChildChannel: ServerChildChannel {
    typealias Value = HTTP1Channel.Value

    let http: HTTP1Channel
    let tls: TLSContext

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
        do {
            // The initializer runs on the channel's own loop.
            try channel.pipeline.syncOperations.addHandler(TLSHandler(context: tls))
        } catch {
            return channel.eventLoop.makeFailedFuture(error)
        }
        return http.setup(channel: channel, logger: logger)
    }

    func handle(value: Value, logger: Logger) async { await http.handle(value: value, logger: logger) }
}
