import History
import Testing

/// The checker finds each kind of violation in a log that has it, and none in one that has not.
struct CheckerTests {
    /// A run that has everything: two jobs over two devices, a cancel, a cap, a fault, a lost agent.
    private static func sound() -> [Event] {
        var events: [Event] = []
        func event(_ kind: Event.Kind, _ at: Int, _ change: (inout Event) -> Void = { _ in }) {
            var event = Event(kind, at: at)
            change(&event)
            events.append(event)
        }
        func run(_ job: String, _ device: String, _ attempt: Int, _ from: Int, _ to: Int?) {
            for (kind, at) in [(Event.Kind.started, from), (.ended, to)] {
                guard let at else { continue }
                event(kind, at) { ($0.job, $0.device, $0.attempt) = (job, device, attempt) }
            }
        }
        func outcome(_ job: String, _ device: String, _ state: String, _ attempt: Int, _ at: Int) {
            event(.outcome, 900) {
                ($0.job, $0.device, $0.state, $0.attempt) = (job, device, state, attempt)
                ($0.run, $0.finishedAt) = ("\(job)/\(device)", at)
                $0.output = "said \(job)-\(attempt)\n"
            }
        }
        event(.cap, 0) { ($0.organization, $0.cap) = ("o", 2) }
        event(.armed, 1) { $0.note = "gateway.beforeCommit" }
        for (job, devices, allowed) in [
            ("j1", ["a", "b"], ["succeeded"]), ("j2", ["a"], ["cancelled"]),
            ("j3", ["b"], ["succeeded", "unknown"]), ("j4", ["b"], ["expired"]),
        ] {
            event(.accepted, 10) {
                ($0.job, $0.devices, $0.allowed, $0.organization) = (job, devices, allowed, "o")
                $0.note = "key of \(job)"
            }
        }
        run("j1", "a", 1, 20, 30)
        event(.struck, 25) { $0.note = "gateway.beforeCommit" }
        run("j1", "b", 1, 40, 50)
        run("j1", "b", 2, 55, 60)
        event(.cancelled, 70) { $0.job = "j2" }
        run("j3", "b", 1, 80, nil)
        event(.agentLost, 85) { $0.device = "b" }
        outcome("j1", "a", "succeeded", 1, 30)
        outcome("j1", "b", "succeeded", 2, 60)
        outcome("j2", "a", "cancelled", 0, 70)
        outcome("j3", "b", "unknown", 1, 90)
        outcome("j4", "b", "expired", 0, 90)
        for (job, state, count) in [
            ("j1", "succeeded", 2), ("j2", "cancelled", 1), ("j3", "unknown", 1), ("j4", "expired", 1),
        ] {
            event(.counts, 950) { ($0.job, $0.counts) = (job, [state: count, "failed": 0]) }
        }
        return events
    }

    private func rules(_ events: [Event]) -> Set<Violation.Rule> {
        Set(Checker.violations(in: History(events: events)).map(\.rule))
    }

    /// The rules that are broken once the events of a kind and job, on a device if it is said, are changed.
    private func rules(
        changing kind: Event.Kind, of job: String, on device: String? = nil, _ change: (inout Event) -> Void
    ) -> Set<Violation.Rule> {
        var events = Self.sound()
        for index in events.indices
        where events[index].kind == kind && events[index].job == job
            && (device == nil || events[index].device == device)
        {
            change(&events[index])
        }
        return rules(events)
    }

    private func rules(without kind: Event.Kind, of job: String?) -> Set<Violation.Rule> {
        rules(Self.sound().filter { $0.kind != kind || (job != nil && $0.job != job) })
    }

    private func rules(adding kind: Event.Kind, at: Int, _ change: (inout Event) -> Void) -> Set<
        Violation.Rule
    > {
        var event = Event(kind, at: at)
        change(&event)
        return rules(Self.sound() + [event])
    }

    @Test("a sound history has no violation, in whatever order its lines are")
    func sound() throws {
        #expect(Checker.violations(in: History(events: Self.sound())) == [])
        #expect(Checker.violations(in: History(events: Self.sound().reversed())) == [])
        let lines = try History(events: Self.sound()).lines()
        #expect(Checker.violations(in: try History(lines: lines)) == [])
        #expect(try History(lines: lines).events.count == Self.sound().count)
    }

