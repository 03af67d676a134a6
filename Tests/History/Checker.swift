/// Judges the history of a fault run. Pure: events in, violations out.
///
/// It believes the scripts about what was started, the API about what was accepted and how it ended, and the
/// supervisor about which agents died. Nothing of the product's own records is taken for more than its word.
package struct Checker {
    /// A run is one job on one device.
    private struct RunKey: Hashable, CustomStringConvertible {
        let job: String
        let device: String
        var description: String { "job \(job) on \(device)" }
    }

    private struct Start {
        let at: Int
        let attempt: Int
        /// When its script said that it ended, if it did.
        var ended: Int?
    }

    private var accepted: [String: Event] = [:]
    private var cancelled: [String: Int] = [:]
    private var starts: [RunKey: [Start]] = [:]
    private var outcomes: [RunKey: [Event]] = [:]
    private var counts: [String: [String: Int]] = [:]
    private var losses: [String: [Int]] = [:]
    private var violations: [Violation] = []
    private let events: [Event]

    /// How many runs an agent may hold when it dies: its scripts, and what waits for their places.
    package static let heldMax = 8
    /// The states in which a run stays.
    package static let finals: Set<String> = [
        "succeeded", "failed", "timedOut", "cancelled", "expired", "unknown",
    ]

    /// What is wrong with a history; nothing, if all rules were kept.
    package static func violations(in history: History) -> [Violation] {
        var checker = Checker(events: history.events.sorted { $0.at < $1.at })
        checker.gather()
        checker.checkFaults()
        for (job, event) in checker.accepted.sorted(by: { $0.key < $1.key }) {
            let devices = event.devices ?? []
            for device in devices { checker.check(RunKey(job: job, device: device), event) }
            checker.checkRecords(of: job, devices)
        }
        checker.checkCaps()
        checker.checkUnknowns()
        return checker.violations + TaskChecker.violations(in: history)
    }

    private init(events: [Event]) { self.events = events }

    private mutating func add(_ rule: Violation.Rule, _ what: String) {
        violations.append(Violation(rule, what))
    }

    // MARK: Gathering

    private mutating func gather() {
        var keys: [String: String] = [:]
        for event in events where event.kind == .accepted {
            guard let job = event.job else { continue }
            if accepted.updateValue(event, forKey: job) != nil { add(.acceptedTwice, "job \(job)") }
            if let key = event.note, let other = keys.updateValue(job, forKey: key), other != job {
                add(.acceptedTwice, "key \(key) as \(other) and \(job)")
            }
        }
        for event in events {
            switch event.kind {
            case .started: start(event)
            case .ended: end(event)
            case .outcome:
                if let key = key(of: event) { outcomes[key, default: []].append(event) }
            case .counts: if let job = event.job { counts[job] = event.counts }
            case .cancelled: if let job = event.job { cancelled[job] = cancelled[job] ?? event.at }
            case .agentLost: losses[event.device ?? "", default: []].append(event.at)
            case .accepted, .plan, .cap, .armed, .struck, .died, .restarted: break
            // `TaskChecker` judges these.
            case .taskAccepted, .planted, .taskChanged, .removed, .taskOutcome: break
            }
        }
        if accepted.isEmpty { add(.empty, "nothing was accepted") }
        if starts.isEmpty { add(.empty, "nothing was started") }
    }

    private func key(of event: Event) -> RunKey? {
        guard let job = event.job, let device = event.device else { return nil }
        return RunKey(job: job, device: device)
    }

    private mutating func start(_ event: Event) {
        guard let key = key(of: event) else { return }
        guard accepted[key.job]?.devices?.contains(key.device) == true else {
            return add(.strange, "\(key) was started and never accepted")
        }
        starts[key, default: []].append(Start(at: event.at, attempt: event.attempt ?? 0))
    }

    private mutating func end(_ event: Event) {
        guard let key = key(of: event) else { return }
        let open = starts[key, default: []].lastIndex { $0.attempt == event.attempt && $0.ended == nil }
        guard let open else { return add(.strange, "\(key) has ended and was not started") }
        starts[key, default: []][open].ended = event.at
    }

    // MARK: Rules

    private mutating func checkFaults() {
        let struck = Set(events.filter { $0.kind == .struck }.compactMap(\.note))
        for event in events where event.kind == .armed {
            let note = event.note ?? ""
            if !struck.contains(note) { add(.notStruck, note) }
        }
    }

    private mutating func check(_ key: RunKey, _ accepted: Event) {
        let starts = starts[key] ?? []
        let recorded = outcomes[key] ?? []
        checkStarts(key, starts, most: accepted.maxStarts)
        if let notBefore = accepted.notBefore, let first = starts.first, first.at < notBefore {
            add(.early, "\(key) was started \(notBefore - first.at) µs before its time")
        }
        guard let outcome = recorded.last else { return add(.lost, "\(key) is nowhere") }
        if Set(recorded.compactMap(\.run)).count > 1 || recorded.count > 1 {
            add(.recordedTwice, "\(key): \(recorded.map { "\($0.run ?? "") \($0.state ?? "")" })")
        }
        let state = outcome.state ?? ""
        guard Self.finals.contains(state) else { return add(.lost, "\(key) is still \(state)") }
        if outcome.note == "journalRegress" { add(.journalLost, "\(key)") }
        if !(accepted.allowed ?? []).contains(state) {
            add(.wrongEnd, "\(key) is \(state) (\(outcome.note ?? "")), not \(accepted.allowed ?? [])")
        }
        if let highest = starts.map(\.attempt).max(), outcome.attempt ?? 0 < highest {
            add(.attemptFell, "\(key) ended in attempt \(outcome.attempt ?? 0), started in \(highest)")
        }
        let attempt = starts.last { $0.attempt == outcome.attempt }
        if state == "succeeded", attempt?.ended == nil {
            add(
                .invented, "\(key) has succeeded; its script has not ended in attempt \(outcome.attempt ?? 0)"
            )
        }
        // Whatever has ended said its name.
        if ["succeeded", "failed"].contains(state), let attempt = outcome.attempt,
            outcome.output != "said \(key.job)-\(attempt)\n"
        {
            add(.outputLost, "\(key) said \(outcome.output ?? "nothing")")
        }
        if state == "expired", !starts.isEmpty { add(.wrongEnd, "\(key) is expired and was started") }
        checkCancel(key, starts, state)
    }

    private mutating func checkStarts(_ key: RunKey, _ starts: [Start], most: Int?) {
        if Set(starts.map(\.attempt)).count < starts.count {
            add(.startedTwice, "\(key): attempts \(starts.map(\.attempt))")
        } else if let most, starts.count > most {
            add(.startedTwice, "\(key) was started \(starts.count) times, at most \(most) were allowed")
        }
        for (one, next) in zip(starts, starts.dropFirst()) where next.attempt < one.attempt {
            add(.attemptFell, "\(key): attempt \(next.attempt) began after \(one.attempt)")
        }
    }

    private mutating func checkCancel(_ key: RunKey, _ starts: [Start], _ state: String) {
        guard let at = cancelled[key.job] else { return }
        // What had ended before it was cancelled keeps its end.
        if starts.contains(where: { $0.ended ?? .max <= at }) { return }
        if let late = starts.first(where: { $0.at > at + Self.onTheWayMicroseconds }) {
            add(.cancelIgnored, "\(key) began \(late.at - at) µs after its cancel")
        }
        let ranOn = starts.contains { $0.ended ?? 0 > at + Self.cancelMicroseconds }
        if ranOn { add(.cancelIgnored, "\(key) ran on to its end, though it was cancelled") }
    }

    /// A cancel is told to agents again and again: what was on its way to one may begin before that.
    private static let onTheWayMicroseconds = 20_000_000
    /// And what runs is stopped within this time after its cancel, faults included.
    private static let cancelMicroseconds = 60_000_000

    private mutating func checkRecords(of job: String, _ devices: [String]) {
        for key in outcomes.keys where key.job == job && !devices.contains(key.device) {
            add(.strange, "\(key) has ended and was not asked for")
        }
        var ends: [String: Int] = [:]
        for device in devices {
            if let state = outcomes[RunKey(job: job, device: device)]?.last?.state {
                ends[state, default: 0] += 1
            }
        }
        guard let counted = counts[job] else { return add(.lost, "the API does not know job \(job)") }
        if counted.filter({ $0.value != 0 }) != ends {
            add(.recordedTwice, "job \(job) counts \(counted), its runs are \(ends)")
        }
    }

    /// How many were under way: from what their scripts wrote, or until their end by the record or the loss
    /// of their agent.
    private mutating func checkCaps() {
        var caps: [String: Int] = [:]
        for event in events where event.kind == .cap { caps[event.organization ?? ""] = event.cap }
        for (organization, cap) in caps {
            var changes: [(at: Int, by: Int)] = []
            for (key, starts) in starts where accepted[key.job]?.organization == organization {
                for start in starts {
                    changes += [(start.at, 1), (end(of: start, key), -1)]
                }
            }
            changes.sort { ($0.at, $0.by) < ($1.at, $1.by) }
            var now = 0
            for change in changes {
                now += change.by
                if now > cap {
                    add(.capExceeded, "\(organization) has \(now) runs under way, its cap is \(cap)")
                    break
                }
            }
        }
    }

    private func end(of start: Start, _ key: RunKey) -> Int {
        if let ended = start.ended { return max(ended, start.at) }
        let lost = losses[key.device, default: []].first { $0 >= start.at }
        let recorded = outcomes[key]?.last?.finishedAt
        return max(start.at, min(lost ?? .max, recorded ?? .max))
    }

    /// An agent that dies takes along at most what it held.
    private mutating func checkUnknowns() {
        var unknown: [String: Int] = [:]
        for (key, recorded) in outcomes where recorded.last?.state == "unknown" {
            unknown[key.device, default: 0] += 1
            let since = accepted[key.job]?.at ?? 0
            if !losses[key.device, default: []].contains(where: { $0 >= since }) {
                add(.unknownWithoutLoss, "\(key): \(recorded.last?.note ?? "")")
            }
        }
        for (device, count) in unknown {
            let most = losses[device, default: []].count * Self.heldMax
            if most > 0, count > most {
                add(.unknownWithoutLoss, "\(count) runs of \(device), more than its losses explain")
            }
        }
    }
}
