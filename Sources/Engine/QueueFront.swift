package import Domain
package import Ledger
package import Logging
package import Streams
import Synchronization

/// The queue as the rest of the engine uses it, whole: organizations hash to its partitions, and what cannot
/// be said to Redis now is found in PostgreSQL later. Nothing here is needed for correctness; refill,
/// stragglers and the reconciler are.
///
/// Partitions are reached side by side: one that does not answer holds up no other.
package final class QueueFront: Sendable {
    /// The partitions, by number.
    package let parts: [QueuePart]
    /// What this process has marked and seen end.
    package let tally = WorkTally()
    /// What this process has counted; its parts share it.
    package let metrics: EngineMetrics
    private let logger: Logger

    /// A front of the queues of all partitions, by number; for `settling` after it has seen a new data set,
    /// missing presences mean nothing.
    package init(
        queues: [Queue], metrics: EngineMetrics = EngineMetrics(), logger: Logger,
        settling: Duration = .seconds(2)
    ) {
        parts = queues.map { QueuePart(queue: $0, settling: settling) }
        self.metrics = metrics
        self.logger = logger
    }

    /// A front of a queue with one partition.
    package convenience init(
        queue: Queue, metrics: EngineMetrics = EngineMetrics(), logger: Logger,
        settling: Duration = .seconds(2)
    ) {
        self.init(queues: [queue], metrics: metrics, logger: logger, settling: settling)
    }

    /// The partition of an organization.
    package func part(of organization: OrganizationID) -> QueuePart {
        parts[Keyspace.partition(of: organization, count: parts.count)]
    }

    /// Does something that goes on, for each partition by itself: one that does not answer holds up no other.
    func forEachPart(_ body: @escaping @Sendable (QueuePart) async -> Void) async {
        if parts.count == 1 { return await body(parts[0]) }
        await withTaskGroup(of: Void.self) { tasks in
            for part in parts { tasks.addTask { await body(part) } }
        }
    }

    /// Inboxes and heartbeats of gateways, which belong to no partition.
    package var mail: Queue { parts[0].queue }

    /// Forgets the epochs: the next calls read them.
    package func forgetEpoch() {
        for part in parts { part.forgetEpoch() }
    }

    /// Whether a partition is so new that a missing presence in it means nothing.
    func isSettling(_ organization: OrganizationID) -> Bool { part(of: organization).isSettling }

    /// The fast path after a commit: queues these runs, and marks queues whose work a worker has to bring.
    package func offer(_ runs: [QueuedRun], and queues: [OrganizationQueue] = []) async {
        let marked = Set(queues)
        await inParts(
            runs.map { ($0.organization, Offer.run($0)) } + marked.map { ($0.organization, Offer.queue($0)) },
            "work left to the stragglers' scan"
        ) { part, epoch, offers in
            var runs: [OrganizationQueue: [QueuedRun]] = [:]
            var queues: [OrganizationQueue] = []
            for offer in offers {
                switch offer {
                case .run(let run): runs[run.queue, default: []].append(run)
                case .queue(let queue): queues.append(queue)
                }
            }
            for (queue, runs) in runs {
                _ = try await part.queue.enqueue(runs.map(Entry.init), in: queue, epoch: epoch)
            }
            if !queues.isEmpty { try await part.queue.mark(queues, epoch: epoch) }
            part.refill.call()
        }
    }

    private enum Offer: Sendable {
        case run(QueuedRun)
        case queue(OrganizationQueue)
    }

    /// Does something with what each partition has of these items, under its epoch. What fails is noted, and
    /// left to whoever finds it in PostgreSQL.
    private func inParts<Item: Sendable>(
        _ items: [(OrganizationID, Item)], _ message: Logger.Message,
        _ body: @escaping @Sendable (QueuePart, Epoch, [Item]) async throws -> Void
    ) async {
        let logger = logger
        @Sendable func work(_ part: QueuePart, _ items: [Item]) async {
            do {
                try await part.call { try await body(part, $0, items) }
            } catch {
                logger.debug(message, metadata: ["error": "\(error)"])
            }
        }
        let groups = split(items)
        if groups.count == 1 { return await work(groups[0].part, groups[0].items) }
        await withTaskGroup(of: Void.self) { tasks in
            for (part, items) in groups { tasks.addTask { await work(part, items) } }
        }
    }

    /// The items of each partition that has any.
    func split<Item>(_ items: [(OrganizationID, Item)]) -> [(part: QueuePart, items: [Item])] {
        guard !items.isEmpty else { return [] }
        if parts.count == 1 { return [(parts[0], items.map(\.1))] }
        var groups: [[Item]] = Array(repeating: [], count: parts.count)
        for (organization, item) in items {
            groups[Keyspace.partition(of: organization, count: parts.count)].append(item)
        }
        return zip(parts, groups).filter { !$0.1.isEmpty }.map { ($0, $1) }
    }

    /// Marks all queues of these organizations, where it is not known which of them have work.
    package func offer(all organizations: [OrganizationID]) async {
        await offer([], and: organizations.flatMap(OrganizationQueue.all))
    }

    /// Those of these devices that nobody holds, as the data sets in force say. What is not known soon counts
    /// as held: its work goes through the queue, where it is looked at again.
    func away(_ devices: [DeviceID: OrganizationID]) async -> Set<DeviceID> {
        let groups = split(devices.map { ($0.value, $0.key) })
        if groups.count == 1 { return await groups[0].part.away(groups[0].items) }
        return await withTaskGroup(of: Set<DeviceID>.self) { tasks in
            for (part, devices) in groups { tasks.addTask { await part.away(devices) } }
            return await tasks.reduce(into: []) { $0.formUnion($1) }
        }
    }

    /// Puts back those of these runs, committed as waiting, whose device has come meanwhile: a gateway writes
    /// whom it holds before it wakes what waits, so whoever was not to be seen before the commit and is not
    /// now wakes them itself.
    func putBackPresent(of waiting: [QueuedRun], in ledger: Ledger) async throws {
        guard !waiting.isEmpty else { return }
        let organizations = Dictionary(waiting.map { ($0.device, $0.organization) }) { first, _ in first }
        let devices = organizations.map { ($0.value, $0.key) }
        let back = zip(devices, try await arePresent(devices)).compactMap { $1 ? $0 : nil }
        guard !back.isEmpty else { return }
        await offer(try await ledger.reconnect(back))
    }

    /// The same after a commit that stands whatever fails: what is not put back now, the reconciler finds.
    func offerPresent(of waiting: [QueuedRun], in ledger: Ledger) async {
        do {
            try await putBackPresent(of: waiting, in: ledger)
        } catch {
            logger.debug("waiting work left to the reconciler", metadata: ["error": "\(error)"])
        }
    }

    /// Which of these devices are held by a gateway whose heartbeat lives, in the same order.
    func arePresent(_ devices: [(OrganizationID, DeviceID)]) async throws -> [Bool] {
        try await areAlive(presence(of: devices))
    }

    /// The same where some partition answers; those of the others are not said to be.
    func areKnownPresent(_ devices: [(OrganizationID, DeviceID)]) async throws -> [Bool] {
        try await areAlive(knownPresence(of: devices))
    }

    private func areAlive(_ presences: [Streams.Presence?]) async throws -> [Bool] {
        let alive = try await mail.alive(Array(Set(presences.compactMap { $0?.gateway })))
        return presences.map { presence in presence.map { alive.contains($0.gateway) } ?? false }
    }

    /// Who holds each of these devices, in the same order.
    package func presence(of devices: [(OrganizationID, DeviceID)]) async throws -> [Streams.Presence?] {
        let (found, failures, _) = await lookUp(devices)
        if let failure = failures.first { throw failure }
        return found
    }

    /// The same where some partition answers within a second: nobody is said to hold the devices of the
    /// others.
    package func knownPresence(
        of devices: [(OrganizationID, DeviceID)]
    ) async throws -> [Streams.Presence?] {
        let (found, failures, partitions) = await lookUp(devices, within: .seconds(1))
        if let failure = failures.first, failures.count == partitions { throw failure }
        return found
    }

    private func lookUp(
        _ devices: [(OrganizationID, DeviceID)], within limit: Duration? = nil
    ) async -> (found: [Streams.Presence?], failures: [any Error], partitions: Int) {
        typealias Answer = Result<[Streams.Presence?], any Error>
        var found = [Streams.Presence?](repeating: nil, count: devices.count)
        var failures: [any Error] = []
        let groups = split(devices.enumerated().map { ($0.element.0, $0.offset) })
        await withTaskGroup(of: (Answer, [Int]).self) { tasks in
            for (part, places) in groups {
                let wanted = places.map { devices[$0].1 }
                tasks.addTask {
                    do {
                        return (.success(try await part.queue.presence(of: wanted, within: limit)), places)
                    } catch {
                        return (.failure(error), places)
                    }
                }
            }
            for await (answer, places) in tasks {
                switch answer {
                case .success(let presences):
                    for (place, presence) in zip(places, presences) { found[place] = presence }
                case .failure(let error): failures.append(error)
                }
            }
        }
        return (found, failures, groups.count)
    }

    /// Says each second what this process has done, and once more when the task is cancelled.
    package func reportWork() async {
        await repeating(every: .seconds(1), idle: .seconds(1), logger, "rates") {
            try await self.tally.report(to: self.parts)
            return false
        }
        // What cannot be said any more is missing from a minute's rates.
        try? await withGrace(.seconds(1)) { try await self.tally.report(to: self.parts) }
    }

    /// Tells the queue that dispatched runs have ended.
    package func settled(_ runs: [SettledRun]) async {
        guard !runs.isEmpty else { return }
        tally.ended(runs.lazy.map(\.organization))
        await inParts(
            runs.map { ($0.organization, $0) }, "settlements left to the membership's comparison"
        ) { part, epoch, runs in
            try await part.queue.settle(runs.map(Settled.init), epoch: epoch)
        }
    }

    /// Runs that were dispatched and not taken are queued again, in the next generation: the membership of
    /// the one before ends, and their queues are marked.
    package func returned(_ runs: [QueuedRun]) async {
        guard !runs.isEmpty else { return }
        await inParts(
            runs.map { ($0.organization, $0) }, "returns left to the membership's comparison"
        ) { part, epoch, runs in
            try await part.queue.settle(
                runs.map { Settled($0, generation: $0.generation - 1) }, epoch: epoch)
        }
        await offer([], and: runs.map(\.queue))
    }

    /// Tells the queue that runs have ended which it may hold in any of its places.
    package func ended(_ runs: [SettledRun]) async {
        guard !runs.isEmpty else { return }
        metrics.declared(runs.lazy.map(\.organization))
        await settled(runs)
        await inParts(
            runs.map { ($0.organization, $0) }, "ended runs left to the mark, which refuses them"
        ) { part, epoch, runs in
            try await part.queue.cancel(runs.map { ($0.organization, $0.run) }, epoch: epoch)
        }
    }

    /// Takes what waits in the queue out of it, of which the mark would refuse all.
    func withdraw(_ runs: [(OrganizationID, RunID)]) async {
        await inParts(
            runs.map { ($0.0, $0) }, "ended work left to the mark, which refuses it"
        ) { part, epoch, runs in
            try await part.queue.cancel(runs, epoch: epoch)
        }
    }

    /// Tells gateways to stop runs that their agents may hold. An agent that is not reached hears it at its
    /// next hello.
    package func tellCancelled(_ runs: [CancelledRun]) async {
        guard !runs.isEmpty else { return }
        do {
            let presences = try await presence(of: runs.map { ($0.organization, $0.device) })
            var items: [GatewayID: [InboxLetter.Item]] = [:]
            for (run, presence) in zip(runs, presences) {
                if let presence { items[presence.gateway, default: []].append(run.letterItem) }
            }
            _ = try await mail.deliver(
                items.map { Letter(gateway: $0.key, payload: InboxLetter.cancel($0.value).encoded) })
        } catch {
            logger.debug("cancels left to the next hello", metadata: ["error": "\(error)"])
        }
    }

    /// Has the gateways end the sessions of devices, as far as that can be said now; what does not arrive is
    /// found by the gateways' own look at their sessions.
    /// - Returns: those that had one.
    @discardableResult
    package func endSessions(of devices: [(OrganizationID, DeviceID)]) async -> Set<DeviceID> {
        guard !devices.isEmpty else { return [] }
        do {
            let presences = try await presence(of: devices)
            var held: [GatewayID: [DeviceID]] = [:]
            for ((_, device), presence) in zip(devices, presences) {
                if let presence { held[presence.gateway, default: []].append(device) }
            }
            _ = try await mail.deliver(
                held.map { Letter(gateway: $0.key, payload: InboxLetter.end($0.value).encoded) })
            return Set(held.values.joined())
        } catch {
            logger.warning("sessions end at the next look", metadata: ["error": "\(error)"])
            return []
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
