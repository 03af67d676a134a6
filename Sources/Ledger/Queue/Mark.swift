package import Domain
import Postgres

/// A claimed run that has a gateway to go to.
package struct MarkRequest: Sendable {
    /// Which run, in the generation that the queue knows.
    package var organization: OrganizationID
    package var run: RunID
    package var generation: Int
    /// The gateway incarnation that holds its device's session.
    package var gateway: GatewayID
    /// The token of a new attempt; an attempt that never ended keeps its own.
    package var token: AttemptToken

    /// A request to mark one run.
    package init(
        organization: OrganizationID, run: RunID, generation: Int, gateway: GatewayID, token: AttemptToken
    ) {
        self.organization = organization
        self.run = run
        self.generation = generation
        self.gateway = gateway
        self.token = token
    }
}

/// A run that passed the gate: it may leave for its device.
package struct MarkedRun: Sendable {
    /// Which attempt of which run.
    package let organization: OrganizationID
    package let run: RunID
    package let device: DeviceID
    package let job: JobID
    package let generation: Int
    package let attempt: Int
    package let token: AttemptToken
    package let gateway: GatewayID
    /// When the queue forgets that it runs.
    package let deadline: Instant
    /// How long it was queued.
    package let waitedSeconds: Double
}

/// What a gateway sends to an agent.
package struct Delivery: Sendable, Equatable {
    /// Which attempt of which run.
    package let organization: OrganizationID
    package let run: RunID
    package let device: DeviceID
    package let job: JobID
    package let attempt: Int
    package let token: AttemptToken
    /// The device's place in the job's list.
    package let leaf: Int?
    /// Whether somebody asked to cancel it.
    package let cancelRequested: Bool
    /// Whether it was handed to a connection of its device before.
    package var wasSent = true
    /// Whether it was given up for the time in which its device was silent: it is to be revived.
    package var isLapsed = false
}

/// The signed statement of a job, and the list that its proofs are made from.
package struct JobContent: Sendable {
    /// The encoded statement.
    package let statement: [UInt8]
    /// The devices of a list in the order of its tree.
    package let devices: [DeviceID]?
    /// The trace that the job came with.
    package let trace: TraceContext?
    /// Whether its script is given secrets.
    package let hasSecrets: Bool
}

/// The data set in Redis as PostgreSQL knows it.
package struct KeptEpoch: Sendable {
    /// Its identity.
    package let id: String
    /// How long ago somebody began to build it.
    package let age: Duration

    /// How the epoch of a partition ends that nobody has any more: no data set in Redis has such a name.
    package static let closedMark = "@closed"

    /// An epoch that began so long ago.
    package init(id: String, age: Duration) { (self.id, self.age) = (id, age) }
}

extension Ledger {
    /// The identity of the data set in Redis that PostgreSQL accepts claims of.
    package func epoch(partition: Int) async throws -> KeptEpoch? {
        try await pool.query(
            """
            SELECT epoch, extract(epoch FROM now() - started_at)::double precision FROM queue_partitions
            WHERE partition = \(Int16(partition))
            """, scope: .none
        ) { row in
            let (id, age) = try row.decode((String, Double).self)
            return KeptEpoch(id: id, age: .seconds(age))
        }.first
    }

    /// The same of all partitions that ever were.
    package func epochs() async throws -> [Int: KeptEpoch] {
        let all = try await pool.query(
            """
            SELECT partition, epoch, extract(epoch FROM now() - started_at)::double precision
            FROM queue_partitions WHERE epoch IS NOT NULL
            """, scope: .none
        ) { row in
            let (partition, id, age) = try row.decode((Int16, String, Double).self)
            return (Int(partition), KeptEpoch(id: id, age: .seconds(age)))
        }
        return Dictionary(all) { first, _ in first }
    }

