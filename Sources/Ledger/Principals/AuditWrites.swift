package import Domain
import Postgres

extension Ledger {
    /// Notes an attempt that was refused, in the log of the level of who tried; by the task's `Actor`.
    package func noteRefusal(action: String, code: String, at level: Level) async throws {
        var (partner, organization): (PartnerID?, OrganizationID?)
        switch level {
        case .partner(let id): partner = id
        case .organization(let id): organization = id
        case .platform, .organizations, .site: break
        }
        try await pool.execute(
            "SELECT crmm_audit_refusal(\(organization), \(partner), \(action), NULL, \(code))",
            scope: .platform)
    }
}
