package import Domain
package import Wire

extension APIClient {
    // MARK: Partners

    /// Makes a partner.
    package func createPartner(_ new: NewPartner) async throws -> Partner {
        try await post("/v1/partners", new)
    }

    /// One page of partners: those in use, or `archived`, or `all`.
    package func partners(
        state: String? = nil, _ page: PageOptions = PageOptions()
    ) async throws -> Page<Partner> {
        try await get("/v1/partners", [("state", state)] + page.parameters)
    }

    /// One partner.
    package func partner(_ id: PartnerID) async throws -> Partner { try await get("/v1/partners/\(id)") }

    /// Edits a partner, if it is of this version.
    package func edit(
        _ id: PartnerID, _ changes: NewPartnerChanges, version: Int? = nil
    ) async throws -> Partner {
        try await patch("/v1/partners/\(id)", changes, version: version)
    }

    // MARK: Organizations

    /// Makes an organization.
    package func createOrganization(_ new: NewOrganization) async throws -> Organization {
        try await post("/v1/organizations", new)
    }

    /// One page of organizations, optionally of one partner.
    package func organizations(
        partner: PartnerID? = nil, state: String? = nil, _ page: PageOptions = PageOptions()
    ) async throws -> Page<Organization> {
        try await get(
            "/v1/organizations", [("partnerId", partner?.description), ("state", state)] + page.parameters)
    }

    /// One organization.
    package func organization(_ id: OrganizationID) async throws -> Organization {
        try await get("/v1/organizations/\(id)")
    }

    /// Edits an organization, if it is of this version.
    package func edit(
        _ id: OrganizationID, _ changes: NewOrganizationChanges, version: Int? = nil
    ) async throws -> Organization {
        try await patch("/v1/organizations/\(id)", changes, version: version)
    }

    // MARK: Sites

    /// Makes a site.
    package func createSite(_ new: NewSite) async throws -> Site { try await post("/v1/sites", new) }

    /// One page of sites, optionally of one organization.
    package func sites(
        organization: OrganizationID? = nil, state: String? = nil, _ page: PageOptions = PageOptions()
    ) async throws -> Page<Site> {
        try await get(
            "/v1/sites",
            [("organizationId", organization?.description), ("state", state)] + page.parameters)
    }

    /// One site.
    package func site(_ id: SiteID) async throws -> Site { try await get("/v1/sites/\(id)") }

    /// Edits a site, if it is of this version.
    package func edit(_ id: SiteID, _ changes: NewSiteChanges, version: Int? = nil) async throws -> Site {
        try await patch("/v1/sites/\(id)", changes, version: version)
    }

    /// Edits what people say of a device, if it is of this version.
    package func edit(_ id: DeviceID, _ changes: NewDeviceChanges, version: Int? = nil) async throws -> Device
    {
        try await patch("/v1/devices/\(id)", changes, version: version)
    }
}
