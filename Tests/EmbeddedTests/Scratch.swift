import Embedded
import Glibc
import Logging
import Process
import Testing

let quiet = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

/// A data directory of its own for one test, removed with its owner.
final class Scratch: Sendable {
    let path: String
    var data: String { "\(path)/data" }
    var options: EmbeddedOptions { EmbeddedOptions(dataDirectory: data, durable: false) }

    init() throws {
        path = "/tmp/crmm-embedded-\(getpid())-\(try randomBytes(6).map { String($0, radix: 16) }.joined())"
        try Directory.make(path, mode: 0o755)
    }

    deinit {
        // A scratch directory left behind harms nobody.
        try? Directory.removeTree(path)
    }

    /// A data directory that has been started before: a copy of the suite's prepared one.
    static func prepared() async throws -> Scratch {
        let scratch = try Scratch()
        let prepared = try #require(PreparedData.path)
        #expect(try await output("/bin/cp", ["-a", prepared, scratch.data]).isEmpty)
        return scratch
    }

    /// A server of this data directory still runs, or one whose parent is gone is still shutting down.
    func serverRuns() throws -> Bool {
        for name in ["postgres", "redis"] where try FileLock.holder(of: "\(data)/\(name).server.lock") != nil
        {
            return true
        }
        return false
    }
}

/// Makes a data directory once for a whole suite.
struct PreparedData: SuiteTrait, TestScoping {
    @TaskLocal static var path: String?

    func provideScope(
        for test: Test, testCase: Test.Case?,
        performing function: @concurrent @Sendable () async throws -> Void
    ) async throws {
        let scratch = try Scratch()
        let servers = try await EmbeddedServers.start(scratch.options, logger: quiet)
        await servers.stop()
        try await PreparedData.$path.withValue(scratch.data) { try await function() }
    }
}

/// What a program says on standard output and its exit.
func output(_ program: String, _ arguments: [String], input: String = "") async throws -> String {
    let limits = RunLimits(timeoutSeconds: 30, headBytes: 100_000, tailBytes: 0)
    let options = ChildOptions(
        executable: program, arguments: arguments, environment: [("PATH", "/usr/bin:/bin"), ("HOME", "/tmp")])
    let report = try await ScriptRun(marker: "embedded-tests")
        .runToEnd(options, stdin: Array(input.utf8), limits: limits)
    return String(decoding: report.stdout.head + report.stderr.head, as: UTF8.self)
}

func query(_ url: String, _ sql: String) async throws -> String {
    try await output("/usr/bin/psql", ["-XAtq", "-d", url, "-c", sql])
}

/// Runs Redis commands, one a line, with a login.
func redis(_ servers: EmbeddedServers, as user: RedisUser, _ commands: String) async throws -> [String] {
    let login = try servers.redisURL(user: user).dropFirst("unix://".count).split(separator: "@")[0].split(
        separator: ":")
    let arguments = [
        "-s", servers.redisSocketPath, "--user", String(login[0]), "--pass", String(login[1]),
        "--no-auth-warning",
    ]
    return try await output("/usr/bin/redis-cli", arguments, input: commands).split(separator: "\n").map(
        String.init)
}

/// A separate process that starts the servers.
struct Probe {
    let child: Child
    let postgresURL: String

    /// Starts the program beside the tests, copied to where every user can reach it, and waits for its first
    /// word.
    init(_ scratch: Scratch, user: UInt32? = nil) async throws {
        let bundle = try #require(CommandLine.arguments.first { $0.hasSuffix(".xctest") })
        let program = "\(scratch.path)/probe"
        let built = "\(Directory.parent(of: bundle))/EmbeddedProbe"
        #expect(try await output("/bin/cp", [built, program]).isEmpty)
        child = try Child.spawn(
            ChildOptions(
                executable: program, arguments: [scratch.data], environment: [("PATH", "/usr/bin:/bin")],
                stdin: .pipe, stderr: .inherit, userID: user))
        var said: [UInt8] = []
        while said.count(where: { $0 == UInt8(ascii: "\n") }) < 3 {
            let more = try readSome(child.stdoutFD, max: 4096)
            if more.isEmpty { break }
            said += more
        }
        let lines = String(decoding: said, as: UTF8.self).split(separator: "\n").map(String.init)
        try #require(lines.first == "ready", "the probe said \(lines)")
        postgresURL = lines[1]
    }
}
