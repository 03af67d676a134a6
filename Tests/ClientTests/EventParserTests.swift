import Outbound
import Testing
import Wire

@testable import Client

@Suite("Server-sent events")
struct EventParserTests {
    private func events(_ text: String, pieces: Int) throws -> [String] {
        var parser = EventParser()
        var events: [String] = []
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            events += try parser.take(Array(rest.prefix(pieces))).map { String(decoding: $0, as: UTF8.self) }
            rest = rest.dropFirst(pieces)
        }
        return events
    }

    @Test(
        "data is found however the bytes are cut, with LF or CRLF, and lines of one event are joined",
        arguments: 1...7)
    func cut(pieces: Int) throws {
        let text =
            "event: job\ndata: {\"a\":1}\n\n: here\n\ndata:x\r\ndata: é\r\n\r\nid: 7\n\ndata: unfinished\n"
        #expect(try events(text, pieces: pieces) == ["{\"a\":1}", "x\né"])
    }

    @Test("an event over its limit is refused, one at the limit is not")
    func limit() throws {
        let most = EventParser.eventBytesMax - 6
        #expect(
            try events("data: " + String(repeating: "x", count: most) + "\n\n", pieces: 65_536).count == 1)
        #expect(throws: ClientError.self) {
            _ = try events("data: " + String(repeating: "x", count: most + 1) + "\n\n", pieces: 65_536)
        }
    }

    @Test("a problem is thrown as one, anything else as an answer that is not this API's")
    func refusals() {
        let problem = Problem(code: "invalid", status: 422, title: "t", detail: "d", field: "f")
        let type = [("content-type", "application/problem+json")]
        #expect(
            ClientError.refusal(HTTPResponse(status: 422, headers: type, body: problem.json)) as? Problem
                == problem)
        #expect(ClientError.refusal(HTTPResponse(status: 502, headers: type, body: [1])) is ClientError)
        #expect(ClientError.refusal(HTTPResponse(status: 502, body: problem.json)) is ClientError)
    }
}
