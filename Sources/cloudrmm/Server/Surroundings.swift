import ArgumentParser
import Domain
import Foundation
import Logging
import Process

/// A logger that writes to standard error.
func makeLogger(level: String) throws -> Logger {
    guard let level = Logger.Level(rawValue: level) else {
        let allowed = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")
        throw ValidationError("--log-level is \"\(level)\"; allowed are: \(allowed)")
    }
    var logger = Logger(label: "cloudrmm") { LineLogHandler(StreamLogHandler.standardError(label: $0)) }
    logger.logLevel = level
    return logger
}

/// Writes one line to standard output at once, also into a pipe.
func printLine(_ line: String) {
    // Nobody reading is no reason to fail.
    try? writeAll(Array((line + "\n").utf8), to: 1, path: "standard output")
}

/// Returns, by throwing, when the task is cancelled.
func untilCancelled() async throws {
    while true { try await Task.sleep(for: .seconds(3_600)) }
}

/// A path from the root, by the directory that the process is in. What `PWD` says may be another: it is the
/// shell's word, and whoever changes the directory and starts the program need not be one.
func absolutePath(_ path: String) -> String {
    let directory = FileManager.default.currentDirectoryPath
    return path.hasPrefix("/") ? path : directory == "/" ? "/\(path)" : "\(directory)/\(path)"
}
