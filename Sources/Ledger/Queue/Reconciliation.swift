package import Domain
import Postgres

/// A run on a device, as the queue's membership should have it.
package struct RunningRun: Sendable {
    /// Which run, in which generation and lane.
    package let run: QueuedRun
    /// When its deadline is.
    package let deadline: Instant
}

extension Ledger {
    /// Runs that were marked and never taken by their gateway within its time go back to queued, in the next
    /// generation.
    package func undeliver(limit: Int) async throws -> [QueuedRun] {
        try await pool.query(
            """
            WITH locked AS (
                SELECT organization_id, id FROM runs
                WHERE deadline < now() AND state = 3 AND sent_at IS NULL AND expires_at > now()
                ORDER BY deadline LIMIT \(limit)
                FOR UPDATE SKIP LOCKED
            ), \(fragment: Self.requeueLocked)
            """, scope: .platform, decode: Self.queuedRun)
    }

    // A minute after the last moment at which a run could end in time.
    private static let wordDeadline: SQL = """
        r.expires_at + make_interval(secs => 60 + (
            SELECT j.timeout_seconds FROM jobs j
            WHERE j.organization_id = r.organization_id AND j.id = r.job_id))
        """

    /// Runs that were taken, and of which nothing was heard since, get the deadline for the device's word: a
    /// minute after the last moment at which they could end in time.
    package func awaitWord(limit: Int) async throws -> Int {
        try await pool.execute(
            """
            WITH locked AS (
                SELECT r.organization_id, r.id, \(fragment: Self.wordDeadline) AS deadline FROM runs r
                WHERE r.deadline < now() AND r.state = 3 AND r.sent_at IS NOT NULL
                  AND r.cancel_requested_at IS NULL AND r.deadline < \(fragment: Self.wordDeadline)
                ORDER BY r.deadline LIMIT \(limit)
                FOR UPDATE OF r SKIP LOCKED
            )
            UPDATE runs r SET deadline = l.deadline FROM locked l
            WHERE \(fragment: Self.isLocked)
            """, scope: .platform)
    }

    /// The same for the runs that a dead or full gateway left in its inbox.
    package func undeliver(_ runs: [(OrganizationID, RunID, AttemptToken)]) async throws -> [QueuedRun] {
        try await Self.inBatches(runs) { runs in
            try await pool.query(
                """
                WITH \(fragment: Self.lockedAttempts(runs)) AND r.state = 3 AND r.sent_at IS NULL
                ), \(fragment: Self.requeueLocked)
                """, scope: .organizations(runs.map(\.0)), decode: Self.queuedRun)
        }
    }

    private static let requeueLocked: SQL = """
        requeued AS (
            UPDATE runs r SET state = 1, generation = r.generation + 1, queued_at = now(), gateway_id = NULL,
                   deadline = r.expires_at
            FROM locked l WHERE \(fragment: Self.isLocked)
            RETURNING r.organization_id, r.id, r.device_id, r.generation, r.lane, r.priority
        )
        SELECT organization_id, id, device_id, generation, lane, priority FROM requeued
        """

    /// Ends runs whose deadline has passed: never sent, `expired`, or if an attempt has ended before, as that
    /// one did; sent, `unknown` or, if somebody asked, `cancelled`.
    package func expire(limit: Int) async throws -> [SettledRun] {
        try await pool.query(
            """
            WITH ended AS (
                SELECT r.organization_id, r.id,
                       CASE WHEN r.sent_at IS NULL THEN coalesce(a.outcome, 14::smallint)
                            WHEN r.cancel_requested_at IS NOT NULL THEN 13::smallint
                            ELSE 15::smallint END AS outcome,
                       CASE WHEN r.sent_at IS NULL THEN coalesce(a.reason, 'notSentInTime')
                            ELSE 'noWord' END AS reason,
                       a.attempt AS last_attempt, a.token AS last_token, a.exit_code,
                       a.started_at AS last_started_at, a.finished_at AS last_finished_at
                FROM runs r
                LEFT JOIN LATERAL (\(fragment: Self.lastAttempt)) a ON true
                WHERE r.deadline < now()
                  -- Those belong to undeliver, to awaitWord and to lapse.
                  AND NOT (r.state = 3 AND r.sent_at IS NULL AND r.expires_at > now())
                  AND NOT (r.state = 3 AND r.sent_at IS NOT NULL AND r.cancel_requested_at IS NULL
                           AND r.deadline < \(fragment: Self.wordDeadline))
                  AND NOT \(fragment: Self.mayLapse)
                ORDER BY r.deadline LIMIT \(limit)
                FOR UPDATE OF r SKIP LOCKED
            ), gone AS (
                DELETE FROM runs r USING ended l WHERE \(fragment: Self.isLocked)
                RETURNING r.*, l.outcome, l.reason, l.last_attempt, l.last_token, l.exit_code,
                          l.last_started_at, l.last_finished_at, \(fragment: Self.isDead) AS dead
            ), history AS (
                INSERT INTO run_history (organization_id, id, job_id, device_id, site_id, state, attempt,
                                         token, exit_code, reason, started_at, finished_at, amendable,
                                         created_at, dead)
                SELECT organization_id, id, job_id, device_id, site_id, outcome,
                       coalesce(last_attempt, attempt), coalesce(last_token, token), exit_code, reason,
                       CASE WHEN last_attempt IS NULL THEN started_at ELSE last_started_at END,
                       coalesce(last_finished_at, now()), sent_at IS NOT NULL OR outcome = 15, created_at,
                       dead
                FROM gone
            ), deltas AS (
                INSERT INTO job_deltas (organization_id, job_id, outcome, n)
                SELECT organization_id, job_id, outcome, count(*) FROM gone GROUP BY 1, 2, 3
            )
            SELECT organization_id, id, device_id, generation, lane, job_id FROM gone
            """, scope: .platform, decode: Self.settledRun)
    }

