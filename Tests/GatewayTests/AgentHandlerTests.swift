import Domain
import NIOCore
import NIOEmbedded
import NIOWebSocket
import Synchronization
import TestSupport
import Testing
import Trust
import Wire

@testable import Gateway

/// One agent's WebSocket, from bytes to what the gateway hears, on an event loop whose time stands still.
@Suite struct AgentHandlerTests {
    /// A connection with the handlers of the listener's upgrade, and what it handed on.
    final class Line {
        let channel: EmbeddedChannel
        private let heard = Heard()

        private final class Heard: Sendable {
            let words = Mutex(Words())
        }

        private struct Words {
            var session: Session?
            var hellos: [Hello] = []
            var messages: [AgentFrame] = []
            var violations: [UInt16] = []
            var closed = 0
        }

        init(peer: PeerIdentity, isWelcome: Bool = true) throws {
            let loop = EmbeddedEventLoop()
            channel = EmbeddedChannel(loop: loop)
            let actions = AgentHandler.Actions(
                hello: { [heard] hello, session, _ in
                    heard.words.withLock { words in
                        words.hellos.append(hello)
                        words.session = session
                    }
                    if isWelcome { Self.welcome(session, heard) }
                },
                message: { [heard] frame, _ in heard.words.withLock { $0.messages.append(frame) } },
                closed: { [heard] _ in heard.words.withLock { $0.closed += 1 } },
                violation: { [heard] reason in heard.words.withLock { $0.violations.append(reason.code) } },
                failed: { _ in })
            try channel.pipeline.syncOperations.addHandlers([
                ByteToMessageHandler(WebSocketFrameDecoder(maxFrameSize: Limits.frameBytesMax)),
                NIOWebSocketFrameAggregator(
                    minNonFinalFragmentSize: 1, maxAccumulatedFrameCount: 1_024,
                    maxAccumulatedFrameSize: Limits.frameBytesMax),
                AgentHandler(peer: peer, pace: SessionPace(), actions: actions),
            ])
            try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
        }

        private static func welcome(_ session: Session, _ heard: Heard) {
            let said = session.welcome(
                Welcome(session: 1, assignment: nil, drop: [], cancel: [], pingSeconds: 30, helloSeconds: 300)
            )
            heard.words.withLock { $0.messages += said ?? [] }
        }

        /// The gateway has judged the device.
        func welcome() {
            if let session { Self.welcome(session, heard) }
        }

        var session: Session? { heard.words.withLock { $0.session } }
        var hellos: [Hello] { heard.words.withLock { $0.hellos } }
        var messages: [AgentFrame] { heard.words.withLock { $0.messages } }
        var violations: [UInt16] { heard.words.withLock { $0.violations } }
        var closed: Int { heard.words.withLock { $0.closed } }

        /// Bytes of a frame come in; errors of the decoder go to the handler, as in a real pipeline.
        func receive(opcode: UInt8, fin: Bool = true, _ payload: [UInt8], claiming length: Int? = nil) {
            let length = length ?? payload.count
            var bytes: [UInt8] = [(fin ? 0x80 : 0) | opcode]
            switch length {
            case ..<126: bytes.append(UInt8(length))
            case ..<65_536: bytes += [126, UInt8(length >> 8), UInt8(length & 255)]
            default: bytes += [127] + (0..<8).map { UInt8(truncatingIfNeeded: length >> (56 - 8 * $0)) }
            }
            // A refusal shows in what was sent.
            _ = try? channel.writeInbound(ByteBuffer(bytes: bytes + payload))
            channel.embeddedEventLoop.run()
        }

        func receive(_ frame: AgentFrame) { receive(opcode: 1, frame.encoded) }

        func receive(text: String) { receive(opcode: 1, Array(text.utf8)) }

