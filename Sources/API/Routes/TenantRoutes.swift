import Access
import Domain
import Engine
import Ledger
import Trust
import Wire

extension Handlers {
    var tenantRoutes: [Route] {
        [
            .post("/v1/partners", "Makes a partner", .permitted(.partnersWrite), respond: createPartner),
            .get("/v1/partners", "Lists the partners that you may see", .partnersRead) {
                (call: Call, query: PageQuery) in
                query.page(try await ledger.partners(query.request, scope: call.scope), id: \.id, Tenant.init)
            },
            .get("/v1/partners/{id}", "Shows a partner", .partnersRead) { call in
                try Self.tenant(await ledger.partner(call.id(), scope: call.scope))
            },
            .post("/v1/organizations", "Makes an organization", .permitted(.organizationsWrite)) {
                (call: Call, new: NewOrganization) in
                Tenant(
                    try await tenants.createOrganization(
                        partner: new.partnerId, name: new.name, level: call.principal.level))
            },
            .get("/v1/organizations", "Lists the organizations that you may see", .organizationsRead) {
                (call: Call, query: PageQuery) in
                query.page(
                    try await ledger.organizations(query.request, scope: call.scope), id: \.id, Tenant.init)
            },
            .get("/v1/organizations/{id}", "Shows an organization", .organizationsRead) { call in
                try Self.tenant(await ledger.organization(call.id(), scope: call.scope))
            },
            .post("/v1/sites", "Makes a site", .permitted(.sitesWrite)) { (call: Call, new: NewSite) in
                Tenant(
                    try await tenants.createSite(
                        organization: new.organizationId, name: new.name, level: call.principal.level))
            },
            .get("/v1/sites", "Lists the sites that you may see", .sitesRead) {
                (call: Call, query: PageQuery) in
                query.page(try await ledger.sites(query.request, scope: call.scope), id: \.id, Tenant.init)
            },
            .get("/v1/sites/{id}", "Shows a site", .sitesRead) { call in
                try Self.tenant(await ledger.siteRow(call.id(), scope: call.scope))
            },
            .post(
                "/v1/api-keys", "Makes an API key; its text is shown only here", .permitted(.apiKeysWrite),
                respond: createKey),
        ]
    }

    @Sendable private func createPartner(_ call: Call, _ new: NewPartner) async throws -> Tenant {
        Tenant(try await tenants.createPartner(name: new.name, level: call.principal.level))
    }

    @Sendable private func createKey(_ call: Call, _ new: NewAPIKey) async throws -> CreatedAPIKey {
        let level: Level =
            if let id = new.partnerId { .partner(id) } else if let id = new.organizationId {
                .organization(id)
            } else if let id = new.siteId { .site(id) } else { .platform }
        let (row, secret) = try await authenticator.createKey(
            name: new.name, level: level, permissions: Permission.set(new.permissions),
            expiresIn: .seconds(new.expiresInSeconds), by: call.principal)
        return CreatedAPIKey(id: row.id, key: secret, expiresAt: row.expiresAt)
    }

    private static func tenant(_ row: TenantRow?) throws -> Tenant {
        guard let row else { throw Problem.notFound() }
        return Tenant(row)
    }
}

extension Tenant {
    init(_ row: TenantRow) {
        self.init(
            id: row.id, name: row.name, partnerId: row.partner, organizationId: row.organization,
            createdAt: row.createdAt)
    }
}