    // The latest attempt of an unsent run `r` that was to be followed by another.
    private static let lastAttempt: SQL = """
        SELECT * FROM attempts a
        WHERE r.maximum_attempts > 1 AND r.sent_at IS NULL AND a.kind = 'retried'
          AND a.organization_id = r.organization_id AND a.run_id = r.id
        ORDER BY a.attempt DESC LIMIT 1
        """

    /// Sums the deltas of up to so many jobs into their rows, and completes the jobs whose runs have all
    /// ended.
    ///
    /// A job whose row somebody holds is passed over: folders share the jobs, and none waits. Reads add row
    /// and deltas, so they are exact meanwhile.
    /// - Returns: how many jobs were folded.
    package func foldDeltas(limit: Int) async throws -> Int {
        try await pool.query("SELECT crmm_fold(\(Int32(limit)))", scope: .platform) { row in
            Int(try row.decode(Int32.self))
        }.first ?? 0
    }

    /// Declares a new data set in Redis under the partition's exclusive lock: no mark of the old one is under
    /// way after it.
    package func beginEpoch(_ epoch: String, replacing old: String?, partition: Int) async throws -> Bool {
        try await pool.transaction(scope: .platform) { transaction in
            try await transaction.execute(
                "SELECT pg_advisory_xact_lock(\(Self.rebuildLock), \(Int32(partition)))")
            return try await transaction.execute(
                """
                INSERT INTO queue_partitions (partition, epoch) VALUES (\(Int16(partition)), \(epoch))
                ON CONFLICT (partition) DO UPDATE SET epoch = excluded.epoch, started_at = now()
                WHERE queue_partitions.epoch IS NOT DISTINCT FROM \(old)
                """) > 0
        }
    }

    /// Says that a data set is still being built; `false` if another has taken its place.
    package func keepEpoch(_ epoch: String, partition: Int) async throws -> Bool {
        try await pool.execute(
            """
            UPDATE queue_partitions SET started_at = now()
            WHERE partition = \(Int16(partition)) AND epoch = \(epoch)
            """, scope: .platform) > 0
    }

    /// The runs that are on devices, page by page in the order of organization, device and id: what the
    /// queue's membership should hold.
    package func running(after: QueuedRun?, limit: Int) async throws -> [RunningRun] {
        let after = (after?.organization ?? ID(.zero), after?.device ?? ID(.zero), after?.run ?? ID(.zero))
        return try await pool.query(
            """
            SELECT organization_id, id, device_id, generation, lane, priority, deadline FROM runs
            WHERE state IN (3, 4)
              AND (organization_id, device_id, id) > (\(after.0), \(after.1), \(after.2))
            ORDER BY organization_id, device_id, id LIMIT \(limit)
            """, scope: .platform
        ) { row in
            let (organization, run, device, generation, lane, priority, deadline) = try row.decode(
                (OrganizationID, RunID, DeviceID, Int32, Lane, Priority, Instant).self)
            return RunningRun(
                run: QueuedRun(
                    organization: organization, run: run, device: device, generation: Int(generation),
                    lane: lane, priority: priority),
                deadline: deadline)
        }
    }

    /// Devices with waiting runs, in the order of organization and device, after the given one: whoever is
    /// present among them was missed when it connected.
    package func waitingDevices(
        after: (OrganizationID, DeviceID), limit: Int
    ) async throws -> [(OrganizationID, DeviceID)] {
        try await pool.query(
            """
            SELECT DISTINCT organization_id, device_id FROM runs
            WHERE state = 2 AND (organization_id, device_id) > (\(after.0), \(after.1))
            ORDER BY organization_id, device_id LIMIT \(limit)
            """, scope: .platform
        ) { row in try row.decode((OrganizationID, DeviceID).self) }
    }

    /// Those of these runs that are on devices, with their generation.
    package func areRunning(_ runs: [(OrganizationID, RunID)]) async throws -> [RunID: Int] {
        let rows = try await Self.inBatches(runs) { runs in
            try await pool.query(
                """
                SELECT i.id, r.generation
                FROM unnest(\(runs.map(\.0)), \(runs.map(\.1))) AS i(organization_id, id)
                CROSS JOIN LATERAL (
                    SELECT * FROM runs r
                    WHERE r.organization_id = i.organization_id AND r.id = i.id OFFSET 0
                ) r
                WHERE r.state IN (3, 4)
                """, scope: .platform
            ) { row in try row.decode((RunID, Int32).self) }
        }
        return Dictionary(rows.map { ($0.0, Int($0.1)) }) { first, _ in first }
    }

    /// A gateway incarnation begins.
    package func beginGateway(_ id: GatewayID) async throws {
        try await pool.execute("INSERT INTO gateways (id) VALUES (\(id))", scope: .none)
    }

    /// A gateway incarnation ended, by its own word or because its heartbeat has lapsed.
    package func endGateway(_ id: GatewayID) async throws {
        try await pool.execute(
            "UPDATE gateways SET ended_at = now() WHERE id = \(id) AND ended_at IS NULL", scope: .none)
    }

    /// Incarnations that have not ended as far as is known here.
    package func openGateways() async throws -> [GatewayID] {
        try await pool.query("SELECT id FROM gateways WHERE ended_at IS NULL", scope: .none) { row in
            try row.decode(GatewayID.self)
        }
    }

    /// Makes the partitions of history and output for the next months.
    package func extendPartitions() async throws {
        _ = try await pool.execute("SELECT crmm_extend_partitions(4)", scope: .none)
    }
}
