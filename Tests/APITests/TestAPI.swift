import Access
import Client
import Domain
import Ledger
import Logging
import Outbound
import Postgres
import Redis
import ServiceLifecycle
import Streams
import Synchronization
import TestSupport
import Testing
import Trust
import Wire

@testable import API
@testable import Engine

/// One tenant with a site and a device, and a key that may do everything in it.
struct Tenancy {
    let partner: PartnerID
    let organization: OrganizationID
    let site: SiteID
    let device: DeviceID
    let key: String
}

/// An API on a port of its own over a database of its own: two tenants, and a key of the platform.
struct TestAPI {
    let url: String
    let http: HTTPClient
    let ledger: Ledger
    let owner: PostgresPool
    let authenticator: Authenticator
    let admin: String
    let one: Tenancy
    let other: Tenancy
    let counters: EventCounters
    let queue: Queue
    let handlers: Handlers
    let signer: Signer
    let isReady: Flag

    /// Gives a device a session at a gateway that lives.
    func connect(_ device: DeviceID) async throws {
        let gateway = GatewayID.new(at: .now())
        let epoch = try #require(await queue.epoch())
        // Longer than any test takes on a slow machine.
        try await queue.beat(gateway: gateway, milliseconds: 3_600_000)
        _ = try await queue.present(device: device, gateway: gateway, epoch: epoch)
    }

    /// Sends one request; a body is sent as JSON unless the headers say otherwise.
    func call(
        _ method: String, _ path: String, key: String?? = nil, body: String? = nil,
        headers: [(String, String)] = []
    ) async throws -> HTTPResponse {
        try await call(method, path, key: key, bytes: body.map { Array($0.utf8) }, headers: headers)
    }

    /// As above, with bytes.
    func call(
        _ method: String, _ path: String, key: String?? = nil, bytes: [UInt8]?,
        headers: [(String, String)] = []
    ) async throws -> HTTPResponse {
        var headers = headers
        if let key = key ?? admin { headers.append(("Authorization", "Bearer \(key)")) }
        if bytes != nil, !headers.contains(where: { $0.0 == "Content-Type" }) {
            headers.append(("Content-Type", "application/json"))
        }
        return try await http.send(
            HTTPRequest(
                method: method, url: url + path, headers: headers, body: bytes ?? [],
                responseBytesMax: 64 << 20))
    }

    /// The problem of an answer.
    func problem(_ response: HTTPResponse) throws -> Problem {
        #expect(response.header("content-type") == "application/problem+json")
        let problem = try Problem.decode(response.body)
        #expect(problem.status == response.status)
        #expect(problem.requestId == response.header("x-request-id"))
        return problem
    }
}

extension TestAPI {
    /// Makes everything, runs the body against it, stops and drops everything.
    static func with(
        tls: TLSContext? = nil, issuers: OIDCKeys? = nil,
        configure: (inout APIConfiguration) -> Void = { _ in }, _ body: (TestAPI) async throws -> Void
    ) async throws {
        try await World.with { world in
            try await TestQueue.with { place in
                try await place.queue.rebuild(epoch: .fresh(), entitlements: [], running: [])
                try await serve(world.api, world.owner, place.queue, tls, issuers, configure, .quiet, body)
            }
        }
    }

