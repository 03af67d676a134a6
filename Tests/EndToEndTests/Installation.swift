import Client
import Glibc
import Process
import Testing
import Wire

/// An installation whose roles are processes of their own, each of which a test may kill and start again.
actor Installation {
    /// The roles, in the order in which a first start needs them: the API makes the keys.
    enum RoleName: String, CaseIterable, Sendable {
        case api, gateway, worker
    }

    @TaskLocal static var current: Installation?

    nonisolated let scratch: Scratch
    nonisolated let postgres: PrivatePostgres
    nonisolated let redis: PrivateRedis
    /// The API's directory of keys.
    nonisolated let keys: String
    private let apiPort: Int
    nonisolated let gatewayPort: Int
    private var running: [RoleName: Running] = [:]

    /// Servers, schema and all roles.
    init() async throws {
        scratch = try Scratch()
        postgres = try await PrivatePostgres(scratch)
        redis = try await PrivateRedis(scratch)
        keys = try scratch.directory("keys")
        (apiPort, gatewayPort) = (try freePort(), try freePort())
        let program = try Binaries.path("cloudrmm")
        _ = try await tool(program, ["migrate", "--owner-url", postgres.url("owner")]).required()
        for role in RoleName.allCases {
            try await start(role)
            if role == .api { try await copyGatewayFiles() }
        }
    }

    /// Gives the gateway what it needs of the API's keys, as on a host of its own.
    private func copyGatewayFiles() async throws {
        _ = try await tool("/bin/cp", ["-a", "\(keys)/gateway", directory(of: .gateway)]).required()
    }

    /// Where a role finds keys: the gateway has a copy of its own files alone, the worker has nothing.
    private func directory(of role: RoleName) throws -> String {
        role == .api ? keys : try scratch.directory("keys-of-\(role)")
    }

    nonisolated var certificateAuthority: String { "\(scratch.path)/keys/server-ca.pem" }
    nonisolated var apiURL: String { "https://localhost:\(apiPort)" }

    /// Starts a role and waits until it serves.
    func start(_ role: RoleName) async throws {
        let process = try spawn(role, log: "\(scratch.path)/\(role)")
        running[role] = process
        _ = try await process.line("ready")
    }

    private func spawn(_ role: RoleName, log: String) throws -> Running {
        try Running(
            try Binaries.path("cloudrmm"),
            [
                "serve", "--roles", role.rawValue, "--keys-dir", directory(of: role), "--api-port",
                "\(apiPort)",
                "--gateway-port", "\(gatewayPort)",
            ], environment: environment, log: log)
    }

    /// Ends a role as a crash would.
    func crash(_ role: RoleName) async throws {
        try await running.removeValue(forKey: role)?.crash()
    }

    /// Ends a role in order; returns how it ended.
    func stop(_ role: RoleName) async throws -> ChildExit? {
        try await running.removeValue(forKey: role)?.stop()
    }

    /// Holds a role where it is; its sockets stay open.
    func suspend(_ role: RoleName) throws { try running[role]?.child.signal(SIGSTOP) }

    func resume(_ role: RoleName) throws { try running[role]?.child.signal(SIGCONT) }

    /// Starts a role a second time, beside the one that is there; the caller ends it.
    func startAnother(_ role: RoleName) async throws -> Running {
        let process = try spawn(role, log: "\(scratch.path)/another-\(role)")
        _ = try await process.line("ready")
        return process
    }

    /// Starts a gateway on a port, or any, with the keys in a directory; the caller ends it.
    func startGateway(keys: String, port: Int? = nil) async throws -> (process: Running, port: Int) {
        let port = try port ?? freePort()
        let process = try Running(
            try Binaries.path("cloudrmm"),
            ["serve", "--roles", "gateway", "--keys-dir", keys, "--gateway-port", "\(port)"],
            environment: environment, log: "\(scratch.path)/gateway-\(port)")
        _ = try await process.line("ready")
        return (process, port)
    }

    /// Starts a role whose settings all stand in a file, in an environment without any; the caller ends it.
    func startFromFile(_ role: RoleName) async throws -> Running {
        let file = "\(scratch.path)/settings-\(role)"
        let settings =
            environment + [
                ("CLOUDRMM_ROLES", role.rawValue), ("CLOUDRMM_KEYS_DIR", try directory(of: role)),
                ("CLOUDRMM_OPERATIONS_PORT", "0"), ("CLOUDRMM_API_PORT", "\(apiPort)"),
                ("CLOUDRMM_GATEWAY_PORT", "\(gatewayPort)"),
            ]
        let text = "# All of it.\n\n" + settings.map { "\($0.0) = \($0.1)\n" }.joined()
        try DurableFile.write(Array(text.utf8), to: file)
        let process = try Running(
            try Binaries.path("cloudrmm"), ["serve", "--config", file], log: "\(scratch.path)/file-\(role)")
        let line = try await process.line("ready roles=\(role) ")
        #expect(line.contains(" operations=http://127.0.0.1:"))
        return process
    }

    /// Runs a gateway that cannot start, to its end.
    func runGateway(keys: String) async throws -> ToolResult {
        try await tool(
            try Binaries.path("cloudrmm"),
            ["serve", "--roles", "gateway", "--keys-dir", keys, "--gateway-port", "0"],
            environment: environment)
    }

    /// Starts an API that is known by another name, with health and metrics of its own; returns it and its
    /// ports.
    func startAPI(knownAs name: String) async throws -> (process: Running, api: Int, operations: Int) {
        let (port, operations) = (try freePort(), try freePort())
        let process = try Running(
            try Binaries.path("cloudrmm"),
            [
                "serve", "--roles", "api", "--keys-dir", keys, "--api-port", "\(port)", "--operations-port",
                "\(operations)",
            ], environment: environment + [("API_URL", "https://\(name):\(port)")],
            log: "\(scratch.path)/named-api")
        _ = try await process.line("ready")
        return (process, port, operations)
    }

    /// Runs a role on another login than its own, to its end.
    func serve(_ role: RoleName, onLogin login: String) async throws -> ToolResult {
        try await tool(
            try Binaries.path("cloudrmm"), ["serve", "--roles", role.rawValue, "--keys-dir", keys],
            environment: environment.map { name, value in
                (name, name.hasSuffix("DATABASE_URL") ? postgres.url(login) : value)
            })
    }

    /// Whether a role has ended by itself.
    func hasEnded(_ role: RoleName) -> Bool { running[role]?.child.exit != nil }

    /// A tenant of its own, on behalf of an administrator's new key.
    func fleet(_ name: String) async throws -> Fleet {
        let key = try await tool(
            try Binaries.path("cloudrmm"), ["keys", "create-administrator", "--keys-dir", keys],
            environment: environment
        ).required()
        let api = APIClient(
            url: apiURL, key: String(key.prefix { $0 != "\n" }), certificateAuthority: certificateAuthority)
        return try await Fleet(
            api, url: apiURL, certificateAuthority: certificateAuthority, scratch: scratch, name: name)
    }

    /// Ends everything.
    func stop() async throws {
        for (_, process) in running { try await process.crash() }
        try await redis.stop()
        try await postgres.stop()
    }

    /// Servers and addresses, as every role and tool is told them.
    nonisolated var environment: [(String, String)] {
        [
            ("DATABASE_URL", postgres.url("crmm_api")),
            ("CLOUDRMM_WORKER_DATABASE_URL", postgres.url("crmm_worker")),
            ("CLOUDRMM_GATEWAY_DATABASE_URL", postgres.url("crmm_gateway")), ("REDIS_URL", redis.url),
            ("AGENT_GATEWAY_URL", "wss://localhost:\(gatewayPort)"),
        ]
    }
}

