import Glibc
import Logging
import Testing

@testable import Postgres

/// The server that `CLOUDRMM_TEST_DATABASE_URL` names; its user may create databases.
enum TestServer {
    /// A configuration of one connection of each kind, unless `change` says otherwise, with a name of its
    /// own.
    static func configuration(
        _ change: (inout PostgresConfiguration) -> Void = { _ in }
    ) throws -> PostgresConfiguration {
        let variable = unsafe getenv("CLOUDRMM_TEST_DATABASE_URL")
        let url = try #require(
            unsafe variable.map { unsafe String(cString: $0) }, "CLOUDRMM_TEST_DATABASE_URL is not set")
        var configuration = try PostgresConfiguration(url: url)
        (configuration.connections, configuration.transactionConnections) = (1, 1)
        configuration.applicationName = "test_\(UInt64.random(in: 0...UInt64.max))"
        change(&configuration)
        return configuration
    }

    /// A pool, on the server's own database unless the configuration says otherwise.
    static func withPool(
        _ given: PostgresConfiguration? = nil,
        _ body: (PostgresPool, PostgresConfiguration) async throws -> Void
    ) async throws {
        let configuration = try given ?? configuration()
        let pool = PostgresPool(
            configuration: configuration, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        pool.start()
        do {
            try await body(pool, configuration)
        } catch {
            await pool.close()
            throw error
        }
        await pool.close()
    }

    /// A pool on a database of its own, which is dropped afterwards.
    static func withDatabase(
        _ given: PostgresConfiguration? = nil,
        _ body: (PostgresPool, PostgresConfiguration) async throws -> Void
    ) async throws {
        try await withPool { pool, _ in
            let name = "crmm_test_\(UInt64.random(in: 0...UInt64.max))"
            try await pool.createDatabase(name)
            do {
                var configuration = try given ?? configuration()
                configuration.database = name
                try await withPool(configuration, body)
            } catch {
                try await pool.dropDatabase(name)
                throw error
            }
            try await pool.dropDatabase(name)
        }
    }

    /// The process id of a backend that runs, or waits in, a statement that contains `text`, as soon as there
    /// is one.
    static func backend(running text: String, of configuration: PostgresConfiguration, _ pool: PostgresPool)
        async throws -> Int
    {
        while true {
            let pids = try await pool.query(
                """
                SELECT pid FROM pg_stat_activity
                WHERE application_name = \(configuration.applicationName) AND state = 'active'
                    AND pid <> pg_backend_pid() AND position(\(text) IN query) > 0
                """, scope: .none
            ) { try $0.decode(Int.self) }
            if let pid = pids.first { return pid }
        }
    }
}

/// The error that `body` throws.
func error(_ body: () async throws -> Void) async throws -> PostgresError {
    do {
        try await body()
    } catch let error as PostgresError {
        return error
    }
    throw Missing()
}

/// Expects that `body` throws an error with this code.
func expect(
    _ code: PostgresError.Code, at location: SourceLocation = #_sourceLocation,
    _ body: () async throws -> Void
) async throws {
    let thrown = try await error(body)
    #expect(thrown.code == code, sourceLocation: location)
}

/// Nothing was thrown where an error was expected.
struct Missing: Error {}
