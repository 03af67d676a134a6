package import Domain
package import Postgres

/// A job with its signature, ready to be committed.
package struct SubmittedJob: Sendable {
    /// Its id and its tenant; the site, if every device of it belongs to one.
    package var id: JobID
    package var organization: OrganizationID
    package var site: SiteID?
    /// What is done, how soon, and the whole signed statement.
    package var kind: JobKind
    package var priority: Priority
    package var statement: [UInt8]
    /// The devices of a list, in the order of the Merkle tree; `nil` for a site or an organization.
    package var devices: [DeviceID]?
    /// The site of a site's target.
    package var targetSite: SiteID?
    /// How many devices a site or an organization had when the job was judged.
    package var expectedRuns = 0
    /// How many devices of a site or an organization it reaches at the most, whoever enrols meanwhile; `nil`
    /// is as many as there are.
    package var devicesMax: Int?
    /// Limits.
    package var timeoutSeconds: Int
    package var maximumAttempts: Int
    package var idempotent: Bool
    package var expiresAt: Instant
    /// When it may start first, if not at once, and which attempts are followed by another.
    package var notBefore: Instant?
    package var retry = RetryPolicy.none
    /// The job whose runs it repeats, and those of them that are dead letters until it is committed.
    package var retryOf: JobID?
    package var redriven: [RunID] = []
    /// The key that it wants to hold alone.
    package var unique: UniqueSlot?
    /// Whether its script is given secrets.
    package var hasSecrets = false
    /// The trace of the request that submitted it.
    package var trace: TraceContext?
    /// Who submitted it, with which idempotency key, and the hash of what was asked.
    package var principal: PrincipalID
    package var idempotencyKey: String?
    package var requestHash: [UInt8]

    /// A job to be committed.
    package init(
        id: JobID, organization: OrganizationID, site: SiteID?, kind: JobKind, priority: Priority,
        statement: [UInt8],
        devices: [DeviceID]?, targetSite: SiteID?, timeoutSeconds: Int, maximumAttempts: Int,
        idempotent: Bool,
        expiresAt: Instant, principal: PrincipalID, idempotencyKey: String?, requestHash: [UInt8]
    ) {
        self.id = id
        self.organization = organization
        self.site = site
        self.kind = kind
        self.priority = priority
        self.statement = statement
        self.devices = devices
        self.targetSite = targetSite
        self.timeoutSeconds = timeoutSeconds
        self.maximumAttempts = maximumAttempts
        self.idempotent = idempotent
        self.expiresAt = expiresAt
        self.principal = principal
        self.idempotencyKey = idempotencyKey
        self.requestHash = requestHash
    }
}

extension SubmittedJob {
    /// The site that its target or all its devices belong to.
    fileprivate var ownSite: SiteID? { targetSite ?? site }

    /// The list of several devices as the column has it; a list of one needs no proof, so it is not kept.
    fileprivate var listedDevices: PostgresData? {
        guard let devices, devices.count > 1 else { return nil }
        return PostgresData(devices.flatMap(\.bytes))
    }
}

/// What became of one job of a batch.
package enum Submission: Sendable, Equatable {
    /// It is committed.
    case accepted(JobState)
    /// The same key and body were there before: this is that job.
    case repeated(JobID, JobState)
    /// The same key was there with another body.
    case idempotencyConflict
    /// A device of its list is not, or not any more, one of its organization, or a run that it repeats is no
    /// dead letter any more: nothing of it is committed.
    case missingDevice
    /// It is committed, and this other job, which held its key, has the request to be cancelled.
    case replacing(JobID, JobState)
    /// This other job holds its key: nothing of it is committed.
    case held(JobID, JobState)
    /// The database failed over it after others of the batch were committed; whether it may be there.
    case failed(mayBeThere: Bool)
}

/// How far a step of an expansion has come.
package enum Expansion: Sendable {
    /// Another worker is at the job.
    case passed
    /// The job had all its runs before.
    case done
    /// Runs were made, and more may be to come.
    case goesOn
    /// The job has all its runs.
    case whole
}

