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

/// Every route, called by every role about what is its own, a sibling's, its parent's and a stranger's.
@Suite("The matrix of routes, roles and tenants")
struct MatrixTests {
    /// What a call is about, and so where it lies in the tenancy.
    enum Subject: CaseIterable {
        case partner, organization, site, device, job, run, deadRun, apiKey, user, role, binding, task,
            webhook, oidcProvider, oidcLink, secret, approval, enrollmentToken
    }

    /// What is known of one route.
    struct Row {
        /// What the path's id or the body names; `nil` of calls that name nothing: lists, and calls about
        /// oneself.
        var subject: Subject?
        /// The body, made from ids of a place.
        var body: @Sendable (Ids) -> String = { _ in "{}" }
        /// What the body names beside it, which must be in reach too.
        var target: Subject?
        /// What a caller needs beside the route's permission, to give away what the call gives.
        var needs: Set<Permission> = []
        /// Who may call beyond the permission: only the platform, or only who is above an
        /// organization or a site.
        var only: Only = .any
        /// Statuses of success that are not 2xx, since the scene does not have what the call needs.
        var also: Set<Int> = []

        enum Only { case any, platform, aboveOrganization, aboveSite, people, nobody }
    }

    /// Ids of one place, as text.
    struct Ids: Sendable {
        var partner = ""
        var organization = ""
        var site = ""
        var device = ""
        var job = ""
        var run = ""
        var apiKey = ""
        var user = ""
        var role = ""
        var binding = ""
        var webhook = ""
        var oidcProvider = ""
        var oidcLink = ""
        var secret = ""
        var approval = ""
        var enrollmentToken = ""
        var level: [Level] = []
        /// Whether what may lie on a site does: keys, bindings and secrets.
        var isSite = false

        subscript(_ subject: Subject) -> String {
            switch subject {
            case .partner: partner
            case .organization: organization
            case .site: site
            case .device: device
            case .job: job
            case .run, .deadRun: run
            case .apiKey: apiKey
            case .user: user
            case .role: role
            case .binding: binding
            case .webhook: webhook
            case .oidcProvider: oidcProvider
            case .oidcLink: oidcLink
            case .secret: secret
            case .approval: approval
            case .enrollmentToken: enrollmentToken
            case .task: UniqueID.zero.description
            }
        }
    }

    // MARK: The table

    private static let limits = #"{"limits":[]}"#
    private static let viewer = BuiltinRole.viewer.permissions

