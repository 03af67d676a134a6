import Domain
import Ledger
import NIOCore
import NIOWebSocket
import Synchronization
import Wire

/// One device's connection, as the rest of the gateway sees it. Frames leave in the order of `send`.
final class Session: Sendable {
    /// Who the device is, from its certificate.
    let device: DeviceID
    let organization: OrganizationID
    private let channel: any Channel
    private let state: Mutex<State>

    private struct State {
        /// The number that the queue gave; 0 until the hello is answered.
        var number = 0
        /// Results that were handed on and are not acknowledged yet.
        var inFlight = 0
        var isPaused = false
        /// Frames that came before the welcome, which must be the first; `nil` once it was sent.
        var early: [GatewayFrame]? = []
        var isClosed = false
        var hasEnded = false
    }

    init(device: DeviceID, organization: OrganizationID, channel: any Channel) {
        self.device = device
        self.organization = organization
        self.channel = channel
        state = Mutex(State())
    }

    /// The number that the queue gave this session.
    var number: Int { state.withLock { $0.number } }

    /// Whether the connection has ended: what is registered after it would never be taken back.
    var hasEnded: Bool { state.withLock { $0.hasEnded } }

    func end() { state.withLock { $0.hasEnded = true } }

    func assign(number: Int) { state.withLock { $0.number = number } }

    /// Writes frames and flushes once. A closed channel swallows them: what matters is repeated at the next
    /// hello.
    func send(_ frames: [GatewayFrame]) {
        guard !frames.isEmpty else { return }
        // Written under the lock, which only hands the frames to the loop: so they leave in order.
        state.withLock { state in
            guard state.early == nil else {
                state.early? += frames
                return
            }
            write(frames)
        }
    }

    /// Answers a ping at once.
    func pong(_ sequence: Int) { write([.pong(sequence)]) }

    /// Answers the hello: the first frame of every session, and behind it what came too early.
    func welcome(_ welcome: Welcome) {
        state.withLock { state in
            write([.welcome(welcome)] + (state.early ?? []))
            state.early = nil
        }
    }

    private func write(_ frames: [GatewayFrame]) {
        let messages = frames.map { frame in
            WebSocketFrame(fin: true, opcode: .text, data: ByteBuffer(bytes: frame.encoded))
        }
        channel.eventLoop.execute {
            for message in messages { self.channel.write(message, promise: nil) }
            self.channel.flush()
        }
    }

    /// A result was handed on; reading pauses while too many are.
    func holdResult() {
        let pauses = state.withLock { state in
            state.inFlight += 1
            guard state.inFlight >= Self.inFlightMax, !state.isPaused else { return false }
            state.isPaused = true
            return true
        }
        if pauses { setReading(false) }
    }

    /// Results were settled: acknowledges them, and reads on if reading was paused.
    func acknowledge(_ names: [AttemptName]) {
        let resumes = state.withLock { state in
            state.inFlight -= names.count
            guard state.isPaused, state.inFlight < Self.inFlightMax / 2 else { return false }
            state.isPaused = false
            return true
        }
        // The result came after the welcome, so nothing has to wait for that.
        write(names.map(GatewayFrame.acknowledged))
        if resumes { setReading(true) }
    }

    /// Says why and closes; once.
    func close(_ reason: CloseReason) {
        guard state.withLock({ !exchangeTrue(&$0.isClosed) }) else { return }
        let channel = channel
        channel.eventLoop.execute {
            var data = channel.allocator.buffer(capacity: 2 + reason.message.utf8.count)
            data.write(webSocketErrorCode: WebSocketErrorCode(codeNumber: Int(reason.code)))
            data.writeString(String(reason.message.prefix(120)))
            channel.writeAndFlush(WebSocketFrame(fin: true, opcode: .connectionClose, data: data))
                .whenComplete { _ in channel.close(promise: nil) }
        }
    }

    private func setReading(_ isOn: Bool) {
        channel.setOption(ChannelOptions.autoRead, value: isOn).whenFailure { _ in }
    }

    private static let inFlightMax = 64
}

/// Sets a flag and returns what it was.
private func exchangeTrue(_ flag: inout Bool) -> Bool {
    defer { flag = true }
    return flag
}
