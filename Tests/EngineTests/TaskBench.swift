import Domain
import Ledger
import Logging
import Postgres
import Redis
import Streams
import Synchronization
import TestSupport
import Testing
import Trust

@testable import Engine

/// A handler whose attempts a test moves step by step.
struct ProbeHandler: TaskHandler {
    struct Payload: Codable, Sendable, Equatable {
        var text = ""
    }

    static let kind = TaskKind("probe", partition: 1_999)

    let body: @Sendable (TaskAttempt<Payload>) async throws -> Void

    func handle(_ work: TaskAttempt<Payload>) async throws { try await body(work) }
}

struct ProbeFailure: Error {}

/// The queue of one kind of tasks on an empty database and an empty partition.
struct TaskBench: Sendable {
    let world: World
    let place: TestQueue
    let front: QueueFront
    let partition: TaskPartition
    let tasks: Tasks
    let upkeep: TaskUpkeep
    let metrics = TaskMetrics()
    let bells: [RedisBlockingConnection]

    static func run(_ body: (TaskBench) async throws -> Void) async throws {
        try await TestQueue.with { place in
            let bench = try TaskBench(place)
            do {
                try await bench.world.clear()
                try #require(try await bench.partition.rebuilder.checkOnce())
                try await body(bench)
            } catch {
                for bell in bench.bells { await bell.close() }
                throw error
            }
            for bell in bench.bells { await bell.close() }
        }
    }

    private init(_ place: TestQueue) throws {
        world = try World.here()
        self.place = place
        let keys = Keyspace(
            prefix: place.queue.keys.prefix, partition: ProbeHandler.kind.partition,
            librarySuffix: TestQueue.librarySuffix)
        let queue = Queue(connection: place.connection, keys: keys, logger: .quiet)
        front = QueueFront(queue: queue, logger: .quiet, settling: .zero)
        partition = TaskPartition(
            kind: ProbeHandler.kind, ledger: world.worker, front: front, connection: place.connection,
            logger: .quiet)
        tasks = Tasks(ledger: world.api, fronts: [ProbeHandler.kind: front])
        upkeep = TaskUpkeep(
            ledger: world.worker, fronts: [ProbeHandler.kind: front], logger: .quiet)
        let configuration = try TestQueue.configuration()
        bells = (0..<2).map { _ in RedisBlockingConnection(configuration: configuration, logger: .quiet) }
    }

    /// A pool of a worker of its own.
    func pool(
        worker: WorkerID = fresh(), concurrency: Int = 4, bell: Int = 0, gate: ClaimGate? = nil,
        times: PoolTimes = PoolTimes(),
        _ body: @escaping @Sendable (TaskAttempt<ProbeHandler.Payload>) async throws -> Void
    ) -> WorkerPool {
        WorkerPool(
            ledger: world.worker, front: front, bell: bells[bell], owner: "\(worker)", worker: { worker },
            work: TaskWork(ProbeHandler(body: body)), concurrency: concurrency,
            gate: gate ?? ClaimGate(ledger: world.worker), metrics: metrics, times: times, logger: .quiet)
    }

    func request(
        _ tenant: Tenant, _ text: String = "", policy: TaskPolicy = TaskPolicy(), key: String? = nil
    ) throws -> TaskRequest {
        var request = try TaskRequest(
            ProbeHandler.self, ProbeHandler.Payload(text: text), of: tenant.organization)
        (request.policy, request.key) = (policy, key)
        return request
    }

    @discardableResult
    func submit(
        _ tenant: Tenant, count: Int = 1, policy: TaskPolicy = TaskPolicy()
    ) async throws -> [TaskID] {
        let requests = try (0..<count).map { try request(tenant, "\($0)", policy: policy) }
        return try await tasks.submit(requests, scope: tenant.scope).map(\.id)
    }

    func task(_ id: TaskID) async throws -> TaskRow {
        try #require(try await world.api.task(id, scope: .platform))
    }

    func states() async throws -> [TaskState: Int] {
        let rows = try await world.api.tasks(
            TaskFilter(), PageRequest(after: nil, limit: 1_000), scope: .platform)
        return Dictionary(grouping: rows, by: \.state).mapValues(\.count)
    }

    /// Waits until something holds that other tasks bring about.
    func until(_ what: String, _ holds: () async throws -> Bool) async throws {
        let end = ContinuousClock.now + .seconds(30)
        while try await !holds() {
            guard ContinuousClock.now < end else { throw Unprepared("it never came that \(what)") }
            await Task.yield()
        }
    }

    /// Ends the leases of all running tasks, and what waits for a time.
    func lapse() async throws {
        try await world.owner.execute(
            "UPDATE tasks SET deadline = now() - interval '1 second' WHERE state IN (0, 4)", scope: .none)
    }

    /// Judges deadlines and brings what is queued.
    func upkeepOnce() async throws {
        _ = try await upkeep.judgeDeadlines()
        _ = try await partition.refiller.refillOnce()
    }
}

/// Lets what waits here pass once it is opened.
final class Latch: Sendable {
    private let state = Mutex<(isOpen: Bool, waiting: [CheckedContinuation<Void, Never>])>((false, []))

    func open() {
        let waiting = state.withLock { state in
            defer { state = (true, []) }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }

    func pass() async {
        await withCheckedContinuation { continuation in
            let isOpen = state.withLock { state in
                if !state.isOpen { state.waiting.append(continuation) }
                return state.isOpen
            }
            if isOpen { continuation.resume() }
        }
    }
}

/// Lasts until the task is cancelled.
func untilCancelled() async throws {
    let (stream, continuation) = AsyncStream.makeStream(of: Void.self)
    for await _ in stream {}
    continuation.finish()
    throw CancellationError()
}
