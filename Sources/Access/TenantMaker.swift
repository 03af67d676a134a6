package import Domain
package import Ledger
import Postgres
package import Trust

/// Makes partners, organizations and sites, each with the MAC of where it belongs, and only within the level
/// of who asks, below rows whose own MACs hold.
package struct TenantMaker: Sendable {
    private let ledger: Ledger
    private let judge: EdgeJudge

    /// A maker on the API's login.
    package init(ledger: Ledger, judge: EdgeJudge) {
        self.ledger = ledger
        self.judge = judge
    }

    /// Makes a partner; only the platform's level may.
    package func createPartner(name: String, level: Level) async throws -> TenantRow {
        guard level == .platform else {
            throw AccessError(.forbidden, "only a key of the platform can make a partner")
        }
        let id = PartnerID.new(at: .now())
        return try await ledger.createPartner(
            id, name: name, mac: judge.mac(of: .partner(id)), scope: level.scope)
    }

    /// Makes an organization of a partner that is the level or below it.
    package func createOrganization(
        partner: PartnerID, name: String, level: Level
    ) async throws -> TenantRow {
        try require(await ledger.edges(of: partner, scope: level.scope), upTo: level, field: "partnerId")
        let id = OrganizationID.new(at: .now())
        return try await ledger.createOrganization(
            id, partner: partner, name: name, mac: judge.mac(of: .organization(id, of: partner)),
            scope: level.scope)
    }

    /// Makes a site of an organization that is the level or below it.
    package func createSite(
        organization: OrganizationID, name: String, level: Level
    ) async throws -> TenantRow {
        try require(
            await ledger.edges(of: organization, scope: level.scope), upTo: level, field: "organizationId")
        let id = SiteID.new(at: .now())
        return try await ledger.createSite(
            id, organization: organization, name: name, mac: judge.mac(of: .site(id, of: organization)),
            scope: level.scope)
    }

    private func require(
        _ edges: [SealedEdge], upTo level: Level, field: String
    ) throws(AccessError) {
        do throws(EdgeRefusal) {
            try judge.require(edges, upTo: level)
        } catch {
            throw AccessError(error, field: field)
        }
    }
}
