import Access
import Domain
import HTTPTypes
import Outbound
import Synchronization
import Testing
import Trust
import Wire

@testable import API

/// What the fuzzers begin with, sent as requests: with the routes, the database and the limits behind the
/// parsers. `Scripts/fuzz` calls the parsers alone, much oftener.
@Suite("Inputs of the fuzzers as requests")
struct FuzzCorpusTests {
    /// Requests that are made from the corpus beside those that are its very inputs.
    private static let mutatedCount = 1_500
    /// How many requests are under way at once.
    private static let width = 4

    private struct Shot: Sendable {
        let method: String
        let path: String
        var bytes: [UInt8]?
        var headers: [(String, String)] = []
        /// Without one the administrator's key is sent.
        var key: String??
    }

    // MARK: The corpus

    @Test("every type that a route reads as its body has a file of JSON in the corpus")
    func complete() async throws {
        let bodies = try FuzzCorpus("bodies").inputs
        try await TestAPI.with { api in
            for route in api.handlers.table.routes {
                guard let name = route.bodyName else { continue }
                let bytes = try #require(bodies["\(name).json"], "no body of \(name)")
                #expect(throws: Never.self, "\(name)") { try JSON.parse(bytes) }
            }
        }
    }

    // MARK: Requests

    @Test("bodies never meet a 5xx, and the API goes on")
    func bodies() async throws {
        let corpus = try FuzzCorpus("bodies")
        // Issuers may be named, and nobody asks them.
        let issuers = OIDCKeys(OIDCKeys.Configuration())
        defer { issuers.close() }
        try await TestAPI.with(issuers: issuers) { api in
            let routes = api.handlers.table.routes.filter { $0.body != nil }
            var shots: [Shot] = []
            for route in routes {
                let name = try #require(route.bodyName)
                for (file, bytes) in corpus.sorted where file == "\(name).json" || file.hasPrefix("hostile-")
                {
                    shots.append(Self.shot(route, api, Self.placed(bytes, api)))
                }
            }
            var mutator = Mutator(seed: 4)
            let all = corpus.sorted
            // A password costs a third of a second, whether it is right or wrong.
            let cheap = routes.filter { !Self.costly.contains($0.bodyName ?? "") }
            for _ in 0..<Self.mutatedCount {
                let route = cheap[mutator.next(cheap.count)]
                let bytes = try #require(corpus.inputs["\(route.bodyName ?? "").json"])
                let other = all[mutator.next(all.count)].bytes
                shots.append(
                    Self.shot(route, api, Self.placed(mutator.mutated(bytes, with: other), api)))
            }
            let statuses = try await fire(shots, at: api)
            // Some are taken, and most are told why not.
            #expect((statuses[200] ?? 0) + (statuses[201] ?? 0) + (statuses[202] ?? 0) > 20)
            #expect(statuses[400] ?? 0 > 500 && statuses[422] ?? 0 > 500)
        }
    }

    @Test("queries and cursors never meet a 5xx, and the API goes on")
    func queries() async throws {
        let queries = try FuzzCorpus("queries").sorted.map(\.bytes)
        let cursors = try FuzzCorpus("cursors").sorted.map { Array("cursor=".utf8) + $0.bytes }
        try await TestAPI.with { api in
            let routes = api.handlers.table.routes.filter { route in
                route.method == .get && route.query.contains { $0.name == "limit" }
            }
            #expect(routes.count > 10)
            var shots: [Shot] = []
            func add(_ route: Route, _ query: [UInt8]) {
                shots.append(
                    Shot(method: "GET", path: "\(Self.path(route, api))?\(Self.sendable(query))"))
            }
            for route in routes { for query in queries + cursors { add(route, query) } }
            var mutator = Mutator(seed: 5)
            for _ in 0..<Self.mutatedCount {
                let all = mutator.next(2) == 0 ? queries : cursors
                let (one, other) = (all[mutator.next(all.count)], all[mutator.next(all.count)])
                add(routes[mutator.next(routes.count)], mutator.mutated(one, with: other))
            }
            let statuses = try await fire(shots, at: api)
            #expect(statuses[200] ?? 0 > 50 && statuses[422] ?? 0 > 500)
        }
    }

