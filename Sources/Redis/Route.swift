import Logging
import Synchronization

/// Where the commands of a connection go: to one server, or to the nodes of a cluster.
enum Route: Sendable {
    case server(Pipeline)
    case cluster(ClusterRouter)

    init(_ configuration: RedisConfiguration, _ logger: Logger, _ abandonment: Pipeline.Abandonment) {
        switch configuration.deployment {
        case .single, .sentinel:
            self = .server(
                Pipeline(configuration: configuration, logger: logger, abandonment: abandonment))
        case .cluster:
            self = .cluster(
                ClusterRouter(configuration: configuration, logger: logger, abandonment: abandonment))
        }
    }

    func start() {
        switch self {
        case .server(let pipeline): pipeline.start()
        case .cluster(let router): router.start()
        }
    }

    func beginClosing() {
        switch self {
        case .server(let pipeline): pipeline.beginClosing()
        case .cluster(let router): router.beginClosing()
        }
    }

    func close() async {
        switch self {
        case .server(let pipeline): await pipeline.close()
        case .cluster(let router): await router.close()
        }
    }

    func send(_ commands: [RedisCommand], timeout: Duration?) async throws -> Exchange.Replies {
        switch self {
        case .server(let pipeline): try await pipeline.send(commands, timeout: timeout)
        case .cluster(let router): try await router.send(commands, timeout: timeout)
        }
    }

    /// The answer of `EXEC` to these commands.
    func transaction(_ commands: [RedisCommand]) async throws -> RedisValue {
        switch self {
        case .server(let pipeline):
            let whole = [RedisCommand("MULTI")] + commands + [RedisCommand("EXEC")]
            let replies = try await pipeline.send(whole, timeout: nil)
            return try replies[replies.count - 1].get()
        case .cluster(let router): return try await router.transaction(commands)
        }
    }

    /// All servers that have data of their own.
    func masters() async throws -> [Pipeline] {
        switch self {
        case .server(let pipeline): [pipeline]
        case .cluster(let router): try await router.masters()
        }
    }

    var generation: Int {
        switch self {
        case .server(let pipeline): pipeline.generation.load(ordering: .acquiring)
        case .cluster(let router): router.generation
        }
    }

    var failures: Int {
        switch self {
        case .server(let pipeline): pipeline.failures.load(ordering: .relaxed)
        case .cluster(let router): router.failures
        }
    }

    var writes: Int {
        switch self {
        case .server(let pipeline): pipeline.writes.load(ordering: .relaxed)
        case .cluster(let router): router.writes
        }
    }

    /// How often nodes of a cluster sent a command elsewhere: for good, and just once.
    var redirections: (moved: Int, asked: Int) {
        switch self {
        case .server: (0, 0)
        case .cluster(let router):
            (router.moves.load(ordering: .relaxed), router.asks.load(ordering: .relaxed))
        }
    }
}

/// One server of a deployment that has data of its own, as a connection reaches it.
package struct RedisNode: Sendable, CustomStringConvertible {
    private let pipeline: Pipeline

    init(_ pipeline: Pipeline) { self.pipeline = pipeline }

    /// Where it is.
    package var description: String {
        pipeline.configuration.addresses.map(\.description).joined(separator: ",")
    }
    /// Where it listens, of a node of a cluster.
    var address: RedisConfiguration.Address { pipeline.configuration.addresses[0] }

    /// Sends one command to this very server; an error reply is thrown as `.server`.
    package func send(_ command: RedisCommand) async throws -> RedisValue {
        try await pipeline.send([command], timeout: nil)[0].get()
    }
}
