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
            .accepted(name), .started(Started(name: name, at: Instant(seconds: 3))), .finished(finished),
            .rejected(Rejected(name: name, code: "signature", message: "no")), .ping(4),
        ]
        for frame in frames { #expect(try AgentFrame.decode(frame.encoded) == frame) }
        let answers: [GatewayFrame] = [
            .welcome(Welcome(session: 3, keySet: [1], drop: [name], pingSeconds: 30)),
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
}
