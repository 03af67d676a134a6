import Domain
import Postgres
import TestSupport
import Testing
import Trust

@testable import Ledger

/// Plans that were made while every table was empty, and that a tenant with tens of thousands of rows then
/// lives with: the server counts the blocks that each call touches.
@Suite struct PlanTests {
    /// Ten rows of each kind that a call may name, scattered over a tenant's many.
    struct Rows: Sendable {
        struct Run: Sendable {
            let queued: QueuedRun
            let job: JobID
            let token: AttemptToken
        }

        struct Device: Sendable {
            let id: DeviceID
            let site: SiteID
            /// The serial of its certificate, and the hash of a key of the API.
            let serial: String
            let hash: [UInt8]
        }

        let tenant: Tenant
        let devices: [Device]
        let queued: [Run]
        let waiting: [Run]
        let dispatched: [Run]
        let running: [Run]
        /// Ended without their device's word.
        let unknown: [Run]
        /// A job of twenty thousand runs that were not sent.
        let large: JobID
    }

    /// A call of the ledger on ten rows; it returns how many it found.
    struct Call: Sendable {
        let name: String
        /// Blocks of tables and indexes for each row, at most: twice what the keys alone cost.
        let blocksMax: Int
        let body: @Sendable (World, Rows) async throws -> Int

        init(
            _ name: String, _ blocksMax: Int, _ body: @escaping @Sendable (World, Rows) async throws -> Int
        ) {
            (self.name, self.blocksMax, self.body) = (name, blocksMax, body)
        }
    }

    private static func result(_ run: Rows.Run) -> AttemptResult {
        AttemptResult(
            organization: run.queued.organization, device: run.queued.device, run: run.queued.run, attempt: 1,
            token: run.token, outcome: .succeeded, exitCode: 0, reason: nil, startedAt: nil,
            finishedAt: now(),
            output: OutputRow(
                stdoutHead: [1], stdoutTail: [], stdoutBytes: 1, stderrHead: [], stderrTail: [],
                stderrBytes: 0))
    }

