import Domain
import Foundation
import Ledger
import Logging
import Postgres
import Testing
import Trust

/// A migrated database of a suite's own, seen through the services' logins; `owner` is its superuser, who
/// makes tenants and moves times.
struct World: Sendable {
    let name: String
    let owner: PostgresPool
    let api: Ledger
    let worker: Ledger
    let gateway: Ledger
    private let pools: [PostgresPool]
    private let server: PostgresPool

    /// The world of the suite that runs.
    @TaskLocal static var current: World?

    static func here() throws -> World {
        try #require(current, "the suite lacks the trait .world")
    }

    /// The database that `CLOUDRMM_TEST_DATABASE_URL` names, or one of its neighbours.
    static func pool(user: String? = nil, database: String? = nil) throws -> PostgresPool {
        let variable = "CLOUDRMM_TEST_DATABASE_URL"
        let url = try #require(ProcessInfo.processInfo.environment[variable], "\(variable) is not set")
        var configuration = try PostgresConfiguration(url: url)
        (configuration.user, configuration.database) = (user, database)
        (configuration.connections, configuration.transactionConnections) = (2, 2)
        let pool = PostgresPool(
            configuration: configuration, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        pool.start()
        return pool
    }

    init() async throws {
        name = "crmm_gateway_\(UInt64.random(in: 0 ... .max))"
        server = try Self.pool()
        try await server.createDatabase(name)
        owner = try Self.pool(database: name)
        pools = try ["crmm_api", "crmm_worker", "crmm_gateway"].map { [name] in
            try Self.pool(user: $0, database: name)
        }
        (api, worker, gateway) = (Ledger(pool: pools[0]), Ledger(pool: pools[1]), Ledger(pool: pools[2]))
        _ = try await Migrator(migrations: Ledger.migrations).migrate(owner)
        try await clear()
    }

    func end() async throws {
        for pool in pools + [owner] { await pool.close() }
        try await server.dropDatabase(name)
        await server.close()
    }

    /// Empties what suites fill, so that steps over all tenants find only a test's own rows.
    func clear() async throws {
        try await owner.pipeline(
            scope: .none,
            [
                "DELETE FROM jobs", "DELETE FROM runs", "DELETE FROM run_history", "DELETE FROM run_output",
                "DELETE FROM attempts", "DELETE FROM job_deltas", "DELETE FROM gateways",
                "DELETE FROM queue_partitions",
            ])
    }
}

/// Gives a suite a world, and takes it away at its end.
struct WorldTrait: SuiteTrait, TestScoping {
    var isRecursive: Bool { false }

    func provideScope(
        for test: Test, testCase: Test.Case?,
        performing function: @Sendable @concurrent () async throws -> Void
    ) async throws {
        let world = try await World()
        do {
            try await World.$current.withValue(world) { try await function() }
        } catch {
            try await world.end()
            throw error
        }
        try await world.end()
    }
}

extension Trait where Self == WorldTrait {
    /// A database of the suite's own.
    static var world: WorldTrait { WorldTrait() }
}

/// One organization of a partner of its own, with its sites and devices.
struct Tenant: Sendable {
    let partner: PartnerID
    let organization: OrganizationID
    let sites: [SiteID]
    /// The devices by site.
    let devices: [[DeviceID]]

    var scope: Scope { .organization(organization) }
    var all: [DeviceID] { devices.flatMap(\.self) }
}

extension World {
    /// Makes a tenant with so many sites of so many devices each.
    func tenant(sites: Int = 1, devices: Int = 1, of partner: PartnerID? = nil) async throws -> Tenant {
        let made = Tenant(
            partner: partner ?? fresh(), organization: fresh(), sites: (0..<sites).map { _ in fresh() },
            devices: (0..<sites).map { _ in (0..<devices).map { _ in fresh() } })
        let places = made.sites.enumerated().flatMap { index, site in made.devices[index].map { _ in site } }
        try await owner.pipeline(
            scope: .none,
            [
                "INSERT INTO partners (id, name) VALUES (\(made.partner), 'partner') ON CONFLICT DO NOTHING",
                """
                INSERT INTO organizations (id, partner_id, name)
                VALUES (\(made.organization), \(made.partner), 'organization')
                """,
                """
                INSERT INTO sites (organization_id, id, name)
                SELECT \(made.organization), id, 'site' FROM unnest(\(made.sites)) AS s(id)
                """,
                """
                INSERT INTO devices (organization_id, id, site_id, hostname, platform, agent_version,
                                     key_hash, assignment, assignment_version)
                SELECT \(made.organization), id, site, 'host', 'linux', '1', decode(repeat('00', 32), 'hex'),
                       '', 1
                FROM unnest(\(made.all), \(places)) AS d(id, site)
                """,
            ])
        return made
    }

    /// Commits a job over a list of devices and tells nobody; returns it and its runs in the list's order.
    func submit(_ tenant: Tenant, _ devices: [DeviceID]) async throws -> (job: JobID, runs: [QueuedRun]) {
        let job = SubmittedJob(
            id: fresh(), organization: tenant.organization, site: nil, kind: .script, priority: .standard,
            statement: [1], devices: devices, targetSite: nil, timeoutSeconds: 60, maximumAttempts: 1,
            idempotent: false, expiresAt: .now() + .seconds(3_600), principal: fresh(), idempotencyKey: nil,
            requestHash: [UInt8](repeating: 1, count: 32))
        let (outcomes, runs) = try await api.submit([job], scope: tenant.scope)
        try #require(outcomes == [.accepted(.active)])
        let byDevice = Dictionary(grouping: runs, by: \.device)
        var taken: [DeviceID: Int] = [:]
        return (
            job.id,
            devices.compactMap { device in
                defer { taken[device, default: 0] += 1 }
                return byDevice[device]?.dropFirst(taken[device] ?? 0).first
            }
        )
    }

    /// Where a run is.
    func state(_ run: RunID) async throws -> RunState? {
        try await api.run(run, scope: .platform)?.state
    }

    /// Asks until a statement of a service waits for a lock.
    func blockedStatement() async throws {
        let waiting: SQL = """
            SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND usename LIKE 'crmm\\_%' AND wait_event_type = 'Lock'
            """
        for _ in 0..<20_000 where try await count(waiting) > 0 { return }
        throw NothingWaits()
    }

    struct NothingWaits: Error {}

    /// The number that a statement finds.
    func count(_ statement: SQL) async throws -> Int {
        try await owner.query(statement, scope: .none) { try $0.decode(Int.self) }.first ?? 0
    }
}

/// A new id.
func fresh<Subject>() -> ID<Subject> { .new(at: .now()) }
