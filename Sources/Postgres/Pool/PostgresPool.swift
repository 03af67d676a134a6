package import Logging
import Synchronization

/// Connections to one server.
///
/// Single requests are pipelined on a few connections that many callers share; each request is one
/// transaction, which begins with its scope. Transactions of several steps have connections of their own.
/// Every call waits at most its time limit, also for a connection: while the server is away, requests wait
/// and the pool keeps trying to reach it.
package final class PostgresPool: Sendable {
    private enum Phase: UInt8, AtomicRepresentable {
        /// Made; ``start()`` leads on.
        case new
        /// Takes requests; ``close()`` leads on.
        case running
        /// Final.
        case closed
    }

    /// The longest time limit; longer ones are cut.
    static let timeoutMax: Duration = .seconds(7 * 86_400)

    private let configuration: PostgresConfiguration
    private let logger: Logger
    private let connections: [Connection]
    private let leases: Mutex<Leases>
    private let phase = Atomic(Phase.new)
    /// What its connections have been through.
    package let counts = ConnectionCounts()

    /// Makes a pool, which does nothing before ``start()``.
    package init(configuration: PostgresConfiguration, logger: Logger) {
        self.configuration = configuration
        self.logger = logger
        let counts = counts
        connections = (0..<max(configuration.connections, 1)).map { _ in
            Connection(configuration: configuration, logger: logger, counts: counts)
        }
        leases = Mutex(Leases(connectionsMax: max(configuration.transactionConnections, 1)))
    }

    deinit {
        for connection in connections + leases.withLock({ $0.all }) { connection.close() }
    }

    /// Starts to connect; returns at once.
    package func start() {
        guard phase.compareExchange(expected: .new, desired: .running, ordering: .relaxed).exchanged else {
            return
        }
        for connection in connections {
            connection.start { [weak self] request in
                if let self {
                    route(request)
                } else {
                    request.fail(PostgresError(.closed, "the pool is gone"))
                }
            }
        }
    }

    /// Refuses what comes from now on, lets finish what is under way, and returns when every connection is
    /// closed.
    package func close() async {
        guard phase.exchange(.closed, ordering: .relaxed) == .running else { return }
        for connection in connections + leases.withLock({ $0.close() }) { connection.close() }
        for connection in connections + leases.withLock({ $0.all }) { await connection.ended() }
    }

    // MARK: Single requests

    /// Runs one statement and reads its rows; one transaction.
    package func query<T>(
        _ sql: SQL, scope: Scope, timeout: Duration? = nil, decode: (PostgresRow) throws -> T
    ) async throws -> [T] {
        try await run(.single, [sql], scope, timeout)[0].rows.map(decode)
    }

    /// Runs one statement; returns how many rows it touched; one transaction.
    @discardableResult
    package func execute(_ sql: SQL, scope: Scope, timeout: Duration? = nil) async throws -> Int {
        try await run(.single, [sql], scope, timeout)[0].affected
    }

    /// Runs several statements in one round trip; one transaction.
    @discardableResult
    package func pipeline(
        scope: Scope, _ statements: [SQL], timeout: Duration? = nil
    ) async throws -> [PostgresResult] {
        try await run(.single, statements, scope, timeout)
    }

    /// Runs one idempotent statement, and shares the commit with others that come while the previous group
    /// commits.
    ///
    /// A member never sees another's scope, and never another's error: a failed group is tried again in
    /// parts, so a statement may run more than once.
    package func grouped<T>(
        _ sql: SQL, scope: Scope, timeout: Duration? = nil, decode: (PostgresRow) throws -> T
    ) async throws -> [T] {
        try await run(.grouped, [sql], scope, timeout)[0].rows.map(decode)
    }

    /// How many requests wait or run, and transactions wait for a connection.
    package var pending: Int {
        connections.reduce(leases.withLock(\.waitingCount)) { $0 + $1.load.load(ordering: .relaxed) }
    }

    private func run(
        _ kind: Request.Kind, _ statements: [SQL], _ scope: Scope, _ timeout: Duration?
    ) async throws(PostgresError) -> [PostgresResult] {
        try admit(scope)
        var prepared: [Statement] = []
        for sql in statements { prepared.append(try Statement(sql)) }
        let request = Request(kind, prepared, scope: scope, deadline: deadline(timeout))
        return try await request.reply { route(request) }.results
    }

    /// Runs a trusted script outside any transaction.
    func run(script: String, timeout: Duration?) async throws(PostgresError) {
        try admit(.none)
        let request = Request(
            .script(lease: nil), [Statement(script: script)], scope: .none, deadline: deadline(timeout))
        _ = try await request.reply { route(request) }
    }

    private func deadline(_ timeout: Duration?) -> ContinuousClock.Instant {
        .now + min(timeout ?? configuration.statementTimeout, Self.timeoutMax)
    }

    private func admit(_ scope: Scope) throws(PostgresError) {
        switch phase.load(ordering: .relaxed) {
        case .new: throw PostgresError(.closed, "the pool has not been started")
        case .closed: throw PostgresError(.closed, "the pool is closed")
        case .running: break
        }
        guard scope.isWellFormed else {
            throw PostgresError(
                .configuration,
                "a scope is printable ASCII without quotes and backslashes, at most \(Scope.bytesMax) bytes")
        }
        guard pending < configuration.pendingMax else {
            throw PostgresError(.overloaded, "\(configuration.pendingMax) requests wait already")
        }
    }

    /// Gives a request to a connected connection if there is one: a single one to the least loaded, one for a
    /// group to the first that has not a whole group waiting, so that groups become large.
    private func route(_ request: Request) {
        let loads = connections.map { connection in
            (
                isDown: !connection.isReady.load(ordering: .relaxed),
                load: connection.load.load(ordering: .relaxed)
            )
        }
        var best = 0
        for index in loads.indices.dropFirst() {
            let (candidate, champion) = (loads[index], loads[best])
            if candidate.isDown != champion.isDown {
                if champion.isDown { best = index }
            } else if candidate.load < champion.load, !request.isGrouped || champion.load >= Backlog.groupMax
            {
                best = index
            }
        }
        connections[best].enqueue(request)
    }

    // MARK: Transactions

    /// Runs `body` in a transaction and commits it, or rolls it back if the body throws.
    ///
    /// The connection is used again only if no transaction is open on it; otherwise, and if the caller was
    /// cancelled, it is closed, which undoes what was done. If the commit's outcome was not learned, the
    /// error says so.
    package func transaction<T>(
        scope: Scope, isolation: PostgresIsolation = .readCommitted, timeout: Duration? = nil,
        _ body: (PostgresTransaction) async throws -> T
    ) async throws -> T {
        try admit(scope)
        let connection = try await lease(until: deadline(timeout))
        let transaction: PostgresTransaction
        do {
            let request = Request(
                .begin, [try Statement(isolation.begin)], scope: scope, deadline: deadline(timeout))
            let lease = try await request.reply { connection.enqueue(request) }.lease
            transaction = PostgresTransaction(
                connection: connection, lease: lease, scope: scope,
                statementTimeout: configuration.statementTimeout)
        } catch {
            giveBack(connection, isClean: false)
            throw error
        }
        let value: T
        do {
            value = try await body(transaction)
        } catch {
            await rollBack(transaction, because: error)
            throw error
        }
        try await commit(transaction)
        return value
    }

    private func commit(_ transaction: PostgresTransaction) async throws {
        if let failure = transaction.failure {
            await rollBack(transaction, because: failure)
            throw PostgresError(
                .server("25P02"),
                "a statement of the transaction had failed, so it was rolled back: \(failure.message)",
                sqlState: "25P02")
        }
        let request = Request(
            .commit(lease: transaction.lease), [try Statement("COMMIT")], scope: transaction.scope,
            deadline: deadline(nil))
        do throws(PostgresError) {
            let reply = try await request.reply { transaction.connection.enqueue(request) }
            giveBack(transaction.connection, isClean: reply.isIdle)
        } catch {
            giveBack(transaction.connection, isClean: false)
            throw error
        }
    }

    /// Ends the transaction of a body that threw, on a connection that is surely at rest; otherwise closes
    /// it.
    private func rollBack(_ transaction: PostgresTransaction, because error: any Error) async {
        var isAtRest = !Task.isCancelled
        for case let failure? in [error as? PostgresError, transaction.failure] {
            switch failure.code {
            case .timeout, .cancelled, .connection: isAtRest = false
            case .server, .overloaded, .closed, .decoding, .configuration: break
            }
        }
        var isClean = false
        if isAtRest, let statement = try? Statement("ROLLBACK") {  // has no parameters
            let request = Request(
                .rollback(lease: transaction.lease), [statement], scope: transaction.scope,
                deadline: deadline(nil))
            // No reply counts as not clean: the connection is closed, which rolls back as well.
            let reply = try? await request.replyDespiteCancellation {
                transaction.connection.enqueue(request)
            }
            isClean = reply?.isIdle ?? false  // a failed rollback closes the connection, which rolls back
        }
        giveBack(transaction.connection, isClean: isClean)
    }

    private func lease(until deadline: ContinuousClock.Instant) async throws(PostgresError) -> Connection {
        let (grant, opened) = leases.withLock { leases -> (Leases.Grant, Connection?) in
            let grant = leases.take()
            guard case .open = grant else { return (grant, nil) }
            let connection = Connection(configuration: configuration, logger: logger, counts: counts)
            leases.opened(connection)
            return (grant, connection)
        }
        if let opened {
            opened.start { [weak opened] request in opened?.enqueue(request) }  // the thread keeps it alive
            return opened
        }
        switch grant {
        case .connection(let connection): return connection
        case .wait(let place):
            counts.waits.add(1, ordering: .relaxed)
            return try await wait(for: place, until: deadline)
        case .open, .closed: throw PostgresError(.closed, "the pool is closed")
        }
    }

    private func wait(
        for place: Pending<Connection>, until deadline: ContinuousClock.Instant
    ) async throws(PostgresError) -> Connection {
        async let _: Void = {
            try? await Task.sleep(until: deadline, clock: .continuous)  // cancelled when the wait is over
            if !Task.isCancelled {
                place.settle {
                    .failure(PostgresError(.timeout, "no connection was free for the transaction in time"))
                }
            }
        }()
        let outcome = await withTaskCancellationHandler {
            await place.outcome()
        } onCancel: {
            place.settle { .failure(PostgresError(.cancelled, "the caller was cancelled")) }
        }
        return try outcome.get()
    }

    private func giveBack(_ connection: Connection, isClean: Bool) {
        if !isClean { connection.reset() }
        if leases.withLock({ $0.giveBack(connection) }) { connection.close() }
    }
}
