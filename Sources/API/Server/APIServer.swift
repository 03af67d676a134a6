package import Access
import Domain
package import Engine
import Hummingbird
import HummingbirdCore
package import Ledger
package import Logging
import NIOCore
import ServiceLifecycle
import Synchronization
package import Trust

/// Where and how the API listens.
package struct APIConfiguration: Sendable {
    /// The address to bind.
    package var host: String
    /// The port to bind; 0 means any free one.
    package var port: Int
    /// TLS that the next connection is met with; without it the address must be of the loopback.
    package var tls: (@Sendable () -> TLSContext)?
    /// Names that the Host header may carry beside those of the loopback, without ports.
    package var hosts: Set<String>
    /// How many connections may be open at a time; more wait in the kernel's queue.
    package var connectionsMax = 4_096
    /// Origins whose pages may read answers; none unless said.
    package var origins: Set<String> = []
    /// How often callers may ask.
    package var rateLimits = RateLimits.standard
    /// The files of the page for people; without them it says how to install them.
    package var docs: DocsFiles?
    /// Told the port as soon as connections are accepted.
    package var onBound: @Sendable (Int) async -> Void

    /// A place to listen.
    package init(
        host: String, port: Int, tls: (@Sendable () -> TLSContext)?, hosts: Set<String>,
        onBound: @escaping @Sendable (Int) async -> Void = { _ in }
    ) {
        self.host = host
        self.port = port
        self.tls = tls
        self.hosts = hosts
        self.onBound = onBound
    }

    /// The names and addresses of this machine to itself.
    static let loopback: Set<String> = ["localhost", "127.0.0.1", "::1"]
}

/// Why the API cannot be served.
package struct APIError: Error, CustomStringConvertible {
    /// One sentence.
    package let description: String
}

/// Tells an address that cannot be listened on from what happens later.
final class Listening: Sendable {
    private let hasBegun = Atomic(false)

    func begin() { hasBegun.store(true, ordering: .relaxed) }

    /// Runs a server; if it ends before it has listened, the error says who wanted to listen where.
    func run(_ name: String, _ host: String, _ port: Int, _ serve: () async throws -> Void) async throws {
        do {
            try await serve()
        } catch  where !hasBegun.load(ordering: .relaxed) && !(error is CancellationError) {
            throw APIError(description: "\(name) cannot listen on \(host) port \(port): \(error)")
        }
    }
}

/// The HTTP API: one listener, which serves the table of routes until it is stopped.
package struct APIServer: Service {
    /// How long a connection may be idle between two requests.
    static let idleTimeout = TimeAmount.seconds(75)

    private let configuration: APIConfiguration
    private let responder: Responder
    private let logger: Logger

    /// The API over its parts.
    package init(
        configuration: APIConfiguration, ledger: Ledger, authenticator: Authenticator,
        tenants: TenantMaker, lifecycle: Lifecycle, roles: RoleMaker, signIn: SignIn, webhooks: WebhookMaker,
        secrets: SecretMaker, submitter: Submitter, enroller: Enroller, presence: Presence, queues: QueueView,
        controls: QueueControls, rates: QueueRates, tasks: Tasks, retentionDays: Int,
        readiness: @escaping @Sendable () async -> [String: Bool], counters: EventCounters, logger: Logger
    ) {
        let handlers = Handlers(
            .init(
                ledger: ledger, authenticator: authenticator, tenants: tenants, roles: roles,
                lifecycle: lifecycle, signIn: signIn,
                webhooks: webhooks, secrets: secrets, submitter: submitter,
                enroller: enroller, presence: presence, queues: queues, controls: controls, rates: rates,
                tasks: tasks, retentionDays: retentionDays,
                watches: JobWatches(ledger: ledger, authenticator: authenticator),
                readiness: readiness, docs: configuration.docs))
        self.configuration = configuration
        self.logger = logger
        responder = Responder(
            routes: handlers.table,
            hosts: Set(configuration.hosts.map { $0.lowercased() }).union(APIConfiguration.loopback),
            crossOrigin: CrossOrigin(origins: configuration.origins),
            limiter: RateLimiter(configuration.rateLimits), authenticator: authenticator,
            refusals: RefusalLog(ledger: ledger), bodies: BodyDeadlines(), counters: counters,
            logger: logger)
    }

    /// Serves until cancelled or shut down; then finishes the requests under way.
    /// - Throws: `APIError` for plain HTTP on another address than the loopback, and what binding the address
    /// fails with.
    package func run() async throws {
        let (configuration, responder, logger) = (configuration, responder, logger)
        let listening = Listening()
        guard configuration.tls != nil || APIConfiguration.loopback.contains(configuration.host) else {
            throw APIError(
                description:
                    "plain HTTP is served on the loopback only, which \(configuration.host) is not"
            )
        }
        let http = HTTP1Channel.Configuration(
            idleTimeout: Self.idleTimeout,
            httpDecoderConfiguration: .init(
                maxHeaderFieldSize: 16 << 10, maxHeaderListSize: 32 << 10, maxHeaderFieldCount: 100))
        let application = Application(
            responder: responder,
            server: HTTPServerBuilder { respond in
                let plain = HTTP1Channel(responder: respond, configuration: http)
                guard let tls = configuration.tls else { return plain }
                return TLSChildChannel(http: plain, tls: tls)
            },
            configuration: ApplicationConfiguration(
                address: .hostname(configuration.host, port: configuration.port), serverName: nil,
                availableConnectionsDelegate: MaximumAvailableConnections(configuration.connectionsMax)),
            onServerRunning: { channel in
                listening.begin()
                await configuration.onBound(channel.localAddress?.port ?? configuration.port)
            },
            logger: logger)
        try await listening.run("the API", configuration.host, configuration.port) {
            try await withThrowingTaskGroup { tasks in
                tasks.addTask { await responder.bodies.run() }
                try await application.run()
                tasks.cancelAll()
            }
        }
    }
}
