import Glibc
import Process

/// The private PostgreSQL server: makes its data once, starts, answers to passwords on a unix socket only.
struct PostgresServer: Sendable {
    static let superuser = "crmm_owner"
    static let database = "cloudrmm"

    private let layout: DataLayout
    private let programs: String
    private let durable: Bool

    /// Starts the server and returns when it accepts logins.
    static func start(layout: DataLayout, secrets: SecretStore, durable: Bool) async throws -> ServerProcess {
        let version =
            fileExists("\(layout.postgresData)/PG_VERSION")
            ? String(decoding: try readFile("\(layout.postgresData)/PG_VERSION", max: 64), as: UTF8.self)
            : nil
        let programs = try await ServerPrograms.postgresDirectory(
            dataVersion: version?.split(separator: "\n").first.map(String.init))
        let lock = try await layout.serverLock("postgres")
        let server = PostgresServer(layout: layout, programs: programs, durable: durable)
        try await server.prepareData(secrets)
        try server.removeStaleLock()
        try layout.makeSocketDirectory(for: layout.postgresSocket, owner: layout.postgresUser)
        let process = try ServerProcess.start(
            "PostgreSQL", options: server.options("postgres", server.settings()),
            log: try layout.startLog("postgres"), lock: lock)
        try await process.waitUntilReady(
            socket: layout.postgresSocket, request: startupPacket, replyBytes: 1,
            isReady: { $0 == [UInt8(ascii: "R")] })
        return process
    }

    /// Makes the data directory beside its place and moves it there when complete, so that a crash in between
    /// leaves nothing that looks like data.
    private func prepareData(_ secrets: SecretStore) async throws {
        let hadPassword = secrets.has("postgres-\(PostgresServer.superuser.replacingUnderscores)")
        let password = try secrets.secret("postgres-\(PostgresServer.superuser.replacingUnderscores)")
        // Nothing but a password lets anybody in, and only through the socket.
        try DurableFile.write(
            Array("local all all scram-sha-256\n".utf8), to: layout.postgresAccess, mode: 0o644)
        if fileExists("\(layout.postgresData)/PG_VERSION") {
            // The secrets were lost: the owner of the directory sets a new password.
            if !hadPassword { try await setPassword(password, database: nil, data: layout.postgresData) }
            return
        }
        try Directory.removeTree(layout.postgresStaging)
        try layout.makeServerDirectory(layout.postgresStaging, owner: layout.postgresUser)
        let arguments = [
            "-D", layout.postgresStaging, "-U", PostgresServer.superuser, "-A", "trust", "-N", "-E", "UTF8",
            "--locale=C", "--data-checksums",
        ]
        try await runTool(options("initdb", arguments), input: "")
        try await setPassword(password, database: PostgresServer.database, data: layout.postgresStaging)
        if durable { try await runTool(options("initdb", ["-S", "-D", layout.postgresStaging]), input: "") }
        try renameFile(layout.postgresStaging, to: layout.postgresData)
        try DurableFile.syncDirectory(layout.data)
    }

    /// Removes a `postmaster.pid` whose process was killed. PostgreSQL does that too, but takes a zombie that
    /// nobody collects, or an unrelated process that got the number, for a server. That none of ours runs is
    /// sure here: each of its processes would hold the server's lock. One that was started by other means is
    /// left alone.
    private func removeStaleLock() throws {
        let path = "\(layout.postgresData)/postmaster.pid"
        if !fileExists(path) { return }
        let content = String(decoding: try readFile(path, max: 4096), as: UTF8.self)
        let pid = content.split(separator: "\n").first.flatMap { Int32($0) }
        let holder = pid.flatMap { ProcessIdentity(pid: $0) }
        if holder?.isRunning != true || holder?.commandName != "postgres" { try removeFile(path) }
    }

    /// Single-user mode needs no login: sets the superuser's password, and makes the database.
    private func setPassword(_ password: String, database: String?, data: String) async throws {
        var commands = "ALTER ROLE \(PostgresServer.superuser) PASSWORD '\(password)';\n"
        if let database { commands += "CREATE DATABASE \(database);\n" }
        // The first error ends it with code 1.
        let arguments = [
            "--single", "-D", data, "-c", "exit_on_error=on", "-c", "log_statement=none",
            "-c", "log_min_error_statement=panic", "template1",
        ]
        try await runTool(options("postgres", arguments), input: commands)
    }

    private func runTool(_ options: ChildOptions, input: String) async throws {
        let limits = RunLimits(timeoutSeconds: 120, headBytes: 0, tailBytes: 2048)
        let run = try ScriptRun(marker: "postgres-data")
        let report = try await run.runToEnd(options, stdin: Array(input.utf8), limits: limits)
        guard report.exit == .exited(0) else {
            let words = String(decoding: report.stderr.tail + report.stdout.tail, as: UTF8.self)
            throw EmbeddedError(
                .start, "\(options.executable) failed (\(report.exit)); it said: \(words)")
        }
    }

    private func options(_ program: String, _ arguments: [String]) -> ChildOptions {
        ChildOptions(
            executable: "\(programs)/\(program)", arguments: arguments,
            environment: [("PATH", "\(programs):/usr/bin:/bin"), ("LC_ALL", "C"), ("TZ", "UTC")],
            workingDirectory: "/", userID: layout.postgresUser?.userID, groupID: layout.postgresUser?.groupID,
            parentDeathSignal: SIGINT)
    }

    /// On the command line, where neither the configuration file nor ALTER SYSTEM can change them.
    private func settings() -> [String] {
        var settings = [
            ("listen_addresses", ""), ("port", "5432"), ("unix_socket_directories", layout.postgresSockets),
            ("unix_socket_permissions", "0700"), ("hba_file", layout.postgresAccess),
            ("password_encryption", "scram-sha-256"), ("max_connections", "200"), ("shared_buffers", "128MB"),
            ("max_wal_size", "1GB"), ("min_wal_size", "80MB"), ("checkpoint_completion_target", "0.9"),
            ("timezone", "UTC"), ("log_timezone", "UTC"), ("log_min_messages", "warning"),
            ("log_min_error_statement", "panic"), ("log_line_prefix", "%m [%p] "),
            ("cluster_name", "cloudrmm"),
        ]
        for name in ["fsync", "synchronous_commit", "full_page_writes"] {
            settings.append((name, durable ? "on" : "off"))
        }
        return ["-D", layout.postgresData] + settings.flatMap { ["-c", "\($0.0)=\($0.1)"] }
    }

    /// A login of the superuser up to the server's first answer: `R` asks for the password, `E` says that the
    /// server is still starting up (protocol 3.0, StartupMessage).
    private static let startupPacket: [UInt8] = {
        let body = Array("user\0\(superuser)\0database\0\(database)\0\0".utf8)
        let length = UInt32(body.count + 8)
        return withBigEndianBytes(length) + withBigEndianBytes(196_608) + body
    }()

    private static func withBigEndianBytes(_ value: UInt32) -> [UInt8] {
        [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> UInt32($0)) }
    }
}
