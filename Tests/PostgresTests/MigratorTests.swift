import Logging
import Testing

@testable import Postgres

@Suite struct MigratorTests {
    private let first = Migration(
        version: 1, name: "tenants",
        sql: "CREATE TABLE a (n int8); INSERT INTO a VALUES (1);\n-- done\nINSERT INTO a VALUES (2)")
    private let second = Migration(version: 2, name: "devices", sql: "ALTER TABLE a ADD b text")

    @Test("missing steps are applied in order, once")
    func twice() async throws {
        try await TestServer.withDatabase { pool, configuration in
            let applied = try await Migrator(migrations: [second, first]).migrate(pool)
            #expect(applied == [1, 2])
            #expect(try await Migrator(migrations: [first, second]).migrate(pool) == [])
            #expect(
                try await pool.query("SELECT n FROM a", scope: .none) { try $0.decode(Int.self) } == [1, 2])
            let third = Migration(version: 10, name: "more", sql: "DROP TABLE a")
            let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            #expect(
                try await Migrator(migrations: [first, second, third]).migrate(configuration, logger: logger)
                    == [10])
        }
    }

    @Test("a changed, a missing and a late step are errors that name it")
    func deviations() async throws {
        try await TestServer.withDatabase { pool, _ in
            _ = try await Migrator(migrations: [first, second]).migrate(pool)
            let edited = Migration(version: 2, name: "devices", sql: second.sql + " ")
            let changed = try await error {
                _ = try await Migrator(migrations: [first, edited]).migrate(pool)
            }
            #expect(
                changed.code == .configuration
                    && changed.message == #"applied migration 2 "devices" has changed since"#)
            let missing = try await error { _ = try await Migrator(migrations: [second]).migrate(pool) }
            #expect(missing.message == #"applied migration 1 "tenants" is missing here"#)
        }
        try await TestServer.withDatabase { pool, _ in
            _ = try await Migrator(migrations: [Migration(version: 5, name: "five", sql: "SELECT 1")])
                .migrate(pool)
            let five = Migration(version: 5, name: "five", sql: "SELECT 1")
            let late = try await error { _ = try await Migrator(migrations: [five, first]).migrate(pool) }
            #expect(late.message == #"migration 1 "tenants" comes before 5, which is applied already"#)
        }
    }

    @Test("steps with the same version or none that is positive are refused")
    func versions() async throws {
        try await TestServer.withPool { pool, _ in
            let same = try await error { _ = try await Migrator(migrations: [first, first]).migrate(pool) }
            #expect(same.code == .configuration && same.message.contains("same version 1"))
            let zero = Migration(version: 0, name: "zero", sql: "SELECT 1")
            try await expect(.configuration) { _ = try await Migrator(migrations: [zero]).migrate(pool) }
        }
    }

    @Test("a failing step is undone whole and named, and those before it stay")
    func failure() async throws {
        try await TestServer.withDatabase { pool, _ in
            let broken = Migration(version: 3, name: "broken", sql: "CREATE TABLE c (); SELECT nonsense")
            let failed = try await error {
                _ = try await Migrator(migrations: [first, broken]).migrate(pool)
            }
            #expect(failed.sqlState == "42703" && failed.message.contains(#"migration 3 "broken" failed"#))
            let tables = try await pool.query(
                "SELECT relname FROM pg_class WHERE relname IN ('a', 'c')", scope: .none
            ) { try $0.decode(String.self) }
            #expect(tables == ["a"])
            #expect(try await Migrator(migrations: [first, second]).migrate(pool) == [2])
        }
    }

    @Test("a step that ends its transaction is refused")
    func ownCommit() async throws {
        try await TestServer.withDatabase { pool, _ in
            let sneaky = Migration(version: 1, name: "sneaky", sql: "SELECT 1; COMMIT; SELECT 2")
            try await expect(.configuration) { _ = try await Migrator(migrations: [sneaky]).migrate(pool) }
            #expect(try await Migrator(migrations: [first]).migrate(pool) == [1])
        }
    }

    @Test("two that migrate at once apply each step once between them")
    func concurrently() async throws {
        try await TestServer.withDatabase(TestServer.configuration { $0.transactionConnections = 2 }) {
            pool, _ in
            let migrator = Migrator(migrations: [first, second])
            async let one = migrator.migrate(pool)
            async let two = migrator.migrate(pool)
            let applied = try await one + two
            #expect(applied.sorted() == [1, 2])
        }
    }
}
