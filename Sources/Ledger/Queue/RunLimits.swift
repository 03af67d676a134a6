package import Domain
package import Postgres

/// The limits of one organization.
package struct RunLimits: Sendable, Hashable {
    /// The most runs by scope and key; the empty key is for all of a scope that have no limit of their own.
    package var running: [RunLane: Int] = [:]
    /// How many runs may begin in a second, and at once.
    package var rate: Rate?

    /// Runs in a time.
    package struct Rate: Sendable, Hashable {
        /// Runs a second in the long run, and at once.
        package let perSecond: Double
        package let burst: Int

        /// A rate.
        package init(perSecond: Double, burst: Int) {
            self.perSecond = perSecond
            self.burst = burst
        }
    }

    /// No limits, to begin with.
    package init(running: [RunLane: Int] = [:], rate: Rate? = nil) {
        self.running = running
        self.rate = rate
    }

    /// The most runs of a lane; `nil` for no limit.
    package func limit(of lane: RunLane) -> Int? { running[lane] ?? running[RunLane(lane.scope, "")] }
}

/// A queued run with what limits count by.
package struct LanedRun: Sendable, Hashable {
    /// The run.
    package let run: QueuedRun
    /// A lane of each scope, in the order of the scopes.
    package let lanes: [RunLane]

    init(_ run: QueuedRun, job: JobID, site: SiteID, kind: String) {
        self.run = run
        lanes = RunLane.all(job: job, site: site, kind: kind, device: run.device, lane: run.lane)
    }
}

/// What a walk along a queue found.
package struct QueueWalk: Sendable {
    /// The runs that may be admitted, in order.
    package let runs: [LanedRun]
    /// Up to where all others were passed by; `nil` if there was none.
    package let last: RunID?
    /// Whether this is the end of the queue.
    package let isEnd: Bool
}

extension Ledger {
    /// The limits of every organization that has any and that the scope sees.
    package func runLimits(scope: Scope = .platform) async throws -> [OrganizationID: RunLimits] {
        var limits: [OrganizationID: RunLimits] = [:]
        let rows = try await pool.query(
            "SELECT organization_id, scope, key, running FROM run_limits", scope: scope
        ) { row in try row.decode((OrganizationID, String, String, Int32).self) }
        for (organization, scope, key, running) in rows {
            guard let scope = LimitScope(rawValue: scope) else { continue }
            limits[organization, default: RunLimits()].running[RunLane(scope, key)] = Int(running)
        }
        let rates = try await pool.query(
            "SELECT organization_id, per_second, burst FROM run_rates", scope: scope
        ) { row in try row.decode((OrganizationID, Double, Int32).self) }
        for (organization, perSecond, burst) in rates {
            limits[organization, default: RunLimits()].rate = RunLimits.Rate(
                perSecond: perSecond, burst: Int(burst))
        }
        return limits
    }

    /// The limits of one organization, if it has any and the scope sees it.
    package func runLimits(of organization: OrganizationID, scope: Scope) async throws -> RunLimits? {
        let rows = try await pool.query(
            """
            SELECT l.scope, l.key, l.running, NULL::double precision
            FROM run_limits l WHERE l.organization_id = \(organization)
            UNION ALL
            SELECT NULL, NULL, r.burst, r.per_second
            FROM run_rates r WHERE r.organization_id = \(organization)
            """, scope: scope
        ) { row in try row.decode((String?, String?, Int32, Double?).self) }
        guard !rows.isEmpty else { return nil }
        var limits = RunLimits()
        for (scope, key, number, perSecond) in rows {
            if let perSecond {
                limits.rate = RunLimits.Rate(perSecond: perSecond, burst: Int(number))
            } else if let scope = scope.flatMap(LimitScope.init), let key {
                limits.running[RunLane(scope, key)] = Int(number)
            }
        }
        return limits
    }

    /// Replaces the limits of an organization.
    package func setRunLimits(
        _ limits: RunLimits, of organization: OrganizationID, scope: Scope
    ) async throws {
        let rows = limits.running.sorted { $0.key.name < $1.key.name }
        var statements: [SQL] = [
            "DELETE FROM run_limits WHERE organization_id = \(organization)",
            "DELETE FROM run_rates WHERE organization_id = \(organization)",
            """
            INSERT INTO run_limits (organization_id, scope, key, running)
            SELECT \(organization), * FROM unnest(
                \(rows.map(\.key.scope.rawValue)), \(rows.map(\.key.key)), \(rows.map { Int32($0.value) }))
            """,
        ]
        if let rate = limits.rate {
            statements.append(
                """
                INSERT INTO run_rates (organization_id, per_second, burst)
                VALUES (\(organization), \(rate.perSecond), \(Int32(rate.burst)))
                """)
        }
        _ = try await pool.pipeline(scope: scope, statements)
    }

