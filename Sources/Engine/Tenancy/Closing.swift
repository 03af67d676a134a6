package import Domain
package import Ledger
package import Postgres

/// Ends what goes on in a part of the tenancy that was archived, or on a device that was: open runs and the
/// sessions of agents.
///
/// PostgreSQL knows already that nothing of it may go on: the mark lets no run out, and a gateway looks
/// through its sessions. This is only faster, and may be repeated.
package struct Closing: Sendable {
    private let ledger: Ledger
    private let submitter: Submitter
    private let front: QueueFront

    /// On the API's login.
    package init(ledger: Ledger, submitter: Submitter, front: QueueFront) {
        self.ledger = ledger
        self.submitter = submitter
        self.front = front
    }

    /// Ends what goes on below a partner, an organization or a site that is archived.
    package func close(_ level: Level, scope: Scope) async throws {
        switch level {
        case .platform, .organizations: preconditionFailure("one row is archived at a time")
        case .partner(let partner):
            var last: UniqueID?
            repeat {
                let page = try await ledger.organizations(
                    partner: partner, PageRequest(after: last, limit: Self.pageMax), scope: scope)
                for row in page { try await close(.organization(OrganizationID(row.id)), scope: scope) }
                last = page.count == Self.pageMax ? page.last?.id : nil
            } while last != nil
        case .organization(let organization):
            try await submitter.cancelRuns(of: nil, organization: organization, scope: scope)
            try await endSessions(organization, site: nil, scope: scope)
        case .site(let site):
            guard let place = try await ledger.site(site, scope: scope) else { return }
            try await submitter.cancelRuns(of: nil, organization: place.organization, scope: scope)
            try await cancelRuns(place.organization, site: site, device: nil, reason: "archived")
            try await endSessions(place.organization, site: site, scope: scope)
        }
    }

    /// Ends a device's session; and its runs, unless it may come back to them.
    package func close(
        _ device: DeviceID, of organization: OrganizationID, endingRuns reason: String?
    ) async throws {
        if let reason { try await cancelRuns(organization, site: nil, device: device, reason: reason) }
        await front.endSessions(of: [(organization, device)])
    }

    private func cancelRuns(
        _ organization: OrganizationID, site: SiteID?, device: DeviceID?, reason: String
    ) async throws {
        while true {
            let (ended, sent) = try await ledger.cancelRuns(
                ofSite: site, device: device, organization: organization, reason: reason)
            guard !ended.isEmpty || !sent.isEmpty else { return }
            await front.ended(ended)
            await front.tellCancelled(sent)
        }
    }

    private func endSessions(_ organization: OrganizationID, site: SiteID?, scope: Scope) async throws {
        var last = DeviceID(.zero)
        while true {
            let page = try await ledger.deviceIDs(
                organization: organization, site: site, after: last, limit: Self.pageMax, scope: scope)
            await front.endSessions(of: page.map { (organization, $0) })
            guard page.count == Self.pageMax, let end = page.last else { return }
            last = end
        }
    }

    private static let pageMax = 1_000
}
