import Domain
import Faults
package import Ledger
package import Logging
import Postgres
package import Redis
import Streams
import Synchronization

/// Notices a lost data set in Redis and builds a new one from PostgreSQL.
///
/// The epoch names the data set, the server process that holds it, its role and the layout of its keys:
/// another run id or role means that up to a second of writes may be missing, so it counts as lost. One
/// worker wins the change of epoch in PostgreSQL, under the lock that every mark holds shared; the others see
/// the new one. Cost: organizations and running runs, not backlog.
package final class Rebuilder: Sendable {
    private let ledger: Ledger
    private let front: QueueFront
    private let contents: QueueContents
    private let connection: RedisConnection
    private let logger: Logger
    /// The epoch that this rebuilder began last.
    private let begun = Mutex<[Int: String]>([:])
    private let isJudged = Mutex(false)
    private let hasWarned = Mutex(false)
    private static let buildTime = Duration.seconds(5)

    /// A rebuilder on the worker's login, of runs unless other contents are given.
    package init(
        ledger: Ledger, front: QueueFront, contents: QueueContents? = nil, connection: RedisConnection,
        logger: Logger
    ) {
        self.ledger = ledger
        self.front = front
        self.contents = contents ?? .runs(ledger)
        self.connection = connection
        self.logger = logger
    }

    /// Watches until the task is cancelled.
    package func run() async {
        await front.forEachPart { part in
            await repeating(every: .milliseconds(250), idle: .milliseconds(250), self.logger, "rebuild") {
                guard let kept = try await self.epochsToReplace() else { return false }
                return try await self.checkOnce(part, kept[part.number])
            }
        }
    }

    /// Builds a new data set if the one in Redis is not the one that PostgreSQL knows; returns whether it
    /// did.
    package func checkOnce() async throws -> Bool {
        guard let kept = try await epochsToReplace() else { return false }
        return try await inEach(front.parts) { try await self.checkOnce($0, kept[$0.number]) }.contains(true)
    }

    // How long a data set of another layout is left to the worker that brought it.
    private static let takeoverTime = Duration.seconds(60)

    /// The epochs of the partitions, of which none has another layout; `nil` if this worker's number of
    /// partitions is not the one in force.
    ///
    /// A worker that starts brings its own: the epochs of all partitions that others knew end before any is
    /// built, so that no mark under the old division of organizations comes after the new one. Of workers
    /// that differ the last one to start prevails, and the others do nothing for a minute, rather than take
    /// turns all the time; after that they do, for nobody else may be left.
    private func epochsToReplace() async throws -> [Int: KeptEpoch]? {
        let layout = front.parts[0].queue.keys.layout
        let first = front.parts[0].number
        // A kind of tasks has its one partition, runs have those below.
        var kept = try await ledger.epochs().filter {
            first < Keyspace.partitionsMax ? $0.key < Keyspace.partitionsMax : $0.key == first
        }
        let others = kept.filter { Keyspace.layout(ofEpoch: $0.value.id) ?? layout[...] != layout }
        let isFirst = isJudged.withLock { judged in
            defer { judged = true }
            return !judged
        }
        guard !others.isEmpty else { return kept }
        // Whoever brought it may have gone: after a while it is as if this worker had just started.
        let isOld = others.values.allSatisfy { $0.age > Self.takeoverTime }
        guard isFirst || isOld else {
            if hasWarned.withLock({ warned in
                defer { warned = true }; return !warned
            }) {
                logger.error(
                    "another worker runs the queue with another number of partitions: nothing is done here",
                    metadata: ["partitions": "\(front.parts.count)"])
            }
            return nil
        }
        for (partition, old) in others {
            let closed = "\(Epoch.fresh())\(KeptEpoch.closedMark)"
            guard try await ledger.beginEpoch(closed, replacing: old.id, partition: partition) else {
                // Another worker that starts does the same.
                isJudged.withLock { $0 = false }
                return nil
            }
            kept[partition] = KeptEpoch(id: closed, age: .zero)
        }
        logger.notice(
            "the number of partitions has changed; all are built anew",
            metadata: ["partitions": "\(front.parts.count)", "closed": "\(others.count)"])
        // What is left of partitions that nobody has any more.
        let keys = front.parts[0].queue.keys
        for partition in kept.keys where !front.parts.contains(where: { $0.number == partition }) {
            let old = Keyspace(
                prefix: keys.prefix, partition: partition, of: keys.count, librarySuffix: keys.librarySuffix)
            try await front.parts[0].queue.beside(old).abandon()
        }
        return kept
    }

    /// `kept` was judged: an epoch that began since is not replaced.
    private func checkOnce(_ part: QueuePart, _ kept: KeptEpoch?) async throws -> Bool {
        let partition = part.number
        // First, for it finds the server that has the partition now.
        let present = try await part.queue.epoch()
        let server = try await part.queue.server()
        if let kept, kept.id.hasSuffix("@" + server) {
            if present?.id == kept.id { return false }
            // Somebody builds it now. Whoever died over it is followed after a while.
            if present == nil, kept.id != begun.withLock({ $0[partition] }), kept.age < Self.buildTime {
                return false
            }
        }
        let epoch = Epoch("\(Epoch.fresh())@\(server)")
        begun.withLock { $0[partition] = epoch.id }
        guard try await ledger.beginEpoch(epoch.id, replacing: kept?.id, partition: partition) else {
            return false
        }
        let limits = try await ledger.limits().filter { part.has($0.organization) }.map {
            Entitlement(
                organization: $0.organization, weight: $0.weight, cap: $0.cap,
                interactiveRate: $0.interactiveRate, interactiveBurst: $0.interactiveBurst)
        }
        let pauses = try await contents.pauses().map(Pause.init).filter {
            $0.organization.map(part.has) ?? true
        }
        var running: [Membership] = []
        var last: QueuedRun?
        while true {
            guard try await ledger.keepEpoch(epoch.id, partition: partition) else { return false }
            let page = try await contents.running(last, 5_000)
            running += page.filter { part.has($0.run.organization) }.map(Membership.init)
            last = page.last?.run
            if page.count < 5_000 { break }
        }
        var limited: [OrganizationID: [LabelledRun]] = [:]
        for organization in try await contents.limits().keys where part.has(organization) {
            limited[organization] = try await contents.lanes(organization).map(LabelledRun.init)
        }
        // Whoever was overtaken leaves the field to the other.
        do {
            try await part.queue.rebuild(
                epoch: epoch, entitlements: limits, pauses: pauses, running: running, limited: limited
            ) {
                FaultPoint.reach(.rebuilderMidWay)
                return try await self.ledger.keepEpoch(epoch.id, partition: partition)
            }
        } catch QueueError.staleEpoch {
            return false
        }
        part.forgetEpoch()
        let queues = try await contents.backlog(nil).filter { part.has($0.organization) }
        if !queues.isEmpty { try await part.queue.mark(queues, epoch: epoch) }
        front.metrics.count(.rebuilds)
        logger.notice(
            "queue rebuilt from PostgreSQL",
            metadata: [
                "partition": "\(partition)", "queues": "\(queues.count)", "running": "\(running.count)",
            ])
        return true
    }
}

extension Membership {
    /// The membership of a run that is on a device.
    init(_ running: RunningRun) {
        self.init(
            organization: running.run.organization, run: running.run.run, generation: running.run.generation,
            device: running.run.device, lane: running.run.lane,
            deadlineMilliseconds: Int(running.deadline.microseconds / 1_000))
    }
}
