import Testing

@testable import Postgres

@Suite struct TransactionTests {
    private struct Refusal: Error {}

    private func pid(_ transaction: PostgresTransaction) async throws -> Int {
        try await transaction.query("SELECT pg_backend_pid()") { try $0.decode(Int.self) }[0]
    }

    private func count(_ pool: PostgresPool) async throws -> Int {
        try await pool.query("SELECT count(*) FROM t", scope: .none) { try $0.decode(Int.self) }[0]
    }

    @Test("a body's work is committed together, in its scope, and its connection used again")
    func commits() async throws {
        try await TestServer.withDatabase { pool, _ in
            try await pool.execute("CREATE TABLE t (n int8)", scope: .none)
            let first = try await pool.transaction(scope: .platform) { transaction in
                try await transaction.execute("INSERT INTO t VALUES (1)")
                #expect(try await count(pool) == 0)
                let scope = try await transaction.query("SELECT current_setting('crmm.scope')") {
                    try $0.decode(String.self)
                }
                #expect(scope == ["platform"])
                return try await pid(transaction)
            }
            #expect(try await count(pool) == 1)
            try await pool.transaction(scope: .none) { transaction in
                #expect(try await pid(transaction) == first)
                let scope = try await transaction.query("SELECT current_setting('crmm.scope')") {
                    try $0.decode(String.self)
                }
                #expect(scope == [""])
            }
        }
    }

