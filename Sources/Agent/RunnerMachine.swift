import Domain
import Wire

/// Which jobs share places: a script that hangs never keeps a ping waiting.
enum LaneName: Hashable, Sendable, CaseIterable {
    case interactive
    case script

    init(_ kind: JobKind) {
        switch kind {
        case .ping, .sysinfo: self = .interactive
        case .script: self = .script
        }
    }
}

/// What the device does with each attempt, from its dispatch to the acknowledgement of its result. Pure.
///
/// The journal's state says what was promised; beside it stand the attempts that live in this process. A live
/// attempt is recording (its acceptance is on the way to the disk), waiting (in its lane's queue), running,
/// or settling (its end is on the way to the disk; it comes here once and never leaves but as ended).
/// `intent` is what somebody asked for meanwhile, and decides as soon as the stage allows it.
struct RunnerMachine: Sendable {
    /// Places of each lane, and how many may wait for one.
    static let laneConcurrencyMax = 4
    static let laneQueueMax = 64
    /// How long a refusal of something that has no valid expiry of its own is remembered.
    static let memorySeconds = Int64(Limits.expiresInSeconds.upperBound)

    /// Refusals and cancels of unknown attempts that one session gets written: a gateway can send any number.
    static let answersWrittenMax = 256

    /// Acceptances between two looks for what has expired; a session may last for months.
    static let pruneEvery = 1_024

    /// What somebody wants of a live attempt.
    enum Intent: Sendable, Equatable {
        /// The server asks for it to end, and wants the result.
        case cancel
        /// The server has settled it, and wants nothing of it any more.
        case drop
        /// The agent stops.
        case stop
    }

    private enum Stage { case recording, waiting, running, settling }

    /// What was asked of an attempt until its end began to be written.
    struct Finish: Sendable, Equatable {
        let intent: Intent?
    }

    private struct Live {
        let job: VerifiedJob
        var stage = Stage.recording
        var intent: Intent?
        var kill: (@Sendable () -> Void)?
    }

    /// What to do about a dispatch, in this order where there is more than one thing.
    enum DispatchStep: Sendable, Equatable {
        case ignore
        /// Say that it was accepted.
        case confirm
        case send(AgentFrame)
        /// Write the record, then send.
        case refuse(JournalRecord, AgentFrame)
        /// Write the record, send `accepted`, then call `admit`.
        case accept(AttemptKey, JournalRecord)
        /// Write the record, then end it as cancelled.
        case cancelled(AttemptKey, JournalRecord)
        /// Send the result that lies in the outbox.
        case resend(AttemptKey)
    }

    /// What to do with an attempt whose acceptance is durable, or that was asked to end.
    enum Step: Sendable {
        case nothing
        case start(AttemptKey)
        /// It ends without a start: cancelled, or dropped with no result. Returned once an attempt.
        case settle(AttemptKey, Intent)
        case kill(@Sendable () -> Void)
        /// Write the record.
        case record(JournalRecord)
        /// Write that it is forgotten, then remove the attempt's result.
        case forget(AttemptKey)
    }

    private(set) var journal: JournalState
    private var live: [AttemptKey: Live] = [:]
    private var lanes: [LaneName: Lane<AttemptKey>] = [:]
    private var inFlight: Set<AttemptKey> = []
    /// What holds in the session: this agent's own limits, or lower ones that its gateway has said.
    private(set) var limits = SessionLimits.own
    private var isServing = false
    private var acceptedSincePrune = 0
    /// Refusals and cancels of unknown attempts written since the session began.
    private var answersWritten = 0
    private(set) var isStopping = false

    init(journal: JournalState) {
        self.journal = journal
        for name in LaneName.allCases {
            lanes[name] = Lane(concurrencyMax: Self.laneConcurrencyMax, queueMax: Self.laneQueueMax)
        }
    }

    // MARK: - Dispatch