    /// A row for each route of the contract. A route without one fails the test, and so does a row without a
    /// route.
    static let table: [String: Row] = [
        "POST /v1/partners": Row(body: { _ in #"{"name":"x"}"# }, only: .platform),
        "GET /v1/partners": Row(), "GET /v1/partners/{id}": Row(subject: .partner),
        "PATCH /v1/partners/{id}": Row(subject: .partner, body: { _ in #"{"name":"x"}"# }),
        "GET /v1/partners/{id}/guard": Row(subject: .partner),
        "PATCH /v1/partners/{id}/guard": Row(subject: .partner, body: { _ in #"{"confirmAbove":40}"# }),
        "POST /v1/organizations": Row(
            subject: .partner, body: { #"{"name":"x","partnerId":"\#($0.partner)"}"# }),
        "GET /v1/organizations": Row(), "GET /v1/organizations/{id}": Row(subject: .organization),
        "PATCH /v1/organizations/{id}": Row(subject: .organization, body: { _ in #"{"name":"x"}"# }),
        "GET /v1/organizations/{id}/retention": Row(subject: .organization),
        "PUT /v1/organizations/{id}/retention": Row(subject: .organization, body: { _ in #"{"days":30}"# }),
        "POST /v1/sites": Row(
            subject: .organization, body: { #"{"name":"x","organizationId":"\#($0.organization)"}"# }),
        "GET /v1/sites": Row(), "GET /v1/sites/{id}": Row(subject: .site),
        "PATCH /v1/sites/{id}": Row(subject: .site, body: { _ in #"{"name":"x"}"# }),
        "POST /v1/partners/{id}/archive": Row(subject: .partner),
        "POST /v1/partners/{id}/restore": Row(subject: .partner),
        "POST /v1/organizations/{id}/archive": Row(subject: .organization),
        "POST /v1/organizations/{id}/restore": Row(subject: .organization),
        "POST /v1/organizations/{id}/offboard": Row(subject: .organization),
        "GET /v1/organizations/{id}/offboarding": Row(subject: .organization),
        "GET /v1/organizations/{id}/export": Row(subject: .organization),
        "GET /v1/organizations/{id}/erasure": Row(subject: .organization),
        "POST /v1/organizations/{id}/erase": Row(
            subject: .organization, body: { _ in #"{"name":"o"}"# }, also: [409]),
        "GET /v1/partners/{id}/erasure": Row(subject: .partner, only: .platform),
        "POST /v1/partners/{id}/erase": Row(
            subject: .partner, body: { _ in #"{"name":"p"}"# }, only: .platform, also: [409]),
        "DELETE /v1/sites/{id}": Row(subject: .site, only: .aboveSite, also: [409]),
        "DELETE /v1/devices/{id}": Row(subject: .device, also: [409]),
        "POST /v1/organizations/{id}/move": Row(
            subject: .organization, body: { #"{"partnerId":"\#($0.partner)"}"# }, target: .partner,
            only: .platform),
        "POST /v1/sites/{id}/archive": Row(subject: .site),
        "POST /v1/sites/{id}/restore": Row(subject: .site),
        "POST /v1/sites/{id}/move": Row(
            subject: .site, body: { #"{"organizationId":"\#($0.organization)"}"# }, target: .organization,
            also: [409]),
        "POST /v1/devices/{id}/move": Row(
            subject: .device, body: { #"{"siteId":"\#($0.site)"}"# }, target: .site),
        "POST /v1/enrollment-tokens": Row(subject: .site, body: { #"{"siteId":"\#($0.site)"}"# }),
        "GET /v1/enrollment-tokens": Row(),
        "GET /v1/enrollment-tokens/{id}": Row(subject: .enrollmentToken),
        "DELETE /v1/enrollment-tokens/{id}": Row(subject: .enrollmentToken),
        "GET /v1/devices": Row(), "GET /v1/devices/{id}": Row(subject: .device),
        "PATCH /v1/devices/{id}": Row(subject: .device, body: { _ in #"{"displayName":"x"}"# }),
        "GET /v1/devices/{id}/certificates": Row(subject: .device),
        "POST /v1/devices/{id}/revoke": Row(subject: .device),
        "POST /v1/api-keys": Row(
            subject: .site,
            body: { #"{"name":"x","siteId":"\#($0.site)","permissions":["devices:read"]}"# },
            needs: [.devicesRead]),
        "GET /v1/api-keys": Row(), "GET /v1/api-keys/{id}": Row(subject: .apiKey),
        "POST /v1/api-keys/{id}/rotate": Row(subject: .apiKey, needs: [.devicesRead]),
        "DELETE /v1/api-keys/{id}": Row(subject: .apiKey),
        "POST /v1/users": Row(
            subject: .organization,
            body: {
                #"{"email":"\#(UniqueID.v7(at: .now()))@x.y","name":"x","#
                    + #""organizationId":"\#($0.organization)"}"#
            }),
        "GET /v1/users": Row(), "GET /v1/users/{id}": Row(subject: .user),
        "PATCH /v1/users/{id}": Row(subject: .user, body: { _ in #"{"name":"x"}"# }),
        "POST /v1/users/{id}/invitation": Row(subject: .user, needs: viewer),
        "POST /v1/users/{id}/password-reset": Row(subject: .user, also: [409]),
        "POST /v1/roles": Row(
            subject: .organization,
            body: {
                #"{"name":"\#(UniqueID.v7(at: .now()))","permissions":["devices:read"],"#
                    + #""organizationId":"\#($0.organization)"}"#
            }, needs: [.devicesRead]),
        "GET /v1/roles": Row(), "GET /v1/roles/{id}": Row(subject: .role),
        "PATCH /v1/roles/{id}": Row(
            subject: .role, body: { _ in #"{"name":"\#(UniqueID.v7(at: .now()))"}"# },
            needs: [.devicesRead]),
        "DELETE /v1/roles/{id}": Row(subject: .role, also: [409]),
        "POST /v1/role-bindings": Row(
            subject: .organization,
            body: {
                #"{"userId":"\#($0.user)","roleId":"\#($0.role)","organizationId":"\#($0.organization)"}"#
            }, needs: [.devicesRead, .usersRead, .rolesRead], also: [409]),
        "GET /v1/role-bindings": Row(), "GET /v1/role-bindings/{id}": Row(subject: .binding),
        "DELETE /v1/role-bindings/{id}": Row(subject: .binding),
        "GET /v1/whoami": Row(), "GET /v1/sessions": Row(only: .people),
        "DELETE /v1/sessions/{id}": Row(only: .nobody),
        "POST /v1/sessions/step-up": Row(body: { _ in #"{"code":"1"}"# }, only: .nobody),
        "POST /v1/device-codes/approve": Row(body: { _ in #"{"userCode":"1"}"# }, only: .nobody),
        "POST /v1/me/second-factor": Row(only: .people, also: [409]),
        "POST /v1/me/second-factor/confirm": Row(body: { _ in #"{"code":"1"}"# }, only: .nobody),
        "POST /v1/me/second-factor/remove": Row(body: { _ in #"{"code":"1"}"# }, only: .nobody),
        "POST /v1/me/password": Row(body: { _ in #"{"current":"1","password":"1"}"# }, only: .nobody),
        "POST /v1/jobs": Row(
            subject: .device, body: { #"{"kind":"ping","target":{"deviceIds":["\#($0.device)"]}}"# }),
        "POST /v1/jobs/bulk": Row(
            body: { #"{"jobs":[{"kind":"ping","target":{"deviceIds":["\#($0.device)"]}}]}"# }),
        "POST /v1/jobs/cancel": Row(
            subject: .job, body: { #"{"organizationId":"\#($0.organization)"}"# }, also: [404]),
        "GET /v1/jobs": Row(), "GET /v1/jobs/{id}": Row(subject: .job),
        "GET /v1/jobs/{id}/runs": Row(subject: .job), "GET /v1/jobs/{id}/explain": Row(subject: .job),
        "POST /v1/jobs/{id}/cancel": Row(subject: .job), "POST /v1/jobs/{id}/pause": Row(subject: .job),
        "POST /v1/jobs/{id}/resume": Row(subject: .job),
        "POST /v1/jobs/{id}/retry": Row(subject: .job, also: [409, 422]),
        "GET /v1/runs/{id}": Row(subject: .run), "GET /v1/runs/{id}/output": Row(subject: .run),
        "GET /v1/runs/{id}/explain": Row(subject: .run),
        "POST /v1/runs/{id}/cancel": Row(subject: .run, also: [409]),
        "GET /v1/approvals": Row(), "GET /v1/approvals/{id}": Row(subject: .approval),
        // Whoever has no second factor that is fresh, or has asked, is refused with 403; see ApprovalTests.
        "POST /v1/approvals/{id}/approve": Row(subject: .approval, only: .people),
        "POST /v1/approvals/{id}/reject": Row(subject: .approval),
        "GET /v1/dead-letters": Row(), "GET /v1/dead-letters/{id}": Row(subject: .deadRun, also: [404]),
        "POST /v1/dead-letters/redrive": Row(
            subject: .deadRun, body: { #"{"runIds":["\#($0.run)"]}"# }, also: [409]),
        "POST /v1/dead-letters/discard": Row(
            subject: .deadRun, body: { #"{"runIds":["\#($0.run)"]}"# }, also: [409]),
        "GET /v1/queues": Row(), "GET /v1/queues/{id}": Row(subject: .organization),
        "PUT /v1/queues/{id}/weight": Row(
            subject: .organization, body: { _ in #"{"weight":1}"# }, only: .aboveOrganization),
        "PUT /v1/queues/{id}/cap": Row(
            subject: .organization, body: { _ in #"{"unlimited":true}"# }, only: .aboveOrganization),
        "GET /v1/queues/{id}/limits": Row(subject: .organization),
        "PUT /v1/queues/{id}/limits": Row(subject: .organization, body: { _ in limits }),
        "GET /v1/queues/{id}/interactive": Row(subject: .organization),
        "PUT /v1/queues/{id}/interactive": Row(subject: .organization, body: { _ in "{}" }),
        "GET /v1/queues/{id}/quota": Row(subject: .organization),
        "PUT /v1/queues/{id}/quota": Row(
            subject: .organization, body: { _ in "{}" }, only: .aboveOrganization),
        "GET /v1/queues/controls": Row(),
        "POST /v1/queues/pause": Row(
            subject: .organization, body: { #"{"organizationId":"\#($0.organization)"}"# }),
        "POST /v1/queues/drain": Row(
            subject: .organization, body: { #"{"organizationId":"\#($0.organization)"}"# }),
        "POST /v1/queues/resume": Row(
            subject: .organization, body: { #"{"organizationId":"\#($0.organization)"}"# }),
        "GET /v1/workers": Row(only: .platform),
        "POST /v1/workers/{id}/drain": Row(only: .nobody),
        "POST /v1/webhooks": Row(
            subject: .organization,
            body: {
                #"{"url":"https://example.com/","events":["job.ended"],"#
                    + #""organizationId":"\#($0.organization)"}"#
            }),
        "GET /v1/webhooks": Row(), "GET /v1/webhooks/{id}": Row(subject: .webhook),
        "PATCH /v1/webhooks/{id}": Row(subject: .webhook, body: { _ in #"{"description":"x"}"# }),
        "DELETE /v1/webhooks/{id}": Row(subject: .webhook),
        "POST /v1/webhooks/{id}/rotate": Row(subject: .webhook),
        "POST /v1/webhooks/{id}/enable": Row(subject: .webhook),
        "POST /v1/webhooks/{id}/test": Row(subject: .webhook),
        "GET /v1/webhooks/{id}/deliveries": Row(subject: .webhook),
        "POST /v1/webhook-deliveries/{id}/redeliver": Row(only: .nobody),
        "POST /v1/oidc-providers": Row(
            subject: .organization,
            body: {
                #"{"name":"\#(UniqueID.v7(at: .now()))","issuer":"https://id.example","audiences":["x"],"#
                    + #""organizationId":"\#($0.organization)"}"#
            }),
        "GET /v1/oidc-providers": Row(), "GET /v1/oidc-providers/{id}": Row(subject: .oidcProvider),
        "PATCH /v1/oidc-providers/{id}": Row(
            subject: .oidcProvider, body: { _ in #"{"name":"\#(UniqueID.v7(at: .now()))"}"# }),
        "DELETE /v1/oidc-providers/{id}": Row(subject: .oidcProvider, also: [409]),
        "POST /v1/oidc-links": Row(
            subject: .oidcProvider,
            body: {
                #"{"providerId":"\#($0.oidcProvider)","external":"\#(UniqueID.v7(at: .now()))","#
                    + #""role":"viewer"}"#
            }, needs: viewer),
        "GET /v1/oidc-links": Row(), "GET /v1/oidc-links/{id}": Row(subject: .oidcLink),
        "PATCH /v1/oidc-links/{id}": Row(
            subject: .oidcLink, body: { _ in #"{"role":"viewer"}"# }, needs: viewer),
        "DELETE /v1/oidc-links/{id}": Row(subject: .oidcLink),
        "POST /v1/secrets": Row(
            subject: .organization,
            body: {
                #"{"name":"s\#(UInt32.random(in: 0 ... .max))","value":"12345678","#
                    + #""organizationId":"\#($0.organization)"}"#
            }),
        "GET /v1/secrets": Row(), "GET /v1/secrets/{id}": Row(subject: .secret),
        "POST /v1/secrets/{id}/rotate": Row(subject: .secret, body: { _ in #"{"value":"87654321"}"# }),
        "DELETE /v1/secrets/{id}": Row(subject: .secret),
        "GET /v1/audit": Row(), "GET /v1/tasks": Row(),
        "GET /v1/tasks/{id}": Row(subject: .task, also: [404]),
        "POST /v1/tasks/{id}/cancel": Row(subject: .task, also: [404]),
        "POST /v1/tasks/{id}/retry": Row(subject: .task, also: [404]),
    ]

    // MARK: The calls

    @Test("every route has a row, and every row a route")
    func complete() async throws {
        try await TestAPI.with { api in
            let routes = api.handlers.table.routes.filter { $0.caller != .anyone && $0.answer.isJSON }
            #expect(Set(routes.map(Self.name)) == Set(Self.table.keys))
        }
    }

    static func name(_ route: Route) -> String { "\(route.method.rawValue) \(route.path)" }

    @Test(
        "each role gets what its permissions say of what is in its reach, and nothing else changes or shows",
        arguments: BuiltinRole.allCases)
    func calls(role: BuiltinRole) async throws {
        // Providers are made, and none of them is ever asked.
        let issuers = OIDCKeys(OIDCKeys.Configuration())
        defer { issuers.close() }
        try await TestAPI.with(issuers: issuers) { api in
            let scene = try await Scene(api)
            for level in scene.levels(of: role) {
                let (person, client, session) = try await api.person(
                    "\(UniqueID.v7(at: .now()))@example.com", role, on: level)
                client.close()
                _ = person
                let caller = try await api.authenticator.principal(of: session.token ?? "")
                for route in api.handlers.table.routes where route.caller != .anyone && route.answer.isJSON {
                    let row = try #require(Self.table[Self.name(route)])
                    for place in row.subject == nil ? [scene.own] : scene.places {
                        try await judge(
                            route, row, try await scene.fresh(place, row, route),
                            caller, session.token ?? "", api, scene)
                    }
                }
            }
        }
    }

    /// The path of a route, about something of a place.
    static func path(_ route: Route, _ row: Row, _ ids: Ids) -> String {
        route.path.replacing("{id}", with: row.subject.map { ids[$0] } ?? UniqueID.zero.description)
    }

    /// Makes a call, and judges what came of it by the table.
    func judge(
        _ route: Route, _ row: Row, _ ids: Ids, _ caller: Principal, _ token: String, _ api: TestAPI,
        _ scene: Scene
    ) async throws {
        let path = Self.path(route, row, ids)
        let expected = try Self.expectation(route, row, ids, caller, scene)
        let before = expected == .allowed ? "" : try await scene.counts()
        let response = try await api.call(
            route.method.rawValue, path, key: token, body: route.body == nil ? nil : row.body(ids))
        let cell: Comment =
            "\(Self.name(route)) by \(caller.reach[.sitesRead].map { "\($0)" } ?? "?"), \(ids.level)"
        switch expected {
        case .allowed:
            #expect(
                (200..<300).contains(response.status) || row.also.contains(response.status),
                "\(cell): \(response.status) \(String(decoding: response.body.prefix(300), as: UTF8.self))")
        case .forbidden:
            #expect(response.status == 403, "\(cell): \(response.status)")
            #expect(try await scene.counts() == before, "\(cell) changed something")
        case .absent:
            // What the body names is refused as a field; that the body is right, others show who may.
            let isInBody = !route.path.contains("{id}") || row.target != nil
            #expect(
                [403, 404].contains(response.status) || (isInBody && response.status == 422),
                "\(cell): \(response.status)")
            #expect(try await scene.counts() == before, "\(cell) changed something")
        case .refused:
            #expect((400..<500).contains(response.status), "\(cell): \(response.status)")
            #expect(try await scene.counts() == before, "\(cell) changed something")
        }
        // Whatever the answer is, it names nothing beyond the caller's reach; but for the log of what the
        // caller itself has tried, by the ids that it named.
        guard route.path != "/v1/audit" else { return }
        let text = String(decoding: response.body, as: UTF8.self)
        for place in scene.places where !ids.level.contains(where: place.level.contains) {
            guard case .permitted(let permission) = route.caller, let reach = caller.reach[permission],
                !scene.isWithin(.organization, place, reach), row.subject == nil
            else { continue }
            for id in [
                place.device, place.site, place.job, place.apiKey, place.user, place.binding,
                place.enrollmentToken,
            ] {
                #expect(!text.contains(id), "\(cell) shows what is another's")
            }
        }
    }

    private enum Expectation { case allowed, forbidden, absent, refused }

    private static func expectation(
        _ route: Route, _ row: Row, _ ids: Ids, _ caller: Principal, _ scene: Scene
    ) throws -> Expectation {
        if row.only == .people, caller.kind == .key { return .forbidden }
        guard case .permitted(let permission) = route.caller else {
            return row.only == .nobody ? .refused : .allowed
        }
        guard let reach = caller.reach[permission] else { return .forbidden }
        guard let subject = row.subject else {
            switch row.only {
            case .platform where reach != .platform: return .forbidden
            case .nobody: return .refused
            case .any, .platform, .aboveOrganization, .aboveSite, .people: return .allowed
            }
        }
        guard scene.isWithin(subject, ids, reach), row.target.map({ scene.isWithin($0, ids, reach) }) ?? true
        else { return .absent }
        if row.only == .platform, reach != .platform { return .forbidden }
        if row.only == .aboveSite, case .site = reach { return .forbidden }
        if row.only == .aboveOrganization {
            switch reach {
            case .platform, .partner: break
            case .organization, .organizations, .site: return .forbidden
            }
        }
        return .allowed
    }
}

extension Route.Answer {
    var isJSON: Bool {
        switch self {
        case .json, .empty, .other: true
        case .events: false
        }
    }
}
