import Domain
import Logging
import Process
import Synchronization
import Trust

/// What the next connection of a listener is met with: the server certificate as it lies in the directory of
/// keys, made anew by the API at two thirds of its life and taken up by every process that reads it, and the
/// keys of tickets, which change each hour.
final class RenewedTLS: Sendable {
    private let load: @Sendable () throws -> TLSContext
    private let renew: @Sendable () throws -> Void
    private let logger: Logger
    private let current: Mutex<TLSContext>

    /// How often the files are looked at: often enough for keys that are made an hour before they are used.
    static let period = Duration.seconds(600)

    /// Reads the certificate now; `renew` makes a new one when its time has come.
    init(
        logger: Logger, load: @escaping @Sendable () throws -> TLSContext,
        renew: @escaping @Sendable () throws -> Void = {}
    ) throws {
        self.load = load
        self.renew = renew
        self.logger = logger
        current = Mutex(try load())
    }

    /// What the next connection is met with.
    var context: TLSContext { current.withLock { $0 } }

    /// Looks after the files until the task is cancelled.
    func run() async throws {
        while true {
            try await Task.sleep(for: Self.period)
            refresh()
        }
    }

    /// Renews the certificate if it is time, and takes up what lies there. What fails is tried again in ten
    /// minutes: a third of the certificate's life is left for that.
    func refresh() {
        do {
            try renew()
            let fresh = try load()
            current.withLock { $0 = fresh }
        } catch {
            logger.error("the files of a listener could not be renewed", metadata: ["error": "\(error)"])
        }
    }
}
