package import Domain
package import Ledger
import Logging
package import Wire

/// How much an organization may have open.
extension QueueControls {
    /// What it has open, and how much it may.
    package func quota(of organization: OrganizationID, level: Level) async throws -> QueueQuota {
        try await require(organization, level, evenArchived: true)
        return try await quota(of: organization)
    }

    /// Sets how much it may have open; what is absent holds by default. Submissions heed it within
    /// `QuotaWatch.life`; what is open already stays.
    package func setQuota(
        _ new: NewQuota, of organization: OrganizationID, by principal: PrincipalID, level: Level
    ) async throws -> QueueQuota {
        try await requireAbove(organization, level)
        try await ledger.setOpenWorkMax(
            runs: new.openRuns, bytes: new.openBytes, of: organization, scope: .organization(organization))
        note("quota set", QueueScope(organization: organization), by: principal)
        return try await quota(of: organization)
    }

    private func quota(of organization: OrganizationID) async throws -> QueueQuota {
        let rows = try await ledger.openWork(of: [organization], scope: .organization(organization))
        guard let row = rows[organization] else {
            throw EngineError(.notFound, "there is no organization with this id")
        }
        return QueueQuota(row)
    }
}

extension QueueQuota {
    /// A row as it is shown.
    package init(_ row: OpenWorkRow) {
        self.init(
            openRuns: QuotaUse(used: row.used.runs, limit: row.runsLimit, isDefault: row.runsMax == nil),
            openBytes: QuotaUse(used: row.used.bytes, limit: row.bytesLimit, isDefault: row.bytesMax == nil))
    }
}
