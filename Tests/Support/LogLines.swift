package import Logging
import Synchronization

/// What was logged, for tests of what is said.
package final class LogLines: Sendable {
    private let kept = Mutex<[(message: String, metadata: Logger.Metadata)]>([])

    /// None yet.
    package init() {}

    /// A logger that keeps what is said here, from a level on.
    package func logger(from level: Logger.Level = .debug) -> Logger {
        Logger(label: "test") { _ in Handler(lines: self, logLevel: level) }
    }

    /// The metadata of the lines with this message, in the order in which they were said.
    package func metadata(of message: String) -> [Logger.Metadata] {
        kept.withLock { $0.filter { $0.message == message }.map(\.metadata) }
    }

    fileprivate func add(_ message: String, _ metadata: Logger.Metadata) {
        kept.withLock { $0.append((message, metadata)) }
    }
}

private struct Handler: LogHandler {
    let lines: LogLines
    var logLevel: Logger.Level
    var metadata: Logger.Metadata = [:]

    func log(event: LogEvent) {
        lines.add("\(event.message)", metadata.merging(event.metadata ?? [:]) { _, own in own })
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }
}
