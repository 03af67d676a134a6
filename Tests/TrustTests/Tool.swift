import Dispatch
import Foundation

/// Programs of the system that these tests compare with.
enum Tool {
    struct Result: Sendable {
        let status: Int32
        let output: String
        let errors: String
    }

    static func openssl(_ arguments: String..., input: String = "") async throws -> Result {
        try await run("openssl", arguments, input: input)
    }

    /// Runs a program to its end, off the threads that Swift's tasks share.
    static func run(_ name: String, _ arguments: [String], input: String = "") async throws -> Result {
        try await blocking {
            let (process, stdin, stdout, stderr) = (Process(), Pipe(), Pipe(), Pipe())
            process.executableURL = URL(fileURLWithPath: "/usr/bin/\(name)")
            process.arguments = arguments
            process.standardInput = stdin
            process.standardOutput = stdout
            process.standardError = stderr
            try process.run()
            stdin.fileHandleForWriting.write(Data(input.utf8))
            try stdin.fileHandleForWriting.close()
            let output = stdout.fileHandleForReading.readDataToEndOfFile()
            let errors = stderr.fileHandleForReading.readDataToEndOfFile()
            process.waitUntilExit()
            return Result(
                status: process.terminationStatus, output: String(decoding: output, as: UTF8.self),
                errors: String(decoding: errors, as: UTF8.self))
        }
    }

    /// Runs a body that may block.
    static func blocking<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws
        -> Value
    {
        try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread { continuation.resume(with: Swift.Result { try body() }) }
        }
    }
}

/// A folder that is removed with its last reference.
final class TemporaryFolder: Sendable {
    let path: String

    init() throws {
        path = FileManager.default.temporaryDirectory.path + "/trust-\(UUID().uuidString)"
        try FileManager.default.createDirectory(
            atPath: path, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
    }

    // A directory that stays is in the system's temporary one.
    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// The path of a new file with this content.
    func write(_ name: String, _ content: String) throws -> String {
        try content.write(toFile: "\(path)/\(name)", atomically: false, encoding: .utf8)
        return "\(path)/\(name)"
    }
}
