import Domain
import Testing
import Wire

@Suite struct FrameTraceTests {
    private static let name = AttemptName(
        run: .new(at: Instant(seconds: 1)), attempt: 2, token: .new(at: Instant(seconds: 2)))
    private static let frames: [AgentFrame] = [
        .accepted(Accepted(name: name, journalPosition: 8)),
        .started(Started(name: name, at: Instant(seconds: 3), journalPosition: 2)),
        .finished(Finished(name: name, outcome: .failed, finishedAt: Instant(seconds: 9))),
        .rejected(Rejected(name: name, code: "signature", message: "no")),
    ]

    @Test("Traces go both ways, and a message without one has no word of it")
    func roundTrip() throws {
        let trace = TraceContext.new()
        for frame in Self.frames {
            #expect(!String(decoding: frame.encoded, as: UTF8.self).contains("trace"))
            let carrying = frame.carrying(trace)
            #expect(carrying.trace == trace && carrying.name == Self.name && carrying.word != nil)
            #expect(try AgentFrame.decode(carrying.encoded) == carrying)
        }
        #expect(AgentFrame.ping(1).carrying(trace) == .ping(1))
        var dispatch = Dispatch(name: Self.name, job: [1])
        #expect(!String(decoding: GatewayFrame.dispatch(dispatch).encoded, as: UTF8.self).contains("trace"))
        dispatch.trace = trace
        #expect(try GatewayFrame.decode(GatewayFrame.dispatch(dispatch).encoded) == .dispatch(dispatch))
    }

    @Test("A trace that is none is overlooked; one without bounds is refused")
    func nonsense() throws {
        func text(_ trace: String) -> [UInt8] {
            let text = String(decoding: Self.frames[0].encoded, as: UTF8.self)
            return Array("\(text.dropLast()),\"traceparent\":\"\(trace)\"}".utf8)
        }
        for trace in ["", "x", "00-0-0-00", String(repeating: "0", count: TraceContext.bytesMax)] {
            #expect(try AgentFrame.decode(text(trace)) == Self.frames[0])
        }
        #expect(throws: FieldError.self) {
            try AgentFrame.decode(text(String(repeating: "0", count: TraceContext.bytesMax + 1)))
        }
    }
}
