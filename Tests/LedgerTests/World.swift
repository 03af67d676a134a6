import Domain
import Foundation
import Logging
import Postgres
import Testing

@testable import Ledger

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
        name = "crmm_ledger_\(UInt64.random(in: 0 ... .max))"
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

    /// The pool of one service's login, for statements that the ledger does not have.
    var logins: [(name: String, pool: PostgresPool)] {
        [("crmm_api", pools[0]), ("crmm_worker", pools[1]), ("crmm_gateway", pools[2])]
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
        try await owner.execute("INSERT INTO queue_partitions VALUES (0, \(Self.epoch))", scope: .none)
    }

    static let epoch = "epoch"
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

    /// A script job for a list of devices, not yet submitted.
    func job(
        _ tenant: Tenant, devices: [DeviceID]?, site: SiteID? = nil, targetSite: SiteID? = nil,
        key: String? = nil, hash: UInt8 = 1, principal: APIKeyID = principal
    ) -> SubmittedJob {
        SubmittedJob(
            id: fresh(), organization: tenant.organization, site: site, kind: .script, priority: .standard,
            statement: [1, 2, 3], devices: devices, targetSite: targetSite, timeoutSeconds: 60,
            maximumAttempts: 1, idempotent: false, expiresAt: now() + .seconds(3_600), principal: principal,
            idempotencyKey: key, requestHash: [UInt8](repeating: hash, count: 32))
    }

    /// Commits a job over a list of devices; returns it and its queued runs in the order of the list.
    func submit(_ tenant: Tenant, _ devices: [DeviceID]) async throws -> (job: JobID, runs: [QueuedRun]) {
        let job = job(tenant, devices: devices)
        let (outcomes, runs) = try await api.submit([job], scope: tenant.scope)
        try #require(outcomes == [.accepted(.active)])
        let byDevice = Dictionary(grouping: runs, by: \.device)
        return (job.id, devices.compactMap { byDevice[$0]?.first })
    }

    /// Marks runs for a gateway.
    func mark(_ runs: [QueuedRun], gateway: GatewayID = fresh()) async throws -> [MarkedRun] {
        try await worker.mark(
            runs.map {
                MarkRequest(
                    organization: $0.organization, run: $0.run, generation: $0.generation, gateway: gateway,
                    token: fresh())
            }, epoch: Self.epoch, partition: 0)
    }

    /// Marks runs and hands them to their devices' connections.
    func send(_ runs: [QueuedRun]) async throws -> [MarkedRun] {
        let marked = try await mark(runs)
        try #require(marked.count == runs.count)
        let taken = try await gateway.take(marked.map { ($0.organization, $0.run, $0.token) })
        try #require(taken.count == runs.count)
        let byRun = Dictionary(grouping: marked, by: \.run)
        return runs.compactMap { byRun[$0.run]?.first }
    }

    /// Moves the expiry of runs, and the last moment of the device's word after it, into the past.
    func lapse(_ runs: [RunID]) async throws {
        try await owner.execute(
            """
            UPDATE runs SET expires_at = now() - interval '1 hour', deadline = now() - interval '1 second'
            WHERE id = ANY(\(runs))
            """, scope: .none)
    }

    /// Folds until nothing is left.
    func fold() async throws {
        while try await worker.foldDeltas(limit: 1_000) > 0 {}
    }

    /// How many rows a table has.
    func count(_ statement: SQL) async throws -> Int {
        try await owner.query(statement, scope: .none) { try $0.decode(Int.self) }.first ?? 0
    }

    static let principal: APIKeyID = fresh()
}

extension AttemptResult {
    /// The agent's word about a marked run.
    init(
        _ run: MarkedRun, _ outcome: Outcome = .succeeded, exitCode: Int? = 0, reason: String? = nil,
        device: DeviceID? = nil, organization: OrganizationID? = nil, token: AttemptToken? = nil,
        output: String = "out"
    ) {
        self.init(
            organization: organization ?? run.organization, device: device ?? run.device, run: run.run,
            attempt: run.attempt, token: token ?? run.token, outcome: outcome, exitCode: exitCode,
            reason: reason, startedAt: now(), finishedAt: now(),
            output: OutputRow(
                stdoutHead: Array(output.utf8), stdoutTail: [], stdoutBytes: output.utf8.count,
                stderrHead: [], stderrTail: [], stderrBytes: 0))
    }
}

/// A new id.
func fresh<Subject>() -> ID<Subject> { .new(at: now()) }

/// The time of this machine.
func now() -> Instant { Instant(microseconds: Int64(Date().timeIntervalSince1970 * 1_000_000)) }

extension Settlement {
    /// Whether it ended its run.
    var isSettled: Bool {
        switch self {
        case .settled: true
        case .amended, .duplicate, .late, .foreign: false
        }
    }
}
