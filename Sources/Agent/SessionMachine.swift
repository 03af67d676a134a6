import Wire

/// One session's life by the clock: hello, welcome in time, pings and their pongs, and the hello again at a
/// slow pace. Pure, in seconds of a monotonic clock.
///
/// A hello that is repeated asks for what a push may have lost. It may stay unanswered, as when the server
/// cannot read its ledger just now; the next one asks again.
///
/// | phase | holds | left by |
/// |---|---|---|
/// | greeting | hello is sent | welcome; `welcomeSecondsMax` |
/// | serving | frames flow | a ping that found no pong within two periods; the end of the connection |
/// | ended | nothing is sent or taken | – |
struct SessionMachine: Sendable, Equatable {
    static let welcomeSecondsMax = Double(Limits.welcomeSecondsMax)

    enum Action: Sendable, Equatable {
        case none
        /// Hand the frame to the agent.
        case deliver(GatewayFrame)
        case ping(Int)
        /// Say again what the device holds.
        case hello
        /// Close the connection and say why.
        case end(String)
    }

    private enum Phase: Equatable {
        case greeting(until: Double)
        case serving
        case ended
    }

    private var phase: Phase
    private var pingSeconds = 0.0
    private var nextPing = 0.0
    private var sequence = 0
    /// The last ping that was answered, and when the oldest unanswered one was sent.
    private var answered = 0
    private var unansweredSince: Double?
    private var helloSeconds = 0.0
    private var nextHello = 0.0
    /// Repeated hellos that found no welcome yet.
    private var asked = 0
    /// Where between half of it and the whole the pace of hellos lies, so that agents which came together do
    /// not ask together.
    private let spread: Double

    /// Hello was sent at this time; `spread` is a random number in 0 ..< 1.
    init(now: Double, spread: Double) {
        phase = .greeting(until: now + Self.welcomeSecondsMax)
        self.spread = spread
    }

    /// A frame came.
    mutating func receive(_ frame: GatewayFrame, now: Double) -> Action {
        switch (phase, frame) {
        case (.ended, _): return .none
        case (.greeting, .welcome(let welcome)):
            phase = .serving
            pingSeconds = Double(welcome.pingSeconds)
            nextPing = now + pingSeconds
            helloSeconds = Double(welcome.helloSeconds) * (1 + spread) / 2
            nextHello = now + helloSeconds
            return .deliver(frame)
        case (.serving, .welcome) where asked > 0:
            asked -= 1
            return .deliver(frame)
        case (.greeting, _): return end("the gateway spoke before its welcome")
        case (.serving, .welcome): return end("the gateway welcomed without being asked")
        case (.serving, .pong(let number)):
            guard number > answered, number <= sequence else {
                return end("the gateway answered a ping that was not sent")
            }
            answered = number
            unansweredSince =
                answered == sequence ? nil : nextPing - pingSeconds * Double(sequence - answered)
            return .none
        case (.serving, _): return .deliver(frame)
        }
    }

    /// Time has passed.
    mutating func tick(now: Double) -> Action {
        switch phase {
        case .ended: return .none
        case .greeting(let until): return now >= until ? end("the gateway did not welcome in time") : .none
        case .serving:
            if let unansweredSince, now >= unansweredSince + 2 * pingSeconds {
                return end("the gateway does not answer pings")
            }
            if now >= nextHello {
                asked += 1
                nextHello = now + helloSeconds
                return .hello
            }
            guard now >= nextPing else { return .none }
            sequence += 1
            nextPing = now + pingSeconds
            unansweredSince = unansweredSince ?? now
            return .ping(sequence)
        }
    }

    /// When to tick next; `nil` after the end.
    var nextTick: Double? {
        switch phase {
        case .ended: nil
        case .greeting(let until): until
        case .serving:
            min(nextHello, unansweredSince.map { min(nextPing, $0 + 2 * pingSeconds) } ?? nextPing)
        }
    }

    private mutating func end(_ reason: String) -> Action {
        phase = .ended
        return .end(reason)
    }
}
