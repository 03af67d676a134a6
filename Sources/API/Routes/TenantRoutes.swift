import Access
import Domain
import Engine
import Ledger
import Wire

extension Handlers {
    var tenantRoutes: [Route] { partnerRoutes + organizationRoutes + siteRoutes }

    private var partnerRoutes: [Route] {
        [
            .post("/v1/partners", "Makes a partner", .permitted(.partnersWrite)) {
                (call: Call, new: NewPartner) in
                try Partner(
                    await tenants.createPartner(
                        name: new.name, TenantDetails(text: new.branding?.text), level: call.level))
            },
            .get("/v1/partners", "Lists the partners that you may see", .permitted(.partnersRead)) {
                (call: Call, query: TenantQuery) in
                try query.page.page(
                    try await ledger.partners(
                        archived: query.isArchived, query.request, scope: call.scope),
                    id: \.id, Partner.init)
            },
            .get("/v1/partners/{id}", "Shows a partner", .permitted(.partnersRead)) { call in
                try Partner(found(await ledger.partner(call.id(), scope: call.scope)))
            },
            .patch("/v1/partners/{id}", "Edits a partner", .permitted(.partnersWrite)) {
                (call: Call, changes: NewPartnerChanges) in
                try Partner(
                    await tenants.editPartner(call.id(), version: call.version, level: call.level) { row in
                        row.name = changes.name ?? row.name
                        switch changes.branding {
                        case .keep: break
                        case .clear: row.branding = nil
                        case .set(let branding): row.branding = branding.text
                        }
                    })
            }.refusing(.conflict),
        ]
    }

    private var organizationRoutes: [Route] {
        [
            .post("/v1/organizations", "Makes an organization", .permitted(.organizationsWrite)) {
                (call: Call, new: NewOrganization) in
                try Organization(
                    await tenants.createOrganization(
                        partner: new.partnerId, name: new.name, new.details, level: call.level))
            }.refusing(.conflict),
            .get(
                "/v1/organizations", "Lists the organizations that you may see",
                .permitted(.organizationsRead)
            ) {
                (call: Call, query: OrganizationsQuery) in
                try query.page.page(
                    try await ledger.organizations(
                        partner: query.partnerId, archived: query.isArchived, query.request,
                        scope: call.scope), id: \.id, Organization.init)
            },
            .get("/v1/organizations/{id}", "Shows an organization", .permitted(.organizationsRead)) { call in
                try Organization(found(await ledger.organization(call.id(), scope: call.scope)))
            },
            .patch("/v1/organizations/{id}", "Edits an organization", .permitted(.organizationsWrite)) {
                (call: Call, changes: NewOrganizationChanges) in
                try Organization(
                    await tenants.editOrganization(call.id(), version: call.version, level: call.level) {
                        $0.apply(changes.name, changes.timeZone, changes.contacts)
                    })
            }.refusing(.conflict),
        ]
    }

    private var siteRoutes: [Route] {
        [
            .post("/v1/sites", "Makes a site", .permitted(.sitesWrite)) { (call: Call, new: NewSite) in
                try Site(
                    await tenants.createSite(
                        organization: new.organizationId, name: new.name, new.details, level: call.level))
            }.refusing(.conflict),
            .get("/v1/sites", "Lists the sites that you may see", .permitted(.sitesRead)) {
                (call: Call, query: SitesQuery) in
                try query.page.page(
                    try await ledger.sites(
                        organization: query.organizationId, archived: query.isArchived, query.request,
                        scope: call.scope), id: \.id, Site.init)
            },
            .get("/v1/sites/{id}", "Shows a site", .permitted(.sitesRead)) { call in
                try Site(found(await ledger.siteRow(call.id(), scope: call.scope)))
            },
            .patch("/v1/sites/{id}", "Edits a site", .permitted(.sitesWrite)) {
                (call: Call, changes: NewSiteChanges) in
                try Site(
                    await tenants.editSite(call.id(), version: call.version, level: call.level) {
                        $0.apply(changes.name, changes.timeZone, changes.contacts)
                    })
            }.refusing(.conflict),
        ]
    }

    /// A row that is there, or the refusal.
    func found<Row>(_ row: Row?) throws(AccessError) -> Row {
        guard let row else { throw AccessError.nothingHere }
        return row
    }
}

// MARK: Rows as they are shown

extension Partner {
    /// A row of partners.
    init(_ row: TenantRow) throws {
        self.init(
            id: PartnerID(row.id), name: row.name, state: row.shownState,
            branding: try Branding.decode(Array((row.branding ?? "{}").utf8)), version: row.version,
            createdAt: row.createdAt, updatedAt: row.updatedAt)
    }
}

extension Organization {
    /// A row of organizations.
    init(_ row: TenantRow) throws {
        guard let partner = row.partner else { preconditionFailure("an organization has a partner") }
        self.init(
            id: OrganizationID(row.id), partnerId: partner, name: row.name, state: row.shownState,
            timeZone: row.timeZone, contacts: try row.shownContacts(), version: row.version,
            createdAt: row.createdAt, updatedAt: row.updatedAt)
    }
}

extension Site {
    /// A row of sites.
    init(_ row: TenantRow) throws {
        guard let organization = row.organization else { preconditionFailure("a site has an organization") }
        self.init(
            id: SiteID(row.id), organizationId: organization, name: row.name, state: row.shownState,
            timeZone: row.timeZone, contacts: try row.shownContacts(), version: row.version,
            createdAt: row.createdAt, updatedAt: row.updatedAt)
    }
}

extension NewOrganization {
    fileprivate var details: TenantDetails { TenantDetails(text: contacts.text, timeZone: timeZone) }
}

extension NewSite {
    fileprivate var details: TenantDetails { TenantDetails(text: contacts.text, timeZone: timeZone) }
}

extension JSONWritable {
    /// JSON as columns of text keep it.
    var text: String { String(decoding: json, as: UTF8.self) }
}

extension TenantRow {
    fileprivate var shownState: TenantState { isArchived ? .archived : .active }

    fileprivate func shownContacts() throws -> [Contact] {
        try [Contact].read(JSONValue(scanning: Array((contacts ?? "[]").utf8)), .none)
    }

    fileprivate mutating func apply(
        _ name: String?, _ timeZone: FieldChange<String>, _ contacts: FieldChange<[Contact]>
    ) {
        self.name = name ?? self.name
        self.timeZone = timeZone.applied(to: self.timeZone)
        switch contacts {
        case .keep: break
        case .clear: self.contacts = nil
        case .set(let contacts): self.contacts = contacts.text
        }
    }
}
