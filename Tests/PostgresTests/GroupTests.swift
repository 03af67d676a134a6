import Testing

@testable import Postgres

@Suite struct GroupTests {
    /// Sends `count` grouped statements at the same time; returns the SQLSTATE of each, or "" for success.
    private func send(_ count: Int, _ pool: PostgresPool, _ statement: @escaping @Sendable (Int) -> SQL) async
        -> [String]
    {
        await withTaskGroup(of: (Int, String).self) { group in
            for index in 0..<count {
                group.addTask {
                    do {
                        _ = try await pool.grouped(statement(index), scope: .none) { _ in }
                        return (index, "")
                    } catch {
                        return (index, (error as? PostgresError)?.sqlState ?? "other")
                    }
                }
            }
            var states = [String](repeating: "none", count: count)
            for await (index, state) in group { states[index] = state }
            return states
        }
    }

    /// Lets the statements of `body` gather behind a group that waits for a lock, so that they become one
    /// group.
    private func gathered<T: Sendable>(
        _ count: Int, _ pool: PostgresPool, _ body: @escaping @Sendable () async throws -> T
    ) async throws -> T {
        let (held, report) = AsyncStream.makeStream(of: Void.self)
        let (waiting, reportWaiting) = AsyncStream.makeStream(of: Void.self)
        let (gate, open) = AsyncStream.makeStream(of: Void.self)
        let holder = Task {
            defer { reportWaiting.finish() }
            try await pool.transaction(scope: .none) { transaction in
                try await transaction.execute("SELECT pg_advisory_xact_lock(1)")
                report.yield()
                var isWaiting = false
                while !isWaiting {
                    isWaiting = try await transaction.query(
                        """
                        SELECT EXISTS (
                            SELECT FROM pg_locks JOIN pg_stat_activity a USING (pid)
                            WHERE locktype = 'advisory' AND NOT granted
                                AND application_name = current_setting('application_name'))
                        """
                    ) { try $0.decode(Bool.self) }[0]
                }
                reportWaiting.yield()
                for await _ in gate { break }
            }
        }
        for await _ in held { break }
        let first = Task {
            try await pool.grouped("SELECT pg_advisory_xact_lock_shared(1)", scope: .none) { _ in }
        }
        for await _ in waiting { break }
        let members = Task { try await body() }
        while pool.pending < 1 + count { await Task.yield() }
        open.yield()
        try await holder.value
        _ = try await first.value
        return try await members.value
    }

    @Test("what comes while a group commits shares one transaction")
    func sharing() async throws {
        try await TestServer.withDatabase { pool, _ in
            try await pool.execute(
                "CREATE TABLE t (n int8, x xid8 DEFAULT pg_current_xact_id())", scope: .none)
            let states = try await gathered(100, pool) {
                await send(100, pool) { "INSERT INTO t VALUES (\($0))" }
            }
            #expect(states.allSatisfy { $0 == "" })
            let counts = try await pool.query("SELECT count(*), count(DISTINCT x::text) FROM t", scope: .none)
            {
                try $0.decode((Int, Int).self)
            }
            #expect(try #require(counts.first) == (100, 1))
        }
    }

    @Test("a group has at most 256 members")
    func groupMax() async throws {
        try await TestServer.withDatabase { pool, _ in
            try await pool.execute(
                "CREATE TABLE t (n int8, x xid8 DEFAULT pg_current_xact_id())", scope: .none)
            _ = try await gathered(300, pool) { await send(300, pool) { "INSERT INTO t VALUES (\($0))" } }
            let sizes = try await pool.query(
                "SELECT count(*) FROM t GROUP BY x::text ORDER BY 1", scope: .none
            ) {
                try $0.decode(Int.self)
            }
            #expect(sizes == [44, 256])
        }
    }

    @Test("each member runs in its own scope, also in none after another's")
    func scopes() async throws {
        try await TestServer.withPool { pool, _ in
            let seen = try await gathered(60, pool) {
                try await withThrowingTaskGroup(of: (Scope, [String]).self) { group in
                    for index in 0..<60 {
                        // Twice the same, then another.
                        let scope = [Scope.platform, .none, Scope(setting: "site:\(index)")][index / 2 % 3]
                        group.addTask {
                            (
                                scope,
                                try await pool.grouped(
                                    "SELECT current_setting('crmm.scope', true)", scope: scope
                                ) {
                                    try $0.decode(String.self)
                                }
                            )
                        }
                    }
                    return try await group.reduce(into: []) { $0.append($1) }
                }
            }
            #expect(seen.count == 60 && seen.allSatisfy { $0.1 == [$0.0.setting] })
        }
    }

