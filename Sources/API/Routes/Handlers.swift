import Access
import Engine
import HTTPTypes
import Ledger
import Wire

/// What answers the routes: the parts that each call needs, without state of its own.
struct Handlers: Sendable {
    let ledger: Ledger
    let authenticator: Authenticator
    let tenants: TenantMaker
    let roles: RoleMaker
    let lifecycle: Lifecycle
    let signIn: SignIn
    let webhooks: WebhookMaker
    let secrets: SecretMaker
    let submitter: Submitter
    let enroller: Enroller
    let presence: Presence
    let queues: QueueView
    let controls: QueueControls
    let rates: QueueRates
    let tasks: Tasks
    let retentionDays: Int
    let watches: JobWatches
    let readiness: @Sendable () async -> [String: Bool]
    /// The files of the page for people, where they are installed.
    var docs: DocsFiles?

    /// Every route of this release.
    var table: RouteTable {
        let contract =
            tenantRoutes + lifecycleRoutes + guardRoutes + approvalRoutes + principalRoutes + oidcRoutes
            + signInRoutes + auditRoutes
            + deviceRoutes
            + jobRoutes
            + jobControlRoutes + explainRoutes + queueRoutes + interactiveRoutes + quotaRoutes
            + deadLetterRoutes + taskRoutes + webhookRoutes + secretRoutes
        return RouteTable(contract + systemRoutes(describing: contract))
    }

    /// Paths of the contract that a later release brings.
    static let notSupportedYet = RouteTable(
        [
            "/v1/runs/{id}/events"
        ].map { path in
            .open(path, "Not built yet", "application/problem+json") { _ in throw Self.notSupported(path) }
        })

    /// The refusal of such a path.
    static func notSupported(_ path: String) -> Problem {
        var problem = Problem(.notSupported, "\(path) is part of the contract, but not supported yet")
        // There is no such path, whatever the code says of why.
        (problem.status, problem.title) = (404, HTTPResponse.Status.notFound.reasonPhrase)
        return problem
    }
}
