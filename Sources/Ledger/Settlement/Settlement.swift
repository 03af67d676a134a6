package import Domain
import Postgres

/// How an attempt ended, as a gateway hands it to the ledger.
package struct AttemptResult: Sendable {
    /// The device's tenant and id come from its certificate, never from a frame.
    package var organization: OrganizationID
    package var device: DeviceID
    /// Which attempt.
    package var run: RunID
    package var attempt: Int
    package var token: AttemptToken
    /// How it ended.
    package var outcome: Outcome
    package var exitCode: Int?
    package var reason: String?
    package var startedAt: Instant?
    package var finishedAt: Instant
    package var output: OutputRow

    /// A result.
    package init(
        organization: OrganizationID, device: DeviceID, run: RunID, attempt: Int, token: AttemptToken,
        outcome: Outcome,
        exitCode: Int?, reason: String?, startedAt: Instant?, finishedAt: Instant, output: OutputRow
    ) {
        self.organization = organization
        self.device = device
        self.run = run
        self.attempt = attempt
        self.token = token
        self.outcome = outcome
        self.exitCode = exitCode
        self.reason = reason
        self.startedAt = startedAt
        self.finishedAt = finishedAt
        self.output = output
    }
}

/// A run that a commit ended.
package struct SettledRun: Sendable, Hashable {
    /// Which run, and where the queue knows it.
    package let organization: OrganizationID
    package let run: RunID
    package let device: DeviceID
    package let generation: Int
    package let lane: Lane
    /// The job that it belongs to.
    package let job: JobID
}

/// What became of one result.
package enum Settlement: Sendable, Equatable {
    /// It ended the run.
    case settled(SettledRun)
    /// It replaced an outcome that was declared without the agent's word.
    case amended(JobID)
    /// It was settled before: nothing to do.
    case duplicate
    /// It belongs to an attempt that is not the current one: kept as evidence.
    case late
    /// No such run on this device.
    case foreign

    /// The run that it ended.
    package var settledRun: SettledRun? { if case .settled(let run) = self { run } else { nil } }
}

extension Ledger {
    /// Settles a batch of results in one transaction: each row leaves `runs` for `run_history` with its
    /// output and its job's count. Results of several organizations share it; each is bound to its own by
    /// (organization, id).
    /// - Returns: one settlement a result, in order.
    package func settle(_ results: [AttemptResult]) async throws -> [Settlement] {
        guard !results.isEmpty else { return [] }
        let scope = Scope.organizations(results.map(\.organization))
        let settled = try await pool.query(
            """
            WITH input AS MATERIALIZED (\(fragment: Self.input(results))
            ), locked AS MATERIALIZED (
                -- Every writer of several runs locks them in this order.
                SELECT i.* FROM (SELECT * FROM input ORDER BY organization_id, id) i
                \(fragment: Self.lockRun)
                WHERE r.token = i.token AND r.device_id = i.device_id AND r.attempt = i.attempt
                  AND r.state IN (3, 4)
            ), gone AS (
                DELETE FROM runs r USING locked l WHERE \(fragment: Self.isLocked)
                RETURNING r.organization_id, r.id, r.job_id, r.device_id, r.site_id, r.attempt, r.token,
                          r.generation, r.lane, r.created_at,
                          coalesce(l.started_at, r.started_at) AS started_at, l.finished_at, l.outcome,
                          l.exit_code, l.reason, l.stdout_head, l.stdout_tail, l.stdout_bytes, l.stderr_head,
                          l.stderr_tail, l.stderr_bytes
            ), history AS (
                INSERT INTO run_history (organization_id, id, job_id, device_id, site_id, state, attempt,
                                         token, exit_code, reason, started_at, finished_at, amendable,
                                         created_at)
                SELECT organization_id, id, job_id, device_id, site_id, outcome, attempt, token, exit_code,
                       reason, started_at, finished_at, outcome = 15, created_at
                FROM gone
            ), output AS (
                INSERT INTO run_output (organization_id, run_id, site_id, attempt, stdout_head, stdout_tail,
                                        stdout_bytes, stderr_head, stderr_tail, stderr_bytes)
                SELECT organization_id, id, site_id, attempt, stdout_head, stdout_tail, stdout_bytes,
                       stderr_head, stderr_tail, stderr_bytes
                FROM gone WHERE stdout_bytes + stderr_bytes > 0
            ), single AS (
                -- A job with one run settles here; nobody else updates its counters at this moment. It is
                -- named as `isLocked` names a run; and nothing may imply that it has an organization, else
                -- the index of these would be there to be walked.
                UPDATE jobs j SET ended[g.outcome - 9] = j.ended[g.outcome - 9] + 1, finished_at = now(),
                       state = CASE WHEN j.cancel_requested_at IS NULL THEN 10 ELSE 11 END
                FROM gone g
                WHERE j.organization_id IS NOT DISTINCT FROM g.organization_id
                  AND j.id = ANY (ARRAY[g.job_id]) AND j.total = 1
                RETURNING j.id
            ), deltas AS (
                INSERT INTO job_deltas (organization_id, job_id, outcome, n)
                SELECT organization_id, job_id, outcome, count(*) FROM gone
                WHERE job_id <> ALL ((SELECT coalesce(array_agg(id), '{}') FROM single)::uuid[])
                GROUP BY 1, 2, 3
            )
            SELECT organization_id, id, device_id, generation, lane, job_id FROM gone
            """, scope: scope, decode: Self.settledRun)
        let byRun = Dictionary(settled.map { ($0.run, $0) }) { first, _ in first }
        var remaining: [AttemptResult] = []
        var settlements = results.map { result -> Settlement? in
            guard let run = byRun[result.run] else {
                remaining.append(result)
                return nil
            }
            return .settled(run)
        }
        let rest = try await readBack(remaining)
        var next = 0
        for index in settlements.indices where settlements[index] == nil {
            settlements[index] = rest[next]
            next += 1
        }
        return settlements.compactMap { $0 }
    }

