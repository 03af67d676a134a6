import ArgumentParser
import Engine
import Foundation
import Gateway
import Ledger
import Logging
import Postgres
import Process
import ServiceLifecycle

/// `cloudrmm serve`: some roles of an installation, on engines that run elsewhere.
struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run roles of an installation against PostgreSQL and Redis that run elsewhere.",
        discussion: """
            Reads DATABASE_URL (the API's login), CLOUDRMM_WORKER_DATABASE_URL, \
            CLOUDRMM_GATEWAY_DATABASE_URL, REDIS_URL and CLOUDRMM_REDIS_LOADER_URL from the \
            environment; run 'cloudrmm migrate' first. The host of API_URL stands in the \
            API's certificate and may be asked for, that of AGENT_GATEWAY_URL stands in the gateways'. A \
            gateway reads nothing but the directory 'gateway' in the directory of keys, a worker no key.
            """)

    @Option(help: "The roles, separated by commas: api, gateway, worker.")
    var roles: String

    @Option(help: "The directory of the installation's keys; of a gateway, one that has 'gateway' in it.")
    var keysDir: String?

    @Option(help: "The address to listen on.")
    var host = "127.0.0.1"

    @Option(help: "Port of the API (0: any free one).")
    var apiPort = 3001

    @Option(help: "Port of the agents' gateway (0: any free one).")
    var gatewayPort = 3002

    @Option(help: "Port of health and metrics, on this machine only (0: any free one); none without it.")
    var operationsPort: Int?

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
        settings.operationsPort = operationsPort ?? 0
        settings.agentGatewayURL = environmentVariable("AGENT_GATEWAY_URL")
        try settings.apiNames.addHost(of: "API_URL")
        try settings.gatewayNames.addHost(of: "AGENT_GATEWAY_URL")
        let ports = BoundPorts()
        let builder = Roles(settings: settings, logger: logger)
        var parts: [Part] = []
        var readiness: Readiness = { [:] }
        var (api, gateway): (EventCounters?, Gateway?)
        if chosen.contains(.worker) {
            let (part, check) = try await builder.makeWorker()
            parts.append(part)
            readiness = check
        }
        if chosen.contains(.api) {
            let built = try await builder.makeAPI(
                keys: KeyFiles(directory: settings.keysDirectory), ports: ports)
            (readiness, api) = (built.readiness, built.counters)
            parts.append(built.part)
        }
        if chosen.contains(.gateway) {
            let (part, built, check) = try await builder.makeGateway(ports: ports)
            (readiness, gateway) = (check, built)
            parts.append(part)
        }
        let hasOperations = operationsPort != nil
        if hasOperations {
            parts.append(
                builder.makeOperations(ports: ports, readiness: readiness) { [gateway, api] in
                    metricsText(gateway: gateway, api: api)
                })
        }
        let names = chosen.map(\.rawValue).sorted()
        parts.append(
            Part("announcer") {
                var line = "ready roles=\(names.joined(separator: ","))"
                if names.contains("api") { line += " api=https://localhost:\(try await ports.port("api"))" }
                if names.contains("gateway") {
                    line += " gateway=wss://localhost:\(try await ports.port("gateway"))"
                }
                if hasOperations {
                    line += " operations=http://127.0.0.1:\(try await ports.port("operations"))"
                }
                printLine(line)
                try await untilCancelled()
            })
        let group = serviceGroup(of: parts, logger: logger)
        try await group.run()
    }

    private func require(_ name: String) throws -> String {
        guard let value = environmentVariable(name), !value.isEmpty else {
            throw ValidationError("the environment has no \(name), which these roles need")
        }
        return value
    }
}

extension ListenerNames {
    /// Adds the host of the URL that a variable holds, if it holds one.
    fileprivate mutating func addHost(of variable: String) throws {
        guard let url = environmentVariable(variable), !url.isEmpty else { return }
        guard let host = URLComponents(string: url)?.host?.lowercased(), !host.isEmpty else {
            throw ValidationError("\(variable) is not a URL with a host")
        }
        let bare = host.trimmingCharacters(in: ["[", "]"])
        let isAddress = bare.contains(":") || bare.allSatisfy { $0.isASCII && ($0.isNumber || $0 == ".") }
        if isAddress { addresses.insert(bare) } else { names.insert(bare) }
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
