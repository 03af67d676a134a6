import Outbound
import Testing
import Wire

@testable import API

@Suite("Pages of other origins")
struct CrossOriginTests {
    private static let origin = "https://app.example.com"

    @Test(
        "without a list no answer says that a page may read it, and a preflight is a method that there is not"
    )
    func none() async throws {
        try await TestAPI.with { api in
            let read = try await api.call("GET", "/v1/whoami", headers: [("Origin", Self.origin)])
            #expect(read.status == 200 && read.header("access-control-allow-origin") == nil)
            #expect(read.header("vary")?.contains("Origin") != true)
            let asked = try await api.call(
                "OPTIONS", "/v1/partners", key: .some(nil),
                headers: [("Origin", Self.origin), ("Access-Control-Request-Method", "POST")])
            #expect(try api.problem(asked).code == "methodNotAllowed")
            #expect(asked.header("allow") == "POST, GET, HEAD")
        }
    }

    @Test("an origin of the list may read answers and refusals, and is told beforehand; any other is not")
    func allowed() async throws {
        try await TestAPI.with(configure: { $0.origins = [Self.origin] }) { api in
            for path in ["/v1/whoami", "/v1/dragons"] {
                let read = try await api.call("GET", path, headers: [("Origin", Self.origin)])
                #expect(read.header("access-control-allow-origin") == Self.origin)
                #expect(read.header("access-control-expose-headers")?.contains("ETag") == true)
                #expect(read.header("vary")?.contains("Origin") == true)
                #expect(read.header("access-control-allow-credentials") == nil)
            }
            let asked = try await api.call(
                "OPTIONS", "/v1/partners", key: .some(nil),
                headers: [
                    ("Origin", Self.origin), ("Access-Control-Request-Method", "POST"),
                    ("Access-Control-Request-Headers", "authorization"),
                ])
            #expect(asked.status == 204 && asked.header("access-control-allow-origin") == Self.origin)
            #expect(asked.header("access-control-allow-methods") == "POST, GET")
            #expect(asked.header("access-control-allow-headers")?.contains("Authorization") == true)
            for origin in [
                "https://app.example.com.evil.example", "https://evil.example", "http://app.example.com",
                "null",
                "https://app.example.com:444", "https://sub.app.example.com", "HTTPS://app.example.com", "*",
            ] {
                let read = try await api.call("GET", "/v1/whoami", headers: [("Origin", origin)])
                #expect(read.header("access-control-allow-origin") == nil, "\(origin)")
                let refused = try await api.call(
                    "OPTIONS", "/v1/partners", key: .some(nil),
                    headers: [("Origin", origin), ("Access-Control-Request-Method", "POST")])
                #expect(refused.status == 405, "\(origin)")
            }
            // It is asked on a path that there is, and needs a host that is served, as everything does.
            let nowhere = try await api.call(
                "OPTIONS", "/v1/dragons", key: .some(nil),
                headers: [("Origin", Self.origin), ("Access-Control-Request-Method", "GET")])
            #expect(nowhere.status == 404)
        }
    }

    @Test(
        "an allowed origin is whole and exact",
        arguments: [
            ("https://app.example.com", true), ("https://app.example.com:8443", true),
            ("http://localhost:5173", true), ("http://app.example.com", false), ("*", false), ("null", false),
            ("https://*.example.com", false), ("https://app.example.com/", false),
            ("https://app.example.com:443", false), ("https://App.example.com", false), ("https://", false),
            ("https://a@b", false), ("https://app.example.com:0", false), ("app.example.com", false),
        ])
    func origins(text: String, isAllowed: Bool) {
        #expect((AllowedOrigin(text) != nil) == isAllowed)
        #expect((AllowedOrigin.list("https://a.example, \(text)") != nil) == isAllowed)
    }
}