/// Gives a suite one installation of separate processes.
struct SeparateProcesses: SuiteTrait, TestScoping {
    func provideScope(
        for test: Test, testCase: Test.Case?,
        performing function: @concurrent @Sendable () async throws -> Void
    ) async throws {
        let installation = try await Installation()
        do {
            try await Installation.$current.withValue(installation) { try await function() }
        } catch {
            try await installation.stop()
            throw error
        }
        try await installation.stop()
    }
}

/// `cloudrmm up` on a data directory of its own.
final class UpInstance: Sendable {
    @TaskLocal static var current: UpInstance?

    let scratch: Scratch
    let data: String
    let process: Running
    let readiness: [String: String]

    /// Starts it and waits until it serves.
    init(_ scratch: Scratch, _ options: String...) async throws {
        self.scratch = scratch
        data = "\(scratch.path)/data"
        process = try Self.spawn(scratch, options)
        _ = try await process.line("ready")
        readiness = try Self.readiness(of: data)
    }

    static func spawn(_ scratch: Scratch, _ options: [String] = []) throws -> Running {
        let ports = ["--web-port", "0", "--api-port", "0", "--gateway-port", "0", "--operations-port", "0"]
        return try Running(
            try Binaries.path("cloudrmm"), ["up", "--data-dir", "\(scratch.path)/data"] + ports + options,
            log: "\(scratch.path)/up")
    }

    var api: APIClient {
        APIClient(
            url: readiness["apiURL"] ?? "", key: readiness["apiKey"] ?? "",
            certificateAuthority: readiness["caCertificate"])
    }

    func fleet(_ name: String) async throws -> Fleet {
        try await Fleet(
            api, url: try #require(readiness["apiURL"]),
            certificateAuthority: try #require(readiness["caCertificate"]), scratch: scratch, name: name)
    }

    private static func readiness(of data: String) throws -> [String: String] {
        try [String: String].read(JSON.parse(readFile("\(data)/ready.json", max: 65_536)), .none, field: "")
    }
}

/// Gives a suite one `cloudrmm up`.
struct OneUp: SuiteTrait, TestScoping {
    func provideScope(
        for test: Test, testCase: Test.Case?,
        performing function: @concurrent @Sendable () async throws -> Void
    ) async throws {
        let up = try await UpInstance(Scratch())
        try await UpInstance.$current.withValue(up) { try await function() }
        #expect(try await up.process.stop() == .exited(0))
    }
}
