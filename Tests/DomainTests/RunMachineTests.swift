import Testing

@testable import Domain

/// A reproducible source of randomness (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }
}

/// Everything that may happen to a run.
enum RunEvent: Equatable {
    case due
    case mark(generation: Int, token: AttemptToken)
    case wait(generation: Int)
    case reconnect
    case sent(AttemptToken)
    case undeliver(AttemptToken)
    case start(AttemptToken)
    case finish(AttemptToken, Outcome)
    case cancel
    case expire
    case retry(AttemptToken, Outcome)
    case lapse
    case revive

    /// What an agent may report; `expired` is the server's word.
    static let words: [Outcome] = [.succeeded, .failed, .timedOut, .cancelled, .unknown]

    /// A random event: mostly with the run's own generation and token, sometimes with strange ones.
    static func random(for run: RunMachine, using generator: inout some RandomNumberGenerator) -> RunEvent {
        func token(_ generator: inout some RandomNumberGenerator) -> AttemptToken {
            if let open = run.token, !Int.random(in: 0..<5, using: &generator).isMultiple(of: 5) {
                return open
            }
            return AttemptToken(UniqueID.v7(at: Instant(seconds: 1), using: &generator))
        }
        func generation(_ generator: inout some RandomNumberGenerator) -> Int {
            run.generation + (Int.random(in: 0..<5, using: &generator) == 0 ? 1 : 0)
        }
        return switch Int.random(in: 0..<28, using: &generator) {
        case 0, 1: .due
        case 2...5: .mark(generation: generation(&generator), token: token(&generator))
        case 6, 7: .wait(generation: generation(&generator))
        case 8, 9: .reconnect
        case 10...12: .sent(token(&generator))
        case 13, 14: .undeliver(token(&generator))
        case 15, 16: .start(token(&generator))
        case 17, 18: .finish(token(&generator), words.randomElement(using: &generator) ?? .failed)
        case 19: .cancel
        case 20: .expire
        case 21, 22: .lapse
        case 23, 24: .revive
        default:
            .retry(
                token(&generator), [.failed, .timedOut, .unknown].randomElement(using: &generator) ?? .failed)
        }
    }
}

extension RunMachine {
    /// Applies an event; what was refused says why.
    mutating func apply(_ event: RunEvent) -> Refusal? {
        do {
            switch event {
            case .due: try becomeDue()
            case .mark(let generation, let token): _ = try mark(generation: generation, token: token)
            case .wait(let generation): try wait(generation: generation)
            case .reconnect: try reconnect()
            case .sent(let token): try sent(token: token)
            case .undeliver(let token): try undeliver(token: token)
            case .start(let token): try start(token: token)
            case .finish(let token, let outcome): try finish(token: token, outcome: outcome)
            case .cancel: try cancel()
            case .expire: try expire()
            case .retry(let token, let outcome): try retry(token: token, after: outcome)
            case .lapse: try lapse()
            case .revive: try revive()
            }
            return nil
        } catch {
            return error
        }
    }
}

/// Any instant: tokens differ by their random bits.
private let noon = Instant(seconds: 1_900_000_000)

@Suite struct RunMachineTests {
    /// The states that an event may leave, and where each leads.
    private static let ways: Set<[RunState]> = [
        [.scheduled, .queued], [.scheduled, .cancelled], [.scheduled, .expired],
        [.queued, .dispatched], [.queued, .waiting], [.queued, .cancelled], [.queued, .expired],
        [.waiting, .queued], [.waiting, .cancelled], [.waiting, .expired],
        [.scheduled, .dispatched], [.scheduled, .succeeded], [.scheduled, .failed], [.scheduled, .timedOut],
        [.scheduled, .unknown],
        [.queued, .failed], [.queued, .timedOut], [.queued, .unknown],
        [.waiting, .failed], [.waiting, .timedOut], [.waiting, .unknown],
        [.dispatched, .queued], [.dispatched, .running], [.dispatched, .scheduled],
        [.dispatched, .cancelled],
        [.dispatched, .expired], [.dispatched, .unknown], [.dispatched, .succeeded], [.dispatched, .failed],
        [.dispatched, .timedOut],
        [.running, .scheduled], [.running, .cancelled], [.running, .unknown], [.running, .succeeded],
        [.running, .failed], [.running, .timedOut],
        [.unknown, .succeeded], [.unknown, .failed], [.unknown, .timedOut], [.unknown, .cancelled],
        [.cancelled, .succeeded], [.cancelled, .failed], [.cancelled, .timedOut],
    ]