    /// The answer to a dispatch of a name that was seen before; its statement gives no power and is not
    /// looked at.
    func known(_ name: AttemptName) -> DispatchStep? {
        if isStopping { return .ignore }
        if let key = journal.key(of: name), let entry = journal.entries[key] {
            return repeatAnswer(key, entry)
        }
        return journal.answers[name]?.refusal.map { .send(rejected(name, $0)) }
    }

    /// A dispatch came; `judged` is what the verifier says of it.
    mutating func dispatch(_ name: AttemptName, _ judged: Result<VerifiedJob, Refusal>, now: Instant)
        -> DispatchStep
    {
        if let step = known(name) { return step }
        let job: VerifiedJob
        switch judged {
        case .success(let verified): job = verified
        case .failure(let refusal):
            return refuse(name, refusal, until: now + .seconds(Self.memorySeconds))
        }
        let key = AttemptKey(job: job.payload.job, attempt: name.attempt)
        if let refusal = refusal(of: key, name.run, job) {
            return refuse(name, refusal, until: job.expiresAt)
        }
        let isCancelled = journal.answers[name] != nil
        let record = note(.accepted(key, name, expiresAt: job.expiresAt))
        live[key] = Live(job: job)
        acceptedSincePrune += 1
        return isCancelled ? .cancelled(key, record) : .accept(key, record)
    }

    /// The acceptance is durable: the attempt may take its place.
    mutating func admit(_ key: AttemptKey) -> Step {
        guard let attempt = live[key] else { return .nothing }
        guard attempt.stage == .recording else { return .nothing }
        if let intent = attempt.intent { return end(key, intent) }
        switch lanes[LaneName(attempt.job.payload.kind)]?.admit(key) {
        case .start?:
            live[key]?.stage = .running
            return .start(key)
        case .wait?, nil:
            live[key]?.stage = .waiting
            return .nothing
        }
    }

    /// The acceptance could not be written: as if the dispatch had not come.
    mutating func abandon(_ key: AttemptKey) {
        live[key] = nil
        journal.withdraw(key)
    }

    private func repeatAnswer(_ key: AttemptKey, _ entry: JournalState.Entry) -> DispatchStep {
        switch entry.phase {
        case .accepted: live[key]?.stage == .recording ? .ignore : .confirm
        case .started: .confirm
        case .ended: .resend(key)
        case .forgotten(let end): .send(.finished(end.result(named: entry.name, reason: "replay")))
        }
    }

    private func refusal(of key: AttemptKey, _ run: RunID, _ job: VerifiedJob) -> Refusal? {
        if let floor = journal.floor, job.expiresAt <= floor {
            return Refusal(.expired, "the job expired at \(job.expiresAt), before what is remembered here")
        }
        if let other = journal.job(of: run), other != key.job {
            return Refusal(.replay, "this run came already, for another job")
        }
        if journal.entries[key] != nil {
            return Refusal(
                .replay, "attempt \(key.attempt) of this job came already, for another run or token")
        }
        if journal.knowsAttempt(after: key) {
            return Refusal(.replay, "a later attempt than \(key.attempt) of this job came already")
        }
        if key.attempt > 1 {
            let previous = AttemptKey(job: key.job, attempt: key.attempt - 1)
            if let reason = reasonAgainst(another: previous, run, job) {
                return Refusal(.attempts, "attempt \(previous.attempt) of this job \(reason)")
            }
        }
        let lane = LaneName(job.payload.kind)
        let inLane = live.values.count { LaneName($0.job.payload.kind) == lane }
        if inLane >= Self.laneConcurrencyMax + Self.laneQueueMax {
            return Refusal(.full, "\(inLane) attempts of this kind are on the device already")
        }
        if live.count + journal.ended.count >= Outbox.resultsMax {
            return Refusal(
                .full, "\(journal.ended.count) results wait for the server; at most \(Outbox.resultsMax) may")
        }
        return nil
    }

