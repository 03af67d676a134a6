import History
import Testing

/// What must not become of tasks is found in a log that has it, and nothing in one that has not.
struct TaskCheckerTests {
    /// Two tasks of one organization and what they were to remove: one died with its worker once, one was
    /// due later.
    private static func sound() -> [Event] {
        var events: [Event] = []
        func event(_ kind: Event.Kind, _ at: Int, _ change: (inout Event) -> Void) {
            var event = Event(kind, at: at)
            change(&event)
            events.append(event)
        }
        func changed(_ task: String, _ at: Int, _ state: String, _ attempt: Int, _ generation: Int) {
            event(.taskChanged, at) {
                ($0.task, $0.state, $0.attempt, $0.generation) = (task, state, attempt, generation)
                $0.token = state == "running" ? "\(task)/\(attempt)" : nil
            }
        }
        for (job, at) in [("old 1", 5), ("old 2", 6), ("late", 60)] {
            event(.planted, at) { ($0.job, $0.organization) = (job, "o") }
        }
        for task in ["t1", "t2"] {
            event(.taskAccepted, 10) { ($0.task, $0.organization) = (task, "o") }
        }
        changed("t1", 11, "queued", 0, 1)
        changed("t2", 11, "scheduled", 0, 1)
        changed("t1", 20, "running", 1, 1)
        event(.removed, 25) { $0.job = "old 1" }
        changed("t1", 30, "queued", 1, 2)
        changed("t1", 40, "running", 2, 2)
        event(.removed, 45) { $0.job = "old 2" }
        changed("t1", 50, "succeeded", 2, 2)
        changed("t2", 51, "queued", 0, 2)
        changed("t2", 52, "running", 1, 2)
        changed("t2", 53, "succeeded", 1, 2)
        for (task, attempt) in [("t1", 2), ("t2", 1)] {
            event(.taskOutcome, 90) { ($0.task, $0.state, $0.attempt) = (task, "succeeded", attempt) }
        }
        return events
    }

    private func rules(_ events: [Event]) -> Set<Violation.Rule> {
        Set(TaskChecker.violations(in: History(events: events)).map(\.rule))
    }

    /// The rules that are broken once the event of that moment is another, or gone.
    private func rules(at: Int, _ change: (inout Event) -> Void) -> Set<Violation.Rule> {
        var events = Self.sound()
        for index in events.indices where events[index].at == at { change(&events[index]) }
        return rules(events)
    }

    private func rules(without at: Int) -> Set<Violation.Rule> {
        rules(Self.sound().filter { $0.at != at })
    }

    @Test("a sound history has no violation, and one without tasks neither")
    func sound() throws {
        #expect(rules(Self.sound()) == [])
        #expect(rules(Self.sound().reversed()) == [])
        #expect(rules(try History(lines: History(events: Self.sound()).lines()).events) == [])
        #expect(rules([]) == [])
    }

    @Test("a task that is nowhere, has not ended or has not succeeded is found")
    func lost() {
        #expect(rules(without: 90) == [.lost])
        #expect(rules(at: 90) { $0.state = "running" } == [.lost])
        #expect(rules(at: 90) { $0.state = "failed" } == [.wrongEnd, .recordedTwice])
    }

    @Test("an outcome that is written twice, over another, or by nobody who ran, is found")
    func recordedTwice() {
        var again = Event(.taskChanged, at: 55)
        (again.task, again.state, again.attempt, again.generation) = ("t1", "succeeded", 2, 2)
        #expect(rules(Self.sound() + [again]) == [.recordedTwice])
        #expect(rules(at: 90) { $0.attempt = 3 } == [.recordedTwice])
        #expect(rules(without: 40).contains(.recordedTwice), "nobody ran")
        #expect(rules(without: 30) == [.recordedTwice], "it was marked while it ran")
    }

    @Test("an attempt that begins twice, or is no higher than the one before, is found")
    func attempts() {
        #expect(rules(at: 40) { $0.attempt = 1 }.isSuperset(of: [.startedTwice, .attemptFell]))
        #expect(rules(at: 40) { $0.token = "t1/1" } == [.startedTwice])
        #expect(rules(at: 40) { $0.attempt = 4 }.contains(.attemptFell))
        #expect(rules(at: 53) { $0.generation = 1 } == [.attemptFell])
    }

    @Test("a task that has succeeded before its work was done is found; what came later is not its work")
    func effectLost() {
        #expect(rules(without: 45) == [.effectLost])
        #expect(rules(at: 45) { $0.at = 52 } == [.effectLost])
        #expect(rules(at: 60) { $0.at = 7 } == [.effectLost])
    }

    @Test("what is removed twice, or was to be kept, is found")
    func effectTwice() {
        #expect(rules(at: 45) { $0.job = "old 1" } == [.effectTwice, .effectLost])
        #expect(rules(at: 6) { $0.job = "another" } == [.effectTwice, .effectLost])
    }
}
