import Synchronization

/// What a caller wants of a connection, and the place where its outcome arrives once.
final class Request: Sendable {
    /// What a request is to its connection.
    enum Kind: Sendable {
        /// A transaction of its own.
        case single
        /// Shares a transaction with others that come at the same time; its statement is idempotent.
        case grouped
        /// Opens a transaction and with it a lease: what follows must name the lease in the reply.
        case begin
        /// A step of the lease's transaction.
        case step(lease: Int)
        /// A script of several statements: a step of the lease's transaction, or without one a statement that
        /// the server runs in no transaction, as `CREATE DATABASE`.
        case script(lease: Int?)
        /// The end of the lease's transaction, with what it did.
        case commit(lease: Int)
        /// The end of the lease's transaction, without.
        case rollback(lease: Int)
        /// The connection's own first words.
        case setup
    }

    /// What a caller gets.
    struct Reply: Sendable {
        let results: [PostgresResult]
        /// The lease that a `begin` opened.
        let lease: Int
        /// Whether no transaction is open on the connection afterwards.
        let isIdle: Bool
    }

    let kind: Kind
    let statements: [Statement]
    let scope: Scope
    /// On whose behalf, by the task that asks.
    let actor = Actor.current
    let deadline: ContinuousClock.Instant
    private let pending = Pending<Reply>()
    private let isSent = Atomic(false)

    init(_ kind: Kind, _ statements: [Statement], scope: Scope, deadline: ContinuousClock.Instant) {
        self.kind = kind
        self.statements = statements
        self.scope = scope
        self.deadline = deadline
    }

    var isSettled: Bool { pending.isSettled }
    var isGrouped: Bool { if case .grouped = kind { true } else { false } }
    var isScript: Bool { if case .script = kind { true } else { false } }

    /// The lease without which the request is refused.
    var lease: Int? {
        switch kind {
        case .step(let lease), .commit(let lease), .rollback(let lease): lease
        case .script(let lease): lease
        case .single, .grouped, .begin, .setup: nil
        }
    }

    /// Whether scope and time limit are set before the statements.
    var setsScope: Bool {
        switch kind {
        case .single, .grouped, .step, .commit: true
        case .begin, .script, .rollback, .setup: false
        }
    }

    /// Whether the statements may open or end a transaction.
    var controlsTransaction: Bool {
        switch kind {
        case .begin, .commit, .rollback: true
        case .single, .grouped, .step, .script, .setup: false
        }
    }

    /// Whether the lease's transaction is over when the request is sent.
    var endsLease: Bool {
        switch kind {
        case .commit, .rollback: true
        case .single, .grouped, .begin, .step, .script, .setup: false
        }
    }

    /// Whether the request is a transaction of its own, which leaves none open.
    var isAlone: Bool {
        switch kind {
        case .single, .grouped: true
        case .begin, .step, .script, .commit, .rollback, .setup: false
        }
    }

    /// Whether the request is a step of a lease's transaction that does not end it.
    var isInsideTransaction: Bool {
        switch kind {
        case .begin, .step: true
        case .script(let lease): lease != nil
        case .single, .grouped, .commit, .rollback, .setup: false
        }
    }

    /// Whether what the request did stands when its Sync is through; otherwise it is undone with the
    /// transaction.
    var commits: Bool {
        switch kind {
        case .single, .grouped, .commit: true
        case .script(let lease): lease == nil
        case .begin, .step, .rollback, .setup: false
        }
    }

    /// Marks the request as sent, from when on its outcome is unknown until learned; false if nobody waits
    /// any more.
    func markSent() -> Bool { pending.unlessSettled { isSent.store(true, ordering: .relaxed) } }

    func succeed(_ reply: Reply) { pending.settle { .success(reply) } }

    func fail(_ error: PostgresError) { pending.settle { .failure(error) } }

    /// Tells the caller that nobody waits for the outcome any more, and whether it may still come true.
    func abandon(_ code: PostgresError.Code, _ message: String) {
        pending.settle {
            let mayHaveCommitted = isSent.load(ordering: .relaxed) && commits
            return .failure(PostgresError(code, message, mayHaveCommitted: mayHaveCommitted))
        }
    }

    /// Hands the request to a connection by `start` and waits for the reply; a cancelled task gets
    /// `cancelled` at once.
    func reply(afterStarting start: () -> Void) async throws(PostgresError) -> Reply {
        let outcome = await withTaskCancellationHandler {
            await pending.outcome(afterStarting: start)
        } onCancel: {
            abandon(.cancelled, "the caller was cancelled")
        }
        return try outcome.get()
    }

    /// As ``reply(afterStarting:)``, but goes on in a cancelled task.
    func replyDespiteCancellation(afterStarting start: () -> Void) async throws(PostgresError) -> Reply {
        try await pending.outcome(afterStarting: start).get()
    }
}