    /// Results that settled nothing: amends what may be amended, tells duplicates from late ones, keeps
    /// evidence.
    private func readBack(_ results: [AttemptResult]) async throws -> [Settlement] {
        guard !results.isEmpty else { return [] }
        let scope = Scope.organizations(results.map(\.organization))
        let amended = try await pool.query(
            """
            WITH input AS MATERIALIZED (\(fragment: Self.input(results))
            ), before AS MATERIALIZED (
                SELECT h.organization_id, h.id, h.job_id, h.site_id, h.state, h.attempt, h.token, h.exit_code,
                       h.reason, i.outcome AS word, i.exit_code AS word_exit_code, i.reason AS word_reason,
                       i.started_at, i.finished_at, i.stdout_head, i.stdout_tail, i.stdout_bytes,
                       i.stderr_head, i.stderr_tail, i.stderr_bytes
                FROM (SELECT * FROM input ORDER BY organization_id, id) i
                CROSS JOIN LATERAL (
                    SELECT * FROM run_history h
                    WHERE h.organization_id = i.organization_id AND h.id = i.id OFFSET 0 FOR UPDATE
                ) h
                WHERE h.amendable AND h.token = i.token AND h.attempt = i.attempt
                  AND h.device_id = i.device_id AND i.outcome <> 15
            ), after AS (
                UPDATE run_history h SET state = b.word, exit_code = b.word_exit_code, reason = b.word_reason,
                       amendable = false, started_at = coalesce(b.started_at, h.started_at),
                       finished_at = b.finished_at
                FROM before b
                WHERE h.organization_id = b.organization_id AND h.id = ANY (ARRAY[b.id])
            ), output AS (
                INSERT INTO run_output (organization_id, run_id, site_id, attempt, stdout_head, stdout_tail,
                                        stdout_bytes, stderr_head, stderr_tail, stderr_bytes)
                SELECT organization_id, id, site_id, attempt, stdout_head, stdout_tail, stdout_bytes,
                       stderr_head, stderr_tail, stderr_bytes
                FROM before
                ON CONFLICT DO NOTHING
            ), evidence AS (
                INSERT INTO attempts (organization_id, run_id, attempt, token, outcome, exit_code, reason,
                                      kind)
                SELECT organization_id, id, attempt, token, state, exit_code, reason, 'amended' FROM before
                ON CONFLICT DO NOTHING
            ), deltas AS (
                INSERT INTO job_deltas (organization_id, job_id, outcome, n)
                SELECT b.organization_id, b.job_id, o.outcome, sum(o.n)
                FROM before b CROSS JOIN LATERAL (VALUES (b.state, -1), (b.word, 1)) AS o(outcome, n)
                GROUP BY 1, 2, 3
            )
            SELECT id, job_id FROM before
            """, scope: scope
        ) { row in try row.decode((RunID, JobID).self) }
        let amendedJobs = Dictionary(amended) { first, _ in first }
        let known = try await pool.query(
            """
            WITH input AS MATERIALIZED (\(fragment: Self.input(results))
            ), known AS MATERIALIZED (
                SELECT i.organization_id, i.id, i.attempt, i.token, i.outcome, i.exit_code, i.reason,
                       h.token = i.token AND h.attempt = i.attempt AS same, i.attempt <= h.attempt AS was
                FROM input i
                CROSS JOIN LATERAL (
                    SELECT * FROM run_history h
                    WHERE h.organization_id = i.organization_id AND h.id = i.id OFFSET 0
                ) h
                WHERE h.device_id = i.device_id
                UNION ALL
                SELECT i.organization_id, i.id, i.attempt, i.token, i.outcome, i.exit_code, i.reason, false,
                       i.attempt <= r.attempt
                FROM input i
                CROSS JOIN LATERAL (
                    SELECT * FROM runs r
                    WHERE r.organization_id = i.organization_id AND r.id = i.id OFFSET 0
                ) r
                WHERE r.device_id = i.device_id
            ), evidence AS (
                INSERT INTO attempts (organization_id, run_id, attempt, token, outcome, exit_code, reason,
                                      kind)
                SELECT organization_id, id, attempt, token, outcome, exit_code, reason, 'late' FROM known
                WHERE same IS NOT TRUE AND was
                ON CONFLICT DO NOTHING
            )
            SELECT id, coalesce(same, false) FROM known
            """, scope: scope
        ) { row in try row.decode((RunID, Bool).self) }
        let knownRuns = Dictionary(known) { first, second in first || second }
        return results.map { result in
            if let job = amendedJobs[result.run] { return .amended(job) }
            guard let isSame = knownRuns[result.run] else { return .foreign }
            return isSame ? .duplicate : .late
        }
    }

