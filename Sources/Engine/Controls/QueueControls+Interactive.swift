package import Domain
package import Ledger
package import Wire

/// How many interactive runs of an organization go before its standard ones: a matter of its own queues
/// alone, so whoever may pause it may set it.
extension QueueControls {
    /// What was set; nothing for the defaults.
    package func interactive(of organization: OrganizationID, level: Level) async throws -> InteractiveBucket
    {
        try await require(organization, level, evenArchived: true)
        let limits = try await ledger.limits(of: [organization], scope: .organization(organization)).first
        guard let limits else { throw Self.unseen }
        return InteractiveBucket(limits)
    }

    /// Sets the bucket, which is full then and acts at once.
    package func limitInteractive(
        _ organization: OrganizationID, _ new: InteractiveBucket, level: Level
    ) async throws -> InteractiveBucket {
        try await require(organization, level)
        let isSet = try await ledger.setInteractive(
            rate: new.perMinute.map { $0 / 60 }, burst: new.burst, of: organization,
            scope: .organization(organization))
        guard isSet else { throw Self.unseen }
        await follow(organization) { try await $0.bring([organization]) }
        return new
    }
}

extension InteractiveBucket {
    /// What is kept by the second, as it is shown by the minute.
    package init(_ limits: OrganizationLimits) {
        self.init(
            perMinute: limits.interactiveRate.map { ($0 * 60 * 1_000).rounded() / 1_000 },
            burst: limits.interactiveBurst)
    }
}
