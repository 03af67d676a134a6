package import Domain
package import Postgres

/// Open runs and bytes of open jobs.
package struct OpenWork: Sendable, Hashable {
    /// Runs that have not ended, those of targets that are not wholly expanded included.
    package var runs: Int
    /// Bytes of statements and lists of devices of jobs that have not ended.
    package var bytes: Int

    /// So much work.
    package init(runs: Int = 0, bytes: Int = 0) {
        self.runs = runs
        self.bytes = bytes
    }

    /// Both added.
    package static func + (left: OpenWork, right: OpenWork) -> OpenWork {
        OpenWork(runs: left.runs + right.runs, bytes: left.bytes + right.bytes)
    }

    /// The difference.
    package static func - (left: OpenWork, right: OpenWork) -> OpenWork {
        OpenWork(runs: left.runs - right.runs, bytes: left.bytes - right.bytes)
    }
}

/// What an organization has open, and what was set for it.
package struct OpenWorkRow: Sendable, Hashable {
    /// What it has open: never below nothing.
    package let used: OpenWork
    /// What it may have; `nil` is the default.
    package let runsMax: Int?
    package let bytesMax: Int?
}

extension SubmittedJob {
    /// What it adds to its organization's open work.
    package var work: OpenWork {
        OpenWork(
            runs: devices?.count ?? expectedRuns,
            bytes: statement.count + (devices.map { $0.count > 1 ? $0.count * 16 : 0 } ?? 0))
    }
}

extension Ledger {
    // What a row of jobs counts for in bytes. Neither column is unpacked for it.
    static let jobBytes: SQL = "octet_length(statement) + coalesce(octet_length(target_devices), 0)"

    // Tells the use of organizations, in the same commit, what a table (organization_id, runs, bytes) adds: a
    // row each.
    static func openedWork(from table: SQL) -> SQL {
        """
        work AS (
            INSERT INTO queue_usage_deltas (organization_id, runs, bytes)
            SELECT organization_id, sum(runs), sum(bytes) FROM \(fragment: table) GROUP BY 1
        )
        """
    }

    /// The open work of each of these organizations that the scope sees: its row and the deltas that were not
    /// added yet, so that it is exact but for the runs whose job's deltas a folder has not seen.
    package func openWork(
        of organizations: [OrganizationID], scope: Scope
    ) async throws -> [OrganizationID: OpenWorkRow] {
        let rows = try await pool.query(
            """
            SELECT i.id, greatest(coalesce(u.runs, 0) + d.runs, 0)::bigint,
                   greatest(coalesce(u.bytes, 0) + d.bytes, 0)::bigint, u.runs_max, u.bytes_max
            FROM unnest(\(organizations)) AS i(id)
            LEFT JOIN LATERAL (
                SELECT * FROM queue_usage u WHERE u.organization_id = i.id OFFSET 0
            ) u ON true
            CROSS JOIN LATERAL (
                SELECT coalesce(sum(d.runs), 0) AS runs, coalesce(sum(d.bytes), 0) AS bytes
                FROM (SELECT * FROM queue_usage_deltas d WHERE d.organization_id = i.id OFFSET 0) d
            ) d
            """, scope: scope
        ) { row in try row.decode((OrganizationID, Int, Int, Int?, Int?).self) }
        return Dictionary(
            rows.map { id, runs, bytes, runsMax, bytesMax in
                (
                    id,
                    OpenWorkRow(
                        used: OpenWork(runs: runs, bytes: bytes), runsMax: runsMax, bytesMax: bytesMax)
                )
            }
        ) { first, _ in first }
    }

    /// Sets how much an organization may have open, `nil` for the default, and commits.
    package func setOpenWorkMax(
        runs: Int?, bytes: Int?, of organization: OrganizationID, scope: Scope
    ) async throws {
        try await pool.execute(
            """
            INSERT INTO queue_usage (organization_id, runs_max, bytes_max)
            VALUES (\(organization), \(runs), \(bytes))
            ON CONFLICT (organization_id) DO UPDATE
            SET runs_max = excluded.runs_max, bytes_max = excluded.bytes_max
            """, scope: scope)
    }
}
