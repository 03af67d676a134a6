import Dispatch
import Glibc
import Process
import Testing

/// A directory of its own that goes with its owner.
final class Scratch: Sendable {
    let path: String

    init() throws {
        let name = try randomBytes(5).map { String($0, radix: 16) }.joined()
        path = "/tmp/crmm-e2e-\(getpid())-\(name)"
        // Servers that run as users of their own pass through it.
        try Directory.make(path, mode: 0o711)
    }

    deinit {
        // A directory that is left behind in /tmp harms nobody.
        try? Directory.removeTree(path)
    }

    /// A new directory in it.
    func directory(_ name: String, mode: UInt32 = 0o700) throws -> String {
        try Directory.make("\(path)/\(name)", mode: mode)
        return "\(path)/\(name)"
    }
}

/// The programs under test: those in CLOUDRMM_TEST_BINARIES, else those that were built beside the tests.
enum Binaries {
    static func path(_ name: String) throws -> String {
        let directory: String
        if let named = environmentVariable("CLOUDRMM_TEST_BINARIES") {
            directory = named
        } else {
            let bundle = try #require(CommandLine.arguments.first { $0.hasSuffix(".xctest") })
            directory = Directory.parent(of: bundle)
        }
        let path = "\(directory)/\(name)"
        try #require(
            fileExists(path), "\(path) is missing: build it, or name its directory in CLOUDRMM_TEST_BINARIES")
        return path
    }
}

/// What did not come true in time.
struct TooLate: Error, CustomStringConvertible {
    let description: String
}

/// Returns as soon as a condition holds; looks again each 20 ms, at most so many seconds.
func eventually(
    _ what: String, within seconds: Int = 40, _ condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + .seconds(seconds)
    while try await !condition() {
        guard ContinuousClock.now < deadline else {
            throw TooLate(description: "not within \(seconds) s: \(what)")
        }
        await withCheckedContinuation { continuation in
            DispatchQueue.global().asyncAfter(deadline: .now() + .milliseconds(20)) { continuation.resume() }
        }
    }
}

/// The text of a file; empty if it is not there (yet).
func text(of path: String) -> String {
    // A file that cannot be read is one that nobody has written.
    String(decoding: (try? readFile(path, max: 16 << 20)) ?? [], as: UTF8.self)
}

/// The lines of a file; none if it is not there (yet).
func lines(of path: String) -> [String] { text(of: path).split(separator: "\n").map(String.init) }

/// What a program said and how it ended.
struct ToolResult: Sendable {
    let exit: ChildExit
    let output: String
    let errors: String

    /// The output, of a program that must succeed.
    func required() throws -> String {
        guard exit == .exited(0) else { throw TooLate(description: "\(exit): \(output)\(errors)") }
        return output
    }
}

/// Runs a program to its end; at most a minute.
func tool(
    _ program: String, _ arguments: [String], environment: [(String, String)] = [], input: String = "",
    asUser user: (id: UInt32, group: UInt32)? = nil
) async throws -> ToolResult {
    let options = ChildOptions(
        executable: program, arguments: arguments,
        environment: [("PATH", "/usr/bin:/bin"), ("HOME", "/tmp"), ("LC_ALL", "C.UTF-8")] + environment,
        workingDirectory: "/", isolation: .session, userID: user?.id, groupID: user?.group)
    let report = try await ScriptRun(marker: "end-to-end-tool").runToEnd(
        options, stdin: Array(input.utf8),
        limits: RunLimits(timeoutSeconds: 60, headBytes: 1 << 20, tailBytes: 0))
    return ToolResult(
        exit: report.exit, output: String(decoding: report.stdout.head, as: UTF8.self),
        errors: String(decoding: report.stderr.head, as: UTF8.self))
}

/// A long-lived program under test; it is killed with its owner, and with the tests.
final class Running: Sendable {
    let child: Child
    let outputPath: String

    init(
        _ program: String, _ arguments: [String], environment: [(String, String)] = [], log: String,
        asUser user: (id: UInt32, group: UInt32)? = nil, diesWithTests: Bool = true
    ) throws {
        outputPath = "\(log).out"
        if fileExists(outputPath) { try removeFile(outputPath) }
        child = try Child.spawn(
            ChildOptions(
                executable: program, arguments: arguments,
                environment: [
                    ("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/tmp"), ("LANG", "C.UTF-8"),
                ]
                    + environment,
                workingDirectory: "/", stdout: .file(outputPath), stderr: .file("\(log).err"),
                isolation: .session,
                userID: user?.id, groupID: user?.group, parentDeathSignal: diesWithTests ? SIGKILL : nil))
    }

    deinit {
        // One that has ended already needs no signal.
        _ = try? child.signal(SIGKILL)
    }

    /// Ends it as a crash would.
    func crash() async throws {
        try child.signal(SIGKILL)
        _ = await child.wait()
    }

    /// Asks it to end, and waits for that.
    func stop(_ signal: Int32 = SIGTERM) async throws -> ChildExit {
        try child.signal(signal)
        return await child.wait()
    }

    /// The first line of its output that begins so.
    func line(_ prefix: String) async throws -> String {
        var found: String?
        try await eventually("\(outputPath) says \(prefix)") {
            found = lines(of: outputPath).first { $0.hasPrefix(prefix) }
            if found == nil, let exit = child.exit {
                throw TooLate(description: "ended before it was ready: \(exit)")
            }
            return found != nil
        }
        return try #require(found)
    }
}

/// A port that nobody listens on, below those that the system gives to anyone.
func freePort() throws -> Int {
    for _ in 0..<200 {
        let port = Int.random(in: 15_000..<32_000)
        if LocalPort.isFree(port) { return port }
    }
    throw TooLate(description: "no port is free")
}