        /// The close codes that left, and the frames before them.
        func sent() throws -> (frames: [GatewayFrame], pongs: Int, codes: [UInt16], longest: Int) {
            channel.embeddedEventLoop.run()
            var frames: [GatewayFrame] = []
            var (pongs, longest) = (0, 0)
            var codes: [UInt16] = []
            while var frame = try channel.readOutbound(as: WebSocketFrame.self) {
                switch frame.opcode {
                case .connectionClose:
                    longest = max(longest, frame.data.readableBytes)
                    codes +=
                        frame.data.readWebSocketErrorCode().map { [UInt16(webSocketErrorCode: $0)] } ?? []
                case .pong: pongs += 1
                default:
                    let frame = try GatewayFrame.decode(Array(buffer: frame.data))
                    if case .welcome = frame { continue }
                    frames.append(frame)
                }
            }
            return (frames, pongs, codes, longest)
        }

        func advance(_ seconds: Int64) { channel.embeddedEventLoop.advanceTime(by: .seconds(seconds)) }
    }

    private static let name = AttemptName(run: fresh(), attempt: 1, token: fresh())

    private func line(certificateSeconds: Int64 = 86_400) throws -> Line {
        try Line(peer: try Identities.peer(validitySeconds: certificateSeconds))
    }

    @Test("A hello and the messages after it are handed on")
    func session() throws {
        let line = try line()
        line.receive(.hello(.example()))
        line.receive(.accepted(Accepted(name: Self.name, journalPosition: 1)))
        line.receive(.started(Started(name: Self.name, at: Instant(seconds: 1), journalPosition: 2)))
        #expect(line.hellos == [.example()])
        #expect(line.messages.count == 2)
        #expect(line.violations.isEmpty)
        #expect(line.channel.isActive)
    }

    @Test("Nobody listens to a device before it is welcome; what it said waits, up to a limit")
    func unjudged() throws {
        let line = try Line(peer: try Identities.peer(validitySeconds: 86_400), isWelcome: false)
        line.receive(.hello(.example()))
        for _ in 0..<64 { line.receive(.accepted(Accepted(name: Self.name, journalPosition: 1))) }
        line.receive(.ping(1))
        #expect(line.messages.isEmpty)
        #expect(try line.sent().frames == [.pong(1)])
        line.welcome()
        #expect(line.messages.count == 64)
        line.receive(.accepted(Accepted(name: Self.name, journalPosition: 1)))
        #expect(line.messages.count == 65)

        let other = try Line(peer: try Identities.peer(validitySeconds: 86_400), isWelcome: false)
        other.receive(.hello(.example()))
        for _ in 0..<65 { other.receive(.accepted(Accepted(name: Self.name, journalPosition: 1))) }
        #expect(try other.sent().codes == [4400])
        other.welcome()
        #expect(other.messages.isEmpty)
    }

    @Test("A device that is sent away is not listened to any more")
    func sentAway() throws {
        let line = try Line(peer: try Identities.peer(validitySeconds: 86_400), isWelcome: false)
        line.receive(.hello(.example()))
        line.receive(.accepted(Accepted(name: Self.name, journalPosition: 1)))
        line.session?.close(.refused("no"))
        line.welcome()
        line.receive(.accepted(Accepted(name: Self.name, journalPosition: 1)))
        #expect(line.messages.isEmpty)
    }

    @Test("A peer that does not read what it is sent is not read from")
    func deaf() throws {
        let line = try line()
        line.receive(.hello(.example()))
        for isWritable in [false, true] {
            line.channel.isWritable = isWritable
            line.channel.pipeline.fireChannelWritabilityChanged()
            line.channel.embeddedEventLoop.run()
            let option = line.channel.options.last { $0.option is ChannelOptions.Types.AutoReadOption }
            #expect(option?.value as? Bool == isWritable)
        }
    }

    @Test("A peer that does not take the close frame is closed all the same")
    func stuck() throws {
        let line = try line()
        line.receive(.hello(.example()))
        try line.channel.pipeline.syncOperations.addHandler(Stuck(), position: .first)
        line.session?.close(.silent)
        line.channel.embeddedEventLoop.run()
        #expect(line.channel.isActive)
        line.advance(5)
        #expect(!line.channel.isActive)
    }