    @Test("a line that is no event is refused")
    func unreadable() {
        #expect(throws: (any Error).self) {
            try History(lines: "{\"at\":1,\"kind\":\"accepted\"}\nnothing\n")
        }
        #expect(throws: (any Error).self) { try History(lines: "{\"at\":1,\"kind\":\"other\"}\n") }
    }

    @Test("a run that is nowhere, or has not ended, or whose job is unknown is lost")
    func lost() {
        #expect(rules(without: .outcome, of: "j2").contains(.lost))
        #expect(rules(changing: .outcome, of: "j1", on: "a") { $0.state = "running" }.contains(.lost))
        #expect(rules(without: .counts, of: "j1") == [.lost])
    }

    @Test("an end that was not possible is a wrong one")
    func wrongEnd() {
        #expect(rules(changing: .outcome, of: "j4") { $0.state = "failed" }.contains(.wrongEnd))
        #expect(rules(changing: .accepted, of: "j2") { $0.allowed = ["succeeded"] } == [.wrongEnd])
        #expect(
            rules(adding: .started, at: 95) { ($0.job, $0.device, $0.attempt) = ("j4", "b", 0) } == [
                .wrongEnd
            ])
    }

    @Test("a run in the record twice, or counted otherwise than it ended, was recorded twice")
    func recordedTwice() {
        #expect(
            rules(adding: .outcome, at: 901) {
                ($0.job, $0.device, $0.state, $0.attempt) = ("j1", "a", "succeeded", 1)
                ($0.run, $0.output) = ("another", "said j1-1\n")
            } == [.recordedTwice])
        #expect(rules(changing: .counts, of: "j1") { $0.counts = ["succeeded": 3] } == [.recordedTwice])
        #expect(
            rules(changing: .counts, of: "j1") { $0.counts = ["succeeded": 2, "failed": 1] } == [
                .recordedTwice
            ])
    }

    @Test("one key for two jobs, or one job twice, was accepted twice")
    func acceptedTwice() {
        #expect(rules(changing: .accepted, of: "j3") { $0.note = "key of j1" } == [.acceptedTwice])
        #expect(
            rules(adding: .accepted, at: 11) {
                ($0.job, $0.devices, $0.allowed) = ("j2", ["a"], ["cancelled"])
            } == [.acceptedTwice])
    }

    @Test("a second start in one attempt is found, and one more than was allowed")
    func startedTwice() {
        #expect(
            rules(adding: .started, at: 31) { ($0.job, $0.device, $0.attempt) = ("j1", "a", 1) }
                .contains(.startedTwice))
        #expect(rules(changing: .accepted, of: "j1") { $0.maxStarts = 1 } == [.startedTwice])
    }

    @Test("success needs a script that has run to its end in that attempt")
    func invented() {
        #expect(rules(without: .ended, of: "j1") == [.invented])
        #expect(
            rules(changing: .outcome, of: "j1", on: "a") {
                ($0.attempt, $0.output) = (2, "said j1-2\n")
            } == [.invented])
    }

    @Test("a start before the time of a job is early; one at its time is not")
    func early() {
        #expect(rules(changing: .accepted, of: "j1") { $0.notBefore = 21 } == [.early])
        #expect(rules(changing: .accepted, of: "j1") { $0.notBefore = 20 } == [])
    }

    @Test("what nobody asked for is strange: a start, an end, a record")
    func strange() {
        #expect(
            rules(adding: .started, at: 31) { ($0.job, $0.device, $0.attempt) = ("j9", "a", 1) } == [.strange]
        )
        #expect(
            rules(adding: .ended, at: 31) { ($0.job, $0.device, $0.attempt) = ("j2", "a", 1) } == [.strange])
        #expect(
            rules(adding: .outcome, at: 900) { ($0.job, $0.device, $0.state) = ("j2", "b", "cancelled") }
                == [.strange])
    }

    @Test("attempts rise, in what was started and in the record")
    func attemptFell() {
        #expect(
            rules(changing: .outcome, of: "j1", on: "b") {
                ($0.attempt, $0.output) = (1, "said j1-1\n")
            } == [.attemptFell])
        #expect(
            rules(adding: .started, at: 62) { ($0.job, $0.device, $0.attempt) = ("j1", "b", 0) }
                == [.attemptFell])
    }

    @Test("more under way than the cap allows is found; as many as it allows are not")
    func capExceeded() {
        var events = Self.sound()
        for index in events.indices where events[index].kind == .cap { events[index].cap = 1 }
        #expect(rules(events) == [])
        let late = events.firstIndex { $0.kind == .ended && $0.job == "j1" && $0.device == "a" }
        if let late { events[late].at = 45 }
        #expect(rules(events) == [.capExceeded])
        // One whose end nobody saw is under way until its agent is lost.
        var open = Self.sound()
        for index in open.indices where open[index].kind == .cap { open[index].cap = 1 }
        let before = open.firstIndex { $0.kind == .started && $0.job == "j3" }
        if let before { open[before].at = 58 }
        #expect(rules(open) == [.capExceeded])
    }

    @Test("a run that begins after its cancel, or runs on in spite of it, is found")
    func cancelIgnored() {
        let second = 1_000_000
        #expect(
            rules(adding: .started, at: 71 + 21 * second) { ($0.job, $0.device, $0.attempt) = ("j2", "a", 0) }
                == [.cancelIgnored])
        #expect(rules(changing: .cancelled, of: "j2") { $0.at = 5 } == [])
        var events = Self.sound()
        for index in events.indices where events[index].job == "j2" {
            if events[index].kind == .outcome { events[index].state = "succeeded" }
            if events[index].kind == .counts { events[index].counts = ["succeeded": 1] }
            if events[index].kind == .accepted { events[index].allowed = ["cancelled", "succeeded"] }
        }
        var (start, end) = (Event(.started, at: 60), Event(.ended, at: 65))
        (start.job, start.device, start.attempt) = ("j2", "a", 0)
        (end.job, end.device, end.attempt) = ("j2", "a", 0)
        #expect(rules(events + [start, end]) == [], "it had ended before the cancel")
        end.at = 70 + 61 * second
        #expect(rules(events + [start, end]).contains(.cancelIgnored))
    }

    @Test("unknown needs the loss of its agent, and no more runs are than it held")
    func unknownWithoutLoss() {
        #expect(rules(without: .agentLost, of: nil).contains(.unknownWithoutLoss))
        var events = Self.sound().filter { $0.kind != .agentLost }
        var earlier = Event(.agentLost, at: 5)
        earlier.device = "b"
        events.append(earlier)
        #expect(rules(events).contains(.unknownWithoutLoss))
        var many = Self.sound()
        for index in 0...Checker.heldMax {
            for kind in [Event.Kind.accepted, .outcome, .counts] {
                var event = Event(kind, at: kind == .accepted ? 12 : 960)
                (event.job, event.device, event.state) = ("u\(index)", "b", "unknown")
                (event.devices, event.allowed, event.counts) = (["b"], ["unknown"], ["unknown": 1])
                many.append(event)
            }
        }
        #expect(rules(many) == [.unknownWithoutLoss])
    }

    @Test("a result without what its script said has lost its output")
    func outputLost() {
        #expect(rules(changing: .outcome, of: "j1", on: "a") { $0.output = "" } == [.outputLost])
        #expect(rules(changing: .outcome, of: "j1", on: "a") { $0.output = nil } == [.outputLost])
        #expect(rules(changing: .outcome, of: "j1", on: "b") { $0.output = "said j1-1\n" } == [.outputLost])
        #expect(rules(changing: .outcome, of: "j3") { $0.output = nil } == [], "it has not ended")
    }

    @Test("a journal that lost what its device had said is found")
    func journalLost() {
        #expect(rules(changing: .outcome, of: "j3") { $0.note = "agentRestarted" } == [])
        #expect(rules(changing: .outcome, of: "j3") { $0.note = "journalRegress" } == [.journalLost])
    }

    @Test("a fault that did not strike, and a run that shows nothing, are no proof")
    func noProof() {
        #expect(rules(without: .struck, of: nil) == [.notStruck])
        #expect(rules([]) == [.empty])
    }

    @Test("each rule has its planted violation above")
    func complete() {
        // A new rule is added here with its test.
        #expect(Violation.Rule.allCases.count == 18)
    }
}