    @Test(
        "Whatever happens in whatever order, the invariants of a run hold",
        arguments: [UInt64(1), 2])
    func randomLives(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var seen: Set<[RunState]> = []
        var refusals = 0
        for _ in 0..<12_000 {
            var run = RunMachine(scheduled: Bool.random(using: &generator))
            var amendments = 0
            for _ in 0..<24 {
                let before = run
                let event = RunEvent.random(for: run, using: &generator)
                let refusal = run.apply(event)
                if refusal != nil {
                    refusals += 1
                    try #require(run == before, "\(event) was refused and changed the run")
                    continue
                }
                if run.state != before.state {
                    seen.insert([before.state, run.state])
                    let isWay = Self.ways.contains([before.state, run.state])
                    try #require(isWay, "\(event) on \(before)")
                }
                try check(event, before, run)
                if before.state.isOutcome, run.state.isOutcome, case .finish = event { amendments += 1 }
            }
            try #require(amendments <= 1)
        }
        #expect(Self.ways.subtracting(seen).isEmpty, "the random lives do not walk every way")
        #expect(refusals > 10_000)
    }

    /// What each accepted event may do to a run.
    private func check(_ event: RunEvent, _ before: RunMachine, _ run: RunMachine) throws {
        let enters = run.state == .queued && before.state != .queued
        try #require(run.generation == before.generation + (enters ? 1 : 0), "\(event)")
        if before.wasSent, run.state != .scheduled {
            try #require(run.wasSent, "\(event) forgot that the attempt was sent")
        }
        if run.state == .expired, before.state != .expired {
            try #require(!before.wasSent, "a sent attempt expired")
        }
        if run.state == .dispatched || run.state == .running {
            try #require(run.token != nil && run.attempt > 0, "\(event)")
        }
        if run.state == .scheduled, event != .lapse, before.state != .scheduled {
            try #require(run.token == nil, "\(event)")
        }
        if run.state == .queued, before.state == .scheduled {
            try #require(before.token == nil, "an open attempt was followed by another")
        }
        if case .retry(let token, _) = event {
            try #require(!before.cancelRequested && before.token == token && run.state == .scheduled)
            try #require(run.previous?.attempt == before.attempt)
        }
        if case .expire = event, !before.wasSent, let previous = before.previous {
            try #require(run.state == previous.outcome.state && run.attempt == previous.attempt)
            try #require(run.token == previous.token)
        } else if case .mark(_, let new) = event {
            try #require(before.state == .queued && !before.cancelRequested)
            let again = before.token != nil
            try #require(run.attempt == before.attempt + (again ? 0 : 1))
            if let previous = before.previous, !again { try #require(run.attempt == previous.attempt + 1) }
            try #require(run.token == (again ? before.token : new))
        } else {
            try #require(run.attempt == before.attempt, "only a mark begins an attempt")
            if run.token != nil { try #require(run.token == before.token, "only a mark draws a token") }
        }
        if before.state.isOutcome, run.state != before.state {
            try #require(before.isAmendable && !run.isAmendable, "\(event) changed an outcome")
        }
        if run.isAmendable {
            try #require(run.state == .unknown || run.state == .cancelled, "\(event)")
            let isOwnWord = event == .finish(run.token ?? .new(at: noon), .unknown)
            try #require(run.wasSent || isOwnWord || run.previous?.token == run.token)
        }
    }

    @Test("An attempt that was marked and never sent keeps its number and token when it is marked again")
    func markedAgain() throws {
        var run = RunMachine()
        let token = AttemptToken.new(at: noon)
        #expect(try run.mark(generation: 1, token: token) == token)
        try run.undeliver(token: token)
        #expect(run.generation == 2)
        #expect(throws: RunMachine.Refusal.staleGeneration) {
            _ = try run.mark(generation: 1, token: .new(at: noon))
        }
        #expect(try run.mark(generation: 2, token: .new(at: noon)) == token)
        #expect(run.attempt == 1)
    }

    @Test("A retry begins a new attempt with a token of its own, and forgets that the last one was sent")
    func retried() throws {
        var run = RunMachine()
        let token = try run.mark(generation: 1, token: .new(at: noon))
        try run.sent(token: token)
        try run.retry(token: token, after: .failed)
        try run.becomeDue()
        let next = try run.mark(generation: 2, token: .new(at: noon))
        #expect(next != token)
        #expect(run.attempt == 2)
        #expect(!run.wasSent)
    }

    @Test("The agent's word after the deadline amends the outcome once; a second word is a duplicate")
    func amended() throws {
        var run = RunMachine()
        let token = try run.mark(generation: 1, token: .new(at: noon))
        try run.sent(token: token)
        try run.expire()
        #expect(run.state == .unknown)
        #expect(throws: RunMachine.Refusal.staleAttempt) {
            try run.finish(token: .new(at: noon), outcome: .succeeded)
        }
        try run.finish(token: token, outcome: .succeeded)
        #expect(run.state == .succeeded)
        #expect(throws: RunMachine.Refusal.duplicate) { try run.finish(token: token, outcome: .failed) }
        #expect(run.state == .succeeded)
    }

