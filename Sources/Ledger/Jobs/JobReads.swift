package import Domain
package import Postgres

/// A job as it is shown; counts are exact at the time of the statement.
package struct JobRow: Sendable {
    /// Who it is and what it does.
    package let id: JobID
    package let organization: OrganizationID
    package let kind: JobKind
    package let priority: Priority
    package let state: JobState
    /// Its runs by state; states without runs are absent.
    package let counts: [RunState: Int]
    /// How many runs it has; `nil` until it is expanded.
    package let total: Int?
    /// Limits and times.
    package let timeoutSeconds: Int
    package let createdAt: Instant
    package let expiresAt: Instant
    package let finishedAt: Instant?
    package let cancelRequestedAt: Instant?
    /// When its runs may start first; which attempts are followed by another, and how many were.
    package let notBefore: Instant?
    package let retry: RetryPolicy
    package let retries: Int
    /// The job whose runs it repeats.
    package let retryOf: JobID?
    /// The trace of the request that submitted it.
    package let trace: TraceContext?
    /// How many devices of a site or an organization it reaches at the most, and whether some were left out.
    package let devicesMax: Int?
    package let leftOut: Bool
}

/// A run as it is shown.
package struct RunRow: Sendable {
    /// Who it is.
    package let id: RunID
    package let job: JobID
    package let device: DeviceID
    package let organization: OrganizationID
    /// Where it is and how it went.
    package let state: RunState
    package let attempt: Int
    package let exitCode: Int?
    package let reason: String?
    package let startedAt: Instant?
    package let finishedAt: Instant?
    /// When a scheduled run is queued; `nil` while its silent device's word is awaited.
    package let dueAt: Instant?
}

/// What is kept of a run's outputs.
package struct OutputRow: Sendable {
    /// The first and last bytes of each output and how many it had.
    package let stdoutHead: [UInt8]
    package let stdoutTail: [UInt8]
    package let stdoutBytes: Int
    package let stderrHead: [UInt8]
    package let stderrTail: [UInt8]
    package let stderrBytes: Int

    /// What is kept of two outputs.
    package init(
        stdoutHead: [UInt8], stdoutTail: [UInt8], stdoutBytes: Int, stderrHead: [UInt8], stderrTail: [UInt8],
        stderrBytes: Int
    ) {
        self.stdoutHead = stdoutHead
        self.stdoutTail = stdoutTail
        self.stdoutBytes = stdoutBytes
        self.stderrHead = stderrHead
        self.stderrTail = stderrTail
        self.stderrBytes = stderrBytes
    }
}

extension Ledger {
    /// One job, if the scope sees it.
    package func job(_ id: JobID, scope: Scope) async throws -> JobRow? {
        try await pool.query(
            "\(fragment: Self.jobColumns) FROM jobs j WHERE j.id = \(id)", scope: scope, decode: Self.job
        ).first
    }

    /// Those of some jobs that the scope sees, in one statement.
    package func jobs(_ ids: [JobID], scope: Scope) async throws -> [JobID: JobRow] {
        let rows = try await pool.query(
            "\(fragment: Self.jobColumns) FROM jobs j WHERE j.id = ANY (\(ids))", scope: scope,
            decode: Self.job)
        return Dictionary(rows.map { ($0.id, $0) }) { first, _ in first }
    }

    /// The jobs that the scope sees, newest first, optionally of one organization.
    package func jobs(
        organization: OrganizationID?, before: JobID?, limit: Int, scope: Scope
    ) async throws -> [JobRow] {
        var listing = Listing(table: "jobs", isNewestFirst: true, limit: limit)
        if let before { listing.before = before.value }
        let page = listing.page(of: organization, scope: scope, as: "j")
        return try await pool.query(
            "\(fragment: Self.jobColumns) FROM \(fragment: page)", scope: scope, decode: Self.job)
    }

    static let endOfIDs = JobID(UniqueID(high: .max, low: .max))

    /// The runs of a job, by id.
    package func runs(of job: JobID, after: RunID?, limit: Int, scope: Scope) async throws -> [RunRow] {
        try await pool.query(
            """
            \(fragment: Self.runColumns)
            WHERE organization_id = (SELECT organization_id FROM jobs WHERE id = \(job)) AND job_id = \(job)
              AND (\(after)::uuid IS NULL OR id > \(after))
            ORDER BY id LIMIT \(limit)
            """, scope: scope, decode: Self.run)
    }

    /// One run, if the scope sees it.
    package func run(_ id: RunID, scope: Scope) async throws -> RunRow? {
        try await pool.query("\(fragment: Self.runColumns) WHERE id = \(id)", scope: scope, decode: Self.run)
            .first
    }

    /// The output of a run, if there is one yet.
    package func output(of run: RunID, scope: Scope) async throws -> OutputRow? {
        try await pool.query(
            """
            SELECT stdout_head, stdout_tail, stdout_bytes, stderr_head, stderr_tail, stderr_bytes
            FROM run_output
            WHERE run_id = \(run)
            """, scope: scope
        ) { row in
            let (outHead, outTail, outBytes, errorHead, errorTail, errorBytes) = try row.decode(
                (PostgresData, PostgresData, Int, PostgresData, PostgresData, Int).self)
            return OutputRow(
                stdoutHead: outHead.bytes, stdoutTail: outTail.bytes, stdoutBytes: outBytes,
                stderrHead: errorHead.bytes,
                stderrTail: errorTail.bytes, stderrBytes: errorBytes)
        }.first
    }