    @Test("headers and tokens never meet a 5xx, and the API goes on")
    func headers() async throws {
        let headers = try FuzzCorpus("headers").sorted.map(\.bytes)
        let tokens = try (FuzzCorpus("tokens").sorted + FuzzCorpus("jwt").sorted).map(\.bytes)
        let statements = try FuzzCorpus("statements").sorted.map(\.bytes)
        // Issuers may be named, and nobody asks them.
        let issuers = OIDCKeys(OIDCKeys.Configuration())
        defer { issuers.close() }
        try await TestAPI.with(issuers: issuers) { api in
            var shots: [Shot] = []
            func add(headers bytes: [UInt8]) {
                let fields = Self.fields(of: bytes)
                let site = "/v1/sites/\(api.one.site)"
                let isKeyed = !fields.contains { ["authorization", "cookie"].contains($0.0.lowercased()) }
                let key: String?? = isKeyed ? nil : .some(nil)
                shots.append(Shot(method: "GET", path: site, headers: fields, key: key))
                let body = Array(#"{"name":"x"}"#.utf8)
                shots.append(Shot(method: "PATCH", path: site, bytes: body, headers: fields, key: key))
                shots.append(Shot(method: "POST", path: "/v1/jobs", bytes: body, headers: fields, key: key))
                shots.append(Shot(method: "OPTIONS", path: site, headers: fields, key: .some(nil)))
            }
            func add(token bytes: [UInt8]) {
                let text = String(decoding: bytes, as: UTF8.self)
                let cookie = ("Cookie", "\(SessionCookie.name)=\(text)")
                shots.append(Shot(method: "GET", path: "/v1/whoami", key: .some(text)))
                shots.append(Shot(method: "GET", path: "/v1/whoami", headers: [cookie], key: .some(nil)))
            }
            func add(statement bytes: [UInt8]) {
                var writer = JSONWriter()
                writer.object { writer in
                    writer.field("token", Base64URL.encode(bytes))
                    writer.field("request", String(decoding: bytes, as: UTF8.self))
                    for name in ["hostname", "platform", "agentVersion"] { writer.field(name, "x") }
                }
                shots.append(
                    Shot(method: "POST", path: "/v1/enrollments", bytes: writer.bytes, key: .some(nil)))
            }
            for bytes in headers { add(headers: bytes) }
            for bytes in tokens { add(token: bytes) }
            for bytes in statements + tokens { add(statement: bytes) }
            var mutator = Mutator(seed: 6)
            for _ in 0..<Self.mutatedCount / 4 {
                add(
                    headers: mutator.mutated(
                        headers[mutator.next(headers.count)], with: headers[mutator.next(headers.count)]))
                add(
                    token: mutator.mutated(
                        tokens[mutator.next(tokens.count)], with: tokens[mutator.next(tokens.count)]))
            }
            let statuses = try await fire(shots, at: api)
            #expect(statuses[200] ?? 0 > 50 && statuses[401] ?? 0 > 200)
        }
    }

    // MARK: Firing

    /// Bodies that have a password hashed.
    private static let costly: Set = ["NewSession", "NewAcceptance", "NewPassword", "NewOIDCSession"]

    /// Sends all, expects an answer below 500 to each and a living API at the end, and counts the statuses.
    /// What the client refuses to send has no answer.
    private func fire(_ shots: [Shot], at api: TestAPI) async throws -> [Int: Int] {
        var statuses: [Int: Int] = [:]
        try await withThrowingTaskGroup(of: Int?.self) { group in
            var rest = shots[...]
            func start() {
                guard let shot = rest.popFirst() else { return }
                group.addTask { try await Self.status(of: shot, at: api) }
            }
            for _ in 0..<Self.width { start() }
            while let status = try await group.next() {
                if let status { statuses[status, default: 0] += 1 }
                start()
            }
        }
        #expect(statuses.values.reduce(0, +) > shots.count / 2, "the client sends most of them")
        #expect(try await api.call("GET", "/healthz", key: .some(nil)).status == 200)
        #expect(try await api.call("GET", "/v1/whoami").status == 200)
        let counts = statuses.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }
        print("\(shots.count) requests; answers by status: \(counts.joined(separator: ", "))")
        return statuses
    }

    private static func status(of shot: Shot, at api: TestAPI) async throws -> Int? {
        do {
            let answer = try await api.call(
                shot.method, shot.path, key: shot.key, bytes: shot.bytes, headers: shot.headers)
            if answer.status >= 500 {
                let body = shot.bytes.map { String(decoding: $0, as: UTF8.self) } ?? ""
                Issue.record(
                    "\(answer.status) to \(shot.method) \(shot.path) \(shot.headers) \(body.debugDescription)"
                )
            }
            return answer.status
        } catch let error as OutboundError where [.invalidRequest, .invalidURL].contains(error.code) {
            return nil
        }
    }

    private static func shot(_ route: Route, _ api: TestAPI, _ bytes: [UInt8]) -> Shot {
        Shot(method: route.method.rawValue, path: path(route, api), bytes: bytes)
    }

    /// A route's path about something that is there, where it is about a tenant or a device.
    private static func path(_ route: Route, _ api: TestAPI) -> String {
        let kind = route.path.split(separator: "/").dropFirst().first
        let id =
            switch kind {
            case "partners": api.one.partner.description
            case "organizations": api.one.organization.description
            case "sites": api.one.site.description
            case "devices": api.one.device.description
            default: UniqueID.zero.description
            }
        return route.path.split(separator: "/").map { $0.hasPrefix("{") ? "/\(id)" : "/\($0)" }.joined()
    }

    /// Ids of the corpus stand for what is there.
    private static func placed(_ bytes: [UInt8], _ api: TestAPI) -> [UInt8] {
        guard var text = String(validating: bytes, as: UTF8.self) else { return bytes }
        let ids = [
            api.one.partner.description, api.one.organization.description, api.one.site.description,
            api.one.device.description,
        ]
        for (index, id) in ids.enumerated() {
            text = text.replacing("018f0000-0000-7000-8000-00000000000\(index + 1)", with: id)
        }
        return Array(text.utf8)
    }

    /// A query as URLs carry it: what no URL can hold is escaped.
    private static func sendable(_ query: [UInt8]) -> String {
        query.map { byte in
            (0x21..<0x7F).contains(byte) && byte != UInt8(ascii: "#")
                ? String(UnicodeScalar(byte)) : "%" + Hex.encode([byte])
        }.joined()
    }

    private static func fields(of bytes: [UInt8]) -> [(String, String)] {
        bytes.split(separator: UInt8(ascii: "\n")).compactMap { line in
            guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { return nil }
            let value = line[line.index(after: colon)...].drop { $0 == 32 }
            return (String(decoding: line[..<colon], as: UTF8.self), String(decoding: value, as: UTF8.self))
        }
    }
}

extension Route {
    /// The name of the type that the route reads as its body.
    fileprivate var bodyName: String? {
        if case .object(let name, _)? = body?.shape { name } else { nil }
    }
}