    @Test("each member has its own time limit, also the session's after another's")
    func limits() async throws {
        try await TestServer.withPool(TestServer.configuration { $0.statementTimeout = .seconds(90) }) {
            pool, _ in
            let seen = try await gathered(60, pool) {
                try await withThrowingTaskGroup(of: (Duration?, [String]).self) { group in
                    for index in 0..<60 {
                        let limit = [nil, nil, Duration.seconds(50), .seconds(70)][index % 4]
                        group.addTask {
                            (
                                limit,
                                try await pool.grouped(
                                    "SELECT current_setting('statement_timeout')", scope: .none,
                                    timeout: limit
                                ) { try $0.decode(String.self) }
                            )
                        }
                    }
                    return try await group.reduce(into: []) { $0.append($1) }
                }
            }
            // Rounded up to seconds, of which some have passed on a busy machine.
            func seconds(_ text: String) -> Int { text == "1min" ? 60 : Int(text.dropLast()) ?? 0 }
            for (limit, told) in seen {
                let most = limit.map { Int($0.components.seconds) } ?? 90
                #expect(told.count == 1 && (most - 15...most).contains(seconds(told[0])), "\(told)")
            }
        }
    }

    @Test(
        "a failed group is taken apart, and the offenders alone get their errors",
        arguments: [[0], [99], [50], [10, 11, 80], Array(0..<100)])
    func offenders(_ offenders: [Int]) async throws {
        try await TestServer.withDatabase { pool, _ in
            try await pool.execute("CREATE TABLE t (n int8)", scope: .none)
            let states = try await gathered(100, pool) {
                await send(100, pool) { "INSERT INTO t VALUES (\($0) / \(offenders.contains($0) ? 0 : 1))" }
            }
            let expected = (0..<100).map { offenders.contains($0) ? "22012" : "" }
            #expect(states == expected)
            let rows = try await pool.query("SELECT n FROM t ORDER BY n", scope: .none) {
                try $0.decode(Int.self)
            }
            #expect(rows == (0..<100).filter { !offenders.contains($0) })
        }
    }

    @Test("a group that fails at its commit is halved until the offender is alone")
    func commitTime() async throws {
        try await TestServer.withDatabase { pool, _ in
            try await pool.execute(
                "CREATE TABLE t (n int8 UNIQUE DEFERRABLE INITIALLY DEFERRED)", scope: .none)
            try await pool.execute("INSERT INTO t VALUES (7)", scope: .none)
            let states = try await gathered(20, pool) {
                await send(20, pool) { "INSERT INTO t VALUES (\($0))" }
            }
            #expect(states == (0..<20).map { $0 == 7 ? "23505" : "" })
        }
    }

    @Test("a statement that cannot be parsed fails alone")
    func syntax() async throws {
        try await TestServer.withPool { pool, _ in
            let states = try await gathered(30, pool) {
                await send(30, pool) { $0 == 9 ? "SELEC" : "SELECT \($0)" }
            }
            #expect(states == (0..<30).map { $0 == 9 ? "42601" : "" })
        }
    }

    @Test("a member that was cancelled before its group left is not run")
    func cancelled() async throws {
        try await TestServer.withDatabase { pool, _ in
            try await pool.execute("CREATE TABLE t (n int8)", scope: .none)
            try await gathered(1, pool) {
                let member = Task {
                    try await pool.grouped("INSERT INTO t VALUES (1)", scope: .none) { _ in }
                }
                while pool.pending < 2 { await Task.yield() }
                member.cancel()
                let cancelled = try await error { _ = try await member.value }
                #expect(cancelled.code == .cancelled && !cancelled.mayHaveCommitted)
            }
            #expect(try await pool.query("SELECT n FROM t", scope: .none) { try $0.decode(Int.self) } == [])
        }
    }
}
