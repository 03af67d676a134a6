import ArgumentParser
import Domain
import Logging
import Process

/// A logger that writes to standard error.
func makeLogger(level: String) throws -> Logger {
    guard let level = Logger.Level(rawValue: level) else {
        let allowed = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")
        throw ValidationError("--log-level is \"\(level)\"; allowed are: \(allowed)")
    }
    var logger = Logger(label: "cloudrmm") { StreamLogHandler.standardError(label: $0) }
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

/// A path from the root, by the directory that the shell was in.
func absolutePath(_ path: String) -> String {
    path.hasPrefix("/") ? path : "\(environmentVariable("PWD") ?? ".")/\(path)"
}
