package import Domain
package import Ledger
package import Postgres

/// Ends what goes on in a part of the tenancy that was archived, or on a device that was: open runs and the
/// sessions of agents.
///
/// PostgreSQL knows already what has ended: jobs of what is archived have the request to be cancelled, so the
/// mark lets nothing of them out, and no device of it may hold a session, for which a gateway looks through
/// those that it has. This hastens it, and ends besides, on an archived site or device, the runs of wider
/// jobs: if it is cut off those wait, without a session, until it is repeated or they expire.
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
            try await cancelRuns(place.organization, site: site, device: nil)
            try await endSessions(place.organization, site: site, scope: scope)
        }
    }

    /// Ends a device's session; and its runs, unless it may come back to them.
    package func close(
        _ device: DeviceID, of organization: OrganizationID, endingRuns: Bool
    ) async throws {
        if endingRuns { try await cancelRuns(organization, site: nil, device: device) }
        await endSessions(of: [(organization, device)])
    }

    /// Takes runs that have ended out of the queue, and has gateways told of those that are to be cancelled.
    func tell(ended: [SettledRun], sent: [CancelledRun]) async {
        await front.ended(ended)
        await front.tellCancelled(sent)
    }

    /// Has the sessions of devices ended.
    func endSessions(of devices: [(OrganizationID, DeviceID)]) async {
        await front.endSessions(of: devices)
    }

    private func cancelRuns(
        _ organization: OrganizationID, site: SiteID?, device: DeviceID?
    ) async throws {
        while true {
            let (ended, sent) = try await ledger.cancelRuns(
                ofSite: site, device: device, organization: organization)
            guard !ended.isEmpty || !sent.isEmpty else { return }
            await tell(ended: ended, sent: sent)
        }
    }

    private func endSessions(_ organization: OrganizationID, site: SiteID?, scope: Scope) async throws {
        var last = DeviceID(.zero)
        while true {
            let page = try await ledger.deviceIDs(
                organization: organization, site: site, after: last, limit: Self.pageMax, scope: scope)
            await endSessions(of: page.map { (organization, $0) })
            guard page.count == Self.pageMax, let end = page.last else { return }
            last = end
        }
    }

    private static let pageMax = 1_000
}
