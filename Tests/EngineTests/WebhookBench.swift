import Domain
import Ledger
import Logging
import Outbound
import Postgres
import Redis
import Streams
import TestSupport
import Testing
import Trust

@testable import Engine

/// Webhooks from events to a receiver, on an empty database and an empty partition.
struct WebhookBench: Sendable {
    let world: World
    let front: QueueFront
    let partition: TaskPartition
    let spreader: WebhookSpreader
    let upkeep: TaskUpkeep
    let keys: SealingKeys
    let receiver: WebhookReceiver
    let lines = LogLines()
    private let bells: [RedisBlockingConnection]

    static func run(_ body: (WebhookBench) async throws -> Void) async throws {
        try await TestQueue.with { place in
            let bench = try WebhookBench(place)
            do {
                try await bench.world.clear()
                try await bench.world.owner.pipeline(
                    scope: .none,
                    [
                        "DELETE FROM webhook_deliveries", "DELETE FROM webhook_events",
                        "DELETE FROM webhooks",
                    ])
                try #require(try await bench.partition.rebuilder.checkOnce())
                try await body(bench)
            } catch {
                for bell in bench.bells { await bell.close() }
                throw error
            }
            for bell in bench.bells { await bell.close() }
        }
    }

    private init(_ place: TestQueue) throws {
        world = try World.here()
        let kind = TaskKind.webhookDelivery
        let queue = Queue(
            connection: place.connection,
            keys: Keyspace(
                prefix: place.queue.keys.prefix, partition: kind.partition,
                librarySuffix: TestQueue.librarySuffix), logger: .quiet)
        front = QueueFront(queue: queue, logger: .quiet, settling: .zero)
        partition = TaskPartition(
            kind: kind, ledger: world.worker, front: front, connection: place.connection, logger: .quiet)
        spreader = WebhookSpreader(
            ledger: world.api, tasks: Tasks(ledger: world.api, fronts: [kind: front]), logger: .quiet)
        upkeep = TaskUpkeep(ledger: world.worker, fronts: [kind: front], logger: .quiet)
        keys = try SealingKeys(
            current: SealingKeys.Key(id: "k1", secret: SecretBytes(Array(repeating: 9, count: 32))))
        receiver = try WebhookReceiver()
        let configuration = try TestQueue.configuration()
        bells = (0..<2).map { _ in RedisBlockingConnection(configuration: configuration, logger: .quiet) }
    }

    /// A pool of an API of its own.
    func pool(
        networks: AllowedNetworks = .all, policy: WebhookHandler.Policy = WebhookHandler.Policy(),
        slots: WebhookSlots = WebhookSlots(), concurrency: Int = 8, bell: Int = 0
    ) -> WorkerPool {
        let worker = WorkerID.new(at: .now())
        let handler = WebhookHandler(
            ledger: world.api, client: HTTPClient(policy: .guardedExcept(networks)), keys: keys, slots: slots,
            policy: policy, logger: lines.logger())
        return WorkerPool(
            ledger: world.api, front: front, bell: bells[bell], owner: "\(worker)", worker: { worker },
            work: TaskWork(handler), concurrency: concurrency, gate: ClaimGate(ledger: world.api),
            logger: lines.logger())
    }

    static let secret = "whsec_a-secret-that-is-nowhere-else"

    /// Makes a webhook of a level that listens to changes of sites, unless others are named.
    func webhook(
        _ home: Level, path: String = "/", url: String? = nil, secret: String = secret,
        _ events: [WebhookEventType] = [.siteUpdated]
    ) async throws -> WebhookID {
        var row = WebhookRow(
            id: fresh(), home: LevelColumns(home), url: url ?? receiver.url + path, description: "d",
            events: events, sealed: [], createdBy: nil, createdAt: .now())
        row.sealed = [try seal(secret, row)]
        #expect(try await world.api.insert(row, scope: home.scope))
        return row.id
    }

    func seal(_ secret: String, _ row: WebhookRow) throws -> [UInt8] {
        let label = SecretLabel.webhook(
            row.id, partner: row.home.partner, organization: row.home.organization,
            version: row.secretVersion)
        return try keys.seal(SecretBytes(Array(secret.utf8)), for: label).bytes
    }

    func row(_ id: WebhookID) async throws -> WebhookRow {
        try #require(try await world.api.webhook(id, scope: .platform))
    }

    func deliveries(_ id: WebhookID) async throws -> [WebhookDeliveryRow] {
        try await world.api.deliveries(of: id, before: nil, limit: 500, scope: .platform)
    }

    /// Something happens to a tenant's site, so many times, and is spread.
    func happen(_ tenant: Tenant, times: Int = 1) async throws {
        for _ in 0..<times {
            try await world.owner.execute(
                "UPDATE sites SET version = version + 1 WHERE id = \(tenant.sites[0])", scope: .none)
        }
        _ = try await spreader.spreadOnce()
    }

    /// One attempt of all that is queued.
    func work(_ pool: WorkerPool) async throws {
        repeat {} while try await pool.claimOnce()
        try await until("the pool is idle") { pool.runningCount == 0 }
    }

    /// Lets the time come of what waits, and queues it.
    func lapse() async throws {
        try await world.owner.execute(
            "UPDATE tasks SET deadline = now() - interval '1 second' WHERE state = 0", scope: .none)
        _ = try await upkeep.judgeDeadlines()
        _ = try await partition.refiller.refillOnce()
    }

    /// Waits until something holds that other tasks bring about.
    func until(_ what: String, _ holds: () async throws -> Bool) async throws {
        let end = ContinuousClock.now + .seconds(30)
        while try await !holds() {
            guard ContinuousClock.now < end else { throw Unprepared("it never came that \(what)") }
            await Task.yield()
        }
    }

    /// The events of a type that were written.
    func events(_ type: String) async throws -> Int {
        try await world.count("SELECT count(*) FROM webhook_events WHERE type = \(type)")
    }
}
