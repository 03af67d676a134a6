import ArgumentParser
import Engine
import Ledger
import Logging
import Postgres
import Process
import ServiceLifecycle
import UnixSignals

/// `cloudrmm serve`: some roles of an installation, on engines that run elsewhere.
struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run roles of an installation against PostgreSQL and Redis that run elsewhere.",
        discussion: """
            Reads DATABASE_URL (the API's login), CLOUDRMM_WORKER_DATABASE_URL, \
            CLOUDRMM_GATEWAY_DATABASE_URL, REDIS_URL and CLOUDRMM_REDIS_LOADER_URL from the \
            environment; run 'cloudrmm migrate' first.
            """)

    @Option(help: "The roles, separated by commas: api, gateway, worker.")
    var roles: String

    @Option(help: "The directory of the installation's keys.")
    var keysDir: String?

    @Option(help: "The address to listen on.")
    var host = "127.0.0.1"

    @Option(help: "Port of the API (0: any free one).")
    var apiPort = 3001

    @Option(help: "Port of the agents' gateway (0: any free one).")
    var gatewayPort = 3002

    @Option(help: "Log level: trace, debug, info, notice, warning, error.")
    var logLevel = "notice"

    func run() async throws {
        let logger = try makeLogger(level: logLevel)
        var chosen: Set<Role> = []
        for name in roles.split(separator: ",") {
            guard let role = Role(rawValue: String(name)) else {
                let allowed = Role.allCases.map(\.rawValue).joined(separator: ", ")
                throw ValidationError("--roles names \"\(name)\"; allowed are: \(allowed)")
            }
            chosen.insert(role)
        }
        guard !chosen.isEmpty else { throw ValidationError("--roles names no role") }
        let redis = try require("REDIS_URL")
        var settings = RoleSettings(
            apiDatabaseURL: chosen.contains(.api) ? try require("DATABASE_URL") : "",
            workerDatabaseURL: chosen.contains(.worker) ? try require("CLOUDRMM_WORKER_DATABASE_URL") : "",
            gatewayDatabaseURL: chosen.contains(.gateway) ? try require("CLOUDRMM_GATEWAY_DATABASE_URL") : "",
            redisURL: redis, redisLoaderURL: environmentVariable("CLOUDRMM_REDIS_LOADER_URL") ?? redis,
            keysDirectory: absolutePath(
                keysDir ?? environmentVariable("CLOUDRMM_KEYS_DIR") ?? ".cloudrmm/keys"))
        settings.host = host
        settings.apiPort = apiPort
        settings.gatewayPort = gatewayPort
        settings.agentGatewayURL = environmentVariable("AGENT_GATEWAY_URL")
        let ports = BoundPorts()
        let builder = Roles(settings: settings, logger: logger)
        var parts: [Part] = []
        if chosen.contains(.worker) { parts.append(try await builder.makeWorker()) }
        if chosen.contains(.api) {
            let keys = try KeyFiles(directory: settings.keysDirectory)
            parts.append(try await builder.makeAPI(keys: keys, ports: ports).part)
        }
        if chosen.contains(.gateway) { parts.append(try await builder.makeGateway(ports: ports).part) }
        let names = chosen.map(\.rawValue).sorted()
        parts.append(
            Part("announcer") {
                var line = "ready roles=\(names.joined(separator: ","))"
                if names.contains("api") { line += " api=https://localhost:\(await ports.port("api"))" }
                if names.contains("gateway") {
                    line += " gateway=wss://localhost:\(await ports.port("gateway"))"
                }
                printLine(line)
                try await untilCancelled()
            })
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: parts.map {
                    ServiceGroupConfiguration.ServiceConfiguration(
                        service: $0, successTerminationBehavior: .ignore,
                        failureTerminationBehavior: .gracefullyShutdownGroup)
                },
                gracefulShutdownSignals: [.sigterm, .sigint], logger: logger))
        try await group.run()
    }

    private func require(_ name: String) throws -> String {
        guard let value = environmentVariable(name), !value.isEmpty else {
            throw ValidationError("the environment has no \(name), which these roles need")
        }
        return value
    }
}

/// `cloudrmm migrate`: brings the schema to this release.
struct Migrate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Bring the database's schema to this release.",
        discussion: "Reads the owner's URL from --owner-url or CLOUDRMM_OWNER_DATABASE_URL.")

    @Option(help: "The database, as its owner.")
    var ownerURL: String?

    func run() async throws {
        guard let url = ownerURL ?? environmentVariable("CLOUDRMM_OWNER_DATABASE_URL") else {
            throw ValidationError(
                "--owner-url is missing, and so is CLOUDRMM_OWNER_DATABASE_URL in the environment")
        }
        let logger = try makeLogger(level: "notice")
        let applied = try await Migrator(migrations: Ledger.migrations).migrate(
            PostgresConfiguration(url: url), logger: logger)
        printLine(
            applied.isEmpty
                ? "the schema is up to date"
                : "applied migrations \(applied.map(String.init).joined(separator: ", "))")
    }
}
