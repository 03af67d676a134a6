import Domain
import Ledger
import Logging
import Postgres
import Redis
import Synchronization
import TestSupport
import Testing
import Trust

@testable import Engine
@testable import Streams

/// The engine's parts on an empty database and an empty partition of the queue, moved step by step.
struct Bench: Sendable {
    let world: World
    let place: TestQueue
    let redis: RedisConnection
    let queue: Queue
    let front: QueueFront
    let dispatcher: Dispatcher
    let refiller: Refiller
    let reconciler: Reconciler
    let rebuilder: Rebuilder
    private let bells: [RedisBlockingConnection]

    private static let logger = Logger.quiet

    private init(
        _ place: TestQueue, settling: Duration, on server: RedisConfiguration?, partitions: Int
    ) throws {
        world = try World.here()
        (redis, self.place) = (place.connection, place)
        let configuration = try server ?? TestQueue.configuration()
        bells = (0..<partitions).map { _ in
            RedisBlockingConnection(configuration: configuration, logger: Self.logger)
        }
        let keys = place.queue.keys
        let queues = (0..<partitions).map { partition in
            place.queue.beside(
                Keyspace(
                    prefix: keys.prefix, partition: partition, of: partitions,
                    librarySuffix: keys.librarySuffix))
        }
        queue = queues[0]
        front = QueueFront(queues: queues, logger: Self.logger, settling: settling)
        dispatcher = Dispatcher(
            ledger: world.worker, front: front, bells: bells, owner: "first", logger: Self.logger)
        refiller = Refiller(ledger: world.worker, front: front, logger: Self.logger)
        reconciler = Reconciler(ledger: world.worker, front: front, logger: Self.logger)
        rebuilder = Rebuilder(ledger: world.worker, front: front, connection: redis, logger: Self.logger)
    }

    /// Runs a test and removes its keys afterwards.
    static func run(
        settling: Duration = .zero, on server: RedisConfiguration? = nil, partitions: Int = 1,
        _ body: (Bench) async throws -> Void
    ) async throws {
        try await TestQueue.with(on: server) { place in
            let bench = try Bench(place, settling: settling, on: server, partitions: partitions)
            do {
                try await bench.world.clear()
                try #require(try await bench.rebuilder.checkOnce())
                try await body(bench)
            } catch {
                for bell in bench.bells { await bell.close() }
                throw error
            }
            for bell in bench.bells { await bell.close() }
        }
    }

    /// The parts of another process on the same servers, with a number of partitions of its own.
    func beside(
        partitions: Int, on server: RedisConfiguration? = nil, _ body: (Bench) async throws -> Void
    ) async throws {
        let other = try Bench(place, settling: .zero, on: server, partitions: partitions)
        do {
            try await body(other)
        } catch {
            for bell in other.bells { await bell.close() }
            throw error
        }
        for bell in other.bells { await bell.close() }
    }

    /// A second dispatcher, as of another worker, or of the one whose gate it has.
    func dispatcher(
        owner: String, gate: ClaimGate? = nil, trialTime: Duration = .seconds(2)
    ) -> Dispatcher {
        Dispatcher(
            ledger: world.worker, front: front, bells: bells, owner: owner, gate: gate, trialTime: trialTime,
            logger: Self.logger)
    }

    /// A rebuilder of another worker.
    func anotherRebuilder() -> Rebuilder {
        Rebuilder(ledger: world.worker, front: front, connection: redis, logger: Self.logger)
    }

    // MARK: Redis

    /// Loses everything that Redis holds for this bench, as `FLUSHALL` would.
    func wipe() async throws { try await place.wipe() }

    /// Sends a command about one key of the partition.
    @discardableResult
    func raw(_ command: String, _ key: String, _ arguments: RedisArgument...) async throws -> RedisValue {
        try await redis.send(
            RedisCommand(command, arguments: [.string(queue.keys.key(key))] + arguments))
    }

    /// Makes every queued run older.
    func age(_ time: Duration) async throws {
        try await world.owner.execute(
            "UPDATE runs SET queued_at = queued_at - make_interval(secs => \(time / .seconds(1)))",
            scope: .none)
    }

    /// Ends the time of every lease.
    func lapseLeases() async throws {
        for lease in try await raw("ZRANGE", "leases", 0, -1).array?.compactMap(\.text) ?? [] {
            try await raw("ZADD", "leases", 0, .string(lease))
        }
    }

    /// How an organization stands in the queue.
    func depth(_ tenant: Tenant) async throws -> Depth {
        try #require(try await queue.depths(of: [tenant.organization]).first)
    }

    // MARK: Steps

    /// Claims as a worker would that dies right after.
    func claim(_ owner: String = "dead") async throws -> [Claim] {
        try await queue.claim(owner: owner, limit: 128, leaseMilliseconds: 60_000, epoch: front.epoch()).items
    }

