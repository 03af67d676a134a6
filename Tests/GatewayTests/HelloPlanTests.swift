import Domain
import TestSupport
import Testing
import Trust
import Wire

@testable import Gateway
@testable import Ledger

/// The device's word against the server's belief, one attempt at a time.
@Suite struct HelloPlanTests {
    /// What the device says of an attempt.
    enum Word: CaseIterable {
        case held, ended, nothing
    }

    /// What the server believes of it.
    enum Belief: CaseIterable {
        case open, openCancelled, unknown, cancelled, settled
    }

    /// What follows.
    enum Outcome {
        case nothing, resend, drop, cancel, lost
    }

    private static let table: [(Word, Belief, Bool, Outcome)] = [
        (.held, .open, false, .nothing), (.held, .open, true, .nothing),
        (.held, .openCancelled, false, .cancel), (.held, .openCancelled, true, .cancel),
        (.held, .unknown, false, .nothing), (.held, .unknown, true, .nothing),
        (.held, .cancelled, false, .cancel), (.held, .cancelled, true, .cancel),
        (.held, .settled, false, .drop), (.held, .settled, true, .drop),
        (.ended, .open, false, .nothing), (.ended, .open, true, .nothing),
        (.ended, .openCancelled, false, .nothing), (.ended, .openCancelled, true, .nothing),
        (.nothing, .open, false, .resend), (.nothing, .open, true, .lost),
        (.nothing, .openCancelled, false, .resend), (.nothing, .openCancelled, true, .lost),
        (.nothing, .settled, false, .nothing), (.nothing, .settled, true, .nothing),
        (.ended, .settled, false, .nothing), (.ended, .settled, true, .nothing),
    ]

    @Test("Every word about an attempt that the server knows has one consequence", arguments: table)
    func row(word: Word, belief: Belief, regressed: Bool, expected: Outcome) {
        let delivery = Delivery.example(cancelRequested: belief == .openCancelled)
        var hello = Hello.example(journalPosition: regressed ? 9 : 10)
        switch word {
        case .held: hello.held = [delivery.name]
        case .ended: hello.ended = [delivery.name]
        case .nothing: break
        }
        let isOpen = belief == .open || belief == .openCancelled
        let amendable: [RunID: Domain.Outcome] =
            switch belief {
            case .unknown: [delivery.run: .unknown]
            case .cancelled: [delivery.run: .cancelled]
            case .open, .openCancelled, .settled: [:]
            }
        let plan = HelloPlan(
            hello, open: isOpen ? [delivery] : [], amendable: amendable, journalPosition: 10)
        #expect(plan.resend == (expected == .resend ? [delivery] : []))
        #expect(plan.lost == (expected == .lost ? [delivery] : []))
        #expect(plan.drop == (expected == .drop ? [delivery.name] : []))
        #expect(plan.cancel == (expected == .cancel ? [delivery.name] : []))
    }

    @Test("An attempt is its run, its number and its token: another number or token is another attempt")
    func names() {
        let delivery = Delivery.example()
        let others = [
            AttemptName(run: delivery.run, attempt: 2, token: delivery.token),
            AttemptName(run: delivery.run, attempt: 1, token: fresh()),
            AttemptName(run: fresh(), attempt: 1, token: delivery.token),
        ]
        var hello = Hello.example(journalPosition: 10)
        hello.held = others
        let plan = HelloPlan(hello, open: [delivery], amendable: [:], journalPosition: 10)
        #expect(plan.drop == others)
        #expect(plan.resend == [delivery])
    }

    @Test("Many attempts are judged one by one, in order")
    func many() {
        let open = (0..<6).map { Delivery.example(cancelRequested: $0 == 1) }
        let strange = AttemptName(run: fresh(), attempt: 1, token: fresh())
        var hello = Hello.example(journalPosition: 11)
        hello.held = [open[0].name, strange, open[1].name]
        hello.ended = [open[2].name]
        let plan = HelloPlan(hello, open: open, amendable: [:], journalPosition: 10)
        #expect(plan.resend == Array(open[3...]))
        #expect(plan.drop == [strange])
        #expect(plan.cancel == [open[1].name])
        #expect(plan.lost.isEmpty)
    }
}

extension Delivery {
    /// An open attempt of a device.
    static func example(cancelRequested: Bool = false) -> Delivery {
        Delivery(
            organization: fresh(), run: fresh(), device: fresh(), job: fresh(), attempt: 1, token: fresh(),
            leaf: nil, cancelRequested: cancelRequested)
    }
}

extension Hello {
    /// The hello of an agent that holds nothing.
    static func example(journalPosition: Int = 0) -> Hello {
        Hello(
            agentVersion: "1", hostname: "host", platform: "linux", keySetVersion: 1, assignmentVersion: 1,
            journalPosition: journalPosition, held: [], ended: [])
    }
}