    /// A connection on which nothing leaves.
    private final class Stuck: ChannelOutboundHandler {
        typealias OutboundIn = WebSocketFrame

        private var waiting: [EventLoopPromise<Void>] = []

        func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
            if let promise { waiting.append(promise) }
        }

        func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
            for promise in waiting { promise.fail(ChannelError.ioOnClosedChannel) }
            waiting = []
            context.close(mode: mode, promise: promise)
        }
    }

    @Test("A ping of the protocol and one of WebSocket are answered at once, and are no message")
    func pings() throws {
        let line = try line()
        line.receive(.hello(.example()))
        line.receive(.ping(7))
        line.receive(opcode: 9, [1, 2, 3])
        let sent = try line.sent()
        #expect(sent.frames == [.pong(7)])
        #expect(sent.pongs == 1)
        #expect(line.messages.isEmpty)
    }

    @Test("No hello within ten seconds closes with 4408")
    func noHello() throws {
        let line = try line()
        line.advance(9)
        #expect(line.violations.isEmpty)
        line.advance(1)
        #expect(try line.sent().codes == [4408])
        #expect(line.violations == [4408])
        #expect(!line.channel.isActive)
        #expect(line.closed == 1)
    }

    @Test("A hello in time is not overtaken by that limit, but three silent periods are noticed with 4408")
    func silence() throws {
        let line = try line()
        line.advance(9)
        line.receive(.hello(.example()))
        line.advance(29)
        line.receive(.ping(1))
        line.advance(60)
        #expect(line.violations.isEmpty)
        line.receive(opcode: 10, [])
        line.advance(90)
        #expect(line.violations.isEmpty, "it was heard within the period that ends now")
        line.advance(30)
        #expect(try line.sent().codes == [4408])
    }

    @Test("A hello may be repeated at its pace; more than four in a period close with 4400")
    func hellos() throws {
        let line = try line()
        for _ in 0..<4 { line.receive(.hello(.example())) }
        for _ in 0..<5 {
            line.advance(59)
            line.receive(.ping(1))
        }
        line.advance(5)
        for _ in 0..<4 { line.receive(.hello(.example())) }
        #expect(line.violations.isEmpty)
        #expect(line.hellos.count == 8)
        line.advance(1)
        line.receive(.hello(.example()))
        #expect(try line.sent().codes == [4400])
        #expect(line.hellos.count == 8)
        #expect(line.violations == [4400])
    }

    @Test(
        "A message before the hello closes with 4400",
        arguments: [
            AgentFrame.ping(1), .accepted(Accepted(name: name, journalPosition: 1)),
            .started(Started(name: name, at: Instant(seconds: 1), journalPosition: 2)),
            .finished(Finished(name: name, outcome: .succeeded, finishedAt: Instant(seconds: 1))),
            .rejected(Rejected(name: name, code: "x", message: "x")),
        ])
    func beforeHello(frame: AgentFrame) throws {
        let line = try line()
        line.receive(frame)
        #expect(try line.sent().codes == [4400])
        #expect(line.messages.isEmpty)
        #expect(!line.channel.isActive)
    }

    @Test(
        "Nonsense closes with 4400",
        arguments: [
            "", "nonsense", "{}", "[]", #"{"type":"unheard"}"#, #"{"type":"hello"}"#, #"{"type":"welcome"}"#,
            #"{"type":"ping","n":"#, "\u{0}", #"{"type":"accepted","run":"x","attempt":1,"token":"y"}"#,
            String(repeating: "[", count: 100_000),
        ])
    func nonsense(text: String) throws {
        let line = try line()
        line.receive(text: text)
        #expect(try line.sent().codes == [4400])
        #expect(line.violations == [4400])
    }

    @Test("Random text never gets through and never brings the gateway down")
    func randomText() throws {
        var bytes = AgentFrame.hello(.example()).encoded
        for _ in 0..<300 {
            let line = try line()
            let index = Int.random(in: bytes.indices)
            let kept = bytes[index]
            bytes[index] = UInt8.random(in: 0...255)
            line.receive(opcode: 1, bytes)
            bytes[index] = kept
            let codes = try line.sent().codes
            #expect(codes == (line.hellos.isEmpty ? [4400] : []))
        }
    }

    @Test("Bytes that are no UTF-8 close with 4400")
    func notUTF8() throws {
        let line = try line()
        line.receive(opcode: 1, Array(#"{"type":""#.utf8) + [0xFF, 0xFE] + Array(#""}"#.utf8))
        #expect(try line.sent().codes == [4400])
    }

    @Test("A binary message closes with 4400")
    func binary() throws {
        let line = try line()
        line.receive(.hello(.example()))
        line.receive(opcode: 2, [1, 2, 3])
        #expect(try line.sent().codes == [4400])
    }

    @Test("A frame that announces more than a message may have closes with 4413 before it has come")
    func oversized() throws {
        let line = try line()
        line.receive(opcode: 1, [], claiming: Limits.frameBytesMax + 1)
        #expect(try line.sent().codes == [4413])
        #expect(line.violations == [4413])
    }

    @Test("Fragments that together are more than a message may have close with 4413")
    func oversizedInParts() throws {
        let line = try line()
        let half = [UInt8](repeating: UInt8(ascii: " "), count: Limits.frameBytesMax / 2 + 1)
        line.receive(opcode: 1, fin: false, half)
        #expect(line.violations.isEmpty)
        line.receive(opcode: 0, fin: true, half)
        #expect(try line.sent().codes == [4413])
    }

    @Test("A message in very many fragments closes with 4413")
    func manyFragments() throws {
        let line = try line()
        line.receive(opcode: 1, fin: false, [UInt8(ascii: " ")])
        for _ in 0..<1_030 where line.violations.isEmpty {
            line.receive(opcode: 0, fin: false, [UInt8(ascii: " ")])
        }
        #expect(try line.sent().codes == [4413])
    }

    @Test("Wrong framing closes with 4400")
    func framing() throws {
        let line = try line()
        line.receive(opcode: 0, [1])
        #expect(try line.sent().codes == [4400])
    }

    @Test("After the first violation nothing more is heard, and one close frame leaves")
    func firstViolation() throws {
        let line = try line()
        let nonsense = ByteBuffer(bytes: [0x81, 2] + Array("no".utf8))
        let encoded = AgentFrame.hello(.example()).encoded
        var both = nonsense
        both.writeBytes([0x81, 126, UInt8(encoded.count >> 8), UInt8(encoded.count & 255)] + encoded)
        // The refusal shows in what was sent.
        _ = try? line.channel.writeInbound(both)
        #expect(try line.sent().codes == [4400])
        #expect(line.hellos.isEmpty)
    }

    @Test("A close frame fits a control frame whatever it quotes")
    func longReason() throws {
        let line = try line()
        line.receive(text: #"{"type":"\#(String(repeating: "€", count: 400))"}"#)
        let sent = try line.sent()
        #expect(sent.codes == [4400])
        #expect(sent.longest <= 125)
    }

    @Test("A session ends with its certificate, with 4401")
    func certificateEnd() throws {
        let line = try line(certificateSeconds: 3_600)
        line.receive(.hello(.example()))
        for _ in 0..<119 {
            line.advance(30)
            line.receive(.ping(1))
        }
        #expect(line.violations.isEmpty)
        line.advance(60)
        #expect(line.violations == [4401])
        #expect(!line.channel.isActive)
    }

    @Test("A connection that ends is handed on once, and its clocks stop")
    func ended() throws {
        let line = try line()
        line.receive(.hello(.example()))
        line.receive(opcode: 8, [3, 232])
        #expect(!line.channel.isActive)
        #expect(line.closed == 1)
        line.advance(100_000)
        #expect(line.closed == 1)
        #expect(line.violations.isEmpty)
    }
}