    /// Why no attempt may follow this one; `nil` if one may. One of which nothing is left here (the directory
    /// is a restored copy) ended nobody knows how; one that was refused for a passing reason never began.
    private func reasonAgainst(
        another previous: AttemptKey, _ run: RunID, _ job: VerifiedJob
    ) -> String? {
        guard let entry = journal.entries[previous] else {
            let mayFollow = job.payload.idempotent || journal.refusedInPassing(run, attempt: previous.attempt)
            return mayFollow ? nil : "is not known here"
        }
        guard let end = entry.end else { return "has not ended" }
        switch end.outcome {
        case .failed, .timedOut: return nil
        case .unknown where job.payload.idempotent: return nil
        case .succeeded, .cancelled, .expired, .unknown: return "ended as \(end.outcome.name)"
        }
    }

    private mutating func refuse(_ name: AttemptName, _ refusal: Refusal, until expiresAt: Instant)
        -> DispatchStep
    {
        let record = note(.refused(name, refusal, expiresAt: expiresAt))
        return mayWriteAnswer()
            ? .refuse(record, rejected(name, refusal)) : .send(rejected(name, refusal))
    }

    private func rejected(_ name: AttemptName, _ refusal: Refusal) -> AgentFrame {
        .rejected(Rejected(name: name, code: refusal.code.rawValue, message: refusal.message))
    }

    // MARK: - Running

    /// The record that must be durable before the attempt starts, and what it is; `nil` if it must not start
    /// any more.
    mutating func start(_ key: AttemptKey, now: Instant) -> (JournalRecord, AttemptName, VerifiedJob)? {
        guard !isStopping, let attempt = live[key], let name = journal.entries[key]?.name else { return nil }
        return (note(.started(key, at: now)), name, attempt.job)
    }

    /// How to kill a running attempt; true if somebody asked for it already.
    mutating func attach(_ key: AttemptKey, kill: @escaping @Sendable () -> Void) -> Bool {
        live[key]?.kill = kill
        return live[key]?.intent != nil
    }

    /// The attempt's work is over and its end may be written; what was asked of it until now. `nil` if
    /// somebody else writes its end already.
    mutating func finish(_ key: AttemptKey) -> Finish? {
        guard let attempt = live[key], attempt.stage != .settling else { return nil }
        live[key]?.stage = .settling
        live[key]?.kill = nil
        return Finish(intent: attempt.intent)
    }

    /// The end is durable, in the outbox and in the journal (or its result is not wanted: then also
    /// forgotten). What was asked for while it was written is done now.
    @discardableResult
    mutating func settled(_ key: AttemptKey, _ records: [JournalRecord]) -> Step {
        for record in records { _ = note(record) }
        return live.removeValue(forKey: key)?.intent == .drop ? forget(key) : .nothing
    }

    /// The attempt has left its place; the one that takes it.
    mutating func release(_ lane: LaneName) -> AttemptKey? {
        guard !isStopping else { return nil }
        let next = lanes[lane]?.release()
        if let next { live[next]?.stage = .running }
        return next
    }

    // MARK: - Asked to end

    /// The server asks for an attempt to be cancelled.
    mutating func cancel(_ name: AttemptName, now: Instant) -> Step {
        if let key = journal.key(of: name) { return ask(key, .cancel) }
        guard journal.answers[name] == nil, !isStopping else { return .nothing }
        let record = note(.cancelled(name, expiresAt: now + .seconds(Self.memorySeconds)))
        return mayWriteAnswer() ? .record(record) : .nothing
    }

    /// Whether an answer is also written to the disk; beyond the bound it is remembered by this process
    /// alone.
    private mutating func mayWriteAnswer() -> Bool {
        answersWritten += 1
        return answersWritten <= Self.answersWrittenMax
    }

    /// The server has settled an attempt itself: neither work nor result is wanted.
    mutating func drop(_ name: AttemptName) -> Step {
        guard let key = journal.key(of: name) else { return .nothing }
        if case .ended = journal.entries[key]?.phase { return forget(key) }
        return ask(key, .drop)
    }

