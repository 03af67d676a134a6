package import Domain
package import Postgres

/// What an organization's export has of one kind: a file, or several, of a line of JSON for each row.
package enum ExportedKind: String, Sendable, CaseIterable {
    case organizations, sites, devices
    case enrollmentTokens = "enrollment_tokens"
    case users, roles
    case roleBindings = "role_bindings"
    case apiKeys = "api_keys"
    case webhooks
    case webhookDeliveries = "webhook_deliveries"
    case oidcProviders = "oidc_providers"
    case oidcLinks = "oidc_links"
    case secrets, approvals
    case queueControls = "queue_controls"
    case runLimits = "run_limits"
    case runRates = "run_rates"
    case queueUsage = "queue_usage"
    case tasks, jobs
    case runs
    case runHistory = "run_history"
    case runOutput = "run_output"
    case attempts
    case auditEntries = "audit_entries"
}

/// A part of an export: lines of JSON, and where to go on.
package struct ExportedPage: Sendable {
    /// One row each.
    package var lines: [String]
    /// What the next page begins after; `nil` after the last.
    package var next: ExportMark?
}

/// Where an export goes on.
package struct ExportMark: Sendable {
    fileprivate var id: UniqueID = .zero
    fileprivate var job: UniqueID = .zero
    fileprivate var position = 0
}

extension Ledger {
    /// A page of an organization's rows of a kind, without what is secret and what the database alone needs.
    ///
    /// It is read page by page, so what is edited meanwhile may be in it or not; of what is archived nothing
    /// is edited.
    package func export(
        _ kind: ExportedKind, of organization: OrganizationID, after mark: ExportMark?, limit: Int,
        scope: Scope
    ) async throws -> ExportedPage {
        var mark = mark ?? ExportMark()
        let last: ID<Subject.Tenant> = ID(mark.id)
        let own: SQL = "t.organization_id = \(organization)"
        let placed: SQL = """
            (t.organization_id = \(organization)
             OR t.site_id IN (SELECT id FROM sites WHERE organization_id = \(organization)))
            """
        func byID(_ rows: SQL, as shown: SQL = "to_jsonb(t)") async throws -> ExportedPage {
            let page = try await pool.query(
                """
                SELECT t.id, ((\(fragment: shown)) - \(Self.unexported))::text
                FROM \(fragment: kind.table) t
                WHERE t.id > \(last) AND \(fragment: rows) ORDER BY t.id LIMIT \(limit)
                """, scope: scope, timeout: Self.exportTimeout
            ) { try $0.decode((ID<Subject.Tenant>, String).self) }
            if let end = page.last { mark.id = end.0.value }
            return ExportedPage(lines: page.map(\.1), next: page.count == limit ? mark : nil)
        }
        switch kind {
        case .organizations: return try await byID("t.id = \(organization)")
        case .devices:
            return try await byID(
                own,
                as: """
                    to_jsonb(t) || jsonb_build_object('tags', ARRAY(
                        SELECT g.tag FROM device_tags g
                        WHERE g.organization_id = t.organization_id AND g.device_id = t.id ORDER BY g.tag))
                    """)
        case .sites, .enrollmentTokens, .users, .roles, .webhooks, .oidcProviders, .oidcLinks, .queueControls,
            .tasks:
            return try await byID(own)
        case .webhookDeliveries:
            return try await byID(
                """
                (t.organization_id = \(organization)
                 OR t.webhook_id IN (SELECT id FROM webhooks WHERE organization_id = \(organization)))
                """)
        case .roleBindings, .apiKeys, .approvals, .secrets: return try await byID(placed)
        case .runLimits, .runRates, .queueUsage:
            // A row for each kind and scope of a limit.
            let lines = try await pool.query(
                """
                SELECT (to_jsonb(t) - \(Self.unexported))::text
                FROM \(fragment: kind.table) t WHERE \(fragment: own)
                """, scope: scope
            ) { try $0.decode(String.self) }
            return ExportedPage(lines: lines, next: nil)
        case .jobs:
            // What was signed is in it twice: as it was, and so that it can be read.
            return try await byID(
                own,
                as: """
                    to_jsonb(t) || jsonb_build_object('content', convert_from(substring(
                        t.statement FROM \(Self.payloadAt + 1)
                        FOR octet_length(t.statement) - \(Self.payloadAt + 64)), 'UTF8')::jsonb)
                    """)
        case .runs, .runHistory, .runOutput, .attempts:
            return try await exportByJob(kind, of: organization, after: mark, limit: limit, scope: scope)
        case .auditEntries:
            let page = try await pool.query(
                """
                SELECT t.position, to_jsonb(t)::text FROM audit_entries t
                WHERE t.chain = \(organization) AND t.position > \(mark.position)
                ORDER BY t.position LIMIT \(limit)
                """, scope: scope
            ) { try $0.decode((Int, String).self) }
            if let end = page.last { mark.position = end.0 }
            return ExportedPage(lines: page.map(\.1), next: page.count == limit ? mark : nil)
        }
    }

