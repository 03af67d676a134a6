import Foundation
import Glibc
import Logging
import Redis

/// A master, a replica and three sentinels on the loopback, with times as short as sentinels take them.
package final class RedisFailover: Sendable {
    private let directory: String
    private let servers: [Process]
    private let ports: (master: Int, replica: Int, sentinels: [Int])
    private let password: String?
    private let tls: TLS?

    /// What makes all of them speak TLS alone: arguments that name the certificate, and the parameters of an
    /// address that believes it.
    package struct TLS: Sendable {
        let arguments: [String]
        let parameters: String

        package init(arguments: [String], parameters: String) {
            (self.arguments, self.parameters) = (arguments, parameters)
        }

        fileprivate func port(_ port: Int) -> [String] {
            ["--port", "0", "--tls-port", "\(port)", "--tls-replication", "yes"] + arguments
        }
    }

    /// The users of the servers, as arguments, and who the replica and the sentinels are, each with its name
    /// as password.
    package struct Users: Sendable {
        let arguments: [String]
        let replica: String
        let sentinel: String

        package init(arguments: [String], replica: String, sentinel: String) {
            (self.arguments, self.replica, self.sentinel) = (arguments, replica, sentinel)
        }
    }

    /// Starts all and returns when the sentinels, which may want a password, know each other and the replica.
    package init(sentinelPassword: String? = nil, tls: TLS? = nil, users: Users? = nil) async throws {
        (password, self.tls) = (sentinelPassword, tls)
        directory = "/tmp/crmm-failover-\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
        let free = LoopbackPorts.free(5)
        ports = (free[0], free[1], Array(free[2...]))
        let login = users.map { ["--masteruser", $0.replica, "--masterauth", $0.replica] } ?? []
        let common = login + (users?.arguments ?? [])
        var started = [
            try Self.start(directory, Self.listen(free[0], tls) + common),
            try Self.start(
                directory, Self.listen(free[1], tls) + ["--replicaof", "127.0.0.1 \(free[0])"] + common),
        ]
        for port in free[2...] {
            let file = "\(directory)/sentinel-\(port).conf"
            let lines = [
                "bind 127.0.0.1", "dir \(directory)",
                "sentinel monitor main 127.0.0.1 \(free[0]) 2",
                "sentinel down-after-milliseconds main 300", "sentinel failover-timeout main 2000",
            ]
            let own = sentinelPassword.map { ["requirepass \($0)"] } ?? []
            let watched =
                users.map {
                    [
                        "sentinel auth-user main \($0.sentinel)", "sentinel auth-pass main \($0.sentinel)",
                    ]
                } ?? []
            let text = (lines + own + watched).joined(separator: "\n") + "\n"
            try Data(text.utf8).write(to: URL(filePath: file))
            started.append(try Self.run([file, "--sentinel"] + Self.listen(port, tls)))
        }
        servers = started
        for port in free[2...] { try await untilComplete(port) }
    }

    deinit {
        for server in servers { server.killAndWait() }
        try? FileManager.default.removeItem(atPath: directory)  // what is left does no harm
    }

    /// The address by which the master is found; credentials end with `@`.
    package func url(credentials: String = "", master: String = "main", parameters: String = "") -> String {
        let places = ports.sentinels.map { "127.0.0.1:\($0)" }.joined(separator: ",")
        let scheme = tls == nil ? "redis+sentinel" : "rediss+sentinel"
        return "\(scheme)://\(credentials)\(places)/\(master)\(parameters)"
    }

    /// The address of the first master itself; credentials end with `@`.
    package func masterURL(credentials: String) -> String {
        "redis://\(credentials)127.0.0.1:\(ports.master)"
    }

    /// The master dies as by a crash.
    package func killMaster() { kill(servers[0].processIdentifier, SIGKILL) }

    /// One of the sentinels dies.
    package func killFirstSentinel() { kill(servers[2].processIdentifier, SIGKILL) }

    /// Sentinels make the replica the master, though the master is well.
    package func switchOver() async throws {
        let sentinel = try connection(toSentinel: ports.sentinels[2])
        // Refused while the replica is not known to be good enough.
        while (try? await sentinel.send(RedisCommand("SENTINEL", "FAILOVER", "main"))) == nil {}
        await sentinel.close()
    }

    /// Nothing by itself: the servers end with the last reference, and this is one at the end of a test.
    package func stop() {}

    private func untilComplete(_ port: Int) async throws {
        let sentinel = try connection(toSentinel: port)
        while true {
            let words =
                try await sentinel.send(RedisCommand("SENTINEL", "MASTER", "main"))
                .array?.map { $0.text ?? "" } ?? []
            let fields = Dictionary(
                stride(from: 0, to: words.count - 1, by: 2).map { (words[$0], words[$0 + 1]) }
            ) { first, _ in first }
            if fields["num-slaves"] == "1", fields["num-other-sentinels"] == "2", fields["flags"] == "master"
            {
                break
            }
        }
        await sentinel.close()
    }

    private func connection(toSentinel port: Int) throws -> RedisConnection {
        let credentials = password.map { ":\($0)@" } ?? ""
        let place = "\(credentials)127.0.0.1:\(port)"
        let configuration = try RedisConfiguration(
            url: tls.map { "rediss://\(place)?\($0.parameters)" } ?? "redis://\(place)")
        return RedisConnection(configuration: configuration, logger: .quiet)
    }

    private static func listen(_ port: Int, _ tls: TLS?) -> [String] {
        tls?.port(port) ?? ["--port", "\(port)"]
    }

    private static func start(_ directory: String, _ arguments: [String]) throws -> Process {
        try run(
            ["--bind", "127.0.0.1", "--dir", directory, "--save", "", "--repl-diskless-sync-delay", "0"]
                + arguments)
    }

    private static func run(_ arguments: [String]) throws -> Process {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/redis-server")
        process.arguments = arguments
        (process.standardOutput, process.standardError) = (FileHandle.nullDevice, FileHandle.nullDevice)
        try process.run()
        return process
    }
}