/// A run that is queued, or waits to be, as the queue has to know it.
package struct QueuedRun: Sendable, Hashable {
    /// Which run, of which tenant and device, in which lane and of which priority.
    package let organization: OrganizationID
    package let run: RunID
    package let device: DeviceID
    package let generation: Int
    package let lane: Lane
    package let priority: Priority

    /// A queued run.
    package init(
        organization: OrganizationID, run: RunID, device: DeviceID, generation: Int, lane: Lane,
        priority: Priority
    ) {
        self.organization = organization
        self.run = run
        self.device = device
        self.generation = generation
        self.lane = lane
        self.priority = priority
    }

    /// The queue that it belongs to.
    package var queue: OrganizationQueue { OrganizationQueue(organization, priority) }
}

/// What a commit of jobs did.
package struct Committed: Sendable {
    /// One outcome a job, in order.
    package var outcomes: [Submission] = []
    /// The runs that were queued and may go to the queue directly.
    package var queued: [QueuedRun] = []
    /// The runs that wait for their devices.
    package var waiting: [QueuedRun] = []
}

extension Committed {
    /// Both, one after the other.
    static func += (one: inout Committed, other: Committed) {
        one.outcomes += other.outcomes
        one.queued += other.queued
        one.waiting += other.waiting
    }
}

extension Ledger {
    /// How many devices that are not archived a site or an organization has, counted up to `atMost`.
    package func deviceCount(
        organization: OrganizationID, site: SiteID?, atMost: Int, scope: Scope
    ) async throws -> Int {
        // By sites, so that those that are archived are left out, and a site's devices are not looked for
        // among the organization's.
        let ofSite: SQL = site.map { "AND s.id = \($0)" } ?? ""
        return try await pool.query(
            """
            SELECT count(*) FROM (
                SELECT 1 FROM sites s CROSS JOIN LATERAL (
                    SELECT 1 FROM devices d
                    WHERE d.organization_id = s.organization_id AND d.site_id = s.id AND d.state < 2 OFFSET 0
                ) d
                WHERE s.organization_id = \(organization) \(fragment: ofSite)
                  AND s.state = 0 AND NOT s.closed
                LIMIT \(atMost)
            ) counted
            """, scope: scope
        ) { row in try row.decode(Int.self) }.first ?? 0
    }

    /// Commits jobs and the runs of those whose target is a list, in one transaction.
    ///
    /// Devices are joined under the scope, so a device that the scope does not see gets no run, and its job
    /// is refused; the caller has judged the list before and signs only what it saw. Targets that are a site
    /// or an organization are expanded by `expand`, chunk by chunk. Runs of devices that are `away` wait for
    /// them at once; whoever commits them looks again whether they have come meanwhile.
    package func submit(
        _ jobs: [SubmittedJob], away: Set<DeviceID> = [], scope: Scope
    ) async throws -> Committed {
        jobs.contains { $0.unique != nil }
            ? try await submitUnique(jobs, away: away, scope: scope)
            : try await submitTogether(jobs, away: away, scope: scope)
    }