    /// The agent stops: takes nothing any more, and what runs is to be killed by the returned calls.
    mutating func stop() -> [@Sendable () -> Void] {
        isStopping = true
        for (key, attempt) in live {
            switch attempt.stage {
            case .running: live[key]?.intent = attempt.intent ?? .stop
            case .settling: break
            // Accepted and not started: the server sends it again after the next hello.
            case .recording, .waiting: live[key] = nil
            }
        }
        return live.values.compactMap(\.kill)
    }

    private mutating func ask(_ key: AttemptKey, _ intent: Intent) -> Step {
        guard let attempt = live[key] else { return .nothing }
        switch attempt.stage {
        case .recording:
            live[key]?.intent = intent
            return .nothing
        case .waiting:
            _ = lanes[LaneName(attempt.job.payload.kind)]?.withdraw(key)
            return end(key, intent)
        case .running:
            live[key]?.intent = intent
            return attempt.kill.map { .kill($0) } ?? .nothing
        case .settling:
            // Its outcome stands; a drop still says that nobody waits for it.
            if intent == .drop { live[key]?.intent = .drop }
            return .nothing
        }
    }

    private mutating func end(_ key: AttemptKey, _ intent: Intent) -> Step {
        if intent == .stop { return .nothing }
        live[key]?.stage = .settling
        return .settle(key, intent)
    }

    // MARK: - The session and the outbox

    /// A session was opened or lost: nothing sent counts any more.
    mutating func sessionChanged(isServing: Bool) {
        self.isServing = isServing
        inFlight = []
        answersWritten = 0
    }

    /// The gateway has said what it takes. Of that only what is lower than one's own changes anything.
    mutating func obey(_ said: SessionLimits) {
        limits.resultsInFlight = min(said.resultsInFlight, Outbox.inFlightMax)
        limits.outputHeadBytes = min(said.outputHeadBytes, Limits.outputHeadBytes)
        limits.outputTailBytes = min(said.outputTailBytes, Limits.outputTailBytes)
        limits.helloAttempts = min(said.helloAttempts, Limits.helloAttemptsMax)
    }

    /// What a hello names: the oldest held attempts, and of the ended ones the oldest.
    func held() -> (held: [AttemptName], ended: [AttemptName]) {
        func names(_ keys: [AttemptKey]) -> [AttemptName] {
            keys.prefix(limits.helloAttempts).compactMap { journal.entries[$0]?.name }
        }
        return (names(journal.held), names(journal.ended))
    }

    /// The next result to send, if there is one and the server may be sent more.
    mutating func nextResult() -> (AttemptKey, AttemptName, AttemptEnd)? {
        guard isServing, inFlight.count < limits.resultsInFlight,
            let key = journal.ended.first(where: { !inFlight.contains($0) })
        else { return nil }
        return result(key)
    }

    /// The result of an attempt that the server asks for again.
    mutating func result(_ key: AttemptKey) -> (AttemptKey, AttemptName, AttemptEnd)? {
        guard isServing, let entry = journal.entries[key], case .ended(let end) = entry.phase else {
            return nil
        }
        inFlight.insert(key)
        return (key, entry.name, end)
    }

    /// The server has committed a result.
    mutating func acknowledged(_ name: AttemptName) -> Step {
        journal.key(of: name).map { forget($0) } ?? .nothing
    }

    /// Whether so much was accepted since the last look that expired attempts should be dropped.
    var isPruneDue: Bool { acceptedSincePrune >= Self.pruneEvery }

    /// Drops what has expired; the record that says so, if anything that may not come back is gone.
    mutating func prune(now: Instant) -> JournalRecord? {
        acceptedSincePrune = 0
        journal.dropAnswers(now: now)
        return journal.prunable(now: now).map { note(.pruned(through: $0)) }
    }

    private mutating func forget(_ key: AttemptKey) -> Step {
        guard case .ended = journal.entries[key]?.phase else { return .nothing }
        inFlight.remove(key)
        _ = note(.forgotten(key))
        return .forget(key)
    }

    private mutating func note(_ record: JournalRecord) -> JournalRecord {
        do { try journal.apply(record) } catch {
            preconditionFailure("the runner contradicts its journal: \(error)")
        }
        return record
    }
}
