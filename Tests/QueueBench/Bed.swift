import Domain
import Engine
import Ledger
import Logging
import Postgres
import Redis
import Streams
import Trust

/// An installation's database and queue without API, gateway and agents: a fresh schema, an empty data set,
/// tenants with devices.
struct Bed: Sendable {
    let owner: PostgresPool
    let api: Ledger
    let worker: Ledger
    let gateway: Ledger
    let queue: Queue
    let front: QueueFront
    let redis: RedisConnection
    private let pools: [PostgresPool]
    private let redisURL: String

    static let logger = {
        var logger = Logger(label: "bench")
        logger.logLevel = .error
        return logger
    }()
    /// Who submits.
    static let principal = PrincipalID.new(at: .now())

    /// Brings the schema up to date and, unless another process has filled it (`isFresh`), empties what a
    /// measurement fills and begins a data set.
    init(databaseURL: String, redisURL: String, isFresh: Bool = true) async throws {
        func pool(_ user: String?) throws -> PostgresPool {
            var configuration = try PostgresConfiguration(url: databaseURL)
            configuration.user = user
            configuration.genericPlans = user != nil
            configuration.statementTimeout = .seconds(120)
            let pool = PostgresPool(configuration: configuration, logger: Self.logger)
            pool.start()
            return pool
        }
        self.redisURL = redisURL
        owner = try pool(nil)
        _ = try await Migrator(migrations: Ledger.migrations).migrate(owner)
        let services = try ["crmm_api", "crmm_worker", "crmm_gateway"].map { try pool($0) }
        pools = services + [owner]
        (api, worker, gateway) = (
            Ledger(pool: services[0]), Ledger(pool: services[1]), Ledger(pool: services[2])
        )
        var settings = try RedisConfiguration(url: redisURL)
        // A server whose instructions are counted is slow.
        settings.commandTimeout = .seconds(120)
        let configuration = settings
        redis = RedisConnection(configuration: configuration, logger: Self.logger)
        redis.start()
        queue = Queue(connection: redis, keys: Keyspace(), logger: Self.logger) {
            let loader = RedisConnection(configuration: configuration, logger: Self.logger)
            loader.start()
            return loader
        }
        try await queue.load(using: redis)
        front = QueueFront(queue: queue, logger: Self.logger, settling: isFresh ? .zero : .seconds(2))
        if isFresh { try await clear() }
    }

    func close() async {
        for pool in pools { await pool.close() }
        await redis.close()
    }

    /// Removes tenants, jobs and runs, and what Redis holds.
    func clear() async throws {
        try await owner.execute(
            """
            TRUNCATE partners, organizations, sites, devices, certificates, enrollment_tokens, api_keys, jobs,
                     runs, job_deltas, run_history, run_output, attempts, gateways, queue_partitions CASCADE
            """, scope: .none)
        _ = try await redis.send(RedisCommand("FLUSHALL"))
        front.forgetEpoch()
        let rebuilder = Rebuilder(ledger: worker, front: front, connection: redis, logger: Self.logger)
        guard try await rebuilder.checkOnce() else { throw BenchError("no data set was begun") }
    }

    /// Makes organizations of so many sites and devices each; the devices are spread over the sites.
    func tenants(_ count: Int, devices: Int, sites: Int = 1) async throws -> [BenchTenant] {
        let partner = PartnerID.new(at: .now())
        let made = (0..<count).map { _ in
            BenchTenant(
                partner: partner, organization: .new(at: .now()),
                sites: (0..<sites).map { _ in .new(at: .now()) },
                devices: (0..<devices).map { _ in .new(at: .now()) })
        }
        let lots = made.flatMap { tenant in tenant.sites.map { (tenant.organization, $0) } }
        let places = made.flatMap { tenant in
            tenant.devices.enumerated().map { number, device in
                (tenant.organization, device, tenant.sites[number % sites])
            }
        }
        try await owner.pipeline(
            scope: .none,
            [
                "INSERT INTO partners (id, name, mac_key, mac) VALUES (\(partner), 'bench', '', '')",
                """
                INSERT INTO organizations (id, partner_id, name, mac_key, mac)
                SELECT id, \(partner), 'bench', '', '' FROM unnest(\(made.map(\.organization))) AS o(id)
                """,
                """
                INSERT INTO sites (organization_id, id, name, mac_key, mac)
                SELECT organization_id, id, 'bench', '', ''
                FROM unnest(\(lots.map(\.0)), \(lots.map(\.1))) AS s(organization_id, id)
                """,
                """
                INSERT INTO devices (organization_id, id, site_id, hostname, platform, agent_version,
                                     key_hash, assignment, assignment_version, mac_key, mac)
                SELECT organization_id, id, site_id, 'bench', 'linux', '1', decode(repeat('00', 32), 'hex'),
                       '', 1, '', ''
                FROM unnest(\(places.map(\.0)), \(places.map(\.1)), \(places.map(\.2)))
                         AS d(organization_id, id, site_id)
                """,
            ])
        return made
    }

    /// A number that a statement finds.
    func number(_ statement: SQL) async throws -> Int {
        try await owner.query(statement, scope: .none) { try $0.decode(Int.self) }.first ?? 0
    }

    /// A connection that blocks, for a dispatcher or a gateway.
    func blocking() throws -> RedisBlockingConnection {
        RedisBlockingConnection(
            configuration: try RedisConfiguration(url: redisURL), logger: Self.logger)
    }
}

/// An organization with its devices.
struct BenchTenant: Sendable {
    let partner: PartnerID
    let organization: OrganizationID
    let sites: [SiteID]
    let devices: [DeviceID]

    /// A job for some of its devices (`nil`: for all of the organization), with a statement as large as one
    /// that is signed.
    func job(
        _ devices: [DeviceID]?, kind: JobKind = .ping, priority: Priority = .standard
    ) -> SubmittedJob {
        SubmittedJob(
            id: .new(at: .now()), organization: organization, site: sites.count == 1 ? sites[0] : nil,
            kind: kind, priority: priority,
            statement: [UInt8](repeating: 7, count: 420), devices: devices, targetSite: nil,
            timeoutSeconds: 60, maximumAttempts: 1, idempotent: false, expiresAt: .now() + .seconds(3_600),
            principal: Bed.principal, idempotencyKey: nil, requestHash: [UInt8](repeating: 1, count: 32))
    }

    /// One job a device, in turn, so many in all.
    func singles(_ count: Int) -> [SubmittedJob] {
        (0..<count).map { job([devices[$0 % devices.count]]) }
    }
}

/// Why a measurement cannot be made.
struct BenchError: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}

extension QueueFront {
    /// The epoch of the only partition.
    func epoch() async throws -> Epoch { try await parts[0].epoch() }
}