    private static let calls = [
        Call("submit", 45) { world, rows in
            let jobs = rows.queued.map { world.job(rows.tenant, devices: [$0.queued.device]) }
            return try await world.api.submit(jobs, scope: rows.tenant.scope).queued.count
        },
        Call("submit with keys", 45) { world, rows in
            let jobs = rows.queued.map {
                world.job(rows.tenant, devices: [$0.queued.device], key: "\($0.queued.run)")
            }
            return try await world.api.submit(jobs, scope: rows.tenant.scope).queued.count
        },
        Call("facts of a run", 20) { world, rows in
            var found = 0
            for run in rows.queued.map(\.queued) {
                let facts = try await world.api.facts(of: run.run, organization: run.organization)
                found += facts == nil ? 0 : 1
            }
            return found
        },
        Call("facts of a job", 60) { world, rows in
            // Jobs of the fixture have four runs each.
            var found = 0
            for run in rows.queued {
                let facts = try await world.api.facts(
                    ofRunsOf: run.job, limit: 100, scope: rows.tenant.scope)
                found += facts.isEmpty ? 0 : 1
            }
            return found
        },
        Call("lane holders", 10) { world, rows in
            for run in rows.running.map(\.queued) {
                _ = try await world.api.laneHolders(
                    of: run.device, lane: .script, beside: run.run, organization: run.organization)
            }
            return 10
        },
        Call("runs ahead", 50) { world, rows in
            for run in rows.queued.map(\.queued) {
                _ = try await world.api.runsAhead(of: run.run, in: run.queue, countingAtMost: 10)
            }
            return 10
        },
        Call("last attempt", 6) { world, rows in
            for run in rows.queued.map(\.queued) {
                _ = try await world.api.lastRetried(of: run.run, organization: run.organization)
            }
            return 10
        },
        // A kind is paused: the job of each run is looked at.
        Call("refill", 24) { world, rows in
            try await world.worker.queuedRuns(
                of: rows.queued.map { ($0.queued.queue, after: $0.queued.run) },
                limit: 1
            ).values.joined().count
        },
        Call("backlog", 3) { world, rows in
            // Two organizations have one.
            try await world.worker.queuesWithBacklog().count * 5
        },
        Call("wait", 20) { world, rows in
            try await world.worker.wait(rows.queued[5...].map(\.queued)).count * 2
        },
        Call("reconnect", 45) { world, rows in
            try await world.gateway.reconnect(
                rows.waiting.map { ($0.queued.organization, $0.queued.device) }
            ).count
        },
        Call("mark", 26) { world, rows in
            try await world.mark(rows.queued[..<5].map(\.queued)).count * 2
        },
        Call("contents", 7) { world, rows in
            try await world.gateway.contents(of: rows.queued.map { ($0.queued.organization, $0.job) }).count
        },
        Call("undeliver", 20) { world, rows in
            try await world.worker.undeliver(
                rows.dispatched[5...].map { ($0.queued.organization, $0.queued.run, $0.token) }
            ).count * 2
        },
        Call("take", 9) { world, rows in
            try await world.gateway.take(
                rows.dispatched[..<5].map { ($0.queued.organization, $0.queued.run, $0.token) }
            ).count * 2
        },
        Call("start", 24) { world, rows in
            try await world.gateway.start(
                rows.dispatched[..<5].map {
                    ($0.queued.organization, $0.queued.device, $0.queued.run, $0.token, now())
                })
            return 10
        },
        Call("areRunning", 6) { world, rows in
            try await world.worker.areRunning(
                rows.running.map { ($0.queued.organization, $0.queued.run) }
            ).count
        },
        Call("running", 3) { world, rows in
            // By device: after the first of ten there are more than ten.
            let first = rows.running.map(\.queued).min { "\($0.device)" < "\($1.device)" }
            return try await world.worker.running(after: first, limit: 10).count
        },
        Call("openAttempts", 2) { world, rows in
            try await world.gateway.openAttempts(
                // Its dispatched run is not among those that were undelivered.
                of: rows.dispatched[0].queued.device, organization: rows.tenant.organization
            ).count * 5
        },
        Call("settle into a retry", 70) { world, rows in
            let results = rows.dispatched[..<5].map { run in
                var result = result(run)
                result.outcome = .failed
                return result
            }
            return try await world.gateway.settle(results).count(where: \.isRetried) * 2
        },
        Call("due", 40) { world, _ in try await world.worker.queueDue(limit: 100).count },
        Call("settle", 46) { world, rows in
            try await world.gateway.settle(rows.running.map(result)).count(where: \.isSettled)
        },
        Call("settle again", 26) { world, rows in
            try await world.gateway.settle(rows.running.map(result)).count { $0 == .duplicate }
        },
        Call("amend", 78) { world, rows in
            try await world.gateway.settle(rows.unknown.map(result)).count {
                if case .amended = $0 { true } else { false }
            }
        },
        Call("open work", 10) { world, rows in
            var found = 0
            for _ in rows.devices {
                let organization = rows.tenant.organization
                let work = try await world.api.openWork(of: [organization], scope: rows.tenant.scope)
                found += work[organization] == nil ? 0 : 1
            }
            return found
        },
        // The use of ten organizations, too: the keys alone cost 50, a scan of one of the tables 85 and more.
        Call("fold", 58) { world, _ in try await world.worker.foldDeltas(limit: 10) },
        Call("job", 28) { world, rows in
            for run in rows.queued { _ = try await world.api.job(run.job, scope: rows.tenant.scope) }
            return 10
        },
        Call("cancel", 300) { world, rows in
            for run in rows.queued {
                do {
                    _ = try await world.api.requestCancel(run.job, scope: rows.tenant.scope)
                } catch is LedgerError {}
                _ = try await world.api.cancelRuns(
                    of: run.job, organization: rows.tenant.organization, scope: rows.tenant.scope)
            }
            return 10
        },
        Call("cancel a chunk of a large job", 1800) { world, rows in
            do {
                _ = try await world.api.requestCancel(rows.large, scope: rows.tenant.scope)
            } catch is LedgerError {}
            return try await world.api.cancelRuns(
                of: rows.large, organization: rows.tenant.organization, scope: rows.tenant.scope
            ).ended.count / 50
        },
        Call("seen", 56) { world, rows in
            for run in rows.queued {
                try await world.gateway.seen(
                    run.queued.device, organization: run.queued.organization, hostname: "h", platform: "p",
                    agentVersion: "1", clockSkewMilliseconds: 7)
                try await world.gateway.left(
                    run.queued.device, organization: run.queued.organization, departure: .left)
            }
            return 10
        },
        Call("journals", 40) { world, rows in
            try await world.gateway.note(
                journals: rows.devices.map {
                    (rows.tenant.organization, $0.id, JournalPlace(copy: 0, position: 2))
                }
            ).count
        },
        Call("places", 32) { world, rows in
            try await world.api.places(of: rows.devices.map(\.id), scope: rows.tenant.scope).count
        },
        Call("site", 16) { world, rows in
            var found = 0
            for device in rows.devices {
                let site = try await world.api.site(device.site, scope: rows.tenant.scope)
                found += site?.organization == rows.tenant.organization ? 1 : 0
            }
            return found
        },
        Call("edges", 10) { world, rows in
            for _ in rows.devices {
                _ = try await world.api.edges(of: rows.tenant.organization, scope: .platform)
            }
            return 10
        },
        Call("identity", 14) { world, rows in
            var found = 0
            for device in rows.devices {
                let identity = try await world.gateway.identity(
                    device.id, organization: rows.tenant.organization, certificateSerial: device.serial)
                found += identity?.site == device.site ? 1 : 0
            }
            return found
        },
        Call("device", 6) { world, rows in
            var found = 0
            for device in rows.devices {
                found += try await world.api.device(device.id, scope: rows.tenant.scope) == nil ? 0 : 1
            }
            return found
        },
        Call("device count", 16) { world, rows in
            var found = 0
            for device in rows.devices {
                let count = try await world.api.deviceCount(
                    organization: rows.tenant.organization, site: device.site, atMost: 10_000,
                    scope: rows.tenant.scope)
                found += count == 5 ? 1 : 0
            }
            return found
        },
        Call("API key", 6) { world, rows in
            var found = 0
            for device in rows.devices {
                found += try await world.api.apiKey(hash: device.hash) == nil ? 0 : 1
            }
            return found
        },
        Call("sweeps", 2) { world, _ in
            try await world.worker.undeliver(limit: 10).count + world.worker.awaitWord(limit: 10)
                + world.worker.lapse(limit: 10).count + world.worker.expire(limit: 10).count
                + world.worker.queueDue(limit: 10).count
        },
        Call("cancelRun", 120) { world, rows in
            var found = 0
            for run in rows.queued {
                let cancelled = try await world.api.cancelRun(run.queued.run, scope: rows.tenant.scope)
                if cancelled != nil { found += 1 }
            }
            return found
        },
    ]

