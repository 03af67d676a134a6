import API
import Access
import ArgumentParser
import Domain
import Embedded
import Engine
import Ledger
import Logging
import Postgres
import Process
import Redis
import ServiceLifecycle
import Wire

/// `cloudrmm up`: everything on one machine, PostgreSQL and Redis included.
struct Up: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Start everything on this machine: PostgreSQL, Redis, API, gateway and worker.",
        discussion: """
            Prints one line beginning with 'ready' when it serves, and writes ready.json in the data \
            directory. Ctrl-C or SIGTERM stops everything.
            """)

    @Option(help: "Where everything is kept.")
    var dataDir = ".cloudrmm"

    @Option(help: "Port of the dashboard (0: any free one, remembered).")
    var webPort = 3000

    @Option(help: "Port of the API (0: any free one, remembered).")
    var apiPort = 3001

    @Option(help: "Port of the agents' gateway (0: any free one, remembered).")
    var gatewayPort = 3002

    @Option(help: "Port of health and metrics (0: any free one, remembered).")
    var operationsPort = 3003

    @Flag(help: "Make a partner, an organization and a site, and run one agent on this machine.")
    var demo = false

    @Flag(help: "Run the demo's agent as root, when this command runs as root.")
    var demoRoot = false

    @Option(help: "Log level: trace, debug, info, notice, warning, error.")
    var logLevel = "warning"

    func validate() throws {
        for (name, port) in [
            ("--web-port", webPort), ("--api-port", apiPort), ("--gateway-port", gatewayPort),
            ("--operations-port", operationsPort),
        ] where !(0...65_535).contains(port) {
            throw ValidationError("\(name) is \(port); allowed are 0 to 65535")
        }
    }

    func run() async throws {
        let logger = try makeLogger(level: logLevel)
        let directory = absolutePath(dataDir)
        try Directory.make(directory, mode: 0o700)
        let servers: EmbeddedServers
        do {
            servers = try await EmbeddedServers.start(
                EmbeddedOptions(dataDirectory: directory), logger: logger)
        } catch {
            throw CommandError("\(error)")
        }
        do {
            try await serve(servers, directory, logger)
        } catch {
            await servers.stop()
            throw error
        }
        await servers.stop()
    }

    private func serve(_ servers: EmbeddedServers, _ directory: String, _ logger: Logger) async throws {
        let remembered = RememberedPorts(path: "\(directory)/ports.json")
        var settings = RoleSettings(
            apiDatabaseURL: servers.postgresURL(user: "crmm_api", password: try servers.secret("crmm-api")),
            workerDatabaseURL: servers.postgresURL(
                user: "crmm_worker", password: try servers.secret("crmm-worker")),
            gatewayDatabaseURL: servers.postgresURL(
                user: "crmm_gateway", password: try servers.secret("crmm-gateway")),
            redisURL: try servers.redisURL(user: .runtime),
            redisLoaderURL: try servers.redisURL(user: .loader),
            keysDirectory: "\(directory)/keys")
        settings.apiPort = remembered.port("api", asked: apiPort)
        settings.gatewayPort = remembered.port("gateway", asked: gatewayPort)
        settings.webPort = remembered.port("web", asked: webPort)
        settings.operationsPort = remembered.port("operations", asked: operationsPort)
        try await prepare(servers, logger)

        let ports = BoundPorts()
        let roles = Roles(settings: settings, logger: logger)
        let keys = try KeyFiles(directory: settings.keysDirectory)
        let api = try await roles.makeAPI(keys: keys, ports: ports)
        let administrator = try await api.makeAdministratorKey(rememberedIn: "\(directory)/administrator")
        let worker = try await roles.makeWorker().part
        let (gatewayPart, gateway, _) = try await roles.makeGateway(ports: ports)
        let operations = roles.makeOperations(ports: ports, readiness: api.readiness) {
            await roles.metrics.text(gateway: gateway, api: api.counters)
        }
        let web = roles.makeWeb(ports: ports)
        let demoAgent = demo ? DemoAgent(directory: directory, asRoot: demoRoot, logger: logger) : nil
        let databaseURL = settings.apiDatabaseURL
        let announcer = Part("announcer") {
            let ready = Ready(
                webURL: "http://127.0.0.1:\(try await ports.port("web"))",
                apiURL: "https://localhost:\(try await ports.port("api"))",
                gatewayURL: "wss://localhost:\(try await ports.port("gateway"))",
                operationsURL: "http://127.0.0.1:\(try await ports.port("operations"))",
                databaseURL: databaseURL, ownerDatabaseURL: try servers.postgresSuperuserURL,
                redisURL: try servers.redisAdminURL, apiKey: administrator,
                caCertificate: keys.serverCAPath)
            try remembered.remember([
                "api": try await ports.port("api"), "gateway": try await ports.port("gateway"),
                "web": try await ports.port("web"),
                "operations": try await ports.port("operations"),
            ])
            if let demoAgent { try await demoAgent.prepare(ready) }
            try DurableFile.write(ready.json, to: "\(directory)/ready.json")
            printLine(
                "ready web=\(ready.webURL) api=\(ready.apiURL) gateway=\(ready.gatewayURL) "
                    + "operations=\(ready.operationsURL) data=\(directory)")
            if let demoAgent { try await demoAgent.run() } else { try await untilCancelled() }
        }
        let watch = Part("embedded servers") {
            for await exit in servers.onUnexpectedExit {
                throw CommandError(
                    "\(exit.server) ended by itself (\(exit.exit)); see its log in \(directory)")
            }
        }
        let group = serviceGroup(
            of: [watch, worker, gatewayPart, api.part, operations, web, announcer], logger: logger)
        // A file that stays is replaced at the next start, and its key has expired by then.
        defer { try? removeFile("\(directory)/ready.json") }
        try await group.run()
    }

    /// Schema, logins and their passwords, as the owner.
    private func prepare(_ servers: EmbeddedServers, _ logger: Logger) async throws {
        var configuration = try PostgresConfiguration(url: servers.postgresSuperuserURL)
        configuration.connections = 1
        _ = try await Migrator(migrations: Ledger.migrations).migrate(configuration, logger: logger)
        let pool = PostgresPool(configuration: configuration, logger: logger)
        pool.start()
        let ledger = Ledger(pool: pool)
        for login in ["crmm_api", "crmm_worker", "crmm_gateway"] {
            try await ledger.setPassword(
                servers.secret(login.split(separator: "_").joined(separator: "-")), of: login)
        }
        await pool.close()
    }
}
