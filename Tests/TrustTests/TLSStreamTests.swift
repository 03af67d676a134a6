import Glibc
import NIOCore
import NIOPosix
import Testing
import Trust

@Suite struct TLSStreamTests {
    let authorities = TestAuthorities.shared

    private func code(_ body: () async throws -> Void) async -> TrustError.Code? {
        do {
            try await body()
            return nil
        } catch {
            return (error as? TrustError)?.code
        }
    }

    @Test("a blocking client and a channel exchange 5 MB, resume, and end cleanly")
    func echo() async throws {
        let context = try authorities.serverContext(clientCA: authorities.deviceCA, alpn: ["rmm/1"])
        let server = try await TestServer.start(context) { Echo() }
        let client = try authorities.clientContext(identity: authorities.device, alpn: ["rmm/1"])
        let sent = randomBytes(5 << 20)
        for round in 0..<2 {
            let received = try await server.connect(client) { stream in
                let agreed = try stream.handshakeResult()
                #expect(
                    agreed.alpn == "rmm/1" && agreed.version == "TLSv1.3" && agreed.resumed == (round > 0))
                var received: [UInt8] = []
                for start in stride(from: 0, to: sent.count, by: 32 << 10) {
                    let piece = Array(sent[start..<min(start + 32 << 10, sent.count)])
                    try stream.write(piece)
                    var answer: [UInt8] = []
                    while answer.count < piece.count {
                        answer += try stream.read(max: piece.count - answer.count)
                    }
                    received += answer
                }
                stream.close()
                #expect(throws: TrustError.self) { try stream.read() }
                #expect(throws: TrustError.self) { try stream.write([1]) }
                return received
            }
            #expect(received == sent)
        }
        try await server.stop()
    }

    @Test("a slow reader holds the server back and still gets all 5 MB")
    func slowReader() async throws {
        let body = randomBytes(5 << 20)
        let full = Signal()
        let server = try await TestServer.start(authorities.serverContext(clientCA: nil)) {
            CannedResponse(body, whenFull: { full.raise() })
        }
        let received = try await server.connect(authorities.clientContext(identity: nil)) { stream in
            try stream.write(Array("GET / HTTP/1.1\r\n\r\n".utf8))
            // Nothing is read before the server's channel has said that it is full.
            #expect(full.wait())
            var received: [UInt8] = []
            while case let bytes = try stream.read(max: 3000), !bytes.isEmpty { received += bytes }
            stream.close()
            return received
        }
        #expect(received.count > body.count && Array(received.suffix(body.count)) == body)
        try await server.stop()
    }

    @Test("strangers, wrong names and missing certificates are errors on the client's side")
    func refusals() async throws {
        let server = try await TestServer.start(authorities.serverContext(clientCA: authorities.deviceCA)) {
            Echo()
        }
        let stranger = try TestAuthorities()
        let good = try authorities.clientContext(identity: authorities.device)
        let wrongAuthority = try stranger.clientContext(identity: authorities.device)
        #expect(await code { try await server.connect(wrongAuthority) { _ in } } == .refusedCertificate)
        #expect(
            await code { try await server.connect(good, name: "other.test") { _ in } } == .refusedCertificate)
        #expect(await code { try await server.connect(good, name: "") { _ in } } == .handshake)
        // The server's refusal comes after the client's part of the handshake: with the next read, which may
        // also find the connection reset.
        for identity in [nil, stranger.device] {
            let client = try authorities.clientContext(identity: identity)
            let refusal = await code { try await server.connect(client) { _ = try $0.read() } }
            #expect(refusal == .refusedCertificate || refusal == .io)
        }
        try await server.connect(good) { stream in
            try stream.write([1])
            #expect(try stream.read() == [1])
        }
        try await server.stop()
    }

    @Test("a server that hangs up without close_notify is a truncation")
    func truncation() async throws {
        let context = try authorities.serverContext(clientCA: nil)
        let server = try await TestServer.start { channel in
            try channel.pipeline.syncOperations.addHandler(HangUp(), name: "first")
            try channel.pipeline.syncOperations.addHandler(TLSHandler(context: context))
            try channel.pipeline.syncOperations.addHandler(Echo())
        }
        let client = try authorities.clientContext(identity: nil)
        let refusal = await code {
            try await server.connect(client) { stream in
                try stream.write([UInt8](repeating: 1, count: 100))
                while true { if try stream.read().isEmpty { return } }
            }
        }
        #expect(refusal == .truncated)
        try await server.stop()
    }

    @Test(
        "a server that answers with something else than TLS is an error, one that never answers a time limit")
    func otherServers() async throws {
        let client = try authorities.clientContext(identity: nil)
        let talker = try await TestServer.start { channel in
            try channel.pipeline.syncOperations.addHandler(Banner())
        }
        #expect(await code { try await talker.connect(client) { _ in } } == .handshake)
        let mute = try await TestServer.start { _ in }
        #expect(
            await code { try await mute.connect(client, timeout: .milliseconds(50)) { _ in } } == .timeout)
        try await talker.stop()
        try await mute.stop()
        #expect(await code { try await mute.connect(client) { _ in } } == .io)
    }

    @Test("a read that gets nothing in time throws, and the stream goes on afterwards")
    func readTimeout() async throws {
        let server = try await TestServer.start(authorities.serverContext(clientCA: nil)) { Echo() }
        try await server.connect(authorities.clientContext(identity: nil)) { stream in
            stream.timeout = .milliseconds(20)
            #expect(throws: TrustError.self) { try stream.read() }
            stream.timeout = .seconds(10)
            try stream.write([7])
            #expect(try stream.read() == [7])
        }
        try await server.stop()
    }

    @Test("what is there can be read without waiting, and the descriptor says when to look again")
    func available() async throws {
        let server = try await TestServer.start(authorities.serverContext(clientCA: nil)) { Echo() }
        try await server.connect(authorities.clientContext(identity: nil)) { stream in
            #expect(try stream.readAvailable() == nil)
            let sent = randomBytes(20_000)
            try stream.write(sent)
            var received: [UInt8] = []
            while received.count < sent.count {
                var entry = pollfd(fd: stream.descriptor, events: Int16(POLLIN), revents: 0)
                try #require(unsafe poll(&entry, 1, 10_000) == 1)
                while let bytes = try stream.readAvailable(max: 3000) { received += bytes }
            }
            #expect(received == sent)
        }
        try await server.stop()
    }

    @Test("a write that the server does not take in time goes on with the next call")
    func writeTimeout() async throws {
        let goOn = MultiThreadedEventLoopGroup.singleton.next().makePromise(of: Void.self)
        let body = randomBytes(12 << 20)
        let server = try await TestServer.start(authorities.serverContext(clientCA: nil)) {
            LateReader(goOn.futureResult)
        }
        let received = try await server.connect(authorities.clientContext(identity: nil)) { stream in
            stream.timeout = .milliseconds(50)
            #expect(throws: TrustError.self) { try stream.write(body) }
            goOn.succeed()
            stream.timeout = .seconds(10)
            try stream.write([1])
            return try stream.read()
        }
        #expect(received == SHA256.hash(body + [1]))
        try await server.stop()
    }

    @Test("a failed handshake closes the adopted socket and frees the session")
    func socketClosed() async throws {
        let client = try authorities.clientContext(identity: nil)
        for name in ["gateway.test", ""] {
            var pair: [Int32] = [0, 0]
            #expect(unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
            let peer = pair[1]
            let noise = Array("this is no TLS at all".utf8)
            #expect(unsafe send(peer, noise, noise.count, 0) == noise.count)
            #expect(throws: TrustError.self) {
                _ = try TLSStream(adopting: pair[0], context: client, serverName: name)
            }
            var bytes = [UInt8](repeating: 0, count: 4096)
            var count = 1
            while count > 0 { count = unsafe recv(peer, &bytes, bytes.count, 0) }
            #expect(count == 0 || errno == ECONNRESET)
            close(peer)
        }
        #expect(client.sessionCount == 0)
    }
}

