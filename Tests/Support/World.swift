package import Domain
import FoundationEssentials
package import Ledger
package import Logging
package import Postgres
package import Testing
import Trust

/// A migrated database of its own, seen through the services' logins.
package struct World: Sendable {
    /// The database's superuser, who makes tenants and moves times.
    package let owner: PostgresPool
    private let name: String
    /// A service's login connects once a test asks for it.
    private let services: [PostgresPool]
    private let server: PostgresPool

    /// The world of the suite that runs.
    @TaskLocal package static var current: World?

    /// The data set in Redis that marks are accepted under until a rebuilder begins another.
    package static let epoch = "epoch"

    /// The world of the suite that runs; an error without the trait.
    package static func here() throws -> World {
        guard let current else { throw Unprepared("the suite lacks the trait .world") }
        return current
    }

    /// Runs a body with a world that is gone afterwards.
    package static func with(connections: Int = 2, _ body: (World) async throws -> Void) async throws {
        let world = try await World(connections: connections)
        do {
            try await body(world)
        } catch {
            try await world.end()
            throw error
        }
        try await world.end()
    }

    /// Makes a database and brings it up to date; each login has so many connections of a kind.
    package init(connections: Int = 2) async throws {
        name = "crmm_test_\(UInt64.random(in: 0 ... .max))"
        server = try Self.pool(connections: 1)
        server.start()
        try await server.createDatabase(name, like: Self.template.value)
        owner = try Self.pool(database: name, connections: connections)
        owner.start()
        services = try ["crmm_api", "crmm_worker", "crmm_gateway"].map { [name] in
            try Self.pool(user: $0, database: name, connections: connections)
        }
        try await owner.pipeline(scope: .none, [Self.likeTemplate])
        try await clear()
    }

    /// A database that is up to date and that nobody uses: every other is a copy of it. It goes with its
    /// server.
    private static let template = Task {
        let name = "crmm_template_\(UInt64.random(in: 0 ... .max))"
        let server = try pool(connections: 1)
        server.start()
        try await server.createDatabase(name)
        await server.close()
        let owner = try pool(database: name, connections: 1)
        owner.start()
        _ = try await Migrator(migrations: Ledger.migrations).migrate(owner)
        await owner.close()
        return name
    }

    /// What the first migration says of its database, which a copy does not have.
    private static let likeTemplate: SQL = """
        DO $$
        DECLARE
            name text;
            setting text;
        BEGIN
            FOREACH name IN ARRAY ARRAY['crmm_api', 'crmm_worker', 'crmm_gateway'] LOOP
                FOREACH setting IN ARRAY ARRAY['enable_seqscan', 'enable_hashjoin', 'enable_mergejoin', 'jit']
                LOOP
                    EXECUTE format('ALTER ROLE %I IN DATABASE %I SET %I = off', name, current_database(),
                                   setting);
                END LOOP;
            END LOOP;
            EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
            EXECUTE format('GRANT CONNECT ON DATABASE %I TO crmm_api, crmm_worker, crmm_gateway',
                           current_database());
        END $$
        """

    /// Drops the database.
    package func end() async throws {
        for pool in services + [owner] { await pool.close() }
        try await server.dropDatabase(name)
        await server.close()
    }

    /// A pool of a test's own on this database, started; the caller closes it.
    package func pool(user: String, connections: Int) throws -> PostgresPool {
        let pool = try Self.pool(user: user, database: name, connections: connections)
        pool.start()
        return pool
    }

    /// The server that `CLOUDRMM_TEST_DATABASE_URL` names, or one of its databases.
    private static func pool(
        user: String? = nil, database: String? = nil, connections: Int = 2
    ) throws -> PostgresPool {
        var configuration = try PostgresConfiguration(url: setting("CLOUDRMM_TEST_DATABASE_URL"))
        (configuration.user, configuration.database) = (user, database)
        (configuration.connections, configuration.transactionConnections) = (connections, connections)
        // As the services do.
        configuration.genericPlans = user != nil
        // What a test lays out may take its time on a machine with other work; the services' limits hold.
        if user == nil { configuration.statementTimeout = .seconds(120) }
        return PostgresPool(configuration: configuration, logger: .quiet)
    }
}