    /// Rows of runs have no index by organization: they are found by some jobs after another.
    private func exportByJob(
        _ kind: ExportedKind, of organization: OrganizationID, after mark: ExportMark, limit: Int,
        scope: Scope
    ) async throws -> ExportedPage {
        var mark = mark
        let (job, run): (ID<Subject.Tenant>, ID<Subject.Tenant>) = (ID(mark.job), ID(mark.id))
        let (runs, row): (SQL, SQL) =
            switch kind {
            case .runs: ("runs", "to_jsonb(r)")
            case .runHistory: ("run_history", "to_jsonb(r)")
            case .runOutput:
                (
                    Self.allRuns,
                    """
                    (SELECT to_jsonb(o) FROM run_output o
                     WHERE o.run_id = r.id AND o.organization_id = r.organization_id)
                    """
                )
            default:
                (
                    Self.allRuns,
                    """
                    (SELECT jsonb_build_object('run_id', r.id, 'attempts', jsonb_agg(to_jsonb(a)))
                     FROM attempts a WHERE a.organization_id = r.organization_id AND a.run_id = r.id
                     HAVING count(*) > 0)
                    """
                )
            }
        let results = try await pool.pipeline(
            scope: scope,
            [
                """
                SELECT id FROM jobs WHERE organization_id = \(organization) AND id >= \(job)
                ORDER BY organization_id, id LIMIT \(Self.exportedJobs)
                """,
                """
                SELECT r.job_id, r.id, ((\(fragment: row)) - \(Self.unexported))::text
                FROM \(fragment: runs) r
                WHERE r.job_id = ANY (ARRAY(
                          SELECT id FROM jobs WHERE organization_id = \(organization) AND id >= \(job)
                          ORDER BY organization_id, id LIMIT \(Self.exportedJobs)))
                  AND (r.job_id, r.id) > (\(job), \(run))
                ORDER BY r.job_id, r.id LIMIT \(limit)
                """,
            ])
        let jobs = try results[0].rows.map { try $0.decode(ID<Subject.Tenant>.self).value }
        let page = try results[1].rows.map {
            try $0.decode((ID<Subject.Tenant>, ID<Subject.Tenant>, String?).self)
        }
        let lines = page.compactMap(\.2)
        if page.count == limit, let end = page.last {
            (mark.job, mark.id) = (end.0.value, end.1.value)
            return ExportedPage(lines: lines, next: mark)
        }
        // The last of these jobs is the first of the next, behind all of its runs.
        guard jobs.count == Self.exportedJobs, let end = jobs.last else {
            return ExportedPage(lines: lines, next: nil)
        }
        (mark.job, mark.id) = (end, UniqueID(high: .max, low: .max))
        return ExportedPage(lines: lines, next: mark)
    }

    private static let allRuns: SQL = """
        (SELECT organization_id, job_id, id FROM runs
         UNION ALL SELECT organization_id, job_id, id FROM run_history)
        """
    private static let exportedJobs = 200
    // Rows of jobs and of output may be large.
    private static let exportTimeout = Duration.seconds(60)
    // Where the payload stands in an encoded statement of a job: after its length, its prefix and its header.
    private static let payloadAt: Int32 = 4 + 16 + 60
    private static let unexported = [
        "mac", "mac_key", "key_hash", "previous_hash", "token_hash", "secret_hash", "assignment", "sealed",
        "request_hash",
    ]
}

extension ExportedKind {
    fileprivate var table: SQL {
        switch self {
        case .organizations: "organizations"
        case .sites: "sites"
        case .devices: "devices"
        case .enrollmentTokens: "enrollment_tokens"
        case .users: "users"
        case .roles: "roles"
        case .roleBindings: "role_bindings"
        case .apiKeys: "api_keys"
        case .webhooks: "webhooks"
        case .webhookDeliveries: "webhook_deliveries"
        case .oidcProviders: "oidc_providers"
        case .oidcLinks: "oidc_links"
        case .secrets: "secrets"
        case .approvals: "approvals"
        case .queueControls: "queue_controls"
        case .runLimits: "run_limits"
        case .runRates: "run_rates"
        case .queueUsage: "queue_usage"
        case .tasks: "tasks"
        case .jobs: "jobs"
        case .runs: "runs"
        case .runHistory: "run_history"
        case .runOutput: "run_output"
        case .attempts: "attempts"
        case .auditEntries: "audit_entries"
        }
    }
}
