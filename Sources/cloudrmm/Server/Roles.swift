import API
import Access
import Domain
import Engine
import Foundation
import Gateway
import Ledger
import Logging
import Outbound
import Postgres
import Process
import Redis
import ServiceLifecycle
import Streams
import Trust
import UnixSignals

/// Where a process finds its engines and listens.
struct RoleSettings: Sendable {
    var apiDatabaseURL: String
    var workerDatabaseURL: String
    var gatewayDatabaseURL: String
    var redisURL: String
    var redisLoaderURL: String
    var redisPartitions = 1
    var keysDirectory: String
    var host = "127.0.0.1"
    var apiPort = 3001
    var gatewayPort = 3002
    var webPort = 3000
    var operationsPort = 3003
    /// By which names callers know the API, in its certificate and in Host headers, and agents the gateway.
    var apiNames = ListenerNames()
    var gatewayNames = ListenerNames()
    /// Where agents are told to connect; by default this host's gateway.
    var agentGatewayURL: String?
    /// How many tasks of a kind a worker does at once, unless 1, and for how many days what has ended is
    /// kept.
    var taskConcurrency: [TaskKind: Int] = [:]
    var retentionDays = RetentionHandler.defaultDays
    /// How the keys of issuers are fetched whose tokens are believed.
    var oidc = OIDCKeys.Configuration()
    /// Networks that webhooks may be in although they are not public.
    var webhookNetworks = AllowedNetworks.none
    /// Origins whose pages may read the API's answers, and how often its callers may ask.
    var corsOrigins: Set<String> = []
    var rateLimits = RateLimits.standard
    /// Where the files of the API's page for people are, if anywhere.
    var docsDirectory: String?
}

