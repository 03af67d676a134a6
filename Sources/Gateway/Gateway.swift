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
    /// How often agents speak up.
    package var pace = SessionPace()
    /// Event loops; one serves some thousand agents.
    package var threads = 1

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
    let settler: Settler
    let logger: Logger
    /// What was counted.
    package let counters = EventCounters()
    private let configuration: GatewayConfiguration
    private let deployment: DeploymentID
    private let tls: @Sendable () -> TLSContext
    private let inbox: RedisBlockingConnection
    private let incarnation: Mutex<GatewayID>
    private let starts = Mutex<[DeviceID: [Start]]>([:])
    private let positions = JournalPositions()
    private let waitingHellos = Atomic(0)
    private let events: AsyncStream<Event>
    private let post: AsyncStream<Event>.Continuation
    private let group: MultiThreadedEventLoopGroup

    private typealias Start = (OrganizationID, DeviceID, RunID, AttemptToken, Instant)

    private enum Event: Sendable {
        case hello(Hello, Session, PeerIdentity)
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
            group: group, tls: tls, pace: configuration.pace,
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
            tasks.addTask { await self.beat() }
            tasks.addTask { await self.deliver() }
            tasks.addTask { await self.recordStarts() }
            tasks.addTask { await self.recordPositions() }
        }
        // In a task of its own: this one is cancelled, and what it still has to say must be said.
        await Task { await self.stop(channel) }.value
        await writePositions()
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
        case .accepted(let accepted):
            positions.note(accepted.journalPosition, of: session.device, session.organization)
            counters.increment("accepted")
        case .started(let started):
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

    /// A journal that is restored from a copy must not pass for the one that said more: what an agent says
    /// between its hellos is written within a second.
    private func recordPositions() async {
        while !Task.isCancelled {
            await writePositions()
            // Cancellation ends the wait early, which is what is wanted.
            try? await Task.sleep(for: .seconds(1))
        }
    }

    private func writePositions() async {
        let batch = positions.pending
        do {
            positions.forget(try await ledger.note(positions: batch))
        } catch {
            logger.warning(
                "journal positions were not written",
                metadata: ["devices": "\(batch.count)", "error": "\(error)"])
        }
    }

    // MARK: Sessions

    /// Hellos wait for their turn, up to a limit: an agent that would wait longer than it has patience is
    /// better told to come again.
    private func greet(_ hello: Hello, _ session: Session, _ peer: PeerIdentity) {
        guard waitingHellos.add(1, ordering: .relaxed).newValue <= Self.waitingHellosMax else {
            waitingHellos.subtract(1, ordering: .relaxed)
            counters.increment("refused.busy")
            // Who is served already asks again in a while.
            if !session.isServing { session.close(.busy) }
            return
        }
        post.yield(.hello(hello, session, peer))
    }

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
                    case .hello(let hello, let session, let peer):
                        self.waitingHellos.subtract(1, ordering: .relaxed)
                        // Who has gone already is not answered.
                        if !session.hasEnded { await self.welcome(hello, session, peer) }
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
            // A stop ends what is under way here, and is no error.
            guard !Task.isCancelled else { return session.close(.goingAway) }
            counters.increment("hellosFailed")
            logger.warning(
                "a hello could not be answered",
                metadata: ["device.id": "\(session.device)", "error": "\(error)"])
            // As above.
            if !session.isServing { session.close(.internalError) }
        }
    }

    /// Judges the device, writes its presence, and only then compares what it holds with what the server
    /// believes. A hello that is repeated is answered alike, but for the presence, which stands.
    private func reconcile(_ hello: Hello, _ session: Session, _ peer: PeerIdentity) async throws {
        let identity = try await judge(peer)
        let isFirst = !session.isServing
        if isFirst, try await !register(session) { return }
        let open = try await ledger.openAttempts(of: peer.device, organization: peer.organization)
        let held = hello.held.filter { name in !open.contains { $0.name == name } }
        let amendable = try await ledger.amendable(
            held.map(\.run), device: peer.device, organization: peer.organization)
        // Nobody restores a journal under the session that speaks for it.
        let position = isFirst ? max(identity.journalPosition, positions[peer.device]) : 0
        let plan = HelloPlan(hello, open: open, amendable: amendable, journalPosition: position)
        // Before anything else is sent, and before the device counts as what its journal says now.
        if !plan.lost.isEmpty {
            let settlements = try await ledger.settle(plan.lost.map { AttemptResult(lost: $0, session) })
            counters.count(settlements)
            await front.settled(settlements.compactMap(\.settledRun))
        }
        if plan.isRestored {
            counters.increment("journalRegressed")
            positions.forget([peer.device: Int.max])
        }
        let said = session.welcome(
            Welcome(
                session: session.number,
                assignment: hello.assignmentVersion < identity.assignmentVersion ? identity.assignment : nil,
                drop: plan.drop, cancel: plan.cancel, pingSeconds: configuration.pace.pingSeconds,
                helloSeconds: configuration.pace.helloSeconds))
        for frame in said { handle(frame, session) }
        // Taken first: noted as sent, and returned only if it still may be.
        let taken = try await ledger.take(plan.resend.map { ($0.organization, $0.run, $0.token) })
        send(taken, try await contents.contents(of: taken.map { ($0.organization, $0.job) }))
        let returned = try await ledger.reconnect([(peer.organization, peer.device)])
        await front.offer(returned, and: returned.isEmpty ? [] : [peer.organization])
        try await ledger.seen(
            peer.device, organization: peer.organization, hostname: hello.hostname, platform: hello.platform,
            agentVersion: hello.agentVersion, journalPosition: hello.journalPosition,
            restored: plan.isRestored)
        counters.increment(isFirst ? "hellos" : "hellosRepeated")
    }

    /// Whether the device may hold a session now.
    private func judge(_ peer: PeerIdentity) async throws -> DeviceIdentity {
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
        return identity
    }

    /// Says in the queue, and here, that the device's session is this one; `false` if it is over or another
    /// is newer.
    private func register(_ session: Session) async throws -> Bool {
        // Said again if a new incarnation was taken meanwhile, which may not have seen this session.
        var gateway: GatewayID
        repeat {
            gateway = id
            let named = gateway
            session.assign(
                number: try await front.call { epoch in
                    try await self.front.queue.present(device: session.device, gateway: named, epoch: epoch)
                })
            let superseded = sessions.replace(with: session)
            superseded?.close(.superseded)
            if superseded === session { return false }
        } while gateway != id
        // The connection may have ended before it was known here: then nobody else takes it back.
        if session.hasEnded {
            await leave(session)
            return false
        }
        return true
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
                    last = try await reincarnate()
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

    /// Takes a new incarnation: first says whom it holds, for until then those devices pass for unknown, then
    /// wakes their waiting runs. One part after the other, and beating in between, so that a gateway with
    /// many sessions neither floods the servers nor lapses over it.
    /// - Returns: when it beat last.
    private func reincarnate() async throws -> ContinuousClock.Instant {
        let old = id
        let new = GatewayID.new(at: .now())
        var last = ContinuousClock.now
        try await begin(new)
        incarnation.withLock { $0 = new }
        let all = sessions.all
        let parts = stride(from: 0, to: all.count, by: 128).map { all[$0..<min($0 + 128, all.count)] }
        for part in parts {
            let kept = try await front.call { epoch in
                try await self.front.queue.republish(
                    part.map { (device: $0.device, session: $0.number) }, gateway: new, epoch: epoch)
            }
            // A later session of the device is known elsewhere: the one here is a leftover.
            for (session, isKept) in zip(part, kept) where !isKept { session.close(.superseded) }
            // One that ended meanwhile took itself back from the incarnation before.
            for session in part where session.hasEnded {
                _ = try await front.call { epoch in
                    try await self.front.queue.absent(
                        device: session.device, gateway: new, session: session.number, epoch: epoch)
                }
            }
            try await beat(new, after: &last)
        }
        // What lies in the old inbox was never sent; the reclaimer returns it.
        try await front.queue.beat(gateway: old, milliseconds: 1)
        for part in parts {
            let returned = try await ledger.reconnect(part.map { ($0.organization, $0.device) })
            await front.offer([], and: returned.map(\.organization))
            try await beat(new, after: &last)
        }
        logger.notice(
            "gateway took a new incarnation",
            metadata: ["gateway.id": "\(new)", "before": "\(old)", "sessions": "\(all.count)"])
        return last
    }

    /// Beats; throws if the incarnation has lapsed since the beat before.
    private func beat(_ id: GatewayID, after last: inout ContinuousClock.Instant) async throws {
        // The heartbeat's time runs from when Redis gets it, which is not before this.
        let sent = ContinuousClock.now
        try await front.queue.beat(gateway: id, milliseconds: Self.heartbeatMilliseconds)
        guard sent - last <= .milliseconds(Self.heartbeatMilliseconds) else {
            throw GatewayError(.lapsed, "the heartbeat lapsed while the sessions were published")
        }
        last = sent
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
                let readable = letters.compactMap { InboxLetter($0.payload) }
                if readable.count < letters.count {
                    logger.error(
                        "letters of another release are left to their deadlines",
                        metadata: ["letters": "\(letters.count - readable.count)"])
                }
                try await handle(readable)
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
        var items: [InboxLetter.Item] = []
        for letter in letters {
            switch letter {
            case .dispatch(let dispatched): items += dispatched
            case .cancel(let items):
                for item in items {
                    sessions[item.device]?.send([
                        .cancel(AttemptName(run: item.run, attempt: item.attempt, token: item.token))
                    ])
                }
            }
        }
        guard !items.isEmpty else { return }
        let (here, gone) = try await divide(items)
        if !gone.isEmpty {
            try await withdrawPresence(of: Set(gone.map(\.device)))
            await front.returned(try await ledger.undeliver(gone.map { ($0.organization, $0.run, $0.token) }))
        }
        guard !here.isEmpty else { return }
        // Noted as sent and committed before it is: a crash in between repeats the same attempt at the next
        // hello. What is to be sent is read meanwhile.
        async let contents = contents.contents(of: here.map { ($0.organization, $0.job) })
        let taken = try await ledger.take(here.map { ($0.organization, $0.run, $0.token) })
        send(taken, try await contents)
    }

    /// Which of these attempts are for a device whose session is here.
    ///
    /// A session that the queue knows a later one of is half-open: its device has gone to another gateway,
    /// whose hello may have been answered before this attempt was marked. What were sent here would be heard
    /// by nobody. If the later session comes after this look, its hello finds the attempt.
    private func divide(
        _ items: [InboxLetter.Item]
    ) async throws -> (here: [InboxLetter.Item], gone: [InboxLetter.Item]) {
        let presences = try await front.queue.presence(of: items.map(\.device))
        var (here, gone): ([InboxLetter.Item], [InboxLetter.Item]) = ([], [])
        for (item, presence) in zip(items, presences) {
            let session = sessions[item.device]
            // A new data set may not know any session yet.
            let isHere = session.map { $0.number >= presence?.session ?? 0 } ?? false
            if isHere { here.append(item) } else { gone.append(item) }
        }
        return (here, gone)
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

    private func send(_ deliveries: [Delivery], _ contents: [JobID: JobContents.Content]) {
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
    private static let waitingHellosMax = 4_096
    private static let startsPerDeviceMax = 64
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
