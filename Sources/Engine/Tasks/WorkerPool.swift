package import Domain
import Faults
package import Ledger
package import Logging
package import Redis
import Streams
import Synchronization
import Trust

/// Does the tasks of one kind, so many at once: claim, mark (committed), acknowledge, handler, settle.
///
/// The claim's lease in Redis lasts until the mark; from there on a lease in PostgreSQL is renewed for as
/// long as the handler runs. What dies in between is found again: a claim by its lease, a running task by its
/// own.
package final class WorkerPool: Sendable {
    /// Why a handler was told to break off.
    private enum Interruption: Sendable {
        case timedOut
        case cancelled
        case leaseLost
        case stopping
    }

    private struct Running: Sendable {
        let task: MarkedTask
        let began: ContinuousClock.Instant
        var renewed: ContinuousClock.Instant
        var interruption: Interruption?
        var handler: Task<Void, any Error>?
    }

    /// The kind of its tasks, and how many it does at once.
    package let kind: TaskKind
    package let concurrency: Int

    private let ledger: Ledger
    private let front: QueueFront
    // A kind of tasks has one partition.
    private var part: QueuePart { front.parts[0] }
    private let bell: RedisBlockingConnection
    private let owner: String
    private let worker: @Sendable () -> WorkerID?
    private let work: TaskWork
    private let gate: ClaimGate
    private let metrics: TaskMetrics
    private let times: PoolTimes
    private let logger: Logger
    private let running = Mutex<[AttemptToken: Running]>([:])
    // Says that a handler has ended.
    private let (freed, free) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))

    /// A pool on the worker's login. `owner` names its claims: a word of its own; `worker` is the name under
    /// which its process is known, without which it claims nothing; the gate is shared with the dispatchers
    /// of its process.
    package init(
        ledger: Ledger, front: QueueFront, bell: RedisBlockingConnection, owner: String,
        worker: @escaping @Sendable () -> WorkerID?, work: TaskWork, concurrency: Int, gate: ClaimGate,
        metrics: TaskMetrics = TaskMetrics(), times: PoolTimes = PoolTimes(), logger: Logger
    ) {
        self.ledger = ledger
        self.front = front
        self.bell = bell
        self.owner = owner
        self.worker = worker
        self.work = work
        self.concurrency = concurrency
        self.gate = gate
        self.metrics = metrics
        self.times = times
        self.logger = logger
        kind = work.kind
    }

    /// How many handlers run.
    package var runningCount: Int { running.withLock(\.count) }

    /// Works until the task is cancelled. Then it claims nothing more, lets handlers finish for a while, and
    /// gives back what is not done.
    package func run() async {
        let renewing = Task { await self.renew() }
        await claim()
        // In a task of its own, for this one is cancelled.
        await Task { await self.drain() }.value
        renewing.cancel()
        await renewing.value
    }

    private func claim() async {
        await repeating(every: .zero, idle: .zero, logger, "tasks of \(kind)") {
            guard !self.gate.isDraining, self.worker() != nil else {
                try await Task.sleep(for: times.closedWait)
                return true
            }
            guard self.runningCount < self.concurrency else {
                for await _ in self.freed { break }
                return true
            }
            let more = try await withGrace(.seconds(2)) { try await self.claimOnce() }
            if !more, try await self.part.queue.waitForBell(on: self.bell), self.gate.isDraining {
                // The bell has one token: who takes it and does not claim passes it on.
                _ = try await self.part.call { epoch in
                    try await self.part.queue.sweep(limit: 1, epoch: epoch)
                }
            }
            return true
        }
        // Best effort: what stays claimed returns when the lease ends.
        _ = try? await withGrace(.seconds(1)) {
            try await self.part.call { epoch in
                try await self.part.queue.reclaim(owner: self.owner, epoch: epoch)
            }
        }
    }

    /// Claims what there is room for and begins it.
    /// - Returns: whether more may be claimed at once.
    package func claimOnce() async throws -> Bool {
        guard let worker = worker(), gate.begin() else { return false }
        defer { gate.end() }
        let epoch = try await part.epoch()
        let claims: Claims
        do {
            claims = try await part.queue.claim(
                owner: owner, limit: min(128, concurrency - runningCount),
                leaseMilliseconds: Self.claimLeaseMilliseconds, epoch: epoch)
        } catch QueueError.staleEpoch {
            front.forgetEpoch()
            return false
        }
        guard !claims.items.isEmpty else { return false }
        FaultPoint.reach(.poolAfterClaim)
        let began = ContinuousClock.now
        let marked: [MarkedTask]
        do {
            marked = try await ledger.markTasks(
                claims.items.map { (QueuedRun($0), AttemptToken.new(at: .now())) }, worker: worker,
                epoch: epoch.id, partition: kind.partition)
        } catch {
            // What was marked after all is refused to whoever claims it, and its lease in PostgreSQL ends.
            _ = try? await part.queue.release(claims.items, delayMilliseconds: 1_000, epoch: epoch)
            throw error
        }
        if !marked.isEmpty { FaultPoint.reach(.poolAfterMark) }
        for task in marked { begin(task, at: began) }
        let begun = Set(marked.map(\.entry.run))
        let deadline = Instant.now() + .seconds(86_400)
        do {
            try await part.queue.acknowledge(
                dispatched: claims.items.filter { begun.contains($0.run) },
                dropped: claims.items.filter { !begun.contains($0.run) },
                deadlineMilliseconds: Int(deadline.microseconds / 1_000), epoch: epoch)
        } catch {
            // Its lease ends and the sweep finds that they run.
            front.forgetEpoch()
            logger.debug("claims left to the sweep", metadata: ["error": "\(error)"])
        }
        return claims.more
    }

    // MARK: One attempt

    private func begin(_ task: MarkedTask, at began: ContinuousClock.Instant) {
        gate.hold()
        metrics.began(kind, waitedSeconds: task.waitedSeconds)
        running.withLock {
            let handler = Task {
                FaultPoint.reach(.poolBeforeEffect)
                try await self.work.perform(task)
                FaultPoint.reach(.poolAfterEffect)
            }
            $0[task.token] = Running(task: task, began: began, renewed: began, handler: handler)
            // It never throws, and is over before the pool is: `drain` waits for it.
            Task { await self.end(task, await handler.result) }
        }
    }

    private func end(_ task: MarkedTask, _ result: Result<Void, any Error>) async {
        let (interruption, began) = running.withLock {
            ($0[task.token]?.interruption, $0[task.token]?.began ?? .now)
        }
        let seconds = (ContinuousClock.now - began) / .seconds(1)
        if let outcome = outcome(of: task, result, interruption) {
            await record(task, outcome, orAgainAfter: wait(after: task, result), seconds: seconds)
        } else if interruption == .stopping {
            await giveBack([task])
        } else {
            metrics.ended(kind, "late", seconds: seconds)
        }
        _ = running.withLock { $0.removeValue(forKey: task.token) }
        gate.end()
        free.yield()
    }

    /// How long another attempt waits: as the handler says, or the policy.
    private func wait(after task: MarkedTask, _ result: Result<Void, any Error>) -> Duration {
        if case .failure(let error) = result {
            if let failure = error as? TaskFailure { return failure.wait }
            if let postponement = error as? TaskPostponement { return postponement.wait }
        }
        var generator = SystemRandomNumberGenerator()
        return task.policy.backoff.wait(attempt: task.failures, using: &generator)
    }

    /// What a handler's end means; `nil` if nothing is to be recorded.
    private func outcome(
        of task: MarkedTask, _ result: Result<Void, any Error>, _ interruption: Interruption?
    ) -> TaskOutcome? {
        do {
            try result.get()
            return .succeeded
        } catch {
            switch interruption {
            case .timedOut: return .timedOut
            case .cancelled: return .cancelled
            case .leaseLost, .stopping: return nil
            case nil:
                if let refusal = error as? TaskRefusal { return .refused(reason: refusal.description) }
                if let failure = error as? TaskFailure { return .failed(reason: failure.description) }
                if error is TaskPostponement { return .postponed }
                logger.warning(
                    "a task's handler has failed",
                    metadata: [
                        "organization.id": "\(task.organization)", "task.id": "\(task.id)",
                        "task.kind": "\(kind)", "attempt": "\(task.attempt)", "error": "\(error)",
                    ])
                // Its text may tell of the platform what is no tenant's business.
                return .failed(reason: "\(type(of: error))")
            }
        }
    }

    /// Records an outcome, as long as the attempt is the current one: the lease is renewed meanwhile.
    private func record(
        _ task: MarkedTask, _ outcome: TaskOutcome, orAgainAfter wait: Duration, seconds: Double
    ) async {
        var trouble = Trouble(name: "settlement of a task", logger: logger)
        var end: TaskEnd?
        while end == nil, isHeld(task) {
            do {
                FaultPoint.reach(.poolBeforeCommit)
                end = try await ledger.settle(task, as: outcome, orAgainAfter: wait)
                trouble.passed()
            } catch {
                // Nobody cancels this task; a sleep that fails is no wait.
                try? await Task.sleep(for: trouble.met(error))
            }
        }
        FaultPoint.reach(.poolAfterCommit)
        switch end {
        case .ended(let state): metrics.ended(kind, state.name, seconds: seconds)
        case .repeated: metrics.ended(kind, "repeated", seconds: seconds)
        case .late, nil:
            metrics.ended(kind, "late", seconds: seconds)
            logger.notice(
                "a task's result came too late",
                metadata: [
                    "organization.id": "\(task.organization)", "task.id": "\(task.id)",
                    "attempt": "\(task.attempt)",
                ])
            return
        }
        await front.left([task.entry], costs: [seconds])
    }

    private func isHeld(_ task: MarkedTask) -> Bool {
        running.withLock { running in
            guard let entry = running[task.token] else { return false }
            return entry.interruption != .leaseLost && !isLeaseOver(entry, at: .now)
        }
    }

    private func giveBack(_ tasks: [MarkedTask]) async {
        guard !tasks.isEmpty else { return }
        do {
            let queued = try await ledger.giveBack(tasks.map { ($0.organization, $0.id, $0.token) })
            await front.left(tasks.map(\.entry), costs: [])
            await front.offer(queued)
            for _ in tasks { metrics.ended(kind, "givenBack", seconds: nil) }
        } catch {
            logger.warning("tasks left to their leases' end", metadata: ["error": "\(error)"])
        }
    }

    // MARK: Leases

    private func renew() async {
        await repeating(every: times.renewal, idle: times.renewal, logger, "leases of tasks") {
            try await self.renewOnce()
            return true
        }
    }

    /// Renews the leases of what runs; interrupts handlers that took too long, are to be cancelled, or have
    /// lost their lease.
    package func renewOnce() async throws {
        let now = ContinuousClock.now
        var held: [MarkedTask] = []
        for entry in running.withLock({ Array($0.values) }) {
            let limit = Duration.seconds(entry.task.policy.timeoutSeconds)
            if now - entry.began > limit { interrupt(entry.task, .timedOut) }
            // Whoever does not heed that has lost the task for good: its lease ends.
            if now - entry.began <= limit + times.overtime { held.append(entry.task) }
            if isLeaseOver(entry, at: now) { interrupt(entry.task, .leaseLost) }
        }
        guard !held.isEmpty else { return }
        let current = try await ledger.renewTasks(held.map { ($0.organization, $0.id, $0.token) })
        for task in held {
            switch current[task.id] {
            case nil: interrupt(task, .leaseLost)
            case let isToBeCancelled?:
                running.withLock { $0[task.token]?.renewed = now }
                if isToBeCancelled { interrupt(task, .cancelled) }
            }
        }
    }

    private func isLeaseOver(_ entry: Running, at now: ContinuousClock.Instant) -> Bool {
        now - entry.renewed > .seconds(Ledger.taskLeaseSeconds)
    }

    /// Tells a handler to break off. A lost lease overrides other reasons; of these the first counts.
    private func interrupt(_ task: MarkedTask, _ why: Interruption) {
        let handler = running.withLock { running -> Task<Void, any Error>? in
            guard let entry = running[task.token], entry.interruption == nil || why == .leaseLost else {
                return nil
            }
            running[task.token]?.interruption = why
            return entry.handler
        }
        handler?.cancel()
    }

    // MARK: Stop

    private func drain() async {
        await ends(within: times.drain)
        for entry in running.withLock({ Array($0.values) }) { interrupt(entry.task, .stopping) }
        await ends(within: times.breakOff)
        // Their handlers do not heed that; what they will say is refused.
        await giveBack(running.withLock { $0.values.map(\.task) })
    }

    private func ends(within time: Duration) async {
        let end = ContinuousClock.now + time
        while runningCount > 0, ContinuousClock.now < end {
            // Nobody cancels this task.
            try? await Task.sleep(for: .milliseconds(20))
        }
    }

    // From the claim to the mark.
    static let claimLeaseMilliseconds = 5_000
}

/// How long a pool waits for what.
package struct PoolTimes: Sendable {
    /// From one renewal of leases to the next.
    package var renewal = Duration.seconds(1)
    /// For a handler that took too long to break off.
    package var overtime = Duration.seconds(5)
    /// At a stop, for handlers to finish; then for them to break off. Together less than what a process has
    /// for its end.
    package var drain = Duration.seconds(3)
    package var breakOff = Duration.seconds(1)
    /// From one look at a closed gate to the next.
    package var closedWait = Duration.milliseconds(200)

    /// As a worker waits.
    package init() {}
}
