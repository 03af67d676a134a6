import Client
import Domain
import Outbound
import Testing
import Wire

@testable import API

@Suite("What lists show, and in which order")
struct SelectionTests {
    @Test("lists of the tenancy go by creation either way, in pages that stay while rows are made")
    func sorted() async throws {
        try await TestAPI.with { api in
            let client = APIClient(url: api.url, key: api.admin)
            defer { client.close() }
            var made: [String] = []
            for count in 0..<5 {
                made.append(
                    try await client.createSite(
                        NewSite(name: "\(count)", organizationId: api.one.organization)
                    ).name)
            }
            for (sort, expected) in [
                ("createdAt", ["one"] + made), ("-createdAt", made.reversed() + ["one"]),
            ] {
                var (names, cursor): ([String], String?) = ([], nil)
                repeat {
                    let path =
                        "/v1/sites?organizationId=\(api.one.organization)&limit=2&sort=\(sort)"
                        + (cursor.map { "&cursor=\($0)" } ?? "")
                    let page = try Page<Site>.decode(try await api.call("GET", path).body)
                    names += page.items.map(\.name)
                    cursor = page.next
                    // What is made meanwhile comes last, or was before the first page.
                    if sort.hasPrefix("-"), names.count == 2 {
                        _ = try await client.createSite(
                            NewSite(name: "late", organizationId: api.one.organization))
                    }
                } while cursor != nil
                #expect(names == expected, "\(sort)")
            }
        }
    }

    @Test("every list that takes an order gives both, and names what it takes")
    func orders() async throws {
        try await TestAPI.with { api in
            var count = 0
            for route in api.handlers.table.routes where route.query.contains(where: { $0.name == "sort" }) {
                func ids(_ sort: String) async throws -> [JSON] {
                    let response = try await api.call("GET", "\(route.path)?sort=\(sort)&limit=200")
                    #expect(response.status == 200)
                    guard case .array(let items)? = try JSON.parse(response.body)["items"] else { return [] }
                    return items.compactMap { $0["id"] }
                }
                #expect(try await ids("createdAt") == ids("-createdAt").reversed(), "\(route.path)")
                let problem = try api.problem(try await api.call("GET", "\(route.path)?sort=name"))
                #expect(problem.status == 422 && problem.field == "sort")
                #expect(problem.detail.contains("createdAt, -createdAt"))
                count += 1
            }
            #expect(count >= 6)
        }
    }

    @Test("devices are sorted beside a filter of presence too")
    func devices() async throws {
        try await TestAPI.with { api in
            for filter in ["", "&online=false"] {
                let response = try await api.call("GET", "/v1/devices?sort=-createdAt\(filter)")
                #expect(
                    try Page<Device>.decode(response.body).items.map(\.id) == [
                        api.other.device, api.one.device,
                    ])
                let first = try Page<Device>.decode(
                    try await api.call("GET", "/v1/devices?sort=-createdAt&limit=1\(filter)").body)
                let second = try Page<Device>.decode(
                    try await api.call(
                        "GET", "/v1/devices?sort=-createdAt&limit=1&cursor=\(first.next ?? "")\(filter)"
                    ).body)
                #expect(second.items.map(\.id) == [api.one.device])
            }
        }
    }

    @Test("fields narrow what is shown, of a list its items, and what there is not is refused by name")
    func fields() async throws {
        try await TestAPI.with { api in
            let list = try JSON.parse(
                try await api.call("GET", "/v1/partners?limit=1&fields=name,id").body)
            guard case .array(let items)? = list["items"], case .object(let members)? = items.first else {
                Issue.record("\(list)")
                return
            }
            #expect(Set(members.map(\.name)) == ["id", "name"] && list["next"] != nil)
            let path = "/v1/organizations/\(api.one.organization)"
            let one = try await api.call("GET", "\(path)?fields=state")
            #expect(one.body == Array(#"{"state":"active"}"#.utf8) && one.header("etag") == "\"1\"")
            let problem = try api.problem(try await api.call("GET", "\(path)?fields=name,secret"))
            #expect(problem.status == 422 && problem.field == "fields")
            #expect(problem.detail.contains("\"secret\"") && problem.detail.contains("timeZone"))
            for (query, code) in [
                ("fields=", "invalid"), ("fields=id,", "invalid"), ("fields=id&fields=id", "invalid"),
                ("fields=%zz", "invalid"), ("field=id", "unknownField"),
                ("fields=id&limit=1", "unknownField"),
            ] {
                let refused = try api.problem(try await api.call("GET", "\(path)?\(query)"))
                #expect(refused.status == 422 && refused.code == code, "\(query)")
            }
        }
    }

    @Test("every read takes every field that it shows, alone")
    func each() async throws {
        try await TestAPI.with { api in
            let paths = [
                "/v1/partners", "/v1/organizations", "/v1/sites", "/v1/devices", "/v1/api-keys",
                "/v1/enrollment-tokens",
                "/v1/devices/\(api.one.device)", "/v1/sites/\(api.one.site)", "/v1/whoami",
            ]
            for path in paths {
                let whole = try JSON.parse(try await api.call("GET", path).body)
                var item = whole
                if case .array(let items)? = whole["items"] { item = try #require(items.first) }
                guard case .object(let members) = item else { continue }
                for member in members {
                    var shown = try JSON.parse(
                        try await api.call("GET", "\(path)?fields=\(member.name)").body)
                    if case .array(let items)? = shown["items"] { shown = try #require(items.first) }
                    #expect(shown == .object([member]), "\(path) \(member.name)")
                }
            }
        }
    }
}
