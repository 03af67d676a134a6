import Domain
import Testing
import Wire

@Suite struct FrameTests {
    @Test("frames and their text are the same both ways")
    func roundTrip() throws {
        let name = AttemptName(
            run: .new(at: Instant(seconds: 1)), attempt: 2, token: .new(at: Instant(seconds: 2)))
        let finished = Finished(
            name: name, outcome: .failed, exitCode: 3, finishedAt: Instant(seconds: 9),
            stdout: OutputExcerpt(head: [1, 2, 255], tail: [], bytes: 3))
        let frames: [AgentFrame] = [
            .hello(
                Hello(
                    agentVersion: "1", hostname: "hé\"\n", platform: "linux", keySetVersion: 1,
                    assignmentVersion: 1,
                    journalPosition: 7, held: [name], ended: [])),
            .accepted(Accepted(name: name, journalPosition: 8)),
            .started(Started(name: name, at: Instant(seconds: 3), journalPosition: 2)), .finished(finished),
            .rejected(Rejected(name: name, code: "signature", message: "no")), .ping(4),
        ]
        for frame in frames { #expect(try AgentFrame.decode(frame.encoded) == frame) }
        let answers: [GatewayFrame] = [
            .welcome(Welcome(session: 3, keySet: [1], drop: [name], pingSeconds: 30, helloSeconds: 300)),
            .dispatch(
                Dispatch(
                    name: name, job: [0, 1, 2], leafIndex: 0, proof: [[UInt8](repeating: 7, count: 32)])),
            .cancel(name), .acknowledged(name), .pong(1),
        ]
        for frame in answers { #expect(try GatewayFrame.decode(frame.encoded) == frame) }
    }

    @Test("what an agent must not say is refused by name")
    func refusals() {
        func refusal(_ text: String) -> String {
            do {
                return "accepted \(try AgentFrame.decode(Array(text.utf8)))"
            } catch { return "\(error)" }
        }
        #expect(refusal(#"{"type":"ping","seq":1,"more":2}"#).hasPrefix("more: is not a field here"))
        #expect(refusal(#"{"type":"pong","seq":1}"#).contains("is not a message of an agent"))
        #expect(refusal(#"{"type":"ping","seq":"1"}"#) == "seq: must be an integer, not a string")
        #expect(refusal(#"{"type":"ping","type":"ping"}"#).contains("stands twice"))
        #expect(refusal(#"[]"#) == "must be an object, not an array")
        #expect(refusal(String(repeating: "[", count: 50)).contains("nest deeper"))
    }

    @Test("garbage is refused and never trusted")
    func garbage() {
        var generator = SystemRandomNumberGenerator()
        let alphabet = Array(#"{}[]",:\u0123e+-.truefalsn "#.utf8)
        for _ in 0..<20_000 {
            let bytes = (0..<Int.random(in: 0...40)).map { _ in alphabet.randomElement(using: &generator)! }
            #expect(throws: (any Error).self) { try AgentFrame.decode(bytes) }
        }
    }

    private static let name = AttemptName(
        run: RunID("0190b5a0-0000-7000-8000-00000000000a")!, attempt: 2,
        token: AttemptToken("0190B5A0-0000-7000-8000-00000000000B")!)

    @Test("the text of each frame that is sent for every run is fixed")
    func text() {
        func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
        let named =
            #""run":"0190b5a0-0000-7000-8000-00000000000a","attempt":2,"#
            + #""token":"0190b5a0-0000-7000-8000-00000000000b""#
        let name = Self.name
        let accepted = AgentFrame.accepted(Accepted(name: name, journalPosition: 43))
        #expect(text(accepted.encoded) == "{\"type\":\"accepted\",\(named),\"journalPosition\":43}")
        #expect(text(GatewayFrame.acknowledged(name).encoded) == "{\"type\":\"acknowledged\",\(named)}")
        let dispatch = Dispatch(name: name, job: [0, 1, 2, 255])
        #expect(
            text(GatewayFrame.dispatch(dispatch).encoded)
                == "{\"type\":\"dispatch\",\(named),\"job\":\"AAEC/w==\"}")
        let prepared = Dispatch(name: name, job: .prepared([0, 1, 2, 255]))
        #expect(prepared == dispatch)
        #expect(GatewayFrame.dispatch(prepared).encoded == GatewayFrame.dispatch(dispatch).encoded)
        let finished = Finished(
            name: name, outcome: .timedOut, exitCode: -1, reason: "a\n", startedAt: Instant(seconds: 0),
            finishedAt: Instant(microseconds: 1_767_225_600_123_456),
            stdout: OutputExcerpt(head: [104, 105], tail: [10], bytes: 1_000))
        #expect(
            text(AgentFrame.finished(finished).encoded)
                == "{\"type\":\"finished\",\(named),"
                + #""outcome":"timedOut","exitCode":-1,"reason":"a\n","#
                + #""startedAt":"1970-01-01T00:00:00.000Z","finishedAt":"2026-01-01T00:00:00.123Z","#
                + #""stdout":{"head":"aGk=","tail":"Cg==","bytes":1000},"#
                + #""stderr":{"head":"","tail":"","bytes":0}}"#)
    }

    @Test("random frames come back, and damaged ones are refused or read, never trusted blindly")
    func randomFrames() throws {
        var generator = SystemRandomNumberGenerator()
        func bytes(_ most: Int) -> [UInt8] {
            (0..<Int.random(in: 0...most, using: &generator)).map { _ in
                .random(in: 0...255, using: &generator)
            }
        }
        func text(_ most: Int) -> String {
            let scalars = "ab\"\\/\n\u{1}é€😀".unicodeScalars
            let count = Int.random(in: 1...most, using: &generator)
            return String(
                String.UnicodeScalarView((0..<count).map { _ in scalars.randomElement(using: &generator)! }))
        }
        func excerpt() -> OutputExcerpt {
            let (head, tail) = (bytes(40), bytes(40))
            return OutputExcerpt(head: head, tail: tail, bytes: head.count + tail.count + .random(in: 0...9))
        }
        for index in 0..<2_000 {
            let at = Instant(microseconds: .random(in: 0...4_000_000_000_000, using: &generator) * 1_000)
            let name = AttemptName(run: .new(at: at), attempt: .random(in: 1...1_000), token: .new(at: at))
            let finished = Finished(
                name: name, outcome: Outcome.allCases.filter { $0 != .expired }.randomElement()!,
                exitCode: Bool.random() ? .random(in: -1...255) : nil, reason: Bool.random() ? text(20) : nil,
                startedAt: Bool.random() ? at : nil, finishedAt: at, stdout: excerpt(), stderr: excerpt())
            let rejected = Rejected(name: name, code: "full", message: text(100))
            let frame: AgentFrame = index % 2 == 0 ? .finished(finished) : .rejected(rejected)
            #expect(try AgentFrame.decode(frame.encoded) == frame)
            let proof =
                Bool.random() ? nil : (0..<3).map { _ in [UInt8](repeating: .random(in: 0...255), count: 32) }
            let answer = GatewayFrame.dispatch(
                Dispatch(name: name, job: bytes(900), leafIndex: proof == nil ? nil : index, proof: proof))
            #expect(try GatewayFrame.decode(answer.encoded) == answer)
            for var damaged in [frame.encoded, answer.encoded] {
                for _ in 0..<Int.random(in: 1...4) {
                    damaged[Int.random(in: 0..<damaged.count)] = .random(in: 0...255)
                }
                damaged.removeLast(Int.random(in: 0...3))
                // Most of them are refused, as they should be; what is read must be a frame like any other.
                if let frame = try? AgentFrame.decode(damaged) {
                    #expect(try AgentFrame.decode(frame.encoded) == frame)
                }
                // As above.
                if let frame = try? GatewayFrame.decode(damaged) {
                    #expect(try GatewayFrame.decode(frame.encoded) == frame)
                }
            }
        }
    }
}
