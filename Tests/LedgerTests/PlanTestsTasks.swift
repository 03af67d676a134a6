import Domain
import Postgres
import TestSupport

@testable import Ledger

/// What tasks, their pools and retention ask, under the same plans.
extension PlanTests {
    private static let kind = TaskKind("plans", partition: 1_998)
    /// A day for which there are tasks, and the organization of which much has ended long ago.
    private static let key = "2026-01-01"
    private static let retiring = OrganizationID(UniqueID(high: 2, low: 2))

    /// Ids of tasks that calls name, ten for each.
    private enum Named: Int, CaseIterable {
        case queued, marked, renewed, settled, returned, asked, cancelled, failed

        static let ids: [TaskID] = (0..<80).map { _ in fresh() }
        static let tokens: [AttemptToken] = (0..<80).map { _ in fresh() }

        var range: Range<Int> { rawValue * 10..<rawValue * 10 + 10 }
        var ids: [TaskID] { Array(Self.ids[range]) }
        var state: TaskState {
            switch self {
            case .queued, .marked, .cancelled: .queued
            case .renewed, .settled, .returned, .asked: .running
            case .failed: .failed
            }
        }

        func attempts(of tenant: Tenant) -> [(organization: OrganizationID, id: TaskID, token: AttemptToken)]
        {
            range.map { (tenant.organization, Self.ids[$0], Self.tokens[$0]) }
        }

        func entries(of tenant: Tenant) -> [QueuedRun] {
            ids.map {
                QueuedRun(organization: tenant.organization, task: $0, generation: 1, priority: .standard)
            }
        }

        func tasks(of tenant: Tenant) -> [MarkedTask] {
            attempts(of: tenant).enumerated().map { index, attempt in
                MarkedTask(
                    organization: attempt.organization, id: attempt.id, attempt: 1, token: attempt.token,
                    entry: entries(of: tenant)[index], payload: [], failures: 0, policy: TaskPolicy(),
                    waitedSeconds: 0)
            }
        }
    }

    private static func submitted(_ tenant: Tenant, keys: [String?]) -> [SubmittedTask] {
        keys.map { key in
            SubmittedTask(
                id: fresh(), organization: tenant.organization, kind: kind, payload: [],
                expiresAt: now() + .seconds(3_600), key: key)
        }
    }

    static let taskCalls = [
        Call("submission of tasks", 40) { world, rows in
            try await world.api.submit(
                submitted(rows.tenant, keys: (0..<10).map { "new \($0)" }), scope: rows.tenant.scope
            ).count
        },
        Call("repeated submission of tasks", 40) { world, rows in
            try await world.api.submit(
                submitted(rows.tenant, keys: (0..<10).map { "new \($0)" }), scope: rows.tenant.scope
            ).count { if case .repeated = $0 { true } else { false } }
        },
        Call("refill of tasks", 6) { world, rows in
            try await world.worker.queuedTasks(
                of: [(rows.tenant.organization.queue(), after: ID(.zero))], kind: kind, limit: 10
            ).values.joined().count
        },
        Call("backlog of tasks", 4) { world, _ in
            try await world.worker.taskQueuesWithBacklog(kind: kind).count * 10
        },
        Call("stragglers of tasks", 4) { world, _ in
            try await world.worker.taskQueuesWithBacklog(kind: kind, olderThan: .seconds(2)).count * 10
        },
        Call("running tasks", 4) { world, _ in
            try await world.worker.runningTasks(kind: kind, after: nil, limit: 10).count
        },
        Call("running of these tasks", 8) { world, rows in
            try await world.worker.areTasksRunning(
                Named.asked.ids.map { (rows.tenant.organization, RunID($0.value)) }
            ).count
        },
        Call("mark of tasks", 50) { world, rows in
            try await world.worker.markTasks(
                Named.marked.entries(of: rows.tenant).map { ($0, fresh()) }, worker: fresh(),
                epoch: World.epoch, partition: 0
            ).count
        },
        Call("leases of tasks", 50) { world, rows in
            try await world.worker.renewTasks(Named.renewed.attempts(of: rows.tenant)).count
        },
        Call("settlement of tasks", 50) { world, rows in
            var ended = 0
            for task in Named.settled.tasks(of: rows.tenant) {
                let end = try await world.worker.settle(task, as: .succeeded, orAgainAfter: .seconds(1))
                ended += end == .ended(.succeeded) ? 1 : 0
            }
            return ended
        },
        Call("return of tasks", 50) { world, rows in
            try await world.worker.giveBack(Named.returned.attempts(of: rows.tenant)).count
        },
        // Ten are due, ten have expired, of ten the leases have lapsed.
        Call("deadlines of tasks", 180) { world, _ in
            let found = try await world.worker.judgeTaskDeadlines(limit: 10)
            return found.queued.count == 20 && found.ended.count == 10 && found.lapsed == 10 ? 10 : 0
        },
        Call("a task", 6) { world, rows in
            var found = 0
            for id in Named.queued.ids {
                found += try await world.api.task(id, scope: rows.tenant.scope) == nil ? 0 : 1
            }
            return found
        },
        Call("tasks", 6) { world, rows in
            try await world.api.tasks(
                TaskFilter(organization: rows.tenant.organization), PageRequest(after: nil, limit: 10),
                scope: rows.tenant.scope
            ).count
        },
        Call("cancelled tasks", 50) { world, rows in
            var found = 0
            for id in Named.cancelled.ids {
                let task = try await world.api.cancelTask(id, scope: rows.tenant.scope)
                found += task?.state == .cancelled ? 1 : 0
            }
            return found
        },
        Call("retried tasks", 60) { world, rows in
            var made = 0
            for id in Named.failed.ids {
                let new = try await world.api.retryTask(id, as: fresh(), scope: rows.tenant.scope)
                made += new?.queued == nil ? 0 : 1
            }
            return made
        },
        Call("retention of an organization", 8) { world, rows in
            var found = 0
            for _ in 0..<10 {
                let days = try await world.worker.retentionDays(
                    of: rows.tenant.organization, scope: rows.tenant.scope)
                found += days == nil ? 0 : 1
            }
            return found
        },
        Call("organizations without a task of the day", 8) { world, _ in
            try await world.worker.organizationsWithout(
                key: key, of: kind, after: ID(.zero), limit: 10
            ).count
        },
        // Ten runs of ten jobs with all that hangs on them, and ten tasks.
        Call("a step of retention", 600) { world, _ in
            let removed = try await world.worker.removeEnded(before: 90, of: retiring, limit: 10)
            return removed == Removed(jobs: 10, runs: 10, tasks: 10) ? 10 : 0
        },
    ]

