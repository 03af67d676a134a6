import Domain
import Wire

/// What the journal's records add up to: every attempt that this device has seen and may be asked about
/// again. Pure.
///
/// | phase | holds | left by |
/// |---|---|---|
/// | accepted | it will be started | `started`; `ended` if cancelled; a restart, then it is sent again |
/// | started | a process may exist | `ended`; after a restart with outcome unknown |
/// | ended | the result lies in the outbox | `forgotten`, when the server has committed it |
/// | forgotten | how it ended is known, the outputs are not | the statement's expiry |
///
/// A key leaves the table only at its statement's expiry, and leaves that expiry behind as the floor below
/// which no statement has power: so nothing starts twice, also if the clock that said "expired" was wrong and
/// is set back. The floor is an expiry and not that clock's own time, or one wrong second would refuse years
/// of work.
struct JournalState: Sendable, Equatable {
    /// Most refusals and tombstones that are remembered; the oldest go first.
    static let answersMax = 1_000

    enum Phase: Sendable, Equatable {
        case accepted
        case started(at: Instant)
        case ended(AttemptEnd)
        case forgotten(AttemptEnd)
    }

    struct Entry: Sendable, Equatable {
        let name: AttemptName
        let expiresAt: Instant
        var phase: Phase

        /// How it ended, if it has.
        var end: AttemptEnd? {
            switch phase {
            case .accepted, .started: nil
            case .ended(let end), .forgotten(let end): end
            }
        }
    }

    private struct RunUse: Sendable, Equatable {
        let job: JobID
        var attempts = 0
    }

    struct Answer: Sendable, Equatable {
        let refusal: Refusal?
        let expiresAt: Instant
    }

    /// Every known attempt.
    private(set) var entries: [AttemptKey: Entry] = [:]
    /// The keys in the order in which they were accepted.
    private var order: [AttemptKey] = []
    /// The attempts that are accepted or started, oldest first.
    private(set) var held: [AttemptKey] = []
    /// The latest attempt of each job.
    private var latest: [JobID: Int] = [:]
    /// Attempts whose result waits for its acknowledgement, oldest first.
    private(set) var ended: [AttemptKey] = []
    /// Names that were refused, and names that were cancelled before their dispatch (no refusal).
    private(set) var answers: [AttemptName: Answer] = [:]
    private var answerOrder: [AttemptName] = []
    private var keys: [AttemptName: AttemptKey] = [:]
    /// The job of each known run, and how many of its attempts are known.
    private var runs: [RunID: RunUse] = [:]
    /// No statement that expires up to here may start anything: it may be one whose key is gone. Never falls.
    private(set) var floor: Instant?
    /// Records ever written; never falls.
    private(set) var position = 0
    private var repeated = 0

    /// The key of an attempt that was accepted by this name.
    func key(of name: AttemptName) -> AttemptKey? { keys[name] }

    /// The job that a known attempt of the run was accepted for.
    func job(of run: RunID) -> JobID? { runs[run]?.job }

    /// Whether a later attempt of the job is known.
    func knowsAttempt(after key: AttemptKey) -> Bool { latest[key.job, default: 0] > key.attempt }

    /// Whether an attempt of a run was refused for a reason that passes: by a full device, or before its
    /// time.
    func refusedInPassing(_ run: RunID, attempt: Int) -> Bool {
        answers.contains { name, answer in
            name.run == run && name.attempt == attempt
                && (answer.refusal?.code == .full || answer.refusal?.code == .notYetValid)
        }
    }

