package import Domain
import Postgres

/// A task that passed the gate: its handler may begin.
package struct MarkedTask: Sendable {
    /// Which attempt of which task.
    package let organization: OrganizationID
    package let id: TaskID
    package let attempt: Int
    package let token: AttemptToken
    /// Its entry in the queue.
    package let entry: QueuedRun
    /// What the handler reads.
    package let payload: [UInt8]
    /// How many attempts have failed, and when they are repeated.
    package let failures: Int
    package let policy: TaskPolicy
    /// How long it was queued.
    package let waitedSeconds: Double
}

/// What became of the end of an attempt.
package enum TaskEnd: Sendable, Hashable {
    /// The task has ended so.
    case ended(TaskState)
    /// Another attempt follows.
    case repeated
    /// The attempt was not the current one any more: nothing was recorded.
    case late
}

/// What a look at deadlines has changed, by kind.
package struct TaskDeadlines: Sendable {
    /// Tasks that are queued now, in a generation of their own.
    package var queued: [(kind: String, run: QueuedRun)] = []
    /// Tasks that have ended.
    package var ended: [(kind: String, run: QueuedRun)] = []
    /// Tasks of dead workers that wait for another attempt.
    package var scheduled: [(kind: String, run: QueuedRun)] = []
    /// How many leases have lapsed.
    package var lapsed = 0
}

extension Ledger {
    /// How long a worker may say nothing of a task.
    package static let taskLeaseSeconds = 6
    /// How many leases of a task may lapse: of those in which its worker had no other task, and of all.
    package static let taskLoneCrashesMax = 3
    package static let taskCrashesMax = 10

    // MARK: Refill

    /// The oldest queued tasks of a kind of each of these queues after the given one, up to `limit` each.
    package func queuedTasks(
        of queues: [(queue: OrganizationQueue, after: RunID)], kind: TaskKind, limit: Int
    ) async throws -> [OrganizationQueue: [QueuedRun]] {
        let rows = try await pool.query(
            """
            SELECT q.organization_id, t.id, t.generation, q.priority
            FROM unnest(\(queues.map(\.queue.organization)), \(queues.map(\.queue.priority)),
                        \(queues.map(\.after))) AS q(organization_id, priority, after)
            CROSS JOIN LATERAL (
                SELECT id, generation FROM tasks
                WHERE state = 1 AND kind = \(kind.name) AND organization_id = q.organization_id
                  AND (priority, id) > (q.priority, q.after) AND priority <= q.priority
                ORDER BY priority, id LIMIT \(limit)
            ) t
            """, scope: .organizations(queues.map(\.queue.organization)), decode: Self.queuedTask)
        return Dictionary(grouping: rows, by: \.queue)
    }

    /// Every queue with a backlog of a kind, or with an age those of which a task has been queued for so
    /// long: as many probes of an index as there are such queues.
    package func taskQueuesWithBacklog(
        kind: TaskKind, olderThan age: Duration? = nil
    ) async throws -> [OrganizationQueue] {
        let milliseconds = age.map { Int($0 / .milliseconds(1)) }
        return try await pool.query(
            """
            WITH RECURSIVE found AS (
                (SELECT organization_id, priority FROM tasks WHERE kind = \(kind.name) AND state = 1
                 ORDER BY kind, organization_id, priority LIMIT 1)
                UNION ALL
                SELECT n.organization_id, n.priority FROM found f
                CROSS JOIN LATERAL (
                    SELECT t.organization_id, t.priority FROM tasks t
                    WHERE t.kind = \(kind.name) AND t.state = 1
                      AND (t.organization_id, t.priority) > (f.organization_id, f.priority)
                    ORDER BY t.kind, t.organization_id, t.priority LIMIT 1
                ) n
            )
            SELECT f.organization_id, f.priority FROM found f
            WHERE \(milliseconds)::bigint IS NULL
               OR (SELECT true FROM tasks t
                   WHERE t.kind = \(kind.name) AND t.state = 1 AND t.organization_id = f.organization_id
                     AND t.priority = f.priority
                     AND t.queued_at < now() - make_interval(secs => \(milliseconds) / 1000.0)
                   ORDER BY t.kind, t.organization_id, t.priority, t.id LIMIT 1)
            """, scope: .platform
        ) { row in
            let (organization, priority) = try row.decode((OrganizationID, Priority).self)
            return OrganizationQueue(organization, priority)
        }
    }

