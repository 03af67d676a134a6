import Access
import Domain
import Engine
import Foundation
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

    @Test("every operation has its permission, and everything that it takes and answers an example")
    func examples() async throws {
        try await TestAPI.with { api in
            let document = try JSON.parse(try await api.call("GET", "/openapi.json").body)
            for route in api.handlers.table.routes {
                let call = try #require(
                    document["paths"]?[route.path]?[route.method.rawValue.lowercased()], "\(route.path)")
                if case .permitted(let permission) = route.caller {
                    #expect(call["x-permission"] == .string(permission.rawValue))
                }
                guard case .array(let parameters)? = call["parameters"] else { throw Missing() }
                for parameter in parameters {
                    #expect(parameter["example"] != nil && parameter["schema"] != nil)
                    #expect(parameter["description"] != .string(""), "\(route.path) \(parameter)")
                }
                let answer = call["responses"]?[String(route.status.code)]?["content"]
                if case .empty = route.answer {
                    #expect(answer == nil)
                } else if case .object(let types)? = answer {
                    #expect(types.count == 1 && types[0].value["example"] != nil, "\(route.path)")
                } else {
                    throw Missing()
                }
                // A query and a body are examples of what the call takes.
                var path = route.path.replacing("{id}", with: UniqueID.zero.description)
                let query = route.query.map {
                    "\($0.name)=\(Self.encoded(Self.text(Parameters.example($0, of: route))))"
                }
                if !query.isEmpty { path += "?" + query.joined(separator: "&") }
                let body = route.body.map { String(decoding: Examples.body($0.shape).json, as: UTF8.self) }
                if case .events = route.answer { continue }
                let response = try await api.call(route.method.rawValue, path, body: body)
                #expect(
                    response.status < 500 || response.status == 503,
                    "\(route.path): \(String(decoding: response.body, as: UTF8.self))")
                #expect(![400, 405, 415].contains(response.status), "\(route.path)")
                if response.status == 422 {
                    let problem = try api.problem(response)
                    #expect(
                        !["missing", "wrongType", "unknownField", "notSupported"].contains(problem.code),
                        "\(route.path) does not take its example: \(problem.detail)")
                }
            }
        }
    }

    @Test("an operation lists the codes of its refusals, and each is one that there is")
    func refusals() async throws {
        try await TestAPI.with { api in
            let document = try JSON.parse(try await api.call("GET", "/openapi.json").body)
            for route in api.handlers.table.routes {
                let call = document["paths"]?[route.path]?[route.method.rawValue.lowercased()]
                guard case .object(let responses)? = call?["responses"] else { throw Missing() }
                #expect(!responses.contains { $0.name == "default" })
                var codes: Set<String> = []
                for response in responses {
                    let schema = response.value["content"]?["application/problem+json"]?["schema"]
                    guard case .array(let words)? = schema?["properties"]?["code"]?["enum"] else { continue }
                    for case .string(let word) in words {
                        let code = try #require(ProblemCode(rawValue: word))
                        #expect(String(code.status.code) == response.name)
                        codes.insert(word)
                    }
                }
                let expected = route.refusals.filter { !route.otherStatuses.contains($0.status) }
                #expect(codes == Set(expected.map(\.rawValue)))
            }
        }
    }

    @Test("the pages of problems list every code: the one that is served, and the documentation's")
    func problems() async throws {
        try await TestAPI.with { api in
            let page = try await api.call("GET", "/docs/problems", key: .some(nil))
            #expect(page.status == 200)
            let html = String(decoding: page.body, as: UTF8.self)
            for code in ProblemCode.allCases {
                #expect(html.contains("<code>\(code.rawValue)</code></td><td>\(code.status.code) "))
            }
        }
        let sources = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "../../Sources/API/Documentation.docc/Problems.md")
        let written = try String(contentsOf: sources, encoding: .utf8)
        #expect(
            written == ProblemPage.markdown, "Problems.md has to be written anew: \(ProblemPage.markdown)")
    }

    private static func encoded(_ text: String) -> String {
        text.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? ""
    }

    private static func text(_ value: JSON) -> String {
        switch value {
        case .string(let text): text
        default: String(decoding: value.json, as: UTF8.self)
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
                if member.name == "$ref", case .string(let text) = member.value,
                    text.hasPrefix("#/components/schemas/")
                {
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
