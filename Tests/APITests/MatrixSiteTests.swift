import Access
import Client
import Domain
import HTTPTypes
import Ledger
import Outbound
import Postgres
import TestSupport
import Testing
import Trust
import Wire

@testable import API

/// Two sites of one organization: whoever acts on one of them neither sees the other nor changes anything of
/// it, whatever they may do on their own. And whoever moves something must have both ends in reach.
@Suite("The matrix of routes and sites")
struct MatrixSiteTests {
    /// Who acts on one site.
    enum Caller: CaseIterable { case key, person }

    @Test(
        "with every permission on one site, a caller gets nothing of a sibling site, and changes nothing",
        arguments: Caller.allCases)
    func siblings(caller: Caller) async throws {
        try await with { api, scene in
            let token = try await token(of: caller, on: api.one.site, api, scene)
            let principal = try await api.authenticator.principal(of: token)
            #expect(
                principal.reach
                    == Dictionary(
                        uniqueKeysWithValues: Permission.all.map {
                            ($0, .site(api.one.site))
                        }))
            for route in api.handlers.table.routes where route.caller != .anyone && route.answer.isJSON {
                let row = try #require(MatrixTests.table[MatrixTests.name(route)])
                for place in row.subject == nil ? [scene.own] : scene.places {
                    let place = try await scene.fresh(place, row, route)
                    try await MatrixTests().judge(route, row, place, principal, token, api, scene)
                }
                if let body = Self.siteBody(route, row, scene.places[1]) {
                    try await refuses(route, row, scene.places[1], body, token, api, scene)
                }
            }
            // One of several in a bulk is refused by itself.
            let before = try await scene.counts()
            let jobs = #"{"jobs":[{"kind":"ping","target":{"deviceIds":["\#(scene.places[1].device)"]}}]}"#
            let bulk = try await api.call("POST", "/v1/jobs/bulk", key: token, body: jobs)
            let items = try BulkAnswer.decode(bulk.body).items
            #expect(items.count == 1 && items.allSatisfy { [403, 404, 422].contains($0.status) })
            let both = #""\#(scene.own.device)","\#(scene.places[1].device)""#
            let mixed = try await api.call(
                "POST", "/v1/jobs", key: token,
                body: #"{"kind":"ping","target":{"deviceIds":[\#(both)]}}"#)
            #expect([403, 404, 422].contains(mixed.status), "\(mixed.status)")
            #expect(try await scene.counts() == before)
        }
    }

    @Test("on its own site, a caller makes what may lie there, and nobody archives what they act on")
    func own() async throws {
        try await with { api, scene in
            let token = try await token(of: .key, on: api.one.site, api, scene)
            var made: Set<String> = []
            for route in api.handlers.table.routes where route.method == .post && route.answer.isJSON {
                guard let row = MatrixTests.table[MatrixTests.name(route)],
                    let body = Self.siteBody(route, row, scene.own)
                else { continue }
                let before = try await scene.counts()
                let answer = try await api.call("POST", route.path, key: token, body: body)
                if (200..<300).contains(answer.status) {
                    made.insert(route.path)
                } else {
                    // People, roles, webhooks and issuers are at home in organizations and above.
                    #expect([404, 422].contains(answer.status), "\(route.path): \(answer.status)")
                    #expect(try await scene.counts() == before, "\(route.path) changed something")
                }
            }
            #expect(made == ["/v1/secrets", "/v1/jobs/cancel"])
            for (level, path) in [
                (Level.site(api.one.site), "sites/\(api.one.site)"),
                (.organization(api.one.organization), "organizations/\(api.one.organization)"),
                (.partner(api.one.partner), "partners/\(api.one.partner)"),
            ] {
                let (_, key) = try await api.authenticator.createKey(
                    name: "k", level: level, permissions: Permission.all, expiresIn: .seconds(600), by: nil)
                let before = try await scene.counts()
                for verb in ["archive", "restore"] {
                    let answer = try await api.call("POST", "/v1/\(path)/\(verb)", key: key)
                    #expect(answer.status == 403, "\(path) \(verb): \(answer.status)")
                }
                #expect(try await scene.counts() == before, "\(path)")
            }
        }
    }

