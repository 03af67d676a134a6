import Access
import Domain
import HTTPTypes
import Ledger
import Outbound
import Postgres
import Testing
import Wire

@testable import API

@Suite("Who may call what")
struct AccessRuleTests {
    private static let id = "018f0000-0000-7000-8000-000000000001"

    @Test(
        "every route with a permission refuses a caller without a key, and one without the permission"
    )
    func everyRoute() async throws {
        try await TestAPI.with { api in
            let (_, powerless) = try await api.authenticator.createKey(
                name: "none", level: .platform, permissions: [], expiresIn: .seconds(600), by: nil)
            let routes = api.handlers.table.routes
            for route in routes {
                guard case .permitted(let permission) = route.caller else { continue }
                let path = route.path.replacing("{id}", with: Self.id)
                let body: String? = route.body == nil ? nil : "{}"
                for key: String? in [nil, "crmm_x", api.admin + "x"] {
                    let problem = try api.problem(
                        try await api.call(route.method.rawValue, path, key: .some(key), body: body))
                    #expect(problem.status == 401 && problem.code == "unauthorized", "\(route.path)")
                }
                let problem = try api.problem(
                    try await api.call(route.method.rawValue, path, key: powerless, body: body))
                #expect(
                    problem.status == 403 && problem.detail.contains(permission.rawValue), "\(route.path)")
            }
        }
    }

    @Test("the routes that anyone may call are these and no others")
    func openRoutes() async throws {
        try await TestAPI.with { api in
            let open = api.handlers.table.routes.filter { $0.caller == .anyone }.map(\.path)
            #expect(
                Set(open) == [
                    "/healthz", "/readyz", "/docs", "/docs/docs.css", "/docs/problems",
                    "/openapi.json",
                    "/v1/enrollments", "/v1/sessions", "/v1/sign-in-links/accept", "/v1/device-codes",
                    "/v1/device-codes/session", "/v1/oidc-sign-ins", "/v1/oidc-sign-ins/session",
                ])
        }
    }

    @Test("a credential is one Authorization header of the scheme Bearer, never a parameter")
    func credential() async throws {
        try await TestAPI.with { api in
            for headers in [
                [("Authorization", "Basic \(api.admin)")], [("Authorization", api.admin)],
                [("Authorization", "Bearer")],
                [("Authorization", "Bearer \(api.admin)"), ("Authorization", "Bearer \(api.admin)")],
            ] {
                let response = try await api.call("GET", "/v1/partners", key: .some(nil), headers: headers)
                #expect(response.status == 401)
                #expect(response.header("www-authenticate") == "Bearer")
            }
            #expect(try await api.call("GET", "/v1/partners?key=\(api.admin)", key: .some(nil)).status == 401)
            let lower = [("Authorization", "bearer \(api.admin)")]
            #expect(try await api.call("GET", "/v1/partners", key: .some(nil), headers: lower).status == 200)
        }
    }

    @Test(
        "what belongs to another tenant does not exist: in reads, in lists, as a parent, as a target"
    )
    func otherTenant() async throws {
        try await TestAPI.with { api in
            let (mine, other) = (api.one, api.other)
            let ping = #"{"kind":"ping","target":{"deviceIds":["\#(other.device)"]}}"#
            let job = try AcceptedJob.decode(
                try await api.call("POST", "/v1/jobs", key: other.key, body: ping).body)
            let runs = try Page<Run>.decode(
                try await api.call("GET", "/v1/jobs/\(job.id)/runs", key: other.key).body)
            let run = try #require(runs.items.first).id
            let reads = [
                "/v1/partners/\(mine.partner)", "/v1/organizations/\(other.organization)",
                "/v1/sites/\(other.site)",
                "/v1/devices/\(other.device)", "/v1/jobs/\(job.id)", "/v1/jobs/\(job.id)/runs",
                "/v1/jobs/\(job.id)/events",
                "/v1/runs/\(run)", "/v1/runs/\(run)/output",
            ]
            for path in reads {
                #expect(try await api.call("GET", path, key: mine.key).status == 404, "\(path)")
            }
            let writes = [
                ("/v1/organizations", #"{"name":"x","partnerId":"\#(mine.partner)"}"#),
                ("/v1/sites", #"{"name":"x","organizationId":"\#(other.organization)"}"#),
                (
                    "/v1/api-keys",
                    #"{"name":"x","organizationId":"\#(other.organization)","permissions":["jobs:read"]}"#
                ),
                ("/v1/api-keys", #"{"name":"x","siteId":"\#(other.site)","permissions":["jobs:read"]}"#),
                ("/v1/jobs/\(job.id)/cancel", "{}"),
            ]
            for (path, body) in writes {
                #expect(try await api.call("POST", path, key: mine.key, body: body).status == 404, "\(path)")
            }
            let fields = [
                ("/v1/enrollment-tokens", #"{"siteId":"\#(other.site)"}"#, "siteId"),
                ("/v1/jobs", ping, "target.deviceIds[0]"),
                ("/v1/jobs", #"{"kind":"ping","target":{"siteId":"\#(other.site)"}}"#, "target.siteId"),
                (
                    "/v1/jobs", #"{"kind":"ping","target":{"organizationId":"\#(other.organization)"}}"#,
                    "target.organizationId"
                ),
            ]
            for (path, body, field) in fields {
                let problem = try api.problem(try await api.call("POST", path, key: mine.key, body: body))
                #expect(problem.status == 422 && problem.field == field, "\(field)")
            }
            for path in [
                "/v1/devices", "/v1/devices?organizationId=\(other.organization)", "/v1/jobs", "/v1/sites",
            ] {
                let text = String(
                    decoding: try await api.call("GET", path, key: mine.key).body, as: UTF8.self)
                #expect(!text.contains(other.organization.description), "\(path)")
            }
            #expect(
                try Job.decode(try await api.call("GET", "/v1/jobs/\(job.id)", key: other.key).body).state
                    == .active)
        }
    }

    @Test("a key made over HTTP has at most its maker's power, and a tenant's key makes no partner")
    func keys() async throws {
        try await TestAPI.with { api in
            let body =
                #"{"name":"k","siteId":"\#(api.one.site)","permissions":["devices:read"]}"#
            let made = try await api.call("POST", "/v1/api-keys", key: api.one.key, body: body)
            #expect(made.status == 201)
            let key = try CreatedAPIKey.decode(made.body).key
            #expect(try await api.call("GET", "/v1/devices/\(api.one.device)", key: key).status == 200)
            #expect(try await api.call("GET", "/v1/jobs", key: key).status == 403)
            let platform = #"{"name":"k","permissions":["devices:read"]}"#
            #expect(
                try await api.call("POST", "/v1/api-keys", key: api.one.key, body: platform).status == 403)
            #expect(
                try await api.call("POST", "/v1/partners", key: api.one.key, body: #"{"name":"p"}"#).status
                    == 403)
        }
    }

    @Test("only names that were given, and the loopback's, are served")
    func hosts() async throws {
        try await TestAPI.with { api in
            for host in ["rmm.example", "RMM.example:3001", "localhost", "[::1]:80", "127.0.0.1"] {
                let status = try await api.call("GET", "/healthz", headers: [("Host", host)]).status
                #expect(status == 200, "\(host)")
            }
            for host in ["rmm.example.evil", "example", "127.0.0.2", "rmm.example@evil", "[::2]"] {
                let status = try await api.call("GET", "/healthz", headers: [("Host", host)]).status
                #expect(status == 421, "\(host)")
            }
        }
    }
}
