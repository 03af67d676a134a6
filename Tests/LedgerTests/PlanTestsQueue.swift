import Domain
import Postgres
import TestSupport

@testable import Ledger

/// What the queue's upkeep, its views and unique keys ask, under the same plans.
extension PlanTests {
    static let queueCalls = [
        Call("dead letters", 12) { world, rows in
            try await world.api.deadLetters(DeadLetterFilter(), limit: 10, scope: rows.tenant.scope).count
        },
        Call("dead letters of an organization", 12) { world, rows in
            var filter = DeadLetterFilter()
            filter.organization = rows.tenant.organization
            return try await world.api.deadLetters(filter, limit: 10, scope: .platform).count
        },
        Call("beginTrial", 60) { world, rows in
            var begun = 0
            for run in rows.queued {
                if case .begun = try await world.worker.beginTrial(run.queued, owner: "plans") { begun += 1 }
            }
            return begun
        },
        // A kind is paused: the job of each run is looked at, and that of each that is passed by.
        Call("walk", 120) { world, rows in
            let first = rows.queued[0].queued
            return try await world.worker.walk(
                first.queue, after: first.run,
                besides: [RunLane(.job, "\(rows.large)"), RunLane(.kind, "sysinfo")], rows: 50, limit: 10
            ).runs.count
        },
        Call("holds", 4) { world, rows in
            let organization = rows.tenant.organization
            return min(10, try await world.worker.holds(of: [organization])[organization]?.count ?? 0)
        },
        // It walks what runs of an organization; these are the ones that are named.
        Call("lanes", 30) { world, rows in
            let other: OrganizationID = fresh()
            _ = try await world.worker.lanes(of: rows.queued.map(\.queued.run), andRunningOf: other)
            return 10
        },
        Call("queueDepths", 60) { world, rows in
            let queues = try await world.api.queueDepths(
                after: nil, limit: 10, countingAtMost: 20, scope: .platform)
            return queues.count
        },
        Call("unique jobs", 120) { world, rows in
            let jobs = rows.queued.map { run in
                var job = world.job(rows.tenant, devices: [run.queued.device])
                job.unique = UniqueSlot(
                    key: "key \(run.queued.run)", place: rows.tenant.organization.value, site: nil,
                    whileRunning: true, onConflict: .replace)
                return job
            }
            return try await world.api.submit(jobs, scope: rows.tenant.scope).queued.count
        },
        Call("slots that are held", 20) { world, rows in
            let (removed, next) = try await world.worker.removeSlots(limit: 10)
            return removed == 0 && next != nil ? 10 : 0
        },
        Call("notes of pauses", 20) { world, rows in
            try await world.worker.forgetPauses(limit: 10) == nil ? 0 : 10
        },
        Call("use that is due for a comparison", 6) { world, _ in
            try await world.worker.usageChecksDue(after: ID(.zero), limit: 10).due.count
        },
        // Ten runs in each state, of ten jobs.
        Call("comparison of a use", 40) { world, _ in
            try await world.worker.checkUsage(of: small)
                == .mended(OpenWork(runs: 60, bytes: 10)) ? 10 : 0
        },
        Call("traces", 8) { world, rows in
            let jobs = rows.queued.map { ($0.queued.organization, $0.job) }
            // They came without.
            return try await world.worker.traces(of: jobs).isEmpty ? 10 : 0
        },
    ]

    /// An organization that has little among many rows of others.
    private static let small = OrganizationID(UniqueID(high: 1, low: 1))

    /// Makes its jobs and runs; of each job one run has ended that no folder has seen.
    private static func fillSmall(_ world: World, _ tenant: Tenant) async throws {
        try await world.owner.pipeline(
            scope: .none,
            [
                """
                INSERT INTO organizations (id, partner_id, name, mac_key, mac)
                VALUES (\(small), \(tenant.partner), 'small', '', '')
                """,
                """
                INSERT INTO jobs (organization_id, id, kind, state, priority, statement, timeout_seconds,
                                  maximum_attempts, idempotent, total, created_by, expires_at)
                SELECT \(small), crmm_uuid7(), 'script', 1, \(Priority.standard), '1', 60, 1, false, 6,
                       \(World.principal), now() + interval '1 hour'
                FROM generate_series(1, 10)
                """,
                """
                INSERT INTO runs (organization_id, id, job_id, device_id, site_id, state, priority, lane,
                                  generation, expires_at, deadline, due_at)
                SELECT organization_id, crmm_uuid7(), id, gen_random_uuid(), id, n, \(Priority.standard), 1,
                       1, now() + interval '1 hour', now() + interval '1 hour',
                       CASE WHEN n = 0 THEN now() + interval '1 hour' END
                FROM jobs CROSS JOIN generate_series(0, 4) AS s(n) WHERE organization_id = \(small)
                """,
                """
                INSERT INTO job_deltas (organization_id, job_id, outcome, n)
                SELECT organization_id, id, 10, 1 FROM jobs WHERE organization_id = \(small)
                """,
                "DELETE FROM queue_usage_checks",
            ])
    }

    /// Ten thousand rows of what else these calls look at.
    static func fillQueues(_ world: World, _ tenant: Tenant, dead: [RunID]) async throws {
        try await fillSmall(world, tenant)
        try await world.owner.pipeline(
            scope: .none,
            [
                "SET LOCAL enable_nestloop = off",
                "UPDATE run_history SET dead = true WHERE id = ANY (\(dead))",
                """
                INSERT INTO suspects (organization_id, run_id, trial, attempt, owner)
                SELECT organization_id, id, 1, 1, 'other' FROM run_history
                """,
                """
                INSERT INTO paused_jobs (organization_id, job_id)
                SELECT id, crmm_uuid7() FROM organizations WHERE name = 'other'
                """,
                """
                INSERT INTO paused_jobs (organization_id, job_id)
                SELECT \(tenant.organization), crmm_uuid7() FROM generate_series(1, 9)
                """,
                """
                INSERT INTO job_slots (organization_id, place, key, job_id, while_running, replaces)
                SELECT organization_id, organization_id, id::text, id, true, false FROM jobs
                """,
            ])
    }
}
