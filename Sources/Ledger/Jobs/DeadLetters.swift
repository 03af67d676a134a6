package import Domain
package import Postgres

/// Why a run is a dead letter.
package enum DeadLetterReason: String, Sendable, CaseIterable {
    /// Dispatchers crashed over it.
    case poison
    /// Its job's retries have not brought it to success, and nothing more is tried.
    case attempts
}

/// Which dead letters are meant.
package struct DeadLetterFilter: Sendable {
    /// Each of them narrows; absent means all that the scope sees.
    package var runs: [RunID]?
    package var organization: OrganizationID?
    package var job: JobID?
    package var reason: DeadLetterReason?
    package var since: Instant?

    /// A filter that lets all pass.
    package init() {}
}

/// A dead letter.
package struct DeadLetterRow: Sendable {
    /// The run, as it ended.
    package let run: RunRow
    /// Why it is one, and since when.
    package let reason: DeadLetterReason
    package let since: Instant
}

/// What is known of one attempt beside the run's own end.
package struct AttemptRow: Sendable {
    /// Which attempt, and how it ended.
    package let attempt: Int
    package let outcome: Outcome
    package let exitCode: Int?
    package let reason: String?
    package let startedAt: Instant?
    package let finishedAt: Instant?
    /// `retried`, `amended` or `late`.
    package let kind: String
}

/// A crash of a dispatcher that handled nothing but one run.
package struct CrashRow: Sendable {
    /// When it took the run, for which attempt, and under which name.
    package let at: Instant
    package let attempt: Int
    package let owner: String
}

/// A run that a new job may repeat.
package struct RepeatableRun: Sendable {
    /// The run, its device, and whether it is a dead letter.
    package let run: RunID
    package let device: DeviceID
    package let isDead: Bool

    /// A run to be repeated.
    package init(run: RunID, device: DeviceID, isDead: Bool) {
        self.run = run
        self.device = device
        self.isDead = isDead
    }
}

extension Ledger {
    /// The dead letters that a filter means, newest run first.
    package func deadLetters(
        _ filter: DeadLetterFilter, before: RunID? = nil, limit: Int, scope: Scope
    ) async throws -> [DeadLetterRow] {
        // A plan for each kind of filter.
        let conditions: [SQL?] = [
            filter.runs.map { "AND h.id = ANY(\($0))" },
            filter.organization.map { "AND h.organization_id = \($0)" },
            filter.job.map { "AND h.job_id = \($0)" },
            filter.reason.map { "AND (h.reason IS NOT DISTINCT FROM 'poison') = \($0 == .poison)" },
            filter.since.map { "AND h.settled_at >= \($0)" },
        ]
        let condition = conditions.compactMap(\.self).reduce("" as SQL) { "\(fragment: $0) \(fragment: $1)" }
        return try await pool.query(
            """
            SELECT h.id, h.job_id, h.device_id, h.organization_id, h.state, h.attempt, h.exit_code, h.reason,
                   h.started_at, h.finished_at, h.settled_at
            FROM run_history h
            WHERE h.dead AND h.id < \(before ?? RunID(UniqueID(high: .max, low: .max)))
            \(fragment: condition)
            ORDER BY h.id DESC LIMIT \(limit)
            """, scope: scope
        ) { row in
            let (
                id, job, device, organization, state, attempt, exitCode, reason, startedAt, finishedAt, since
            ) =
                try row.decode(
                    (
                        RunID, JobID, DeviceID, OrganizationID, RunState, Int32, Int32?, String?, Instant?,
                        Instant?, Instant
                    ).self)
            return DeadLetterRow(
                run: RunRow(
                    id: id, job: job, device: device, organization: organization, state: state,
                    attempt: Int(attempt), exitCode: exitCode.map(Int.init), reason: reason,
                    startedAt: startedAt, finishedAt: finishedAt, dueAt: nil),
                reason: reason == "poison" ? .poison : .attempts, since: since)
        }
    }

