package import Domain
package import Engine
import Faults
package import Ledger
package import Logging
import NIOCore
import NIOPosix
package import Redis
import Streams
import Synchronization
package import Trust
import Wire

/// What a gateway listens on.
package struct GatewayConfiguration: Sendable {
    /// Address and port; 0 takes any free port.
    package var host: String
    package var port: Int
    /// How often agents speak up.
    package var pace = SessionPace()
    /// Event loops; one serves some thousand agents.
    package var threads = 1
    /// How many connections are held at once; the next is closed as soon as it is made.
    package var connectionsMax = Int.max

    /// A gateway on an address.
    package init(host: String, port: Int) {
        self.host = host
        self.port = port
    }
}

/// How often an agent that has nothing to say speaks up all the same.
package struct SessionPace: Sendable {
    /// Seconds between an agent's pings; three periods of silence end a session.
    package var pingSeconds = 30
    /// Seconds between an agent's hellos, at most; it takes half of it at least.
    package var helloSeconds = 300
}

/// Holds agents' sessions: hello and reconciliation, presence, dispatches from its inbox, results into the
/// ledger.
///
/// A gateway is an *incarnation*: its inbox and its presence carry an id that is never used again. When its
/// heartbeat has lapsed or the data set in Redis is another one, it takes a new id, says again whom it holds,
/// and wakes their waiting runs.
package final class Gateway: Sendable {
    let ledger: Ledger
    let front: QueueFront
    let sessions = Sessions()
    let contents: JobContents
    let keySet: PublishedKeySet
    /// Devices that have asked for a certificate of late.
    let renewals = Mutex<[DeviceID: Renewing]>([:])
    let settler: Settler
    let logger: Logger
    /// What was counted.
    package let counters = EventCounters()
    let configuration: GatewayConfiguration
    let deployment: DeploymentID
    private let tls: @Sendable () -> TLSContext
    let inbox: RedisBlockingConnection
    let pulse: Mutex<Pulse>
    /// Says that another incarnation is to be taken.
    let staleness: AsyncStream<Void>
    let stale: AsyncStream<Void>.Continuation
    private let starts = Mutex<[DeviceID: [Start]]>([:])
    /// When it was said last that no more connections are taken.
    private let saidFull = Mutex<ContinuousClock.Instant?>(nil)
    let journals = JournalPlaces()
    let flapping = Mutex(Flapping())
    let waitingHellos = Atomic(0)
    /// Attempts that wait for the secrets of their jobs, and what says that there are some.
    let awaited = Mutex<[RunID: Awaited]>([:])
    let secretCalls: AsyncStream<Void>
    let secretBell: AsyncStream<Void>.Continuation
    let events: AsyncStream<Event>
    let post: AsyncStream<Event>.Continuation
    private let group: MultiThreadedEventLoopGroup

    private typealias Start = (OrganizationID, DeviceID, RunID, AttemptToken, Instant)

    enum Event: Sendable {
        case hello(Hello, Session, PeerIdentity, at: ContinuousClock.Instant)
        case closed(Session)
    }

    /// A gateway on its own login. `tls` is what the next connection is met with: its certificate is renewed
    /// while the gateway runs. `inbox` is a connection of its own, for it blocks.
    package init(
        configuration: GatewayConfiguration, deployment: DeploymentID,
        tls: @escaping @Sendable () -> TLSContext, ledger: Ledger, front: QueueFront,
        inbox: RedisBlockingConnection, logger: Logger
    ) {
        self.configuration = configuration
        self.deployment = deployment
        self.tls = tls
        self.ledger = ledger
        self.front = front
        self.inbox = inbox
        self.logger = logger
        keySet = PublishedKeySet(ledger: ledger)
        contents = JobContents(ledger: ledger, keySet: keySet)
        settler = Settler(ledger: ledger, counters: counters, metrics: front.metrics, logger: logger) {
            runs in
            await front.settled(runs)
        }
        pulse = Mutex(
            Pulse(
                .new(at: .now()), partitions: front.parts.count,
                lapse: .milliseconds(Self.heartbeatMilliseconds), at: .now))
        (staleness, stale) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        (events, post) = AsyncStream.makeStream()
        (secretCalls, secretBell) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        group = MultiThreadedEventLoopGroup(numberOfThreads: configuration.threads)
    }

    /// The incarnation in force.
    package var id: GatewayID { pulse.withLock { $0.incarnation } }

    /// How many sessions it holds.
    package var sessionCount: Int { sessions.count }

    /// Serves until the task is cancelled, then closes its sessions, commits what came in, and ends its
    /// incarnation.
    package func run(onBound: @escaping @Sendable (Int) async -> Void) async throws {
        let sent = ContinuousClock.now
        try await begin(id)
        pulse.withLock { $0.begin($0.incarnation, sent: sent) }
        // Before anybody can be noted in it: a session is no sign of an earlier data set then.
        await lookAround()
        try await keySet.look()
        let listener = Listener(
            group: group, tls: tls, pace: configuration.pace,
            connections: ConnectionCount(max: configuration.connectionsMax) { self.isFull() },
            actions: AgentHandler.Actions(
                hello: { self.greet($0, $1, $2) }, message: { self.handle($0, $1) },
                closed: { self.post.yield(.closed($0)) },
                violation: { self.counters.increment("closed.\($0.code)") },
                failed: { self.counters.increment("failed.\($0)") }))
        let channel = try await listener.bind(host: configuration.host, port: configuration.port)
        await onBound(channel.localAddress?.port ?? configuration.port)
        let settling = Task { await settler.run() }
        await withTaskGroup(of: Void.self) { tasks in
            tasks.addTask { await self.answer() }
            tasks.addTask { await self.live() }
            tasks.addTask { await self.deliver() }
            tasks.addTask { await self.deliverSecrets() }
            tasks.addTask { await self.recordStarts() }
            tasks.addTask { await self.keepUp() }
            tasks.addTask { await self.lookForRevoked() }
        }
        // In a task of its own: this one is cancelled, and what it still has to say must be said.
        await Task { await self.stop(channel) }.value
        await writeJournals()
        settler.finish()
        await settling.value
        // Everything is closed; the threads need not be waited for.
        try? await group.shutdownGracefully()
    }

    /// A connection was refused, since there are as many as may be.
    private func isFull() {
        counters.increment("failed.descriptors")
        let isNews = saidFull.withLock { said in
            guard said.map({ .now - $0 > .seconds(60) }) ?? true else { return false }
            said = .now
            return true
        }
        guard isNews else { return }
        logger.warning(
            "agents are refused: there are as many connections as this process may have descriptors for",
            metadata: ["connections": "\(configuration.connectionsMax)"])
    }

    private func stop(_ channel: any Channel) async {
        // A listener that is closed already needs no closing.
        try? await channel.close().get()
        let sessions = sessions.all
        await withTaskGroup(of: Void.self) { tasks in
            for session in sessions {
                session.close(.goingAway)
                tasks.addTask { await self.leave(session) }
            }
        }
        // The close frames leave before the threads end, unless a peer does not read.
        for _ in 0..<100 where sessions.contains(where: { !$0.hasEnded }) {
            // This task is not cancelled.
            try? await Task.sleep(for: .milliseconds(10))
        }
        let id = id
        // Best effort: a worker buries an incarnation whose heartbeat lapses, and returns what lies in its
        // inbox.
        _ = try? await front.mail.beat(gateway: id, milliseconds: 1)
    }

    func begin(_ id: GatewayID) async throws {
        try await ledger.beginGateway(id)
        try await front.mail.beat(gateway: id, milliseconds: Self.heartbeatMilliseconds)
    }

    // MARK: Messages

    func handle(_ frame: AgentFrame, _ session: Session) {
        note(frame, session)
        switch frame {
        case .hello, .ping: break
        case .renew(let request): renew(request, session)
        case .accepted(let accepted):
            note(journal: accepted.journalPosition, session)
            counters.increment("accepted")
        case .started(let started):
            note(journal: started.journalPosition, session)
            let start = (
                session.organization, session.device, started.name.run, started.name.token, started.at
            )
            let isKept = starts.withLock { starts in
                guard starts[session.device, default: []].count < Self.startsPerDeviceMax else {
                    return false
                }
                starts[session.device, default: []].append(start)
                return true
            }
            // A courtesy to watchers: the result says when it started.
            if !isKept { counters.increment("startsDropped") }
        case .finished(let finished):
            FaultPoint.reach(.gatewayAfterResult)
            settler.submit(
                Settler.Item(
                    result: AttemptResult(finished, session), session: session, name: finished.name,
                    trace: finished.trace))
        case .rejected(let rejected):
            // The word is the agent's: only known ones become names of counts.
            let known = Self.rejections.contains(rejected.code)
            counters.increment("rejected.\(known ? rejected.code : "other")")
            settler.submit(
                Settler.Item(
                    result: AttemptResult(rejected, session), session: session, name: rejected.name,
                    trace: rejected.trace))
        }
    }

    private func recordStarts() async {
        while !Task.isCancelled {
            let batch = starts.withLock { starts in
                var batch: [Start] = []
                while batch.count < 256, let (device, first) = starts.first {
                    batch += first
                    starts[device] = nil
                }
                return batch
            }
            do {
                try await ledger.start(batch)
            } catch {
                // `running` is a courtesy to watchers: the result says when it started.
                logger.debug("starts were not recorded", metadata: ["error": "\(error)"])
            }
            // Cancellation ends the wait early, which is what is wanted.
            if batch.count < 256 { try? await Task.sleep(for: .milliseconds(100)) }
        }
    }

    /// What is done once a second.
    private func keepUp() async {
        var seconds = 1
        while !Task.isCancelled {
            await writeJournals()
            await wakeFlapping()
            await pushKeySet()
            await answerRenewals()
            if seconds % Self.lookSeconds == 0 { await endUnwelcome() }
            seconds += 1
            // Cancellation ends the wait early, which is what is wanted.
            try? await Task.sleep(for: .seconds(1))
        }
    }

    /// Hands a key set that is new to everybody who is here and takes it now; the others get it by their next
    /// welcome.
    private func pushKeySet() async {
        do {
            try await keySet.look()
        } catch {
            logger.warning("key sets were not looked for", metadata: ["error": "\(error)"])
            return
        }
        guard let newest = keySet.takeUnpushed() else { return }
        var pushed = 0
        for session in sessions.all where session.isServing && session.features.contains(.statements) {
            if session.send([], behind: newest) { pushed += 1 }
        }
        counters.increment("keySetsPushed", by: pushed)
        logger.notice("a newer key set is handed to agents", metadata: ["sessions": "\(pushed)"])
    }

    /// What is done once a second, whatever else takes long.
    private func lookForRevoked() async {
        while !Task.isCancelled {
            await endRevoked()
            // Cancellation ends the wait early, which is what is wanted.
            try? await Task.sleep(for: .seconds(1))
        }
    }

    /// Ends the sessions of devices whose certificates were revoked just now, in case nobody said so.
    private func endRevoked() async {
        do {
            let revoked = try await ledger.devicesRevoked(
                withinSeconds: Self.revokedSeconds, limit: Self.revokedMax)
            end(revoked.compactMap { sessions[$0] })
        } catch {
            logger.warning("revoked certificates were not looked for", metadata: ["error": "\(error)"])
        }
    }

    /// Ends the sessions of devices that may hold none any more, in case nobody said so.
    func endUnwelcome() async {
        let held = sessions.all.filter(\.isServing)
        do {
            let gone = Set(try await ledger.unwelcome(held.map { ($0.organization, $0.device) }))
            end(held.filter { gone.contains($0.device) })
        } catch {
            logger.warning("sessions were not looked through", metadata: ["error": "\(error)"])
        }
    }

    /// Ends sessions of devices that are archived, suspended or moved; a new hello says what follows.
    func end(_ sessions: [Session]) {
        let ended = sessions.filter { !$0.isClosed }
        guard !ended.isEmpty else { return }
        counters.increment("sessionsEnded", by: ended.count)
        for session in ended { session.close(.changed) }
    }

    /// A device has said how far its journal is.
    func note(journal position: Int, _ session: Session) {
        let place = JournalPlace(copy: session.journalCopy, position: position)
        journals.note(place, of: session.device, session.organization)
    }

    /// A journal that is restored from a copy must not pass for the one that said more, so what agents say
    /// between their hellos is written too.
    private func writeJournals() async {
        let batch = journals.pending
        do {
            journals.forget(try await ledger.note(journals: batch))
        } catch {
            logger.warning(
                "places in journals were not written",
                metadata: ["devices": "\(batch.count)", "error": "\(error)"])
        }
    }

    private static let startsPerDeviceMax = 64
    /// For how long a revocation is looked for: longer than it takes to commit; and of how many, the latest.
    /// The look through all sessions finds what is left.
    private static let revokedSeconds = 15
    private static let revokedMax = 10_000
    /// How often all sessions are looked through.
    private static let lookSeconds = 30
    private static let rejections: Set<String> = [
        "signature", "type", "deployment", "organization", "target", "expired", "notYetValid", "replay",
        "attempts", "content", "full", "secret",
    ]
}