    @Test("An agent that still cannot say how it ended leaves the amendment to a later word")
    func unknownTwice() throws {
        var run = RunMachine()
        let token = try run.mark(generation: 1, token: .new(at: noon))
        try run.sent(token: token)
        try run.expire()
        #expect(throws: RunMachine.Refusal.duplicate) { try run.finish(token: token, outcome: .unknown) }
        try run.finish(token: token, outcome: .succeeded)
        #expect(run.state == .succeeded)
    }

    @Test("Nothing is sent that is not on its way: before the mark, after a lost inbox, after the end")
    func sentOnlyWhenDispatched() throws {
        var run = RunMachine()
        let token = try run.mark(generation: 1, token: .new(at: noon))
        try run.undeliver(token: token)
        #expect(throws: RunMachine.Refusal.wrongState(.queued)) { try run.sent(token: token) }
        try run.wait(generation: 2)
        #expect(throws: RunMachine.Refusal.wrongState(.waiting)) { try run.sent(token: token) }
        try run.expire()
        #expect(throws: RunMachine.Refusal.wrongState(.expired)) { try run.sent(token: token) }
        #expect(!run.wasSent)
    }

    @Test("A cancel ends at once what was not sent, and waits for the agent's word about what was")
    func cancelled() throws {
        var unsent = RunMachine()
        _ = try unsent.mark(generation: 1, token: .new(at: noon))
        try unsent.cancel()
        #expect(unsent.state == .cancelled && !unsent.isAmendable)
        var sent = RunMachine()
        let token = try sent.mark(generation: 1, token: .new(at: noon))
        try sent.sent(token: token)
        try sent.cancel()
        #expect(sent.state == .dispatched && sent.cancelRequested)
        #expect(throws: RunMachine.Refusal.cancelRequested) { try sent.retry(token: token, after: .failed) }
        try sent.expire()
        #expect(sent.state == .cancelled && sent.isAmendable)
    }