    /// What is known of the attempts of a run, in their order.
    package func attempts(
        of run: RunID, organization: OrganizationID, scope: Scope
    ) async throws -> [AttemptRow] {
        try await pool.query(
            """
            SELECT attempt, outcome, exit_code, reason, started_at, finished_at, kind FROM attempts
            WHERE organization_id = \(organization) AND run_id = \(run) ORDER BY attempt, recorded_at
            """, scope: scope
        ) { row in
            let (attempt, outcome, exitCode, reason, startedAt, finishedAt, kind) = try row.decode(
                (Int32, Outcome, Int32?, String?, Instant?, Instant?, String).self)
            return AttemptRow(
                attempt: Int(attempt), outcome: outcome, exitCode: exitCode.map(Int.init), reason: reason,
                startedAt: startedAt, finishedAt: finishedAt, kind: kind)
        }
    }

    /// The crashes of dispatchers that handled nothing but this run.
    package func crashes(
        of run: RunID, organization: OrganizationID, scope: Scope
    ) async throws -> [CrashRow] {
        try await pool.query(
            """
            SELECT began_at, attempt, owner FROM suspects
            WHERE organization_id = \(organization) AND run_id = \(run) ORDER BY trial
            """, scope: scope
        ) { row in
            let (at, attempt, owner) = try row.decode((Instant, Int32, String).self)
            return CrashRow(at: at, attempt: Int(attempt), owner: owner)
        }
    }

    /// Nobody has to deal with these any more; returns those of them that were dead letters.
    package func discard(_ runs: [RunID], scope: Scope) async throws -> [RunID] {
        try await Self.inBatches(runs) { runs in
            try await pool.query(
                """
                WITH locked AS MATERIALIZED (
                    SELECT organization_id, id FROM run_history WHERE id = ANY(\(runs)) AND dead
                    ORDER BY organization_id, id FOR UPDATE
                )
                UPDATE run_history h SET dead = false FROM locked l
                WHERE h.organization_id = l.organization_id AND h.id = ANY (ARRAY[l.id]) AND h.dead
                RETURNING h.id
                """, scope: scope
            ) { row in try row.decode(RunID.self) }
        }
    }

    /// The runs of a job that have not succeeded and may be repeated: failed, timed out, expired, and of an
    /// idempotent job those of which nobody knows how they ended.
    package func repeatableRuns(
        of job: JobID, organization: OrganizationID, limit: Int, scope: Scope
    ) async throws -> [RepeatableRun] {
        try await pool.query(
            """
            SELECT h.id, h.device_id, h.dead FROM run_history h
            WHERE h.job_id = ANY (ARRAY[\(job)::uuid]) AND h.organization_id = \(organization)
              AND (h.state IN (11, 12, 14) OR h.state = 15 AND (
                  SELECT idempotent FROM jobs WHERE organization_id = \(organization) AND id = \(job)))
            ORDER BY h.job_id, h.id LIMIT \(limit)
            """, scope: scope
        ) { row in
            let (run, device, isDead) = try row.decode((RunID, DeviceID, Bool).self)
            return RepeatableRun(run: run, device: device, isDead: isDead)
        }
    }

    // Part of a submission: the dead letters that its jobs repeat are dealt with in the same commit, each by
    // one job only.
    static func redrive(_ jobs: [SubmittedJob]) -> SQL? {
        let letters = jobs.flatMap { job in job.redriven.map { (job.organization, job.id, $0) } }
        guard !letters.isEmpty else { return nil }
        return """
            WITH listed AS MATERIALIZED (
                SELECT l.organization_id, l.job_id, l.id
                FROM unnest(\(letters.map(\.0)), \(letters.map(\.1)), \(letters.map(\.2)))
                    AS l(organization_id, job_id, id)
                CROSS JOIN LATERAL (
                    SELECT 1 FROM jobs j WHERE j.organization_id = l.organization_id AND j.id = l.job_id
                    OFFSET 0
                ) j
            ), locked AS MATERIALIZED (
                SELECT l.organization_id, l.id, l.job_id
                FROM (SELECT * FROM listed ORDER BY organization_id, id) l
                CROSS JOIN LATERAL (
                    SELECT * FROM run_history h WHERE h.organization_id = l.organization_id AND h.id = l.id
                    OFFSET 0 FOR UPDATE
                ) h
                WHERE h.dead
            ), marked AS (
                UPDATE run_history h SET dead = false, redriven_as = l.job_id FROM locked l
                WHERE h.organization_id = l.organization_id AND h.id = ANY (ARRAY[l.id])
                RETURNING h.id
            )
            SELECT crmm_require((SELECT count(*) FROM marked) = (SELECT count(*) FROM listed),
                                'a dead letter is gone')
            """
    }
}
