import Domain
import Engine
import Ledger
import Redis
import Streams
import Trust

/// The part of a worker that does the platform's own tasks: the queues of all kinds, and a pool for each kind
/// that this process works on.
struct TaskParts: Sendable {
    let partitions: [TaskPartition]
    let pools: [WorkerPool]
    let upkeep: TaskUpkeep
    let daily: @Sendable () async throws -> Void
    let bells: [RedisBlockingConnection]

    /// Usually there are data sets to be built at the start; what fails is tried again later.
    func prepare() async {
        for partition in partitions {
            _ = try? await partition.rebuilder.checkOnce()  // the rebuilder's own run tries again
        }
    }

    /// Works until the task is cancelled.
    func run() async {
        await withTaskGroup(of: Void.self) { group in
            for partition in partitions { group.addTask { await partition.run() } }
            for pool in pools { group.addTask { await pool.run() } }
            group.addTask { await upkeep.run(daily: daily) }
        }
        for bell in bells { await bell.close() }
    }
}

extension Roles {
    /// The queues of all kinds of tasks, on a connection that they share.
    func makeTaskFronts(_ connection: RedisConnection) async throws -> [TaskKind: QueueFront] {
        var fronts: [TaskKind: QueueFront] = [:]
        for kind in TaskKind.all {
            fronts[kind] = try await makeFront(
                connection, partition: kind.partition, metrics: EngineMetrics())
        }
        return fronts
    }

    /// What does tasks in this process. `process` names its claims.
    func makeTaskParts(
        ledger: Ledger, connection: RedisConnection, process: UniqueID, gate: ClaimGate,
        presence: WorkerPresence
    ) async throws -> TaskParts {
        let fronts = try await makeTaskFronts(connection)
        let configuration = try RedisConfiguration(url: settings.redisURL)
        let works = [TaskWork(RetentionHandler(ledger: ledger, defaultDays: settings.retentionDays))]
        var (pools, bells): ([WorkerPool], [RedisBlockingConnection]) = ([], [])
        for work in works {
            let concurrency = settings.taskConcurrency[work.kind] ?? 1
            guard concurrency > 0, let front = fronts[work.kind] else { continue }
            let bell = RedisBlockingConnection(configuration: configuration, logger: logger)
            bells.append(bell)
            pools.append(
                WorkerPool(
                    ledger: ledger, front: front, bell: bell, owner: "\(process).\(work.kind)",
                    worker: { presence.current }, work: work, concurrency: concurrency, gate: gate,
                    metrics: metrics.tasks, logger: logger))
        }
        let tasks = Tasks(ledger: ledger, fronts: fronts)
        let retentionDays = settings.retentionDays
        return TaskParts(
            partitions: fronts.sorted { $0.key.partition < $1.key.partition }.map { kind, front in
                TaskPartition(
                    kind: kind, ledger: ledger, front: front, connection: connection, logger: logger)
            },
            pools: pools, upkeep: TaskUpkeep(ledger: ledger, fronts: fronts, logger: logger),
            daily: {
                _ = try await RetentionHandler.submitDaily(tasks, ledger, at: .now())
                try await ledger.removeWebhookWork(before: retentionDays, limit: 5_000)
            }, bells: bells)
    }
}