    @Test("A plan made on an empty table reaches rows by their keys when there are many")
    func plans() async throws {
        // A session that cannot keep up with what all databases of the server tell each other forgets its
        // plans, and makes others on tables that are full by then. That does not happen to the same call
        // twice.
        let first = try await Self.failures()
        if first.isEmpty { return }
        Issue.record("once, at the first try: \(first)", severity: .warning)
        let again = try await Self.failures()
        #expect(again.filter { first[$0.key] != nil } == [:])
    }

    /// What calls touched that touched too much, or that their rows were not found.
    private static func failures() async throws -> [String: String] {
        var failures: [String: String] = [:]
        // One connection a login: the plan that is kept is the plan that is counted.
        try await World.with(connections: 1) { world in
            // Autovacuum looks at a table after fifty changes. What fills and empties again is empty.
            let tenant = try await world.tenant(devices: 60)
            for _ in 0..<60 { _ = try await world.submit(tenant, [tenant.all[0]]) }
            try await world.owner.pipeline(
                scope: .none,
                ["DELETE FROM runs", "DELETE FROM jobs", "DELETE FROM devices", "DELETE FROM sites"])
            // Nobody but the calls reads, and no later statistics make plans anew.
            try await world.owner.execute(
                """
                DO $$ DECLARE name text; BEGIN
                    FOR name IN SELECT oid::regclass FROM pg_class
                                WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace LOOP
                        EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = false)', name);
                    END LOOP;
                END $$
                """, scope: .none)
            try await world.owner.execute("ANALYZE", scope: .none)
            let absent = Rows(absentIn: tenant)
            let all = queueCalls + taskCalls + calls
            for call in all { _ = try await call.body(world, absent) }
            let rows = try await fill(world, tenant)
            try await fillQueues(world, tenant, dead: rows.unknown.map(\.queued.run))
            try await fillTasks(world, tenant)
            for call in all {
                let before = try await blocks(world)
                let found = try await call.body(world, rows)
                let touched = try await blocks(world) - before
                if found != (call.name == "sweeps" ? 0 : 10) { failures[call.name] = "found \(found)" }
                if touched > 10 * call.blocksMax { failures[call.name] = "touched \(touched) blocks" }
            }
        }
        return failures
    }

