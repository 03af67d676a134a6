package import Domain
package import Engine
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
    /// Seconds between an agent's pings; three periods of silence end a session.
    package var pingSeconds = 30
    /// Event loops; one serves some thousand agents.
    package var threads = 1

    /// A gateway on an address.
    package init(host: String, port: Int) {
        self.host = host
        self.port = port
    }
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
    let settler: Settler
    let logger: Logger
    /// What was counted.
    package let counters = GatewayCounters()
    private let configuration: GatewayConfiguration
    private let deployment: DeploymentID
    private let tls: TLSContext
    private let inbox: RedisBlockingConnection
    private let incarnation: Mutex<GatewayID>
    private let starts = Mutex<[(OrganizationID, DeviceID, RunID, AttemptToken, Instant)]>([])
    private let events: AsyncStream<Event>
    private let post: AsyncStream<Event>.Continuation
    private let group: MultiThreadedEventLoopGroup

    private enum Event: Sendable {
        case hello(Hello, Session, PeerIdentity)
        case closed(Session)
    }

    /// A gateway on its own login; `inbox` is a connection of its own, for it blocks.
    package init(
        configuration: GatewayConfiguration, deployment: DeploymentID, tls: TLSContext, ledger: Ledger,
        front: QueueFront,
        inbox: RedisBlockingConnection, logger: Logger
    ) {
        self.configuration = configuration
        self.deployment = deployment
        self.tls = tls
        self.ledger = ledger
        self.front = front
        self.inbox = inbox
        self.logger = logger
        contents = JobContents(ledger: ledger)
        settler = Settler(ledger: ledger, counters: counters, logger: logger) { runs in
            await front.settled(runs)
        }
        incarnation = Mutex(GatewayID.new(at: .now()))
        (events, post) = AsyncStream.makeStream()
        group = MultiThreadedEventLoopGroup(numberOfThreads: configuration.threads)
    }

    /// The incarnation in force.
    package var id: GatewayID { incarnation.withLock { $0 } }

    /// How many sessions it holds.
    package var sessionCount: Int { sessions.count }

    /// Serves until the task is cancelled, then closes its sessions, commits what came in, and ends its
    /// incarnation.
    package func run(onBound: @escaping @Sendable (Int) async -> Void) async throws {
        try await begin(id)
        let listener = Listener(
            group: group, tls: tls, pingSeconds: configuration.pingSeconds,
            actions: AgentHandler.Actions(
                hello: { self.post.yield(.hello($0, $1, $2)) }, message: { self.handle($0, $1) },
                closed: { self.post.yield(.closed($0)) },
                violation: { self.counters.increment("closed.\($0.code)") }))
        let channel = try await listener.bind(host: configuration.host, port: configuration.port)
        await onBound(channel.localAddress?.port ?? configuration.port)
        let settling = Task { await settler.run() }
        await withTaskGroup(of: Void.self) { tasks in
            tasks.addTask { await self.answer() }
            tasks.addTask { await self.beat() }
            tasks.addTask { await self.deliver() }
            tasks.addTask { await self.recordStarts() }
        }
        // In a task of its own: this one is cancelled, and what it still has to say must be said.
        await Task { await self.stop(channel) }.value
        settler.finish()
        await settling.value
        // Everything is closed; the threads need not be waited for.
        try? await group.shutdownGracefully()
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
        try? await front.queue.beat(gateway: id, milliseconds: 1)
    }

    private func begin(_ id: GatewayID) async throws {
        try await ledger.beginGateway(id)
        try await front.queue.beat(gateway: id, milliseconds: Self.heartbeatMilliseconds)
    }

    // MARK: Messages

    private func handle(_ frame: AgentFrame, _ session: Session) {
        switch frame {
        case .hello, .ping: break
        case .accepted: counters.increment("accepted")
        case .started(let started):
            starts.withLock {
                $0.append(
                    (session.organization, session.device, started.name.run, started.name.token, started.at))
            }
        case .finished(let finished):
            settler.submit(
                Settler.Item(result: AttemptResult(finished, session), session: session, name: finished.name))
        case .rejected(let rejected):
            // The word is the agent's: only known ones become names of counts.
            let known = Self.rejections.contains(rejected.code)
            counters.increment("rejected.\(known ? rejected.code : "other")")
            settler.submit(
                Settler.Item(result: AttemptResult(rejected, session), session: session, name: rejected.name))
        }
    }

    private func recordStarts() async {
        while !Task.isCancelled {
            let batch = starts.withLock { starts in
                let batch = Array(starts.prefix(256))
                starts.removeFirst(batch.count)
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

    // MARK: Sessions

    private func answer() async {
        await withTaskGroup(of: Void.self) { tasks in
            var running = 0
            for await event in events {
                if running >= Self.hellosAtOnce {
                    await tasks.next()
                    running -= 1
                }
                running += 1
                tasks.addTask {
                    switch event {
                    case .hello(let hello, let session, let peer): await self.welcome(hello, session, peer)
                    case .closed(let session): await self.leave(session)
                    }
                }
            }
        }
    }

    private func welcome(_ hello: Hello, _ session: Session, _ peer: PeerIdentity) async {
        do {
            try await reconcile(hello, session, peer)
        } catch let reason as Refusal {
            counters.increment("refused.\(reason.code)")
            session.close(.refused(reason.message))
        } catch {
            logger.warning(
                "a hello could not be answered",
                metadata: ["device.id": "\(session.device)", "error": "\(error)"])
            session.close(.internalError)
        }
    }

    /// Judges the device, writes its presence, and only then compares what it holds with what the server
    /// believes.
    private func reconcile(_ hello: Hello, _ session: Session, _ peer: PeerIdentity) async throws {
        guard peer.deployment == deployment else {
            throw Refusal("deployment", "the certificate is of another installation")
        }
        guard
            let identity = try await ledger.identity(
                peer.device, organization: peer.organization, certificateSerial: peer.serial)
        else { throw Refusal("device", "no such device") }
        guard identity.keyHash == peer.keyHash else {
            throw Refusal("key", "the certificate is not for this device's key")
        }
        guard !identity.certificateRevoked else { throw Refusal("revoked", "the certificate is revoked") }
        guard identity.certificateEnd > Instant.now() else {
            throw Refusal("expired", "the certificate has expired")
        }
        guard identity.isActive else { throw Refusal("suspended", "the device is suspended") }
        // Said again if a new incarnation was taken meanwhile, which may not have seen this session.
        var gateway: GatewayID
        repeat {
            gateway = id
            let named = gateway
            session.assign(
                number: try await front.call { epoch in
                    try await self.front.queue.present(device: peer.device, gateway: named, epoch: epoch)
                })
            let superseded = sessions.replace(with: session)
            superseded?.close(.superseded)
            if superseded === session { return }
        } while gateway != id
        // The connection may have ended before it was known here: then nobody else takes it back.
        if session.hasEnded { return await leave(session) }
        let open = try await ledger.openAttempts(of: peer.device, organization: peer.organization)
        let held = hello.held.filter { name in !open.contains { $0.name == name } }
        let amendable = try await ledger.amendable(
            held.map(\.run), device: peer.device, organization: peer.organization)
        let plan = HelloPlan(
            hello, open: open, amendable: amendable, journalPosition: identity.journalPosition)
        session.welcome(
            Welcome(
                session: session.number,
                assignment: hello.assignmentVersion < identity.assignmentVersion ? identity.assignment : nil,
                drop: plan.drop, cancel: plan.cancel, pingSeconds: configuration.pingSeconds))
        for lost in plan.lost {
            settler.submit(
                Settler.Item(result: AttemptResult(lost: lost, session), session: session, name: lost.name))
        }
        // Taken first: noted as sent, and returned only if it still may be.
        try await send(ledger.take(plan.resend.map { ($0.organization, $0.run, $0.token) }))
        let returned = try await ledger.reconnect([(peer.organization, peer.device)])
        await front.offer(returned, and: returned.isEmpty ? [] : [peer.organization])
        try await ledger.seen(
            peer.device, organization: peer.organization, hostname: hello.hostname, platform: hello.platform,
            agentVersion: hello.agentVersion, journalPosition: hello.journalPosition)
        counters.increment("hellos")
    }

    private func leave(_ session: Session) async {
        guard sessions.remove(session) else { return }
        let (device, number, gateway) = (session.device, session.number, id)
        do {
            _ = try await front.call { epoch in
                try await self.front.queue.absent(
                    device: device, gateway: gateway, session: number, epoch: epoch)
            }
            try await ledger.left(device, organization: session.organization)
        } catch {
            logger.debug(
                "the end of a session was not noted",
                metadata: ["device.id": "\(device)", "error": "\(error)"])
        }
    }

    // MARK: Incarnation

    /// Beats, and takes a new incarnation when the beat has lapsed or the data set is another one.
    private func beat() async {
        var last = ContinuousClock.now
        var epoch: Epoch?
        // Stays until a new incarnation has been taken whole.
        var isStale = false
        while !Task.isCancelled {
            do {
                // The heartbeat's time runs from when Redis gets it, which is not before this.
                let sent = ContinuousClock.now
                try await front.queue.beat(gateway: id, milliseconds: Self.heartbeatMilliseconds)
                if sent - last > .milliseconds(Self.heartbeatMilliseconds) { isStale = true }
                last = sent
                let current = try await front.queue.epoch()
                if let current, current != epoch {
                    // Before the first data set was seen nobody can have been noted in it.
                    if epoch != nil || sessions.count > 0 { isStale = true }
                    epoch = current
                    front.forgetEpoch()
                }
                if isStale, current != nil {
                    try await reincarnate()
                    isStale = false
                }
            } catch {
                guard !Task.isCancelled else { return }
                logger.warning("heartbeat failed", metadata: ["gateway.id": "\(id)", "error": "\(error)"])
            }
            // Cancellation ends the wait early, which is what is wanted.
            try? await Task.sleep(for: .milliseconds(Self.heartbeatMilliseconds / 5))
        }
    }

    private func reincarnate() async throws {
        let old = id
        let new = GatewayID.new(at: .now())
        try await begin(new)
        incarnation.withLock { $0 = new }
        let all = sessions.all
        for part in stride(from: 0, to: all.count, by: 128).map({ all[$0..<min($0 + 128, all.count)] }) {
            let kept = try await front.call { epoch in
                try await self.front.queue.republish(
                    part.map { (device: $0.device, session: $0.number) }, gateway: new, epoch: epoch)
            }
            // A later session of the device is known elsewhere: the one here is a leftover.
            for (session, isKept) in zip(part, kept) where !isKept { session.close(.superseded) }
            let returned = try await ledger.reconnect(part.map { ($0.organization, $0.device) })
            await front.offer([], and: returned.map(\.organization))
        }
        // What lies in the old inbox was never sent; the reclaimer returns it.
        try await front.queue.beat(gateway: old, milliseconds: 1)
        logger.notice(
            "gateway took a new incarnation",
            metadata: ["gateway.id": "\(new)", "before": "\(old)", "sessions": "\(all.count)"])
    }

    // MARK: Delivery

    private func deliver() async {
        var reading = id
        var last = "0"
        while !Task.isCancelled {
            if reading != id { (reading, last) = (id, "0") }
            do {
                let letters = try await front.queue.inbox(
                    gateway: reading, after: last, count: 64, wait: .milliseconds(500), on: inbox)
                guard let newest = letters.last else { continue }
                try await handle(letters.compactMap { InboxLetter($0.payload) })
                try await front.queue.discard(gateway: reading, letters.map(\.id))
                last = newest.id
            } catch {
                guard !Task.isCancelled else { return }
                logger.warning("delivery goes on after an error", metadata: ["error": "\(error)"])
                // Cancellation ends the wait early, which is what is wanted.
                try? await Task.sleep(for: .milliseconds(200))
            }
        }
    }

    private func handle(_ letters: [InboxLetter]) async throws {
        var here: [InboxLetter.Item] = []
        var gone: [InboxLetter.Item] = []
        for letter in letters {
            switch letter {
            case .dispatch(let items):
                for item in items {
                    if sessions[item.device] == nil { gone.append(item) } else { here.append(item) }
                }
            case .cancel(let items):
                for item in items {
                    sessions[item.device]?.send([
                        .cancel(AttemptName(run: item.run, attempt: item.attempt, token: item.token))
                    ])
                }
            }
        }
        if !gone.isEmpty {
            try await withdrawPresence(of: Set(gone.map(\.device)))
            let back = try await ledger.undeliver(gone.map { ($0.organization, $0.run, $0.token) })
            await front.offer(back)
        }
        // Noted as sent and committed before it is: a crash in between repeats the same attempt at the next
        // hello.
        try await send(ledger.take(here.map { ($0.organization, $0.run, $0.token) }))
    }

    /// Presence that still names this gateway for devices that it does not hold, as when its withdrawal was
    /// lost.
    private func withdrawPresence(of devices: Set<DeviceID>) async throws {
        let devices = Array(devices)
        for (device, presence) in zip(devices, try await front.queue.presence(of: devices)) {
            guard let presence, presence.gateway == id, sessions[device] == nil else { continue }
            _ = try await front.call { epoch in
                try await self.front.queue.absent(
                    device: device, gateway: presence.gateway, session: presence.session, epoch: epoch)
            }
        }
    }

    private func send(_ deliveries: [Delivery]) async throws {
        guard !deliveries.isEmpty else { return }
        let jobs = Dictionary(deliveries.map { ($0.job, $0.organization) }) { first, _ in first }
        let contents = try await contents.contents(of: jobs.map { ($0.value, $0.key) })
        var frames: [DeviceID: [GatewayFrame]] = [:]
        for delivery in deliveries {
            guard let content = contents[delivery.job] else { continue }
            let name = AttemptName(run: delivery.run, attempt: delivery.attempt, token: delivery.token)
            if delivery.cancelRequested { frames[delivery.device, default: []].append(.cancel(name)) }
            let leaf = delivery.leaf
            frames[delivery.device, default: []].append(
                .dispatch(
                    Dispatch(
                        name: name, job: content.statement, leafIndex: leaf,
                        proof: leaf.map { leaf in content.tree?.proof(of: leaf) ?? [] })))
        }
        for (device, frames) in frames { sessions[device]?.send(frames) }
        counters.increment("dispatched", by: deliveries.count)
    }

    private static let heartbeatMilliseconds = 5_000
    private static let hellosAtOnce = 64
    private static let rejections: Set<String> = [
        "signature", "type", "deployment", "organization", "target", "expired", "notYetValid", "replay",
        "attempts", "content", "full",
    ]
}

/// Why a device may not hold a session.
private struct Refusal: Error {
    let code: String
    let message: String

    init(_ code: String, _ message: String) {
        self.code = code
        self.message = message
    }
}