    /// Ten thousand tasks in each state, of another kind as well, and as much that has ended long ago.
    static func fillTasks(_ world: World, _ tenant: Tenant) async throws {
        let ended: SQL = "now() - interval '100 days'"
        try await world.owner.pipeline(
            scope: .none,
            [
                "DELETE FROM tasks",
                "SET LOCAL enable_nestloop = off",
                """
                INSERT INTO tasks (organization_id, id, kind, payload, state, priority, token, worker_id,
                                   maximum_attempts, backoff_seconds, maximum_backoff_seconds,
                                   timeout_seconds, queued_at, finished_at, expires_at, deadline)
                SELECT \(tenant.organization), crmm_uuid7(),
                       CASE WHEN n % 2 = 0 THEN \(kind.name) ELSE 'other' END, '{}', s,
                       \(Priority.standard), CASE WHEN s = 4 THEN gen_random_uuid() END,
                       CASE WHEN s = 4 THEN gen_random_uuid() END, 5, 60, 3600, 600,
                       now() - interval '1 hour', CASE WHEN s >= 10 THEN now() END,
                       now() + interval '1 hour', now() + interval '1 hour'
                FROM generate_series(1, 10000) AS n, unnest('{0,1,4,10,11}'::smallint[]) AS s
                ORDER BY random()
                """,
                """
                INSERT INTO tasks (organization_id, id, kind, payload, state, priority, token, worker_id,
                                   maximum_attempts, backoff_seconds, maximum_backoff_seconds,
                                   timeout_seconds, finished_at, expires_at, deadline)
                SELECT \(tenant.organization), i.id, \(kind.name), '{}', i.state, \(Priority.standard),
                       CASE WHEN i.state = 4 THEN i.token END,
                       CASE WHEN i.state = 4 THEN gen_random_uuid() END, 5, 60, 3600, 600,
                       CASE WHEN i.state >= 10 THEN now() END, now() + interval '1 hour',
                       now() + interval '1 hour'
                FROM unnest(\(Named.ids), \(Named.tokens),
                            \(Named.allCases.flatMap { Array(repeating: $0.state, count: 10) }))
                    AS i(id, token, state)
                """,
                // Ten that are due, ten that have expired, ten of workers that are dead.
                """
                UPDATE tasks t SET deadline = now() - interval '1 minute',
                       expires_at = CASE WHEN t.state = 1 THEN now() - interval '1 minute'
                                         ELSE t.expires_at END
                FROM (SELECT id, row_number() OVER (PARTITION BY state ORDER BY random()) AS n FROM tasks
                      WHERE state IN (0, 1, 4) AND id <> ALL (\(Named.ids))) d
                WHERE d.id = t.id AND d.n <= 10
                """,
                """
                INSERT INTO organizations (id, partner_id, name, mac_key, mac)
                VALUES (\(retiring), \(tenant.partner), 'retiring', '', '')
                """,
                """
                INSERT INTO jobs (organization_id, id, kind, state, priority, statement, timeout_seconds,
                                  maximum_attempts, idempotent, total, created_by, expires_at, finished_at)
                SELECT \(retiring), crmm_uuid7_floor(\(fragment: ended) + n * interval '1 second'), 'script',
                       10, \(Priority.standard), '1', 60, 1, false, 1, \(World.principal),
                       \(fragment: ended), \(fragment: ended)
                FROM generate_series(1, 10000) AS n
                """,
                """
                INSERT INTO run_history (organization_id, id, job_id, device_id, site_id, state, attempt,
                                         token, amendable, created_at, finished_at)
                SELECT organization_id, id, id, gen_random_uuid(), id, 10, 1, gen_random_uuid(), false,
                       finished_at, finished_at
                FROM jobs WHERE organization_id = \(retiring)
                """,
                """
                INSERT INTO run_output (organization_id, run_id, site_id, attempt, stdout_head, stdout_tail,
                                        stdout_bytes, stderr_head, stderr_tail, stderr_bytes)
                SELECT organization_id, id, id, 1, '', '', 0, '', '', 0 FROM jobs
                WHERE organization_id = \(retiring)
                """,
                """
                INSERT INTO tasks (organization_id, id, kind, payload, state, priority, maximum_attempts,
                                   backoff_seconds, maximum_backoff_seconds, timeout_seconds, finished_at,
                                   expires_at, deadline)
                SELECT organization_id, id, \(kind.name), '{}', 10, \(Priority.standard), 5, 60, 3600, 600,
                       finished_at, expires_at, expires_at
                FROM jobs WHERE organization_id = \(retiring)
                """,
            ])
    }
}
