package import Domain
package import Ledger
package import Logging
package import Streams
import Synchronization

/// The queue as the rest of the engine uses it: it knows the epoch in force, and what cannot be said to Redis
/// now is found in PostgreSQL later. Nothing here is needed for correctness; refill, stragglers and the
/// reconciler are.
package final class QueueFront: Sendable {
    /// The queue itself.
    package let queue: Queue
    /// What this process has marked and seen end.
    package let tally = WorkTally()
    /// What this process has counted; its parts share it.
    package let metrics: EngineMetrics
    /// Wakes the refiller of this process.
    let refill = Wake()
    private let logger: Logger
    private let known = Mutex<Known>(Known())

    private struct Known {
        var epoch: Epoch?
        var latest: Epoch?
        var since = ContinuousClock.now
    }

    private let settling: Duration

    /// A front of a queue; for `settling` after it has seen a new data set, missing presences mean nothing.
    package init(
        queue: Queue, metrics: EngineMetrics = EngineMetrics(), logger: Logger,
        settling: Duration = .seconds(2)
    ) {
        self.queue = queue
        self.metrics = metrics
        self.logger = logger
        self.settling = settling
    }

    /// The epoch of the data set, as Redis has it now if none is remembered.
    package func epoch() async throws -> Epoch {
        if let epoch = known.withLock({ $0.epoch }) { return epoch }
        guard let epoch = try await queue.epoch() else { throw QueueError.staleEpoch(current: nil) }
        known.withLock { known in
            if known.latest != epoch { (known.latest, known.since) = (epoch, .now) }
            known.epoch = epoch
        }
        return epoch
    }

    /// Whether the data set is so new that gateways may not have said again whom they hold: until then a
    /// missing presence means nothing.
    var isSettling: Bool { known.withLock { ContinuousClock.now - $0.since < settling } }

    /// Calls the queue under the epoch in force; a stale one is forgotten and read once more.
    package func call<Value: Sendable>(_ body: (Epoch) async throws -> Value) async throws -> Value {
        do {
            return try await body(epoch())
        } catch QueueError.staleEpoch {
            forgetEpoch()
            return try await body(epoch())
        }
    }

    /// Forgets the epoch: the next call reads it.
    package func forgetEpoch() { known.withLock { $0.epoch = nil } }

    /// The fast path after a commit: queues these runs, and marks queues whose work a worker has to bring.
    package func offer(_ runs: [QueuedRun], and queues: [OrganizationQueue] = []) async {
        do {
            try await call { epoch in
                for (queue, runs) in Dictionary(grouping: runs, by: \.queue) {
                    _ = try await self.queue.enqueue(runs.map(Entry.init), in: queue, epoch: epoch)
                }
                if !queues.isEmpty { try await self.queue.mark(Array(Set(queues)), epoch: epoch) }
            }
            refill.call()
        } catch {
            logger.debug("work left to the stragglers' scan", metadata: ["error": "\(error)"])
        }
    }

    /// Marks all queues of these organizations, where it is not known which of them have work.
    package func offer(all organizations: [OrganizationID]) async {
        await offer([], and: organizations.flatMap(OrganizationQueue.all))
    }

    /// Which of these devices are held by a gateway whose heartbeat lives, in the same order.
    func arePresent(_ devices: [DeviceID]) async throws -> [Bool] {
        let presences = try await queue.presence(of: devices)
        let alive = try await queue.alive(Array(Set(presences.compactMap { $0?.gateway })))
        return presences.map { presence in presence.map { alive.contains($0.gateway) } ?? false }
    }

    /// Says each second what this process has done, and once more when the task is cancelled.
    package func reportWork() async {
        await repeating(every: .seconds(1), idle: .seconds(1), logger, "rates") {
            try await self.tally.report(to: self.queue)
            return false
        }
        // What cannot be said any more is missing from a minute's rates.
        try? await withGrace(.seconds(1)) { try await self.tally.report(to: self.queue) }
    }

    /// Tells the queue that dispatched runs have ended.
    package func settled(_ runs: [SettledRun]) async {
        guard !runs.isEmpty else { return }
        tally.ended(runs.lazy.map(\.organization))
        do {
            _ = try await call { epoch in try await self.queue.settle(runs.map(Settled.init), epoch: epoch) }
        } catch {
            logger.debug("settlements left to the membership's comparison", metadata: ["error": "\(error)"])
        }
    }

    /// Runs that were dispatched and not taken are queued again, in the next generation: the membership of
    /// the one before ends, and their queues are marked.
    package func returned(_ runs: [QueuedRun]) async {
        guard !runs.isEmpty else { return }
        do {
            _ = try await call { epoch in
                try await self.queue.settle(
                    runs.map { Settled($0, generation: $0.generation - 1) }, epoch: epoch)
            }
        } catch {
            logger.debug("returns left to the membership's comparison", metadata: ["error": "\(error)"])
        }
        await offer([], and: runs.map(\.queue))
    }

    /// Tells the queue that runs have ended which it may hold in any of its places.
    package func ended(_ runs: [SettledRun]) async {
        guard !runs.isEmpty else { return }
        metrics.declared(runs.lazy.map(\.organization))
        await settled(runs)
        do {
            _ = try await call { epoch in
                try await self.queue.cancel(runs.map { ($0.organization, $0.run) }, epoch: epoch)
            }
        } catch {
            logger.debug("ended runs left to the mark, which refuses them", metadata: ["error": "\(error)"])
        }
    }

    /// Tells gateways to stop runs that their agents may hold. An agent that is not reached hears it at its
    /// next hello.
    package func tellCancelled(_ runs: [CancelledRun]) async {
        guard !runs.isEmpty else { return }
        do {
            let presences = try await queue.presence(of: runs.map(\.device))
            var items: [GatewayID: [InboxLetter.Item]] = [:]
            for (run, presence) in zip(runs, presences) {
                if let presence { items[presence.gateway, default: []].append(run.letterItem) }
            }
            _ = try await queue.deliver(
                items.map { Letter(gateway: $0.key, payload: InboxLetter.cancel($0.value).encoded) })
        } catch {
            logger.debug("cancels left to the next hello", metadata: ["error": "\(error)"])
        }
    }
}

extension CancelledRun {
    fileprivate var letterItem: InboxLetter.Item {
        InboxLetter.Item(
            organization: organization, job: job, run: run, device: device, attempt: attempt, token: token)
    }
}

extension Entry {
    /// The entry of a queued run.
    init(_ run: QueuedRun) {
        self.init(run: run.run, generation: run.generation, device: run.device, lane: run.lane)
    }
}

extension Settled {
    /// The end of one generation of a run.
    fileprivate init(_ run: QueuedRun, generation: Int) {
        self.init(
            organization: run.organization, run: run.run, generation: generation, device: run.device,
            lane: run.lane)
    }

    /// The end of a run as the queue knows it.
    init(_ run: SettledRun) {
        self.init(
            organization: run.organization, run: run.run, generation: run.generation, device: run.device,
            lane: run.lane)
    }
}
