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

/// Each permission by itself: whoever has all but the one that a route needs is refused, whoever has that one
/// and what the table says beside it is not.
@Suite("The matrix of routes and permissions")
struct MatrixPermissionTests {
    /// A caller whose role is edited, on the platform, so that nothing but its permissions stands in its way.
    private struct Caller {
        let api: TestAPI
        let admin: Principal
        let role: RoleID
        let token: String

        init(_ api: TestAPI) async throws {
            self.api = api
            admin = try await api.authenticator.principal(of: api.admin)
            let (user, client, session) = try await api.person("p@example.com", .viewer, on: .platform)
            client.close()
            let roles = api.handlers.roles
            role = try await roles.createRole(
                name: "custom", permissions: [], home: .platform, by: admin
            ).id
            // The role that was made is all that the person has.
            _ = try await roles.bind(user.id, to: .made(role), on: .platform, by: nil)
            let bindings = try await api.ledger.bindings(of: user.id, limit: 9)
            for binding in bindings where binding.role == .builtin(BuiltinRole.viewer.rawValue) {
                try await roles.unbind(binding.id, by: admin)
            }
            token = session.token ?? ""
        }

        /// Gives the person these permissions and no others.
        func have(_ permissions: Set<Permission>) async throws -> Principal {
            _ = try await api.handlers.roles.editRole(
                role, name: nil, permissions: permissions, version: nil, by: admin)
            let principal = try await api.authenticator.principal(of: token)
            #expect(principal.permissions == permissions)
            return principal
        }

        /// A key with these permissions and no others.
        func key(_ permissions: Set<Permission>) async throws -> String {
            try await api.authenticator.createKey(
                name: "k", level: .platform, permissions: permissions, expiresIn: .seconds(600), by: nil
            ).secret
        }
    }

    @Test("whoever lacks one permission is refused by exactly the routes that need it, and changes nothing")
    func lacking() async throws {
        try await with { api, scene, routes in
            let caller = try await Caller(api)
            for (permission, routes) in routes {
                let rest = Permission.all.subtracting([permission])
                _ = try await caller.have(rest)
                let tokens = [caller.token, try await caller.key(rest)]
                var calls: [(route: Route, place: MatrixTests.Ids)] = []
                for route in routes {
                    let row = try #require(MatrixTests.table[MatrixTests.name(route)])
                    calls.append((route, try await scene.fresh(scene.own, row, route)))
                }
                let before = try await scene.counts()
                for (route, place) in calls {
                    for token in tokens {
                        let answer = try await call(route, place, token, api)
                        let problem = try api.problem(answer)
                        #expect(
                            problem.status == 403 && problem.code == "forbidden",
                            "\(MatrixTests.name(route)) without \(permission.rawValue): \(problem)")
                        #expect(problem.detail.contains(permission.rawValue), "\(problem)")
                    }
                }
                #expect(
                    try await scene.counts() == before, "something changed without \(permission.rawValue)")
            }
        }
    }

    @Test("whoever has one permission, and what the table says beside it, is not refused; with less they are")
    func having() async throws {
        try await with { api, scene, routes in
            let caller = try await Caller(api)
            for (permission, routes) in routes {
                for route in routes {
                    let row = try #require(MatrixTests.table[MatrixTests.name(route)])
                    let place = try await scene.fresh(scene.own, row, route)
                    // Each that stands beside it is needed.
                    let before = row.needs.isEmpty ? "" : try await scene.counts(but: "api_keys")
                    for need in row.needs {
                        let less = row.needs.union([permission]).subtracting([need])
                        let answer = try await call(route, place, caller.key(less), api)
                        #expect(
                            [403, 404].contains(answer.status),
                            "\(MatrixTests.name(route)) without \(need.rawValue): \(answer.status)")
                    }
                    if !row.needs.isEmpty {
                        #expect(try await scene.counts(but: "api_keys") == before)
                    }
                    let principal = try await caller.have(row.needs.union([permission]))
                    try await MatrixTests().judge(route, row, place, principal, caller.token, api, scene)
                }
            }
        }
    }

    @Test("each permission is needed by a route, but for those that a route's body takes")
    func used() async throws {
        try await TestAPI.with { api in
            let needed = Set(Self.routes(api).map(\.permission))
            // Asked for by the job that names a secret (SecretRouteTests).
            #expect(Permission.all.subtracting(needed) == [.secretsUse])
        }
    }

    // MARK: Parts

    private typealias Group = (permission: Permission, routes: [Route])

    /// The routes of each permission.
    private static func routes(_ api: TestAPI) -> [Group] {
        Permission.allCases.compactMap { permission in
            let routes = api.handlers.table.routes.filter {
                $0.caller == .permitted(permission) && $0.answer.isJSON
            }
            return routes.isEmpty ? nil : (permission, routes)
        }
    }

    private func with(_ body: (TestAPI, Scene, [Group]) async throws -> Void) async throws {
        // Providers are made, and none of them is ever asked.
        let issuers = OIDCKeys(OIDCKeys.Configuration())
        defer { issuers.close() }
        try await TestAPI.with(issuers: issuers) { api in
            try await body(api, Scene(api), Self.routes(api))
        }
    }

    private func call(
        _ route: Route, _ place: MatrixTests.Ids, _ token: String, _ api: TestAPI
    ) async throws -> Outbound.HTTPResponse {
        let row = try #require(MatrixTests.table[MatrixTests.name(route)])
        return try await api.call(
            route.method.rawValue, MatrixTests.path(route, row, place), key: token,
            body: route.body == nil ? nil : row.body(place))
    }
}
