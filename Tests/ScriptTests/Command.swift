import Dispatch
import Foundation
import Process

/// A command under a time limit, whose output and errors are read as one text.
struct Command {
    private let child: Child
    private var chunks: AsyncStream<[UInt8]>.Iterator
    private var bytes: [UInt8] = []

    /// What the command has written so far.
    var text: String { String(decoding: bytes, as: UTF8.self) }

    /// Starts a command in a process group of its own; after the time limit it is told to stop, and killed
    /// half a minute later. It has no home, so that nothing which somebody keeps there has a part in it.
    init(
        _ arguments: [String], in directory: String, path: String = environment["PATH"] ?? "/usr/bin:/bin",
        variables: [(String, String)] = [], user: String? = nil, limitSeconds: Int = 120
    ) throws {
        let limit = ["timeout", "--kill-after=30", "\(limitSeconds)"]
        let identity = user.map { ["setpriv", "--reuid=\($0)", "--regid=\($0)", "--clear-groups"] } ?? []
        let child = try Child.spawn(
            ChildOptions(
                executable: "/bin/sh",
                arguments: ["-c", #"exec "$@" 2>&1"#, "sh"] + identity + limit + arguments,
                environment: [("PATH", path), ("HOME", "/nowhere")] + variables,
                workingDirectory: directory, parentDeathSignal: SIGTERM))
        let (stream, continuation) = AsyncStream.makeStream(of: [UInt8].self)
        DispatchQueue(label: "output").async {
            // A pipe that cannot be read any more has nothing more to say.
            while let chunk = try? readSome(child.stdoutFD, max: 65_536), !chunk.isEmpty {
                continuation.yield(chunk)
            }
            continuation.finish()
        }
        self.child = child
        chunks = stream.makeAsyncIterator()
    }

    /// Reads until the text has these words; false if the command ends without them.
    mutating func read(until words: String) async -> Bool {
        while !text.contains(words) {
            guard let chunk = await chunks.next(isolation: #isolation) else { return false }
            bytes += chunk
        }
        return true
    }

    /// Ctrl-C.
    func interrupt() throws { try child.signalGroup(SIGINT) }

    /// Reads to the end; how the command ended, 124 if its time was over.
    mutating func end() async -> ChildExit {
        while let chunk = await chunks.next(isolation: #isolation) { bytes += chunk }
        return await child.wait()
    }

    /// Runs a command to its end.
    static func run(
        _ arguments: [String], in directory: String, path: String = environment["PATH"] ?? "/usr/bin:/bin",
        variables: [(String, String)] = [], user: String? = nil
    ) async throws -> (exit: ChildExit, text: String) {
        var command = try Command(arguments, in: directory, path: path, variables: variables, user: user)
        let exit = await command.end()
        return (exit, command.text)
    }
}

let environment = ProcessInfo.processInfo.environment

/// A directory that `Scripts/test` names.
func directory(named variable: String) throws -> String {
    guard let path = environment[variable] else { throw Missing(variable: variable) }
    return path
}

struct Missing: Error, CustomStringConvertible {
    let variable: String
    var description: String { "\(variable) is not set; run the tests by Scripts/test" }
}