    @Test("a body that throws is rolled back, and its connection used again")
    func rollsBack() async throws {
        try await TestServer.withDatabase { pool, _ in
            try await pool.execute("CREATE TABLE t (n int8)", scope: .none)
            var used = 0
            await #expect(throws: Refusal.self) {
                try await pool.transaction(scope: .none) { transaction in
                    used = try await pid(transaction)
                    try await transaction.execute("INSERT INTO t VALUES (1)")
                    throw Refusal()
                }
            }
            #expect(try await count(pool) == 0)
            let next = try await pool.transaction(scope: .none) { try await pid($0) }
            #expect(next == used)
        }
    }

    @Test("a body that swallows a statement's error is told at the commit that nothing was kept")
    func swallowedError() async throws {
        try await TestServer.withDatabase { pool, _ in
            try await pool.execute("CREATE TABLE t (n int8)", scope: .none)
            let failed = try await error {
                try await pool.transaction(scope: .none) { transaction in
                    try await transaction.execute("INSERT INTO t VALUES (1)")
                    // Swallowing the error is the mistake that this test makes.
                    _ = try? await transaction.execute("SELECT 1 / 0")
                }
            }
            #expect(failed.sqlState == "25P02" && !failed.mayHaveCommitted)
            #expect(try await count(pool) == 0)
        }
    }

    @Test("a step's short time limit does not hold for the commit")
    func commitTime() async throws {
        try await TestServer.withDatabase { pool, _ in
            try await pool.pipeline(
                scope: .none,
                [
                    "CREATE TABLE t (n int8)",
                    "CREATE TABLE limits (at text, milliseconds int8)",
                    """
                    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
                    'BEGIN
                        INSERT INTO limits SELECT TG_NAME, setting::int8 FROM pg_settings
                        WHERE name = ''statement_timeout'';
                        RETURN NULL;
                    END'
                    """,
                    "CREATE TRIGGER step AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note()",
                    """
                    CREATE CONSTRAINT TRIGGER commit AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED
                    FOR EACH ROW EXECUTE FUNCTION note()
                    """,
                ])
            try await pool.transaction(scope: .none) { transaction in
                _ = try await transaction.execute("INSERT INTO t VALUES (1)", timeout: .seconds(2))
            }
            let limits = try await pool.query("SELECT at, milliseconds FROM limits", scope: .none) {
                try $0.decode((String, Int).self)
            }
            #expect(limits.map(\.0) == ["step", "commit"])
            #expect(limits[0].1 <= 2_000 && limits[1].1 > 10_000)
        }
    }

    @Test("a cancelled caller's connection is closed, and its work undone, before the next transaction")
    func cancelled() async throws {
        try await TestServer.withDatabase { pool, configuration in
            try await pool.execute("CREATE TABLE t (n int8)", scope: .none)
            let (pids, report) = AsyncStream.makeStream(of: Int.self)
            let caller = Task {
                try await pool.transaction(scope: .platform) { transaction in
                    report.yield(try await pid(transaction))
                    try await transaction.execute("INSERT INTO t VALUES (1)")
                    try await transaction.execute("SELECT 'stuck', pg_sleep(60)")
                }
            }
            var iterator = pids.makeAsyncIterator()
            let used = await iterator.next()
            _ = try await TestServer.backend(running: "'stuck'", of: configuration, pool)
            caller.cancel()
            try await expect(.cancelled) { try await caller.value }
            try await pool.transaction(scope: .none) { transaction in
                #expect(try await pid(transaction) != used)
                let seen = try await transaction.query(
                    "SELECT current_setting('crmm.scope'), count(*) FROM t"
                ) {
                    try $0.decode((String, Int).self)
                }
                #expect(try #require(seen.first) == ("", 0))
            }
        }
    }

    @Test("a cancelled caller's statement stops on the server, which does not look for its client")
    func stops() async throws {
        try await TestServer.withDatabase { pool, configuration in
            let caller = Task {
                try await pool.transaction(scope: .none) { transaction in
                    // Without libpq's cancel it would go on to its end.
                    try await transaction.execute("SET LOCAL client_connection_check_interval = 0")
                    try await transaction.execute(
                        "SELECT 'unending', pg_sleep(3600)", timeout: .seconds(3_600))
                }
            }
            let backend = try await TestServer.backend(running: "'unending'", of: configuration, pool)
            let bystander = Task { try await pool.execute("SELECT 'bystander', pg_sleep(1)", scope: .none) }
            caller.cancel()
            try await expect(.cancelled) { try await caller.value }
            var isThere = true
            while isThere {
                isThere = try await !pool.query(
                    "SELECT pid FROM pg_stat_activity WHERE pid = \(backend)", scope: .none
                ) { try $0.decode(Int.self) }.isEmpty
            }
            let rows = try await bystander.value
            #expect(rows == 1, "nobody else's statement is cancelled")
        }
    }

    @Test("a step whose time is over stops on the server, and its neighbours go on")
    func overdue() async throws {
        var given = try TestServer.configuration()
        given.transactionConnections = 2
        try await TestServer.withDatabase(given) { pool, _ in
            try await withThrowingTaskGroup(of: Void.self) { group in
                let (starts, started) = AsyncStream.makeStream(of: Void.self)
                group.addTask {
                    try await pool.transaction(scope: .none) { transaction in
                        started.yield()
                        let rows = try await transaction.execute("SELECT 'neighbour', pg_sleep(1)")
                        #expect(rows == 1)
                    }
                }
                for await _ in starts { break }
                var used = 0
                let late = try await error {
                    try await pool.transaction(scope: .none) { transaction in
                        used = try await pid(transaction)
                        try await transaction.execute("SET LOCAL client_connection_check_interval = 0")
                        try await transaction.execute(
                            "SELECT 'overdue', pg_sleep(3600)", timeout: .milliseconds(100))
                    }
                }
                #expect(late.code == .timeout)
                var isThere = true
                while isThere {
                    isThere = try await !pool.query(
                        "SELECT pid FROM pg_stat_activity WHERE pid = \(used) AND state = 'active'",
                        scope: .none
                    ) { try $0.decode(Int.self) }.isEmpty
                }
                try await group.waitForAll()
            }
        }
    }

    @Test("a transaction that is over takes no more statements")
    func escaped() async throws {
        try await TestServer.withPool { pool, _ in
            let escaped = try await pool.transaction(scope: .none) { $0 }
            try await expect(.closed) { try await escaped.execute("SELECT 1") }
            try await pool.transaction(scope: .platform) { _ in
                try await expect(.closed) { try await escaped.execute("SELECT 1") }
            }
        }
    }

    @Test("a body cannot commit by itself")
    func ownCommit() async throws {
        try await TestServer.withPool { pool, _ in
            let refused = try await error {
                try await pool.transaction(scope: .none) { _ = try await $0.execute("COMMIT") }
            }
            #expect(refused.code == .configuration)
            try await pool.transaction(scope: .none) { _ = try await $0.execute("SELECT 1") }
        }
    }

    @Test("a lost connection fails the transaction, and later steps do not run outside it")
    func lost() async throws {
        try await TestServer.withDatabase { pool, _ in
            try await pool.execute("CREATE TABLE t (n int8)", scope: .none)
            let failed = try await error {
                try await pool.transaction(scope: .none) { transaction in
                    let used = try await pid(transaction)
                    try await pool.execute("SELECT pg_terminate_backend(\(Int32(used)), 5000)", scope: .none)
                    // Fails, since the connection is gone: what counts is what the next step does then.
                    _ = try? await transaction.execute("SELECT 1")
                    try await transaction.execute("INSERT INTO t VALUES (1)")
                }
            }
            #expect(failed.code == .connection && failed.isTransient && !failed.mayHaveCommitted)
            #expect(try await count(pool) == 0)
        }
    }

    @Test("transactions wait for a free connection, in order, and no longer than their time limit")
    func waiting() async throws {
        try await TestServer.withPool { pool, _ in
            try await pool.transaction(scope: .none) { _ in
                let late = try await error {
                    try await pool.transaction(scope: .none, timeout: .milliseconds(50)) { _ in }
                }
                #expect(late.code == .timeout && late.isTransient && !late.mayHaveCommitted)
                let waiter = Task { try await pool.transaction(scope: .none) { _ in } }
                while pool.pending < 1 { await Task.yield() }
                waiter.cancel()
                try await expect(.cancelled) { try await waiter.value }
            }
            try await withThrowingTaskGroup { group in
                for _ in 0..<20 {
                    group.addTask { try await pool.transaction(scope: .none) { _ = try await pid($0) } }
                }
                try await group.waitForAll()
            }
        }
    }

    @Test("closing the pool lets an open transaction finish")
    func closing() async throws {
        try await TestServer.withPool { pool, _ in
            let closing = try await pool.transaction(scope: .none) { transaction in
                let closing = Task { await pool.close() }
                while true {
                    // While the pool is open the statement succeeds, so that there is no error yet.
                    let refusal = try? await error { try await pool.execute("SELECT 1", scope: .none) }
                    if refusal?.code == .closed { break }
                }
                try await transaction.execute("SELECT 1")
                return closing
            }
            await closing.value
        }
    }

    @Test("a deadlock is transient and resolves itself")
    func deadlock() async throws {
        try await TestServer.withDatabase(TestServer.configuration { $0.transactionConnections = 2 }) {
            pool, _ in
            try await pool.execute("CREATE TABLE t AS SELECT generate_series(1, 2) AS n", scope: .none)
            let (locked, report) = AsyncStream.makeStream(of: Void.self)
            func lock(_ first: Int, then second: Int, _ gate: AsyncStream<Void>) async -> PostgresError? {
                do {
                    try await pool.transaction(scope: .none) { transaction in
                        try await transaction.execute("SET LOCAL deadlock_timeout = '10ms'")
                        try await transaction.execute("SELECT n FROM t WHERE n = \(first) FOR UPDATE")
                        report.yield()
                        for await _ in gate { break }
                        try await transaction.execute("SELECT n FROM t WHERE n = \(second) FOR UPDATE")
                    }
                    return nil
                } catch {
                    return error as? PostgresError
                }
            }
            let gates = (0..<2).map { _ in AsyncStream.makeStream(of: Void.self) }
            async let one = lock(1, then: 2, gates[0].stream)
            async let two = lock(2, then: 1, gates[1].stream)
            var iterator = locked.makeAsyncIterator()
            for _ in 0..<2 { await iterator.next() }
            for gate in gates { gate.continuation.yield() }
            let failures = [await one, await two].compactMap(\.self)
            #expect(failures.count == 1 && failures[0].sqlState == "40P01" && failures[0].isTransient)
        }
    }

    @Test("a serialization failure is transient")
    func serialization() async throws {
        try await TestServer.withDatabase { pool, _ in
            try await pool.execute("CREATE TABLE t AS SELECT 1 AS n", scope: .none)
            let failed = try await error {
                try await pool.transaction(scope: .none, isolation: .repeatableRead) { transaction in
                    try await transaction.execute("SELECT n FROM t")
                    try await pool.execute("UPDATE t SET n = 2", scope: .none)
                    try await transaction.execute("UPDATE t SET n = 3")
                }
            }
            #expect(failed.sqlState == "40001" && failed.isTransient)
        }
    }
}
