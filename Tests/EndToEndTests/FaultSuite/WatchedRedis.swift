import Glibc
import Process
import Testing

/// A master of Redis and its replica, both with append-only files, and three sentinels that watch them, on
/// the loopback.
actor WatchedRedis {
    nonisolated let url: String
    private nonisolated let directory: String
    private nonisolated let sentinels: [Int]
    private var servers: [Int: Running] = [:]
    private var watchers: [Running] = []

    private static let name = "main"

    /// Returns when each sentinel knows the others and the replica.
    init(_ scratch: Scratch) async throws {
        directory = try scratch.directory("redis")
        sentinels = try (0..<3).map { _ in try freePort() }
        let places = sentinels.map { "127.0.0.1:\($0)" }.joined(separator: ",")
        url = "redis+sentinel://\(places)/\(Self.name)"
        let (master, replica) = (try freePort(), try freePort())
        try start(master)
        try start(replica, replicaOf: master)
        for sentinel in sentinels { try watch(master, from: sentinel) }
        try await untilReplicated()
    }

    private func start(_ port: Int, replicaOf master: Int? = nil) throws {
        let data = "\(directory)/\(port)"
        if !fileExists(data) { try Directory.make(data, mode: 0o700) }
        let following = master.map { ["--replicaof", "127.0.0.1 \($0)"] } ?? []
        servers[port] = try Running(
            "/usr/bin/redis-server",
            [
                "--bind", "127.0.0.1", "--port", "\(port)", "--dir", data, "--save", "", "--appendonly",
                "yes", "--appendfsync", "everysec", "--repl-diskless-sync-delay", "0",
            ] + following, log: "\(directory)/server-\(port)")
    }

    private func watch(_ master: Int, from port: Int) throws {
        let file = "\(directory)/sentinel-\(port).conf"
        let lines = [
            "port \(port)", "bind 127.0.0.1", "dir \(directory)",
            "sentinel monitor \(Self.name) 127.0.0.1 \(master) 2",
            "sentinel down-after-milliseconds \(Self.name) 1000",
            "sentinel failover-timeout \(Self.name) 3000",
        ]
        try DurableFile.write(Array((lines.joined(separator: "\n") + "\n").utf8), to: file)
        watchers.append(
            try Running(
                "/usr/bin/redis-server", [file, "--sentinel"], log: "\(directory)/sentinel-\(port)"))
    }

    // MARK: Faults

    /// The master dies as by a crash, and comes back with what it had written when another is the master.
    func loseMaster() async throws {
        let old = try await master()
        try await servers[old]?.crash()
        try await untilSucceeded(old)
        try start(old)
        try await untilReplicated()
    }

    /// The master stands still until another is the master, then goes on: it takes itself for the master,
    /// with whoever is still connected, until a sentinel makes it a replica.
    func freezeMaster() async throws {
        let old = try await master()
        try servers[old]?.child.signal(SIGSTOP)
        do {
            try await untilSucceeded(old)
        } catch {
            try servers[old]?.child.signal(SIGCONT)
            throw error
        }
        try servers[old]?.child.signal(SIGCONT)
        try await untilReplicated()
    }

    /// An operator makes the replica the master, though nothing is wrong.
    func switchOver() async throws {
        let old = try await master()
        try await eventually("sentinels switch over", within: 60) {
            // Refused while the replica is not known to be good enough.
            try await ask(sentinels[0], "SENTINEL", "FAILOVER", Self.name) == "OK\n"
        }
        try await untilSucceeded(old)
        try await untilReplicated()
    }

    func stop() async throws {
        for server in watchers + servers.values {
            try server.child.signal(SIGCONT)
            try await server.crash()
        }
    }

    // MARK: Conditions

    /// The port of the server that a sentinel calls the master.
    private func master() async throws -> Int {
        let answer = try await ask(sentinels[0], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self.name)
        return try #require(answer.split(separator: "\n").last.flatMap { Int($0) }, "\(answer)")
    }

    /// Every sentinel names another, which says of itself that it is the master.
    private func untilSucceeded(_ old: Int) async throws {
        try await eventually("another server is the master", within: 60) {
            for sentinel in sentinels {
                let answer = try await ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self.name)
                guard let port = answer.split(separator: "\n").last.flatMap({ Int($0) }), port != old,
                    try await ask(port, "ROLE").hasPrefix("master\n")
                else { return false }
            }
            return true
        }
    }

    /// Every sentinel knows the others, and a replica that has what the master has.
    private func untilReplicated() async throws {
        try await eventually("the replica follows the master", within: 90) {
            for sentinel in sentinels {
                let master = fields(try await ask(sentinel, "SENTINEL", "MASTER", Self.name))
                let replica = fields(try await ask(sentinel, "SENTINEL", "REPLICAS", Self.name))
                guard master["flags"] == "master", master["num-slaves"] == "1",
                    master["num-other-sentinels"] == "2", replica["flags"] == "slave",
                    replica["master-link-status"] == "ok", replica["master-port"] == master["port"]
                else { return false }
            }
            return true
        }
    }

    private func fields(_ text: String) -> [String: String] {
        let words = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        return Dictionary(stride(from: 0, to: words.count - 1, by: 2).map { (words[$0], words[$0 + 1]) }) {
            first, _ in first
        }
    }

    /// One that does not answer says nothing.
    private func ask(_ port: Int, _ words: String...) async throws -> String {
        try await tool("/usr/bin/redis-cli", ["-h", "127.0.0.1", "-p", "\(port)"] + words).output
    }
}
