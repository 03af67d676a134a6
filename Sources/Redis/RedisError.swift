/// Why a command has no answer, or why its answer is an error.
package struct RedisError: Error, Equatable, CustomStringConvertible {
    /// What went wrong.
    package enum Code: Sendable, Hashable {
        /// There was no connection, or it was lost.
        case connection
        /// The answer did not come within the time limit.
        case timeout
        /// The server answered with an error; its first word, such as `NOSCRIPT`.
        case server(String)
        /// The server's bytes are not RESP, are over the limit, or answer nothing that was asked.
        case protocolViolation
        /// As many commands as the configuration allows wait already.
        case overloaded
        /// The connection was closed by its owner.
        case closed
        /// TLS: the server's certificate is not accepted, ours is not, or there is no TLS at all.
        case untrusted
        /// An address, a library or a command that can never work.
        case configuration
        /// The task that waited was cancelled.
        case cancelled
    }

    /// What went wrong.
    package let code: Code
    /// One sentence; it never holds a password or the arguments of a command.
    package let message: String
    /// Whether the server may have carried the command out: false when its last byte never left this process,
    /// or when the server's answer is a refusal.
    package let mayHaveRun: Bool

    /// An error of this side; for one that the server answered see `init(reply:)`.
    package init(_ code: Code, _ message: String, mayHaveRun: Bool = false) {
        self.code = code
        self.message = message
        self.mayHaveRun = mayHaveRun
    }

    /// The refusal of a part of the greeting of a new connection.
    init(reply: String, about subject: String) {
        let reply = RedisError(reply: reply)
        self.init(reply.code, "\(subject) is refused: \(reply.message)")
    }

    /// The error that an error reply stands for.
    ///
    /// A script that fails half-way also answers with an error, so `mayHaveRun` is true for all but the
    /// refusals that the server gives before it begins.
    init(reply: String) {
        let word = String(reply.prefix { $0 != " " })
        self.init(.server(word), reply, mayHaveRun: !Self.refusals.contains(word))
    }

    /// The first word of the server's error reply; nil for errors of this side.
    package var serverCode: String? {
        if case .server(let word) = code { word } else { nil }
    }

    /// Whether the same command may succeed later without anybody changing anything.
    package var isTransient: Bool {
        switch code {
        case .connection, .timeout, .protocolViolation, .overloaded: true
        case .server(let word): Self.transient.contains(word)
        case .untrusted, .closed, .configuration, .cancelled: false
        }
    }

    /// The sentence, and whether the command may have run where the server's answer does not say it.
    package var description: String {
        switch code {
        case .server: "redis: \(message)"
        default: "redis: \(message)\(mayHaveRun ? " (the command may have run)" : "")"
        }
    }

    private static let transient: Set<String> = [
        "LOADING", "BUSY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "READONLY", "OOM", "MISCONF",
        "NOREPLICAS",
    ]
    private static let refusals: Set<String> = transient.union([
        "NOAUTH", "WRONGPASS", "NOPERM", "NOSCRIPT", "CROSSSLOT", "MOVED", "ASK", "EXECABORT",
    ])

    /// Whether this, at the greeting of a new connection, is a refusal that waiting does not heal.
    var refusesLogin: Bool {
        switch code {
        case .untrusted, .configuration: true
        case .server: !isTransient && !message.hasPrefix("ERR max number of clients")
        case .connection, .timeout, .protocolViolation, .overloaded, .closed, .cancelled: false
        }
    }
}
