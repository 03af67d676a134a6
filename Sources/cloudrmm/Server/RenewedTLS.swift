import Domain
import Logging
import Process
import Synchronization
import Trust

/// What a listener's files say: all that its TLS is made of.
struct ListenerFiles: Sendable, Hashable {
    /// Certificate and key, PEM.
    var server: String
    /// The authority whose certificate every client must show one of, PEM; `nil` asks for none.
    var clientCA: String?
    var minimum: TLSContext.Version
    /// What seals tickets; `nil` leaves it to keys that each context makes for itself.
    var tickets: TicketKeys?

    func context() throws -> TLSContext {
        try TLSContext.server(
            certificatePEM: server, keyPEM: server, clientCA: clientCA, minimum: minimum,
            alpn: ["http/1.1"], tickets: tickets)
    }
}

/// What the next connection of a listener is met with: the server certificate as it lies in the directory of
/// keys, made anew by the API at two thirds of its life and taken up by every process that reads it, and the
/// keys of tickets, which change each hour.
final class RenewedTLS: Sendable {
    private let load: @Sendable () throws -> ListenerFiles
    private let renew: @Sendable () throws -> Void
    private let logger: Logger
    private let current: Mutex<(files: ListenerFiles, context: TLSContext)>

    /// How often the files are looked at: often enough for keys that are made an hour before they are used.
    static let period = Duration.seconds(600)

    /// Reads the certificate now; `renew` makes a new one when its time has come.
    init(
        logger: Logger, load: @escaping @Sendable () throws -> ListenerFiles,
        renew: @escaping @Sendable () throws -> Void = {}
    ) throws {
        self.load = load
        self.renew = renew
        self.logger = logger
        let files = try load()
        current = Mutex((files, try files.context()))
    }

    /// What the next connection is met with.
    var context: TLSContext { current.withLock { $0.context } }

    /// Looks after the files until the task is cancelled.
    func run() async throws {
        while true {
            try await Task.sleep(for: Self.period)
            refresh()
        }
    }

    /// Renews the certificate if it is time, and takes up what lies there, also if not all could be renewed.
    /// What fails is tried again in ten minutes: a third of the certificate's life is left for that.
    func refresh() {
        attempt { try renew() }
        attempt {
            let files = try load()
            // A context that makes keys of tickets for itself takes them along: callers keep their tickets
            // for as long as the files stay the same.
            guard current.withLock({ $0.files != files }) else { return }
            let context = try files.context()
            current.withLock { $0 = (files, context) }
        }
    }

    private func attempt(_ step: () throws -> Void) {
        do {
            try step()
        } catch {
            logger.error("the files of a listener could not be renewed", metadata: ["error": "\(error)"])
        }
    }
}
