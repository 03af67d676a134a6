import Domain
import Ledger
import Outbound
import Postgres
import Testing
import Wire

@testable import API

@Suite("Bad input gets a problem that says what is wrong, and changes nothing")
struct BadInputTests {
    /// A request and what it must get.
    struct Case {
        let what: String
        var method = "POST"
        var path = "/v1/jobs"
        var body: [UInt8]?
        var headers: [(String, String)] = []
        let status: Int
        let code: String
        var field: String?
        var says: String?

        init(
            _ what: String, _ method: String = "POST", _ path: String = "/v1/jobs", body: String? = nil,
            headers: [(String, String)] = [], status: Int, code: String, field: String? = nil,
            says: String? = nil
        ) {
            self.what = what
            self.method = method
            self.path = path
            self.body = body.map { Array($0.utf8) }
            self.headers = headers
            self.status = status
            self.code = code
            self.field = field
            self.says = says
        }
    }

    private static let id = "018f0000-0000-7000-8000-000000000001"

    private static func job(_ rest: String, kind: String = "ping", target: String? = nil) -> String {
        let target = target ?? #"{"deviceIds":["\#(id)"]}"#
        return #"{"kind":"\#(kind)","target":\#(target)\#(rest.isEmpty ? "" : ",")\#(rest)}"#
    }

