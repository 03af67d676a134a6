import Domain
import Foundation
import Testing
import Wire

/// The files beside the protocol's page are what goes over the wire: other agents are written against them.
@Suite struct GoldenTests {
    private static let name = AttemptName(
        run: RunID("01900000-0000-7000-8000-000000000001")!, attempt: 2,
        token: AttemptToken("01900000-0000-7000-8000-000000000002")!)
    private static let other = AttemptName(
        run: RunID("01900000-0000-7000-8000-000000000003")!, attempt: 1,
        token: AttemptToken("01900000-0000-7000-8000-000000000004")!)
    private static let at = Instant(seconds: 1_772_366_400)
    private static let trace = TraceContext("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")!

    private static let agent: [AgentFrame] = [
        .hello(
            Hello(
                agentVersion: "0.2.0", hostname: "web-1", platform: "linux", keySetVersion: 1,
                assignmentVersion: 1, journalPosition: 0, held: [], ended: [])),
        .hello(
            Hello(
                agentVersion: "0.2.0", hostname: "büro \"2\"\n", platform: "linux", keySetVersion: 3,
                assignmentVersion: 12, journalPosition: 42, held: [name], ended: [other], at: at)),
        .accepted(Accepted(name: name, journalPosition: 43)),
        AgentFrame.accepted(Accepted(name: name, journalPosition: 43)).carrying(trace),
        .started(Started(name: name, at: at, journalPosition: 44)),
        AgentFrame.started(Started(name: name, at: at, journalPosition: 44)).carrying(trace),
        .finished(
            Finished(
                name: name, outcome: .failed, exitCode: 3, startedAt: at, finishedAt: at + .seconds(1),
                stdout: OutputExcerpt(head: Array("hello\n".utf8), tail: [], bytes: 6))),
        .finished(
            Finished(
                name: name, outcome: .timedOut, exitCode: -1, reason: "signal", startedAt: at,
                finishedAt: at + .milliseconds(1_500),
                stdout: OutputExcerpt(head: [0, 0xff, 0xfe], tail: [0xc3], bytes: 1 << 40))),
        AgentFrame.finished(Finished(name: name, outcome: .unknown, finishedAt: at)).carrying(trace),
        .rejected(
            Rejected(
                name: name, code: "target", message: "the job is for another site than this device's")),
        AgentFrame.rejected(Rejected(name: name, code: "full", message: "no")).carrying(trace),
        .renew("-----BEGIN CERTIFICATE REQUEST-----\nMA==\n-----END CERTIFICATE REQUEST-----\n"),
        .ping(7),
    ]

    private static let gateway: [GatewayFrame] = {
        var full = Welcome(
            session: 12, keySet: [1, 2], assignment: [3], drop: [name], cancel: [other], pingSeconds: 30,
            helloSeconds: 300)
        (full.at, full.limits) = (at, .own)
        var dispatch = Dispatch(
            name: name, job: [0, 1, 2, 255], leafIndex: 3, proof: [[UInt8](repeating: 7, count: 32)])
        dispatch.secrets = [Base64Bytes([9, 9])]
        dispatch.trace = trace
        return [
            .welcome(Welcome(session: 12, pingSeconds: 30, helloSeconds: 300)), .welcome(full),
            .statements(NewerStatements(keySet: Base64Bytes([1, 2]), assignment: Base64Bytes([3]))),
            .dispatch(Dispatch(name: name, job: [0, 1, 2, 255])), .dispatch(dispatch),
            .cancel(name), .acknowledged(name),
            .renewed(
                Renewed(certificate: "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n")),
            .renewed(Renewed(refusal: "the device is suspended or archived")), .pong(7),
        ]
    }()

    private let environment = ProcessInfo.processInfo.environment

    private func documentation() throws -> String {
        "\(try #require(environment["CLOUDRMM_TEST_REPOSITORY"]))/Sources/Wire/Documentation.docc"
    }

    private func golden(_ file: String, is made: String) throws {
        let path = "\(try documentation())/Golden/\(file)"
        if environment["CLOUDRMM_WRITE_GOLDEN"] == "1" {
            try made.write(toFile: path, atomically: true, encoding: .utf8)
        }
        let kept = try String(contentsOfFile: path, encoding: .utf8)
        #expect(kept == made, "\(file) is not what is sent; CLOUDRMM_WRITE_GOLDEN=1 writes it")
    }

    private func lines(_ frames: [[UInt8]]) -> String {
        frames.map { String(decoding: $0, as: UTF8.self) + "\n" }.joined()
    }

    @Test("Every frame of an agent is written and read as its line stands there")
    func agentFrames() throws {
        try golden("agent.jsonl", is: lines(Self.agent.map(\.encoded)))
        for frame in Self.agent { #expect(try AgentFrame.decode(frame.encoded) == frame) }
    }

    @Test("Every frame of a gateway is written and read as its line stands there")
    func gatewayFrames() throws {
        try golden("gateway.jsonl", is: lines(Self.gateway.map(\.encoded)))
        for frame in Self.gateway { #expect(try GatewayFrame.decode(frame.encoded) == frame) }
    }

    @Test("Every message and every field of the protocol's page stands in a golden line, and the other way")
    func page() throws {
        let page = try String(contentsOfFile: "\(documentation())/AgentProtocol.md", encoding: .utf8)
        func names(_ text: String) -> Set<String> {
            Set(text.matches(of: /"([A-Za-z]+)":/).map { String($0.1) })
        }
        func types(_ text: String) -> Set<String> {
            Set(text.matches(of: /"type":"([a-z]+)"/).map { String($0.1) })
        }
        let frames = page.components(separatedBy: "## Rules")[0]
        let sent = lines(Self.agent.map(\.encoded) + Self.gateway.map(\.encoded))
        #expect(types(frames) == types(sent))
        #expect(names(frames) == names(sent))
    }

    @Test("The table of limits is what both ends go by")
    func limits() throws {
        var writer = JSONWriter()
        writer.object { SessionLimits.own.fields(to: &$0) }
        let text = String(decoding: writer.bytes, as: UTF8.self)
        let broken = text.replacing("{", with: "{\n  ").replacing(",", with: ",\n  ").replacing(
            "}", with: "\n}\n")
        try golden("limits.json", is: broken.replacing(":", with: ": "))
    }
}
