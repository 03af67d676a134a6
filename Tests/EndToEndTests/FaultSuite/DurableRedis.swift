import Glibc
import Process
import Testing

/// A Redis server with an append-only file, as in an installation, on a unix socket.
actor DurableRedis {
    nonisolated let socket: String
    nonisolated var url: String { "unix://\(socket)" }
    private nonisolated let directory: String
    private var server: Running?

    init(_ scratch: Scratch) async throws {
        directory = try scratch.directory("redis")
        socket = "\(directory)/redis.sock"
        try await start()
    }

    func start() async throws {
        // As where a full disk is met: writing fails, and the server lives.
        let command = """
            trap '' XFSZ; exec /usr/bin/redis-server --port 0 --unixsocket \(socket) --save '' --dir \
            \(directory) --appendonly yes --appendfsync everysec
            """
        server = try Running("/bin/sh", ["-c", command], log: "\(directory)/server")
        try await eventually("Redis answers") {
            try await tool("/usr/bin/redis-cli", ["-s", socket, "PING"]).output == "PONG\n"
        }
    }

    @discardableResult
    func command(_ words: String...) async throws -> String {
        try await tool("/usr/bin/redis-cli", ["-s", socket] + words).required()
    }

    /// Ends it as a crash would.
    func crash() async throws {
        try await server?.crash()
        server = nil
    }

    /// Forgets what is on the disk, while it is down.
    func lose() throws { try Directory.removeTree("\(directory)/appendonlydir") }

    /// Lets no file grow beyond what the append-only file has now; or any, again.
    func limitFiles(_ isFull: Bool) async throws {
        guard let server else { return }
        var limit = "unlimited"
        if isFull {
            let files = try listDirectory("\(directory)/appendonlydir").filter { $0.hasSuffix(".incr.aof") }
            let sizes = try files.map { try readFile("\(directory)/appendonlydir/\($0)", max: 1 << 30).count }
            limit = "\(max(1, sizes.max() ?? 1))"
        }
        let options = ["--pid", "\(server.child.pid)", "--fsize=\(limit):unlimited"]
        _ = try await tool("/usr/bin/prlimit", options).required()
    }

    /// Lets it use no more memory than it does; or any, again.
    func limitMemory(_ isFull: Bool) async throws {
        let limit = isFull ? max(1, try await usedMemory() - 65_536) : 0
        try await command("CONFIG", "SET", "maxmemory", "\(limit)")
    }

    /// Whether it refuses to store anything for want of memory.
    func hasFullMemory() async throws -> Bool {
        try await tool("/usr/bin/redis-cli", ["-s", socket, "SET", "probe", "1", "PX", "1"]).output
            .contains("OOM")
    }

    /// Whether it says that it cannot write its file.
    func hasFullDisk() async throws -> Bool {
        try await command("INFO", "persistence").contains("aof_last_write_status:err")
    }

    /// The memory that it uses, in bytes.
    private func usedMemory() async throws -> Int {
        let info = try await command("INFO", "memory")
        let line = info.split(whereSeparator: \.isNewline).first { $0.hasPrefix("used_memory:") }
        return try #require(line.flatMap { Int($0.dropFirst("used_memory:".count)) })
    }

    func stop() async throws { try await server?.crash() }
}
