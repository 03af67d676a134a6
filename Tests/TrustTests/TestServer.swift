import Dispatch
import Foundation
import NIOCore
import NIOPosix
import Trust

/// A listener on a port of the loopback, whose channels get what `configure` adds.
struct TestServer: Sendable {
    let port: Int
    private let channel: any Channel

    static func start(_ configure: @escaping @Sendable (any Channel) throws -> Void) async throws
        -> TestServer
    {
        let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelOption(.socketOption(.so_sndbuf), value: 64 << 10)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try configure(channel) }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        guard let port = channel.localAddress?.port else { throw TrustError(.io, "no port") }
        return TestServer(port: port, channel: channel)
    }

    /// A listener with TLS and one handler behind it.
    static func start(
        _ context: TLSContext, _ handler: @escaping @Sendable () -> any ChannelHandler
    ) async throws -> TestServer {
        try await start { channel in
            try channel.pipeline.syncOperations.addHandler(TLSHandler(context: context))
            try channel.pipeline.syncOperations.addHandler(handler())
        }
    }

    func stop() async throws { try await channel.close() }

    /// Runs `body` with a blocking client, off the threads that Swift's tasks share.
    func connect<Value: Sendable>(
        _ context: TLSContext, name: String = "gateway.test", timeout: Duration = .seconds(10),
        _ body: @escaping @Sendable (TLSStream) throws -> Value
    ) async throws -> Value {
        try await Tool.blocking { [port] in
            try body(
                TLSStream.connect(
                    host: "127.0.0.1", port: port, context: context, serverName: name, timeout: timeout))
        }
    }
}

/// Sends back what it gets.
final class Echo: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        context.writeAndFlush(data, promise: nil)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}

/// Answers the first request head with `body` and closes; keeps to the channel's writability and reports when
/// it was full.
final class CannedResponse: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private var request = ""
    private var rest: ByteBuffer?
    private let body: [UInt8]
    private let whenFull: @Sendable () -> Void

    init(_ body: [UInt8], whenFull: @escaping @Sendable () -> Void = {}) {
        self.body = body
        self.whenFull = whenFull
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        request += String(buffer: unwrapInboundIn(data))
        guard rest == nil, request.hasSuffix("\r\n\r\n") else { return }
        var response = ByteBuffer(
            string: "HTTP/1.1 200 OK\r\nContent-Length: \(body.count)\r\nConnection: close\r\n\r\n")
        response.writeBytes(body)
        rest = response
        send(context)
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) { send(context) }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    private func send(_ context: ChannelHandlerContext) {
        while context.channel.isWritable, var bytes = rest, bytes.readableBytes > 0 {
            guard let piece = bytes.readSlice(length: min(50_000, bytes.readableBytes)) else { return }
            rest = bytes
            let written = context.writeAndFlush(wrapOutboundOut(piece))
            if bytes.readableBytes == 0 {
                written.assumeIsolated().whenComplete { _ in context.close(promise: nil) }
            }
        }
        if !context.channel.isWritable { whenFull() }
    }
}

/// A signal that a thread can wait for.
final class Signal: Sendable {
    private let semaphore = DispatchSemaphore(value: 0)

    func raise() { semaphore.signal() }

    /// Waits at most 20 seconds; false if it never came.
    func wait() -> Bool { semaphore.wait(timeout: .now() + 20) == .success }
}