    private static func serve(
        _ ledger: Ledger, _ owner: PostgresPool, _ queue: Queue, _ tls: TLSContext?, _ issuers: OIDCKeys?,
        _ configure: (inout APIConfiguration) -> Void, _ logger: Logger,
        _ body: (TestAPI) async throws -> Void
    ) async throws {
        let macKey = try MACKey(bytes: Array(repeating: 7, count: 32))
        let counters = EventCounters()
        let judge = EdgeJudge(key: macKey, keyID: "k1") { refusal in
            switch refusal {
            case .missing, .archived: break
            case .outside(let edge): counters.increment("outsideRow.\(edge.table)")
            case .altered(let edge): counters.increment("alteredRow.\(edge.table)")
            }
        }
        let authenticator = Authenticator(
            ledger: ledger, seals: RowSeals(key: macKey, keyID: "k1"), judge: judge, store: .memory,
            issuers: issuers
        ) { code in counters.increment("refusedToken.\(code)") }
        let (_, admin) = try await authenticator.createKey(
            name: "admin", level: .platform, permissions: Permission.all, expiresIn: .seconds(600), by: nil)
        let front = QueueFront(queue: queue, logger: logger, settling: .zero)
        let serverCA = try CertificateAuthority.make(commonName: "server", validitySeconds: 3_600)
        let signer = try Signer.made(
            deployment: try await ledger.deployment(orCreate: .new(at: .now())),
            serverCA: serverCA.certificate,
            deviceCA: .make(commonName: "device", validitySeconds: 3_600))
        let isReady = Flag()
        let sealing = try SealingKeys(
            current: SealingKeys.Key(id: "k1", secret: SecretBytes(Array(repeating: 9, count: 32))))
        let submitter = Submitter(
            ledger: ledger, signer: signer, judge: judge, front: front, keys: sealing,
            logger: logger)
        let closing = Closing(ledger: ledger, submitter: submitter, front: front)
        let handlers = Handlers(
            .init(
                ledger: ledger, authenticator: authenticator,
                tenants: TenantMaker(ledger: ledger, judge: judge), roles: RoleMaker(authenticator),
                lifecycle: Lifecycle(
                    closing: closing,
                    mover: Mover(ledger: ledger, signer: signer, judge: judge, closing: closing),
                    exporter: Exporter(ledger: ledger, signer: signer)),
                signIn: SignIn(authenticator, sealing: sealing),
                webhooks: WebhookMaker(authenticator, keys: sealing, networks: .none),
                secrets: SecretMaker(authenticator, keys: sealing),
                submitter: submitter,
                enroller: Enroller(
                    ledger: ledger, signer: signer, judge: judge,
                    isRevoked: { try await authenticator.isRevoked($0) }
                ) { "wss://localhost" },
                presence: Presence(front: front),
                queues: QueueView(ledger: ledger, front: front),
                controls: QueueControls(ledger: ledger, front: front, judge: judge, logger: logger),
                rates: QueueRates(front: front), tasks: Tasks(ledger: ledger, fronts: [:]), retentionDays: 90,
                watches: JobWatches(ledger: ledger, authenticator: authenticator),
                readiness: { ["database": true, "redis": isReady.isSet] }))
        let (ports, bound) = AsyncStream.makeStream(of: Int.self)
        var meeting: (@Sendable () -> TLSContext)?
        if let tls { meeting = { tls } }
        var configuration = APIConfiguration(
            host: "127.0.0.1", port: 0, tls: meeting, hosts: ["rmm.example"]
        ) { port in bound.yield(port) }
        configure(&configuration)
        let api = APIServer(
            configuration: configuration, ledger: ledger, authenticator: authenticator,
            tenants: handlers.tenants, lifecycle: handlers.lifecycle, roles: handlers.roles,
            signIn: handlers.signIn,
            webhooks: handlers.webhooks, secrets: handlers.secrets,
            submitter: handlers.submitter,
            enroller: handlers.enroller,
            presence: handlers.presence, queues: handlers.queues, controls: handlers.controls,
            rates: handlers.rates, tasks: handlers.tasks, retentionDays: 90, readiness: handlers.readiness,
            counters: counters, logger: logger)
        let group = ServiceGroup(configuration: .init(services: [api], logger: logger))
        async let running: Void = group.run()
        guard let port = await ports.first(where: { _ in true }) else { return }
        let http = HTTPClient(policy: .operator)
        let outcome: (any Error)?
        do {
            try await body(
                TestAPI(
                    url: "\(tls == nil ? "http" : "https")://127.0.0.1:\(port)", http: http, ledger: ledger,
                    owner: owner,
                    authenticator: authenticator, admin: admin,
                    one: tenancy("one", ledger, authenticator, judge, signer),
                    other: tenancy("other", ledger, authenticator, judge, signer), counters: counters,
                    queue: queue,
                    handlers: handlers, signer: signer,
                    isReady: isReady))
            outcome = nil
        } catch {
            outcome = error
        }
        http.close()
        await group.triggerGracefulShutdown()
        try await running
        // Whatever a test has refused is in the description.
        let undocumented = counters.snapshot.keys.filter { $0.hasPrefix("undocumented.") }
        #expect(undocumented.isEmpty)
        if let outcome { throw outcome }
    }

    private static func tenancy(
        _ name: String, _ ledger: Ledger, _ authenticator: Authenticator, _ judge: EdgeJudge,
        _ signer: Signer
    ) async throws -> Tenancy {
        let now = Instant.now()
        let tenants = TenantMaker(ledger: ledger, judge: judge)
        let partner = PartnerID(try await tenants.createPartner(name: name, level: .platform).id)
        let organization = OrganizationID(
            try await tenants.createOrganization(partner: partner, name: name, level: .platform).id)
        let site = SiteID(
            try await tenants.createSite(organization: organization, name: name, level: .platform).id)
        let (row, key) = try await authenticator.createKey(
            name: name, level: .organization(organization), permissions: Permission.all,
            expiresIn: .seconds(600), by: nil)
        let (token, device) = (EnrollmentTokenID.new(at: now), DeviceID.new(at: now))
        let hash = SHA256.hash(Array(name.utf8))
        try await ledger.createEnrollmentToken(
            token, site: #require(await ledger.site(site, scope: .platform)), hash: hash,
            expiresInSeconds: 60, usesMax: 1, by: PrincipalID(row.id.value), scope: .platform)
        let assignment = signer.sign(
            AssignmentPayload(device: device, keyHash: hash, partner: partner, site: site, version: 1),
            organization: organization, now: now
        ).encoded
        let isKept = try await ledger.enroll(
            EnrolledDevice(
                token: token, tokenHash: hash, device: device, organization: organization, site: site,
                hostname: name,
                platform: "linux", agentVersion: "1", machineID: nil, keyHash: hash,
                certificateSerial: "01\(name)",
                certificateEnd: now + .seconds(600), assignment: assignment,
                mac: judge.mac(of: .device(device, at: site, of: organization))))
        #expect(isKept)
        return Tenancy(partner: partner, organization: organization, site: site, device: device, key: key)
    }
}

/// Whether the parts behind the API answer.
final class Flag: Sendable {
    private let value = Atomic(true)

    var isSet: Bool { value.load(ordering: .relaxed) }
    func clear() { value.store(false, ordering: .relaxed) }
}

extension TestAPI {
    /// A caller with a new key of this level.
    func client(_ level: Level, _ permissions: Set<Permission> = Permission.all) async throws -> APIClient {
        let (_, key) = try await authenticator.createKey(
            name: "k", level: level, permissions: permissions, expiresIn: .seconds(600), by: nil)
        return APIClient(url: url, key: key)
    }
}

/// The problem with which a call is refused.
func refusal(_ body: () async throws -> Void) async throws -> Problem {
    do {
        try await body()
    } catch let problem as Problem {
        return problem
    }
    throw Unprepared("nothing was refused")
}
