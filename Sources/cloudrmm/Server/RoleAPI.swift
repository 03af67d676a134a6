import API
import Access
import Domain
import Engine
import Gateway
import Ledger
import Logging
import Postgres
import Process
import Redis
import ServiceLifecycle
import Streams
import Trust

/// The API role, built: its part to run, and what others of the process ask of it.
struct BuiltAPI: Sendable {
    let part: Part
    let authenticator: Authenticator
    let ledger: Ledger
    /// Which of the engines below answer.
    let readiness: Readiness
    let counters: EventCounters

    /// A key of the whole platform for the person who started this, that acts for the administrator; the one
    /// before it is revoked. The administrator is made at the first start.
    func makeAdministratorKey(rememberedIn path: String) async throws -> String {
        if fileExists(path),
            let before = APIKeyID(String(decoding: try readFile(path, max: 64), as: UTF8.self))
        {
            try await authenticator.revokeKeyIfThere(before)
        }
        let administrator = try await RoleMaker(authenticator).administrator()
        let (row, secret) = try await authenticator.createKey(
            name: "administrator", level: .platform, permissions: Permission.all,
            expiresIn: .seconds(30 * 86_400), by: nil, actsFor: administrator)
        try DurableFile.write(Array(row.id.description.utf8), to: path)
        return secret
    }
}