/// Passes the handshake and closes the socket below TLS at the first answer behind it.
private final class HangUp: ChannelOutboundHandler {
    typealias OutboundIn = ByteBuffer

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let bytes = unwrapOutboundIn(data)
        // The echo of 100 bytes is one record of 122 bytes; the handshake's flights are longer or shorter.
        if bytes.readableBytes == 122 { return context.close(promise: promise) }
        context.write(data, promise: promise)
    }
}

/// Reads nothing behind the handshake until told to, then answers 12 MiB and one byte with their digest.
private final class LateReader: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let goOn: EventLoopFuture<Void>
    private var digest = SHA256()
    private var count = 0

    init(_ goOn: EventLoopFuture<Void>) { self.goOn = goOn }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard event is TLSHandshakeCompleted else { return }
        let channel = context.channel
        channel.setOption(.autoRead, value: false).whenFailure { Issue.record($0) }
        goOn.hop(to: context.eventLoop).whenSuccess {
            channel.setOption(.autoRead, value: true).whenFailure { Issue.record($0) }
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = Array(unwrapInboundIn(data).readableBytesView)
        digest.update(bytes)
        count += bytes.count
        if count == 12 << 20 + 1 {
            context.writeAndFlush(NIOAny(ByteBuffer(bytes: digest.finalize())), promise: nil)
        }
    }
}

/// Speaks first, and not TLS.
private final class Banner: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    func channelActive(context: ChannelHandlerContext) {
        context.writeAndFlush(NIOAny(ByteBuffer(string: "220 mail.test ESMTP ready\r\n")), promise: nil)
    }
}