    private static func script(_ body: String, _ rest: String = "") -> String {
        job(#""script":{"interpreter":"sh","body":"\#(body)"\#(rest)}"#, kind: "script")
    }

    private static func enrollment(_ token: String) -> String {
        #"{"token":"\#(token)","request":"x","hostname":"h","platform":"p","agentVersion":"1"}"#
    }

    static let bodies: [Case] = [
        Case("no body", body: "", status: 400, code: "malformed"),
        Case("half an object", body: #"{"kind":"#, status: 400, code: "malformed", says: "byte"),
        Case("two values", body: "{} {}", status: 400, code: "malformed"),
        Case("a member twice", body: #"{"kind":"ping","kind":"ping"}"#, status: 400, code: "malformed"),
        Case(
            "too deep", body: String(repeating: "[", count: 100), status: 400, code: "malformed", says: "32"),
        Case("a lone surrogate", body: #"{"kind":"\ud800"}"#, status: 400, code: "malformed"),
        Case("no object", body: "[]", status: 422, code: "wrongType"),
        Case(
            "an unknown field", body: job(#""hue":1"#), status: 422, code: "unknownField", field: "hue"),
        Case(
            "an unknown kind", body: job("", kind: "dance"), status: 422, code: "invalid", field: "kind",
            says: "script, ping"),
        Case(
            "a later kind", body: job("", kind: "patch.scan"), status: 422, code: "notSupported",
            field: "kind"),
        Case(
            "an unknown priority", body: job(#""priority":"urgent""#), status: 422, code: "invalid",
            field: "priority", says: "interactive, standard, bulk"),
        Case(
            "a later field", body: job(#""rollout":{}"#), status: 422, code: "notSupported",
            field: "rollout"),
        Case(
            "no dead letters named", "POST", "/v1/dead-letters/redrive", body: "{}", status: 422,
            code: "missing", field: "runIds", says: "since"),
        Case(
            "an unknown reason", "POST", "/v1/dead-letters/discard", body: #"{"reason":"mood"}"#, status: 422,
            code: "invalid", field: "reason", says: "poison, attempts"),
        Case(
            "a run that is nobody's", "POST", "/v1/dead-letters/redrive", body: #"{"runIds":["\#(id)"]}"#,
            status: 422, code: "invalid", field: "runIds[0]"),
        Case(
            "a filter that means nothing", "POST", "/v1/dead-letters/discard", body: #"{"reason":"poison"}"#,
            status: 422, code: "invalid", says: "no dead letter"),
        Case(
            "more dead letters than there may be", "POST", "/v1/dead-letters/redrive",
            body: #"{"reason":"poison","expectedCount":10001}"#, status: 422, code: "invalid",
            field: "expectedCount", says: "10000"),
        Case(
            "an unknown reason of a list", "GET", "/v1/dead-letters?reason=mood", status: 422,
            code: "invalid", field: "reason", says: "poison"),
        Case("no such dead letter", "GET", "/v1/dead-letters/\(id)", status: 404, code: "notFound"),
        Case("nothing to repeat", "POST", "/v1/jobs/\(id)/retry", status: 404, code: "notFound"),
        Case(
            "no number of attempts", body: job(#""retry":{}"#), status: 422, code: "missing",
            field: "retry.maximumAttempts"),
        Case(
            "too many attempts", body: job(#""retry":{"maximumAttempts":101}"#), status: 422, code: "invalid",
            field: "retry.maximumAttempts", says: "100"),
        Case(
            "no time before the second attempt",
            body: job(#""retry":{"maximumAttempts":2,"backoffSeconds":0}"#), status: 422, code: "invalid",
            field: "retry.backoffSeconds", says: "86400"),
        Case(
            "a longest wait below the first",
            body: job(
                #""retry":{"maximumAttempts":2,"backoffSeconds":9,"maximumBackoffSeconds":8}"#),
            status: 422, code: "invalid", field: "retry.maximumBackoffSeconds",
            says: "backoffSeconds, which is 9"),
        Case(
            "another attempt after success", body: job(#""retry":{"maximumAttempts":2,"on":["succeeded"]}"#),
            status: 422, code: "invalid", field: "retry.on[0]", says: "timedOut"),
        Case(
            "an outcome twice", body: job(#""retry":{"maximumAttempts":2,"on":["failed","failed"]}"#),
            status: 422, code: "invalid", field: "retry.on"),
        Case(
            "another attempt of what may have run",
            body: job(#""retry":{"maximumAttempts":2,"on":["unknown"]}"#),
            status: 422, code: "invalid", field: "retry.on", says: "idempotent"),
        Case(
            "an empty unique key", body: job(#""unique":{"key":""}"#), status: 422, code: "invalid",
            field: "unique.key", says: "empty"),
        Case(
            "a unique key of 201 bytes",
            body: job(#""unique":{"key":"\#(String(repeating: "x", count: 201))"}"#), status: 422,
            code: "invalid", field: "unique.key", says: "200"),
        Case(
            "no unique key", body: job(#""unique":{}"#), status: 422, code: "missing", field: "unique.key"),
        Case(
            "a key within nothing", body: job(#""unique":{"key":"k","scope":"partner"}"#), status: 422,
            code: "invalid", field: "unique.scope", says: "organization, site, device"),
        Case(
            "a key of who runs only", body: job(#""unique":{"key":"k","while":["running"]}"#), status: 422,
            code: "invalid", field: "unique.while", says: "queued"),
        Case(
            "an unknown answer to a conflict", body: job(#""unique":{"key":"k","onConflict":"wait"}"#),
            status: 422, code: "invalid", field: "unique.onConflict", says: "reject, return, replace"),
        Case(
            "no time", body: job(#""notBefore":"tomorrow""#), status: 422, code: "invalid",
            field: "notBefore"),
        Case(
            "a later target", body: job("", target: #"{"tags":["a"]}"#), status: 422, code: "notSupported",
            field: "target.tags"),
        Case(
            "an empty target", body: job("", target: "{}"), status: 422, code: "invalid",
            field: "target.deviceIds"),
        Case(
            "no devices", body: job("", target: #"{"deviceIds":[]}"#), status: 422, code: "invalid",
            field: "target.deviceIds"),
        Case(
            "no id", body: job("", target: #"{"siteId":"x"}"#), status: 422, code: "invalid",
            field: "target.siteId"),
        Case(
            "a negative timeout", body: job(#""timeoutSeconds":-1"#), status: 422, code: "invalid",
            field: "timeoutSeconds", says: "86400"),
        Case(
            "a fractional timeout", body: job(#""timeoutSeconds":1.5"#), status: 422, code: "wrongType",
            field: "timeoutSeconds"),
        Case(
            "a script of 1 MiB and 1", body: script(String(repeating: "x", count: 1 << 20 + 1)), status: 422,
            code: "invalid", field: "script.body", says: "1048576"),
        Case(
            "NUL in a script", body: script(#"echo \u0000"#), status: 422, code: "invalid",
            field: "script.body", says: "NUL"),
        Case(
            "NUL in a name", "POST", "/v1/partners", body: #"{"name":"a\u0000"}"#, status: 422,
            code: "invalid", field: "name"),
        Case(
            "a refused variable", body: script("x", #","env":{"LD_PRELOAD":"x"}"#), status: 422,
            code: "invalid", field: "script.env.LD_PRELOAD"),
        Case("no script", body: job("", kind: "script"), status: 422, code: "missing", field: "script"),
        Case("no name", "POST", "/v1/partners", body: "{}", status: 422, code: "missing", field: "name"),
        Case(
            "an empty name", "POST", "/v1/partners", body: #"{"name":""}"#, status: 422, code: "invalid",
            field: "name"),
        Case(
            "no jobs", "POST", "/v1/jobs/bulk", body: #"{"jobs":[]}"#, status: 422, code: "invalid",
            field: "jobs"),
        Case(
            "too many jobs", "POST", "/v1/jobs/bulk",
            body: "{\"jobs\":[\(Array(repeating: "1", count: 10_001).joined(separator: ","))]}", status: 422,
            code: "invalid", field: "jobs", says: "10000"),
        Case(
            "an unknown permission", "POST", "/v1/api-keys", body: #"{"name":"k","permissions":["all"]}"#,
            status: 422, code: "invalid", field: "permissions[0]", says: "jobs:run"),
        Case(
            "an empty idempotency key", body: job(""),
            headers: [("Idempotency-Key", String(repeating: "k", count: 201))], status: 422, code: "invalid",
            field: "Idempotency-Key", says: "200"),
        Case(
            "another content type", body: job(""), headers: [("Content-Type", "text/plain")], status: 415,
            code: "unsupportedMediaType", says: "application/json"),
        Case(
            "a long token", "POST", "/v1/enrollments",
            body:
                enrollment(String(repeating: "t", count: 4_097)),
            status: 422, code: "invalid", field: "token", says: "4096"),
        Case(
            "a token that is none", "POST", "/v1/enrollments",
            body: enrollment("t"),
            status: 422, code: "invalid", field: "token"),
    ]

    static let lines: [Case] = [
        Case("an unknown path", "GET", "/v1/dragons", status: 404, code: "notFound"),
        Case("a path and more", "GET", "/v1/jobs/", status: 404, code: "notFound"),
        Case("a wrong method", "DELETE", "/v1/jobs", status: 405, code: "methodNotAllowed", says: "GET"),
        Case(
            "a later path", "GET", "/v1/runs/\(id)/events", status: 404, code: "notSupported",
            says: "/v1/runs/{id}/events"),
        Case("an id that is none", "GET", "/v1/jobs/1;DROP", status: 404, code: "notFound"),
        Case("nobody's id", "GET", "/v1/jobs/\(id)", status: 404, code: "notFound"),
        Case("nobody's events", "GET", "/v1/jobs/\(id)/events", status: 404, code: "notFound"),
        Case(
            "an unknown parameter", "GET", "/v1/jobs?colour=1", status: 422, code: "unknownField",
            field: "colour", says: "limit"),
        Case("a parameter where none is", "GET", "/v1/jobs/\(id)?limit=1", status: 422, code: "unknownField"),
        Case(
            "a parameter twice", "GET", "/v1/jobs?limit=1&limit=2", status: 422, code: "invalid",
            field: "limit"),
        Case(
            "a limit of 0", "GET", "/v1/jobs?limit=0", status: 422, code: "invalid", field: "limit",
            says: "500"),
        Case(
            "a limit of 501", "GET", "/v1/jobs?limit=501", status: 422, code: "invalid", field: "limit",
            says: "500"),
        Case("a limit in words", "GET", "/v1/jobs?limit=ten", status: 422, code: "wrongType", field: "limit"),
        Case("a bad cursor", "GET", "/v1/jobs?cursor=xyz", status: 422, code: "invalid", field: "cursor"),
        Case("a broken escape", "GET", "/v1/jobs?limit=%zz", status: 422, code: "invalid", field: "query"),
        Case(
            "bytes that are no UTF-8", "GET", "/v1/jobs?cursor=%ff", status: 422, code: "invalid",
            field: "query"),
        Case(
            "online in words", "GET", "/v1/devices?online=perhaps", status: 422, code: "wrongType",
            field: "online"),
        Case(
            "another host", "GET", "/healthz", headers: [("Host", "evil.example")], status: 421,
            code: "hostNotAllowed"),
    ]

    @Test("each body is refused with its status, code, field and limit")
    func bodies() async throws { try await judge(Self.bodies) }

    @Test("each path, query and header is refused with its status, code and field")
    func lines() async throws { try await judge(Self.lines) }

    private func judge(_ cases: [Case]) async throws {
        try await TestAPI.with { api in
            for one in cases {
                let response = try await api.call(one.method, one.path, bytes: one.body, headers: one.headers)
                #expect(response.status == one.status, "\(one.what)")
                let problem = try api.problem(response)
                #expect(problem.code == one.code, "\(one.what)")
                if let field = one.field { #expect(problem.field == field, "\(one.what)") }
                if let words = one.says {
                    #expect(problem.detail.contains(words), "\(one.what): \(problem.detail)")
                }
            }
            let jobs = try await api.ledger.jobs(organization: nil, before: nil, limit: 10, scope: .platform)
            #expect(jobs.isEmpty)
            let partners = try await api.ledger.partners(PageRequest(after: nil, limit: 10), scope: .platform)
            #expect(partners.count == 2)
        }
    }

    @Test("a body at the limit is read, and one byte more is refused with the limit")
    func bodyLimit() async throws {
        try await TestAPI.with { api in
            let limit = Limits.bodyBytesMax
            let body = Array(Self.job("").utf8)
            let padded = body + Array(repeating: UInt8(ascii: " "), count: limit - body.count)
            let read = try await api.call("POST", "/v1/jobs", bytes: padded)
            #expect(try api.problem(read).field == "target.deviceIds[0]")
            let refused = try api.problem(
                try await api.call("POST", "/v1/jobs", bytes: padded + [UInt8(ascii: " ")]))
            #expect(
                refused.status == 413 && refused.code == "tooLarge" && refused.detail.contains("\(limit)"))
            let bulk = try await api.call("POST", "/v1/jobs/bulk", bytes: padded + [UInt8(ascii: " ")])
            #expect(bulk.status == 422)
        }
    }

    @Test("bytes that are not UTF-8 are malformed, wherever they stand")
    func invalidUTF8() async throws {
        try await TestAPI.with { api in
            let (head, tail) = (Array(#"{"name":""#.utf8), Array(#""}"#.utf8))
            for bytes: [UInt8] in [
                [0xFF], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xE2, 0x82],
            ] {
                let response = try await api.call("POST", "/v1/partners", bytes: head + bytes + tail)
                #expect(response.status == 400)
                #expect(try api.problem(response).code == "malformed")
            }
        }
    }

    @Test("generated garbage never gets a 500 and never an answer without a problem")
    func garbage() async throws {
        try await TestAPI.with { api in
            var generator = SystemRandomNumberGenerator()
            let pieces = [
                "{", "}", "[", "]", ":", ",", "\"", "kind", "target", "ping", "\\u0000", "1e999", "-", "null",
                "é",
            ]
            for _ in 0..<300 {
                let text = (0..<Int.random(in: 0..<12, using: &generator)).map { _ in
                    pieces.randomElement(using: &generator) ?? ""
                }
                let response = try await api.call("POST", "/v1/jobs", body: text.joined())
                #expect(response.status == 400 || response.status == 422, "\(text.joined())")
                _ = try api.problem(response)
            }
        }
    }
}