package extension World {
    /// The ledger as the API's login sees it.
    var api: Ledger { Ledger(pool: logins[0].pool) }
    /// The ledger as the workers' login sees it.
    var worker: Ledger { Ledger(pool: logins[1].pool) }
    /// The ledger as the gateways' login sees it.
    var gateway: Ledger { Ledger(pool: logins[2].pool) }

    /// The services' logins, for statements that the ledger does not have.
    var logins: [(name: String, pool: PostgresPool)] {
        zip(["crmm_api", "crmm_worker", "crmm_gateway"], services).map { name, pool in
            pool.start()
            return (name, pool)
        }
    }

    /// Empties what suites fill, so that steps over all tenants find only a test's own rows.
    func clear() async throws {
        try await owner.pipeline(
            scope: .none,
            [
                "DELETE FROM jobs", "DELETE FROM runs", "DELETE FROM run_history", "DELETE FROM run_output",
                "DELETE FROM attempts", "DELETE FROM suspects", "DELETE FROM job_deltas",
                "DELETE FROM secret_requests", "DELETE FROM gateways", "DELETE FROM queue_controls",
                "DELETE FROM workers", "DELETE FROM key_sets",
                "DELETE FROM job_slots", "DELETE FROM paused_jobs", "DELETE FROM queue_usage",
                "DELETE FROM queue_usage_deltas", "DELETE FROM queue_usage_checks", "DELETE FROM tasks",
                "DELETE FROM queue_partitions", "INSERT INTO queue_partitions VALUES (0, \(Self.epoch))",
            ])
    }

    /// The number that a statement finds.
    func count(_ statement: SQL) async throws -> Int {
        try await owner.query(statement, scope: .none) { try $0.decode(Int.self) }.first ?? 0
    }

    /// Writes what the connections of the owner and of the services have counted, so that nothing of before
    /// is counted later; in a world of one connection a login, and while nothing runs.
    func flushStatistics() async throws {
        for pool in [owner] + logins.map(\.pool) {
            try await pool.execute("SELECT pg_stat_force_next_flush()", scope: .none)
            try await pool.transaction(scope: .none) { transaction in
                _ = try await transaction.execute("SELECT pg_stat_force_next_flush()")
            }
        }
    }

    /// Asks until a statement of a service waits for a lock.
    func blockedStatement() async throws {
        let waiting: SQL = """
            SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND usename LIKE 'crmm\\_%' AND wait_event_type = 'Lock'
            """
        for _ in 0..<20_000 where try await count(waiting) > 0 { return }
        throw Unprepared("no statement waits for a lock")
    }
}

/// Gives a suite a world, and takes it away at its end.
package struct WorldTrait: SuiteTrait, TestScoping {
    /// Whether nested suites get worlds of their own.
    package var isRecursive: Bool { false }

    /// Runs the suite in a new world.
    package func provideScope(
        for test: Test, testCase: Test.Case?,
        performing function: @Sendable @concurrent () async throws -> Void
    ) async throws {
        try await World.with { world in try await World.$current.withValue(world) { try await function() } }
    }
}

package extension Trait where Self == WorldTrait {
    /// A database of the suite's own.
    static var world: WorldTrait { WorldTrait() }
}

/// What a test needs and does not find.
package struct Unprepared: Error, CustomStringConvertible {
    /// What it is.
    package let description: String

    /// Says what is missing.
    package init(_ description: String) { self.description = description }
}

/// What the environment names: the servers to test with.
func setting(_ variable: String) throws -> String {
    guard let value = ProcessInfo.processInfo.environment[variable] else {
        throw Unprepared("\(variable) is not set")
    }
    return value
}

package extension Logger {
    /// A logger that keeps silent.
    static let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
}

/// A new id.
package func fresh<Subject>() -> ID<Subject> { .new(at: .now()) }

extension PostgresPool {
    /// The columns of a table, as the catalog knows them.
    package func columns(of table: String) async throws -> Set<String> {
        let columns = try await query(
            """
            SELECT attname::text FROM pg_attribute
            WHERE attrelid = \(table)::text::regclass AND attnum > 0 AND NOT attisdropped
            """, scope: .platform
        ) { try $0.decode(String.self) }
        return Set(columns)
    }
}