extension Roles {
    /// The API: keys, submissions, enrolment, reads.
    func makeAPI(keys: KeyFiles, ports: BoundPorts) async throws -> BuiltAPI {
        let pool = try await makeCheckedPool(
            settings.apiDatabaseURL, of: .databaseURL, connections: 4)
        let connection = try makeConnection()
        let front = try await makeFront(connection)
        let ledger = Ledger(pool: pool)
        var apiKeys = try keys.openAPIKeys()
        let deployment = try await ledger.deployment(orCreate: apiKeys.signer.deployment)
        guard deployment == apiKeys.signer.deployment else {
            throw CommandError(
                "the keys in \(keys.directory) belong to another installation than the database: "
                    + "\(apiKeys.signer.deployment) and \(deployment)")
        }
        apiKeys.signer = try await KeySetPublication(ledger: ledger, logger: logger)
            .publish(apiKeys.signer, now: .now())
        let (apiNames, gatewayNames) = (settings.apiNames, settings.gatewayNames)
        try keys.issueServerCertificates(api: apiNames, gateway: gatewayNames)
        let tls = try RenewedTLS(logger: logger) {
            try keys.apiTLS()
        } renew: {
            try keys.renewServerCertificates(api: apiNames, gateway: gatewayNames, now: .now())
        }
        let counters = EventCounters()
        let logger = logger
        let judge = apiKeys.judge { refusal in
            switch refusal {
            case .missing, .archived: break
            case .outside(let edge):
                counters.increment("outsideRow.\(edge.table)")
                logger.error(
                    "row-level security does not hold: a row outside the caller's level was shown",
                    metadata: ["row.table": "\(edge.table)", "row.id": "\(edge)"])
            case .altered(let edge):
                counters.increment("alteredRow.\(edge.table)")
                logger.error(
                    "a row that says where something belongs was altered, and grants nothing",
                    metadata: ["row.table": "\(edge.table)", "row.id": "\(edge)"])
            }
        }
        let issuers = OIDCKeys(settings.oidc)
        let authenticator = Authenticator(
            ledger: ledger, seals: apiKeys.seals, judge: judge, store: keys.revocationsStore,
            issuers: issuers
        ) { code in
            counters.increment("refusedToken.\(code)")
            logger.debug("a token was refused", metadata: ["error.code": "\(code)"])
        }
        let submitter = Submitter(
            ledger: ledger, signer: apiKeys.signer, judge: judge, front: front, keys: apiKeys.sealing,
            logger: logger)
        let closing = Closing(ledger: ledger, submitter: submitter, front: front)
        let sealing = SecretSealer(
            ledger: ledger, signer: apiKeys.signer, keys: apiKeys.sealing,
            isRevoked: { try await authenticator.isRevoked($0) }, logger: logger)
        let renewer = Renewer(
            ledger: ledger, signer: apiKeys.signer, isRevoked: { try await authenticator.isRevoked($0) },
            logger: logger)
        let agentGatewayURL = settings.agentGatewayURL
        let gatewayPort = settings.gatewayPort
        let enroller = Enroller(
            ledger: ledger, signer: apiKeys.signer, judge: judge,
            isRevoked: { try await authenticator.isRevoked($0) }
        ) {
            agentGatewayURL ?? "wss://localhost:\(ports["gateway"] ?? gatewayPort)"
        }
        let readiness = Self.readiness(ledger, connection)
        let fronts = try await makeTaskFronts(connection)
        let tasks = Tasks(ledger: ledger, fronts: fronts)
        var configuration = APIConfiguration(
            host: settings.host, port: settings.apiPort, tls: { tls.context },
            hosts: apiNames.names.union(apiNames.addresses)
        ) { port in ports.bound("api", port) }
        configuration.docs = try settings.docsDirectory.map { try DocsFiles(directory: $0) }
        (configuration.origins, configuration.rateLimits) = (settings.corsOrigins, settings.rateLimits)
        let server = APIServer(
            configuration: configuration,
            ledger: ledger, authenticator: authenticator,
            tenants: TenantMaker(ledger: ledger, judge: judge),
            lifecycle: Lifecycle(
                closing: closing,
                mover: Mover(ledger: ledger, signer: apiKeys.signer, judge: judge, closing: closing),
                exporter: Exporter(ledger: ledger, signer: apiKeys.signer)),
            roles: RoleMaker(authenticator),
            signIn: SignIn(authenticator, sealing: apiKeys.sealing),
            webhooks: WebhookMaker(
                authenticator, keys: apiKeys.sealing, networks: settings.webhookNetworks),
            secrets: SecretMaker(authenticator, keys: apiKeys.sealing), submitter: submitter,
            enroller: enroller,
            presence: Presence(front: front), queues: QueueView(ledger: ledger, front: front),
            controls: QueueControls(ledger: ledger, front: front, judge: judge, logger: logger),
            rates: QueueRates(front: front), tasks: tasks, retentionDays: settings.retentionDays,
            readiness: readiness, counters: counters, logger: logger)
        let presence = presence(of: .api, ledger)
        let webhooks = try makeWebhookParts(
            ledger: ledger, tasks: tasks, front: fronts[.webhookDelivery], keys: apiKeys.sealing,
            presence: presence)
        let onFailure: @Sendable (any Error) -> Void = { [logger] error in
            logger.warning(
                "what is noted of use and changes is behind", metadata: ["error": "\(error)"])
        }
        let sealer = AuditSealer(
            ledger: ledger, seals: apiKeys.seals, store: keys.auditStore(apiKeys.seals))
        let eraser = Eraser(ledger: ledger, sealer: sealer, seals: apiKeys.seals)
        let part = Part("api", ending: .graceful) {
            try await beside([
                { try await tls.run() }, { await front.reportWork() },
                { try await authenticator.keepUp(onFailure: onFailure) },
                { try await sealer.run(onFailure: onFailure) }, { await sealing.run() },
                { await renewer.run() },
                { try await eraser.run(onFailure: onFailure) },
            ]) {
                try await presence.beside {
                    try await beside({ await webhooks.run() }) { try await server.run() }
                }
            }
            issuers.close()
            await connection.close()
            await pool.close()
        }
        return BuiltAPI(
            part: part, authenticator: authenticator, ledger: ledger, readiness: readiness,
            counters: counters)
    }

    /// Health and metrics.
    func makeOperations(
        ports: BoundPorts, readiness: @escaping Readiness,
        metrics: @escaping @Sendable () async -> String
    ) -> Part {
        let (settings, logger) = (settings, logger)
        return Part("operations", ending: .graceful) {
            try await PlainServer.operations(
                port: settings.operationsPort, readiness: readiness, metrics: metrics, logger: logger
            ) { ports.bound("operations", $0) }.run()
        }
    }

    /// The dashboard's port, which leads to the API's pages until there is a dashboard.
    func makeWeb(ports: BoundPorts) -> Part {
        let (settings, logger) = (settings, logger)
        return Part("web", ending: .graceful) {
            let api = try await cancelWhenGracefulShutdown { try await ports.port("api") }
            try await PlainServer.redirect(
                port: settings.webPort, to: "https://localhost:\(api)/docs", logger: logger
            ) { ports.bound("web", $0) }.run()
        }
    }
}
