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
    private let connection: RedisConnection
    private let logger: Logger
    /// The epoch that this rebuilder began last.
    private let begun = Mutex<String?>(nil)
    private static let buildTime = Duration.seconds(5)

    /// A rebuilder on the worker's login.
    package init(ledger: Ledger, front: QueueFront, connection: RedisConnection, logger: Logger) {
        self.ledger = ledger
        self.front = front
        self.connection = connection
        self.logger = logger
    }

    /// Watches until the task is cancelled.
    package func run() async {
        await repeating(every: .milliseconds(250), idle: .milliseconds(250), logger, "rebuild") {
            try await self.checkOnce()
        }
    }

    /// Builds a new data set if the one in Redis is not the one that PostgreSQL knows; returns whether it
    /// did.
    package func checkOnce() async throws -> Bool {
        let server = try await serverRunID()
        let partition = front.queue.keys.partition
        let kept = try await ledger.epoch(partition: partition)
        let present = try await front.queue.epoch()
        if let kept, kept.id.hasSuffix("@" + server) {
            if present?.id == kept.id { return false }
            // Somebody builds it now. Whoever died over it is followed after a while.
            if present == nil, kept.id != begun.withLock({ $0 }), kept.age < Self.buildTime { return false }
        }
        let epoch = Epoch("\(Epoch.fresh())@\(server)")
        begun.withLock { $0 = epoch.id }
        guard try await ledger.beginEpoch(epoch.id, replacing: kept?.id, partition: partition) else {
            return false
        }
        let limits = try await ledger.limits().map {
            Entitlement(
                organization: $0.organization, weight: $0.weight, cap: $0.cap,
                interactiveRate: $0.interactiveRate, interactiveBurst: $0.interactiveBurst)
        }
        let pauses = try await ledger.pauses(of: nil, scope: .platform).map(Pause.init)
        var running: [Membership] = []
        var last: QueuedRun?
        while true {
            guard try await ledger.keepEpoch(epoch.id, partition: partition) else { return false }
            let page = try await ledger.running(after: last, limit: 5_000)
            running += page.map(Membership.init)
            last = page.last?.run
            if page.count < 5_000 { break }
        }
        var limited: [OrganizationID: [LabelledRun]] = [:]
        for organization in try await ledger.runLimits().keys {
            limited[organization] = try await ledger.lanes(of: [], andRunningOf: organization)
                .map(LabelledRun.init)
        }
        // Whoever was overtaken leaves the field to the other.
        do {
            try await front.queue.rebuild(
                epoch: epoch, entitlements: limits, pauses: pauses, running: running, limited: limited
            ) {
                FaultPoint.reach(.rebuilderMidWay)
                return try await self.ledger.keepEpoch(epoch.id, partition: partition)
            }
        } catch QueueError.staleEpoch {
            return false
        }
        front.forgetEpoch()
        let queues = try await ledger.queuesWithBacklog()
        if !queues.isEmpty { try await front.queue.mark(queues, epoch: epoch) }
        front.metrics.count(.rebuilds)
        logger.notice(
            "queue rebuilt from PostgreSQL",
            metadata: ["queues": "\(queues.count)", "running": "\(running.count)"])
        return true
    }

    private func serverRunID() async throws -> String {
        let info = try await connection.send(RedisCommand("INFO", "server", "replication")).text ?? ""
        func field(_ name: String) throws -> String {
            for line in info.split(whereSeparator: \.isNewline) where line.hasPrefix("\(name):") {
                return String(line.dropFirst(name.count + 1))
            }
            throw EngineError(.overloaded, "Redis does not say its \(name)")
        }
        return try "\(field("run_id"))/\(field("role"))/\(Queue.layout)"
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
