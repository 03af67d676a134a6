package import Domain
import Postgres

/// What a comparison of an organization's use with its jobs and runs has come to.
package enum UsageCheck: Sendable, Hashable {
    /// Another worker compares just now.
    case busy
    /// It was compared not long ago.
    case early
    /// The use was what jobs and runs come to.
    case right
    /// The use was wrong, and so much was added to it.
    case mended(OpenWork)
}

extension Ledger {
    /// How long after a comparison the next is due, at least; and how many times as long as it took.
    package static let usageCheckSeconds = 900
    private static let usageCheckTimes = 500

    /// The organizations whose use is to be compared, of so many after the given one in the order of ids.
    /// - Returns: also where to go on if there may be more.
    package func usageChecksDue(
        after last: OrganizationID, limit: Int
    ) async throws -> (due: [OrganizationID], next: OrganizationID?) {
        let page = try await pool.query(
            """
            SELECT o.id, coalesce(c.due_at <= now(), true)
            FROM (SELECT id FROM organizations WHERE id > \(last) ORDER BY id LIMIT \(limit)) o
            LEFT JOIN LATERAL (
                SELECT * FROM queue_usage_checks c WHERE c.organization_id = o.id OFFSET 0
            ) c ON true
            ORDER BY o.id
            """, scope: .platform
        ) { row in try row.decode((OrganizationID, Bool).self) }
        return (page.filter(\.1).map(\.0), page.count < limit ? nil : page.last?.0)
    }

    /// Compares what an organization's use says with what its jobs and runs come to, and adds the difference
    /// as a delta.
    ///
    /// Row, deltas, jobs and runs are read by one statement, so with one snapshot. Whoever changes jobs or
    /// runs changes the use in the same commit, by the same amount: in every snapshot both agree, or differ
    /// by what went wrong before, whatever is under way. So nothing of the use is locked, no folder is kept
    /// waiting, and the difference is right whenever it is added. It must be added once: one worker compares
    /// at a time, and its snapshot is younger than the lock, so it has what an earlier one added.
    package func checkUsage(of organization: OrganizationID) async throws -> UsageCheck {
        try await pool.transaction(scope: .organization(organization)) { transaction in
            let isFree = try await transaction.query(
                "SELECT pg_try_advisory_xact_lock(hashtext('crmm usage'))"
            ) { row in try row.decode(Bool.self) }
            guard isFree == [true] else { return .busy }
            let isEarly = try await transaction.query(
                "SELECT due_at > now() FROM queue_usage_checks WHERE organization_id = \(organization)"
            ) { row in try row.decode(Bool.self) }
            guard isEarly != [true] else { return .early }
            let difference = try await transaction.query(
                Self.usageCheck(of: organization), timeout: .seconds(120)
            ) { row in
                let (runs, bytes) = try row.decode((Int, Int).self)
                return OpenWork(runs: runs, bytes: bytes)
            }.first
            guard let difference, difference != OpenWork() else { return .right }
            return .mended(difference)
        }
    }

    /// Puts the comparison of an organization off that could not be carried out: by a day.
    package func postponeUsageCheck(of organization: OrganizationID) async throws {
        try await pool.execute(
            """
            INSERT INTO queue_usage_checks (organization_id, due_at)
            VALUES (\(organization), now() + interval '1 day')
            ON CONFLICT (organization_id) DO UPDATE SET due_at = excluded.due_at
            """, scope: .organization(organization))
    }

    // Jobs that are open have open runs, or deltas that no folder has seen, or a target that is not wholly
    // expanded: there is no index of them, for every settlement would write it. A run counts as open until
    // the delta of its end is folded, as in the use.
    private static func usageCheck(of organization: OrganizationID) -> SQL {
        """
        WITH parts AS (
            SELECT job_id, 1::bigint AS runs FROM (\(fragment: openRuns(of: organization))) r
            UNION ALL
            SELECT job_id, CASE WHEN outcome = 0 THEN 0 ELSE n END FROM job_deltas
            WHERE organization_id = \(organization)
            UNION ALL
            SELECT id, charged - expanded FROM jobs
            WHERE organization_id = \(organization) AND total IS NULL
        ), counted AS MATERIALIZED (
            SELECT coalesce(sum(p.runs), 0)::bigint AS runs, coalesce(sum(j.bytes), 0)::bigint AS bytes
            FROM (SELECT job_id, sum(runs) AS runs FROM parts GROUP BY 1) p
            CROSS JOIN LATERAL (
                SELECT state, \(fragment: jobBytes) AS bytes FROM jobs
                WHERE id = p.job_id AND organization_id = \(organization) OFFSET 0
            ) j
            WHERE j.state < 10
        ), known AS MATERIALIZED (
            SELECT coalesce(sum(runs), 0)::bigint AS runs, coalesce(sum(bytes), 0)::bigint AS bytes
            FROM (
                SELECT runs, bytes FROM queue_usage WHERE organization_id = \(organization)
                UNION ALL
                SELECT runs, bytes FROM queue_usage_deltas WHERE organization_id = \(organization)
            ) u
        ), difference AS MATERIALIZED (
            SELECT c.runs - k.runs AS runs, c.bytes - k.bytes AS bytes FROM counted c, known k
        ), mended AS (
            INSERT INTO queue_usage_deltas (organization_id, runs, bytes)
            SELECT \(organization), runs, bytes FROM difference WHERE runs <> 0 OR bytes <> 0
        ), noted AS (
            INSERT INTO queue_usage_checks (organization_id, due_at)
            SELECT \(organization),
                   now() + greatest(make_interval(secs => \(Double(usageCheckSeconds))),
                                    \(usageCheckTimes) * (clock_timestamp() - statement_timestamp()))
            FROM difference
            ON CONFLICT (organization_id) DO UPDATE SET due_at = excluded.due_at
        )
        SELECT runs, bytes FROM difference
        """
    }

    // The jobs of an organization's open runs, each state by its index; that of the first is there for who
    // says its condition in these words.
    private static func openRuns(of organization: OrganizationID) -> SQL {
        """
        SELECT job_id FROM runs WHERE organization_id = \(organization) AND (state = 0) IS TRUE
        UNION ALL
        SELECT job_id FROM runs WHERE organization_id = \(organization) AND state = 1
        UNION ALL
        SELECT job_id FROM runs WHERE organization_id = \(organization) AND state = 2
        UNION ALL
        SELECT job_id FROM runs WHERE organization_id = \(organization) AND state IN (3, 4)
        """
    }
}
