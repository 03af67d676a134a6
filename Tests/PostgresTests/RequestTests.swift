import Logging
import Testing

@testable import Postgres

@Suite struct RequestTests {
    @Test("a statement returns the number of rows that it touched")
    func affected() async throws {
        try await TestServer.withDatabase { pool, _ in
            try await pool.execute("CREATE TABLE t (n int8)", scope: .none)
            #expect(try await pool.execute("INSERT INTO t SELECT generate_series(1, 5)", scope: .none) == 5)
            #expect(try await pool.execute("DELETE FROM t WHERE n > \(3)", scope: .none) == 2)
        }
    }

    @Test("the statements of a pipeline are one transaction")
    func pipeline() async throws {
        try await TestServer.withDatabase { pool, _ in
            let results = try await pool.pipeline(
                scope: .none,
                [
                    "CREATE TABLE t (n int8 CHECK (n > 0))", "INSERT INTO t VALUES (\(1)), (\(2))",
                    "SELECT n FROM t",
                ])
            #expect(results.map(\.affected) == [0, 2, 2])
            #expect(try results[2].rows.map { try $0.decode(Int.self) } == [1, 2])
            let failed = try await error {
                _ = try await pool.pipeline(
                    scope: .none,
                    ["INSERT INTO t VALUES (\(3))", "INSERT INTO t VALUES (\(-1))", "DELETE FROM t"])
            }
            #expect(failed.sqlState == "23514")
            #expect(
                try await pool.query("SELECT count(*) FROM t", scope: .none) { try $0.decode(Int.self) } == [
                    2
                ])
        }
    }

    @Test("a server error carries SQLSTATE, constraint, table, column and statement, and no values")
    func serverErrors() async throws {
        try await TestServer.withDatabase { pool, _ in
            try await pool.execute(
                "CREATE TABLE t (n int8 CONSTRAINT one PRIMARY KEY, s text NOT NULL)", scope: .none)
            try await pool.execute("INSERT INTO t VALUES (4711, 'a')", scope: .none)
            let unique = try await error {
                try await pool.execute("INSERT INTO t VALUES (\(4711), 'b')", scope: .none)
            }
            #expect(unique.code == .server("23505") && unique.constraint == "one" && unique.table == "t")
            #expect(unique.statement == "INSERT INTO t VALUES ($1, 'b')")
            #expect(!unique.isTransient && !unique.mayHaveCommitted && !unique.description.contains("4711"))
            let null = try await error {
                try await pool.execute("INSERT INTO t VALUES (1, NULL)", scope: .none)
            }
            #expect(null.sqlState == "23502" && null.column == "s")
            let syntax = try await error { try await pool.execute("SELEC 1", scope: .none) }
            #expect(syntax.sqlState == "42601" && syntax.statement == "SELEC 1")
        }
    }

    @Test("a constraint that fails at the commit fails the request")
    func deferredConstraint() async throws {
        try await TestServer.withDatabase { pool, _ in
            try await pool.execute(
                "CREATE TABLE t (n int8 UNIQUE DEFERRABLE INITIALLY DEFERRED)", scope: .none)
            let late = try await error {
                try await pool.execute("INSERT INTO t VALUES (1), (1)", scope: .none)
            }
            #expect(late.sqlState == "23505")
            #expect(try await pool.query("SELECT n FROM t", scope: .none) { try $0.decode(Int.self) } == [])
        }
    }

    @Test("an error fails its own request and none beside it in the pipeline")
    func neighbours() async throws {
        try await TestServer.withPool { pool, _ in
            let outcomes = await withTaskGroup(of: (Int, String?).self) { group in
                for index in 0..<200 {
                    group.addTask {
                        do {
                            _ = try await pool.query("SELECT 1 / \(index % 3)", scope: .none) {
                                try $0.decode(Int.self)
                            }
                            return (index, nil)
                        } catch {
                            return (index, (error as? PostgresError)?.sqlState ?? "other")
                        }
                    }
                }
                return await group.reduce(into: [:]) { $0[$1.0] = $1.1 ?? "fine" }
            }
            #expect(outcomes.count == 200)
            #expect(outcomes.allSatisfy { $0.value == ($0.key % 3 == 0 ? "22012" : "fine") })
        }
    }

    @Test("1,000 concurrent queries each get their own answer")
    func concurrent() async throws {
        try await TestServer.withPool(TestServer.configuration { $0.connections = 4 }) { pool, _ in
            let answers = try await withThrowingTaskGroup(of: (Int, [Int]).self) { group in
                for index in 0..<1_000 {
                    group.addTask {
                        (
                            index,
                            try await pool.query("SELECT \(index)", scope: .none) { try $0.decode(Int.self) }
                        )
                    }
                }
                var answers: [Int: [Int]] = [:]
                for try await (index, rows) in group { answers[index] = rows }
                return answers
            }
            #expect(answers.count == 1_000 && answers.allSatisfy { $0.value == [$0.key] })
            #expect(pool.pending == 0)
        }
    }

    @Test("a large parameter and a large result pass at the same time")
    func large() async throws {
        try await TestServer.withPool { pool, _ in
            let data = PostgresData([UInt8](repeating: 7, count: 4 << 20))
            try await withThrowingTaskGroup { group in
                for _ in 0..<4 {
                    group.addTask {
                        let rows = try await pool.query("SELECT \(data)", scope: .none) {
                            try $0.decode(PostgresData.self)
                        }
                        #expect(rows == [data])
                    }
                }
                try await group.waitForAll()
            }
        }
    }

    @Test("a statement over its time limit ends as a time-out and the connection goes on")
    func timeout() async throws {
        try await TestServer.withPool { pool, _ in
            let pid = try await pool.query("SELECT pg_backend_pid()", scope: .none) {
                try $0.decode(Int.self)
            }
            let late = try await error {
                try await pool.execute("SELECT pg_sleep(60)", scope: .none, timeout: .milliseconds(50))
            }
            #expect(late.code == .timeout && late.isTransient)
            #expect(
                try await pool.query("SELECT pg_backend_pid()", scope: .none) { try $0.decode(Int.self) }
                    == pid)
        }
    }

    @Test("the configured limit holds for requests that name none")
    func configuredTimeout() async throws {
        try await TestServer.withPool(TestServer.configuration { $0.statementTimeout = .milliseconds(50) }) {
            pool, _ in
            try await expect(.timeout) { try await pool.execute("SELECT pg_sleep(60)", scope: .none) }
        }
    }

    @Test("a cancelled caller is told at once and the connection stays in step")
    func cancellation() async throws {
        try await TestServer.withPool { pool, configuration in
            try await TestServer.withPool { observer, _ in
                try await observer.transaction(scope: .none) { holder in
                    try await holder.execute("SELECT pg_advisory_xact_lock(78)")
                    let caller = Task {
                        try await pool.execute("SELECT 'mine', pg_advisory_xact_lock(78)", scope: .none)
                    }
                    _ = try await TestServer.backend(running: "'mine'", of: configuration, observer)
                    caller.cancel()
                    let cancelled = try await error { _ = try await caller.value }
                    #expect(
                        cancelled.code == .cancelled && cancelled.mayHaveCommitted && !cancelled.isTransient)
                }
                let next = try await pool.query("SELECT 'next'", scope: .none) { try $0.decode(String.self) }
                #expect(next == ["next"])
            }
        }
    }

    @Test("a request of a task that is cancelled already is never sent")
    func cancelledBefore() async throws {
        try await TestServer.withPool { pool, _ in
            let caller = Task {
                unsafe withUnsafeCurrentTask { unsafe $0?.cancel() }
                try await pool.execute("SELECT 1", scope: .none)
            }
            let cancelled = try await error { _ = try await caller.value }
            #expect(cancelled.code == .cancelled && !cancelled.mayHaveCommitted)
        }
    }

    @Test(
        "a terminated backend fails its requests as transient and maybe committed, and the next request works"
    )
    func terminated() async throws {
        try await TestServer.withPool { pool, configuration in
            try await TestServer.withPool { observer, _ in
                let caller = Task { try await pool.execute("SELECT 'doomed', pg_sleep(60)", scope: .none) }
                let pid = try await TestServer.backend(running: "'doomed'", of: configuration, observer)
                try await observer.execute("SELECT pg_terminate_backend(\(Int32(pid)))", scope: .none)
                let lost = try await error { _ = try await caller.value }
                #expect(
                    lost.code == .connection && lost.sqlState == "57P01" && lost.isTransient
                        && lost.mayHaveCommitted)
                #expect(try await pool.query("SELECT 1", scope: .none) { try $0.decode(Int.self) } == [1])
            }
        }
    }

    @Test("an idle connection that the server closes is replaced")
    func terminatedIdle() async throws {
        try await TestServer.withPool { pool, _ in
            try await TestServer.withPool { observer, _ in
                let pid = try await pool.query("SELECT pg_backend_pid()", scope: .none) {
                    try $0.decode(Int32.self)
                }[0]
                try await observer.execute("SELECT pg_terminate_backend(\(pid), 5000)", scope: .none)
                var found: [Int32] = []
                while found.isEmpty {  // a request on its way to a connection that ends may fail
                    do {
                        found = try await pool.query("SELECT pg_backend_pid()", scope: .none) {
                            try $0.decode(Int32.self)
                        }
                    } catch let error as PostgresError where error.isTransient {}
                }
                #expect(found[0] != pid)
            }
        }
    }

    @Test("a request over the bound on pending ones is refused, and taken again when one has left")
    func pendingMax() async throws {
        try await TestServer.withPool(TestServer.configuration { $0.pendingMax = 3 }) { pool, _ in
            try await TestServer.withPool { observer, _ in
                let callers = try await observer.transaction(scope: .none) { holder in
                    try await holder.execute("SELECT pg_advisory_xact_lock(77)")
                    let callers = (0..<3).map { _ in
                        Task {
                            try await pool.execute("SELECT pg_advisory_xact_lock_shared(77)", scope: .none)
                        }
                    }
                    while pool.pending < 3 { await Task.yield() }
                    let refused = try await error { try await pool.execute("SELECT 1", scope: .none) }
                    #expect(refused.code == .overloaded && refused.isTransient && !refused.mayHaveCommitted)
                    return callers
                }
                for caller in callers { _ = try await caller.value }
                try await pool.execute("SELECT 1", scope: .none)
            }
        }
    }

    @Test("without a server a request waits for its time limit, and nothing was committed")
    func noServer() async throws {
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let configuration = try PostgresConfiguration(url: "postgresql://nobody@/none?host=/nonexistent")
        let pool = PostgresPool(configuration: configuration, logger: logger)
        let early = try await error { try await pool.execute("SELECT 1", scope: .none) }
        #expect(early.code == .closed)
        pool.start()
        let late = try await error {
            try await pool.execute("SELECT 1", scope: .none, timeout: .milliseconds(100))
        }
        #expect(late.code == .timeout && late.isTransient && !late.mayHaveCommitted)
        await pool.close()
        try await expect(.closed) { try await pool.execute("SELECT 1", scope: .none) }
    }

    @Test("closing lets what is under way finish")
    func closing() async throws {
        try await TestServer.withPool { pool, configuration in
            try await TestServer.withPool { observer, _ in
                let (caller, closing) = try await observer.transaction(scope: .none) { holder in
                    try await holder.execute("SELECT pg_advisory_xact_lock(79)")
                    let caller = Task {
                        try await pool.execute("SELECT 'last', pg_advisory_xact_lock(79)", scope: .none)
                    }
                    _ = try await TestServer.backend(running: "'last'", of: configuration, observer)
                    return (caller, Task { await pool.close() })
                }
                await closing.value
                #expect(try await caller.value == 1)
            }
        }
    }

    @Test(
        "a statement that opens or ends a transaction by itself is refused and its connection closed",
        arguments: ["BEGIN", "COMMIT", "ROLLBACK", "/* so */ START TRANSACTION"] as [SQL])
    func transactionControl(sql: SQL) async throws {
        try await TestServer.withPool { pool, _ in
            let pid = try await pool.query("SELECT pg_backend_pid()", scope: .none) {
                try $0.decode(Int.self)
            }
            try await expect(.configuration) { try await pool.execute(sql, scope: .none) }
            #expect(
                try await pool.query("SELECT pg_backend_pid()", scope: .none) { try $0.decode(Int.self) }
                    != pid)
        }
    }

    @Test("a COPY, which the pipeline does not carry, fails and the next request works")
    func copy() async throws {
        try await TestServer.withPool { pool, _ in
            _ = try await error { try await pool.execute("COPY (SELECT 1) TO STDOUT", scope: .none) }
            #expect(try await pool.query("SELECT 1", scope: .none) { try $0.decode(Int.self) } == [1])
        }
    }

    @Test("a prepared statement whose columns change fails once and then works")
    func changedColumns() async throws {
        try await TestServer.withDatabase { pool, _ in
            try await pool.execute("CREATE TABLE t AS SELECT 1 AS a", scope: .none)
            for _ in 0..<2 { try await pool.execute("SELECT * FROM t", scope: .none) }
            try await pool.execute("ALTER TABLE t ADD b int4", scope: .none)
            try await expect(.server("0A000")) { try await pool.execute("SELECT * FROM t", scope: .none) }
            let rows = try await pool.query("SELECT * FROM t", scope: .none) {
                try $0.decode((Int, Int?).self)
            }
            #expect(try #require(rows.first) == (1, nil))
        }
    }

    @Test("the session has the time limits, the plan mode and the name of the configuration")
    func session() async throws {
        try await TestServer.withPool(
            TestServer.configuration { ($0.genericPlans, $0.statementTimeout) = (true, .seconds(9)) }
        ) {
            pool, configuration in
            let settings = try await pool.query(
                """
                SELECT current_setting('plan_cache_mode'),
                    current_setting('idle_in_transaction_session_timeout'),
                    current_setting('application_name'), current_setting('client_encoding')
                """, scope: .none
            ) { try $0.decode((String, String, String, String).self) }
            #expect(
                try #require(settings.first) == (
                    "force_generic_plan", "9s", configuration.applicationName, "UTF8"
                ))
        }
    }

    @Test(
        "a malformed URL is refused without repeating it",
        arguments: [
            "", "host=/tmp", "mysql://a", "postgresql://user:secret@host:port?nonsense=1",
            "postgresql://[secret",
        ])
    func malformedURL(url: String) async throws {
        let refused = try await error { _ = try PostgresConfiguration(url: url) }
        #expect(refused.code == .configuration && !refused.description.contains("secret"))
    }

    @Test("a configuration's description holds no password")
    func redaction() throws {
        let configuration = try PostgresConfiguration(url: "postgresql://user:secret@host/db")
        #expect(!"\(configuration)".contains("secret"))
    }

    @Test(
        "a database's name is a plain name",
        arguments: ["", "a b", "a;b", "A", "1a", String(repeating: "a", count: 64)])
    func databaseName(name: String) async throws {
        try await TestServer.withPool { pool, _ in
            try await expect(.configuration) { try await pool.createDatabase(name) }
            try await expect(.configuration) { try await pool.dropDatabase(name) }
        }
    }
}
