import Access
import Engine
import HTTPTypes
import Ledger
import Wire

/// What answers the routes: the parts that each call needs, without state of its own.
struct Handlers: Sendable {
    /// The parts.
    struct Parts: Sendable {
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
    }

    // Calls refer to one place, since each would copy all parts otherwise.
    private final class Place: Sendable {
        let parts: Parts

        init(_ parts: Parts) { self.parts = parts }
    }

    private let place: Place

    init(_ parts: Parts) { place = Place(parts) }

    var ledger: Ledger { place.parts.ledger }
    var authenticator: Authenticator { place.parts.authenticator }
    var tenants: TenantMaker { place.parts.tenants }
    var roles: RoleMaker { place.parts.roles }
    var lifecycle: Lifecycle { place.parts.lifecycle }
    var signIn: SignIn { place.parts.signIn }
    var webhooks: WebhookMaker { place.parts.webhooks }
    var secrets: SecretMaker { place.parts.secrets }
    var submitter: Submitter { place.parts.submitter }
    var enroller: Enroller { place.parts.enroller }
    var presence: Presence { place.parts.presence }
    var queues: QueueView { place.parts.queues }
    var controls: QueueControls { place.parts.controls }
    var rates: QueueRates { place.parts.rates }
    var tasks: Tasks { place.parts.tasks }
    var retentionDays: Int { place.parts.retentionDays }
    var watches: JobWatches { place.parts.watches }
    var readiness: @Sendable () async -> [String: Bool] { place.parts.readiness }
    var docs: DocsFiles? { place.parts.docs }

    /// Every route of this release.
    var table: RouteTable {
        let contract =
            tenantRoutes + lifecycleRoutes + guardRoutes + approvalRoutes + principalRoutes + oidcRoutes
            + signInRoutes + auditRoutes
            + enrollmentRoutes
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