    /// The running tasks of a kind, page by page: what the queue's membership should hold.
    package func runningTasks(
        kind: TaskKind, after: QueuedRun?, limit: Int
    ) async throws -> [RunningRun] {
        let after = (after?.organization ?? ID(.zero), after?.task ?? ID(.zero))
        return try await pool.query(
            """
            SELECT organization_id, id, generation, priority, deadline FROM tasks
            WHERE kind = \(kind.name) AND state = 4 AND (organization_id, id) > (\(after.0), \(after.1))
            ORDER BY kind, organization_id, id LIMIT \(limit)
            """, scope: .platform
        ) { row in
            let (organization, id, generation, priority, deadline) = try row.decode(
                (OrganizationID, TaskID, Int32, Priority, Instant).self)
            return RunningRun(
                run: QueuedRun(
                    organization: organization, task: id, generation: Int(generation), priority: priority),
                deadline: deadline)
        }
    }

    /// Those of these tasks that are running, with their generation.
    package func areTasksRunning(_ tasks: [(OrganizationID, RunID)]) async throws -> [RunID: Int] {
        guard !tasks.isEmpty else { return [:] }
        let rows = try await pool.query(
            """
            SELECT i.id, t.generation
            FROM unnest(\(tasks.map(\.0)), \(tasks.map(\.1))) AS i(organization_id, id)
            CROSS JOIN LATERAL (
                SELECT * FROM tasks t WHERE t.organization_id = i.organization_id AND t.id = i.id OFFSET 0
            ) t
            WHERE t.state = 4
            """, scope: .platform
        ) { row in try row.decode((RunID, Int32).self) }
        return Dictionary(rows.map { ($0.0, Int($0.1)) }) { first, _ in first }
    }

    // MARK: The gate and the lease

    /// The gate: moves queued tasks to running, with attempt, token, worker and lease, and commits.
    ///
    /// A task is refused by its generation, state or expiry, and all are refused under another epoch than the
    /// one kept here.
    package func markTasks(
        _ claims: [(entry: QueuedRun, token: AttemptToken)], worker: WorkerID, epoch: String, partition: Int
    ) async throws -> [MarkedTask] {
        guard !claims.isEmpty else { return [] }
        return try await pool.query(
            """
            WITH accepted AS MATERIALIZED (
                SELECT crmm_accepts(\(Self.rebuildLock), \(Int32(partition)), \(epoch)) AS ok
            ), locked AS MATERIALIZED (
                SELECT t.organization_id, t.id, i.token
                FROM (SELECT * FROM unnest(\(claims.map(\.entry.organization)), \(claims.map(\.entry.task)),
                                           \(claims.map { Int32($0.entry.generation) }),
                                           \(claims.map(\.token)))
                          AS i(organization_id, id, generation, token)
                      WHERE (SELECT ok FROM accepted) ORDER BY organization_id, id) i
                \(fragment: Self.lockTask)
                WHERE t.state = 1 AND t.generation = i.generation AND t.expires_at > now()
            )
            UPDATE tasks t SET state = 4, attempt = t.attempt + 1, token = l.token, worker_id = \(worker),
                   started_at = now(), deadline = now() + \(fragment: Self.taskLease)
            FROM locked l WHERE \(fragment: Self.isLockedTask)
            RETURNING t.organization_id, t.id, t.generation, t.priority, t.attempt, t.token, t.payload,
                      t.failures, t.maximum_attempts, t.backoff_seconds, t.maximum_backoff_seconds,
                      t.timeout_seconds, extract(epoch FROM now() - t.queued_at)::double precision
            """, scope: .organizations(claims.map(\.entry.organization)), decode: Self.markedTask)
    }