    /// The gate: moves queued runs to dispatched, with attempt, token, gateway and deadlines, and commits.
    ///
    /// Only rows that are returned may leave. A run is refused by its generation, state, cancel, pause, wave
    /// or expiry, a suspect unless it is taken `alone`, and all are refused under another epoch than the one
    /// kept here.
    package func mark(
        _ requests: [MarkRequest], epoch: String, partition: Int, alone: Bool = false
    ) async throws -> [MarkedRun] {
        guard !requests.isEmpty else { return [] }
        return try await pool.query(
            """
            WITH accepted AS MATERIALIZED (
                SELECT crmm_accepts(\(Self.rebuildLock), \(Int32(partition)), \(epoch)) AS ok
            ), paused AS MATERIALIZED (
                SELECT p.* FROM accepted a
                CROSS JOIN LATERAL crmm_pauses(a.ok, \(requests.map(\.organization))) p
            ), locked AS MATERIALIZED (
                SELECT r.organization_id, r.id, i.gateway_id, i.token, j.timeout_seconds
                FROM (SELECT * FROM unnest(\(requests.map(\.organization)), \(requests.map(\.run)),
                                           \(requests.map { Int32($0.generation) }),
                                           \(requests.map(\.gateway)), \(requests.map(\.token)))
                          AS i(organization_id, id, generation, gateway_id, token)
                      WHERE (SELECT ok FROM accepted) ORDER BY organization_id, id) i
                \(fragment: Self.lockRun)
                CROSS JOIN LATERAL (
                    SELECT * FROM jobs j
                    WHERE j.organization_id = r.organization_id AND j.id = r.job_id OFFSET 0
                ) j
                WHERE r.state = 1 AND r.generation = i.generation
                  AND r.cancel_requested_at IS NULL AND j.cancel_requested_at IS NULL AND j.state = 1
                  AND NOT EXISTS (
                      SELECT FROM paused p
                      WHERE (p.organization_id IS NULL OR p.organization_id = r.organization_id)
                        AND (p.kind IS NULL OR p.kind = j.kind)
                        AND (p.priority IS NULL OR p.priority = r.priority))
                  AND r.wave <= j.released_wave AND r.expires_at > now() AND (NOT r.suspect OR \(alone))
            )
            UPDATE runs r SET state = 3, gateway_id = l.gateway_id, token = coalesce(r.token, l.token),
                   attempt = CASE WHEN r.token IS NULL THEN r.attempt + 1 ELSE r.attempt END,
                   -- Until then its gateway must have taken it: with the look each half second, what its
                   -- dispatcher did not write before it died is queued again within 10 s.
                   deadline = now() + interval '8 seconds'
            FROM locked l
            WHERE \(fragment: Self.isLocked)
            RETURNING r.organization_id, r.id, r.device_id, r.job_id, r.generation, r.attempt, r.token,
                      r.gateway_id, r.expires_at + make_interval(secs => l.timeout_seconds + 60),
                      extract(epoch FROM now() - r.queued_at)::double precision
            """, scope: .organizations(requests.map(\.organization))
        ) { row in
            let (organization, run, device, job, generation, attempt, token, gateway, deadline, waited) =
                try row.decode(
                    (
                        OrganizationID, RunID, DeviceID, JobID, Int32, Int32, AttemptToken, GatewayID,
                        Instant, Double
                    ).self)
            return MarkedRun(
                organization: organization, run: run, device: device, job: job, generation: Int(generation),
                attempt: Int(attempt),
                token: token, gateway: gateway, deadline: deadline, waitedSeconds: waited)
        }
    }

    // Locks the run that each row `i` (organization_id, id) names, in the order of these rows, as `r`: one
    // probe of the primary key a row. The fence (OFFSET 0) keeps every other condition out, so that no other
    // index can be taken for it, whatever the statistics of the moment; conditions stand behind it, where
    // they see the row as it is once it is locked.
    static let lockRun: SQL = """
        CROSS JOIN LATERAL (
            SELECT * FROM runs r WHERE r.organization_id = i.organization_id AND r.id = i.id
            OFFSET 0 FOR UPDATE
        ) r
        """

    // That `r` is the run that a row `l` (organization_id, id) names. Not an equality of columns: where the
    // table is thought to be empty, its whole index could be walked and the rows compared with each. An array
    // of one only lets the primary key be probed.
    static let isLocked: SQL = "r.organization_id = l.organization_id AND r.id = ANY (ARRAY[l.id])"

    // `locked`, still open: the runs whose current attempt has this token; a condition on `r` may follow.
    static func lockedAttempts(_ runs: [(OrganizationID, RunID, AttemptToken)]) -> SQL {
        """
        locked AS MATERIALIZED (
            SELECT r.organization_id, r.id
            FROM (SELECT * FROM unnest(\(runs.map(\.0)), \(runs.map(\.1)), \(runs.map(\.2)))
                      AS i(organization_id, id, token) ORDER BY organization_id, id) i
            \(fragment: lockRun)
            WHERE r.token = i.token
        """
    }