    /// The blocks that were touched so far, in memory or not.
    private static func blocks(_ world: World) async throws -> Int {
        try await world.flushStatistics()
        return try await world.count(
            """
            SELECT sum(heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit, 0)
                       + coalesce(idx_blks_read, 0))::bigint
            FROM pg_statio_user_tables
            """)
    }

    /// Makes ten thousand rows of each kind: jobs of four runs, one in each state, devices, five at a site,
    /// likewise, with their certificates, and as many other organizations and keys.
    private static func fill(_ world: World, _ tenant: Tenant) async throws -> Rows {
        try await world.owner.pipeline(
            scope: .none,
            [
                // What is said of the empty tables is not to slow this down.
                "SET LOCAL enable_nestloop = off",
                """
                INSERT INTO organizations (id, partner_id, name, mac_key, mac)
                SELECT crmm_uuid7(), \(tenant.partner), 'other', '', '' FROM generate_series(1, 10000)
                """,
                // Each of them paused, and another kind of everybody's.
                """
                INSERT INTO queue_controls (id, organization_id, mode, by_platform, created_by)
                SELECT crmm_uuid7(), id, 1, false, id FROM organizations WHERE name = 'other'
                """,
                """
                INSERT INTO queue_controls (id, kind, mode, by_platform, created_by)
                VALUES (crmm_uuid7(), 'ping', 1, true, \(World.principal))
                """,
                """
                INSERT INTO sites (organization_id, id, name, mac_key, mac)
                SELECT \(tenant.organization), crmm_uuid7(), n::text, '', ''
                FROM generate_series(0, 1999) AS s(n)
                """,
                """
                INSERT INTO devices (organization_id, id, site_id, hostname, platform, agent_version,
                                     key_hash, assignment, assignment_version, mac_key, mac)
                SELECT \(tenant.organization), crmm_uuid7(), s.id, 'host', 'linux', '1',
                       sha256(n::text::bytea), '', 1, '', ''
                FROM generate_series(1, 10000) AS d(n)
                JOIN (SELECT id, row_number() OVER (ORDER BY random()) AS m FROM sites) s ON m = 1 + n % 2000
                """,
                """
                INSERT INTO certificates (organization_id, device_id, serial, key_hash, not_after)
                SELECT organization_id, id, id::text, key_hash, now() + interval '1 day' FROM devices
                """,
                """
                INSERT INTO api_keys (id, name, key_hash, permissions, expires_at, mac_key, mac)
                SELECT crmm_uuid7(), 'key', key_hash, '{}', now() + interval '1 day', '', '' FROM devices
                """,
                """
                INSERT INTO jobs (organization_id, id, kind, state, priority, statement, timeout_seconds,
                                  maximum_attempts, idempotent, total, created_by, expires_at, retry_on,
                                  backoff_seconds, backoff_seconds_max)
                SELECT \(tenant.organization), crmm_uuid7(), 'script', 1, \(Priority.standard), '1', 60, 3,
                       false, 5, \(World.principal), now() + interval '1 hour', 2,
                       86400, 86400
                FROM generate_series(1, 10000)
                """,
                """
                CREATE TABLE places AS
                SELECT j.id AS job_id, d.id AS device_id
                FROM (SELECT id, row_number() OVER (ORDER BY random()) AS n FROM jobs) j
                JOIN (SELECT id, row_number() OVER (ORDER BY random()) AS n FROM devices) d USING (n)
                """,
                """
                INSERT INTO runs (organization_id, id, job_id, device_id, site_id, state, priority, lane,
                                  generation, attempt, token, expires_at, deadline, maximum_attempts)
                SELECT \(tenant.organization), crmm_uuid7(), job_id, device_id, \(tenant.sites[0]), state,
                       \(Priority.standard), 1, 1, CASE WHEN state > 2 THEN 1 ELSE 0 END,
                       CASE WHEN state > 2 THEN gen_random_uuid() END, now() + interval '7 days',
                       now() + interval '1 hour', 3
                FROM places CROSS JOIN generate_series(1, 4) AS s(state) ORDER BY random()
                """,
                // Ten of them are due, at ten moments.
                """
                INSERT INTO runs (organization_id, id, job_id, device_id, site_id, state, priority, lane,
                                  generation, expires_at, deadline, due_at)
                SELECT \(tenant.organization), crmm_uuid7(), gen_random_uuid(), device_id,
                       \(tenant.sites[0]), 0, \(Priority.standard), 1, 0, now() + interval '1 hour',
                       now() + interval '1 hour',
                       crmm_due(now() + CASE WHEN n <= 10 THEN -n ELSE 600 + n END * interval '1 second')
                FROM (SELECT device_id, row_number() OVER (ORDER BY random()) AS n FROM places) p
                """,
                """
                INSERT INTO run_history (organization_id, id, job_id, device_id, site_id, state, attempt,
                                         token, amendable, created_at)
                SELECT \(tenant.organization), crmm_uuid7(), job_id, device_id, \(tenant.sites[0]), 15, 1,
                       gen_random_uuid(), true, now()
                FROM places
                """,
                """
                INSERT INTO job_deltas (organization_id, job_id, outcome, n)
                SELECT \(tenant.organization), job_id, 15, 1 FROM places
                """,
                """
                INSERT INTO queue_usage (organization_id) SELECT id FROM organizations
                ON CONFLICT DO NOTHING
                """,
                """
                INSERT INTO queue_usage_deltas (organization_id, runs, bytes)
                SELECT id, 1, 1 FROM organizations
                """,
            ])
        func runs(_ state: RunState) async throws -> [Rows.Run] {
            try await world.owner.query(
                """
                SELECT id, device_id, job_id, coalesce(token, id) FROM (
                    SELECT id, device_id, job_id, token, row_number() OVER (ORDER BY id) AS n FROM (
                        SELECT id, device_id, job_id, token, state FROM runs
                        UNION ALL SELECT id, device_id, job_id, token, state FROM run_history
                    ) r WHERE state = \(state)
                ) r WHERE n % 1000 = 500 ORDER BY id
                """, scope: .none
            ) { row in
                let (run, device, job, token) = try row.decode(
                    (RunID, DeviceID, JobID, AttemptToken).self)
                return Rows.Run(
                    queued: QueuedRun(
                        organization: tenant.organization, run: run, device: device, generation: 1,
                        lane: .script, priority: .standard),
                    job: job, token: token)
            }
        }
        let devices = try await world.owner.query(
            """
            SELECT id, site_id, id::text, key_hash FROM (
                SELECT id, site_id, key_hash, row_number() OVER (ORDER BY id) AS n FROM devices
            ) d WHERE n % 1000 = 500
            """, scope: .none
        ) { row in
            let (id, site, serial, hash) = try row.decode((DeviceID, SiteID, String, PostgresData).self)
            return Rows.Device(id: id, site: site, serial: serial, hash: hash.bytes)
        }
        return Rows(
            tenant: tenant, devices: devices, queued: try await runs(.queued),
            waiting: try await runs(.waiting),
            dispatched: try await runs(.dispatched), running: try await runs(.running),
            unknown: try await runs(.unknown), large: try await large(world, tenant))
    }
}