    /// Extends the leases of these attempts.
    /// - Returns: those that are the current ones still, with whether somebody asked to cancel them.
    package func renewTasks(
        _ attempts: [(organization: OrganizationID, id: TaskID, token: AttemptToken)]
    ) async throws -> [TaskID: Bool] {
        guard !attempts.isEmpty else { return [:] }
        let rows = try await pool.query(
            """
            WITH \(fragment: Self.lockedTasks(attempts))
            UPDATE tasks t SET deadline = now() + \(fragment: Self.taskLease) FROM locked l
            WHERE \(fragment: Self.isLockedTask)
            RETURNING t.id, t.cancel_requested_at IS NOT NULL
            """, scope: .organizations(attempts.map(\.organization))
        ) { row in try row.decode((TaskID, Bool).self) }
        return Dictionary(rows) { first, _ in first }
    }

    // MARK: Ends

    /// Records how an attempt ended, once: the task ends, or is scheduled for another attempt after `wait`
    /// if its outcome, its policy, its expiry and who asked to cancel it allow one.
    package func settle(
        _ task: MarkedTask, as outcome: TaskOutcome, orAgainAfter wait: Duration
    ) async throws -> TaskEnd {
        let failed = outcome.isFailure ? 1 : 0
        let again: SQL = """
            (\(outcome.mayBeRepeated) AND t.cancel_requested_at IS NULL
             AND t.failures + \(Int32(failed)) < t.maximum_attempts
             AND t.expires_at > now() + make_interval(secs => \(wait / .seconds(1))))
            """
        let states = try await pool.query(
            """
            WITH \(fragment: Self.lockedTasks([(task.organization, task.id, task.token)]))
            UPDATE tasks t SET
                state = CASE WHEN \(fragment: again) THEN 0 ELSE \(outcome.state) END,
                failures = t.failures + \(Int32(failed)),
                reason = \(outcome.reason.map(Self.reason)),
                token = NULL, worker_id = CASE WHEN \(fragment: again) THEN NULL ELSE t.worker_id END,
                finished_at = CASE WHEN \(fragment: again) THEN NULL ELSE now() END,
                deadline = CASE WHEN \(fragment: again)
                                THEN now() + make_interval(secs => \(wait / .seconds(1)))
                                ELSE t.deadline END
            FROM locked l WHERE \(fragment: Self.isLockedTask)
            RETURNING t.state
            """, scope: .organization(task.organization)
        ) { row in try row.decode(TaskState.self) }
        guard let state = states.first else { return .late }
        return state.isOutcome ? .ended(state) : .repeated
    }

    /// Puts tasks back that their worker does not end because it stops: they are queued at once, in the next
    /// generation, and no attempt is charged. One that is to be cancelled has ended by that.
    /// - Returns: those that are queued now.
    package func giveBack(
        _ attempts: [(organization: OrganizationID, id: TaskID, token: AttemptToken)]
    ) async throws -> [QueuedRun] {
        guard !attempts.isEmpty else { return [] }
        return try await pool.query(
            """
            WITH \(fragment: Self.lockedTasks(attempts)), returned AS (
                UPDATE tasks t SET
                    state = CASE WHEN t.cancel_requested_at IS NULL THEN 1 ELSE 13 END, token = NULL,
                    worker_id = NULL,
                    generation = t.generation + 1, queued_at = now(), deadline = t.expires_at,
                    finished_at = CASE WHEN t.cancel_requested_at IS NULL THEN NULL ELSE now() END
                FROM locked l WHERE \(fragment: Self.isLockedTask)
                RETURNING t.organization_id, t.id, t.generation, t.priority, t.state
            )
            SELECT organization_id, id, generation, priority FROM returned WHERE state = 1
            """, scope: .organizations(attempts.map(\.organization)), decode: Self.queuedTask)
    }

