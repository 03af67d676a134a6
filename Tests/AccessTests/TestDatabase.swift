import Domain
import Foundation
import Ledger
import Logging
import Postgres
import Synchronization
import Testing
import Trust

@testable import Access

/// A migrated database of its own, with the ledger as the API's login sees it and a pool of the database's
/// owner.
struct TestDatabase {
    let ledger: Ledger
    let owner: PostgresPool

    static let macKey = MACKeyOf.bytes(7)

    func authenticator(now: @escaping @Sendable () -> Instant = { .now() }) -> Authenticator {
        Authenticator(ledger: ledger, macKey: Self.macKey, macKeyID: "k1", now: now)
    }

    static func with(_ body: (TestDatabase) async throws -> Void) async throws {
        let variable = "CLOUDRMM_TEST_DATABASE_URL"
        let url = try #require(ProcessInfo.processInfo.environment[variable], "\(variable) is not set")
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let name = "crmm_access_\(UInt64.random(in: 0...UInt64.max))"
        func pool(_ user: String?, _ database: String?) throws -> PostgresPool {
            var configuration = try PostgresConfiguration(url: url)
            (configuration.user, configuration.database) = (user, database)
            (configuration.connections, configuration.transactionConnections) = (1, 1)
            let pool = PostgresPool(configuration: configuration, logger: logger)
            pool.start()
            return pool
        }
        let server = try pool(nil, nil)
        try await server.createDatabase(name)
        let (owner, api) = (try pool(nil, name), try pool("crmm_api", name))
        let outcome: (any Error)?
        do {
            _ = try await Migrator(migrations: Ledger.migrations).migrate(owner)
            try await body(TestDatabase(ledger: Ledger(pool: api), owner: owner))
            outcome = nil
        } catch {
            outcome = error
        }
        await api.close()
        await owner.close()
        try await server.dropDatabase(name)
        await server.close()
        if let outcome { throw outcome }
    }
}

enum MACKeyOf {
    static func bytes(_ byte: UInt8) -> MACKey {
        do { return try MACKey(bytes: Array(repeating: byte, count: 32)) } catch { fatalError("\(error)") }
    }
}

/// A clock that tests set.
final class ManualClock: Sendable {
    private let time = Mutex(Instant(seconds: 1_900_000_000))

    var now: Instant { time.withLock { $0 } }
    func advance(_ duration: Duration) { time.withLock { $0 = $0 + duration } }
}

/// The refusal that a body ends with.
func refusal(_ body: () async throws -> Void) async throws -> AccessError {
    do {
        try await body()
    } catch let error as AccessError {
        return error
    }
    throw NothingRefused()
}

struct NothingRefused: Error {}