    /// Takes runs that a gateway is about to send: notes that they were sent, and returns those that still
    /// may be.
    package func take(_ runs: [(OrganizationID, RunID, AttemptToken)]) async throws -> [Delivery] {
        try await Self.inBatches(runs) { runs in
            try await pool.query(
                """
                WITH \(fragment: Self.lockedAttempts(runs)) AND r.state IN (3, 4)
                )
                UPDATE runs r SET sent_at = coalesce(r.sent_at, now()) FROM locked l
                WHERE \(fragment: Self.isLocked)
                RETURNING r.organization_id, r.id, r.device_id, r.job_id, r.attempt, r.token, r.leaf,
                          r.cancel_requested_at IS NOT NULL, r.sent_at IS NOT NULL
                """, scope: .organizations(runs.map(\.0)), decode: Self.delivery)
        }
    }

    /// Runs a statement for at most so many items at a time: what a scope may list has a limit, and no
    /// statement is to hold its locks for long.
    static func inBatches<Item, Row>(
        _ items: [Item], _ statement: ([Item]) async throws -> [Row]
    ) async throws -> [Row] {
        var rows: [Row] = []
        for start in stride(from: 0, to: items.count, by: batchMax) {
            rows += try await statement(Array(items[start..<min(start + batchMax, items.count)]))
        }
        return rows
    }

    static let batchMax = 512

    /// The statements of jobs; unknown ones are absent.
    package func contents(of jobs: [(OrganizationID, JobID)]) async throws -> [JobID: JobContent] {
        let rows = try await Self.inBatches(jobs) { jobs in
            try await pool.query(
                """
                SELECT i.id, j.statement, j.target_devices, j.trace, j.has_secrets
                FROM unnest(\(jobs.map(\.0)), \(jobs.map(\.1))) AS i(organization_id, id)
                CROSS JOIN LATERAL (
                    SELECT * FROM jobs j WHERE j.organization_id = i.organization_id AND j.id = i.id OFFSET 0
                ) j
                """, scope: .organizations(jobs.map(\.0))
            ) { row in try row.decode((JobID, PostgresData, PostgresData?, PostgresData?, Bool).self) }
        }
        return Dictionary(
            rows.map { job, statement, devices, trace, hasSecrets in
                (
                    job,
                    JobContent(
                        statement: statement.bytes, devices: devices.map(Self.ids),
                        trace: trace.flatMap { TraceContext(bytes: $0.bytes) }, hasSecrets: hasSecrets)
                )
            }
        ) { first, _ in first }
    }

    /// The attempts that the server believes a device to have, or to have had when it fell silent: to be
    /// compared with what its hello says.
    package func openAttempts(of device: DeviceID, organization: OrganizationID) async throws -> [Delivery] {
        try await pool.grouped(
            """
            (SELECT organization_id, id, device_id, job_id, attempt, token, leaf,
                    cancel_requested_at IS NOT NULL, sent_at IS NOT NULL, false
             FROM runs
             WHERE organization_id = \(organization) AND device_id = \(device) AND state IN (3, 4)
               AND token IS NOT NULL
             ORDER BY id LIMIT 1000)
            UNION ALL
            (SELECT organization_id, id, device_id, job_id, attempt, token, leaf,
                    cancel_requested_at IS NOT NULL, true, true
             FROM runs
             WHERE organization_id = \(organization) AND device_id = \(device) AND state = 0
               AND due_at IS NULL
             ORDER BY id LIMIT 1000)
            """, scope: .organization(organization)
        ) { row in
            let (organization, run, device, job, attempt, token, leaf, cancelled, wasSent, isLapsed) =
                try row.decode(
                    (
                        OrganizationID, RunID, DeviceID, JobID, Int32, AttemptToken, Int32?, Bool, Bool, Bool
                    ).self)
            return Delivery(
                organization: organization, run: run, device: device, job: job, attempt: Int(attempt),
                token: token, leaf: leaf.map(Int.init), cancelRequested: cancelled, wasSent: wasSent,
                isLapsed: isLapsed)
        }
    }

    /// Those of a device's runs whose outcome was declared without its word and may be amended, with that
    /// outcome.
    package func amendable(
        _ runs: [RunID], device: DeviceID, organization: OrganizationID
    ) async throws -> [RunID: Outcome] {
        guard !runs.isEmpty else { return [:] }
        let rows = try await pool.query(
            """
            SELECT id, state FROM run_history
            WHERE organization_id = \(organization) AND id = ANY(\(runs)) AND device_id = \(device)
              AND amendable
            """, scope: .organization(organization)
        ) { row in try row.decode((RunID, Outcome).self) }
        return Dictionary(rows) { first, _ in first }
    }

