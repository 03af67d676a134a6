import Domain
import Faults
package import Ledger
package import Logging
package import Redis
package import Streams
import Synchronization
import Trust

/// Takes runs from the queue to the gateways that hold their devices: claim, mark (committed), inbox,
/// acknowledge.
///
/// The mark is the one gate: nothing is written to an inbox that it did not return. What dies between two
/// steps is found again: a claim by its lease, a mark that reached no inbox by its accept-by time, a letter
/// in a dead inbox by the reclaimer.
package final class Dispatcher: Sendable {
    let ledger: Ledger
    let front: QueueFront
    /// One a partition: in a cluster no connection waits for several.
    private let bells: [RedisBlockingConnection]
    private let turns: PartitionTurns
    let owner: String
    let gate: ClaimGate
    let logger: Logger
    let trialTime: Duration
    /// Notes about suspects that could not be taken back: nobody has crashed there.
    let leftNotes = Mutex<[LeftNote]>([])

    /// A dispatcher on the worker's login, with a bell for each partition. `owner` names its leases: a word
    /// of its own for each dispatcher; the dispatchers of a process share its gate. It tries suspects for so
    /// long before it hands the others back, and waits a fourth of that for others to end their batches.
    package init(
        ledger: Ledger, front: QueueFront, bells: [RedisBlockingConnection], owner: String,
        gate: ClaimGate? = nil, trialTime: Duration = .seconds(2), logger: Logger
    ) {
        precondition(bells.count == front.parts.count, "each partition has a bell")
        self.ledger = ledger
        self.front = front
        self.bells = bells
        self.owner = owner
        self.gate = gate ?? ClaimGate(ledger: ledger)
        self.trialTime = trialTime
        self.logger = logger
        turns = PartitionTurns(partitions: bells.count, batches: 1)
    }

    /// A dispatcher of a queue with one partition.
    package convenience init(
        ledger: Ledger, front: QueueFront, bell: RedisBlockingConnection, owner: String,
        gate: ClaimGate? = nil, logger: Logger
    ) {
        self.init(ledger: ledger, front: front, bells: [bell], owner: owner, gate: gate, logger: logger)
    }

    /// Dispatches until the task is cancelled, then hands back what it holds.
    package func run() async {
        await withTaskGroup(of: Void.self) { tasks in
            if front.parts.count > 1 { tasks.addTask { await self.weigh() } }
            for part in front.parts { tasks.addTask { await self.run(part) } }
        }
    }

    private func run(_ part: QueuePart) async {
        await repeating(every: .zero, idle: .zero, logger, "dispatch") {
            // A batch that was begun is taken to its end, or its runs would have to wait for their deadlines.
            let more = try await withGrace(.seconds(3)) { try await self.dispatchOnce(part) }
            guard try await self.gate.isOpen() else {
                try await Task.sleep(for: Self.closedWait)
                return true
            }
            if !more, try await part.queue.waitForBell(on: self.bells[part.number]),
                try await !self.gate.isOpen()
            {
                _ = try await part.call { epoch in try await self.passOnBell(part, epoch) }
            }
            return true
        }
        // Best effort: what stays leased returns when the lease ends.
        _ = try? await withGrace(.seconds(2)) {
            try await part.call { epoch in
                try await part.queue.reclaim(owner: self.owner, epoch: epoch)
            }
        }
    }

    /// The bell has one token: who takes it and does not claim passes it on.
    private func passOnBell(_ part: QueuePart, _ epoch: Epoch) async throws {
        _ = try await part.queue.sweep(limit: 1, epoch: epoch)
    }

    /// Looks each second what the active organizations of each partition weigh: its share of batches.
    private func weigh() async {
        await front.forEachPart { part in
            await repeating(every: .seconds(1), idle: .seconds(1), self.logger, "weights") {
                self.turns.weigh(part.number, try await part.queue.activeWeight())
                return false
            }
        }
    }

    /// Claims one batch of each partition and takes it as far as it goes, unless the gate is closed.
    /// - Returns: whether more may be claimed at once.
    package func dispatchOnce() async throws -> Bool {
        try await inEach(front.parts) { try await self.dispatchOnce($0) }.contains(true)
    }

    /// Claims one batch and takes it as far as it goes, unless the gate is closed.
    private func dispatchOnce(_ part: QueuePart) async throws -> Bool {
        if front.parts.count == 1 {
            return try await gate.batch { try await self.dispatchBatch(part).more } ?? false
        }
        // A partition that does not answer fails here, before it takes a turn from others.
        _ = try await part.epoch()
        return try await turns.take(part.number) {
            do {
                let done = try await gate.batch { try await self.dispatchBatch(part) }
                return (done?.more ?? false, runs: done?.runs ?? 0)
            } catch {
                part.forgetEpoch()
                throw error
            }
        }
    }

    private func dispatchBatch(_ part: QueuePart) async throws -> (more: Bool, runs: Int) {
        let epoch = try await part.epoch()
        let (claims, suspects) = try await gate.crashes.shared { () -> (Claims?, suspects: [Claim]) in
            // It may have waited for another's trial.
            guard try await gate.isOpen() else {
                try await passOnBell(part, epoch)
                return (nil, [])
            }
            return try await claimAndPass(part, epoch: epoch)
        }
        guard let claims else { return (false, 0) }
        let isLeft = try await tryAlone(suspects, in: part, epoch: epoch)
        return (claims.more || isLeft, claims.items.count)
    }

    /// Claims one batch and takes it as far as it goes.
    /// - Returns: what was claimed, and those of it that are to be taken alone: nothing was done with them.
    ///   Nothing if nothing could be claimed.
    private func claimAndPass(
        _ part: QueuePart, epoch: Epoch
    ) async throws -> (claims: Claims?, suspects: [Claim]) {
        let claims: Claims
        do {
            claims = try await part.queue.claim(
                owner: owner, limit: Self.batch, leaseMilliseconds: Self.leaseMilliseconds, epoch: epoch)
        } catch QueueError.staleEpoch {
            part.forgetEpoch()
            return (nil, [])
        }
        guard !claims.items.isEmpty else { return (nil, []) }
        front.metrics.claimed(claims.items.lazy.map(\.organization))
        FaultPoint.reach(.dispatcherAfterClaim)
        await takeBackLeftNotes()
        // Only what crashes alone is to blame for it: the others first.
        var suspects = claims.items.filter { $0.crashes > 0 }
        for claims in Self.passes(claims.items.filter { $0.crashes == 0 }) {
            suspects += try await pass(claims, in: part, epoch: epoch).suspects
        }
        return (claims, suspects)
    }

    /// In which pieces a batch is taken on: who has few runs in it does not wait for the marks of who has
    /// many.
    package static func passes(_ claims: [Claim]) -> [[Claim]] {
        let counts = claims.reduce(into: [:]) { $0[$1.organization, default: 0] += 1 }
        let few = claims.filter { counts[$0.organization, default: 0] <= fewRuns }
        guard !few.isEmpty, claims.count - few.count > 2 * fewRuns else { return [claims] }
        return [few, claims.filter { counts[$0.organization, default: 0] > fewRuns }]
    }

    private static let fewRuns = 16

    /// How far claims went.
    struct Passed {
        /// The runs that reached their gateway's inbox.
        var delivered: Set<RunID> = []
        /// The claims that are to be taken alone: nothing was done with them.
        var suspects: [Claim] = []
    }

    /// Takes claims as far as they go: to their gateways, or aside if their device is offline.
    func pass(
        _ claims: [Claim], alone: Bool = false, in part: QueuePart, epoch: Epoch
    ) async throws -> Passed {
        guard !claims.isEmpty else { return Passed() }
        // Presence came with the claim; heartbeats are read after it, so that a lapsed gateway is not written
        // to.
        let gateways = Array(Set(claims.compactMap { $0.presence?.gateway }))
        let alive = try await front.mail.alive(gateways)
        var reachable: [(Claim, GatewayID)] = []
        var offline: [Claim] = []
        for claim in claims {
            if let gateway = claim.presence?.gateway, alive.contains(gateway) {
                reachable.append((claim, gateway))
            } else {
                offline.append(claim)
            }
        }
        try await park(offline, in: part, epoch: epoch)
        return try await deliver(reachable, alone: alone, in: part, epoch: epoch)
    }

    /// Runs of offline devices: waiting is committed, then presence is read again, so that a device which
    /// connected in between is not left waiting.
    private func park(_ claims: [Claim], in part: QueuePart, epoch: Epoch) async throws {
        guard !claims.isEmpty else { return }
        if part.isSettling {
            _ = try await part.queue.release(claims, delayMilliseconds: 500, epoch: epoch)
            return
        }
        let waiting = try await ledger.wait(claims.map(QueuedRun.init))
        FaultPoint.reach(.dispatcherAfterWaiting)
        try await part.queue.acknowledge(
            dispatched: [], dropped: claims, deadlineMilliseconds: 0, epoch: epoch)
        try await front.putBackPresent(
            of: claims.filter { waiting.contains($0.run) }.map(QueuedRun.init), in: ledger)
    }

    /// Marks claims and writes them to their gateways.
    private func deliver(
        _ claims: [(claim: Claim, gateway: GatewayID)], alone: Bool, in part: QueuePart, epoch: Epoch
    ) async throws -> Passed {
        guard !claims.isEmpty else { return Passed() }
        let now = Instant.now()
        FaultPoint.reach(.dispatcherBeforeMark)
        let marked = try await ledger.mark(
            claims.map { claim, gateway in
                MarkRequest(
                    organization: claim.organization, run: claim.run, generation: claim.generation,
                    gateway: gateway,
                    token: .new(at: now))
            }, epoch: epoch.id, partition: part.number, alone: alone)
        front.tally.marked(marked.lazy.map(\.organization))
        front.metrics.marked(marked)
        FaultPoint.reach(.dispatcherAfterMark)
        let items = Dictionary(grouping: marked, by: \.gateway)
        let letters = items.map { gateway, runs in
            Letter(gateway: gateway, payload: InboxLetter.dispatch(runs.map(\.letterItem)).encoded)
        }
        let delivered = try await front.mail.deliver(letters)
        FaultPoint.reach(.dispatcherAfterInbox)
        let refused = Set(zip(letters, delivered).filter { !$0.1 }.map(\.0.gateway))
        let arrived = Set(marked.filter { !refused.contains($0.gateway) }.map(\.run))
        // Not before the letters: what is marked is to reach its gateway whatever fails.
        let isMarked = Set(marked.map(\.run))
        let unmarked = claims.map(\.claim).filter { !isMarked.contains($0.run) }
        let passed = arrived.union(try await dispatchedBefore(unmarked))
        let suspects = alone ? [] : try await ledger.suspects(among: unmarked.map(QueuedRun.init))
        let deadline = marked.map(\.deadline).max() ?? now
        FaultPoint.reach(.dispatcherBeforeAcknowledge)
        let acknowledged = try await part.queue.acknowledge(
            dispatched: claims.map(\.claim).filter { passed.contains($0.run) },
            dropped: claims.map(\.claim).filter { !passed.contains($0.run) && !suspects.contains($0.run) },
            deadlineMilliseconds: Int(deadline.microseconds / 1_000), epoch: epoch)
        // What was leased is in the window until now.
        part.refill.call()
        front.metrics.count(.leasesUnacknowledged, by: acknowledged.lost)
        await note(marked.filter { !refused.contains($0.gateway) })
        let done = Passed(delivered: arrived, suspects: unmarked.filter { suspects.contains($0.run) })
        guard !refused.isEmpty else { return done }
        // A full inbox: back to queued, in the next generation, to be brought again by refill.
        let back = try await ledger.undeliver(
            marked.filter { refused.contains($0.gateway) }.map { ($0.organization, $0.run, $0.token) })
        await front.returned(back)
        return done
    }

    private static let batch = 128
    static let leaseMilliseconds = 5_000
    // How late a closed gate may be found open again.
    private static let closedWait = Duration.milliseconds(250)
}

extension MarkedRun {
    fileprivate var letterItem: InboxLetter.Item {
        InboxLetter.Item(
            organization: organization, job: job, run: run, device: device, attempt: attempt, token: token)
    }
}

extension QueuedRun {
    /// The run of a claim.
    init(_ claim: Claim) {
        self.init(
            organization: claim.organization, run: claim.run, device: claim.device,
            generation: claim.generation,
            lane: claim.lane, priority: claim.priority)
    }
}
