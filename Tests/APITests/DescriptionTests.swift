import Access
import Domain
import Engine
import HTTPTypes
import Ledger
import Outbound
import Testing
import Wire

@testable import API

@Suite("The description")
struct DescriptionTests {
    @Test("every route is described, every reference leads to a schema, and there are no others")
    func document() async throws {
        try await TestAPI.with { api in
            let response = try await api.call("GET", "/openapi.json", key: .some(nil))
            #expect(response.status == 200 && response.header("content-type") == "application/json")
            let document = try JSON.parse(response.body)
            #expect(document["openapi"] == .string("3.1.0"))
            let routes = api.handlers.table.routes
            var described = 0
            for route in routes {
                let call = try #require(
                    document["paths"]?[route.path]?[route.method.rawValue.lowercased()], "\(route.path)")
                #expect(call["summary"] == .string(route.summary))
                #expect(call["responses"]?[String(route.status.code)] != nil)
                #expect((call["requestBody"] != nil) == (route.body != nil))
            }
            guard case .object(let paths)? = document["paths"] else { throw Missing() }
            for path in paths {
                guard case .object(let methods) = path.value else { throw Missing() }
                described += methods.count
            }
            #expect(described == routes.count)
            var references: Set<String> = []
            Self.collect(document, into: &references)
            guard case .object(let schemas)? = document["components"]?["schemas"] else { throw Missing() }
            #expect(references == Set(schemas.map(\.name)))
            #expect(Set(Self.operationIDs(document)).count == routes.count)
        }
    }

    @Test("limits and words of the bodies stand in the schemas")
    func limits() async throws {
        try await TestAPI.with { api in
            let document = try JSON.parse(try await api.call("GET", "/openapi.json").body)
            let job = document["components"]?["schemas"]?["NewJob"]
            #expect(job?["properties"]?["timeoutSeconds"]?["maximum"] == .integer(86_400))
            #expect(
                job?["properties"]?["kind"]?["enum"]
                    == .array(["script", "ping", "sysinfo"].map(JSON.string)))
            #expect(job?["required"] == .array([.string("kind"), .string("target")]))
            #expect(job?["additionalProperties"] == .bool(false))
            let script = document["components"]?["schemas"]?["Script"]
            #expect(script?["properties"]?["body"]?["maxLength"] == .integer(1 << 20))
        }
    }

    @Test("the page for people loads nothing from elsewhere and runs no inline code")
    func page() async throws {
        try await TestAPI.with { api in
            let page = try await api.call("GET", "/docs", key: .some(nil))
            let policy = try #require(page.header("content-security-policy"))
            #expect(policy.contains("default-src 'none'") && !policy.contains("unsafe"))
            let html = String(decoding: page.body, as: UTF8.self)
            #expect(!html.contains("http://") && !html.contains("https://") && !html.contains("<script>"))
            for part in ["/docs/docs.js", "/docs/docs.css"] {
                #expect(html.contains(part))
                let response = try await api.call("GET", part, key: .some(nil))
                #expect(response.status == 200 && !response.body.isEmpty)
                #expect(response.header("x-content-type-options") == "nosniff")
            }
        }
    }

    @Test("a word of a path is taken before a parameter in its place")
    func literalFirst() {
        let table = RouteTable(
            ["/a/{id}", "/a/bulk"].map { path in
                .open(path, path, "text/plain") { _ in .bytes([], "text/plain") }
            })
        guard case .route(let word, _) = table.match(.get, "/a/bulk"),
            case .route(let parameter, let values) = table.match(.get, "/a/x")
        else {
            Issue.record("both paths exist")
            return
        }
        #expect(word.path == "/a/bulk" && parameter.path == "/a/{id}" && values == ["id": "x"])
    }

    private struct Missing: Error {}

    private static func collect(_ json: JSON, into references: inout Set<String>) {
        switch json {
        case .array(let elements): for element in elements { collect(element, into: &references) }
        case .object(let members):
            for member in members {
                if member.name == "$ref", case .string(let text) = member.value {
                    references.insert(String(text.split(separator: "/").last ?? ""))
                }
                collect(member.value, into: &references)
            }
        case .null, .bool, .integer, .number, .string: break
        }
    }

    private static func operationIDs(_ document: JSON) -> [String] {
        guard case .object(let paths)? = document["paths"] else { return [] }
        return paths.flatMap { path -> [String] in
            guard case .object(let methods) = path.value else { return [] }
            return methods.compactMap { method in
                guard case .string(let id)? = method.value["operationId"] else { return nil }
                return id
            }
        }
    }
}

@Suite("What a run printed")
struct OutputTests {
    @Test("a whole output is shown as it is, also where head and tail meet inside a character")
    func whole() {
        let bytes = Array("snow ☃ man".utf8)
        let shown = RunOutput.text(Array(bytes.prefix(6)), Array(bytes.dropFirst(6)), count: bytes.count)
        #expect(shown.text == "snow ☃ man" && !shown.isCut)
    }

    @Test("where something is missing a line says how much, and bytes that are not UTF-8 are replaced")
    func cut() {
        let shown = RunOutput.text(Array("begin".utf8) + [0xFF], Array("end".utf8), count: 1_000)
        #expect(shown.text == "begin\u{FFFD}\n… 991 bytes left out …\nend" && shown.isCut)
    }
}