    @Test("what is moved and where it goes must both be in reach: from a site, an organization and a partner")
    func moves() async throws {
        try await with { api, sites in
            var moves = 0
            for (scene, level) in [
                (sites, Level.site(api.one.site)),
                (try await Scene(api), .organization(api.one.organization)),
                (try await Scene(api), .partner(api.one.partner)),
            ] {
                let (_, key) = try await api.authenticator.createKey(
                    name: "k", level: level, permissions: Permission.all, expiresIn: .seconds(600), by: nil)
                let principal = try await api.authenticator.principal(of: key)
                for route in api.handlers.table.routes where route.answer.isJSON {
                    guard let row = MatrixTests.table[MatrixTests.name(route)], let subject = row.subject,
                        let target = row.target, case .permitted(let permission) = route.caller
                    else { continue }
                    let reach = try #require(principal.reach[permission])
                    for from in scene.places {
                        for to in scene.places {
                            let isAllowed =
                                scene.isWithin(subject, from, reach) && scene.isWithin(target, to, reach)
                            guard !isAllowed else { continue }
                            try await refuses(route, row, from, row.body(to), key, api, scene)
                            moves += 1
                        }
                    }
                }
            }
            #expect(moves > 30)
        }
    }

    // MARK: Parts

    private func with(_ body: (TestAPI, Scene) async throws -> Void) async throws {
        // Providers are made, and none of them is ever asked.
        let issuers = OIDCKeys(OIDCKeys.Configuration())
        defer { issuers.close() }
        try await TestAPI.with(issuers: issuers) { api in try await body(api, Scene(sitesOf: api)) }
    }

    /// A key of the site, or a session of a person who has a role that was made, on the site.
    private func token(
        of caller: Caller, on site: SiteID, _ api: TestAPI, _ scene: Scene
    ) async throws -> String {
        switch caller {
        case .key:
            return try await api.authenticator.createKey(
                name: "k", level: .site(site), permissions: Permission.all, expiresIn: .seconds(600), by: nil
            ).secret
        case .person:
            let (user, client, session) = try await api.person("s@example.com", .viewer, on: .site(site))
            client.close()
            let roles = api.handlers.roles
            let role = try await roles.createRole(
                name: "all", permissions: Permission.all, home: .organization(api.one.organization),
                by: api.authenticator.principal(of: api.admin))
            _ = try await roles.bind(user.id, to: .made(role.id), on: .site(site), by: nil)
            return session.token ?? ""
        }
    }

    /// The body of a route that takes a site as well as an organization, for the site of a place.
    private static func siteBody(
        _ route: Route, _ row: MatrixTests.Row, _ place: MatrixTests.Ids
    ) -> String? {
        guard let fields = route.body?.shape.fields, fields.contains(where: { $0.name == "siteId" }) else {
            return nil
        }
        let body = row.body(place)
        let organization = #""organizationId":"\#(place.organization)""#
        guard body.contains(organization) else { return nil }
        return body.replacing(organization, with: #""siteId":"\#(place.site)""#)
    }

    private func refuses(
        _ route: Route, _ row: MatrixTests.Row, _ place: MatrixTests.Ids, _ body: String, _ token: String,
        _ api: TestAPI, _ scene: Scene
    ) async throws {
        let before = try await scene.counts()
        let answer = try await api.call(
            route.method.rawValue, MatrixTests.path(route, row, place), key: token, body: body)
        let cell: Comment = "\(MatrixTests.name(route)) of \(place.level) with \(body)"
        #expect([403, 404, 422].contains(answer.status), "\(cell): \(answer.status)")
        #expect(try await scene.counts() == before, "\(cell) changed something")
    }
}
