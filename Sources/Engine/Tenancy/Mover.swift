package import Domain
package import Ledger
import Postgres
package import Trust
import Wire

/// Moves devices, sites and organizations.
///
/// Both sides are within the reach of who asks, judged by the MACs of their rows. What a device believes is
/// its assignment, so each device gets a new one with a higher version; all that is taken over from the old
/// one is taken from the statement that this installation signed, never from a row.
package struct Mover: Sendable {
    private let ledger: Ledger
    private let signer: Signer
    private let judge: EdgeJudge
    private let closing: Closing

    /// A mover on the API's login.
    package init(ledger: Ledger, signer: Signer, judge: EdgeJudge, closing: Closing) {
        self.ledger = ledger
        self.signer = signer
        self.judge = judge
        self.closing = closing
    }

    /// Moves a device to another site, of its organization or another. What it has open for an organization
    /// that it leaves ends with it.
    package func move(_ device: DeviceID, to site: SiteID, level: Level) async throws {
        let unseen = EngineError(.notFound, "there is no device with this id")
        guard let place = try await ledger.places(of: [device], scope: level.scope)[device] else {
            throw unseen
        }
        try require([place.edge] + place.site.edges, upTo: level, else: unseen)
        let target = try await self.target(site, level: level)
        guard try await move([device], to: target) == 1 else { throw Self.changed }
    }

    /// Moves a site to another organization: a site of the same name is made there, the devices move to it,
    /// and the site that they leave is archived with its history, which is its organization's. Who is bound
    /// to the old site is not bound to the new one. May be repeated with the same outcome.
    /// - Returns: the new site's id.
    package func move(_ site: SiteID, to organization: OrganizationID, level: Level) async throws -> SiteID {
        let unseen = EngineError(.notFound, "there is no site with this id")
        let place = try await ledger.site(site, scope: level.scope)
        // One that was left before is archived: then nothing but the rest is to be done.
        try require(place?.edges ?? [], upTo: level, else: unseen, evenArchived: true)
        let field = EngineError(.invalid, field: "organizationId", "names no organization that you may see")
        try require(await ledger.edges(of: organization, scope: level.scope), upTo: level, else: field)
        guard let place, let row = try await ledger.siteRow(site, scope: level.scope) else { throw unseen }
        guard place.organization != organization else {
            throw EngineError(.conflict, field: "organizationId", "is where the site is")
        }
        let new = Self.successor(of: site, in: organization)
        if try await ledger.siteRow(new, scope: level.scope) == nil {
            _ = try await ledger.createSite(
                new, organization: organization, name: row.name,
                TenantDetails(text: row.contacts, timeZone: row.timeZone),
                mac: judge.mac(of: .site(new, of: organization)), scope: level.scope)
        }
        let target = try await self.target(new, level: level)
        try await moveAll(of: place.organization, site: site, scope: level.scope) { _ in target }
        _ = try await ledger.setArchived(true, .site(site), version: nil, scope: level.scope)
        try await closing.close(.site(site), scope: level.scope)
        return new
    }

    /// Puts an organization below another partner, and tells its devices.
    package func move(
        _ organization: OrganizationID, to partner: PartnerID, version: Int?, level: Level
    ) async throws {
        let unseen = EngineError(.notFound, "there is no organization with this id")
        try require(await ledger.edges(of: organization, scope: level.scope), upTo: level, else: unseen)
        guard level == .platform else {
            throw EngineError(.forbidden, "only the platform is above two partners")
        }
        let field = EngineError(.invalid, field: "partnerId", "names no partner that you may see")
        try require(await ledger.edges(of: partner, scope: level.scope), upTo: level, else: field)
        guard let row = try await ledger.organization(organization, scope: level.scope) else { throw unseen }
        if row.partner != partner {
            let isMoved = try await ledger.moveOrganization(
                organization, to: partner, mac: judge.mac(of: .organization(organization, of: partner)),
                version: version ?? row.version)
            guard isMoved else { throw Self.changed }
        }
        try await moveAll(of: organization, site: nil, scope: .platform) { device in
            guard device.organization == organization else { return nil }
            let place = try await ledger.site(device.site, scope: .platform)
            try require(place?.edges ?? [], upTo: .platform, else: unseen, evenArchived: true)
            return place
        }
    }

    // MARK: Steps

    /// A site to which devices may be moved, with its partner.
    private func target(_ site: SiteID, level: Level) async throws -> SitePlace {
        let unseen = EngineError(.invalid, field: "siteId", "names no site that you may see")
        try require(
            await ledger.site(site, scope: level.scope)?.edges ?? [], upTo: level, else: unseen)
        let place = try await ledger.site(site, scope: .platform)
        try require(place?.edges ?? [], upTo: .platform, else: unseen)
        guard let place else { throw unseen }
        return place
    }

    private func moveAll(
        of organization: OrganizationID, site: SiteID?, scope: Scope,
        to target: (Assigned) async throws -> SitePlace?
    ) async throws {
        var last = DeviceID(.zero)
        while true {
            let page = try await ledger.deviceIDs(
                organization: organization, site: site, after: last, limit: Self.pageMax, scope: scope)
            var bySite: [SiteID: [Assigned]] = [:]
            for device in try await ledger.assigned(page, scope: scope) {
                bySite[device.site, default: []].append(device)
            }
            for devices in bySite.values {
                guard let first = devices.first, let place = try await target(first) else { continue }
                _ = try await move(devices, to: place)
            }
            guard page.count == Self.pageMax, let end = page.last else { return }
            last = end
        }
    }

    private func move(_ devices: [DeviceID], to place: SitePlace) async throws -> Int {
        try await move(try await ledger.assigned(devices, scope: .platform), to: place)
    }

    /// Signs a new assignment for each device and writes all, and then hastens what follows.
    private func move(_ devices: [Assigned], to place: SitePlace) async throws -> Int {
        guard let partner = place.partner else { preconditionFailure("the platform sees the partner") }
        let now = Instant.now()
        let reassigned = try devices.map { device in
            let held = try verified(device, now: now)
            let new = signer.sign(
                AssignmentPayload(
                    device: device.device, keyHash: held.keyHash.bytes, partner: partner, site: place.site,
                    version: device.version + 1),
                organization: place.organization, now: now)
            return Reassigned(
                before: device, assignment: new.encoded,
                mac: judge.mac(of: .device(device.device, at: place.site, of: place.organization)))
        }
        let (moved, ended, sent) = try await ledger.reassign(reassigned, to: place)
        await closing.tell(ended: ended, sent: sent)
        await closing.endSessions(
            of: devices.filter { moved.contains($0.device) }.map { ($0.organization, $0.device) })
        return moved.count
    }

    /// What the statement says that this installation signed for the device.
    private func verified(_ device: Assigned, now: Instant) throws(EngineError) -> AssignmentPayload {
        do throws(EngineError) {
            return try signer.verified(device, now: now)
        } catch {
            // The caller learns that, and not what is wrong with it.
            throw Self.altered
        }
    }

    private func require(
        _ edges: [SealedEdge], upTo level: Level, else unseen: EngineError, evenArchived: Bool = false
    ) throws(EngineError) {
        do throws(EdgeRefusal) {
            try judge.require(edges, upTo: level, evenArchived: evenArchived)
        } catch {
            throw EngineError(error, unseen: unseen)
        }
    }

    /// The id of the site that takes a site's place in another organization: always the same, so that a move
    /// which was cut off goes on.
    private static func successor(of site: SiteID, in organization: OrganizationID) -> SiteID {
        var bytes = Array(SHA256.hash(Array("site move".utf8) + site.bytes + organization.bytes).prefix(16))
        // Of its own time, and a version 7 UUID by form.
        bytes.replaceSubrange(0..<6, with: site.bytes.prefix(6))
        bytes[6] = bytes[6] & 0x0F | 0x70
        bytes[8] = bytes[8] & 0x3F | 0x80
        guard let id = UniqueID(bytes: bytes) else { preconditionFailure("16 bytes are an id") }
        return SiteID(id)
    }

    private static let changed = EngineError(
        .conflict, "it was changed or moved meanwhile; read it again")
    private static let altered = EngineError(
        .alteredRow, "the assignment of a device was altered outside the API, so it is not signed again")
    private static let pageMax = 500
}
