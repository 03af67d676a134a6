package import Domain
import Postgres

/// Runs that wait for their time, and runs whose device is silent.
extension Ledger {
    /// Moves scheduled runs whose time has come to queued, in the next generation: up to `limit` of them, the
    /// earliest first, and organizations that are due at the same instant share it.
    ///
    /// Times stand on a grid of 100 ms, so the pairs of instant and organization are few and are walked by an
    /// index; what is not due costs nothing, however much of it there is. A row that somebody holds is passed
    /// over.
    package func queueDue(limit: Int) async throws -> [QueuedRun] {
        try await pool.query(
            """
            WITH RECURSIVE pairs AS (
                (SELECT due_at, organization_id FROM runs WHERE state = 0 AND due_at <= now()
                 ORDER BY due_at, organization_id LIMIT 1)
                UNION ALL
                SELECT n.due_at, n.organization_id FROM pairs p CROSS JOIN LATERAL (
                    SELECT due_at, organization_id FROM runs
                    WHERE state = 0 AND due_at <= now()
                      AND (due_at, organization_id) > (p.due_at, p.organization_id)
                    ORDER BY due_at, organization_id LIMIT 1
                ) n
            ), turns AS MATERIALIZED (
                SELECT due_at, organization_id, \(limit)::bigint / count(*) OVER () AS share
                FROM (SELECT * FROM pairs LIMIT \(Self.turnsMax)) p
            ), locked AS MATERIALIZED (
                SELECT r.organization_id, r.id FROM turns t CROSS JOIN LATERAL (
                    SELECT organization_id, id FROM runs
                    WHERE state = 0 AND due_at = t.due_at AND organization_id = t.organization_id
                    ORDER BY id LIMIT t.share
                    FOR UPDATE SKIP LOCKED
                ) r
            )
            UPDATE runs r SET state = 1, generation = r.generation + 1, queued_at = now(), due_at = NULL,
                   token = NULL
            FROM locked l WHERE \(fragment: Self.isLocked)
            RETURNING r.organization_id, r.id, r.device_id, r.generation, r.lane, r.priority
            """, scope: .platform, decode: Self.queuedRun)
    }

    private static let turnsMax = 32

    // Whether the running attempt of `r`, of which nothing was heard in time, may be followed by another.
    static let mayLapse: SQL = """
        (r.state = 4 AND r.attempt < r.maximum_attempts AND r.cancel_requested_at IS NULL
         AND r.expires_at > now()
         AND coalesce((SELECT j.idempotent AND (j.retry_on >> 5) & 1 = 1 AND j.cancel_requested_at IS NULL
                       FROM jobs j WHERE j.organization_id = r.organization_id AND j.id = r.job_id), false))
        """

    /// Running attempts that nothing was heard of in time, and that may be followed by another, give up their
    /// place. They stay open: only their device's next hello tells what became of them.
    package func lapse(limit: Int) async throws -> [SettledRun] {
        try await pool.query(
            """
            WITH locked AS (
                SELECT r.organization_id, r.id FROM runs r
                WHERE r.deadline < now() AND \(fragment: Self.mayLapse)
                ORDER BY r.deadline LIMIT \(limit)
                FOR UPDATE OF r SKIP LOCKED
            )
            UPDATE runs r SET state = 0, due_at = NULL, deadline = r.expires_at FROM locked l
            WHERE \(fragment: Self.isLocked)
            RETURNING r.organization_id, r.id, r.device_id, r.generation, r.lane, r.job_id
            """, scope: .platform, decode: Self.settledRun)
    }

    /// Lapsed attempts whose device is back are open on it as before; returns those that were lapsed still.
    package func revive(_ runs: [(OrganizationID, RunID, AttemptToken)]) async throws -> Set<RunID> {
        Set(
            try await Self.inBatches(runs) { runs in
                try await pool.query(
                    """
                    WITH \(fragment: Self.lockedAttempts(runs)) AND r.state = 0 AND r.due_at IS NULL
                    )
                    UPDATE runs r SET state = 3,
                           -- From then on the device's word is awaited as after any hello.
                           deadline = CASE WHEN r.cancel_requested_at IS NULL
                                           THEN now() + interval '10 seconds' ELSE r.deadline END
                    FROM locked l WHERE \(fragment: Self.isLocked)
                    RETURNING r.id
                    """, scope: .organizations(runs.map(\.0))
                ) { row in try row.decode(RunID.self) }
            })
    }
}

extension RetriedOutcome {
    /// A set of outcomes as jobs keep it: a bit each.
    static func bits(of outcomes: Set<RetriedOutcome>) -> Int16 { outcomes.reduce(0) { $0 | $1.bit } }

    /// The outcomes of such bits.
    static func of(bits: Int16) -> Set<RetriedOutcome> { Set(allCases.filter { bits & $0.bit != 0 }) }

    private var bit: Int16 { 1 << (outcome.rawValue - Outcome.succeeded.rawValue) }
}
