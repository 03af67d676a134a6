package import Domain
package import Postgres

/// A pause or a drain that is in force.
package struct ControlRow: Sendable, Hashable {
    /// Names it, and sorts by when it began.
    package let id: ControlID
    /// What it covers, and how it holds that back.
    package let scope: QueueScope
    package let mode: ControlMode
    /// Whether it was set for the platform: then only the platform lifts it.
    package let isByPlatform: Bool
    /// Why, in the words of who set it.
    package let reason: String?
    /// The API key that set it, and when.
    package let createdBy: PrincipalID
    package let since: Instant
}

extension Ledger {
    /// Sets a control and commits; one that is there keeps its beginning and gets the new reason.
    ///
    /// The scope must be able to see the organization; a control of all organizations needs the platform's.
    package func setControl(
        _ id: ControlID, _ mode: ControlMode, of covered: QueueScope, reason: String?,
        by principal: PrincipalID,
        isByPlatform: Bool, scope: Scope
    ) async throws -> ControlRow {
        let rows = try await pool.query(
            """
            INSERT INTO queue_controls AS c
                (id, organization_id, kind, priority, mode, by_platform, reason, created_by)
            VALUES (\(id), \(covered.organization), \(covered.kind?.rawValue), \(covered.priority), \(mode),
                    \(isByPlatform), \(reason), \(principal))
            ON CONFLICT (covered, mode, kind, priority, by_platform) DO UPDATE
                SET reason = excluded.reason, created_by = excluded.created_by
            RETURNING \(fragment: Self.controlColumns)
            """, scope: scope, decode: Self.control)
        guard let row = rows.first else { throw LedgerError(.conflict, "the control was lifted just now") }
        return row
    }

    /// Lifts the controls of exactly this scope, all or those of a mode, and commits; those that the platform
    /// set only for the platform.
    /// - Returns: those that were lifted.
    package func liftControls(
        of covered: QueueScope, mode: ControlMode?, isByPlatform: Bool, scope: Scope
    ) async throws -> [ControlRow] {
        try await pool.query(
            """
            DELETE FROM queue_controls c
            WHERE \(fragment: Self.isExactly(covered))
              AND (\(mode)::smallint IS NULL OR c.mode = \(mode))
              AND (\(isByPlatform) OR NOT c.by_platform)
            RETURNING \(fragment: Self.controlColumns)
            """, scope: scope, decode: Self.control)
    }

    /// The controls of exactly this scope.
    package func controls(of covered: QueueScope, scope: Scope) async throws -> [ControlRow] {
        try await pool.query(
            """
            SELECT \(fragment: Self.controlColumns) FROM queue_controls c
            WHERE \(fragment: Self.isExactly(covered)) ORDER BY c.id
            """, scope: scope, decode: Self.control)
    }

    /// The controls that the scope sees, by id.
    package func controls(_ page: PageRequest, scope: Scope) async throws -> [ControlRow] {
        let after = page.after.map { ControlID($0) } ?? ControlID(.zero)
        return try await pool.query(
            """
            SELECT \(fragment: Self.controlColumns) FROM queue_controls c
            WHERE c.id > \(after) ORDER BY c.id LIMIT \(page.limit)
            """, scope: scope, decode: Self.control)
    }

    /// What holds back runs of an organization: its controls and those of all.
    package func controls(covering organization: OrganizationID, scope: Scope) async throws -> [ControlRow] {
        try await pool.query(
            """
            SELECT \(fragment: Self.controlColumns) FROM queue_controls c
            WHERE c.covered = ANY (ARRAY[\(organization), \(Self.allOrganizations)])
            ORDER BY c.id
            """, scope: scope, decode: Self.control)
    }

    /// The drains of all organizations.
    package func drains() async throws -> [ControlRow] {
        try await pool.query(
            "SELECT \(fragment: Self.controlColumns) FROM queue_controls c WHERE c.mode = 2 ORDER BY c.id",
            scope: .platform, decode: Self.control)
    }

    /// Those of these jobs that were taken before under the same key and with the same body: as what.
    package func earlier(
        than jobs: [SubmittedJob], scope: Scope
    ) async throws -> [JobID: (id: JobID, state: JobState)] {
        let keyed = jobs.filter { $0.idempotencyKey != nil }
        guard !keyed.isEmpty else { return [:] }
        let rows = try await pool.query(
            """
            SELECT i.id, j.id, j.state
            FROM unnest(\(keyed.map(\.id)), \(keyed.map(\.organization)), \(keyed.map(\.principal)),
                        \(keyed.map(\.idempotencyKey)), \(keyed.map { PostgresData($0.requestHash) }))
                AS i(id, organization_id, created_by, key, request_hash)
            CROSS JOIN LATERAL (
                SELECT * FROM jobs j
                WHERE j.organization_id = i.organization_id AND j.created_by = i.created_by
                  AND j.idempotency_key = i.key
                OFFSET 0
            ) j
            WHERE j.request_hash = i.request_hash
            """, scope: scope
        ) { row in try row.decode((JobID, JobID, JobState).self) }
        return Dictionary(rows.map { ($0.0, (id: $0.1, state: $0.2)) }) { first, _ in first }
    }

