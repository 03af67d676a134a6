/// The life of one run as a pure machine: every legal transition, and nothing else.
///
/// SQL repeats each guard (`WHERE state = …`), since the row in PostgreSQL is the truth; a property test
/// drives both. Invariants: `generation` rises at each entry into `queued`; an attempt exists between its
/// mark and its end; an attempt that was ever sent never becomes `expired`; an outcome is left only by the
/// one amendment. A scheduled run has no open attempt, unless its device is silent: then the attempt stays
/// open until the device has spoken.
package struct RunMachine: Sendable, Equatable {
    /// Where the run is.
    package private(set) var state: RunState
    /// How often the run entered `queued`: what the queue's copies are compared with.
    package private(set) var generation: Int
    /// The number of the latest attempt; 0 before the first mark.
    package private(set) var attempt: Int
    /// The fencing token of the open attempt; `nil` when none is open.
    package private(set) var token: AttemptToken?
    /// Whether the open attempt was ever handed to the device's connection.
    package private(set) var wasSent: Bool
    /// Whether somebody asked for the run to be cancelled.
    package private(set) var cancelRequested: Bool
    /// Whether the outcome was declared without the agent's word and so may be amended, once.
    package private(set) var isAmendable: Bool
    /// The latest attempt that ended and was to be followed by another.
    package private(set) var previous: EndedAttempt?

    /// An attempt that has ended.
    package struct EndedAttempt: Sendable, Equatable {
        /// Its number and token, and how it ended.
        package let attempt: Int
        package let token: AttemptToken
        package let outcome: Outcome
    }

    /// A new run: queued at generation 1, or scheduled for later.
    package init(scheduled: Bool = false) {
        state = scheduled ? .scheduled : .queued
        generation = scheduled ? 0 : 1
        attempt = 0
        token = nil
        wasSent = false
        cancelRequested = false
        isAmendable = false
    }

    /// Why a transition was refused. The machine is unchanged.
    package enum Refusal: Error, Equatable {
        case wrongState(RunState)
        case staleGeneration
        case staleAttempt
        case cancelRequested
        /// The attempt is open until its device has spoken.
        case openAttempt
        /// The same attempt and token has settled already.
        case duplicate
    }

    /// The time of a scheduled run has come.
    package mutating func becomeDue() throws(Refusal) {
        guard state == .scheduled else { throw .wrongState(state) }
        guard token == nil else { throw .openAttempt }
        enterQueued()
    }

    /// The gate: an attempt may leave for the device. An attempt that never ended keeps its number and token.
    package mutating func mark(generation: Int, token new: AttemptToken) throws(Refusal) -> AttemptToken {
        guard state == .queued else { throw .wrongState(state) }
        guard generation == self.generation else { throw .staleGeneration }
        guard !cancelRequested else { throw .cancelRequested }
        if token == nil {
            attempt += 1
            token = new
        }
        state = .dispatched
        return token ?? new
    }

    /// The device is offline.
    package mutating func wait(generation: Int) throws(Refusal) {
        guard state == .queued else { throw .wrongState(state) }
        guard generation == self.generation else { throw .staleGeneration }
        state = .waiting
    }

    /// The device is back.
    package mutating func reconnect() throws(Refusal) {
        guard state == .waiting else { throw .wrongState(state) }
        enterQueued()
    }

    /// The attempt was written to the device's connection.
    package mutating func sent(token: AttemptToken) throws(Refusal) {
        guard state == .dispatched || state == .running else { throw .wrongState(state) }
        try requireOpen(token)
        wasSent = true
    }

    /// The attempt never reached a connection (a lost or full inbox): the run may be marked again, with the
    /// same attempt.
    package mutating func undeliver(token: AttemptToken) throws(Refusal) {
        guard state == .dispatched else { throw .wrongState(state) }
        try requireOpen(token)
        guard !wasSent else { throw .wrongState(state) }
        enterQueued()
    }

    /// The agent says that the attempt started.
    package mutating func start(token: AttemptToken) throws(Refusal) {
        guard state == .dispatched else { throw .wrongState(state) }
        try requireOpen(token)
        wasSent = true
        state = .running
    }

    /// The agent says how the attempt ended: settles an open attempt, or amends, once, an outcome without its
    /// word.
    package mutating func finish(token: AttemptToken, outcome: Outcome) throws(Refusal) {
        if state.isOutcome {
            guard token == self.token else { throw refusal(of: token, outcome) }
            // Saying again that it cannot say changes nothing: its word may still come.
            guard isAmendable, outcome != .unknown else { throw .duplicate }
            isAmendable = false
            state = outcome.state
            return
        }
        try requireLeft(token, outcome)
        state = outcome.state
        // An agent that cannot say how it ended may still find out.
        isAmendable = outcome == .unknown
    }

    /// Somebody asks for the run to be cancelled. Not sent yet: it ends at once. Otherwise the agent's word
    /// decides.
    package mutating func cancel() throws(Refusal) {
        guard !state.isOutcome else { throw .wrongState(state) }
        cancelRequested = true
        if !wasSent && state != .running { state = .cancelled }
    }

    /// The run's time has passed. Never sent: `expired`, or if an attempt has ended before, what that one
    /// ended as. Sent, and no word until the deadline: `unknown`, amendable.
    package mutating func expire() throws(Refusal) {
        guard !state.isOutcome else { throw .wrongState(state) }
        if wasSent {
            state = cancelRequested ? .cancelled : .unknown
            isAmendable = true
        } else if let previous {
            (attempt, token) = (previous.attempt, previous.token)
            state = previous.outcome.state
            isAmendable = previous.outcome == .unknown
        } else {
            state = .expired
        }
    }

    /// Dispatchers have crashed over it, and over nothing else: it is not tried again.
    package mutating func giveUp(generation: Int) throws(Refusal) {
        guard state == .queued else { throw .wrongState(state) }
        guard generation == self.generation else { throw .staleGeneration }
        state = .failed
        isAmendable = wasSent
    }

    /// The agent says how the attempt ended, and it is followed by another one later.
    package mutating func retry(token: AttemptToken, after outcome: Outcome) throws(Refusal) {
        if state.isOutcome { throw refusal(of: token, outcome) }
        try requireLeft(token, outcome)
        guard !cancelRequested else { throw .cancelRequested }
        previous = EndedAttempt(attempt: attempt, token: token, outcome: outcome)
        self.token = nil
        wasSent = false
        state = .scheduled
    }

    /// A running attempt's device is silent past its deadline, and another attempt may follow: the run gives
    /// up its place. What became of the attempt says the device's next hello.
    package mutating func lapse() throws(Refusal) {
        guard state == .running else { throw .wrongState(state) }
        guard !cancelRequested else { throw .cancelRequested }
        state = .scheduled
    }

    /// The device of a lapsed attempt is back: the attempt is open as before, and the hello decides.
    package mutating func revive() throws(Refusal) {
        guard state == .scheduled, token != nil else { throw .wrongState(state) }
        state = .dispatched
    }

    private mutating func enterQueued() {
        state = .queued
        generation += 1
    }

    /// The attempt may end: it is on the device, or its device was silent.
    private func requireLeft(_ token: AttemptToken, _ outcome: Outcome) throws(Refusal) {
        let isLeft = state == .dispatched || state == .running || (state == .scheduled && self.token != nil)
        guard isLeft, token == self.token else { throw refusal(of: token, outcome) }
    }

    /// Why a word about an attempt that is not the open one is not applied: a copy of what was said, or late.
    private func refusal(of token: AttemptToken, _ outcome: Outcome) -> Refusal {
        if let previous, previous.token == token, previous.outcome == outcome { return .duplicate }
        return self.token == nil ? .wrongState(state) : .staleAttempt
    }

    private func requireOpen(_ token: AttemptToken) throws(Refusal) {
        guard let open = self.token else { throw .wrongState(state) }
        guard open == token else { throw .staleAttempt }
    }
}
