import Domain
import Ledger
import Logging
import Postgres

extension Reconciler {
    /// Goes round all organizations, a page at a time: each is compared every quarter of an hour.
    func usage() async {
        var last = OrganizationID(.zero)
        await repeating(every: .milliseconds(200), idle: .seconds(60), logger, "use of quotas") {
            let next = try await self.checkUsage(after: last)
            last = next ?? OrganizationID(.zero)
            return next != nil
        }
    }

    /// Compares the use of those of a page of organizations that are due, one after the other. Returns where
    /// the next page begins; `nil` after the last, or if another worker is at it.
    func checkUsage(
        after last: OrganizationID, limit: Int = 256
    ) async throws -> OrganizationID? {
        let (due, next) = try await ledger.usageChecksDue(after: last, limit: limit)
        for organization in due {
            try Task.checkCancellation()
            do {
                switch try await ledger.checkUsage(of: organization) {
                case .busy: return nil
                case .early, .right: break
                case .mended(let difference):
                    front.metrics.count(.usageCorrections)
                    logger.notice(
                        "use of a quota corrected",
                        metadata: [
                            "organization.id": "\(organization)", "runs": "\(difference.runs)",
                            "bytes": "\(difference.bytes)",
                        ])
                }
            } catch let error as PostgresError where error.isOfStatement {
                // What cannot be counted holds up no other, nor the servers again and again.
                try await ledger.postponeUsageCheck(of: organization)
                logger.warning(
                    "the use of a quota cannot be compared and is tried later",
                    metadata: ["organization.id": "\(organization)", "error": "\(error)"])
            }
        }
        return next
    }
}
