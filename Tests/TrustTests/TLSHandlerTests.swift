import NIOCore
import NIOEmbedded
import Synchronization
import Testing
import Trust

@Suite struct TLSHandlerTests {
    let authorities = TestAuthorities.shared

    private func mutual(alpn: [String] = []) throws -> TLSPair {
        try TLSPair(
            server: authorities.serverContext(clientCA: authorities.deviceCA, alpn: alpn),
            client: authorities.clientContext(identity: authorities.device, alpn: alpn))
    }

    @Test("both sides see each other's certificate, the protocol and TLS 1.3")
    func handshake() throws {
        let pair = try mutual(alpn: ["rmm/1"])
        try pair.connect()
        let atServer = try #require(pair.serverSide.handshakes.first)
        let atClient = try #require(pair.clientSide.handshakes.first)
        #expect(atServer.peerCertificate?.uriNames == [TestAuthorities.deviceURI])
        #expect(atServer.peerCertificate?.serial == authorities.device.certificate.serial)
        #expect(atClient.peerCertificate?.der == authorities.server.certificate.der)
        for agreed in [atServer, atClient] {
            #expect(agreed.alpn == "rmm/1" && agreed.version == "TLSv1.3" && !agreed.resumed)
        }
    }

    @Test("data passes both ways, also when the wire delivers byte by byte", arguments: [1, 7, Int.max])
    func data(piece: Int) throws {
        let pair = try mutual()
        for channel in [pair.server, pair.client] {
            try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
        }
        try pair.exchange(piece: piece)
        let (up, down) = (randomBytes(40_000), randomBytes(20_000))
        pair.client.writeAndFlush(ByteBuffer(bytes: up), promise: nil)
        pair.server.writeAndFlush(ByteBuffer(bytes: down), promise: nil)
        try pair.exchange(piece: piece)
        #expect(pair.serverSide.received == up)
        #expect(pair.clientSide.received == down)
        #expect(pair.serverSide.errors.isEmpty && pair.clientSide.errors.isEmpty)
    }

    @Test("writes before the handshake wait for it in order and their promises are kept")
    func earlyWrites() throws {
        let pair = try mutual()
        let written = (0..<3).map { pair.client.write(ByteBuffer(bytes: [UInt8($0)])) }
        pair.client.flush()
        let unflushed = pair.client.write(ByteBuffer(bytes: [9]))
        let done = Atomic(0)
        for future in written + [unflushed] { future.whenSuccess { done.add(1, ordering: .relaxed) } }
        #expect(done.load(ordering: .relaxed) == 0)
        try pair.connect()
        #expect(pair.serverSide.received == [0, 1, 2])
        #expect(done.load(ordering: .relaxed) == 3)
        pair.client.flush()
        try pair.exchange()
        #expect(pair.serverSide.received == [0, 1, 2, 9])
        #expect(done.load(ordering: .relaxed) == 4)
    }

    @Test("at most 1 MiB waits for the handshake")
    func waitingLimit() throws {
        let pair = try mutual()
        let fits = pair.client.write(ByteBuffer(repeating: 1, count: TLSHandler.waitingBytesMax))
        let tooMuch = pair.client.write(ByteBuffer(bytes: [2]))
        #expect(throws: TrustError.self) { try tooMuch.wait() }
        pair.client.flush()
        try pair.connect()
        try fits.wait()
        #expect(pair.serverSide.received.count == TLSHandler.waitingBytesMax)
    }

    @Test("an open channel takes 1 MiB before the flush; more goes to the channel and counts there")
    func unflushedWrites() throws {
        let pair = try mutual()
        try pair.connect()
        let written = pair.client.write(ByteBuffer(repeating: 1, count: TLSHandler.waitingBytesMax))
        let more = pair.client.write(ByteBuffer(bytes: [2]))
        #expect(try TLSPair.output(of: pair.client).isEmpty)
        pair.client.flush()
        try pair.exchange()
        try written.wait()
        try more.wait()
        #expect(pair.serverSide.received.count == TLSHandler.waitingBytesMax + 1)
        #expect(pair.serverSide.received.last == 2)
    }

