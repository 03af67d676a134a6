import Domain
import Engine
import Ledger
import Postgres
import Redis
import Trust

/// How the backlog of an organization is spread.
enum Spread: Int, CaseIterable, Sendable {
    case plain, sites, kinds, keys, priorities

    /// The jobs that the runs belong to, where it is not one a run.
    var jobs: [(kind: JobKind, priority: Priority)] {
        switch self {
        case .plain, .sites, .keys: [(.ping, .standard)]
        case .kinds: JobKind.allCases.map { ($0, .standard) }
        case .priorities: Priority.allCases.map { (.ping, $0) }
        }
    }
}

/// Backlogs, which are made by the database itself: they are not what is measured.
extension Measure {
    /// Queues so many runs of each organization over its devices, and tells nobody.
    func backlog(_ tenants: [BenchTenant], _ each: Int, _ spread: Spread = .plain) async throws {
        if spread == .keys {
            for tenant in tenants { try await keyedBacklog(tenant, each) }
        } else {
            let jobs = tenants.flatMap { tenant in
                spread.jobs.map { tenant.job(tenant.devices, kind: $0.kind, priority: $0.priority) }
            }
            // As many rows as a large bulk request commits at once.
            let rows = max(1, 2_000 / (1 + tenants[0].devices.count))
            for start in stride(from: 0, to: jobs.count, by: rows) {
                let part = Array(jobs[start..<min(start + rows, jobs.count)])
                _ = try await bed.api.submit(part, scope: .organizations(part.map(\.organization)))
            }
            try await multiply(jobs, by: each / (tenants[0].devices.count * spread.jobs.count))
        }
        try await bed.owner.execute("ANALYZE runs", scope: .none, timeout: .seconds(120))
        try await bed.owner.execute("ANALYZE jobs", scope: .none, timeout: .seconds(120))
    }

    /// Gives each job so many runs a device, of which it has one.
    private func multiply(_ jobs: [SubmittedJob], by rounds: Int) async throws {
        guard rounds > 1 else { return }
        let ids = jobs.map(\.id)
        try await bed.owner.execute(
            "UPDATE jobs SET total = total * \(Int32(rounds)) WHERE id = ANY (\(ids)::uuid[])", scope: .none)
        // Sorted first, so that the ids of a device's runs are apart as if they had been submitted in turn.
        try await bed.owner.execute(
            """
            INSERT INTO runs (organization_id, id, job_id, device_id, site_id, state, priority, lane,
                              generation, expires_at, deadline)
            SELECT organization_id, crmm_uuid7(), job_id, device_id, site_id, 1, priority, lane, 1,
                   now() + interval '1 hour', now() + interval '1 hour'
            FROM (SELECT r.* FROM generate_series(2, \(rounds)) AS g(n)
                  CROSS JOIN (SELECT * FROM runs WHERE job_id = ANY (\(ids)::uuid[]) OFFSET 0) r
                  ORDER BY g.n) r
            """, scope: .none, timeout: .seconds(300))
    }

    /// One job a run, each of which holds a key.
    private func keyedBacklog(_ tenant: BenchTenant, _ count: Int) async throws {
        let jobs = (0..<count).map { _ in JobID.new(at: .now()) }
        let model = tenant.job(tenant.devices)
        try await bed.owner.execute(
            """
            INSERT INTO jobs (organization_id, id, site_id, kind, state, priority, statement,
                              timeout_seconds, maximum_attempts, idempotent, total, created_by,
                              request_hash, expires_at)
            SELECT \(tenant.organization), id, \(tenant.sites[0]), 'ping', 1, 1,
                   \(PostgresData(model.statement)), 60, 1, false, 1, \(Bed.principal),
                   \(PostgresData(model.requestHash)), now() + interval '1 hour'
            FROM unnest(\(jobs)) AS j(id)
            """, scope: .none, timeout: .seconds(120))
        try await bed.owner.execute(
            """
            INSERT INTO job_slots (organization_id, place, site_id, key, job_id, while_running, replaces)
            SELECT \(tenant.organization), \(tenant.organization), NULL, 'key ' || id, id, true, false
            FROM unnest(\(jobs)) AS j(id)
            """, scope: .none, timeout: .seconds(120))
        try await bed.owner.execute(
            """
            INSERT INTO runs (organization_id, id, job_id, device_id, site_id, state, priority, lane,
                              generation, expires_at, deadline)
            SELECT \(tenant.organization), crmm_uuid7(), id,
                   (\(tenant.devices)::uuid[])[1 + n % \(tenant.devices.count)], \(tenant.sites[0]),
                   1, 1, 0, 1, now() + interval '1 hour', now() + interval '1 hour'
            FROM unnest(\(jobs)) WITH ORDINALITY AS j(id, n)
            """, scope: .none, timeout: .seconds(120))
    }

    /// What Redis holds when so many runs are queued over so many organizations, and all were refilled.
    func memory() async throws {
        let (count, organizations) = (value("runs", 1_000_000), value("organizations", 100))
        let tenants = try await bed.tenants(organizations, devices: max(1, 1_000 / organizations))
        try await backlog(tenants, count / organizations)
        await mark(tenants)
        let refiller = Refiller(ledger: bed.worker, front: bed.front, logger: Bed.logger)
        while try await refiller.refillOnce() > 0 {}
        let info = try await bed.redis.send(RedisCommand("INFO", "memory")).text ?? ""
        let used = info.split(whereSeparator: \.isNewline).first { $0.hasPrefix("used_memory:") }
            .flatMap { Double($0.dropFirst("used_memory:".count)) }
        let queued = try await bed.number("SELECT count(*) FROM runs WHERE state = 1")
        say(["usedMiB": (used ?? 0) / 1_048_576, "queued": Double(queued)])
    }
}