    /// Marks claims as a worker would that dies right after.
    func mark(
        _ claims: [Claim], gateway: GatewayID, epoch: String? = nil, alone: Bool = false
    ) async throws -> [MarkedRun] {
        let current = try await front.epoch().id
        return try await world.worker.mark(
            claims.map {
                MarkRequest(
                    organization: $0.organization, run: $0.run, generation: $0.generation, gateway: gateway,
                    token: fresh())
            }, epoch: epoch ?? current, partition: 0, alone: alone)
    }

    /// Dispatches until nothing is left to claim.
    func dispatchAll() async throws {
        while try await dispatcher.dispatchOnce() {}
    }

    /// Moves the time of all runs that are marked and not sent past what their gateway had.
    func lapseMarks() async throws {
        try await world.owner.execute(
            "UPDATE runs SET deadline = now() - interval '1 second' WHERE state = 3 AND sent_at IS NULL",
            scope: .none)
    }

    /// Asks until a statement of a service waits for a lock.
    func blockedStatement() async throws {
        try await world.blockedStatement()
    }

    /// The epoch that PostgreSQL keeps, asked beside whatever the services wait for.
    func epoch() async throws -> String? {
        try await world.owner.query("SELECT epoch FROM queue_partitions", scope: .none) {
            try $0.decode(String.self)
        }.first
    }

    /// Asks until there is another epoch, or a step has ended without one.
    func epoch(unlike old: String?, orEnd step: Task<Bool, any Error>) async throws -> String? {
        let end = End()
        Task {
            _ = await step.result
            end.isReached.withLock { $0 = true }
        }
        for _ in 0..<20_000 where !end.isReached.withLock({ $0 }) {
            let epoch = try await epoch()
            if epoch != old { return epoch }
        }
        return try await epoch()
    }

    private final class End: Sendable {
        let isReached = Mutex(false)
    }
}

/// A gateway as the engine sees it: an incarnation with a heartbeat, an inbox and devices.
struct Post: Sendable {
    let id: GatewayID
    let bench: Bench

    /// A living gateway that holds these devices.
    static func open(
        _ bench: Bench, holding devices: [DeviceID] = [], as id: GatewayID = fresh()
    ) async throws -> Post {
        let post = Post(id: id, bench: bench)
        try await bench.world.gateway.beginGateway(post.id)
        try await bench.queue.beat(gateway: post.id, milliseconds: 60_000)
        if !devices.isEmpty { try await post.present(devices) }
        return post
    }

    /// Says that it holds devices; their waiting runs are not touched.
    func present(_ devices: [DeviceID]) async throws {
        _ = try await bench.queue.present(devices, gateway: id, epoch: bench.front.epoch())
    }

    /// Says that it holds all devices of a tenant, in whichever partition they are.
    func present(_ tenant: Tenant) async throws {
        let part = bench.front.part(of: tenant.organization)
        _ = try await part.call { try await part.queue.present(tenant.all, gateway: id, epoch: $0) }
    }

    /// A device connects: presence, then its waiting runs.
    func connect(_ devices: [DeviceID], of tenant: Tenant) async throws {
        try await present(devices)
        let back = try await bench.world.gateway.reconnect(devices.map { (tenant.organization, $0) })
        await bench.front.offer(back, and: back.map(\.queue))
    }

    /// Its heartbeat lapses.
    func die() async throws {
        _ = try await bench.redis.send(RedisCommand("DEL", .string(bench.queue.keys.alive(id))))
    }

    /// Takes everything out of its inbox.
    func letters() async throws -> [InboxLetter] {
        try await bench.queue.drain(gateway: id).compactMap(InboxLetter.init)
    }

    /// The attempts that lie in its inbox, in order.
    func attempts() async throws -> [InboxLetter.Item] {
        try await letters().flatMap { letter in
            switch letter {
            case .dispatch(let items): items
            case .cancel, .end: [] as [InboxLetter.Item]
            }
        }
    }

    /// Hands attempts to their devices.
    func take(_ items: [InboxLetter.Item]) async throws -> [Delivery] {
        try await bench.world.gateway.take(items.map { ($0.organization, $0.run, $0.token) })
    }

    /// The devices' word; committed, and told to the queue unless the gateway dies in between.
    @discardableResult
    func finish(
        _ items: [InboxLetter.Item], _ outcome: Outcome = .succeeded, telling: Bool = true
    ) async throws -> [Settlement] {
        let settlements = try await bench.world.gateway.settle(
            items.map {
                AttemptResult(
                    organization: $0.organization, device: $0.device, run: $0.run, attempt: $0.attempt,
                    token: $0.token, outcome: outcome, exitCode: 0, reason: nil, startedAt: nil,
                    finishedAt: .now(),
                    output: OutputRow(
                        stdoutHead: [], stdoutTail: [], stdoutBytes: 0, stderrHead: [], stderrTail: [],
                        stderrBytes: 0))
            })
        if telling {
            await bench.front.settled(settlements.compactMap(\.settledRun))
        }
        return settlements
    }
}

extension QueueFront {
    /// The epoch of the only partition.
    func epoch() async throws -> Epoch { try await parts[0].epoch() }
}
