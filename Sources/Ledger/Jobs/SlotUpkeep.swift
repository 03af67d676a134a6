import Domain
import Postgres

/// Where a look through all slots goes on.
package struct SlotPlace: Sendable, Equatable {
    let organization: OrganizationID
    let place: UniqueID
    let key: String

    /// Before the first.
    package static let start = SlotPlace(organization: OrganizationID(.zero), place: .zero, key: "")
}

extension Ledger {
    /// Removes slots whose jobs hold them no more, of so many behind the given place: nobody pays for them
    /// when a run ends, and whoever wants such a key finds no slot and makes one.
    /// - Returns: how many were removed, and where to go on if there may be more.
    package func removeSlots(
        after last: SlotPlace = .start, limit: Int = 1_000
    ) async throws -> (removed: Int, next: SlotPlace?) {
        let rows = try await pool.query(
            """
            WITH page AS MATERIALIZED (
                SELECT organization_id, place, key,
                       crmm_holds(organization_id, job_id, while_running) AS held
                FROM (SELECT * FROM job_slots
                      WHERE (organization_id, place, key) >
                            (\(last.organization), \(JobID(last.place)), \(last.key))
                      ORDER BY organization_id, place, key LIMIT \(limit)) s
            ), removed AS (
                -- Asked again once the row was waited for: who wanted the key meanwhile has committed, and
                -- his job holds it.
                DELETE FROM job_slots s
                USING (SELECT * FROM page WHERE NOT held
                       ORDER BY organization_id, place, key OFFSET 0) p
                WHERE s.organization_id = ANY (ARRAY[p.organization_id]) AND s.place = ANY (ARRAY[p.place])
                  AND s.key = ANY (ARRAY[p.key])
                  AND NOT crmm_holds(s.organization_id, s.job_id, s.while_running)
                RETURNING 1
            )
            SELECT (SELECT count(*) FROM removed), organization_id, place, key FROM page
            ORDER BY organization_id, place, key
            """, scope: .platform
        ) { row in try row.decode((Int, OrganizationID, JobID, String).self) }
        guard let (removed, organization, place, key) = rows.last else { return (0, nil) }
        let next = SlotPlace(organization: organization, place: place.value, key: key)
        return (removed, rows.count < limit ? nil : next)
    }
}
