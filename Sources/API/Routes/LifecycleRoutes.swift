import Access
import Domain
package import Engine
import HTTPTypes
import Ledger
import Wire

/// What ends, moves and takes out parts of the tenancy.
package struct Lifecycle: Sendable {
    let closing: Closing
    let mover: Mover
    let exporter: Exporter

    /// Its parts on the API's login.
    package init(closing: Closing, mover: Mover, exporter: Exporter) {
        self.closing = closing
        self.mover = mover
        self.exporter = exporter
    }
}

extension Handlers {
    var lifecycleRoutes: [Route] { archivingRoutes + movingRoutes + offboardingRoutes + erasingRoutes }

    private var archivingRoutes: [Route] {
        archiving("partners", "a partner and all below it", Level.partner, shownPartner)
            + archiving(
                "organizations", "an organization and all below it", Level.organization, shownOrganization)
            + archiving("sites", "a site and its devices", Level.site, shownSite)
    }

    private func archiving<Subject, Answer: WireObject>(
        _ rows: String, _ noun: String, _ level: @escaping @Sendable (ID<Subject>) -> Level,
        _ answer: @escaping @Sendable (Call) async throws -> Answer
    ) -> [Route] {
        [("archive", "Archives \(noun)", true), ("restore", "Brings back \(noun)", false)].map {
            verb, summary, isArchived in
            .post(
                "/v1/\(rows)/{id}/\(verb)", summary, .permitted(.tenantsArchive), status: .ok,
                takesIfMatch: true
            ) { call in
                let target = level(try call.id())
                try await tenants.setArchived(
                    isArchived, target, version: call.version, level: call.level)
                authenticator.forget()
                if isArchived { try await lifecycle.closing.close(target, scope: call.scope) }
                return try await answer(call)
            }.refusing(.conflict)
        }
    }

    private var movingRoutes: [Route] {
        [
            .post(
                "/v1/organizations/{id}/move", "Moves an organization to another partner",
                .permitted(.organizationsWrite), status: .ok, takesIfMatch: true
            ) { (call: Call, move: NewOrganizationMove) in
                if let version = call.version, try await shownOrganization(call).version != version {
                    throw AccessError.changedMeanwhile
                }
                try await lifecycle.mover.move(
                    call.id(), to: move.partnerId, version: call.version, level: call.level)
                authenticator.forget()
                return try await shownOrganization(call)
            }.refusing(.conflict),
            .post(
                "/v1/sites/{id}/move", "Moves a site's devices to a new site of another organization",
                .permitted(.devicesMove)
            ) { (call: Call, move: NewSiteMove) in
                let new = try await lifecycle.mover.move(
                    call.id(), to: move.organizationId, level: call.level)
                return try Site(found(await ledger.siteRow(new, scope: call.scope)))
            }.refusing(.conflict),
            .post(
                "/v1/devices/{id}/move", "Moves a device to another site", .permitted(.devicesMove),
                status: .ok
            ) { (call: Call, move: NewDeviceMove) in
                let id: DeviceID = try call.id()
                try await lifecycle.mover.move(id, to: move.siteId, level: call.level)
                return try await shown(found(await ledger.device(id, scope: call.scope)))
            }.refusing(.conflict),
        ]
    }

    private var offboardingRoutes: [Route] {
        [
            .post(
                "/v1/organizations/{id}/offboard",
                "Gives an organization up: archives it and revokes all that lets devices, keys and people in",
                .permitted(.tenantsArchive), status: .ok
            ) { call in
                let organization: OrganizationID = try call.id()
                let (scope, level) = (try call.scope, try call.level)
                try await tenants.setArchived(true, .organization(organization), version: nil, level: level)
                let (certificates, tokens) = try await ledger.cutCertificates(of: organization, scope: scope)
                let (keys, bindings, users) = try await roles.cutOff(
                    .organization(organization), by: call.principal)
                try await lifecycle.closing.close(.organization(organization), scope: scope)
                return Offboarding(
                    certificatesRevoked: certificates, tokensRevoked: tokens, apiKeysRevoked: keys,
                    rolesTaken: bindings, usersDisabled: users)
            }.refusing(.conflict),
            .get(
                "/v1/organizations/{id}/offboarding",
                "Reports, device by device, how far an organization has been given up",
                .permitted(.tenantsArchive)
            ) { (call: Call, page: PageQuery) in
                let organization: OrganizationID = try call.id()
                _ = try found(await ledger.organization(organization, scope: call.scope))
                let rows = try await ledger.offboarding(of: organization, page.request, scope: call.scope)
                let online = try await presence.online(rows.map { (organization, $0.device) })
                return page.page(rows, id: \.device.value) {
                    DeviceOffboarding(
                        deviceId: $0.device, siteId: $0.site, hostname: $0.hostname,
                        online: online.contains($0.device), lastSeenAt: $0.lastSeenAt, openRuns: $0.openRuns,
                        cutOff: $0.isCutOff)
                }
            },
        ]
    }

    @Sendable private func shownPartner(_ call: Call) async throws -> Partner {
        try Partner(found(await ledger.partner(call.id(), scope: call.scope)))
    }

    @Sendable private func shownOrganization(_ call: Call) async throws -> Organization {
        try Organization(found(await ledger.organization(call.id(), scope: call.scope)))
    }

    @Sendable private func shownSite(_ call: Call) async throws -> Site {
        try Site(found(await ledger.siteRow(call.id(), scope: call.scope)))
    }
}
