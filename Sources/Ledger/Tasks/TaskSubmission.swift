package import Domain
package import Postgres

/// A task that somebody submits.
package struct SubmittedTask: Sendable {
    /// Its id, the tenant that it is done for, and which handler does it.
    package var id: TaskID
    package var organization: OrganizationID
    package var kind: TaskKind
    /// What the handler reads; at most `payloadBytesMax`.
    package var payload: [UInt8]
    /// How soon it is served among the organization's tasks of this kind.
    package var priority: Priority
    /// When its attempts are repeated.
    package var policy: TaskPolicy
    /// When it may run at the earliest; `nil` for at once.
    package var notBefore: Instant?
    /// When it is not to be begun any more.
    package var expiresAt: Instant
    /// At most one task of the organization and kind has this key, as long as the task is kept.
    package var key: String?

    /// The largest payload.
    package static let payloadBytesMax = 65_536
    /// The longest key.
    package static let keyBytesMax = 200
    /// The longest reason that is kept.
    package static let reasonBytesMax = 2_000

    /// A task.
    package init(
        id: TaskID, organization: OrganizationID, kind: TaskKind, payload: [UInt8],
        priority: Priority = .standard, policy: TaskPolicy = TaskPolicy(), notBefore: Instant? = nil,
        expiresAt: Instant, key: String? = nil
    ) {
        self.id = id
        self.organization = organization
        self.kind = kind
        self.payload = payload
        self.priority = priority
        self.policy = policy
        self.notBefore = notBefore
        self.expiresAt = expiresAt
        self.key = key
    }
}

/// What became of a submission.
package enum AcceptedTask: Sendable, Hashable {
    /// It is new; `queued` if it may go to the queue at once.
    case accepted(TaskID, queued: QueuedRun?)
    /// A task with this key was there.
    case repeated(TaskID)

    /// The task.
    package var id: TaskID {
        switch self {
        case .accepted(let id, _), .repeated(let id): id
        }
    }
}

/// A task as the queue knows it: a run whose device is the task itself, so that no two tasks share a lane.
extension QueuedRun {
    /// The entry of a task.
    init(organization: OrganizationID, task: TaskID, generation: Int, priority: Priority) {
        self.init(
            organization: organization, run: RunID(task.value), device: DeviceID(task.value),
            generation: generation, lane: .script, priority: priority)
    }

    /// The task of an entry.
    package var task: TaskID { TaskID(run.value) }
}

extension Ledger {
    /// Commits tasks, each with its outcome in the same order.
    ///
    /// Fails as a whole if the scope does not see one of the organizations.
    package func submit(_ tasks: [SubmittedTask], scope: Scope) async throws -> [AcceptedTask] {
        guard !tasks.isEmpty else { return [] }
        return try await pool.transaction(scope: scope) { try await Self.submit(tasks, in: $0) }
    }

    /// Submits tasks with what else a transaction does: they are there if it commits. What is queued may go
    /// to the queue afterwards; otherwise the stragglers' scan brings it.
    package static func submit(
        _ tasks: [SubmittedTask], in transaction: PostgresTransaction
    ) async throws -> [AcceptedTask] {
        let rows = try await transaction.query(insertion(of: tasks)) { row in
            try row.decode((OrganizationID, TaskID, TaskState, Int32, Priority).self)
        }
        let made = Dictionary(
            rows.map { organization, id, state, generation, priority in
                let run = QueuedRun(
                    organization: organization, task: id, generation: Int(generation), priority: priority)
                return (id, state == .queued ? run : nil as QueuedRun?)
            }, uniquingKeysWith: { first, _ in first })
        let keyed = tasks.filter { made[$0.id] == nil }
        let earlier =
            keyed.isEmpty
            ? []
            : try await transaction.query(lookup(of: keyed)) { row in
                (try row.decode((OrganizationID, String, String, TaskID).self))
            }
        let repeated = Dictionary(
            earlier.map { ("\($0) \($1) \($2)", $3) }, uniquingKeysWith: { first, _ in first })
        return try tasks.map { task in
            if let queued = made[task.id] { return .accepted(task.id, queued: queued) }
            let key = task.key.map { "\(task.organization) \(task.kind.name) \($0)" }
            guard let id = key.flatMap({ repeated[$0] }) else {
                throw LedgerError(.notFound, "there is no organization \(task.organization)")
            }
            return .repeated(id)
        }
    }

    // Joined with the organizations that the scope sees, so that a foreign one gets no task.
    private static func insertion(of tasks: [SubmittedTask]) -> SQL {
        """
        WITH input AS MATERIALIZED (
            SELECT * FROM unnest(
                \(tasks.map(\.organization)), \(tasks.map(\.id)), \(tasks.map(\.kind.name)),
                \(tasks.map { PostgresData($0.payload) }), \(tasks.map(\.priority)),
                \(tasks.map { Int32($0.policy.maximumAttempts) }),
                \(tasks.map { Int32($0.policy.backoffSeconds) }),
                \(tasks.map { Int32($0.policy.maximumBackoffSeconds) }),
                \(tasks.map { Int32($0.policy.timeoutSeconds) }), \(tasks.map(\.key)),
                \(tasks.map(\.notBefore)), \(tasks.map(\.expiresAt)))
            AS i(organization_id, id, kind, payload, priority, maximum_attempts, backoff_seconds,
                 maximum_backoff_seconds, timeout_seconds, idempotency_key, not_before, expires_at)
        )
        INSERT INTO tasks (organization_id, id, kind, payload, state, priority, maximum_attempts,
                           backoff_seconds, maximum_backoff_seconds, timeout_seconds, idempotency_key,
                           expires_at, deadline)
        SELECT o.id, i.id, i.kind, i.payload, CASE WHEN i.not_before > now() THEN 0 ELSE 1 END, i.priority,
               i.maximum_attempts, i.backoff_seconds, i.maximum_backoff_seconds, i.timeout_seconds,
               i.idempotency_key, i.expires_at,
               CASE WHEN i.not_before > now() THEN i.not_before ELSE i.expires_at END
        -- In order, so that two batches with the same keys cannot wait for one another.
        FROM (SELECT * FROM input ORDER BY organization_id, kind, idempotency_key) i
        CROSS JOIN LATERAL (SELECT o.id FROM organizations o WHERE o.id = i.organization_id OFFSET 0) o
        ON CONFLICT (organization_id, kind, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
        RETURNING organization_id, id, state, generation, priority
        """
    }

    private static func lookup(of tasks: [SubmittedTask]) -> SQL {
        """
        SELECT i.organization_id, i.kind, i.idempotency_key, t.id
        FROM unnest(\(tasks.map(\.organization)), \(tasks.map(\.kind.name)), \(tasks.map(\.key)))
            AS i(organization_id, kind, idempotency_key)
        CROSS JOIN LATERAL (\(fragment: keyed("i.organization_id", "i.kind", "i.idempotency_key"))) t
        """
    }

    // The task of a key: compared with both bounds and ordered by all of its columns, only their index fits.
    static func keyed(_ organization: SQL, _ kind: SQL, _ key: SQL) -> SQL {
        let place: SQL = "(\(fragment: organization), \(fragment: kind), \(fragment: key))"
        return """
            SELECT t.id FROM tasks t
            WHERE t.idempotency_key IS NOT NULL
              AND (t.organization_id, t.kind, t.idempotency_key) >= \(fragment: place)
              AND (t.organization_id, t.kind, t.idempotency_key) <= \(fragment: place)
            ORDER BY t.organization_id, t.kind, t.idempotency_key LIMIT 1
            """
    }
}
