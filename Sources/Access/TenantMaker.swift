package import Domain
package import Ledger
import Postgres
package import Trust

/// Makes and edits partners, organizations and sites, each with the MAC of where it belongs, and only within
/// the level of who asks, below rows whose own MACs hold.
package struct TenantMaker: Sendable {
    private let ledger: Ledger
    private let judge: EdgeJudge

    /// A maker on the API's login.
    package init(ledger: Ledger, judge: EdgeJudge) {
        self.ledger = ledger
        self.judge = judge
    }

    // MARK: Making

    /// Makes a partner; only the platform's level may.
    package func createPartner(
        name: String, _ details: TenantDetails = TenantDetails(), level: Level
    ) async throws -> TenantRow {
        guard level == .platform else {
            throw AccessError(.forbidden, "only the platform can make a partner")
        }
        let id = PartnerID.new(at: .now())
        return try await ledger.createPartner(
            id, name: name, details, mac: judge.mac(of: .partner(id)), scope: level.scope)
    }

    /// Makes an organization of a partner that is the level or below it.
    package func createOrganization(
        partner: PartnerID, name: String, _ details: TenantDetails = TenantDetails(), level: Level
    ) async throws -> TenantRow {
        try require(await ledger.edges(of: partner, scope: level.scope), upTo: level, field: "partnerId")
        let id = OrganizationID.new(at: .now())
        return try await knowingTimeZones {
            try await ledger.createOrganization(
                id, partner: partner, name: name, details, mac: judge.mac(of: .organization(id, of: partner)),
                scope: level.scope)
        }
    }

    /// Makes a site of an organization that is the level or below it.
    package func createSite(
        organization: OrganizationID, name: String, _ details: TenantDetails = TenantDetails(), level: Level
    ) async throws -> TenantRow {
        try require(
            await ledger.edges(of: organization, scope: level.scope), upTo: level, field: "organizationId")
        let id = SiteID.new(at: .now())
        return try await knowingTimeZones {
            try await ledger.createSite(
                id, organization: organization, name: name, details,
                mac: judge.mac(of: .site(id, of: organization)), scope: level.scope)
        }
    }

    // MARK: Editing

    /// Edits a partner that is the level or below it.
    package func editPartner(
        _ id: PartnerID, version: Int?, level: Level, _ edit: (inout TenantRow) throws -> Void
    ) async throws -> TenantRow {
        try require(await ledger.edges(of: id, scope: level.scope), upTo: level, evenArchived: true)
        return try await self.edit(version, edit) {
            try await ledger.partner(id, scope: level.scope)
        } write: {
            try await ledger.updatePartner($0, scope: level.scope)
        }
    }

    /// Edits an organization that is the level or below it.
    package func editOrganization(
        _ id: OrganizationID, version: Int?, level: Level, _ edit: (inout TenantRow) throws -> Void
    ) async throws -> TenantRow {
        try require(await ledger.edges(of: id, scope: level.scope), upTo: level, evenArchived: true)
        return try await self.edit(version, edit) {
            try await ledger.organization(id, scope: level.scope)
        } write: {
            try await ledger.updateOrganization($0, scope: level.scope)
        }
    }

    /// Edits a site that is the level or below it.
    package func editSite(
        _ id: SiteID, version: Int?, level: Level, _ edit: (inout TenantRow) throws -> Void
    ) async throws -> TenantRow {
        try require(await ledger.site(id, scope: level.scope)?.edges ?? [], upTo: level, evenArchived: true)
        return try await self.edit(version, edit) {
            try await ledger.siteRow(id, scope: level.scope)
        } write: {
            try await ledger.updateSite($0, scope: level.scope)
        }
    }

    /// Edits what people say of a device of the level.
    package func editDevice(
        _ id: DeviceID, version: Int?, level: Level, _ edit: (inout DeviceRow) throws -> Void
    ) async throws -> DeviceRow {
        guard let place = try await ledger.places(of: [id], scope: level.scope)[id] else {
            throw AccessError.nothingHere
        }
        try require([place.edge] + place.site.edges, upTo: level, evenArchived: true)
        return try await self.edit(version, edit) {
            try await ledger.device(id, scope: level.scope)
        } write: {
            try await ledger.updateDevice($0, scope: level.scope)
        }
    }

    // MARK: Archiving

    /// Archives a partner, an organization or a site, or brings it back. Who does it is above it: nobody
    /// locks themselves out.
    package func setArchived(
        _ isArchived: Bool, _ target: Level, version: Int?, level: Level
    ) async throws {
        try await requireAbove(target, level: level)
        switch try await ledger.setArchived(isArchived, target, version: version, scope: level.scope) {
        case .done: break
        case .changedMeanwhile: throw AccessError.changedMeanwhile
        case .missing: throw AccessError.nothingHere
        case .closed: throw AccessError(.archived, "a level above is archived: restore that first")
        }
    }

    // MARK: Erasing

    /// What may be erased of a level that is below the caller's; `nil` once it is being erased.
    package func erasable(_ target: Level, level: Level) async throws -> Erasable? {
        guard let erasable = try await ledger.erasable(target, scope: level.scope) else { return nil }
        try await requireAbove(target, level: level)
        return erasable
    }

    /// Refuses to erase what is not archived, is called otherwise or was not exported as it is; a partner is
    /// erased after its organizations. Who does it is above it.
    /// - Returns: the version that may be erased.
    package func requireErasable(
        _ target: Level, name: String, version: Int?, level: Level
    ) async throws -> Int {
        guard let found = try await erasable(target, level: level) else { throw AccessError.nothingHere }
        if let version, version != found.version { throw AccessError.changedMeanwhile }
        guard found.name == name else {
            throw AccessError(.invalid, field: "name", "is not what it is called: send its name, exactly")
        }
        guard found.isArchived else {
            throw AccessError(.conflict, "it is in use: archive it first, and then export it")
        }
        switch target {
        case .partner(let partner):
            let below = try await ledger.organizations(
                partner: partner, PageRequest(after: nil, limit: 1), scope: level.scope)
            guard below.isEmpty else {
                throw AccessError(.conflict, "it still has organizations: erase or move them first")
            }
        default:
            guard found.exportedVersion == found.version else {
                throw AccessError(
                    .conflict, "it was not exported as it is: export all of it first, and keep the archive")
            }
        }
        return found.version
    }

    /// Deletes a site that is archived, has no devices and lets nobody in.
    package func deleteSite(_ id: SiteID, version: Int?, level: Level) async throws {
        try await requireAbove(.site(id), level: level)
        guard let row = try await ledger.siteRow(id, scope: level.scope) else {
            throw AccessError.nothingHere
        }
        if let version, version != row.version { throw AccessError.changedMeanwhile }
        guard try await ledger.deleteSite(id, version: row.version, scope: level.scope) else {
            throw AccessError(
                .conflict,
                "it is not archived, or has devices, API keys or people with roles on it: archive it, move "
                    + "or delete its devices, and revoke those first")
        }
    }

    /// Deletes a device that is archived and has no open runs. What its runs brought stays with their jobs.
    package func deleteDevice(_ id: DeviceID, version: Int?, level: Level) async throws {
        guard let place = try await ledger.places(of: [id], scope: level.scope)[id],
            let row = try await ledger.device(id, scope: level.scope)
        else { throw AccessError.nothingHere }
        try require([place.edge] + place.site.edges, upTo: level, evenArchived: true)
        if let version, version != row.version { throw AccessError.changedMeanwhile }
        guard
            try await ledger.deleteDevice(
                id, of: row.organization, version: row.version, scope: level.scope)
        else {
            throw AccessError(.conflict, "it is not archived, or has open runs: archive it first")
        }
    }

    /// Refuses who does not see the target, and who is no more than the target itself.
    package func requireAbove(_ target: Level, level: Level) async throws {
        let edges: [SealedEdge] =
            switch target {
            case .platform, .organizations: []
            case .partner(let id): try await ledger.edges(of: id, scope: level.scope)
            case .organization(let id): try await ledger.edges(of: id, scope: level.scope)
            case .site(let id): try await ledger.site(id, scope: level.scope)?.edges ?? []
            }
        try require(edges, upTo: level, evenArchived: true)
        guard !level.includes(target) else {
            throw AccessError(.forbidden, "this is for somebody who is above it, not for its own people")
        }
    }

    /// How often an edit without a version is tried again when somebody else was faster.
    private static let attemptsMax = 10

    private func edit<Row: EditedRow>(
        _ version: Int?, _ edit: (inout Row) throws -> Void,
        read: () async throws -> Row?, write: (Row) async throws -> Row?
    ) async throws -> Row {
        for _ in 0..<Self.attemptsMax {
            guard var row = try await read() else { throw AccessError.nothingHere }
            if let version, version != row.version { throw AccessError.changedMeanwhile }
            try edit(&row)
            row.version += 1
            if let written = try await knowingTimeZones({ try await write(row) }) { return written }
        }
        throw AccessError.changedMeanwhile
    }

    private func knowingTimeZones<Value>(_ body: () async throws -> Value) async throws -> Value {
        do {
            return try await body()
        } catch  where Ledger.isUnknownTimeZone(error) {
            throw AccessError(.invalid, field: "timeZone", "there is no such time zone")
        }
    }

    private func require(
        _ edges: [SealedEdge], upTo level: Level, field: String? = nil, evenArchived: Bool = false
    ) throws(AccessError) {
        do throws(EdgeRefusal) {
            try judge.require(edges, upTo: level, evenArchived: evenArchived)
        } catch {
            throw AccessError(error, field: field)
        }
    }
}

/// A row whose edits are counted.
private protocol EditedRow {
    var version: Int { get set }
}

extension TenantRow: EditedRow {}
extension DeviceRow: EditedRow {}