    @Test("A retry that expires unsent ends as its last attempt did, also when it was marked already")
    func expiredRetry() throws {
        for isMarked in [false, true] {
            var run = RunMachine()
            let token = try run.mark(generation: 1, token: .new(at: noon))
            try run.sent(token: token)
            try run.retry(token: token, after: .timedOut)
            if isMarked {
                try run.becomeDue()
                _ = try run.mark(generation: 2, token: .new(at: noon))
            }
            try run.expire()
            #expect(run.state == .timedOut && run.attempt == 1 && run.token == token)
            #expect(!run.isAmendable)
        }
    }

    @Test("A run is given up in its place in the queue only, and no word amends one that was never sent")
    func givenUp() throws {
        var run = RunMachine()
        #expect(throws: RunMachine.Refusal.staleGeneration) { try run.giveUp(generation: 2) }
        try run.giveUp(generation: 1)
        #expect(run.state == .failed && !run.isAmendable && run.attempt == 0)
        #expect(throws: RunMachine.Refusal.wrongState(.failed)) { try run.giveUp(generation: 1) }
        var marked = RunMachine()
        _ = try marked.mark(generation: 1, token: AttemptToken(.zero))
        #expect(throws: RunMachine.Refusal.wrongState(.dispatched)) { try marked.giveUp(generation: 1) }
    }

    @Test("A copy of the word that led to a retry is a duplicate; another word about that attempt is late")
    func wordsAfterRetry() throws {
        var run = RunMachine()
        let token = try run.mark(generation: 1, token: .new(at: noon))
        try run.retry(token: token, after: .failed)
        #expect(throws: RunMachine.Refusal.duplicate) { try run.finish(token: token, outcome: .failed) }
        #expect(throws: RunMachine.Refusal.duplicate) { try run.retry(token: token, after: .failed) }
        #expect(throws: RunMachine.Refusal.wrongState(.scheduled)) {
            try run.finish(token: token, outcome: .succeeded)
        }
        try run.becomeDue()
        _ = try run.mark(generation: 2, token: .new(at: noon))
        #expect(throws: RunMachine.Refusal.duplicate) { try run.finish(token: token, outcome: .failed) }
        #expect(throws: RunMachine.Refusal.staleAttempt) {
            try run.finish(token: token, outcome: .succeeded)
        }
    }

    @Test("A lapsed attempt is followed by no other until its device has spoken, and its word still counts")
    func lapsed() throws {
        var run = RunMachine()
        let token = try run.mark(generation: 1, token: .new(at: noon))
        #expect(throws: RunMachine.Refusal.wrongState(.dispatched)) { try run.lapse() }
        try run.start(token: token)
        try run.lapse()
        #expect(throws: RunMachine.Refusal.openAttempt) { try run.becomeDue() }
        var silent = run
        try silent.expire()
        #expect(silent.state == .unknown && silent.isAmendable)
        var spoken = run
        try spoken.finish(token: token, outcome: .succeeded)
        #expect(spoken.state == .succeeded)
        var cancelled = run
        try cancelled.cancel()
        #expect(cancelled.state == .scheduled, "the device may run it still")
        try run.revive()
        #expect(run.state == .dispatched && run.token == token && run.attempt == 1)
    }
}

@Suite struct RetryPolicyTests {
    @Test("Attempts are followed by another up to the last, and only after the outcomes that are named")
    func allowed() {
        let policy = RetryPolicy(
            maximumAttempts: 3, backoffSeconds: 10, maximumBackoffSeconds: 30, outcomes: [.failed, .unknown])
        #expect(policy.allowsAnother(after: 1, endedAs: .failed))
        #expect(policy.allowsAnother(after: 2, endedAs: .unknown))
        #expect(!policy.allowsAnother(after: 3, endedAs: .failed))
        for outcome in [Outcome.succeeded, .timedOut, .cancelled, .expired] {
            #expect(!policy.allowsAnother(after: 1, endedAs: outcome))
        }
        for outcome in Outcome.allCases {
            #expect(!RetryPolicy.none.allowsAnother(after: 1, endedAs: outcome))
        }
        #expect(
            (0..<4).map { policy.backoff.ceiling(attempt: $0) } == [10, 20, 30, 30].map(Duration.seconds))
    }
}
