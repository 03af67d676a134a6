import Glibc
import Process

/// A login of the private Redis server.
package enum RedisUser: String, Sendable, Hashable, CaseIterable {
    /// May do everything; for the operator.
    case admin
    /// What the roles use: data under `crmm:` and calling functions, but nothing that changes code or the
    /// server.
    case runtime = "crmm"
    /// Loads the function library and does nothing else.
    case loader = "crmm-loader"
}

/// The private Redis server: append-only file, unix socket only, three logins.
struct RedisServer {
    /// Starts the server and returns when it has loaded its data.
    static func start(layout: DataLayout, secrets: SecretStore, durable: Bool) async throws -> ServerProcess {
        let program = try ServerPrograms.redisServer()
        let lock = try await layout.serverLock("redis")
        try layout.makeServerDirectory(layout.redisData, owner: layout.redisUser)
        try layout.makeSocketDirectory(for: layout.redisSocket, owner: layout.redisUser)
        let configuration = try configuration(layout: layout, secrets: secrets, durable: durable)
        try DurableFile.write(Array(configuration.utf8), to: layout.redisConfiguration, mode: 0o600)
        if let user = layout.redisUser {
            try FileStatus.setOwner(layout.redisConfiguration, userID: user.userID, groupID: user.groupID)
        }
        let options = ChildOptions(
            executable: program, arguments: [layout.redisConfiguration],
            environment: [("PATH", "/usr/bin:/bin"), ("LC_ALL", "C"), ("TZ", "UTC")], workingDirectory: "/",
            userID: layout.redisUser?.userID, groupID: layout.redisUser?.groupID, parentDeathSignal: SIGTERM)
        let process = try ServerProcess.start(
            "Redis", options: options, log: try layout.startLog("redis"), lock: lock)
        let password = try password(of: .admin, secrets)
        let ready = Array("+OK\r\n+PONG\r\n".utf8)
        try await process.waitUntilReady(
            socket: layout.redisSocket, request: Array("AUTH admin \(password)\r\nPING\r\n".utf8),
            replyBytes: ready.count, isReady: { $0 == ready })
        return process
    }

    static func password(of user: RedisUser, _ secrets: SecretStore) throws -> String {
        try secrets.secret("redis-\(user.rawValue)")
    }

    /// What the runtime user may not do although it may do all else: change code, the server, its logins or
    /// its data as a whole, watch others, or make it a copy of another server.
    static let runtimeRefused = [
        "function|load", "function|delete", "function|flush", "function|restore", "eval", "eval_ro",
        "evalsha",
        "evalsha_ro", "script", "config", "replicaof", "slaveof", "psync", "sync", "failover", "cluster",
        "migrate",
        "acl", "debug", "monitor", "shutdown", "module", "save", "bgsave", "bgrewriteaof", "flushall",
        "flushdb",
        "swapdb",
    ]

    private static let loaderAllowed = "+function|load +function|list +auth +ping +hello"

    private static func configuration(layout: DataLayout, secrets: SecretStore, durable: Bool) throws
        -> String
    {
        let refused = runtimeRefused.map { "-\($0)" }.joined(separator: " ")
        return """
            port 0
            unixsocket \(quoted(layout.redisSocket))
            unixsocketperm 700
            daemonize no
            dir \(quoted(layout.redisData))
            appendonly \(durable ? "yes" : "no")
            appendfsync everysec
            save ""
            maxmemory-policy noeviction
            stream-node-max-bytes 1024
            enable-debug-command no
            enable-module-command no
            enable-protected-configs no
            user default off resetpass
            user admin on >\(try password(of: .admin, secrets)) ~* &* +@all
            user crmm on >\(try password(of: .runtime, secrets)) ~crmm:* &crmm:* +@all \(refused)
            user crmm-loader on >\(try password(of: .loader, secrets)) \(loaderAllowed)

            """
    }

    /// A value of redis.conf that may hold spaces and quotes.
    private static func quoted(_ value: String) -> String {
        let escaped = value.map { $0 == "\"" || $0 == "\\" ? "\\\($0)" : String($0) }.joined()
        return "\"\(escaped)\""
    }
}
