import Domain
import Engine
import Ledger
import Outbound
import Redis
import Streams
import Trust

/// The part of the role api that tells webhooks: it spreads events, and delivers. It stands in this role
/// since only this has the key that opens the secrets which sign.
struct WebhookParts: Sendable {
    let spreader: WebhookSpreader
    let pool: WorkerPool
    let bell: RedisBlockingConnection
    let client: HTTPClient

    /// Works until the task is cancelled; then what is under way is finished or given back.
    func run() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await spreader.run() }
            group.addTask { await pool.run() }
        }
        await bell.close()
        client.close()
    }
}

extension Roles {
    /// What tells webhooks in this process.
    func makeWebhookParts(
        ledger: Ledger, tasks: Tasks, front: QueueFront?, keys: SealingKeys, presence: WorkerPresence
    ) throws -> WebhookParts {
        guard let front else { throw CommandError("there is no queue of deliveries to webhooks") }
        // Listeners by the addresses that callers and agents know them by.
        let own = settings.apiNames.addresses.union(settings.gatewayNames.addresses)
        let client = HTTPClient(
            policy: .guardedExcept(settings.webhookNetworks),
            ownAddresses: own.compactMap(AddressGuard.address(of:)))
        let bell = RedisBlockingConnection(
            configuration: try RedisConfiguration(url: settings.redisURL), logger: logger)
        let handler = WebhookHandler(ledger: ledger, client: client, keys: keys, logger: logger)
        let pool = WorkerPool(
            ledger: ledger, front: front, bell: bell,
            owner: "\(UniqueID.v7(at: .now())).\(TaskKind.webhookDelivery)",
            worker: { presence.current }, work: TaskWork(handler), concurrency: WebhookHandler.concurrency,
            gate: ClaimGate(ledger: ledger), metrics: metrics.tasks, logger: logger)
        return WebhookParts(
            spreader: WebhookSpreader(ledger: ledger, tasks: tasks, logger: logger), pool: pool, bell: bell,
            client: client)
    }
}
