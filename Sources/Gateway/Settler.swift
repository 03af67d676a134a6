import Domain
import Engine
import Faults
import Ledger
import Logging
import Postgres
import Synchronization
import Wire

/// Commits results in batches and acknowledges each only after its commit.
///
/// No linger: while one batch commits, the next gathers, and the queue is told of the one before. A batch
/// that fails for a passing reason is tried again whole; one that fails for another is bisected, so that one
/// bad result costs nobody else's.
final class Settler: Sendable {
    /// A result with the session that waits for its acknowledgement.
    struct Item: Sendable {
        let result: AttemptResult
        let session: Session
        let name: AttemptName
        /// What the agent says of its trace: it proves nothing.
        var trace: TraceContext?
    }

    private let settle: @Sendable ([Item]) async throws -> [Settlement]
    private let settled: @Sendable ([SettledRun]) async -> Void
    private let logger: Logger
    private let pending = Mutex<[Item]>([])
    private let isFinishing = Atomic<Bool>(false)
    private let wake: AsyncStream<Void>
    private let ring: AsyncStream<Void>.Continuation
    let counters: EventCounters
    private let metrics: EngineMetrics

    init(
        ledger: Ledger, counters: EventCounters, metrics: EngineMetrics = EngineMetrics(), logger: Logger,
        settled: @escaping @Sendable ([SettledRun]) async -> Void
    ) {
        settle = { try await ledger.settle($0.map(\.result)) }
        self.settled = settled
        self.counters = counters
        self.metrics = metrics
        self.logger = logger
        (wake, ring) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// Takes a result in.
    func submit(_ item: Item) {
        item.session.holdResult()
        pending.withLock { $0.append(item) }
        ring.yield()
    }

    /// Commits until `finish`, and then what is there still. Not to be cancelled: a commit under way would be
    /// given up.
    func run() async {
        await withTaskGroup(of: Void.self) { telling in
            for await _ in wake { await drain(telling: &telling) }
            await drain(telling: &telling)
        }
    }

    /// Ends `run` once everything taken in is settled or given up.
    func finish() {
        isFinishing.store(true, ordering: .relaxed)
        ring.finish()
    }

    private func drain(telling: inout TaskGroup<Void>) async {
        while true {
            let batch = pending.withLock { pending in
                let batch = Array(pending.prefix(count(of: pending)))
                pending.removeFirst(batch.count)
                return batch
            }
            if batch.isEmpty { return }
            // A run may be named twice in a batch (a resent result): the copies settle one after the other.
            for part in distinct(batch) { await commit(part, telling: &telling) }
        }
    }

    private func count(of pending: [Item]) -> Int {
        var bytes = 0
        for (index, item) in pending.prefix(Self.batchMax).enumerated() {
            bytes += item.result.output.keptBytes
            if bytes > Self.batchBytesMax { return max(1, index) }
        }
        return min(pending.count, Self.batchMax)
    }

    private func distinct(_ batch: [Item]) -> [[Item]] {
        var seen: Set<RunID> = []
        var first: [Item] = []
        var again: [Item] = []
        for item in batch {
            if seen.insert(item.result.run).inserted { first.append(item) } else { again.append(item) }
        }
        return again.isEmpty ? [first] : [first] + distinct(again)
    }

    private func commit(_ items: [Item], telling: inout TaskGroup<Void>) async {
        var wait = Duration.milliseconds(50)
        while true {
            do {
                FaultPoint.reach(.gatewayBeforeCommit)
                let settlements = try await settle(items)
                FaultPoint.reach(.gatewayAfterCommit)
                acknowledge(items)
                FaultPoint.reach(.gatewayAfterAcknowledge)
                counters.count(settlements)
                metrics.settled(items.map(\.result), settlements)
                // One batch at a time: where the queue is slow, settling is.
                await telling.next()
                telling.addTask { await self.settled(settlements.compactMap(\.settledRun)) }
                return
            } catch let error as PostgresError where !error.isTransient {
                guard items.count > 1 else {
                    logger.error(
                        "a result was refused by the database",
                        metadata: items[0].metadata(error))
                    counters.increment("refusedResults")
                    items[0].session.close(.malformed("a result could not be recorded"))
                    return
                }
                await commit(Array(items[..<(items.count / 2)]), telling: &telling)
                await commit(Array(items[(items.count / 2)...]), telling: &telling)
                return
            } catch {
                // Agents keep what is not acknowledged: giving up at shutdown loses nothing.
                if isFinishing.load(ordering: .relaxed) { return }
                logger.warning(
                    "settlement is tried again", metadata: ["results": "\(items.count)", "error": "\(error)"])
                // Cancellation ends the wait early, which is what is wanted.
                try? await Task.sleep(for: wait)
                wait = min(wait * 2, .seconds(2))
            }
        }
    }

    private func acknowledge(_ items: [Item]) {
        FaultPoint.reach(.gatewayBeforeAcknowledge)
        for (_, items) in Dictionary(grouping: items, by: { ObjectIdentifier($0.session) }) {
            items[0].session.acknowledge(items.map(\.name))
        }
    }

    private static let batchMax = 256
    private static let batchBytesMax = 8 << 20
}

extension OutputRow {
    fileprivate var keptBytes: Int {
        stdoutHead.count + stdoutTail.count + stderrHead.count + stderrTail.count
    }
}

extension Settler.Item {
    /// What is logged of a result that cannot be recorded.
    fileprivate func metadata(_ error: PostgresError) -> Logger.Metadata {
        var metadata: Logger.Metadata = [
            "organization.id": "\(result.organization)", "run.id": "\(result.run)",
            "attempt": "\(result.attempt)", "device.id": "\(result.device)", "error": "\(error)",
        ]
        if let trace { metadata["trace.agent"] = "\(trace.traceID)" }
        return metadata
    }
}