/// Which of the engines below a role answer.
typealias Readiness = @Sendable () async -> [String: Bool]

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
    /// What the parts count, whatever their role.
    let metrics = Metrics()

    /// A pool whose login is what a role must be: one that row-level security holds for.
    func makeCheckedPool(
        _ url: String, of setting: Setting, connections: Int
    ) async throws -> PostgresPool {
        let pool = try makePool(url, connections: connections)
        let isAbove = try await Self.naming(setting) { try await Ledger(pool: pool).isAboveRowSecurity() }
        if isAbove {
            throw CommandError(
                "the login of \(setting.rawValue) is a superuser or has BYPASSRLS, which would see every "
                    + "tenant; give it one of the logins that 'cloudrmm migrate' makes")
        }
        return pool
    }

    /// A front of the queue on a connection of its own; the function library is loaded by the user that may.
    func makeFront(
        _ connection: RedisConnection, partition: Int? = nil, metrics: EngineMetrics? = nil
    ) async throws -> QueueFront {
        let configuration = try RedisConfiguration(url: settings.redisLoaderURL)
        let logger = logger
        let keys =
            partition.map { [Keyspace(partition: $0)] }
            ?? (0..<settings.redisPartitions).map { Keyspace(partition: $0, of: settings.redisPartitions) }
        let queues = keys.map { keys in
            Queue(connection: connection, keys: keys, logger: logger) {
                RedisConnection(configuration: configuration, logger: logger)
            }
        }
        try await Self.naming(.redisURL) { _ = try await connection.send(RedisCommand("PING")) }
        let loader = RedisConnection(configuration: configuration, logger: logger)
        let isOwn = settings.redisLoaderURL != settings.redisURL
        try await Self.naming(isOwn ? .redisLoaderURL : .redisURL) { try await queues[0].load(using: loader) }
        await loader.close()
        return QueueFront(queues: queues, metrics: metrics ?? self.metrics.engine, logger: logger)
    }

    /// An engine that cannot be used is told with the setting that leads there; the error shows no password.
    private static func naming<Value>(
        _ setting: Setting, _ body: () async throws -> Value
    ) async throws -> Value {
        do {
            return try await body()
        } catch {
            throw CommandError("what \(setting.rawValue) leads to cannot be used: \(error)")
        }
    }

    func makePool(_ url: String, connections: Int) throws -> PostgresPool {
        var configuration = try PostgresConfiguration(url: url)
        configuration.connections = connections
        configuration.genericPlans = true
        let pool = PostgresPool(configuration: configuration, logger: logger)
        pool.start()
        metrics.watch(pool)
        return pool
    }

    func makeConnection() throws -> RedisConnection {
        let connection = RedisConnection(
            configuration: try RedisConfiguration(url: settings.redisURL), logger: logger)
        connection.start()
        metrics.watch(connection)
        return connection
    }

    /// While one batch commits, another is claimed and a third acknowledged.
    private static let dispatcherCount = 3

    /// The worker: rebuilds, refills, dispatches, reconciles, and does the platform's own tasks.
    func makeWorker() async throws -> (part: Part, readiness: Readiness) {
        let pool = try await makeCheckedPool(
            settings.workerDatabaseURL, of: .workerDatabaseURL, connections: 4)
        let connection = try makeConnection()
        let front = try await makeFront(connection)
        let ledger = Ledger(pool: pool)
        let configuration = try RedisConfiguration(url: settings.redisURL)
        let rebuilder = Rebuilder(ledger: ledger, front: front, connection: connection, logger: logger)
        let refiller = Refiller(ledger: ledger, front: front, logger: logger)
        let reconciler = Reconciler(ledger: ledger, front: front, logger: logger)
        let bells = (0..<Self.dispatcherCount).map { _ in
            front.parts.map { _ in RedisBlockingConnection(configuration: configuration, logger: logger) }
        }
        metrics.watch(QueueGauges(ledger: ledger, front: front))
        let process = UniqueID.v7(at: .now())
        let gate = ClaimGate(ledger: ledger)
        let presence = presence(of: .worker, ledger, gate: gate)
        let dispatchers = bells.enumerated().map { index, bells in
            Dispatcher(
                ledger: ledger, front: front, bells: bells, owner: "\(process).\(index)", gate: gate,
                logger: logger)
        }
        let tasks = try await makeTaskParts(
            ledger: ledger, connection: connection, process: process, gate: gate, presence: presence)
        let part = Part("worker") {
            // Usually there is a data set to be built at the start; if this fails, the rebuilder tries again.
            _ = try? await rebuilder.checkOnce()
            await tasks.prepare()
            try await presence.beside {
                await withTaskGroup(of: Void.self) { group in
                    group.addTask { await rebuilder.run() }
                    group.addTask { await refiller.run() }
                    group.addTask { await reconciler.run() }
                    group.addTask { await front.reportWork() }
                    group.addTask { await tasks.run() }
                    for dispatcher in dispatchers { group.addTask { await dispatcher.run() } }
                }
            }
            for bell in bells.joined() { await bell.close() }
            await connection.close()
            await pool.close()
        }
        return (part, Self.readiness(ledger, connection))
    }

    /// How a role of this process says that it lives.
    func presence(of role: Role, _ ledger: Ledger, gate: ClaimGate? = nil) -> WorkerPresence {
        WorkerPresence(
            ledger: ledger, role: role.rawValue, host: ProcessInfo.processInfo.hostName,
            processID: Int(ProcessInfo.processInfo.processIdentifier), gate: gate, logger: logger)
    }

    /// Asks a role's engines; why one does not answer is in the log of whoever needs it.
    static func readiness(_ ledger: Ledger, _ connection: RedisConnection) -> Readiness {
        {
            let database: Void? = try? await ledger.ping()  // here counts only that it does not answer
            let redis = try? await connection.send(RedisCommand("PING"))  // as above
            return ["database": database != nil, "redis": redis != nil]
        }
    }

    /// The gateway: agents' sessions.
    func makeGateway(
        ports: BoundPorts
    ) async throws -> (part: Part, gateway: Gateway, readiness: Readiness) {
        let pool = try await makeCheckedPool(
            settings.gatewayDatabaseURL, of: .gatewayDatabaseURL, connections: 4)
        let connection = try makeConnection()
        let front = try await makeFront(connection)
        let ledger = Ledger(pool: pool)
        let inbox = RedisBlockingConnection(
            configuration: try RedisConfiguration(url: settings.redisURL), logger: logger)
        let deployment = try await ledger.deployment()
        let files = GatewayFiles(inKeys: settings.keysDirectory)
        let logger = logger
        let tls = try RenewedTLS(logger: logger) {
            let found = try files.tls()
            let left = try files.secondsLeft(now: .now())
            if left < KeyFiles.serverSeconds / 4 {
                // The API makes a new one earlier than that: what lies here is a copy that was not renewed.
                logger.warning(
                    "the gateway's certificate ends soon; copy the API's directory of gateways' files again",
                    metadata: ["days": "\(left / 86_400)"])
            }
            return found
        }
        var configuration = GatewayConfiguration(host: settings.host, port: settings.gatewayPort)
        configuration.connectionsMax = connectionsMax(descriptors: try DescriptorLimit.raise())
        let gateway = Gateway(
            configuration: configuration,
            deployment: deployment,
            tls: { tls.context }, ledger: ledger, front: front, inbox: inbox, logger: logger)
        let presence = presence(of: .gateway, ledger)
        let part = Part("gateway") {
            try await beside({ try await tls.run() }) {
                try await beside({ await front.reportWork() }) {
                    try await presence.beside {
                        try await gateway.run { port in ports.bound("gateway", port) }
                    }
                }
            }
            await inbox.close()
            await connection.close()
            await pool.close()
        }
        return (part, gateway, Self.readiness(ledger, connection))
    }
}

/// How many agents a gateway lets connect in a process that may have so many descriptors: all but 500, which
/// are for the rest of what it does, or half of few.
func connectionsMax(descriptors: Int) -> Int { max(descriptors - 500, descriptors / 2) }

/// The group in which the parts of a process run: SIGTERM and Ctrl-C end them in order, the last first, and
/// so does a part that fails.
func serviceGroup(of parts: [Part], logger: Logger) -> ServiceGroup {
    var configuration = ServiceGroupConfiguration(
        services: parts.map {
            ServiceGroupConfiguration.ServiceConfiguration(
                service: $0, successTerminationBehavior: .ignore,
                failureTerminationBehavior: .gracefullyShutdownGroup)
        },
        gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
    // After that, parts are told to break off: a stop is over within 10 s.
    configuration.maximumGracefulShutdownDuration = .seconds(5)
    return ServiceGroup(configuration: configuration)
}

/// Runs a body, and something else for as long as it lasts.
func beside(
    _ other: @escaping @Sendable () async throws -> Void, _ body: () async throws -> Void
) async throws {
    try await beside([other], body)
}

/// Runs a body, and others for as long as it lasts.
func beside(
    _ others: [@Sendable () async throws -> Void], _ body: () async throws -> Void
) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
        for other in others { group.addTask { try await other() } }
        defer { group.cancelAll() }
        try await body()
    }
}

extension WorkerPresence {
    /// Runs a role's body while it says that the role lives, and says when it has ended.
    func beside(_ body: () async throws -> Void) async throws {
        do {
            try await cloudrmm.beside({ await self.run() }) { try await body() }
        } catch {
            await end()
            throw error
        }
        await end()
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
