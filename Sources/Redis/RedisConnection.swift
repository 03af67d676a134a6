package import Logging
import Synchronization

/// A connection that all tasks of a process share: concurrent commands leave as pipelines, and it reconnects
/// by itself.
///
/// Commands are carried out in the order in which they were sent. When the connection is lost, what was
/// written to it fails with an error that says whether it may have run (`RedisError.mayHaveRun`); what was
/// not waits for the next connection within its time limit. Nothing is ever sent twice.
///
/// Not to be sent here: commands that block (`RedisBlockingConnection` is for those), that change what later
/// replies look like (`SUBSCRIBE`, `MONITOR`, `CLIENT REPLY`), or that span several sends (`MULTI`; see
/// `transaction`).
package final class RedisConnection: Sendable {
    private let pipeline: Pipeline

    /// A connection that is not open yet: `start` or the first command opens it.
    package init(configuration: RedisConfiguration, logger: Logger) {
        pipeline = Pipeline(configuration: configuration, logger: logger, abandonment: .discardsReply)
    }

    deinit { pipeline.beginClosing() }

    /// Starts the connection's thread, which connects at once. Sending does it as well; a second call does
    /// nothing.
    package func start() {
        pipeline.start()
    }

    /// Refuses new commands, waits for the answers of those under way (at most `commandTimeout`) and ends the
    /// thread.
    package func close() async {
        await pipeline.close()
    }

    /// Rises with each connection that is established, from 0 before the first; so whoever saw it rise can
    /// look whether this is still the same server with the same data.
    package var generation: Int { pipeline.generation.load(ordering: .acquiring) }

    /// How often a connection was lost or could not be established.
    package var failures: Int { pipeline.failures.load(ordering: .relaxed) }

    /// How often bytes were handed to the kernel, over all connections so far.
    var writes: Int { pipeline.writes.load(ordering: .relaxed) }

    /// Sends one command and returns its reply; an error reply is thrown as `.server`.
    ///
    /// When the task is cancelled or the time limit passes, the caller goes on at once and the reply is
    /// thrown away when it comes.
    package func send(_ command: RedisCommand, timeout: Duration? = nil) async throws -> RedisValue {
        try await pipeline.send([command], timeout: timeout)[0].get()
    }

    /// Sends the commands as one pipeline, with nothing of other callers in between, and returns one result
    /// for each.
    ///
    /// Throws when none was sent or the task was cancelled; a connection lost half-way is in the results.
    package func send(_ commands: [RedisCommand]) async throws -> [Result<RedisValue, RedisError>] {
        try await pipeline.send(commands, timeout: nil)
    }

    /// Carries the commands out as one `MULTI … EXEC` and returns the replies; an error among them stays a
    /// value.
    ///
    /// Throws when the transaction did not take place, and then nothing of it did, unless `mayHaveRun` says
    /// otherwise.
    package func transaction(_ commands: [RedisCommand]) async throws -> [RedisValue] {
        let replies = try await pipeline.send(
            [RedisCommand("MULTI")] + commands + [RedisCommand("EXEC")], timeout: nil)
        guard case .array(let values) = try replies[replies.count - 1].get() else {
            throw RedisError(.protocolViolation, "EXEC was not answered with an array", mayHaveRun: true)
        }
        return values
    }
}
