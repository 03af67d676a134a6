import API
import Access
import ArgumentParser
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

/// `cloudrmm serve`: some roles of an installation, on engines that run elsewhere.
struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run roles of an installation against PostgreSQL and Redis that run elsewhere.",
        discussion: """
            Settings come from these options, else the environment, else a file: DATABASE_URL (the API's \
            login), CLOUDRMM_WORKER_DATABASE_URL, CLOUDRMM_GATEWAY_DATABASE_URL, REDIS_URL, \
            CLOUDRMM_REDIS_LOADER_URL and those named below; run 'cloudrmm migrate' first. The host of \
            API_URL stands in the API's certificate and may be asked for, that of AGENT_GATEWAY_URL stands \
            in the gateways'. A gateway reads nothing but the directory 'gateway' in the directory of keys, \
            a worker no key.
            """)

    @Option(help: "The roles, separated by commas: api, gateway, worker; else $CLOUDRMM_ROLES.")
    var roles: String?

    @Option(
        help: """
            The directory of the installation's keys, of a gateway one that has 'gateway' in it; else \
            $CLOUDRMM_KEYS_DIR, else .cloudrmm/keys.
            """)
    var keysDir: String?

    @Option(help: "The address to listen on; else $CLOUDRMM_HOST, else 127.0.0.1.")
    var host: String?

    @Option(help: "Port of the API (0: any free one); else $CLOUDRMM_API_PORT, else 3001.")
    var apiPort: String?

    @Option(help: "Port of the agents' gateway (0: any free one); else $CLOUDRMM_GATEWAY_PORT, else 3002.")
    var gatewayPort: String?

    @Option(
        help: """
            Port of health and metrics, on this machine only (0: any free one); else \
            $CLOUDRMM_OPERATIONS_PORT, else none.
            """)
    var operationsPort: String?

    @Option(
        help: """
            Log level: trace, debug, info, notice, warning, error; else $CLOUDRMM_LOG_LEVEL, else notice.
            """)
    var logLevel: String?

    @OptionGroup var options: SettingsOptions

    func run() async throws {
        let given = try options.settings([
            .roles: roles, .keysDir: keysDir, .host: host, .apiPort: apiPort, .gatewayPort: gatewayPort,
            .operationsPort: operationsPort, .logLevel: logLevel,
        ])
        let logger = try given.logger()
        let chosen = try given.roles()
        var settings = try RoleSettings(given, for: chosen)
        let operationsPort = try given.number(.operationsPort, in: 0...65_535)
        settings.operationsPort = operationsPort ?? 0
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
                    await builder.metrics.text(gateway: gateway, api: api)
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
}

