package import Domain
package import Wire

extension APIClient {
    /// Archives a partner and all below it.
    package func archive(_ id: PartnerID, version: Int? = nil) async throws -> Partner {
        try await post("/v1/partners/\(id)/archive", version: version)
    }

    /// Brings an archived partner back.
    package func restore(_ id: PartnerID, version: Int? = nil) async throws -> Partner {
        try await post("/v1/partners/\(id)/restore", version: version)
    }

    /// Archives an organization and all below it.
    package func archive(_ id: OrganizationID, version: Int? = nil) async throws -> Organization {
        try await post("/v1/organizations/\(id)/archive", version: version)
    }

    /// Brings an archived organization back.
    package func restore(_ id: OrganizationID, version: Int? = nil) async throws -> Organization {
        try await post("/v1/organizations/\(id)/restore", version: version)
    }

    /// Archives a site and its devices.
    package func archive(_ id: SiteID, version: Int? = nil) async throws -> Site {
        try await post("/v1/sites/\(id)/archive", version: version)
    }

    /// Brings an archived site back.
    package func restore(_ id: SiteID, version: Int? = nil) async throws -> Site {
        try await post("/v1/sites/\(id)/restore", version: version)
    }

    /// Moves an organization to another partner.
    package func move(_ id: OrganizationID, to partner: PartnerID) async throws -> Organization {
        try await post("/v1/organizations/\(id)/move", NewOrganizationMove(partnerId: partner))
    }

    /// Moves a site's devices to a new site of another organization, which is the answer.
    package func move(_ id: SiteID, to organization: OrganizationID) async throws -> Site {
        try await post("/v1/sites/\(id)/move", NewSiteMove(organizationId: organization))
    }

    /// Moves a device to another site.
    package func move(_ id: DeviceID, to site: SiteID) async throws -> Device {
        try await post("/v1/devices/\(id)/move", NewDeviceMove(siteId: site))
    }

    /// Gives an organization up: archives it and cuts off devices, keys and people.
    package func offboard(_ id: OrganizationID) async throws -> Offboarding {
        try await post("/v1/organizations/\(id)/offboard")
    }

    /// One page of the report on an organization that is given up.
    package func offboarding(
        of id: OrganizationID, _ page: PageOptions = PageOptions()
    ) async throws -> Page<DeviceOffboarding> {
        try await get("/v1/organizations/\(id)/offboarding", page.parameters)
    }

    // MARK: Erasing

    /// What erasing an organization takes, or how far it has gone.
    package func erasure(of id: OrganizationID) async throws -> Erasure {
        try await get("/v1/organizations/\(id)/erasure")
    }

    /// What erasing a partner takes, or how far it has gone.
    package func erasure(of id: PartnerID) async throws -> Erasure {
        try await get("/v1/partners/\(id)/erasure")
    }

    /// Erases an archived organization that was exported, once its name is said.
    package func erase(_ id: OrganizationID, name: String) async throws -> Erasure {
        try await post("/v1/organizations/\(id)/erase", NewErasure(name: name))
    }

    /// Erases an archived partner without organizations, once its name is said.
    package func erase(_ id: PartnerID, name: String) async throws -> Erasure {
        try await post("/v1/partners/\(id)/erase", NewErasure(name: name))
    }

    /// Deletes an archived site without devices.
    package func remove(_ id: SiteID, version: Int? = nil) async throws {
        try await delete("/v1/sites/\(id)", version: version)
    }

    /// Deletes an archived device.
    package func remove(_ id: DeviceID, version: Int? = nil) async throws {
        try await delete("/v1/devices/\(id)", version: version)
    }

    /// An organization's export, a tar archive, in pieces; an export that failed ends before its end.
    package func export(_ id: OrganizationID) -> AsyncThrowingStream<[UInt8], any Error> {
        download("/v1/organizations/\(id)/export", "application/x-tar")
    }
}