    /// Notes that attempts run: those that outlive a second.
    package func start(_ started: [(OrganizationID, DeviceID, RunID, AttemptToken, Instant)]) async throws {
        guard !started.isEmpty else { return }
        try await pool.execute(
            """
            WITH locked AS MATERIALIZED (
                SELECT r.organization_id, r.id, i.started_at, j.timeout_seconds
                FROM (SELECT * FROM unnest(\(started.map(\.0)), \(started.map(\.1)), \(started.map(\.2)),
                                           \(started.map(\.3)), \(started.map(\.4)))
                          AS i(organization_id, device_id, id, token, started_at)
                      ORDER BY organization_id, id) i
                \(fragment: Self.lockRun)
                CROSS JOIN LATERAL (
                    SELECT * FROM jobs j
                    WHERE j.organization_id = r.organization_id AND j.id = r.job_id OFFSET 0
                ) j
                WHERE r.state = 3 AND r.token = i.token AND r.device_id = i.device_id
            )
            UPDATE runs r SET state = 4, started_at = l.started_at, sent_at = coalesce(r.sent_at, now()),
                   -- Its time and five minutes: after that nobody waits for the device's word any longer.
                   deadline = CASE WHEN r.cancel_requested_at IS NULL
                                   THEN now() + make_interval(secs => l.timeout_seconds + 300)
                                   ELSE r.deadline END
            FROM locked l
            WHERE \(fragment: Self.isLocked)
            """, scope: .organizations(started.map(\.0)))
    }

    /// Moves queued runs whose device is offline to waiting.
    package func wait(_ runs: [QueuedRun]) async throws -> Set<RunID> {
        guard !runs.isEmpty else { return [] }
        let waiting = try await pool.query(
            """
            WITH locked AS MATERIALIZED (
                SELECT r.organization_id, r.id
                FROM (SELECT * FROM unnest(\(runs.map(\.organization)), \(runs.map(\.run)),
                                           \(runs.map { Int32($0.generation) }))
                          AS i(organization_id, id, generation) ORDER BY organization_id, id) i
                \(fragment: Self.lockRun)
                WHERE r.state = 1 AND r.generation = i.generation
            )
            UPDATE runs r SET state = 2 FROM locked l
            WHERE \(fragment: Self.isLocked)
            RETURNING r.id
            """, scope: .organizations(runs.map(\.organization))
        ) { row in try row.decode(RunID.self) }
        return Set(waiting)
    }

    /// Moves the waiting runs of devices that are back to queued.
    /// - Returns: the runs that may be queued now, oldest first.
    package func reconnect(_ devices: [(OrganizationID, DeviceID)]) async throws -> [QueuedRun] {
        guard !devices.isEmpty else { return [] }
        return try await pool.query(
            "SELECT * FROM crmm_wake(\(devices.map(\.0)), \(devices.map(\.1)))",
            scope: .organizations(devices.map(\.0)), decode: Self.queuedRun
        ).sorted { $0.run < $1.run }
    }

    static let rebuildLock: Int32 = 0x6372_6d6d

    /// The ids of a column that holds 16 bytes each.
    static func ids<Subject>(_ data: PostgresData) -> [ID<Subject>] {
        stride(from: 0, to: data.bytes.count - data.bytes.count % 16, by: 16).compactMap { start in
            UniqueID(bytes: data.bytes[start..<start + 16]).map { ID($0) }
        }
    }

    @Sendable static func queuedRun(_ row: PostgresRow) throws -> QueuedRun {
        let (organization, run, device, generation, lane, priority) = try row.decode(
            (OrganizationID, RunID, DeviceID, Int32, Lane, Priority).self)
        return QueuedRun(
            organization: organization, run: run, device: device, generation: Int(generation), lane: lane,
            priority: priority)
    }

    @Sendable private static func delivery(_ row: PostgresRow) throws -> Delivery {
        let (organization, run, device, job, attempt, token, leaf, cancelled, wasSent) = try row.decode(
            (OrganizationID, RunID, DeviceID, JobID, Int32, AttemptToken, Int32?, Bool, Bool).self)
        return Delivery(
            organization: organization, run: run, device: device, job: job, attempt: Int(attempt),
            token: token, leaf: leaf.map(Int.init), cancelRequested: cancelled, wasSent: wasSent)
    }
}
