package import Logging
import Synchronization

/// A connection of its own for a command that waits on the server: `BLPOP`, `XREADGROUP … BLOCK`.
///
/// It carries one command at a time. When the caller goes away before the answer, by cancellation or by its
/// time limit, the socket is closed, which ends the command on the server, and the next command runs on a new
/// one; so a late answer is never taken for another's. What the server had already popped for the caller is
/// then lost: `mayHaveRun` is true.
package final class RedisBlockingConnection: Sendable {
    private let route: Route
    private let isBusy = Atomic(false)

    /// A connection that is not open yet: the first command opens it.
    package init(configuration: RedisConfiguration, logger: Logger) {
        route = Route(configuration, logger, .dropsConnection)
    }

    deinit { route.beginClosing() }

    /// Sends a command and waits for its reply; the first call starts the thread and connects.
    ///
    /// In a cluster it waits on the node that has the key, and anew on another when the slot moves.
    /// `timeout` must be longer than the time for which the command itself blocks. A second command while one
    /// waits is refused as `.overloaded`.
    package func send(_ command: RedisCommand, timeout: Duration) async throws -> RedisValue {
        guard !isBusy.exchange(true, ordering: .acquiring) else {
            throw RedisError(.overloaded, "a blocking connection carries one command at a time")
        }
        defer { isBusy.store(false, ordering: .releasing) }
        return try await route.send([command], timeout: timeout)[0].get()
    }

    /// Ends the command that waits, if one does, with `.closed`, refuses further ones and ends the thread.
    package func close() async {
        await route.close()
    }
}