    /// As `submit`, of jobs that want no key twice.
    func submitTogether(
        _ jobs: [SubmittedJob], away: Set<DeviceID>, scope: Scope
    ) async throws -> Committed {
        var listed: [QueuedRun] = []
        var owners: [JobID] = []
        var leaves: [Int32] = []
        for job in jobs {
            for (leaf, device) in (job.devices ?? []).enumerated() {
                listed.append(
                    QueuedRun(
                        organization: job.organization, run: .new(at: job.id.value.createdAt), device: device,
                        generation: 1, lane: Lane(job.kind), priority: job.priority))
                owners.append(job.id)
                leaves.append(Int32(leaf))
            }
        }
        let slots = jobs.contains { $0.unique != nil } ? Self.slotStatements(jobs) : nil
        // An insert that looks for conflicts costs more.
        let conflicts: SQL =
            jobs.contains { $0.idempotencyKey != nil }
            ? """
            ON CONFLICT (organization_id, created_by, idempotency_key) WHERE idempotency_key IS NOT NULL
            DO NOTHING
            """ : ""
        // Jobs that lost a conflict have no row and get no run. A device that was judged and is gone fails
        // the batch, so that no job waits for a run which does not exist; the halves are tried again. The
        // full join is one that cannot be made by going through all jobs for each run.
        let insert: SQL = """
            WITH committed AS (
                INSERT INTO jobs (organization_id, id, site_id, kind, state, priority, statement,
                                  target_devices, timeout_seconds, maximum_attempts, idempotent, expires_at,
                                  created_by, idempotency_key, request_hash, total, not_before, retry_on,
                                  backoff_seconds, backoff_seconds_max, retry_of, trace, charged,
                                  has_secrets, devices_max)
                SELECT u.* FROM unnest(
                    \(jobs.map(\.organization)), \(jobs.map(\.id)), \(jobs.map(\.ownSite)),
                    \(jobs.map(\.kind.rawValue)),
                    \(jobs.map { $0.devices == nil ? JobState.accepted : .active }),
                    \(jobs.map(\.priority)), \(jobs.map { PostgresData($0.statement) }),
                    \(jobs.map(\.listedDevices)), \(jobs.map { Int32($0.timeoutSeconds) }),
                    \(jobs.map { Int32($0.maximumAttempts) }), \(jobs.map(\.idempotent)),
                    \(jobs.map(\.expiresAt)), \(jobs.map(\.principal)), \(jobs.map(\.idempotencyKey)),
                    \(jobs.map { PostgresData($0.requestHash) }),
                    \(jobs.map { $0.devices.map { Int32($0.count) } }), \(jobs.map(\.notBefore)),
                    \(jobs.map { RetriedOutcome.bits(of: $0.retry.outcomes) }),
                    \(jobs.map { Int32($0.retry.backoffSeconds) }),
                    \(jobs.map { Int32($0.retry.maximumBackoffSeconds) }), \(jobs.map(\.retryOf)),
                    \(jobs.map { $0.trace.map { PostgresData($0.bytes) } }),
                    \(jobs.map { $0.devices == nil ? Int32(clamping: $0.expectedRuns) : 0 }),
                    \(jobs.map(\.hasSecrets)),
                    \(jobs.map { $0.devices == nil ? $0.devicesMax.map(Int32.init(clamping:)) : nil }))
                        AS u(organization_id, id)
                \(fragment: slots?.filter ?? "")
                \(fragment: conflicts)
                RETURNING id, organization_id, priority, expires_at, maximum_attempts, not_before,
                          coalesce(total, charged) AS runs, \(fragment: Self.jobBytes) AS bytes
            ), \(fragment: Self.openedWork(from: "committed")), listed AS MATERIALIZED (
                SELECT * FROM (
                    SELECT c.*, l.run_id, l.device_id, l.lane, l.leaf, l.away
                    FROM unnest(\(owners), \(listed.map(\.run)), \(listed.map(\.device)),
                                \(listed.map(\.lane)), \(leaves), \(listed.map { away.contains($0.device) }))
                        AS l(job_id, run_id, device_id, lane, leaf, away)
                    FULL JOIN committed c ON c.id = l.job_id OFFSET 0
                ) l
                WHERE id IS NOT NULL AND run_id IS NOT NULL
            ), made AS (
                INSERT INTO runs (organization_id, id, job_id, device_id, site_id, state, priority, lane,
                                  leaf, generation, expires_at, deadline, maximum_attempts, due_at)
                SELECT l.organization_id, l.run_id, l.id, d.id, d.site_id,
                       CASE WHEN l.not_before > now() THEN 0 WHEN l.away THEN 2 ELSE 1 END,
                       l.priority, l.lane, l.leaf,
                       CASE WHEN l.not_before > now() THEN 0 ELSE 1 END, l.expires_at, l.expires_at,
                       l.maximum_attempts, CASE WHEN l.not_before > now() THEN crmm_due(l.not_before) END
                FROM listed l
                CROSS JOIN LATERAL (
                    SELECT * FROM devices d
                    WHERE d.organization_id = l.organization_id AND d.id = l.device_id OFFSET 0
                ) d
                RETURNING id, state
            )
            SELECT crmm_require((SELECT count(*) FROM made) = (SELECT count(*) FROM listed),
                                'a device of a job is gone'),
                   (SELECT coalesce(array_agg(id), '{}') FROM committed),
                   (SELECT coalesce(array_agg(id), '{}') FROM made WHERE state = 1),
                   (SELECT coalesce(array_agg(id), '{}') FROM made WHERE state = 2)
            """
        var statements = (slots.map { [$0.take] } ?? []) + [insert]
        statements += slots.map { [$0.require, $0.cancel] } ?? []
        if let redrive = Self.redrive(jobs) { statements.append(redrive) }
        let results: [PostgresResult]
        do {
            results = try await pool.pipeline(scope: scope, statements)
        } catch let error as PostgresError where error.sqlState == Self.slotWithoutJob {
            // Its idempotency key has been committed meanwhile: now it is seen.
            return try await submitTogether(jobs, away: away, scope: scope)
        } catch let error as PostgresError where error.sqlState == Self.missingDevice {
            guard jobs.count > 1 else { return Committed(outcomes: [.missingDevice]) }
            let (first, second) = (jobs.prefix(jobs.count / 2), jobs.dropFirst(jobs.count / 2))
            var done = try await submitTogether(Array(first), away: away, scope: scope)
            do {
                done += try await submitTogether(Array(second), away: away, scope: scope)
            } catch let error as PostgresError {
                // What the first half committed keeps its outcome.
                let failed = Submission.failed(mayBeThere: error.mayHaveCommitted)
                done.outcomes += second.map { _ in failed }
            }
            return done
        }
        let (_, committed, queued, waiting) = try results[slots == nil ? 0 : 1].rows[0].decode(
            (Bool, [JobID], [RunID], [RunID]).self)
        let inserted = Set(committed)
        var replaced: [JobID: JobID] = [:]
        if slots != nil {
            for row in results[3].rows {
                let (job, old) = try row.decode((JobID, JobID).self)
                replaced[job] = old
            }
        }
        let (isQueued, isWaiting) = (Set(queued), Set(waiting))
        var done = Committed(
            queued: listed.filter { isQueued.contains($0.run) },
            waiting: listed.filter { isWaiting.contains($0.run) })
        for job in jobs {
            if inserted.contains(job.id) {
                let state: JobState = job.devices == nil ? .accepted : .active
                done.outcomes.append(replaced[job.id].map { .replacing($0, state) } ?? .accepted(state))
            } else {
                do {
                    done.outcomes.append(try await instead(of: job, scope: scope))
                } catch is PostgresError {
                    // Its key was there before; what stands there is for another time.
                    done.outcomes.append(.failed(mayBeThere: true))
                } catch is LedgerError {
                    // Its key was there before, and what held it has been removed since.
                    done.outcomes.append(.failed(mayBeThere: false))
                }
            }
        }
        return done
    }