    // MARK: Deadlines

    /// Queues what is due, ends what has expired, and takes back what a dead worker had, of all kinds.
    ///
    /// The first lapse queues a task again at once, later ones after a growing wait, so that what kills
    /// workers does it less and less often.
    package func judgeTaskDeadlines(limit: Int) async throws -> TaskDeadlines {
        let results = try await pool.pipeline(
            scope: .platform,
            [Self.dueTasks(limit), Self.expiredTasks(limit), Self.lapsedTasks(limit)])
        var found = TaskDeadlines()
        for (index, result) in results.enumerated() {
            for row in result.rows {
                let (kind, organization, id, generation, priority, state) = try row.decode(
                    (String, OrganizationID, TaskID, Int32, Priority, TaskState).self)
                let run = QueuedRun(
                    organization: organization, task: id, generation: Int(generation), priority: priority)
                switch state {
                case .queued: found.queued.append((kind, run))
                case .scheduled, .running: found.scheduled.append((kind, run))
                case .succeeded, .failed, .timedOut, .cancelled, .expired: found.ended.append((kind, run))
                }
            }
            if index == 2 { found.lapsed = result.rows.count }
        }
        return found
    }

    private static func dueTasks(_ limit: Int) -> SQL {
        """
        WITH locked AS MATERIALIZED (
            SELECT organization_id, id FROM tasks
            WHERE state = 0 AND deadline < now() AND expires_at > now()
            ORDER BY state, deadline LIMIT \(limit) FOR UPDATE SKIP LOCKED
        )
        UPDATE tasks t SET state = 1, generation = t.generation + 1, queued_at = now(),
               deadline = t.expires_at
        FROM locked l WHERE \(fragment: isLockedTask)
        RETURNING t.kind, t.organization_id, t.id, t.generation, t.priority, t.state
        """
    }

    // What has failed before and comes to no further attempt ends as it failed.
    private static func expiredTasks(_ limit: Int) -> SQL {
        """
        WITH locked AS MATERIALIZED (
            SELECT organization_id, id FROM tasks
            WHERE state = ANY ('{0,1}'::smallint[]) AND deadline < now() AND expires_at <= now()
            LIMIT \(limit) FOR UPDATE SKIP LOCKED
        )
        UPDATE tasks t SET state = CASE WHEN t.failures > 0 THEN 11 ELSE 14 END, finished_at = now(),
               reason = CASE WHEN t.failures > 0 THEN t.reason ELSE 'notBegunInTime' END
        FROM locked l WHERE \(fragment: isLockedTask)
        RETURNING t.kind, t.organization_id, t.id, t.generation, t.priority, t.state
        """
    }

    // Whether a crash was a lone one is told by what else that worker had last and nobody has taken since.
    private static func lapsedTasks(_ limit: Int) -> SQL {
        """
        WITH locked AS MATERIALIZED (
            SELECT organization_id, id, worker_id FROM tasks
            WHERE state = 4 AND deadline < now()
            ORDER BY state, deadline LIMIT \(limit) FOR UPDATE SKIP LOCKED
        ), judged AS MATERIALIZED (
            SELECT l.organization_id, l.id,
                   CASE WHEN (SELECT true FROM tasks o WHERE o.worker_id = l.worker_id AND o.state < 10
                              AND o.id <> l.id LIMIT 1) IS NULL THEN 1 ELSE 0 END AS lone
            FROM locked l
        )
        UPDATE tasks t SET
            state = \(fragment: lapsedState), token = NULL, crashes = t.crashes + 1,
            lone_crashes = t.lone_crashes + l.lone,
            generation = t.generation + 1, queued_at = now(),
            reason = CASE WHEN \(fragment: isPoison) THEN 'poison' ELSE 'workerLost' END,
            finished_at = CASE WHEN \(fragment: lapsedState) >= 10 THEN now() END,
            deadline = CASE WHEN \(fragment: lapsedState) = 0
                            THEN now() + random() * least(interval '5 minutes',
                                                          interval '5 seconds' * 2 ^ t.crashes)
                            ELSE t.expires_at END
        FROM judged l WHERE \(fragment: isLockedTask)
        RETURNING t.kind, t.organization_id, t.id, t.generation, t.priority, t.state
        """
    }