    /// Takes one record; throws if no journal of this program can have it at this place.
    mutating func apply(_ record: JournalRecord) throws(AgentError) {
        if case .base(let position, let repeated) = record {
            guard self.position == 0, order.isEmpty, position >= 0, repeated >= 0 else {
                throw AgentError(.damaged, "the journal begins twice")
            }
            (self.position, self.repeated) = (position, repeated)
            return
        }
        if repeated > 0 { repeated -= 1 } else { position += 1 }
        switch record {
        case .base: break
        case .accepted(let key, let name, let expiresAt):
            guard entries[key] == nil, keys[name] == nil else {
                throw AgentError(.damaged, "the journal accepts an attempt twice")
            }
            entries[key] = Entry(name: name, expiresAt: expiresAt, phase: .accepted)
            keys[name] = key
            order.append(key)
            held.append(key)
            latest[key.job] = max(latest[key.job, default: 0], key.attempt)
            // Of a run under two jobs, which no agent accepts any more, the first counts.
            var use = runs[name.run] ?? RunUse(job: key.job)
            if use.job == key.job { use.attempts += 1 }
            runs[name.run] = use
        case .started(let key, let at):
            guard case .accepted = entries[key]?.phase else {
                throw AgentError(.damaged, "the journal starts an attempt that it did not accept")
            }
            entries[key]?.phase = .started(at: at)
        case .ended(let key, let end):
            guard let entry = entries[key], entry.end == nil else {
                throw AgentError(.damaged, "the journal ends an attempt that was not open")
            }
            entries[key]?.phase = .ended(end)
            held.removeAll { $0 == key }
            ended.append(key)
        case .forgotten(let key):
            guard case .ended(let end) = entries[key]?.phase else {
                throw AgentError(.damaged, "the journal forgets an attempt that has not ended")
            }
            entries[key]?.phase = .forgotten(end)
            ended.removeAll { $0 == key }
        case .refused(let name, let refusal, let expiresAt):
            remember(name, Answer(refusal: refusal, expiresAt: expiresAt))
        case .cancelled(let name, let expiresAt):
            remember(name, Answer(refusal: nil, expiresAt: expiresAt))
        case .pruned(let through): drop(through: through)
        }
    }

    /// Takes back an acceptance whose record could not be written, or that a restart found without a start.
    mutating func withdraw(_ key: AttemptKey) {
        if entries[key]?.phase == .accepted { remove([key]) }
    }

    /// Until where forgotten attempts have become unnecessary, if any has.
    func prunable(now: Instant) -> Instant? {
        order.lazy.compactMap { key in
            guard let entry = entries[key], case .forgotten = entry.phase else { return nil }
            return entry.expiresAt
        }.filter { $0 <= now }.max()
    }

    /// Drops what its statement's expiry has made unnecessary: forgotten attempts and answers.
    mutating func prune(now: Instant) {
        if let through = prunable(now: now) { drop(through: through) }
        dropAnswers(now: now)
    }

    /// Drops answers whose time is over.
    mutating func dropAnswers(now: Instant) {
        answers = answers.filter { $0.value.expiresAt > now }
        let answers = answers
        answerOrder.removeAll { answers[$0] == nil }
    }

    private mutating func drop(through: Instant) {
        floor = max(floor ?? through, through)
        remove(
            order.filter { key in
                guard let entry = entries[key], case .forgotten = entry.phase else { return false }
                return entry.expiresAt <= through
            })
    }

    /// The records from which a new file begins.
    func snapshot() -> [JournalRecord] {
        var records: [JournalRecord] = []
        if let floor { records.append(.pruned(through: floor)) }
        for key in order {
            guard let entry = entries[key] else { continue }
            records.append(.accepted(key, entry.name, expiresAt: entry.expiresAt))
            switch entry.phase {
            case .accepted, .ended: break
            case .started(let at): records.append(.started(key, at: at))
            case .forgotten(let end): records += [.ended(key, end), .forgotten(key)]
            }
        }
        // Last, since their order is that of the outbox.
        for key in ended { if let end = entries[key]?.end { records.append(.ended(key, end)) } }
        for name in answerOrder {
            guard let answer = answers[name] else { continue }
            if let refusal = answer.refusal {
                records.append(.refused(name, refusal, expiresAt: answer.expiresAt))
            } else {
                records.append(.cancelled(name, expiresAt: answer.expiresAt))
            }
        }
        return [.base(position: position, repeated: records.count)] + records
    }

    private mutating func remember(_ name: AttemptName, _ answer: Answer) {
        if answers.updateValue(answer, forKey: name) == nil { answerOrder.append(name) }
        if answerOrder.count > Self.answersMax { answers[answerOrder.removeFirst()] = nil }
    }

    private mutating func leave(_ run: RunID, of job: JobID) {
        guard var use = runs[run], use.job == job else { return }
        use.attempts -= 1
        runs[run] = use.attempts > 0 ? use : nil
    }

    private mutating func remove(_ gone: [AttemptKey]) {
        guard !gone.isEmpty else { return }
        for key in gone {
            if let entry = entries.removeValue(forKey: key) {
                keys[entry.name] = nil
                leave(entry.name.run, of: key.job)
            }
            if latest[key.job] == key.attempt { latest[key.job] = nil }
        }
        let entries = entries
        order.removeAll { entries[$0] == nil }
        held.removeAll { entries[$0] == nil }
    }
}