    /// Walks along a queue from behind a run, over at most `rows` rows, and returns up to `limit` of those
    /// that are in none of these lanes, or, if one is named, in that lane. Runs of paused jobs and of waves
    /// that were not released are passed by.
    package func walk(
        _ queue: OrganizationQueue, after: RunID, besides lanes: [RunLane], in only: RunLane? = nil,
        rows: Int = 2_000, limit: Int
    ) async throws -> QueueWalk {
        func keys(_ scope: LimitScope) -> [String] { lanes.filter { $0.scope == scope }.map(\.key) }
        let found = try await pool.query(
            """
            WITH walked AS MATERIALIZED (
                SELECT id, device_id, generation, lane, job_id, site_id, wave FROM runs
                WHERE \(fragment: Self.isQueued(
                        "\(queue.organization)", "\(queue.priority)", after: "\(after)"))
                ORDER BY priority, id LIMIT \(rows)
            )
            SELECT b.n, b.last, e.id, e.device_id, e.generation, e.lane, e.job_id, e.site_id, e.kind
            FROM (SELECT count(*) AS n, (SELECT id FROM walked ORDER BY id DESC LIMIT 1) AS last
                  FROM walked) b
            LEFT JOIN LATERAL (
                SELECT w.*, j.kind FROM walked w
                CROSS JOIN LATERAL (
                    SELECT * FROM jobs j
                    WHERE j.organization_id = \(queue.organization) AND j.id = w.job_id OFFSET 0
                ) j
                WHERE j.state <> 2 AND w.wave <= j.released_wave
                  AND \(fragment: Self.notPaused(
                        "\(queue.organization)", priority: "\(queue.priority)", job: "w.job_id"))
                  AND w.job_id::text <> ALL(\(keys(.job))) AND w.site_id::text <> ALL(\(keys(.site)))
                  AND j.kind <> ALL(\(keys(.kind))) AND w.device_id::text <> ALL(\(keys(.device)))
                  AND w.device_id || '/' || w.lane <> ALL(\(keys(.lane)))
                  AND (\(only?.key)::text IS NULL OR \(only?.key) = CASE \(only?.scope.rawValue)
                       WHEN 'job' THEN w.job_id::text WHEN 'site' THEN w.site_id::text
                       WHEN 'kind' THEN j.kind WHEN 'device' THEN w.device_id::text
                       ELSE w.device_id || '/' || w.lane END)
                ORDER BY w.id LIMIT \(limit)
            ) e ON true
            ORDER BY e.id
            """, scope: .organizations([queue.organization])
        ) { row in
            try row.decode(
                (Int, RunID?, RunID?, DeviceID?, Int32?, Lane?, JobID?, SiteID?, String?).self)
        }
        let runs: [LanedRun] = found.compactMap { row in
            let (_, _, run, device, generation, lane, job, site, kind) = row
            guard let run, let device, let generation, let lane, let job, let site, let kind else {
                return nil
            }
            return LanedRun(
                QueuedRun(
                    organization: queue.organization, run: run, device: device, generation: Int(generation),
                    lane: lane, priority: queue.priority),
                job: job, site: site, kind: kind)
        }
        if runs.count == limit { return QueueWalk(runs: runs, last: runs.last?.run.run, isEnd: false) }
        let (walked, last) = found.first.map { ($0.0, $0.1) } ?? (0, nil)
        return QueueWalk(runs: runs, last: last, isEnd: walked < rows)
    }

    /// The lanes of an organization's runs: of those that are named and open, and of all on devices.
    package func lanes(
        of runs: [RunID], andRunningOf organization: OrganizationID
    ) async throws -> [LanedRun] {
        try await pool.query(
            """
            SELECT r.id, r.device_id, r.generation, r.lane, r.priority, r.job_id, r.site_id, j.kind
            FROM (
                SELECT i.id FROM unnest(\(runs)) AS i(id)
                UNION
                SELECT id FROM runs WHERE organization_id = \(organization) AND state IN (3, 4)
            ) i
            CROSS JOIN LATERAL (
                SELECT * FROM runs r WHERE r.organization_id = \(organization) AND r.id = i.id OFFSET 0
            ) r
            CROSS JOIN LATERAL (
                SELECT * FROM jobs j WHERE j.organization_id = \(organization) AND j.id = r.job_id OFFSET 0
            ) j
            """, scope: .organizations([organization])
        ) { row in
            let (run, device, generation, lane, priority, job, site, kind) = try row.decode(
                (RunID, DeviceID, Int32, Lane, Priority, JobID, SiteID, String).self)
            return LanedRun(
                QueuedRun(
                    organization: organization, run: run, device: device, generation: Int(generation),
                    lane: lane, priority: priority),
                job: job, site: site, kind: kind)
        }
    }
}