    private static let isPoison: SQL = """
        (t.lone_crashes + l.lone >= \(Int32(taskLoneCrashesMax)) OR t.crashes + 1 >= \(Int32(taskCrashesMax)))
        """

    private static let lapsedState: SQL = """
        CASE WHEN t.cancel_requested_at IS NOT NULL THEN 13
             WHEN \(fragment: isPoison) OR t.expires_at <= now() THEN 11
             WHEN t.crashes = 0 THEN 1 ELSE 0 END
        """

    // MARK: Parts

    private static let taskLease: SQL = "make_interval(secs => \(Double(taskLeaseSeconds)))"

    // As of runs: one probe of the primary key a row, whatever the statistics.
    private static let lockTask: SQL = """
        CROSS JOIN LATERAL (
            SELECT * FROM tasks t WHERE t.organization_id = i.organization_id AND t.id = i.id
            OFFSET 0 FOR UPDATE
        ) t
        """

    // Nothing of it implies an organization, else the indexes of these would be there to be walked.
    static let isLockedTask: SQL =
        "t.organization_id IS NOT DISTINCT FROM l.organization_id AND t.id = ANY (ARRAY[l.id])"

    // The tasks that run, and whose current attempt has this token.
    private static func lockedTasks(
        _ attempts: [(organization: OrganizationID, id: TaskID, token: AttemptToken)]
    ) -> SQL {
        """
        locked AS MATERIALIZED (
            SELECT t.organization_id, t.id
            FROM (SELECT * FROM unnest(\(attempts.map(\.organization)), \(attempts.map(\.id)),
                                       \(attempts.map(\.token))) AS i(organization_id, id, token)
                  ORDER BY organization_id, id) i
            \(fragment: lockTask)
            WHERE t.state = 4 AND t.token = i.token
        )
        """
    }

    // Cut at the limit, at the beginning of a character.
    static func reason(_ text: String) -> String {
        let text = text.replacing("\0", with: "")
        guard text.utf8.count > SubmittedTask.reasonBytesMax else { return text }
        var end = text.utf8.index(text.startIndex, offsetBy: SubmittedTask.reasonBytesMax)
        while String.Index(end, within: text) == nil { end = text.utf8.index(before: end) }
        return String(text[..<end])
    }

    @Sendable static func queuedTask(_ row: PostgresRow) throws -> QueuedRun {
        let (organization, id, generation, priority) = try row.decode(
            (OrganizationID, TaskID, Int32, Priority).self)
        return QueuedRun(
            organization: organization, task: id, generation: Int(generation), priority: priority)
    }

    @Sendable private static func markedTask(_ row: PostgresRow) throws -> MarkedTask {
        let (
            organization, id, generation, priority, attempt, token, payload, failures, attemptsMax, backoff,
            backoffMax, timeout, waited
        ) = try row.decode(
            (
                OrganizationID, TaskID, Int32, Priority, Int32, AttemptToken, PostgresData, Int32, Int32,
                Int32, Int32, Int32, Double
            ).self)
        return MarkedTask(
            organization: organization, id: id, attempt: Int(attempt), token: token,
            entry: QueuedRun(
                organization: organization, task: id, generation: Int(generation), priority: priority),
            payload: payload.bytes, failures: Int(failures),
            policy: TaskPolicy(
                maximumAttempts: Int(attemptsMax), backoffSeconds: Int(backoff),
                maximumBackoffSeconds: Int(backoffMax), timeoutSeconds: Int(timeout)),
            waitedSeconds: waited)
    }
}
