package import Domain
package import Postgres

extension Ledger {
    /// What PostgreSQL knows of an open run, if it is open; who may see that is asked before.
    package func facts(of run: RunID, organization: OrganizationID) async throws -> RunFacts? {
        try await pool.query(
            """
            SELECT \(fragment: Self.factColumns)
            FROM (SELECT * FROM runs r WHERE r.id = \(run) OFFSET 0) r
            \(fragment: Self.factJoins)
            WHERE r.organization_id = \(organization)
            """, scope: .organization(organization), decode: Self.facts
        ).first
    }

    /// The same for the first open runs of a job, by id, up to so many.
    package func facts(ofRunsOf job: JobID, limit: Int, scope: Scope) async throws -> [RunFacts] {
        try await pool.query(
            """
            SELECT \(fragment: Self.factColumns)
            FROM (SELECT * FROM runs r WHERE r.job_id = \(job) ORDER BY r.id LIMIT \(limit)) r
            \(fragment: Self.factJoins)
            ORDER BY r.id
            """, scope: scope, decode: Self.facts)
    }

    /// How many queued runs of its organization are in front of one: those of its own queue that came before
    /// it, and all of the more urgent queues. The count ends at `atMost` of each.
    package func runsAhead(
        of run: RunID, in queue: OrganizationQueue, countingAtMost atMost: Int = Ledger.queueCountMax
    ) async throws -> RunFacts.Ahead {
        let counts = try await pool.query(
            """
            SELECT (SELECT count(*) FROM (
                        SELECT FROM runs
                        WHERE state = 1 AND organization_id = \(queue.organization)
                          AND (priority, id) < (\(queue.priority), \(run))
                          AND priority >= \(queue.priority)
                        ORDER BY priority, id LIMIT \(atMost)) r),
                   (SELECT count(*) FROM (
                        SELECT FROM runs
                        WHERE organization_id = \(queue.organization) AND priority < \(queue.priority)
                          AND state = 1
                        LIMIT \(atMost)) r)
            """, scope: .organization(queue.organization)
        ) { row in try row.decode((Int, Int).self) }
        let (own, urgent) = counts.first ?? (0, 0)
        return RunFacts.Ahead(
            runs: min(own + urgent, atMost),
            isExact: own < atMost && urgent < atMost && own + urgent <= atMost)
    }

    /// Runs that are on a device in a lane, without one: those that run first.
    package func laneHolders(
        of device: DeviceID, lane: Lane, beside run: RunID, organization: OrganizationID
    ) async throws -> [RunFacts.Holder] {
        let holders = try await pool.query(
            """
            SELECT id, started_at FROM runs
            WHERE organization_id = \(organization) AND device_id = \(device) AND state IN (3, 4)
              AND lane = \(lane.rawValue) AND id <> \(run)
            ORDER BY id LIMIT \(Self.laneHoldersMax)
            """, scope: .organization(organization)
        ) { row in
            let (run, startedAt) = try row.decode((RunID, Instant?).self)
            return RunFacts.Holder(run: run, startedAt: startedAt)
        }
        return holders.filter { $0.startedAt != nil } + holders.filter { $0.startedAt == nil }
    }

    /// How the latest attempt ended that was followed by another.
    package func lastRetried(of run: RunID, organization: OrganizationID) async throws -> RunFacts.Ending? {
        try await pool.query(
            """
            SELECT attempt, outcome, exit_code, reason, coalesce(finished_at, recorded_at) FROM attempts
            WHERE organization_id = \(organization) AND run_id = \(run) AND kind = 'retried'
            ORDER BY attempt DESC LIMIT 1
            """, scope: .organization(organization)
        ) { row in
            let (attempt, outcome, exitCode, reason, at) = try row.decode(
                (Int32, Outcome, Int32?, String?, Instant?).self)
            return RunFacts.Ending(
                attempt: Int(attempt), outcome: outcome, exitCode: exitCode.map(Int.init), reason: reason,
                at: at)
        }.first
    }

    // More than a device may have in a lane, and few.
    private static let laneHoldersMax = 16

    private static let factColumns: SQL = """
        now(), r.id, r.job_id, r.organization_id, j.kind, r.priority, r.lane, r.state, r.attempt,
        r.maximum_attempts, r.queued_at, r.sent_at, r.started_at, r.due_at, r.expires_at, j.timeout_seconds,
        coalesce(r.cancel_requested_at, j.cancel_requested_at), j.state, r.wave, j.released_wave, r.device_id,
        d.hostname, d.last_seen_at, r.site_id
        """

    // Probes by constants, so that no plan walks jobs or devices.
    private static let factJoins: SQL = """
        CROSS JOIN LATERAL (
            SELECT * FROM jobs j WHERE j.organization_id = r.organization_id AND j.id = r.job_id OFFSET 0
        ) j
        CROSS JOIN LATERAL (
            SELECT hostname, last_seen_at FROM devices d
            WHERE d.organization_id = r.organization_id AND d.id = r.device_id OFFSET 0
        ) d
        """

    @Sendable private static func facts(_ row: PostgresRow) throws -> RunFacts {
        let (
            now, run, job, organization, kind, priority, lane, state, attempt, maximumAttempts, queuedAt,
            sentAt, startedAt, dueAt, expiresAt, timeout, cancelledAt, jobState, wave, released, device,
            hostname, lastSeenAt, site
        ) = try row.decode(
            (
                Instant, RunID, JobID, OrganizationID, String, Priority, Int16, RunState, Int32, Int16,
                Instant, Instant?, Instant?, Instant?, Instant, Int32, Instant?, JobState, Int32, Int32,
                DeviceID, String, Instant?, SiteID
            ).self)
        guard let kind = JobKind(rawValue: kind) else {
            throw LedgerError(.conflict, "a job's kind is not known here")
        }
        var facts = RunFacts(
            now: now, run: run, job: job, organization: organization, kind: kind, priority: priority,
            state: state, attempt: Int(attempt), maximumAttempts: Int(maximumAttempts), queuedAt: queuedAt,
            expiresAt: expiresAt, timeoutSeconds: Int(timeout),
            device: RunFacts.Device(id: device, hostname: hostname, lastSeenAt: lastSeenAt))
        facts.site = site
        if let lane = Lane(rawValue: lane) { facts.lane = lane }
        (facts.sentAt, facts.startedAt, facts.dueAt) = (sentAt, startedAt, dueAt)
        facts.cancelRequestedAt = cancelledAt
        facts.isJobPaused = jobState == .paused
        (facts.wave, facts.releasedWave) = (Int(wave), Int(released))
        return facts
    }
}
