/// Judges what a history says of tasks: by what the database committed of each, in its order, by what their
/// handlers removed, and by what the API says in the end.
///
/// A task's outcome is written once, by the attempt that is the current one; whatever died, each attempt
/// has one end, and what a task was to do is done before it has succeeded.
package struct TaskChecker {
    private struct Change {
        let at: Int
        let state: String
        let attempt: Int
        let generation: Int
        let token: String?
    }

    private var violations: [Violation] = []

    /// What is wrong with a history; nothing, if it has no tasks.
    package static func violations(in history: History) -> [Violation] {
        var checker = TaskChecker()
        let events = history.events.sorted { $0.at < $1.at }
        let accepted = events.filter { $0.kind == .taskAccepted }
        let changes = Dictionary(grouping: events.filter { $0.kind == .taskChanged }) { $0.task ?? "" }
        let outcomes = Dictionary(grouping: events.filter { $0.kind == .taskOutcome }) { $0.task ?? "" }
        let effects = checker.effects(events)
        for event in accepted {
            let task = event.task ?? ""
            let changes = (changes[task] ?? []).map { change in
                Change(
                    at: change.at, state: change.state ?? "", attempt: change.attempt ?? 0,
                    generation: change.generation ?? 0, token: change.token)
            }
            checker.check(task, changes, (outcomes[task] ?? []).last)
            checker.check(task, event, changes, effects)
        }
        return checker.violations
    }

    private init() {}

    private mutating func add(_ rule: Violation.Rule, _ what: String) {
        violations.append(Violation(rule, what))
    }

    // MARK: Attempts and ends

    private mutating func check(_ task: String, _ changes: [Change], _ outcome: Event?) {
        guard let outcome, let last = changes.last, Checker.finals.contains(outcome.state ?? "") else {
            return add(.lost, "task \(task) is \(outcome?.state ?? "nowhere")")
        }
        if outcome.state != "succeeded" { add(.wrongEnd, "task \(task) is \(outcome.state ?? "")") }
        if last.state != outcome.state || last.attempt != outcome.attempt {
            add(.recordedTwice, "task \(task) was written as \(last.state), \(outcome.state ?? "") is told")
        }
        if changes.count(where: { Checker.finals.contains($0.state) }) > 1 {
            add(.recordedTwice, "task \(task): \(changes.map(\.state))")
        }
        let marks = changes.filter { $0.state == "running" }
        if Set(marks.map(\.attempt)).count < marks.count || Set(marks.map(\.token)).count < marks.count {
            add(.startedTwice, "task \(task): attempts \(marks.map(\.attempt))")
        }
        for (before, change) in zip(changes, changes.dropFirst()) {
            let isMark = change.state == "running"
            if change.attempt != before.attempt + (isMark ? 1 : 0) || change.generation < before.generation {
                add(
                    .attemptFell,
                    "task \(task): \(change.state) in attempt \(change.attempt) after \(before.attempt)")
            }
            // Only what runs ends well, and it is not marked over a running attempt.
            if isMark ? before.state != "queued" : change.state == "succeeded" && before.state != "running" {
                add(.recordedTwice, "task \(task) is \(change.state) after \(before.state)")
            }
        }
    }

    // MARK: Effects

    /// When each planted job was removed, by organization.
    private typealias Effects = [String: [(planted: Int, job: String, removed: Int?)]]

    private mutating func effects(_ events: [Event]) -> Effects {
        var removed: [String: Int] = [:]
        for event in events where event.kind == .removed {
            if removed.updateValue(event.at, forKey: event.job ?? "") != nil {
                add(.effectTwice, "job \(event.job ?? "") was removed again")
            }
        }
        var effects: Effects = [:]
        for event in events where event.kind == .planted {
            let job = event.job ?? ""
            effects[event.organization ?? "", default: []].append(
                (event.at, job, removed.removeValue(forKey: job)))
        }
        for job in removed.keys { add(.effectTwice, "job \(job) was removed, and was to be kept") }
        return effects
    }

    private mutating func check(
        _ task: String, _ accepted: Event, _ changes: [Change], _ effects: Effects
    ) {
        guard let end = changes.last, end.state == "succeeded" else { return }
        for effect in effects[accepted.organization ?? ""] ?? [] where effect.planted <= accepted.at {
            if effect.removed ?? .max > end.at {
                add(.effectLost, "task \(task) has succeeded, and job \(effect.job) was there")
            }
        }
    }
}
