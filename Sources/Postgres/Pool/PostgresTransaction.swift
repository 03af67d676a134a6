import Synchronization

/// A transaction on a connection of its own, open while the body of
/// ``PostgresPool/transaction(scope:isolation:timeout:_:)`` runs; a call after that is refused with `closed`.
package final class PostgresTransaction: Sendable {
    let connection: Connection
    let lease: Int
    let scope: Scope
    private let statementTimeout: Duration
    private let firstFailure = Mutex<PostgresError?>(nil)

    init(connection: Connection, lease: Int, scope: Scope, statementTimeout: Duration) {
        self.connection = connection
        self.lease = lease
        self.scope = scope
        self.statementTimeout = statementTimeout
    }

    /// The first error of a statement; there are no savepoints, so nothing of the transaction will be kept
    /// after it.
    var failure: PostgresError? { firstFailure.withLock(\.self) }

    /// Runs one statement and reads its rows.
    package func query<T>(
        _ sql: SQL, timeout: Duration? = nil, decode: (PostgresRow) throws -> T
    ) async throws -> [T] {
        try await run(.step(lease: lease), [Statement(sql)], timeout: timeout)[0].rows.map(decode)
    }

    /// Runs one statement; returns how many rows it touched.
    @discardableResult
    package func execute(_ sql: SQL, timeout: Duration? = nil) async throws -> Int {
        try await run(.step(lease: lease), [Statement(sql)], timeout: timeout)[0].affected
    }

    /// Runs several statements in one round trip.
    @discardableResult
    package func pipeline(_ statements: [SQL], timeout: Duration? = nil) async throws -> [PostgresResult] {
        try await run(.step(lease: lease), statements.map { sql in try Statement(sql) }, timeout: timeout)
    }

    /// Runs a trusted script of several statements, which must not open or end transactions.
    func execute(script: String, timeout: Duration) async throws {
        _ = try await run(.script(lease: lease), [Statement(script: script)], timeout: timeout)
    }

    private func run(
        _ kind: Request.Kind, _ statements: [Statement], timeout: Duration?
    ) async throws(PostgresError) -> [PostgresResult] {
        let deadline = ContinuousClock.now + min(timeout ?? statementTimeout, PostgresPool.timeoutMax)
        let request = Request(kind, statements, scope: scope, deadline: deadline)
        do {
            return try await request.reply { connection.enqueue(request) }.results
        } catch {
            firstFailure.withLock { $0 = $0 ?? error }
            throw error
        }
    }
}

/// How much of other transactions a transaction sees; as PostgreSQL defines it (manual, 13.2).
package enum PostgresIsolation: Sendable {
    /// Each statement sees what was committed when it began.
    case readCommitted
    /// Every statement sees what was committed when the first began; conflicting writes fail with 40001.
    case repeatableRead
    /// As if transactions ran one after another; whatever would not fit fails with 40001.
    case serializable

    var begin: SQL {
        switch self {
        case .readCommitted: "BEGIN"
        case .repeatableRead: "BEGIN ISOLATION LEVEL REPEATABLE READ"
        case .serializable: "BEGIN ISOLATION LEVEL SERIALIZABLE"
        }
    }
}
