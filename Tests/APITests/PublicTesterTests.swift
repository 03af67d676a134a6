import Access
import Client
import Domain
import Foundation
import Ledger
import Outbound
import Postgres
import TestSupport
import Testing
import Trust
import Wire

@testable import API

/// The API as strangers' tools see it: an OpenAPI validator, and Schemathesis, which calls every operation
/// with its example and with what it makes up. `Scripts/test` installs them and says where they are.
@Suite(
    "The API by public tools",
    .enabled(if: ProcessInfo.processInfo.environment["CLOUDRMM_TEST_PYTHON"] != nil))
struct PublicTesterTests {
    @Test("the description is valid, every answer is in it, none is a 5xx, and nearly all operations succeed")
    func schemathesis() async throws {
        // Issuers may be named, and nobody asks them.
        let issuers = OIDCKeys(OIDCKeys.Configuration())
        defer { issuers.close() }
        try await TestAPI.with(issuers: issuers) { api in
            let scene = try await Scene(api)
            var seeds: [String: Seed] = [:]
            for route in api.handlers.table.routes where route.caller != .anyone && route.answer.isJSON {
                let row = try #require(MatrixTests.table[MatrixTests.name(route)])
                let ids = try await scene.fresh(scene.own, row, route)
                seeds[MatrixTests.name(route)] = Seed(
                    id: row.subject.map { ids[$0] }, body: route.body == nil ? nil : row.body(ids))
            }
            try await seedWork(api, &seeds)
            try await seedPeople(api, &seeds)
            try await seedIssuers(api, &seeds)
            try await seedErasing(api, &seeds)
            let folder = FileManager.default.temporaryDirectory.appending(path: "crmm-\(UUID())")
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            defer { try? FileManager.default.removeItem(at: folder) }  // the system empties it otherwise
            let file = folder.appending(path: "seeds.json")
            try Data(Self.text(of: seeds, api)).write(to: file)
            let script = URL(filePath: #filePath).deletingLastPathComponent()
                .appending(path: "../../Scripts/test_contract.py").standardizedFileURL
            let status = try await Self.run(
                try #require(ProcessInfo.processInfo.environment["CLOUDRMM_TEST_PYTHON"]),
                [script.path, file.path])
            #expect(status == 0, "the script's own words are above")
        }
    }

    /// What an operation is called with: the id of its path, its body, and whose key if not the platform's.
    private struct Seed {
        var id: String?
        var body: String?
        var key: String?
    }

    /// How long Schemathesis makes up values.
    private static let seconds = 100

    private static func text(of seeds: [String: Seed], _ api: TestAPI) throws -> [UInt8] {
        var operations: [JSONMember] = []
        for (name, seed) in seeds.sorted(by: { $0.key < $1.key }) {
            var members: [JSONMember] = []
            if let id = seed.id { members.append(JSONMember(name: "id", value: .string(id))) }
            if let key = seed.key { members.append(JSONMember(name: "key", value: .string(key))) }
            if let body = seed.body {
                members.append(JSONMember(name: "body", value: try JSON.parse(Array(body.utf8))))
            }
            operations.append(JSONMember(name: name, value: .object(members)))
        }
        var writer = JSONWriter()
        writer.object { writer in
            writer.field("url", api.url)
            writer.field("key", api.admin)
            writer.field("seconds", seconds)
            writer.field("operations", JSON.object(operations))
        }
        return writer.bytes
    }

    /// Runs a program to its end; what it prints is printed here.
    private static func run(_ program: String, _ arguments: [String]) async throws -> Int32 {
        let process = Process()
        process.executableURL = URL(filePath: program)
        process.arguments = arguments
        return try await withCheckedThrowingContinuation { continuation in
            process.terminationHandler = { continuation.resume(returning: $0.terminationStatus) }
            do { try process.run() } catch { continuation.resume(throwing: error) }
        }
    }

    // MARK: What the server holds

    /// Issuers of an organization that nothing else is done to.
    private func seedIssuers(_ api: TestAPI, _ seeds: inout [String: Seed]) async throws {
        let admin = APIClient(url: api.url, key: api.admin)
        defer { admin.close() }
        func provider(_ name: String) async throws -> OIDCProviderID {
            try await admin.createOIDCProvider(
                NewOIDCProvider(
                    issuer: "https://id.example/\(name)", home: Place(organizationId: api.other.organization),
                    terms: OIDCTerms(name: name, audiences: ["x"]))
            ).id
        }
        let used = try await provider("used")
        for method in ["GET", "PATCH", "DELETE"] {
            let link = try await admin.createOIDCLink(
                NewOIDCLink(providerId: used, external: method, target: OIDCLinkTarget(role: "viewer")))
            seeds["\(method) /v1/oidc-links/{id}"]?.id = link.id.description
        }
        seeds["POST /v1/oidc-links"]?.body = #"{"providerId":"\#(used)","external":"post","role":"viewer"}"#
        for method in ["GET", "PATCH"] { seeds["\(method) /v1/oidc-providers/{id}"]?.id = used.description }
        seeds["DELETE /v1/oidc-providers/{id}"]?.id = try await provider("unused").description
    }

    /// What may be erased and deleted, as it has to be.
    private func seedErasing(_ api: TestAPI, _ seeds: inout [String: Seed]) async throws {
        let admin = APIClient(url: api.url, key: api.admin)
        defer { admin.close() }
        let partner = try await admin.createPartner(NewPartner(name: "p")).id
        _ = try await admin.archive(partner)
        seeds["POST /v1/partners/{id}/erase"] = Seed(id: partner.description, body: #"{"name":"p"}"#)
        let organization = try await admin.createOrganization(
            NewOrganization(name: "o", partnerId: api.one.partner)
        ).id
        let site = try await admin.createSite(NewSite(name: "s", organizationId: organization)).id
        let other = try await admin.createSite(NewSite(name: "t", organizationId: organization)).id
        _ = try await admin.archive(other)
        seeds["DELETE /v1/sites/{id}"] = Seed(id: other.description)
        let token = try await admin.createEnrollmentToken(NewEnrollmentToken(siteId: site)).token
        let device = try await admin.enroll(
            NewEnrollment(
                token: token, request: P256Key().certificateRequest(commonName: "any"), hostname: "h",
                platform: "linux", agentVersion: "1", machineId: nil)
        ).deviceId
        _ = try await admin.edit(device, NewDeviceChanges(state: .archived), version: nil)
        seeds["DELETE /v1/devices/{id}"] = Seed(id: device.description)
        let erased = try await admin.createOrganization(
            NewOrganization(name: "e", partnerId: api.one.partner)
        ).id
        _ = try await admin.archive(erased)
        for try await _ in admin.export(erased) {}
        seeds["POST /v1/organizations/{id}/erase"] = Seed(id: erased.description, body: #"{"name":"e"}"#)
    }

    private func seedWork(_ api: TestAPI, _ seeds: inout [String: Seed]) async throws {
        let admin = APIClient(url: api.url, key: api.admin)
        defer { admin.close() }
        func submit() async throws -> JobID {
            try await admin.submit(NewJob(kind: .ping, target: .devices([api.one.device]))).id
        }
        for verb in ["cancel", "pause", "resume"] {
            let job = try await submit()
            if verb == "resume" { _ = try await admin.pause(job) }
            seeds["POST /v1/jobs/{id}/\(verb)"]?.id = job.description
        }
        // All others are needed yet.
        seeds["POST /v1/jobs/cancel"]?.body = #"{"organizationId":"\#(api.one.organization)","dryRun":true}"#
        // Of another organization: the devices of this one are archived and moved.
        let other = try await admin.submit(NewJob(kind: .ping, target: .devices([api.other.device]))).id
        seeds["POST /v1/runs/{id}/cancel"]?.id = try await admin.runs(of: other).items[0].id.description
        // Jobs whose only run has failed, and nothing more is tried.
        let dead = ["POST /v1/jobs/{id}/retry", "GET", "redrive", "discard"]
        for name in dead {
            let job = try await submit()
            let run = try await admin.runs(of: job).items[0].id
            try await api.owner.pipeline(
                scope: .platform,
                [
                    """
                    INSERT INTO run_history (organization_id, id, job_id, device_id, site_id, state, attempt,
                                             created_at, finished_at, dead)
                    SELECT organization_id, id, job_id, device_id, site_id, 11, 1, created_at, now(), true
                    FROM runs
                    WHERE job_id = \(job)
                    """,
                    "DELETE FROM runs WHERE job_id = \(job)",
                    """
                    UPDATE jobs
                    SET state = 10, ended = '{0,1,0,0,0,0}', finished_at = now()
                    WHERE id = \(job)
                    """,
                ])
            switch name {
            case "GET": seeds["GET /v1/dead-letters/{id}"]?.id = run.description
            case "redrive", "discard":
                seeds["POST /v1/dead-letters/\(name)"]?.body = #"{"runIds":["\#(run)"]}"#
            default: seeds[name]?.id = job.description
            }
        }
        for route in ["GET /v1/tasks/{id}", "POST /v1/tasks/{id}/cancel", "POST /v1/tasks/{id}/retry"] {
            let id = TaskID.new(at: .now())
            _ = try await api.ledger.submit(
                [
                    SubmittedTask(
                        id: id, organization: api.one.organization, kind: .retention, payload: [],
                        expiresAt: .now() + .seconds(600))
                ], scope: .organization(api.one.organization))
            if route.hasSuffix("retry") { _ = try await admin.cancel(id) }
            seeds[route]?.id = id.description
        }
        // A delivery that has ended is made once more.
        let home = Place(organizationId: api.one.organization)
        let webhook = try await admin.createWebhook(
            NewWebhook(url: "https://example.com/", events: [.jobEnded], home: home))
        let delivery = try await admin.test(webhook.webhook.id).id
        try await api.owner.pipeline(
            scope: .none,
            [
                """
                UPDATE tasks SET state = 11, finished_at = now()
                WHERE id = (SELECT task_id FROM webhook_deliveries WHERE id = \(delivery))
                """,
                "UPDATE webhook_deliveries SET state = 2 WHERE id = \(delivery)",
            ])
        seeds["POST /v1/webhook-deliveries/{id}/redeliver"]?.id = delivery.description
        let worker = WorkerID.new(at: .now())
        try await api.ledger.beginWorker(worker, role: "worker", host: "a", processID: 1)
        seeds["POST /v1/workers/{id}/drain"]?.id = worker.description
        let token = try await admin.createEnrollmentToken(NewEnrollmentToken(siteId: api.one.site))
        let request = JSON.string(try P256Key().certificateRequest(commonName: "any"))
        seeds["POST /v1/enrollments"] = Seed(
            body: #"{"token":"\#(token.token)","request":\#(String(decoding: request.json, as: UTF8.self)),"#
                + #""hostname":"h","platform":"linux","agentVersion":"1"}"#)
    }

    private func seedPeople(_ api: TestAPI, _ seeds: inout [String: Seed]) async throws {
        let password = "correct horse battery"
        let admin = APIClient(url: api.url, key: api.admin)
        let stranger = APIClient(url: api.url, key: nil)
        defer {
            admin.close()
            stranger.close()
        }
        let (user, client, session) = try await api.person("a@example.com", .platformAdmin, on: .platform)
        defer { client.close() }
        let signIn = #"{"email":"a@example.com","password":"\#(password)"}"#
        seeds["POST /v1/sessions"] = Seed(body: signIn)
        seeds["GET /v1/sessions"] = Seed(key: session.token)
        let second = try await stranger.signIn(NewSession(email: "a@example.com", password: password))
        seeds["DELETE /v1/sessions/{id}"] = Seed(id: second.id.description, key: session.token)
        seeds["POST /v1/users/{id}/password-reset"] = Seed(id: user.id.description)
        let waiting = try await stranger.beginDeviceCode(agent: "a")
        seeds["POST /v1/device-codes/approve"] = Seed(
            body: #"{"userCode":"\#(waiting.userCode)"}"#, key: session.token)
        let approved = try await stranger.beginDeviceCode(agent: "a")
        try await client.approve(userCode: approved.userCode)
        seeds["POST /v1/device-codes/session"] = Seed(body: #"{"deviceCode":"\#(approved.deviceCode)"}"#)
        let invited = try await admin.createUser(NewUser(email: "b@example.com", name: "b"))
        let link = try await admin.invite(invited.id)
        seeds["POST /v1/sign-in-links/accept"] = Seed(
            body: #"{"token":"\#(link.token)","password":"\#(password)"}"#)
        try await seedSelf(api, stranger, password, &seeds)
    }

    /// A submission that waits for a second person.
    private func waiting(_ api: TestAPI) async throws -> String {
        let asker = try await api.authenticator.principal(of: api.admin)
        let body = #"{"kind":"ping","target":{"organizationId":"\#(api.other.organization)"}}"#
        return try await Approvals(api.authenticator).ask(
            .job, body: Array(body.utf8), about: nil, idempotencyKey: nil, devices: 1,
            organizations: [api.other.organization], site: nil, by: asker
        ).id.description
    }

    /// What people do to themselves, each by a person of its own.
    private func seedSelf(
        _ api: TestAPI, _ stranger: APIClient, _ password: String, _ seeds: inout [String: Seed]
    ) async throws {
        for (name, path) in [
            ("c", "/v1/me/second-factor"), ("d", "/v1/me/second-factor/confirm"),
            ("e", "/v1/me/second-factor/remove"), ("f", "/v1/me/password"), ("g", "/v1/sessions/step-up"),
            ("h", "/v1/approvals/{id}/approve"),
        ] {
            let email = "\(name)@example.com"
            let role: BuiltinRole = path.hasSuffix("approve") ? .platformAdmin : .viewer
            let (_, client, session) = try await api.person(email, role, on: .platform)
            defer { client.close() }
            var seed = Seed(key: session.token)
            if path.hasSuffix("password") {
                seed.body = #"{"current":"\#(password)","password":"incorrect horse battery"}"#
            }
            let takesCode = ["confirm", "remove", "step-up", "approve"].contains { path.hasSuffix($0) }
            if takesCode {
                let secret = try await client.beginSecondFactor().secret
                let totp = try TOTP(secret: SecretBytes(#require(Base32.decode(secret))))
                if path.hasSuffix("confirm") {
                    seed.body = #"{"code":"\#(totp.code(at: .now() + .seconds(30)))"}"#
                } else {
                    let codes = try await client.confirmSecondFactor(code: totp.code(at: .now())).codes
                    seed.body = #"{"code":"\#(codes[0])"}"#
                    let other = try await stranger.signIn(
                        NewSession(email: email, password: password, code: codes[1]))
                    if !path.hasSuffix("remove") { seed.key = other.token }
                    if path.hasSuffix("approve") {
                        seed = Seed(id: try await waiting(api), key: other.token)
                    }
                }
            }
            seeds["POST \(path)"] = seed
        }
    }
}
