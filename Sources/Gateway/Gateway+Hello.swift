import Domain
import Engine
import Ledger
import Logging
import Streams
import Synchronization
import Trust
import Wire

/// How a hello is judged and answered, and what becomes of a session that ends.
extension Gateway {
    /// Hellos wait for their turn, up to a limit: an agent that would wait longer than it has patience is
    /// better told to come again.
    func greet(_ hello: Hello, _ session: Session, _ peer: PeerIdentity) {
        guard waitingHellos.add(1, ordering: .relaxed).newValue <= Self.waitingHellosMax else {
            waitingHellos.subtract(1, ordering: .relaxed)
            counters.increment("refused.busy")
            // Who is served already asks again in a while.
            if !session.isServing { session.close(.busy) }
            return
        }
        post.yield(.hello(hello, session, peer, at: .now))
    }

    func answer() async {
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
                    case .hello(let hello, let session, let peer, let arrival):
                        self.waitingHellos.subtract(1, ordering: .relaxed)
                        // Who has gone already is not answered.
                        if !session.hasEnded { await self.welcome(hello, session, peer, at: arrival) }
                    case .closed(let session): await self.leave(session)
                    }
                }
            }
        }
    }

    private func welcome(
        _ hello: Hello, _ session: Session, _ peer: PeerIdentity, at arrival: ContinuousClock.Instant
    ) async {
        do {
            try await reconcile(hello, session, peer, at: arrival)
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
    /// believes. A hello that is repeated is answered alike.
    private func reconcile(
        _ hello: Hello, _ session: Session, _ peer: PeerIdentity, at arrival: ContinuousClock.Instant
    ) async throws {
        // Before the row is read: what is not here any more then is there.
        let unwritten = journals[peer.device]
        let identity = try await judge(peer)
        let isFirst = !session.isServing
        if isFirst {
            session.settle(in: identity.organization)
        } else if session.organization != identity.organization {
            // It speaks for a place that the device has left.
            return session.close(.changed)
        }
        guard try await isFirst ? register(session, helloAt: arrival) : publish(session) else { return }
        if isFirst {
            let known = max(identity.journal, unwritten ?? identity.journal)
            session.journalCopy = known.copy
            guard try await answer(hello, session, identity, journalPosition: known.position) else { return }
        } else {
            // Nobody restores a journal under the session that speaks for it.
            guard try await answer(hello, session, identity, journalPosition: 0) else { return }
        }
        note(journal: hello.journalPosition, session)
        if !isFirst || isCalm(peer.device) { try await wake([session]) }
        try await ledger.seen(
            peer.device, organization: session.organization, hostname: hello.hostname,
            platform: hello.platform,
            agentVersion: hello.agentVersion,
            clockSkewMilliseconds: hello.at.map { Self.skew(of: $0, helloAt: arrival) })
        counters.increment(isFirst ? "hellos" : "hellosRepeated")
    }

    /// Compares what the device holds with what the server believes, says what follows, and sends what the
    /// device lacks; `false` if the session is over.
    private func answer(
        _ hello: Hello, _ session: Session, _ identity: DeviceIdentity, journalPosition: Int
    ) async throws -> Bool {
        let (device, organization) = (session.device, session.organization)
        let open = try await openAttempts(of: device, organization)
        let held = hello.held.filter { name in !open.contains { $0.name == name } }
        let amendable = try await ledger.amendable(
            held.map(\.run), device: device, organization: organization)
        let plan = HelloPlan(hello, open: open, amendable: amendable, journalPosition: journalPosition)
        // Another session of the device may have come meanwhile, and speaks for it now.
        guard sessions[device] === session else { return false }
        // Before anything else is sent, and before the device counts as what its journal says now.
        if !plan.lost.isEmpty {
            let settlements = try await ledger.settle(plan.lost.map { AttemptResult(lost: $0, session) })
            counters.count(settlements)
            await front.settled(settlements.compactMap(\.settledRun))
        }
        if plan.isRestored {
            counters.increment("journalRegressed")
            let place = JournalPlace(copy: session.journalCopy + 1, position: hello.journalPosition)
            try await ledger.restored(device, organization: organization, place: place)
            session.journalCopy = place.copy
        }
        // As with jobs: an assignment by a new key comes with the key set that names it. One that is damaged
        // names no key, and is refused.
        let assigned = try? SignedStatement(encoded: identity.assignment)
        try await keySet.meet([assigned?.keyID(as: .assignment)].compactMap(\.self))
        let newerKeySet = keySet.newer(than: hello.keySetVersion)
        var welcome = Welcome(
            session: session.number, keySet: newerKeySet?.statement.bytes,
            assignment: hello.assignmentVersion < identity.assignmentVersion ? identity.assignment : nil,
            drop: plan.drop, cancel: plan.cancel, pingSeconds: configuration.pace.pingSeconds,
            helloSeconds: configuration.pace.helloSeconds)
        if session.features.contains(.clock) { welcome.at = .now() }
        if session.features.contains(.limits) { welcome.limits = .own }
        let keySetVersion = newerKeySet?.version ?? hello.keySetVersion
        guard let said = session.welcome(welcome, keySetVersion: keySetVersion) else { return false }
        for frame in said { handle(frame, session) }
        // Taken first: noted as sent, and returned only if it still may be.
        let taken = try await ledger.take(plan.resend.map { ($0.organization, $0.run, $0.token) })
        send(taken, try await contents.contents(of: taken.map { ($0.organization, $0.job) }), to: session)
        return true
    }

    /// The attempts that the server believes a device to have. Those that were given up while it was silent
    /// are open again from now on: what it holds and what it does not know is judged alike.
    private func openAttempts(
        of device: DeviceID, _ organization: OrganizationID
    ) async throws -> [Delivery] {
        let open = try await ledger.openAttempts(of: device, organization: organization)
        let lapsed = open.filter(\.isLapsed)
        guard !lapsed.isEmpty else { return open }
        let revived = try await ledger.revive(lapsed.map { ($0.organization, $0.run, $0.token) })
        return open.filter { !$0.isLapsed || revived.contains($0.run) }
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
    private func register(_ session: Session, helloAt arrival: ContinuousClock.Instant) async throws -> Bool {
        // An agent that had no answer for so long has gone, and is perhaps served elsewhere by now.
        guard ContinuousClock.now - arrival < Self.patience else {
            counters.increment("refused.busy")
            session.close(.busy)
            return false
        }
        // Said again if a new incarnation was taken meanwhile, which may not have seen this session.
        var gateway: GatewayID
        repeat {
            gateway = id
            let named = gateway
            let part = front.part(of: session.organization)
            session.assign(
                number: try await part.call { epoch in
                    try await part.queue.present(device: session.device, gateway: named, epoch: epoch)
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

    /// Says again in the queue that the device's session is this one, in case that was lost; `false`, and the
    /// session is over, if a later one is known there.
    private func publish(_ session: Session) async throws -> Bool {
        var gateway: GatewayID
        repeat {
            gateway = id
            let (named, number) = (gateway, session.number)
            let part = front.part(of: session.organization)
            let isKept = try await part.call { epoch in
                try await part.queue.republish(
                    [(device: session.device, session: number)], gateway: named, epoch: epoch)
            }
            guard isKept == [true] else {
                session.close(.superseded)
                return false
            }
        } while gateway != id
        guard session.hasEnded else { return true }
        try await withdraw(session, from: gateway)
        return false
    }

    func leave(_ session: Session) async {
        guard sessions.remove(session) else { return }
        do {
            try await withdraw(session, from: id)
            try await ledger.left(
                session.device, organization: session.organization, departure: session.departure)
        } catch {
            logger.debug(
                "the end of a session was not noted",
                metadata: ["device.id": "\(session.device)", "error": "\(error)"])
        }
    }

    /// Takes a session's presence back, if it is still this one's.
    func withdraw(_ session: Session, from gateway: GatewayID) async throws {
        let (device, number) = (session.device, session.number)
        let part = front.part(of: session.organization)
        _ = try await part.call { epoch in
            try await part.queue.absent(
                device: device, gateway: gateway, session: number, epoch: epoch)
        }
    }

    // MARK: Waiting runs

    func wakeFlapping() async {
        let due = flapping.withLock { $0.takeDue(now: .now) }.compactMap { sessions[$0] }
        do {
            try await wake(due)
        } catch {
            // The next hello wakes them, or the look that workers take at those who wait.
            logger.debug("waiting runs were not woken", metadata: ["error": "\(error)"])
        }
    }

    /// Moves the waiting runs of these sessions' devices to `queued`.
    private func wake(_ sessions: [Session]) async throws {
        let returned = try await ledger.reconnect(sessions.map { ($0.organization, $0.device) })
        await front.offer(returned, and: returned.map(\.queue))
    }

    /// Whether the waiting runs of a device that has come are woken at once.
    private func isCalm(_ device: DeviceID) -> Bool {
        let wait = flapping.withLock { $0.connected(device, now: .now) }
        guard wait > .zero else { return true }
        counters.increment("wakesDelayed")
        logger.info(
            "a device's sessions come and go", metadata: ["device.id": "\(device)", "wait": "\(wait)"])
        return false
    }

    /// What a device's clock showed beyond this one's when its hello came, in milliseconds. Both are this
    /// far from one another at most: an instant is of the years 1 to 9999.
    private static func skew(of clock: Instant, helloAt arrival: ContinuousClock.Instant) -> Int {
        let waited = arrival.duration(to: .now)
        let skew = (clock - .now() + waited).components
        return Int(skew.seconds) * 1_000 + Int(skew.attoseconds / 1_000_000_000_000_000)
    }

    /// How long an agent waits for its welcome.
    private static let patience = Duration.seconds(Limits.welcomeSecondsMax)
    private static let hellosAtOnce = 64
    private static let waitingHellosMax = 4_096
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
