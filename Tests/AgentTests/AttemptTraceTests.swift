import Domain
import Testing
import Wire

@testable import Agent

@Suite struct AttemptTraceTests {
    private static func name(_ attempt: Int) -> AttemptName {
        AttemptName(
            run: RunID(UniqueID(high: 1, low: UInt64(attempt))), attempt: 1,
            token: AttemptToken(UniqueID(high: 2, low: 2)))
    }

    private static func accepted(_ attempt: Int) -> AgentFrame {
        .accepted(Accepted(name: name(attempt), journalPosition: 1))
    }

    @Test("What is said of an attempt carries its trace, to a gateway that takes it")
    func carry() {
        var traces = AttemptTraces()
        let trace = TraceContext.new()
        traces.keep(trace, of: Self.name(1))
        #expect(traces.carry(Self.accepted(1)) == Self.accepted(1), "an older gateway would refuse it")
        traces.areTaken = true
        #expect(traces.carry(Self.accepted(1)).trace == trace)
        #expect(traces.carry(Self.accepted(2)) == Self.accepted(2))
        #expect(traces.carry(.ping(1)) == .ping(1))
        traces.forget(Self.name(1))
        #expect(traces.carry(Self.accepted(1)) == Self.accepted(1))
    }

    @Test("A refusal is the last that carries a trace, and the number of traces has a bound")
    func bound() {
        var traces = AttemptTraces()
        traces.areTaken = true
        let trace = TraceContext.new()
        traces.keep(trace, of: Self.name(1))
        let refusal = AgentFrame.rejected(Rejected(name: Self.name(1), code: "full", message: "no"))
        #expect(traces.carry(refusal).trace == trace)
        #expect(traces[Self.name(1)] == nil)
        for attempt in 1...AttemptTraces.countMax + 1 { traces.keep(trace, of: Self.name(attempt)) }
        #expect(traces[Self.name(AttemptTraces.countMax)] == trace)
        #expect(traces[Self.name(AttemptTraces.countMax + 1)] == nil)
        traces.keep(.new(), of: Self.name(1))
        #expect(traces[Self.name(1)] != trace, "a dispatch that is repeated brings its own")
    }
}
