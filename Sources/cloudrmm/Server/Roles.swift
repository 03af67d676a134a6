import Domain
import Engine
import Gateway
import Ledger
import Logging
import Postgres
import Redis
import ServiceLifecycle
import Streams
import Trust

/// Where a process finds its engines and listens.
struct RoleSettings: Sendable {
    var apiDatabaseURL: String
    var workerDatabaseURL: String
    var gatewayDatabaseURL: String
    var redisURL: String
    var redisLoaderURL: String
    var keysDirectory: String
    var host = "127.0.0.1"
    var apiPort = 3001
    var gatewayPort = 3002
    var webPort = 3000
    var operationsPort = 3003
    /// Names and addresses in the server certificate, beside the host's own.
    var names: [String] = ["localhost"]
    /// Where agents are told to connect; by default this host's gateway.
    var agentGatewayURL: String?
}

/// The parts that processes are composed of.
enum Role: String, CaseIterable, Sendable {
    case api
    case gateway
    case worker
}

/// Builds the roles of one process on their own logins and connections.
struct Roles {
    let settings: RoleSettings
    let logger: Logger

    /// A front of the queue on a connection of its own; the function library is loaded by the user that may.
    func makeFront(_ connection: RedisConnection) async throws -> QueueFront {
        let configuration = try RedisConfiguration(url: settings.redisLoaderURL)
        let logger = logger
        let queue = Queue(connection: connection, keys: Keyspace(), logger: logger) {
            RedisConnection(configuration: configuration, logger: logger)
        }
        let loader = RedisConnection(configuration: configuration, logger: logger)
        try await queue.load(using: loader)
        await loader.close()
        return QueueFront(queue: queue, logger: logger)
    }

    func makePool(_ url: String, connections: Int) throws -> PostgresPool {
        var configuration = try PostgresConfiguration(url: url)
        configuration.connections = connections
        configuration.genericPlans = true
        let pool = PostgresPool(configuration: configuration, logger: logger)
        pool.start()
        return pool
    }

    func makeConnection() throws -> RedisConnection {
        let connection = RedisConnection(
            configuration: try RedisConfiguration(url: settings.redisURL), logger: logger)
        connection.start()
        return connection
    }

    /// The worker: rebuilds, refills, dispatches, reconciles.
    func makeWorker() async throws -> Part {
        let pool = try makePool(settings.workerDatabaseURL, connections: 4)
        let connection = try makeConnection()
        let front = try await makeFront(connection)
        let ledger = Ledger(pool: pool)
        let configuration = try RedisConfiguration(url: settings.redisURL)
        let rebuilder = Rebuilder(ledger: ledger, front: front, connection: connection, logger: logger)
        let refiller = Refiller(ledger: ledger, front: front, logger: logger)
        let reconciler = Reconciler(ledger: ledger, front: front, logger: logger)
        let bells = (0..<2).map { _ in RedisBlockingConnection(configuration: configuration, logger: logger) }
        let process = UniqueID.v7(at: .now())
        let dispatchers = bells.enumerated().map { index, bell in
            Dispatcher(
                ledger: ledger, front: front, bell: bell, owner: "\(process).\(index)", logger: logger)
        }
        return Part("worker") {
            // Usually there is a data set to be built at the start; if this fails, the rebuilder tries again.
            _ = try? await rebuilder.checkOnce()
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await rebuilder.run() }
                group.addTask { await refiller.run() }
                group.addTask { await reconciler.run() }
                for dispatcher in dispatchers { group.addTask { await dispatcher.run() } }
            }
            for bell in bells { await bell.close() }
            await connection.close()
            await pool.close()
        }
    }

    /// The gateway: agents' sessions.
    func makeGateway(ports: BoundPorts) async throws -> (part: Part, gateway: Gateway) {
        let pool = try makePool(settings.gatewayDatabaseURL, connections: 4)
        let connection = try makeConnection()
        let front = try await makeFront(connection)
        let ledger = Ledger(pool: pool)
        let inbox = RedisBlockingConnection(
            configuration: try RedisConfiguration(url: settings.redisURL), logger: logger)
        let deployment = try await ledger.deployment()
        let tls = try KeyFiles(directory: settings.keysDirectory).gatewayTLS()
        let gateway = Gateway(
            configuration: GatewayConfiguration(host: settings.host, port: settings.gatewayPort),
            deployment: deployment,
            tls: tls, ledger: ledger, front: front, inbox: inbox, logger: logger)
        let part = Part("gateway") {
            try await gateway.run { port in ports.bound("gateway", port) }
            await inbox.close()
            await connection.close()
            await pool.close()
        }
        return (part, gateway)
    }
}

/// A part of a process: runs until the process is asked to stop, then ends in order.
struct Part: Service, Sendable {
    /// How the body learns that it is to end.
    enum Ending {
        /// Its task is cancelled.
        case cancelled
        /// It heeds the group's graceful shutdown by itself.
        case graceful
    }

    let name: String
    private let ending: Ending
    private let body: @Sendable () async throws -> Void

    init(_ name: String, ending: Ending = .cancelled, _ body: @escaping @Sendable () async throws -> Void) {
        self.name = name
        self.ending = ending
        self.body = body
    }

    func run() async throws {
        do {
            switch ending {
            case .cancelled: try await cancelWhenGracefulShutdown { try await body() }
            case .graceful: try await body()
            }
        } catch is CancellationError {
            // That is how a part is asked to end.
        }
    }
}
