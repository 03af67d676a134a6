import Client
import Domain
import Glibc
import Process
import Testing
import Wire

extension EndToEndTests {
    /// The platform's own work when workers come and go.
    @Suite(.serialized, SeparateProcesses()) struct ServerTaskTests {
        private let installation: Installation

        init() throws { installation = try #require(Installation.current) }

        /// A retention task that cannot come further until its table is given free.
        private struct Held {
            let fleet: Fleet
            let task: TaskID
            let holder: Task<Void, Never>
            let name: String
        }

        private func hold(_ name: String) async throws -> Held {
            let fleet = try await installation.fleet(name)
            let postgres = installation.postgres
            let task = TaskID(UniqueID(high: UInt64.random(in: 1 ... .max), low: .random(in: 1 ... .max)))
            let holder = Task {
                // It fails when it is told to end, and ends by itself where the tests are killed.
                _ = try? await postgres.execute(
                    "BEGIN; LOCK TABLE job_slots IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(60), '\(name)'")
            }
            let locks =
                "SELECT 1 / count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted"
                + " AND relation = 'job_slots'::regclass"
            try await eventually("the table is held") {
                // Dividing by nothing is an error.
                (try? await postgres.execute(locks)) != nil
            }
            try await postgres.execute(
                """
                INSERT INTO tasks (organization_id, id, kind, payload, state, priority, maximum_attempts,
                    backoff_seconds, maximum_backoff_seconds, timeout_seconds, expires_at, deadline,
                    -- As the daily one, or a worker that starts submits another, which waits as well.
                    idempotency_key)
                VALUES ('\(fleet.organization)', '\(task)', 'retention', '{}', 1, 1, 5, 1, 1, 600,
                    now() + interval '1 hour', now() + interval '1 hour',
                    to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD'))
                """)
            try await eventually("a worker has the task") {
                try await fleet.api.task(task).state == .running
            }
            return Held(fleet: fleet, task: task, holder: holder, name: name)
        }

        private func release(_ held: Held) async throws {
            try await installation.postgres.execute(
                """
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE query LIKE '%pg_sleep(60), ''\(held.name)''%' AND pid <> pg_backend_pid()
                """)
            await held.holder.value
        }

        @Test("what a killed worker had is done by another, and recorded once")
        func killed() async throws {
            let held = try await hold("killed")
            let first = try #require(try await held.fleet.api.task(held.task).workerId)
            let other = try await installation.startAnother(.worker)
            try await installation.crash(.worker)
            try await eventually("the other worker has it") {
                let task = try await held.fleet.api.task(held.task)
                return task.state == .running && task.workerId != first
            }
            try await release(held)
            try await eventually("it is done") {
                try await held.fleet.api.task(held.task).state == .succeeded
            }
            let task = try await held.fleet.api.task(held.task)
            #expect(task.crashes == 1 && task.attempt >= 2)
            try await installation.start(.worker)
            #expect(try await other.stop() == .exited(0))
        }

        @Test("what a stopping worker does not finish is given back, and done by another")
        func stopped() async throws {
            let held = try await hold("stopped")
            let before = try await held.fleet.api.task(held.task)
            let other = try await installation.startAnother(.worker)
            #expect(try await installation.stop(.worker) == .exited(0))
            try await eventually("the other worker has it") {
                let task = try await held.fleet.api.task(held.task)
                return task.state == .running && task.workerId != before.workerId
            }
            try await release(held)
            try await eventually("it is done") {
                try await held.fleet.api.task(held.task).state == .succeeded
            }
            let task = try await held.fleet.api.task(held.task)
            #expect(task.crashes == 0 && task.attempt > before.attempt, "\(task)")
            try await installation.start(.worker)
            #expect(try await other.stop() == .exited(0))
        }
    }
}
