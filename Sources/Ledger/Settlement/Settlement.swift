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
    /// It ended the attempt, and the run is scheduled for another.
    case retried(SettledRun)
    /// It replaced an outcome that was declared without the agent's word.
    case amended(JobID)
    /// It was settled before: nothing to do.
    case duplicate
    /// It belongs to an attempt that is not the current one: kept as evidence.
    case late
    /// No such run on this device.
    case foreign

    /// The run that left its device by it.
    package var settledRun: SettledRun? {
        switch self {
        case .settled(let run), .retried(let run): run
        case .amended, .duplicate, .late, .foreign: nil
        }
    }
}

extension Ledger {
    /// Settles a batch of results in one transaction: each row leaves `runs` for `run_history` with its
    /// output and its job's count, or goes back to `scheduled` where its job's policy has another attempt.
    /// Results of several organizations share it; each is bound to its own by (organization, id).
    /// - Returns: one settlement a result, in order.
    package func settle(_ results: [AttemptResult]) async throws -> [Settlement] {
        guard !results.isEmpty else { return [] }
        let scope = Scope.organizations(results.map(\.organization))
        let settled = try await pool.query(
            """
            WITH input AS MATERIALIZED (\(fragment: Self.input(results))
            ), locked AS MATERIALIZED (
                -- Every writer of several runs locks them in this order.
                SELECT i.*, r.job_id, r.site_id, r.generation, r.lane, r.expires_at,
                       coalesce(i.started_at, r.started_at) AS began_at,
                       r.attempt < r.maximum_attempts AND i.outcome IN (11, 12, 15)
                           AND r.cancel_requested_at IS NULL AND \(fragment: Self.isWorthRetrying)
                           AS may_be_retried
                FROM (SELECT * FROM input ORDER BY organization_id, id) i
                \(fragment: Self.lockRun)
                WHERE r.token = i.token AND r.device_id = i.device_id AND r.attempt = i.attempt
                  -- On its device; or lapsed, as its device was silent until now.
                  AND (r.state IN (3, 4) OR r.state = 0 AND r.due_at IS NULL)
            ), again AS MATERIALIZED (
                SELECT l.*, w.due_at FROM locked l
                CROSS JOIN LATERAL (
                    SELECT * FROM jobs j
                    WHERE j.organization_id = l.organization_id AND j.id = l.job_id OFFSET 0
                ) j
                CROSS JOIN LATERAL (\(fragment: Self.dueAfterAttempt) OFFSET 0) w
                WHERE l.may_be_retried AND (j.retry_on >> (l.outcome - 10)) & 1 = 1
                  AND (l.outcome <> 15 OR j.idempotent) AND j.cancel_requested_at IS NULL
                  AND w.due_at < l.expires_at
            ), scheduled AS (
                -- Its token goes when it is queued; until then it tells that an attempt has ended.
                UPDATE runs r SET state = 0, due_at = l.due_at, sent_at = NULL, started_at = NULL,
                       gateway_id = NULL, deadline = r.expires_at
                FROM again l WHERE \(fragment: Self.isLocked)
            ), kept AS (
                INSERT INTO attempts (organization_id, run_id, attempt, token, outcome, exit_code, reason,
                                      kind, started_at, finished_at)
                SELECT organization_id, id, attempt, token, outcome, exit_code, reason, 'retried', began_at,
                       finished_at
                FROM again
            ), gone AS (
                DELETE FROM runs r USING locked l
                WHERE \(fragment: Self.isLocked)
                  AND l.id <> ALL ((SELECT coalesce(array_agg(id), '{}') FROM again)::uuid[])
                RETURNING r.organization_id, r.id, r.job_id, r.device_id, r.site_id, r.attempt, r.token,
                          r.generation, r.lane, r.created_at, \(fragment: Self.isDead) AS dead,
                          coalesce(l.started_at, r.started_at) AS started_at, l.finished_at, l.outcome,
                          l.exit_code, l.reason, l.stdout_head, l.stdout_tail, l.stdout_bytes, l.stderr_head,
                          l.stderr_tail, l.stderr_bytes
            ), history AS (
                INSERT INTO run_history (organization_id, id, job_id, device_id, site_id, state, attempt,
                                         token, exit_code, reason, started_at, finished_at, amendable,
                                         created_at, dead)
                SELECT organization_id, id, job_id, device_id, site_id, outcome, attempt, token, exit_code,
                       reason, started_at, finished_at, outcome = 15, created_at, dead
                FROM gone
            ), \(fragment: Self.replacedOutput(from: "locked")), output AS (
                INSERT INTO run_output (organization_id, run_id, site_id, attempt, stdout_head, stdout_tail,
                                        stdout_bytes, stderr_head, stderr_tail, stderr_bytes)
                SELECT organization_id, id, site_id, attempt, stdout_head, stdout_tail, stdout_bytes,
                       stderr_head, stderr_tail, stderr_bytes
                FROM locked WHERE stdout_bytes + stderr_bytes > 0 AND \(fragment: Self.isNotReplaced)
            ), single AS (
                -- A job with one run settles here; nobody else updates its counters at this moment. It is
                -- named as `isLocked` names a run; and nothing may imply that it has an organization, else
                -- the index of these would be there to be walked.
                UPDATE jobs j SET ended[g.outcome - 9] = j.ended[g.outcome - 9] + 1, finished_at = now(),
                       state = CASE WHEN j.cancel_requested_at IS NULL THEN 10 ELSE 11 END
                FROM gone g
                WHERE j.organization_id IS NOT DISTINCT FROM g.organization_id
                  AND j.id = ANY (ARRAY[g.job_id]) AND j.total = 1
                RETURNING j.id, j.organization_id, -1 AS runs, -(\(fragment: Self.jobBytes)) AS bytes
            ), \(fragment: Self.openedWork(from: "single")), deltas AS (
                INSERT INTO job_deltas (organization_id, job_id, outcome, n)
                SELECT organization_id, job_id, outcome, count(*) FROM gone
                WHERE job_id <> ALL ((SELECT coalesce(array_agg(id), '{}') FROM single)::uuid[])
                GROUP BY 1, 2, 3
                UNION ALL
                SELECT organization_id, job_id, 0, count(*) FROM again GROUP BY 1, 2
            )
            SELECT organization_id, id, device_id, generation, lane, job_id, false FROM gone
            UNION ALL
            SELECT organization_id, id, device_id, generation, lane, job_id, true FROM again
            """, scope: scope
        ) { row in
            let (organization, run, device, generation, lane, job, isRetried) = try row.decode(
                (OrganizationID, RunID, DeviceID, Int32, Lane, JobID, Bool).self)
            let settled = SettledRun(
                organization: organization, run: run, device: device, generation: Int(generation), lane: lane,
                job: job)
            return (run, isRetried ? Settlement.retried(settled) : .settled(settled))
        }
        let byRun = Dictionary(settled) { first, _ in first }
        var remaining: [AttemptResult] = []
        var settlements = results.map { result -> Settlement? in
            guard let settlement = byRun[result.run] else {
                remaining.append(result)
                return nil
            }
            return settlement
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
                       amendable = false, dead = h.dead AND b.word IN (11, 12),
                       started_at = coalesce(b.started_at, h.started_at),
                       finished_at = b.finished_at
                FROM before b
                WHERE h.organization_id = b.organization_id AND h.id = ANY (ARRAY[b.id])
            ), \(fragment: Self.replacedOutput(from: "before")), output AS (
                INSERT INTO run_output (organization_id, run_id, site_id, attempt, stdout_head, stdout_tail,
                                        stdout_bytes, stderr_head, stderr_tail, stderr_bytes)
                SELECT organization_id, id, site_id, attempt, stdout_head, stdout_tail, stdout_bytes,
                       stderr_head, stderr_tail, stderr_bytes
                FROM before WHERE \(fragment: Self.isNotReplaced)
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
                       h.token = i.token AND h.attempt = i.attempt OR \(fragment: Self.wasRetriedAfter)
                           AS same, i.attempt <= h.attempt AS was
                FROM input i
                CROSS JOIN LATERAL (
                    SELECT * FROM run_history h
                    WHERE h.organization_id = i.organization_id AND h.id = i.id OFFSET 0
                ) h
                WHERE h.device_id = i.device_id
                UNION ALL
                SELECT i.organization_id, i.id, i.attempt, i.token, i.outcome, i.exit_code, i.reason,
                       \(fragment: Self.wasRetriedAfter), i.attempt <= r.attempt
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

    // A refusal is the device's judgement of the statement, which another attempt does not change; but its
    // place, its disk and its clock may be better then.
    private static let isWorthRetrying: SQL = """
        (i.reason IS NULL OR i.reason NOT LIKE 'rejected:%'
         OR i.reason IN ('rejected:full', 'rejected:notYetValid'))
        """

    // When the attempt after that of `l` is due: exponential backoff of the job `j` with full jitter.
    private static let dueAfterAttempt: SQL = """
        SELECT crmm_due(now() + make_interval(
            secs => random() * crmm_backoff(j.backoff_seconds, j.backoff_seconds_max, l.attempt))) AS due_at
        """

    // Of a run's attempts the output of the latest is kept: one that printed nothing replaces what the one
    // before had printed, too. The gateway may write outputs and read none, so it is no ON CONFLICT.
    private static func replacedOutput(from table: SQL) -> SQL {
        """
        replaced AS (
            UPDATE run_output o
            SET attempt = l.attempt, stdout_head = l.stdout_head, stdout_tail = l.stdout_tail,
                stdout_bytes = l.stdout_bytes, stderr_head = l.stderr_head, stderr_tail = l.stderr_tail,
                stderr_bytes = l.stderr_bytes
            FROM \(fragment: table) l
            WHERE l.attempt > 1 AND o.organization_id = l.organization_id AND o.run_id = ANY (ARRAY[l.id])
              AND o.attempt < l.attempt
            RETURNING o.run_id
        )
        """
    }

    private static let isNotReplaced: SQL = """
        id <> ALL ((SELECT coalesce(array_agg(run_id), '{}') FROM replaced)::uuid[])
        """

    // Whether the word `i` is the one after which another attempt was scheduled.
    private static let wasRetriedAfter: SQL = """
        EXISTS (SELECT FROM attempts a
                WHERE a.organization_id = i.organization_id AND a.run_id = i.id AND a.attempt = i.attempt
                  AND a.kind = 'retried' AND a.token = i.token AND a.outcome = i.outcome)
        """

    // Whether the run `r` that ends as `l` says is a dead letter: it took dispatchers with it, or its job
    // wanted it to be tried until it succeeds, and nobody asked for a cancel.
    static let isDead: SQL = """
        (l.outcome IN (11, 12, 15) AND r.cancel_requested_at IS NULL
         AND (r.maximum_attempts > 1 OR l.reason IS NOT DISTINCT FROM 'poison'))
        """

    // Ends the rows that a table `ended` (organization_id, id, outcome, reason) names: history, counts, and
    // the rows.
    static let endWithoutWord: SQL = """
        \(fragment: endWithoutWordSteps)
        SELECT organization_id, id, device_id, generation, lane, job_id FROM gone
        """

    static let endWithoutWordSteps: SQL = """
        gone AS (
            DELETE FROM runs r USING ended l WHERE \(fragment: isLocked)
            RETURNING r.*, l.outcome, l.reason, \(fragment: isDead) AS dead
        ), history AS (
            INSERT INTO run_history (organization_id, id, job_id, device_id, site_id, state, attempt, token,
                                     reason, started_at, finished_at, amendable, created_at, dead)
            SELECT organization_id, id, job_id, device_id, site_id, outcome, attempt,
                   CASE WHEN due_at IS NULL THEN token END, reason, started_at, now(), sent_at IS NOT NULL,
                   created_at, dead
            FROM gone
        ), deltas AS (
            INSERT INTO job_deltas (organization_id, job_id, outcome, n)
            SELECT organization_id, job_id, outcome, count(*) FROM gone GROUP BY 1, 2, 3
        )
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
