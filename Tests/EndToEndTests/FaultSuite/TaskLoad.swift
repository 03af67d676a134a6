import Client
import Domain
import History
import Process
import Wire

/// Tasks of a round: retention, which removes jobs that ended long ago.
///
/// What becomes of them is seen in the database, by triggers of the test's own that write what is committed;
/// what the API says in the end is asked for as well.
struct TaskLoad: Sendable {
    let cluster: FaultCluster

    init(_ cluster: FaultCluster) { self.cluster = cluster }

    /// Tasks and old jobs of each organization, in each portion.
    private static let tasks = 3
    private static let jobs = 12

    /// Begins to watch, and puts the first ones there.
    func begin() async throws {
        _ = try await psql(Self.watch)
        for _ in 0..<2 { try await trickle() }
    }

    /// A portion: what retention is to remove, then its tasks, one of which is due in a second.
    func trickle() async throws {
        for organization in Set(await cluster.agents.map { "\($0.fleet.organization)" }) {
            let planted = try await psql(Self.plant(organization))
            for job in planted {
                cluster.log.note(.planted) { ($0.job, $0.organization) = (job, organization) }
            }
            let accepted = EventLog.now()
            for task in try await psql(Self.submit(organization)) {
                cluster.log.note(.taskAccepted, at: accepted) {
                    ($0.task, $0.organization) = (task, organization)
                }
            }
        }
    }

    /// Waits until all tasks have ended; the history says which have not.
    func untilEnded(within seconds: Int) async throws {
        do {
            try await eventually("all tasks of \(cluster.name) have ended", within: seconds) {
                try await psql("SELECT id FROM tasks WHERE state < 10 LIMIT 1").isEmpty
            }
        } catch is TooLate {
            // The history says which are lost.
        }
    }

    /// Notes what was committed of tasks and their effects, and what the API says of them.
    func gather() async throws {
        let accepted = cluster.log.history.events.filter { $0.kind == .taskAccepted }
        guard !accepted.isEmpty, let api = await cluster.agents.first?.fleet.api else { return }
        try await untilEnded(within: 90)
        for line in try await psql("SELECT * FROM seen ORDER BY seq") {
            let words = line.split(separator: "|", omittingEmptySubsequences: false).map(String.init)
            guard words.count == 8, let at = Int(words[1]) else { throw TooLate(description: line) }
            cluster.log.note(words[2] == "task" ? .taskChanged : .removed, at: at) { event in
                guard words[2] == "task" else { return event.job = words[3] }
                event.task = words[3]
                event.state = Int16(words[4]).flatMap(TaskState.init)?.name
                (event.attempt, event.generation) = (Int(words[5]), Int(words[6]))
                event.token = words[7].isEmpty ? nil : words[7]
            }
        }
        for event in accepted {
            guard let id = event.task.flatMap({ TaskID($0) }) else { continue }
            let task = try await persist("task \(id) is told") { try await api.task(id) }
            cluster.log.note(.taskOutcome) {
                ($0.task, $0.state, $0.attempt) = ("\(id)", task.state.name, task.attempt)
            }
        }
    }

    /// The lines that a statement of the owner returns.
    private func psql(_ statement: String) async throws -> [String] {
        try await tool("/usr/bin/psql", ["-qAt", cluster.postgres.url("owner"), "-c", statement]).required()
            .split(separator: "\n").map(String.init)
    }

    // Renewals of leases are no changes. A job is removed in the commit that its row goes with.
    private static let watch = """
        CREATE TABLE IF NOT EXISTS seen (
            seq bigint GENERATED ALWAYS AS IDENTITY, at bigint, what text, id uuid, state smallint,
            attempt integer, generation integer, token uuid
        );
        CREATE OR REPLACE FUNCTION note_seen() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = public AS $$
        BEGIN
            IF TG_TABLE_NAME = 'jobs' THEN
                INSERT INTO seen (at, what, id)
                VALUES (extract(epoch FROM clock_timestamp()) * 1000000, 'job', OLD.id);
                RETURN NULL;
            END IF;
            IF TG_OP = 'INSERT' OR (OLD.state, OLD.attempt, OLD.generation) IS DISTINCT FROM
                                   (NEW.state, NEW.attempt, NEW.generation) THEN
                INSERT INTO seen (at, what, id, state, attempt, generation, token)
                VALUES (extract(epoch FROM clock_timestamp()) * 1000000, 'task', NEW.id, NEW.state,
                        NEW.attempt, NEW.generation, NEW.token);
            END IF;
            RETURN NULL;
        END $$;
        CREATE OR REPLACE TRIGGER seen AFTER INSERT OR UPDATE ON tasks
        FOR EACH ROW EXECUTE FUNCTION note_seen();
        CREATE OR REPLACE TRIGGER seen AFTER DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION note_seen()
        """

    private static func plant(_ organization: String) -> String {
        """
        WITH made AS (
            INSERT INTO jobs (organization_id, id, kind, state, priority, statement, timeout_seconds,
                              maximum_attempts, idempotent, total, ended, created_by, created_at, expires_at,
                              finished_at)
            SELECT '\(organization)',
                   overlay(crmm_uuid7()::text PLACING
                           left(crmm_uuid7_floor(now() - interval '200 days')::text, 13) FROM 1)::uuid,
                   'script', 10, 1, '1', 60, 1, false, 1, '{1,0,0,0,0,0}', gen_random_uuid(),
                   now() - interval '200 days', now() - interval '200 days', now() - interval '200 days'
            FROM generate_series(1, \(jobs)) RETURNING organization_id, id, created_at
        ), runs AS (
            INSERT INTO run_history (organization_id, id, job_id, device_id, site_id, state, attempt,
                                     created_at, finished_at)
            SELECT organization_id, id, id, gen_random_uuid(), gen_random_uuid(), 10, 1, created_at,
                   created_at
            FROM made
        )
        SELECT id FROM made
        """
    }

    private static func submit(_ organization: String) -> String {
        """
        INSERT INTO tasks (organization_id, id, kind, payload, state, priority, maximum_attempts,
                           backoff_seconds, maximum_backoff_seconds, timeout_seconds, expires_at, deadline)
        SELECT '\(organization)', crmm_uuid7(), 'retention', '{}', CASE WHEN n = 1 THEN 0 ELSE 1 END, 1, 5, 1,
               1, 600, now() + interval '1 hour',
               CASE WHEN n = 1 THEN now() + interval '1 second' ELSE now() + interval '1 hour' END
        FROM generate_series(1, \(tasks)) AS n RETURNING id
        """
    }
}