    /// What is paused of an organization (`nil`: of all together) in whole queues, not by kind; or, without
    /// saying of which, all such pauses that the scope sees.
    package func pauses(of organization: OrganizationID??, scope: Scope) async throws -> Set<QueueScope> {
        let covered = organization.map { $0 ?? Self.allOrganizations }
        let scopes = try await pool.query(
            """
            SELECT c.organization_id, c.priority FROM queue_controls c
            WHERE c.mode = 1 AND c.kind IS NULL
              AND (\(covered)::uuid IS NULL OR c.covered = \(covered))
            """, scope: scope
        ) { row in
            let (organization, priority) = try row.decode((OrganizationID?, Priority?).self)
            return QueueScope(organization: organization, kind: nil, priority: priority)
        }
        return Set(scopes)
    }

    /// Whether everything is paused: nothing can be marked until that is lifted.
    package func isEverythingPaused() async throws -> Bool {
        try await pool.query(
            """
            SELECT EXISTS (SELECT FROM queue_controls c
                           WHERE c.covered = \(Self.allOrganizations) AND c.mode = 1
                             AND c.kind IS NULL AND c.priority IS NULL)
            """, scope: .platform
        ) { row in try row.decode(Bool.self) }.first ?? false
    }

    /// The marks that are under way now, each by a name of its own; a mark that begins later has read every
    /// control that is committed now.
    package func marksUnderWay(partition: Int) async throws -> Set<String> {
        let names = try await pool.query(
            """
            SELECT virtualtransaction FROM pg_locks
            WHERE locktype = 'advisory' AND classid = \(Self.rebuildLock)::oid
              AND objid = \(Int32(partition))::oid AND mode = 'ShareLock' AND granted
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            """, scope: .none
        ) { row in try row.decode(String.self) }
        return Set(names)
    }

    // MARK: Conditions of other statements

    /// That no pause covers an organization's runs as a whole, or those of a priority, and of a run's job,
    /// those of its kind.
    ///
    /// Where the organization is no column of runs, all but the kind of a run's job is judged once for it,
    /// before any run is read; the kind only while one is paused. Scalar subqueries, so that each is a probe
    /// by `covered`: a join planned on an empty table would walk all pauses of all organizations.
    static func notPaused(
        _ organization: SQL, priority: SQL = "NULL::smallint", job: SQL? = nil
    ) -> SQL {
        let whole: SQL = """
            (SELECT true FROM queue_controls c
             WHERE c.covered = ANY (ARRAY[\(fragment: organization), \(allOrganizations)])
               AND c.mode = 1 AND c.kind IS NULL
               AND (c.priority IS NULL OR c.priority = \(fragment: priority))
             LIMIT 1) IS NULL
            """
        guard let job else { return whole }
        return """
            \(fragment: whole)
            AND ((SELECT true FROM queue_controls c
                  WHERE c.covered = ANY (ARRAY[\(fragment: organization), \(allOrganizations)])
                    AND c.mode = 1 AND c.kind IS NOT NULL
                  LIMIT 1) IS NULL
                 OR (SELECT true FROM queue_controls c
                     WHERE c.covered = ANY (ARRAY[\(fragment: organization), \(allOrganizations)])
                       AND c.mode = 1 AND (c.priority IS NULL OR c.priority = \(fragment: priority))
                       AND c.kind = (SELECT j.kind FROM jobs j
                                     WHERE j.organization_id = \(fragment: organization)
                                       AND j.id = \(fragment: job))
                     LIMIT 1) IS NULL)
            """
    }

    /// What stands for all organizations where one is probed.
    static let allOrganizations = OrganizationID(.zero)

    private static func isExactly(_ covered: QueueScope) -> SQL {
        """
        c.covered = \(covered.organization ?? allOrganizations)
        AND c.kind IS NOT DISTINCT FROM \(covered.kind?.rawValue)
        AND c.priority IS NOT DISTINCT FROM \(covered.priority)
        """
    }

    private static let controlColumns: SQL = """
        c.id, c.organization_id, c.kind, c.priority, c.mode, c.by_platform, c.reason, c.created_by, c.since
        """

    @Sendable private static func control(_ row: PostgresRow) throws -> ControlRow {
        let (id, organization, kind, priority, mode, isByPlatform, reason, by, since) = try row.decode(
            (
                ControlID, OrganizationID?, String?, Priority?, ControlMode, Bool, String?, PrincipalID,
                Instant
            ).self)
        return ControlRow(
            id: id,
            scope: QueueScope(
                organization: organization, kind: kind.flatMap(JobKind.init), priority: priority),
            mode: mode, isByPlatform: isByPlatform, reason: reason, createdBy: by, since: since)
    }
}
