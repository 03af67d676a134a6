import Access
import HTTPTypes
import Testing

@testable import API

/// What each call takes, as it is meant: the other tests of access read what a route says of itself.
@Suite struct RoutePermissionTests {
    /// The calls by the permission that they take; `known` is any principal.
    private static let table = """
        partners:write
            POST /v1/partners
            PATCH /v1/partners/{id}
        partners:read
            GET /v1/partners
            GET /v1/partners/{id}
        organizations:write
            POST /v1/organizations
            PATCH /v1/organizations/{id}
            POST /v1/organizations/{id}/move
            PUT /v1/organizations/{id}/retention
        organizations:read
            GET /v1/organizations
            GET /v1/organizations/{id}
            GET /v1/organizations/{id}/retention
        sites:write
            POST /v1/sites
            PATCH /v1/sites/{id}
        sites:read
            GET /v1/sites
            GET /v1/sites/{id}
        tenants:archive
            POST /v1/partners/{id}/archive
            POST /v1/partners/{id}/restore
            POST /v1/organizations/{id}/archive
            POST /v1/organizations/{id}/restore
            POST /v1/sites/{id}/archive
            POST /v1/sites/{id}/restore
            POST /v1/devices/{id}/revoke
            POST /v1/organizations/{id}/offboard
            GET /v1/organizations/{id}/offboarding
        devices:move
            POST /v1/sites/{id}/move
            POST /v1/devices/{id}/move
        tenants:delete
            GET /v1/organizations/{id}/erasure
            POST /v1/organizations/{id}/erase
            GET /v1/partners/{id}/erasure
            POST /v1/partners/{id}/erase
            DELETE /v1/sites/{id}
            DELETE /v1/devices/{id}
        tenants:export
            GET /v1/organizations/{id}/export
        guards:read
            GET /v1/partners/{id}/guard
        guards:write
            PATCH /v1/partners/{id}/guard
        jobs:read
            GET /v1/approvals
            GET /v1/approvals/{id}
            GET /v1/jobs
            GET /v1/jobs/{id}
            GET /v1/jobs/{id}/runs
            GET /v1/jobs/{id}/events
            GET /v1/runs/{id}
            GET /v1/runs/{id}/output
            GET /v1/jobs/{id}/explain
            GET /v1/runs/{id}/explain
            GET /v1/dead-letters
            GET /v1/dead-letters/{id}
            GET /v1/tasks
            GET /v1/tasks/{id}
        jobs:approve
            POST /v1/approvals/{id}/approve
            POST /v1/approvals/{id}/reject
        apiKeys:write
            POST /v1/api-keys
            POST /v1/api-keys/{id}/rotate
            DELETE /v1/api-keys/{id}
        apiKeys:read
            GET /v1/api-keys
            GET /v1/api-keys/{id}
        users:write
            POST /v1/users
            PATCH /v1/users/{id}
            POST /v1/users/{id}/invitation
            POST /v1/users/{id}/password-reset
        users:read
            GET /v1/users
            GET /v1/users/{id}
        roles:write
            POST /v1/roles
            PATCH /v1/roles/{id}
            DELETE /v1/roles/{id}
            POST /v1/role-bindings
            DELETE /v1/role-bindings/{id}
        roles:read
            GET /v1/roles
            GET /v1/roles/{id}
            GET /v1/role-bindings
            GET /v1/role-bindings/{id}
        known
            GET /v1/whoami
            GET /v1/sessions
            DELETE /v1/sessions/{id}
            POST /v1/sessions/step-up
            POST /v1/device-codes/approve
            POST /v1/me/second-factor
            POST /v1/me/second-factor/confirm
            POST /v1/me/second-factor/remove
            POST /v1/me/password
        oidc:write
            POST /v1/oidc-providers
            PATCH /v1/oidc-providers/{id}
            DELETE /v1/oidc-providers/{id}
            POST /v1/oidc-links
            PATCH /v1/oidc-links/{id}
            DELETE /v1/oidc-links/{id}
        oidc:read
            GET /v1/oidc-providers
            GET /v1/oidc-providers/{id}
            GET /v1/oidc-links
            GET /v1/oidc-links/{id}
        anyone
            POST /v1/oidc-sign-ins
            POST /v1/oidc-sign-ins/session
            POST /v1/sessions
            POST /v1/sign-in-links/accept
            POST /v1/device-codes
            POST /v1/device-codes/session
            POST /v1/enrollments
            GET /healthz
            GET /readyz
            GET /docs
            GET /docs/problems
            GET /docs/docs.css
            GET /openapi.json
        audit:read
            GET /v1/audit
        enrollmentTokens:write
            POST /v1/enrollment-tokens
            DELETE /v1/enrollment-tokens/{id}
        enrollmentTokens:read
            GET /v1/enrollment-tokens
            GET /v1/enrollment-tokens/{id}
        devices:read
            GET /v1/devices
            GET /v1/devices/{id}
            GET /v1/devices/{id}/certificates
        devices:write
            PATCH /v1/devices/{id}
        jobs:run
            POST /v1/jobs
            POST /v1/jobs/bulk
            POST /v1/jobs/{id}/retry
            POST /v1/dead-letters/redrive
            POST /v1/tasks/{id}/retry
        jobs:cancel
            POST /v1/jobs/{id}/cancel
            POST /v1/jobs/cancel
            POST /v1/runs/{id}/cancel
            POST /v1/jobs/{id}/pause
            POST /v1/jobs/{id}/resume
            POST /v1/dead-letters/discard
            POST /v1/tasks/{id}/cancel
        queues:read
            GET /v1/queues
            GET /v1/queues/{id}
            GET /v1/queues/{id}/limits
            GET /v1/queues/controls
            GET /v1/workers
            GET /v1/queues/{id}/interactive
            GET /v1/queues/{id}/quota
        queues:weigh
            PUT /v1/queues/{id}/weight
            PUT /v1/queues/{id}/cap
            PUT /v1/queues/{id}/quota
        queues:write
            PUT /v1/queues/{id}/limits
            POST /v1/queues/pause
            POST /v1/queues/drain
            POST /v1/queues/resume
            POST /v1/workers/{id}/drain
            PUT /v1/queues/{id}/interactive
        webhooks:write
            POST /v1/webhooks
            PATCH /v1/webhooks/{id}
            DELETE /v1/webhooks/{id}
            POST /v1/webhooks/{id}/rotate
            POST /v1/webhooks/{id}/enable
            POST /v1/webhooks/{id}/test
            POST /v1/webhook-deliveries/{id}/redeliver
        webhooks:read
            GET /v1/webhooks
            GET /v1/webhooks/{id}
            GET /v1/webhooks/{id}/deliveries
        secrets:write
            POST /v1/secrets
            POST /v1/secrets/{id}/rotate
            DELETE /v1/secrets/{id}
        secrets:read
            GET /v1/secrets
            GET /v1/secrets/{id}
        """

    @Test("Each call takes the permission that is meant for it")
    func permissions() async throws {
        var meant: [String: String] = [:]
        var permission = ""
        for line in Self.table.split(separator: "\n") {
            guard line.hasPrefix(" ") else {
                permission = String(line)
                continue
            }
            meant[line.trimmingPrefix { $0 == " " }.description] = permission
        }
        try await TestAPI.with { api in
            var said: [String: String] = [:]
            for route in api.handlers.table.routes {
                let call = "\(route.method.rawValue) \(route.path)"
                #expect(said[call] == nil, "\(call) is there twice")
                said[call] =
                    switch route.caller {
                    case .anyone: "anyone"
                    case .known: "known"
                    case .permitted(let permission): permission.rawValue
                    }
            }
            let wrong = Set(meant.keys).union(said.keys).filter { meant[$0] != said[$0] }
            #expect(wrong.sorted() == [])
        }
    }
}