extension PlanTests {
    /// Makes a job of twenty thousand queued runs.
    private static func large(_ world: World, _ tenant: Tenant) async throws -> JobID {
        let job: JobID = fresh()
        try await world.owner.pipeline(
            scope: .none,
            [
                """
                INSERT INTO jobs (organization_id, id, kind, state, priority, statement, timeout_seconds,
                                  maximum_attempts, idempotent, total, created_by, expires_at)
                VALUES (\(tenant.organization), \(job), 'script', 1, \(Priority.standard), '1', 60, 1, false,
                        20000, \(World.principal), now() + interval '1 hour')
                """,
                """
                INSERT INTO runs (organization_id, id, job_id, device_id, site_id, state, priority, lane,
                                  generation, expires_at, deadline)
                SELECT \(tenant.organization), crmm_uuid7(), \(job), gen_random_uuid(), \(tenant.sites[0]), 1,
                       \(Priority.standard), 1, 1, now() + interval '1 hour', now() + interval '1 hour'
                FROM generate_series(1, 20000)
                """,
            ])
        return job
    }
}

extension PlanTests.Rows {
    /// Ids that nothing has.
    init(absentIn tenant: Tenant) {
        func runs() -> [Run] {
            (0..<10).map { _ in
                Run(
                    queued: QueuedRun(
                        organization: tenant.organization, run: fresh(), device: fresh(), generation: 1,
                        lane: .script, priority: .standard),
                    job: fresh(), token: fresh())
            }
        }
        let devices = (0..<10).map { _ in
            Device(id: fresh(), site: fresh(), serial: "", hash: [])
        }
        self.init(
            tenant: tenant, devices: devices, queued: runs(), waiting: runs(), dispatched: runs(),
            running: runs(),
            unknown: runs(), large: fresh())
    }
}
