import Domain
import Engine
import Foundation
import Ledger
import Redis
import Streams
import Synchronization
import Trust

/// A gateway without agents: what lies in its inbox succeeds at once, and is settled in batches as a gateway
/// does it.
final class Sink: Sendable {
    let id = GatewayID.new(at: .now())
    let bed: Bed
    private let inbox: RedisBlockingConnection
    /// Settled runs, and the times at which the attempts of watched devices arrived.
    let settled = Atomic<Int>(0)
    private let pending = Mutex<[InboxLetter.Item]>([])
    private let watched = Mutex<[DeviceID: Watched]>([:])
    private let counted = Mutex<[OrganizationID: Int]>([:])
    private let execute: Execute?
    private let (wake, ring) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))

    /// Runs attempts and says which have succeeded.
    typealias Execute =
        @Sendable (
            _ items: [InboxLetter.Item], _ done: @escaping @Sendable ([InboxLetter.Item]) -> Void
        ) async -> Void

    /// A gateway that holds these devices. Without `execute` what it is sent has succeeded at once.
    init(_ bed: Bed, holding devices: [DeviceID], execute: Execute? = nil) async throws {
        self.bed = bed
        self.execute = execute
        inbox = try bed.blocking()
        try await bed.gateway.beginGateway(id)
        try await bed.queue.beat(gateway: id, milliseconds: 600_000)
        _ = try await bed.queue.present(devices, gateway: id, epoch: bed.front.epoch())
    }

    private struct Watched {
        var arrivals: [ContinuousClock.Instant] = []
        var follower: AsyncStream<ContinuousClock.Instant>.Continuation?
    }

    /// Notes when attempts of this device and cancels of them arrive.
    func watch(_ device: DeviceID) { watched.withLock { $0[device] = Watched() } }

    func arrivals(_ device: DeviceID) -> [ContinuousClock.Instant] {
        watched.withLock { $0[device]?.arrivals ?? [] }
    }

    /// As `watch`; says each arrival when it comes.
    func follow(_ device: DeviceID) -> AsyncStream<ContinuousClock.Instant> {
        let (arrivals, follower) = AsyncStream<ContinuousClock.Instant>.makeStream()
        watched.withLock { $0[device] = Watched(follower: follower) }
        return arrivals
    }

    /// How many attempts of each organization have arrived.
    var arrived: [OrganizationID: Int] { counted.withLock(\.self) }

    /// Says what went wrong, where it is not taken for a result.
    static func complain(_ text: String) {
        // Who closed standard error does not want to know.
        try? FileHandle.standardError.write(contentsOf: Data("\(text)\n".utf8))
    }

    /// Reads and settles until cancelled.
    func run() async {
        let (results, feed) = AsyncStream<[InboxLetter.Item]>.makeStream()
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.read(into: feed) }
            group.addTask { await self.settle(results) }
        }
        await inbox.close()
    }

    private func read(into feed: AsyncStream<[InboxLetter.Item]>.Continuation) async {
        var last = "0"
        while !Task.isCancelled {
            do {
                let letters = try await bed.queue.inbox(
                    gateway: id, after: last, count: 64, wait: .seconds(1), on: inbox)
                guard let newest = letters.last else { continue }
                last = newest.id
                var items: [InboxLetter.Item] = []
                for letter in letters.compactMap({ InboxLetter($0.payload) }) {
                    switch letter {
                    case .dispatch(let dispatched): items += dispatched
                    case .cancel(let cancelled): see(cancelled)
                    case .end: break
                    }
                }
                note(items)
                feed.yield(items)
                try await bed.queue.discard(gateway: id, letters.map(\.id))
            } catch {
                if !Task.isCancelled { Self.complain("a sink cannot read: \(error)") }
            }
        }
        feed.finish()
    }

    private func note(_ items: [InboxLetter.Item]) {
        counted.withLock { counted in
            for item in items { counted[item.organization, default: 0] += 1 }
        }
        see(items)
    }

    private func see(_ items: [InboxLetter.Item]) {
        let now = ContinuousClock.now
        watched.withLock { watched in
            guard !watched.isEmpty else { return }
            for item in items {
                watched[item.device]?.arrivals.append(now)
                watched[item.device]?.follower?.yield(now)
            }
        }
    }

    private func settle(_ results: AsyncStream<[InboxLetter.Item]>) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                for await items in results { await self.receive(items) }
                self.ring.finish()
            }
            group.addTask {
                await withTaskGroup(of: Void.self) { telling in
                    for await _ in self.wake {
                        while true {
                            let batch = self.pending.withLock { pending in
                                defer { pending.removeFirst(min(256, pending.count)) }
                                return Array(pending.prefix(256))
                            }
                            if batch.isEmpty { break }
                            let runs = await self.commit(batch)
                            await telling.next()
                            telling.addTask { await self.tell(runs) }
                        }
                    }
                }
            }
        }
    }

    /// Runs what it was sent.
    func receive(_ items: [InboxLetter.Item]) async {
        guard let execute else { return end(items) }
        await execute(items) { self.end($0) }
    }

    /// These have succeeded.
    private func end(_ items: [InboxLetter.Item]) {
        guard !items.isEmpty else { return }
        pending.withLock { $0 += items }
        ring.yield()
    }

    private func tell(_ runs: [SettledRun]) async {
        await bed.front.settled(runs)
        settled.add(runs.count, ordering: .relaxed)
    }

    /// Returns the runs that have ended by it.
    private func commit(_ items: [InboxLetter.Item]) async -> [SettledRun] {
        do {
            let now = Instant.now()
            let settlements = try await bed.gateway.settle(
                items.map {
                    AttemptResult(
                        organization: $0.organization, device: $0.device, run: $0.run, attempt: $0.attempt,
                        token: $0.token, outcome: .succeeded, exitCode: 0, reason: nil, startedAt: now,
                        finishedAt: now,
                        output: OutputRow(
                            stdoutHead: [], stdoutTail: [], stdoutBytes: 0, stderrHead: [], stderrTail: [],
                            stderrBytes: 0))
                })
            return settlements.compactMap(\.settledRun)
        } catch {
            if !Task.isCancelled { Self.complain("a sink cannot settle: \(error)") }
            return []
        }
    }
}

/// Workers: dispatchers, refill and reconciler, as the worker's role has them.
struct Workers: Sendable {
    let bed: Bed
    var dispatchers = 3
    var name = "bench"

    /// Works beside a body.
    func beside<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) async throws -> Value {
        try await withThrowingTaskGroup(of: Value?.self) { group in
            for number in 0..<dispatchers {
                group.addTask {
                    let bell = try bed.blocking()
                    await Dispatcher(
                        ledger: bed.worker, front: bed.front, bell: bell, owner: "\(name).\(number)",
                        logger: Bed.logger
                    ).run()
                    await bell.close()
                    return nil
                }
            }
            group.addTask {
                await Refiller(ledger: bed.worker, front: bed.front, logger: Bed.logger).run()
                return nil
            }
            group.addTask {
                await Reconciler(ledger: bed.worker, front: bed.front, logger: Bed.logger).run()
                return nil
            }
            group.addTask { try await body() }
            while let value = try await group.next() {
                if let value {
                    group.cancelAll()
                    return value
                }
            }
            throw BenchError("the body did not return")
        }
    }
}