    @Test("small flushed writes share a record")
    func coalescing() throws {
        let pair = try mutual()
        try pair.connect()
        for _ in 0..<100 { pair.server.write(ByteBuffer(bytes: [1, 2, 3]), promise: nil) }
        pair.server.flush()
        #expect(try TLSPair.output(of: pair.server).count < 300 + 40)
    }

    @Test("close says close_notify, and the other side closes too, without an error")
    func closeNotify() throws {
        let pair = try mutual()
        try pair.connect()
        let last = pair.server.writeAndFlush(ByteBuffer(bytes: [1]))
        let closed = pair.server.close()
        try pair.exchange()
        try last.wait()
        try closed.wait()
        #expect(pair.clientSide.received == [1])
        #expect(pair.clientSide.isInactive && pair.serverSide.isInactive)
        #expect(pair.clientSide.errors.isEmpty && pair.serverSide.errors.isEmpty)
        #expect(throws: ChannelError.self) { try pair.server.writeAndFlush(ByteBuffer(bytes: [2])).wait() }
    }

    @Test("a closed output still lets the other side finish")
    func halfClose() throws {
        let pair = try mutual()
        try pair.connect()
        try pair.client.close(mode: .output).wait()
        #expect(throws: ChannelError.self) { try pair.client.writeAndFlush(ByteBuffer(bytes: [2])).wait() }
        pair.server.writeAndFlush(ByteBuffer(bytes: [5]), promise: nil)
        let farewell = try TLSPair.output(of: pair.client)
        let answer = try TLSPair.output(of: pair.server)
        try pair.client.writeInbound(ByteBuffer(bytes: answer))
        try pair.server.writeInbound(ByteBuffer(bytes: farewell))
        try pair.exchange()
        #expect(pair.clientSide.received == [5])
        #expect(
            pair.clientSide.isInactive && pair.clientSide.errors.isEmpty && pair.serverSide.errors.isEmpty)
    }

    @Test("an end without close_notify is a truncation, and waiting writes fail with it")
    func truncation() throws {
        let pair = try mutual()
        try pair.connect()
        let waiting = pair.server.write(ByteBuffer(bytes: [1]))
        pair.server.pipeline.fireChannelInactive()
        #expect(pair.serverSide.codes == [.truncated])
        #expect(throws: TrustError.self) { try waiting.wait() }
        pair.client.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
        #expect(pair.clientSide.codes == [.truncated] && !pair.client.isActive)
    }

    @Test("an end in the middle of the handshake is an error")
    func endInHandshake() throws {
        let pair = try mutual()
        try pair.server.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
        pair.server.pipeline.fireChannelInactive()
        #expect(pair.serverSide.codes == [.handshake])
    }

    @Test("a peer that never finishes its handshake is closed after the time limit")
    func halfOpen() throws {
        let context = try authorities.serverContext(clientCA: authorities.deviceCA)
        let (channel, recorder) = (EmbeddedChannel(), Recorder())
        try channel.pipeline.syncOperations.addHandlers(
            TLSHandler(context: context, handshakeTimeout: .seconds(3)), recorder)
        try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
        try channel.writeInbound(ByteBuffer(bytes: [0x16, 0x03, 0x01]))
        channel.embeddedEventLoop.advanceTime(by: .milliseconds(2999))
        #expect(recorder.errors.isEmpty && channel.isActive && context.sessionCount == 1)
        channel.embeddedEventLoop.advanceTime(by: .milliseconds(1))
        #expect(recorder.codes == [.timeout] && !channel.isActive && context.sessionCount == 0)
    }

    @Test("a finished handshake is not closed by its time limit")
    func timerEnds() throws {
        let pair = try mutual()
        try pair.connect()
        pair.server.embeddedEventLoop.advanceTime(by: .seconds(60))
        pair.client.embeddedEventLoop.advanceTime(by: .seconds(60))
        #expect(pair.server.isActive && pair.client.isActive)
    }

    @Test("bytes that are not TLS get an alert, an error and a closed channel")
    func notTLS() throws {
        let pair = try mutual()
        try pair.server.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
        try pair.server.writeInbound(ByteBuffer(string: "GET / HTTP/1.1\r\nHost: gateway.test\r\n\r\n"))
        #expect(pair.serverSide.codes == [.handshake] && !pair.server.isActive)
    }

    @Test("a changed byte in a record ends the session with an error", arguments: [0, 3, 5, 12, -1])
    func badRecord(place: Int) throws {
        let pair = try mutual()
        try pair.connect()
        pair.client.writeAndFlush(ByteBuffer(bytes: randomBytes(50)), promise: nil)
        var record = try TLSPair.output(of: pair.client)
        record[place < 0 ? record.count - 1 : place] ^= 0x80
        try pair.server.writeInbound(ByteBuffer(bytes: record))
        #expect(pair.serverSide.codes == [.malformed] && pair.serverSide.received.isEmpty)
        #expect(!pair.server.isActive)
    }

    @Test("a replayed record ends the session")
    func replayedRecord() throws {
        let pair = try mutual()
        try pair.connect()
        pair.client.writeAndFlush(ByteBuffer(bytes: [1, 2, 3]), promise: nil)
        let record = try TLSPair.output(of: pair.client)
        try pair.server.writeInbound(ByteBuffer(bytes: record + record))
        #expect(pair.serverSide.received == [1, 2, 3] && pair.serverSide.codes == [.malformed])
        #expect(!pair.server.isActive)
    }

    @Test("generated damage to the first flight never hangs a side past its limit and leaks nothing")
    func damagedHello() throws {
        let context = try authorities.serverContext(clientCA: authorities.deviceCA)
        let clientContext = try authorities.clientContext(identity: authorities.device)
        for _ in 0..<150 {
            let pair = try TLSPair(server: context, client: clientContext)
            for channel in [pair.server, pair.client] {
                try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
            }
            var hello = try TLSPair.output(of: pair.client)
            for _ in 0..<Int.random(in: 1...4) {
                hello[Int.random(in: 0..<hello.count)] = UInt8.random(in: 0...255)
            }
            try pair.server.writeInbound(ByteBuffer(bytes: hello))
            try pair.exchange()
            for channel in [pair.server, pair.client] {
                channel.embeddedEventLoop.advanceTime(by: .seconds(10))
                _ = try channel.finish(acceptAlreadyClosed: true)
                channel.embeddedEventLoop.advanceTime(by: .seconds(10))
            }
        }
        #expect(context.sessionCount == 0 && clientContext.sessionCount == 0)
    }

    @Test("every way to end a channel frees its session")
    func sessionsFreed() throws {
        let server = try authorities.serverContext(clientCA: authorities.deviceCA)
        let client = try authorities.clientContext(identity: authorities.device)
        for ending in 0..<4 {
            let pair = try TLSPair(server: server, client: client)
            try pair.connect()
            #expect(server.sessionCount == 1 && client.sessionCount == 1)
            switch ending {
            case 0: pair.server.close(promise: nil)
            case 1: pair.client.close(promise: nil)
            case 2:
                pair.server.pipeline.fireChannelInactive()
                pair.client.pipeline.fireChannelInactive()
            default:
                try pair.server.writeInbound(ByteBuffer(repeating: 0, count: 100))
            }
            try pair.exchange()
            #expect(server.sessionCount == 0 && client.sessionCount == 0, "ending \(ending)")
        }
        #expect(throws: TrustError.self) {
            let pair = try TLSPair(server: server, client: client, name: nil)
            try pair.connect()
            throw try #require(pair.clientSide.errors.first)
        }
        #expect(client.sessionCount == 0)
    }

    @Test("a channel that is not read automatically is asked for more only while a record is incomplete")
    func manualReads() throws {
        let pair = try mutual()
        let reads = ReadCounter()
        try pair.server.pipeline.syncOperations.addHandler(reads, position: .first)
        try pair.server.setOption(.autoRead, value: false).wait()
        try pair.connect()
        #expect(pair.isOpen)
        pair.client.writeAndFlush(ByteBuffer(bytes: [1, 2, 3]), promise: nil)
        let record = try TLSPair.output(of: pair.client)
        pair.server.read()
        reads.count = 0
        try pair.server.writeInbound(ByteBuffer(bytes: record.prefix(10)))
        #expect(reads.count == 1)
        try pair.server.writeInbound(ByteBuffer(bytes: record.dropFirst(10)))
        #expect(reads.count == 1 && pair.serverSide.received == [1, 2, 3])
    }
}