    // Ends the rows that a table `ended` (organization_id, id, outcome, reason) names: history, counts, and
    // the rows.
    static let endWithoutWord: SQL = """
        gone AS (
            DELETE FROM runs r USING ended l WHERE \(fragment: isLocked)
            RETURNING r.*, l.outcome, l.reason
        ), history AS (
            INSERT INTO run_history (organization_id, id, job_id, device_id, site_id, state, attempt, token,
                                     reason, started_at, finished_at, amendable, created_at)
            SELECT organization_id, id, job_id, device_id, site_id, outcome, attempt, token, reason,
                   started_at, now(), sent_at IS NOT NULL, created_at
            FROM gone
        ), deltas AS (
            INSERT INTO job_deltas (organization_id, job_id, outcome, n)
            SELECT organization_id, job_id, outcome, count(*) FROM gone GROUP BY 1, 2, 3
        )
        SELECT organization_id, id, device_id, generation, lane, job_id FROM gone
        """

    private static func input(_ results: [AttemptResult]) -> SQL {
        """
        SELECT * FROM unnest(
            \(results.map(\.organization)), \(results.map(\.run)), \(results.map(\.device)),
            \(results.map { Int32($0.attempt) }), \(results.map(\.token)), \(results.map(\.outcome)),
            \(results.map { $0.exitCode.map(Int32.init) }), \(results.map(\.reason)),
            \(results.map(\.startedAt)), \(results.map(\.finishedAt)),
            \(results.map { PostgresData($0.output.stdoutHead) }),
            \(results.map { PostgresData($0.output.stdoutTail) }), \(results.map(\.output.stdoutBytes)),
            \(results.map { PostgresData($0.output.stderrHead) }),
            \(results.map { PostgresData($0.output.stderrTail) }), \(results.map(\.output.stderrBytes))
        ) AS i(organization_id, id, device_id, attempt, token, outcome, exit_code, reason, started_at,
               finished_at, stdout_head, stdout_tail, stdout_bytes, stderr_head, stderr_tail, stderr_bytes)
        """
    }

    @Sendable static func settledRun(_ row: PostgresRow) throws -> SettledRun {
        let (organization, run, device, generation, lane, job) = try row.decode(
            (OrganizationID, RunID, DeviceID, Int32, Lane, JobID).self)
        return SettledRun(
            organization: organization, run: run, device: device, generation: Int(generation), lane: lane,
            job: job)
    }
}
