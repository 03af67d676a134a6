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
    /// What both ends have agreed on.
    let features: Features
    /// The public key that secrets are sealed to: the certificate's (DER).
    let deviceKey: [UInt8]
    private let channel: any Channel
    private let state: Mutex<State>

    private struct State {
        /// Where the device belongs: as its certificate says, and since the hello was judged as its row does.
        var organization: OrganizationID
        /// The number that the queue gave; 0 until the hello is answered.
        var number = 0
        /// Which copy of its journal the device speaks from.
        var journalCopy = 0
        /// The newest key set that the device has, or was handed.
        var keySetVersion = 0
        /// Results that were handed on and are not acknowledged yet, and whether there are too many.
        var inFlight = 0
        var hasManyResults = false
        /// Whether the peer reads what it is sent.
        var isWritable = true
        /// What is to be sent behind the welcome, which must be the first frame; `nil` once it was sent.
        var early: [GatewayFrame]? = []
        /// What the device said before it was judged; nobody listens to it unless it is welcomed.
        var unjudged: [AgentFrame] = []
        var isClosed = false
        /// Whether nothing was heard of the agent for long.
        var isSilent = false
        /// Whether the agent took leave before it went.
        var hasLeft = false
        var hasEnded = false

        var mayRead: Bool { !hasManyResults && isWritable }
    }

    /// What becomes of a frame that came.
    enum Admission {
        /// The device is welcome: act on it.
        case taken
        /// It waits for the welcome, or nobody listens any more.
        case kept
        /// More than may wait.
        case tooMany
    }

    init(
        device: DeviceID, organization: OrganizationID, features: Features = [],
        deviceKey: [UInt8] = [], channel: any Channel
    ) {
        (self.features, self.deviceKey) = (features, deviceKey)
        self.device = device
        self.channel = channel
        state = Mutex(State(organization: organization))
    }

    /// Where the device belongs.
    var organization: OrganizationID { state.withLock { $0.organization } }

    /// The number that the queue gave this session.
    var number: Int { state.withLock { $0.number } }

    /// Whether it was welcomed.
    var isServing: Bool { state.withLock { $0.early == nil } }

    /// Whether the connection has ended: what is registered after it would never be taken back.
    var hasEnded: Bool { state.withLock { $0.hasEnded } }

    func end() { state.withLock { $0.hasEnded = true } }

    /// The agent takes leave.
    func leave() { state.withLock { $0.hasLeft = !$0.isClosed } }

    /// How the session ended: closed from here, left by the agent, or neither, so that it vanished.
    var departure: Departure {
        state.withLock { $0.hasLeft ? .left : $0.isClosed && !$0.isSilent ? .closed : .vanished }
    }

    /// The device was judged: it belongs there.
    func settle(in organization: OrganizationID) { state.withLock { $0.organization = organization } }

    func assign(number: Int) { state.withLock { $0.number = number } }

    /// Writes frames and flushes once, behind a key set that the device lacks. A closed channel swallows
    /// them: what matters is repeated at the next hello.
    /// - Returns: whether the key set was one that it lacks.
    @discardableResult
    func send(_ frames: [GatewayFrame], behind keySet: PublishedKeySet.Newest? = nil) -> Bool {
        // Written under the lock, which only hands the frames to the loop: so they leave in order, and nobody
        // else takes the key set for sent before it is.
        state.withLock { state in
            guard !state.isClosed else { return false }
            var frames = frames
            let lacked = keySet.flatMap { $0.version > state.keySetVersion ? $0 : nil }
            if let lacked {
                state.keySetVersion = lacked.version
                frames.insert(.statements(NewerStatements(keySet: lacked.statement)), at: 0)
            }
            guard !frames.isEmpty else { return false }
            if state.early == nil { write(frames) } else { state.early? += frames }
            return lacked != nil
        }
    }

    /// Answers a ping at once.
    func pong(_ sequence: Int) { write([.pong(sequence)]) }

    /// Judges a frame by where the session stands: before the welcome it waits, after a close it is dropped.
    func admit(_ frame: AgentFrame) -> Admission {
        state.withLock { state in
            if state.isClosed { return .kept }
            if state.early == nil { return .taken }
            guard state.unjudged.count < Self.unjudgedMax else { return .tooMany }
            state.unjudged.append(frame)
            return .kept
        }
    }

    /// The newest key set that the device has, or was handed.
    var keySetVersion: Int { state.withLock(\.keySetVersion) }

    /// Which copy of its journal the device speaks from.
    var journalCopy: Int {
        get { state.withLock { $0.journalCopy } }
        set { state.withLock { $0.journalCopy = newValue } }
    }

    /// Answers a hello. The answer to the first is the first frame of the session, and behind it leaves what
    /// was to be sent too early. The device has, or gets by it, the key set of this version.
    /// - Returns: what the device has said meanwhile; `nil` if the session is closed.
    func welcome(_ welcome: Welcome, keySetVersion: Int = 0) -> [AgentFrame]? {
        state.withLock { state in
            guard !state.isClosed else { return nil }
            state.keySetVersion = max(state.keySetVersion, keySetVersion)
            write([.welcome(welcome)] + (state.early ?? []))
            state.early = nil
            defer { state.unjudged = [] }
            return state.unjudged
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
        setReading { state in
            state.inFlight += 1
            if state.inFlight >= Self.inFlightMax { state.hasManyResults = true }
        }
    }

    /// Results were settled: acknowledges them, and reads on if reading was paused.
    func acknowledge(_ names: [AttemptName]) {
        // The results came after the welcome, so nothing has to wait for that.
        write(names.map(GatewayFrame.acknowledged))
        setReading { state in
            state.inFlight -= names.count
            if state.inFlight < Self.inFlightMax / 2 { state.hasManyResults = false }
        }
    }

    /// A peer that does not read is not listened to, so that answers to it do not pile up.
    func peer(reads: Bool) { setReading { $0.isWritable = reads } }

    /// Whether it is being closed: nothing more is sent then.
    var isClosed: Bool { state.withLock(\.isClosed) }

    /// Says why and closes; once.
    func close(_ reason: CloseReason) {
        let isFirst = state.withLock { state in
            defer { (state.isClosed, state.unjudged) = (true, []) }
            if !state.isClosed { state.isSilent = reason == .silent }
            return !state.isClosed
        }
        guard isFirst else { return }
        let channel = channel
        channel.eventLoop.execute {
            var data = channel.allocator.buffer(capacity: 2 + reason.message.utf8.count)
            data.write(webSocketErrorCode: WebSocketErrorCode(codeNumber: Int(reason.code)))
            data.writeString(String(reason.message.prefix(120)))
            channel.writeAndFlush(WebSocketFrame(fin: true, opcode: .connectionClose, data: data))
                .whenComplete { _ in channel.close(promise: nil) }
            // A peer that does not read would keep its session by that.
            let giveUp = channel.eventLoop.scheduleTask(in: Self.closeTimeout) { channel.close(promise: nil) }
            channel.closeFuture.whenComplete { _ in giveUp.cancel() }
        }
    }

    /// Changes the state, and reads on or pauses if that follows from it.
    private func setReading(_ change: (inout State) -> Void) {
        state.withLock { state in
            let before = state.mayRead
            change(&state)
            guard state.mayRead != before else { return }
            let (channel, mayRead) = (channel, state.mayRead)
            // Handed to the loop under the lock, so that the last word is the last change's. A channel that
            // is closed has no use for it.
            channel.eventLoop.execute {
                channel.setOption(ChannelOptions.autoRead, value: mayRead).whenFailure { _ in }
            }
        }
    }

    private static let closeTimeout = TimeAmount.seconds(5)
    private static let inFlightMax = 64
    private static let unjudgedMax = 64
}