    /// Why a job was not committed.
    private func instead(of job: SubmittedJob, scope: Scope) async throws -> Submission {
        guard job.unique != nil else { return try await earlier(job, scope: scope) }
        do {
            if job.idempotencyKey != nil { return try await earlier(job, scope: scope) }
        } catch is LedgerError {
            // Its idempotency key is not there, so it is its unique key that is held.
            return try await holder(of: job, scope: scope)
        }
        return try await holder(of: job, scope: scope)
    }

    /// What `crmm_require` fails with.
    private static let missingDevice = "CR001"

    /// What an idempotency key stands for already, if it does.
    package func earlier(_ job: SubmittedJob, scope: Scope) async throws -> Submission {
        let rows = try await pool.query(
            """
            SELECT id, state, request_hash FROM jobs
            WHERE organization_id = \(job.organization) AND created_by = \(job.principal)
              AND idempotency_key = \(job.idempotencyKey)
            """, scope: scope
        ) { row in try row.decode((JobID, JobState, PostgresData).self) }
        guard let (id, state, hash) = rows.first else {
            throw LedgerError(.conflict, "a job with this id is there already")
        }
        return hash.bytes == job.requestHash ? .repeated(id, state) : .idempotencyConflict
    }

    /// Jobs whose target is not wholly expanded, but for those that are left aside: the oldest of the next
    /// organization after this one, then its others and those of the organizations behind it.
    package func unexpandedJobs(
        after organization: OrganizationID = ID(.zero), besides aside: [JobID], limit: Int
    ) async throws -> [(organization: OrganizationID, id: JobID, priority: Priority)] {
        try await pool.query(
            """
            SELECT organization_id, id, priority FROM jobs
            WHERE total IS NULL AND (organization_id, id) > (\(organization), \(Self.endOfIDs))
              AND id <> ALL(\(aside))
            ORDER BY organization_id, id LIMIT \(limit)
            """, scope: .platform
        ) { row in try row.decode((OrganizationID, JobID, Priority).self) }
    }