    // Of the job `j`. Open runs are counted where they stand, ended ones are row and deltas: together exact
    // at any moment.
    private static let jobColumns: SQL = """
        SELECT j.id, j.organization_id, j.kind, j.priority, j.state, j.total, j.timeout_seconds, j.created_at,
               j.expires_at, j.finished_at, j.cancel_requested_at, j.not_before, j.maximum_attempts,
               j.retry_on, j.backoff_seconds, j.backoff_seconds_max, j.retried, j.retry_of,
               j.trace, j.devices_max, j.left_out, j.ended,
               (SELECT ARRAY[
                    coalesce(sum(n) FILTER (WHERE outcome = 10), 0),
                    coalesce(sum(n) FILTER (WHERE outcome = 11), 0),
                    coalesce(sum(n) FILTER (WHERE outcome = 12), 0),
                    coalesce(sum(n) FILTER (WHERE outcome = 13), 0),
                    coalesce(sum(n) FILTER (WHERE outcome = 14), 0),
                    coalesce(sum(n) FILTER (WHERE outcome = 15), 0),
                    coalesce(sum(n) FILTER (WHERE outcome = 0), 0)]::integer[]
                FROM job_deltas d WHERE d.organization_id = j.organization_id AND d.job_id = j.id),
               (SELECT ARRAY[
                    count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 1),
                    count(*) FILTER (WHERE state = 2), count(*) FILTER (WHERE state = 3),
                    count(*) FILTER (WHERE state = 4)]::integer[]
                FROM (\(fragment: runsOfJob)) r)
        """

    // The open runs of the job `j`. The fence leaves nothing but their job to find them by.
    static let runsOfJob: SQL = """
        SELECT r.* FROM (SELECT * FROM runs r WHERE r.job_id = j.id OFFSET 0) r
        WHERE r.organization_id = j.organization_id
        """

    private static let runColumns: SQL = """
        SELECT id, job_id, device_id, organization_id, state, attempt, exit_code, reason, started_at,
               finished_at, CASE WHEN state = 0 THEN (
                   SELECT r.due_at FROM runs r
                   WHERE r.id = run_states.id AND r.organization_id = run_states.organization_id) END
        FROM run_states
        """

    @Sendable private static func job(_ row: PostgresRow) throws -> JobRow {
        let (
            id, organization, kind, priority, state, total, timeout, createdAt, expiresAt, finishedAt,
            cancelledAt, notBefore, attempts, retryBits, backoff, backoffMax, retried, retryOf,
            trace, devicesMax, leftOut, ended, deltas, open
        ) = try row.decode(
            (
                JobID, OrganizationID, String, Priority, JobState, Int32?, Int32, Instant, Instant, Instant?,
                Instant?, Instant?, Int32, Int16, Int32, Int32, Int32, JobID?, PostgresData?,
                Int32?, Bool, [Int32], [Int32], [Int32]
            ).self)
        guard let kind = JobKind(rawValue: kind) else {
            throw LedgerError(.conflict, "a job's kind is not known here")
        }
        var counts: [RunState: Int] = [:]
        for (index, state) in RunState.allCases.enumerated() {
            let count = index < 5 ? open[index] : ended[index - 5] + deltas[index - 5]
            if count != 0 { counts[state] = Int(count) }
        }
        return JobRow(
            id: id, organization: organization, kind: kind, priority: priority, state: state, counts: counts,
            total: total.map(Int.init),
            timeoutSeconds: Int(timeout), createdAt: createdAt, expiresAt: expiresAt, finishedAt: finishedAt,
            cancelRequestedAt: cancelledAt, notBefore: notBefore,
            retry: RetryPolicy(
                maximumAttempts: Int(attempts), backoffSeconds: Int(backoff),
                maximumBackoffSeconds: Int(backoffMax), outcomes: RetriedOutcome.of(bits: retryBits)),
            retries: Int(retried + deltas[6]), retryOf: retryOf,
            trace: trace.flatMap { TraceContext(bytes: $0.bytes) }, devicesMax: devicesMax.map(Int.init),
            leftOut: leftOut)
    }

    @Sendable private static func run(_ row: PostgresRow) throws -> RunRow {
        let (id, job, device, organization, state, attempt, exitCode, reason, startedAt, finishedAt, dueAt) =
            try row.decode(
                (
                    RunID, JobID, DeviceID, OrganizationID, RunState, Int32, Int32?, String?, Instant?,
                    Instant?, Instant?
                ).self)
        return RunRow(
            id: id, job: job, device: device, organization: organization, state: state, attempt: Int(attempt),
            exitCode: exitCode.map(Int.init), reason: reason, startedAt: startedAt, finishedAt: finishedAt,
            dueAt: dueAt)
    }
}
