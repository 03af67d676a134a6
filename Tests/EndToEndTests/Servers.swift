import Glibc
import Process
import Testing

/// A PostgreSQL server of the tests' own, without passwords and without fsync, on a unix socket.
actor PrivatePostgres {
    private let programs: String
    private nonisolated let directory: String
    private let user: (id: UInt32, group: UInt32)?
    private var server: Running?

    init(_ scratch: Scratch) async throws {
        let root = "/usr/lib/postgresql"
        let version = try #require(try listDirectory(root).compactMap { Int($0) }.max())
        programs = "\(root)/\(version)/bin"
        directory = try scratch.directory("postgres")
        user = try Self.serverUser()
        if let user { try FileStatus.setOwner(directory, userID: user.id, groupID: user.group) }
        let options = ["-D", "\(directory)/data", "-U", "owner", "-A", "trust", "-N", "-E", "UTF8"]
        _ = try await tool("\(programs)/initdb", options, asUser: user).required()
        try await start()
        let place = ["-h", directory, "-U", "owner", "cloudrmm"]
        _ = try await tool("\(programs)/createdb", place, asUser: user).required()
    }

    nonisolated func url(_ login: String) -> String { "postgresql://\(login)@/cloudrmm?host=\(directory)" }

    /// Runs a statement as the owner.
    func execute(_ statement: String) async throws {
        _ = try await tool(
            "\(programs)/psql", ["-q", "-h", directory, "-U", "owner", "-c", statement, "cloudrmm"]
        ).required()
    }

    /// Writes all that the database holds into a file, as SQL.
    func dump(to path: String) async throws {
        let said = try await tool(
            "\(programs)/pg_dump", ["-h", directory, "-U", "owner", "cloudrmm", "-f", path])
        _ = try said.required()
    }

    /// Stops it in its fast way, which breaks all connections, and starts it again.
    func restart() async throws {
        _ = try await server?.stop(SIGINT)
        try await start()
    }

    func stop() async throws { _ = try await server?.stop(SIGQUIT) }

    private func start() async throws {
        server = try Running(
            "\(programs)/postgres",
            ["-D", "\(directory)/data", "-k", directory, "-c", "listen_addresses=", "-c", "fsync=off"],
            log: "\(directory)/server", asUser: user)
        try await eventually("PostgreSQL answers") {
            try await tool("\(programs)/pg_isready", ["-q", "-h", directory]).exit == .exited(0)
        }
    }

    /// PostgreSQL does not run as root; root starts it as the system's user for it.
    private static func serverUser() throws -> (id: UInt32, group: UInt32)? {
        guard effectiveUserID() == 0 else { return nil }
        let fields = lines(of: "/etc/passwd").map {
            $0.split(separator: ":", omittingEmptySubsequences: false)
        }
        let line = try #require(fields.first { $0.first == "postgres" })
        return (try #require(UInt32(line[2])), try #require(UInt32(line[3])))
    }
}

/// A Redis server of the tests' own that keeps nothing, on a unix socket.
actor PrivateRedis {
    nonisolated let socket: String
    nonisolated var url: String { "unix://\(socket)" }
    private let log: String
    private var server: Running

    init(_ scratch: Scratch) async throws {
        let directory = try scratch.directory("redis")
        (socket, log) = ("\(directory)/redis.sock", "\(directory)/server")
        server = try Self.start(socket: socket, log: log)
        try await untilReady()
    }

    func command(_ words: String...) async throws -> String {
        try await tool("/usr/bin/redis-cli", ["-s", socket] + words).required()
    }

    /// Ends it as a crash would, and starts it anew without any of its data.
    func crashAndRestartEmpty() async throws {
        try await server.crash()
        server = try Self.start(socket: socket, log: log)
        try await untilReady()
    }

    func stop() async throws { try await server.crash() }

    private func untilReady() async throws {
        try await eventually("Redis answers") {
            try await tool("/usr/bin/redis-cli", ["-s", socket, "PING"]).output == "PONG\n"
        }
    }

    private static func start(socket: String, log: String) throws -> Running {
        try Running(
            "/usr/bin/redis-server",
            ["--port", "0", "--unixsocket", socket, "--save", "", "--dir", Directory.parent(of: socket)],
            log: log)
    }
}
