package import Domain
package import Logging
import NIOCore
import NIOPosix
import Process
import Trust
import Wire

/// An enrolled device at work: holds its directory, keeps a session with its gateway, runs what comes.
package final class EnrolledAgent: Sendable {
    /// The agent's own version.
    package static let version = SystemFacts.agentVersion
    /// The waits between two sessions.
    package static let backoff = Backoff(base: .milliseconds(500), limit: .seconds(60))
    /// A session that lived so long was a good one: the next wait is short again.
    static let goodSession = Duration.seconds(60)

    private let identity: Identity
    private let lock: FileLock
    private let address: ServiceAddress
    private let runner: Runner
    private let disk: NIOThreadPool
    private let group: MultiThreadedEventLoopGroup
    private let backoff: Backoff
    private let now: @Sendable () -> Instant
    private let logger: Logger

    /// Takes the directory's lock and reads its state; blocks. Throws if another agent runs there, nobody is
    /// enrolled there, the directory is not this user's alone, or the journal is damaged.
    package init(
        directory: DataDirectory, backoff: Backoff = EnrolledAgent.backoff,
        now: @escaping @Sendable () -> Instant,
        startedDelay: Duration = .seconds(1), renewsNow: Bool = false, logger: Logger
    ) throws {
        try directory.requireEnrolled()
        lock = try directory.takeLock()
        identity = try directory.load()
        address = try ServiceAddress(identity.gatewayURL, scheme: "wss")
        self.backoff = backoff
        self.now = now
        self.logger = logger
        disk = NIOThreadPool(numberOfThreads: 1)
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        runner = try Runner(
            directory: directory, identity: identity, renewsNow: renewsNow, disk: disk, now: now,
            startedDelay: startedDelay, logger: logger)
        disk.start()
    }

    /// Serves until `stop`.
    package func run() async throws {
        logger.info("agent started", metadata: ["device.id": "\(identity.verifier.device)"])
        defer { lock.release() }
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { await self.keepSession() }
            try await runner.run()
            // What could be sent was sent; the rest lies in the outbox.
            tasks.cancelAll()
        }
        try await group.shutdownGracefully()
        try await disk.shutdownGracefully()
        logger.info("agent stopped")
    }

    /// Ends `run`: nothing is taken any more, scripts are killed, the session is closed. Callable from
    /// anywhere.
    package func stop() { runner.stop() }

    private func keepSession() async {
        var failures = 0
        var generator = SystemRandomNumberGenerator()
        while !Task.isCancelled {
            let begun = ContinuousClock.now
            await holdSession()
            if begun.duration(to: .now) >= Self.goodSession { failures = 0 }
            let wait = backoff.wait(attempt: failures, using: &generator)
            failures += 1
            // Cancellation is the stop that the loop looks for.
            try? await Task.sleep(for: wait)
        }
    }

    private func holdSession() async {
        do {
            let tls = try runner.clientContext()
            let connection = try await GatewayConnection.open(
                address, tls: tls, on: group.next(), hello: { self.runner.hello($0) },
                receive: { connection, frame in
                    if !self.runner.take(frame, from: connection) { connection.close() }
                })
            logger.info("session opened", metadata: ["gateway": "\(address.authority)"])
            let end = await connection.ended()
            runner.detach()
            logger.info(
                "session ended",
                metadata: ["reason": "\(end.reason)", "code": "\(end.code.map(String.init) ?? "none")"])
        } catch {
            logger.warning("no session", metadata: ["error": "\(error)"])
        }
    }
}