    /// Expands a job over the next devices of its target, at most `chunk`, and commits; a worker repeats it
    /// until the job is whole.
    ///
    /// The job keeps the device that it has come to, in the same commit as the runs up to it: whoever goes
    /// on, and whatever became of the one before, no device gets two runs or none. It is active from its
    /// first chunk on, and its total is known with its last. A job that was cancelled or has expired
    /// meanwhile ends with the runs that it has. So does one that has as many as were confirmed: devices that
    /// were enrolled since are left out, and the job says so. On a connection of its own: nothing is to wait
    /// behind it.
    package func expand(
        _ job: (organization: OrganizationID, id: JobID), chunk: Int
    ) async throws -> Expansion {
        let (isWhole, wasOpen) =
            try await pool.transaction(scope: .platform, timeout: Self.expansionTimeout) {
                try await $0.query(
                    """
                    WITH picked AS MATERIALIZED (
                        -- One worker a job; the others pass it by.
                        SELECT * FROM (
                            SELECT * FROM jobs WHERE organization_id = \(job.organization) AND id = \(job.id)
                            OFFSET 0 FOR UPDATE SKIP LOCKED
                        ) j
                        WHERE total IS NULL
                    ), chosen AS MATERIALIZED (
                        SELECT p.priority, p.kind, p.expires_at, p.maximum_attempts, p.not_before, d.id,
                               d.site_id
                        FROM picked p
                        CROSS JOIN LATERAL (
                            -- Bounds and order are those of the primary key, so no other index fits.
                            SELECT d.id, d.site_id FROM devices d
                            WHERE (d.organization_id, d.id) > (p.organization_id, p.expanded_to)
                              AND (d.organization_id, d.id) <= (p.organization_id, \(Self.endOfDevices))
                              AND (p.site_id IS NULL OR d.site_id = p.site_id)
                              AND \(fragment: Self.isInUse)
                            ORDER BY d.organization_id, d.id
                            LIMIT least(\(chunk), p.devices_max - p.expanded)
                        ) d
                        WHERE p.cancel_requested_at IS NULL AND p.expires_at > now()
                    ), made AS (
                        INSERT INTO runs (organization_id, id, job_id, device_id, site_id, state, priority,
                                          lane, generation, expires_at, deadline, maximum_attempts,
                                          due_at)
                        SELECT \(job.organization), crmm_uuid7(), \(job.id), id, site_id,
                               CASE WHEN not_before > now() THEN 0 ELSE 1 END, priority,
                               CASE kind WHEN 'script' THEN 1 ELSE 0 END,
                               CASE WHEN not_before > now() THEN 0 ELSE 1 END, expires_at, expires_at,
                               maximum_attempts,
                               CASE WHEN not_before > now() THEN crmm_due(not_before) END
                        FROM chosen
                    ), counted AS (
                        SELECT p.charged AS charged_before, \(fragment: Self.jobBytes) AS bytes,
                               CASE WHEN w.whole THEN p.expanded + c.n
                                    ELSE greatest(p.charged, p.expanded + c.n) END AS charged,
                               p.expanded + c.n AS expanded, coalesce(c.last, p.expanded_to) AS expanded_to,
                               w.whole, w.whole AND p.expanded + c.n = (SELECT sum(x) FROM unnest(p.ended) x)
                                   AS finished,
                               -- Who was enrolled since, beyond what was confirmed.
                               CASE WHEN p.expanded + c.n >= p.devices_max AND c.n > 0 THEN (
                                   SELECT true FROM devices d
                                   WHERE (d.organization_id, d.id) > (p.organization_id, c.last)
                                     AND (d.organization_id, d.id)
                                         <= (p.organization_id, \(Self.endOfDevices))
                                     AND (p.site_id IS NULL OR d.site_id = p.site_id)
                                     AND \(fragment: Self.isInUse)
                                   ORDER BY d.organization_id, d.id LIMIT 1) IS NOT NULL
                               ELSE false END AS left_out
                        FROM picked p
                        CROSS JOIN (SELECT count(*)::integer AS n,
                                           (SELECT id FROM chosen ORDER BY id DESC LIMIT 1) AS last
                                    FROM chosen) c
                        CROSS JOIN LATERAL (
                            SELECT c.n < \(chunk) OR coalesce(p.expanded + c.n >= p.devices_max, false)
                                AS whole
                        ) w
                    ), moved AS (
                        UPDATE jobs j SET expanded = c.expanded, expanded_to = c.expanded_to,
                               charged = c.charged, left_out = c.left_out,
                               total = CASE WHEN c.whole THEN c.expanded END,
                               -- Whoever changes the total or what has ended decides, under the row's lock.
                               state = CASE WHEN c.finished
                                            THEN CASE WHEN j.cancel_requested_at IS NULL THEN 10 ELSE 11 END
                                            WHEN j.state = 0 THEN 1 ELSE j.state END,
                               finished_at = CASE WHEN c.finished THEN now() END
                        FROM counted c WHERE j.organization_id = \(job.organization) AND j.id = \(job.id)
                        RETURNING c.whole, c.charged - c.charged_before AS runs,
                                  CASE WHEN c.finished THEN -c.bytes ELSE 0 END AS bytes
                    ), work AS (
                        INSERT INTO queue_usage_deltas (organization_id, runs, bytes)
                        SELECT \(job.organization), runs, bytes FROM moved WHERE runs <> 0 OR bytes <> 0
                    )
                    SELECT (SELECT whole FROM moved),
                           EXISTS (SELECT FROM jobs WHERE organization_id = \(job.organization)
                                   AND id = \(job.id) AND total IS NULL)
                    """, timeout: Self.expansionTimeout
                ) { row in try row.decode((Bool?, Bool).self) }
            }.first ?? (nil, false)
        if let isWhole { return isWhole ? .whole : .goesOn }
        return wasOpen ? .passed : .done
    }

    // That a job may be made for a device `d`.
    private static let isInUse: SQL = """
        d.state < 2 AND (SELECT s.state = 0 AND NOT s.closed FROM sites s
                         WHERE s.organization_id = d.organization_id AND s.id = d.site_id)
        """
    private static let endOfDevices = DeviceID(UniqueID(high: .max, low: .max))

    // Far more than a chunk takes.
    private static let expansionTimeout = Duration.seconds(10)
}
