package import Domain
package import Ledger
package import Postgres
package import Trust

/// Makes partners, organizations and sites, each with the MAC of where it belongs, and only below a row whose
/// own MAC holds.
package struct TenantMaker: Sendable {
    private let ledger: Ledger
    private let judge: EdgeJudge

    /// A maker on the API's login.
    package init(ledger: Ledger, judge: EdgeJudge) {
        self.ledger = ledger
        self.judge = judge
    }

    /// Makes a partner; only the platform's scope may.
    package func createPartner(name: String, scope: Scope) async throws -> TenantRow {
        let id = PartnerID.new(at: .now())
        return try await ledger.createPartner(id, name: name, mac: judge.mac(of: .partner(id)), scope: scope)
    }

    /// Makes an organization of a partner that the scope sees.
    package func createOrganization(
        partner: PartnerID, name: String, scope: Scope
    ) async throws -> TenantRow {
        try check(await ledger.edges(of: partner, scope: scope), field: "partnerId")
        let id = OrganizationID.new(at: .now())
        return try await ledger.createOrganization(
            id, partner: partner, name: name, mac: judge.mac(of: .organization(id, of: partner)),
            scope: scope)
    }

    /// Makes a site of an organization that the scope sees.
    package func createSite(
        organization: OrganizationID, name: String, scope: Scope
    ) async throws -> TenantRow {
        try check(await ledger.edges(of: organization, scope: scope), field: "organizationId")
        let id = SiteID.new(at: .now())
        return try await ledger.createSite(
            id, organization: organization, name: name, mac: judge.mac(of: .site(id, of: organization)),
            scope: scope)
    }

    /// Whether there is a row at all is the statement's to find that makes the one below it.
    private func check(_ edges: [SealedEdge], field: String) throws(AccessError) {
        if let altered = judge.firstAltered(of: edges) {
            throw AccessError(.alteredRow, field: field, altered.refusal)
        }
    }
}