extension Settings {
    fileprivate func logger() throws -> Logger {
        let level = self[.logLevel] ?? "notice"
        guard Logger.Level(rawValue: level) != nil else {
            throw refusal(
                .logLevel, "allowed are \(Logger.Level.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        return try makeLogger(level: level)
    }

    fileprivate func roles() throws -> Set<Role> {
        var chosen: Set<Role> = []
        for name in try require(.roles, for: "serve").split(separator: ",") {
            guard let role = Role(rawValue: String(name)) else {
                throw refusal(.roles, "allowed are \(Role.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            chosen.insert(role)
        }
        guard !chosen.isEmpty else { throw refusal(.roles, "no role is named") }
        return chosen
    }
}

extension RoleSettings {
    /// What some roles need, each value judged before anything starts.
    fileprivate init(_ given: Settings, for roles: Set<Role>) throws {
        func database(_ setting: Setting, of role: Role) throws -> String {
            guard roles.contains(role) else { return "" }
            let url = try given.require(setting, for: "the role \(role.rawValue)")
            _ = try given.parse(setting, url) { try PostgresConfiguration(url: $0) }
            return url
        }
        func redis(_ setting: Setting, _ url: String) throws -> String {
            _ = try given.parse(setting, url) { try RedisConfiguration(url: $0) }
            return url
        }
        let redisURL = try redis(.redisURL, given.require(.redisURL, for: "every role"))
        self.init(
            apiDatabaseURL: try database(.databaseURL, of: .api),
            workerDatabaseURL: try database(.workerDatabaseURL, of: .worker),
            gatewayDatabaseURL: try database(.gatewayDatabaseURL, of: .gateway),
            redisURL: redisURL,
            redisLoaderURL: try given[.redisLoaderURL].map { try redis(.redisLoaderURL, $0) } ?? redisURL,
            keysDirectory: given.keysDirectory)
        if let number = try given.number(.redisPartitions, in: 1...Keyspace.partitionsMax) {
            redisPartitions = number
        }
        if let host = given[.host] { self.host = host }
        if let port = try given.number(.apiPort, in: 0...65_535) { apiPort = port }
        if let port = try given.number(.gatewayPort, in: 0...65_535) { gatewayPort = port }
        agentGatewayURL = given[.agentGatewayURL]
        taskConcurrency[.retention] = try given.number(.retentionConcurrency, in: 0...64)
        if let days = try given.number(.retentionDays, in: RetentionHandler.days) { retentionDays = days }
        if let text = given[.webhookAllowPrivate] {
            guard let networks = AllowedNetworks(text) else {
                throw given.refusal(.webhookAllowPrivate, "it is not true, false or a list of networks")
            }
            webhookNetworks = networks
        }
        docsDirectory = given[.docsDir].map(absolutePath)
        if let text = given[.corsOrigins] {
            guard let origins = AllowedOrigin.list(text) else {
                throw given.refusal(
                    .corsOrigins,
                    "each must be https://HOST or https://HOST:PORT, whole, in lower case and without a path")
            }
            corsOrigins = origins
        }
        if let number = try given.number(.rateLimitPrincipal, in: RateLimits.allowed) {
            rateLimits.principalPerSecond = number == 0 ? nil : number
        }
        if let number = try given.number(.rateLimitTenant, in: RateLimits.allowed) {
            rateLimits.tenantPerSecond = number == 0 ? nil : number
        }
        oidc = try given.oidc()
        try apiNames.addHost(of: .apiURL, in: given)
        try gatewayNames.addHost(of: .agentGatewayURL, in: given)
    }
}

extension Settings {
    /// How the keys of issuers are fetched.
    fileprivate func oidc() throws -> OIDCKeys.Configuration {
        let issuers = (self[.oidcTrustedIssuers] ?? "").split(separator: ",").map {
            $0.trimmingCharacters(in: .whitespaces)
        }
        if let issuer = issuers.first(where: { !OIDCKeys.isTrustable($0) }) {
            throw refusal(
                .oidcTrustedIssuers,
                "\(issuer) is no issuer: https://HOST or http://HOST, without query, fragment, user")
        }
        return OIDCKeys.Configuration(
            trustedIssuers: Set(issuers), clerkSecret: self[.clerkSecretKey],
            certificateAuthorityPath: self[.oidcCA].map(absolutePath))
    }
}

extension ListenerNames {
    /// Adds the host of a setting's URL, if there is one.
    fileprivate mutating func addHost(of setting: Setting, in given: Settings) throws {
        guard let url = given[setting] else { return }
        guard let host = URLComponents(string: url)?.host?.lowercased(), !host.isEmpty else {
            throw given.refusal(setting, "it is not a URL with a host")
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
        discussion: "Reads the owner's URL from --owner-url, else CLOUDRMM_OWNER_DATABASE_URL.")

    @Option(help: "The database, as its owner.")
    var ownerURL: String?

    @OptionGroup var options: SettingsOptions

    func run() async throws {
        let given = try options.settings([.ownerDatabaseURL: ownerURL])
        let url = try given.require(.ownerDatabaseURL, for: "migrate")
        let configuration = try given.parse(.ownerDatabaseURL, url) { try PostgresConfiguration(url: $0) }
        let logger = try makeLogger(level: "notice")
        let applied = try await Migrator(migrations: Ledger.migrations).migrate(configuration, logger: logger)
        printLine(
            applied.isEmpty
                ? "the schema is up to date"
                : "applied migrations \(applied.map(String.init).joined(separator: ", "))")
    }
}
