package import Logging
import Synchronization

/// A connection that all tasks of a process share: concurrent commands leave as pipelines, and it reconnects
/// by itself.
///
/// Commands are carried out in the order in which they were sent. When the connection is lost, what was
/// written to it fails with an error that says whether it may have run (`RedisError.mayHaveRun`); what was
/// not waits for the next connection within its time limit. Nothing that may have run is ever sent again.
///
/// In a cluster each command goes to the node that has its key, or the one beside which it is carried out
/// (`RedisCommand.near`), over a connection a node; the nodes are followed as they come and go, and what a
/// node refused because the cluster is changing is sent again within its time limit. The order holds for one
/// node while nothing is sent again. A command whose keys lie in several slots is refused, and so is a
/// transaction: the error names the keys.
///
/// Not to be sent here: commands that block (`RedisBlockingConnection` is for those), that change what later
/// replies look like (`SUBSCRIBE`, `MONITOR`, `CLIENT REPLY`), or that span several sends (`MULTI`; see
/// `transaction`).
package final class RedisConnection: Sendable {
    private let route: Route

    /// A connection that is not open yet: `start` or the first command opens it.
    package init(configuration: RedisConfiguration, logger: Logger) {
        route = Route(configuration, logger, .discardsReply)
    }

    deinit { route.beginClosing() }

    /// Starts the connection's thread, which connects at once. Sending does it as well; a second call does
    /// nothing.
    package func start() {
        route.start()
    }

    /// Refuses new commands, waits for the answers of those under way (at most `commandTimeout`) and ends the
    /// thread.
    package func close() async {
        await route.close()
    }

    /// Rises with each connection that is established, from 0 before the first; so whoever saw it rise can
    /// look whether this is still the same server with the same data.
    package var generation: Int { route.generation }

    /// How often a connection was lost or could not be established.
    package var failures: Int { route.failures }

    /// How often bytes were handed to the kernel, over all connections so far.
    var writes: Int { route.writes }

    /// How often nodes of a cluster sent a command elsewhere: for good (`MOVED`), and just once (`ASK`).
    package var redirections: (moved: Int, asked: Int) { route.redirections }

    /// Sends one command and returns its reply; an error reply is thrown as `.server`.
    ///
    /// When the task is cancelled or the time limit passes, the caller goes on at once and the reply is
    /// thrown away when it comes.
    package func send(_ command: RedisCommand, timeout: Duration? = nil) async throws -> RedisValue {
        try await route.send([command], timeout: timeout)[0].get()
    }

    /// Sends the commands as one pipeline, with nothing of other callers in between, and returns one result
    /// for each. In a cluster it is one pipeline a node, without an order between the nodes.
    ///
    /// Throws when none was sent or the task was cancelled; a connection lost half-way is in the results.
    package func send(
        _ commands: [RedisCommand], timeout: Duration? = nil
    ) async throws -> [Result<RedisValue, RedisError>] {
        try await route.send(commands, timeout: timeout)
    }

    /// Carries the commands out as one `MULTI … EXEC` and returns the replies; an error among them stays a
    /// value.
    ///
    /// Throws when the transaction did not take place, and then nothing of it did, unless `mayHaveRun` says
    /// otherwise.
    package func transaction(_ commands: [RedisCommand]) async throws -> [RedisValue] {
        guard case .array(let values) = try await route.transaction(commands) else {
            throw RedisError(.protocolViolation, "EXEC was not answered with an array", mayHaveRun: true)
        }
        return values
    }

    /// Whether the address is one of a cluster.
    var isOfCluster: Bool {
        if case .cluster = route { true } else { false }
    }

    /// All servers that have data of their own: the one server, or a cluster's masters as it names them now.
    package func masters() async throws -> [RedisNode] { try await route.masters().map(RedisNode.init) }
}
