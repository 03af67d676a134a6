import Client
import Domain
import Ledger
import Outbound
import Postgres
import TestSupport
import Testing
import Trust
import Wire

@testable import API
@testable import Access

@Suite("A job that reaches very many devices takes a second person")
struct ApprovalTests {
    private struct Scene {
        let api: TestAPI
        let admin: APIClient
        /// Who asks, and who is the second person.
        let asker: (user: User, client: APIClient, session: CreatedSession)
        let second: (user: User, client: APIClient, session: CreatedSession)

        init(_ api: TestAPI) async throws {
            self.api = api
            admin = APIClient(url: api.url, key: api.admin)
            _ = try await admin.edit(
                api.one.partner, NewGuardChanges(approveAbove: .set(1), stepUpSeconds: 3_600))
            try await api.enrol(1, at: api.one)
            let level = Level.partner(api.one.partner)
            asker = try await api.person("asker@example.com", .partnerAdmin, on: level, steppedUpAt: nil)
            second = try await api.person("second@example.com", .partnerAdmin, on: level)
        }

        func close() {
            for client in [admin, asker.client, second.client] { client.close() }
        }

        var job: NewJob {
            var job = NewJob(kind: .script, target: .site(api.one.site), script: Script(.sh, "echo 4711"))
            job.confirmDevices = 2
            return job
        }

        /// What waits after somebody has submitted it.
        func ask(_ client: APIClient, key: String? = nil) async throws -> PendingApproval {
            guard case .approval(let waiting) = try await client.propose(job, idempotencyKey: key) else {
                throw Unprepared("nobody has to approve it")
            }
            return waiting
        }

        /// What waits, with its row sealed anew as only the API can.
        func reseal(_ id: ApprovalID, expiresAt: Instant) async throws {
            let row = try #require(await api.ledger.approval(id, scope: .platform))
            var sealed = ApprovalRow(
                id: row.id, place: row.place, kind: row.kind, body: row.body, subject: row.subject,
                idempotencyKey: row.idempotencyKey, devices: row.devices, askedBy: row.askedBy,
                isByKey: row.isByKey, makers: row.makers, createdAt: row.createdAt, expiresAt: expiresAt)
            let seals = RowSeals(key: try MACKey(bytes: Array(repeating: 7, count: 32)), keyID: "k1")
            sealed.mac = seals.seal(sealed.sealedParts)
            try await api.owner.execute(
                """
                UPDATE approvals SET expires_at = \(expiresAt), mac = \(PostgresData(sealed.mac.code))
                WHERE id = \(id)
                """, scope: .platform)
        }
    }

    private func with(_ body: (Scene) async throws -> Void) async throws {
        try await TestAPI.with { api in
            let scene = try await Scene(api)
            defer { scene.close() }
            try await body(scene)
        }
    }

    @Test("another person approves it once, with a fresh second factor; it is the asker's job")
    func approved() async throws {
        try await with { scene in
            let waiting = try await scene.ask(scene.asker.client)
            #expect(waiting.state == .awaitingApproval && waiting.devices == 2)
            #expect(try await scene.api.jobCount() == 0)
            let shown = try await scene.second.client.approval(waiting.id)
            #expect(shown.askedBy == PrincipalID(scene.asker.user.id.value) && shown.jobId == nil)
            #expect(try shown.submission == JSONValue(scanning: scene.job.json))
            #expect(try await scene.second.client.approvals(state: .awaitingApproval).items.count == 1)
            // Not the one who asked, no key, and nobody whose second factor is not fresh.
            try await scene.api.stepUp(scene.asker.session, at: .now())
            let own = try await refusal { _ = try await scene.asker.client.approve(waiting.id) }
            #expect(own.status == 403 && own.code == "forbidden")
            let key = try await refusal { _ = try await scene.admin.approve(waiting.id) }
            #expect(key.status == 403 && key.code == "forbidden")
            try await scene.api.stepUp(scene.second.session, at: .now() + .seconds(-3_601))
            let stale = try await refusal { _ = try await scene.second.client.approve(waiting.id) }
            #expect(stale.status == 403 && stale.code == "stepUpRequired")
            #expect(try await scene.api.jobCount() == 0)
            try await scene.api.stepUp(scene.second.session, at: .now())
            // Who was enrolled since is not reached.
            try await scene.api.enrol(1, at: scene.api.one)
            let approved = try await scene.second.client.approve(waiting.id)
            #expect(approved.state == .approved && approved.decidedBy?.value == scene.second.user.id.value)
            let job = try await scene.admin.job(try #require(approved.jobId))
            #expect(job.devicesMax == 2)
            let maker = try await scene.api.owner.query("SELECT created_by FROM jobs", scope: .platform) {
                try $0.decode(PrincipalID.self)
            }
            #expect(maker == [PrincipalID(scene.asker.user.id.value)])
            // Once, also for the database's owner.
            let again = try await refusal { _ = try await scene.second.client.approve(waiting.id) }
            #expect(again.status == 409 && again.code == "conflict")
            try await scene.api.owner.execute(
                "UPDATE approvals SET state = 0, decided_by = NULL, job_id = NULL", scope: .platform)
            let replayed = try await refusal { _ = try await scene.second.client.approve(waiting.id) }
            #expect(replayed.status == 409 && replayed.code == "conflict")
            #expect(try await scene.api.jobCount() == 1)
            // What is run stands in no log.
            let logged = try await scene.api.owner.query(
                """
                SELECT action, coalesce(before, '') || coalesce(after, '') FROM audit_entries
                WHERE action LIKE 'approvals.%' ORDER BY id
                """, scope: .platform
            ) { try $0.decode((String, String).self) }
            #expect(logged.map(\.0).prefix(2) == ["approvals.create", "approvals.update"])
            #expect(!logged.contains { $0.1.contains("body") || $0.1.contains("4711") })
        }
    }

    @Test(
        "whoever made the key that asked is not the second person; nor is who may not approve, or elsewhere")
    func others() async throws {
        try await with { scene in
            let made = try await scene.asker.client.createAPIKey(
                NewAPIKey(
                    name: "ci", partnerId: scene.api.one.partner,
                    permissions: ["jobs:run", "jobs:read", "apiKeys:write", "jobs:approve"]))
            let key = APIClient(url: scene.api.url, key: made.key)
            let below = try await key.createAPIKey(
                NewAPIKey(
                    name: "cd", partnerId: scene.api.one.partner, permissions: ["jobs:run", "jobs:approve"]))
            let client = APIClient(url: scene.api.url, key: below.key)
            defer { key.close(); client.close() }
            let waiting = try await scene.ask(client)
            try await scene.api.stepUp(scene.asker.session, at: .now())
            #expect(
                try await refusal { _ = try await scene.asker.client.approve(waiting.id) }.code
                    == "forbidden")
            #expect(try await refusal { _ = try await key.approve(waiting.id) }.code == "forbidden")
            let (_, technician, _) = try await scene.api.person(
                "t@example.com", .technician, on: .partner(scene.api.one.partner))
            let (_, stranger, _) = try await scene.api.person(
                "s@example.com", .partnerAdmin, on: .partner(scene.api.other.partner))
            defer { technician.close(); stranger.close() }
            #expect(try await refusal { _ = try await technician.approve(waiting.id) }.code == "forbidden")
            #expect(try await refusal { _ = try await stranger.approve(waiting.id) }.status == 404)
            #expect(try await refusal { _ = try await stranger.reject(waiting.id) }.status == 404)
            #expect(try await stranger.approvals().items.isEmpty)
            #expect(try await scene.api.jobCount() == 0)
            #expect(try await scene.second.client.approve(waiting.id).state == .approved)
        }
    }

    @Test("of two who approve at once one does, and one job comes of it")
    func race() async throws {
        try await with { scene in
            let third = try await scene.api.person(
                "third@example.com", .partnerAdmin, on: .partner(scene.api.one.partner))
            defer { third.client.close() }
            for round in 1...5 {
                let waiting = try await scene.ask(scene.asker.client)
                let clients = [scene.second.client, third.client, scene.second.client, third.client]
                let codes = await withTaskGroup(of: String.self) { group in
                    for client in clients {
                        group.addTask {
                            do {
                                return try await client.approve(waiting.id).state.name
                            } catch let problem as Problem {
                                return problem.code
                            } catch {
                                return "\(error)"
                            }
                        }
                    }
                    return await group.reduce(into: [String]()) { $0.append($1) }
                }
                #expect(codes.sorted() == ["approved", "conflict", "conflict", "conflict"])
                #expect(try await scene.api.jobCount() == round)
            }
        }
    }

    @Test("what waits is approved until its end, and not after it; what was rejected is not approved")
    func ended() async throws {
        try await with { scene in
            let waiting = try await scene.ask(scene.asker.client)
            try await scene.reseal(waiting.id, expiresAt: .now() + .seconds(-1))
            let late = try await refusal { _ = try await scene.second.client.approve(waiting.id) }
            #expect(late.status == 409 && late.code == "conflict")
            let other = try await scene.ask(scene.asker.client)
            #expect(try await scene.admin.reject(other.id).state == .rejected)
            let rejected = try await refusal { _ = try await scene.second.client.approve(other.id) }
            #expect(rejected.status == 409)
            try await scene.api.owner.execute(
                "UPDATE approvals SET state = 0 WHERE id = \(other.id)", scope: .platform)
            #expect(try await refusal { _ = try await scene.second.client.approve(other.id) }.status == 409)
            #expect(try await scene.api.jobCount() == 0)
            try await scene.reseal(waiting.id, expiresAt: .now() + .seconds(60))
            #expect(try await scene.second.client.approve(waiting.id).state == .approved)
        }
    }

    @Test("a row that the database's owner alters or makes is approved by nobody")
    func altered() async throws {
        try await with { scene in
            let (api, second) = (scene.api, scene.second)
            let waiting = try await scene.ask(scene.asker.client, key: "k")
            try await api.owner.execute("CREATE TABLE good AS SELECT * FROM approvals", scope: .platform)
            let body = #"{"kind":"ping","target":{"siteId":"\#(api.one.site)"}}"#
            let sibling = try await scene.admin.createSite(
                NewSite(name: "sibling", organizationId: api.one.organization)
            ).id
            let edits: [String: SQL] = [
                "body": "body = \(PostgresData(Array(body.utf8)))", "kind": "kind = 2",
                "subject_id": "subject_id = id", "idempotency_key": "idempotency_key = 'l'",
                "devices": "devices = 3", "asked_by": "asked_by = \(second.user.id)",
                "asker_kind": "asker_kind = 1", "makers": "makers = ARRAY[id]",
                "expires_at": "expires_at = expires_at + interval '1 hour'",
                "created_at": "created_at = created_at + interval '1 hour'",
                "site_id": "site_id = \(sibling)",
                "organization_id": "site_id = NULL, organization_id = \(api.one.organization)",
                "partner_id": "site_id = NULL, partner_id = \(api.one.partner)",
                "mac_key": "mac_key = 'k2'", "mac": "mac = ''", "id": "id = \(ApprovalID(.zero))",
            ]
            // What became of it, which the list of revocations says.
            let outcome: Set = ["state", "decided_by", "decided_at", "job_id", "refusal"]
            #expect(try await api.owner.columns(of: "approvals") == outcome.union(edits.keys))
            for (column, edit) in edits {
                #expect(
                    try await api.owner.execute(
                        "UPDATE approvals SET \(fragment: edit)", scope: .platform) == 1)
                let row = try #require(
                    await api.ledger.approvals(state: nil, before: nil, limit: 1, scope: .platform).first)
                let refused = try await refusal { _ = try await second.client.approve(row.id) }
                #expect(refused.status == 403 && refused.code == "alteredRow", "\(column)")
                try await api.owner.execute("DELETE FROM approvals", scope: .platform)
                try await api.owner.execute("INSERT INTO approvals SELECT * FROM good", scope: .platform)
            }
            #expect(try await api.jobCount() == 0)
            #expect(try await second.client.approve(waiting.id).state == .approved)
        }
    }

    @Test("what the asker may not do any more is not done in their name")
    func rightsGone() async throws {
        try await with { scene in
            let waiting = try await scene.ask(scene.asker.client)
            _ = try await scene.admin.edit(scene.asker.user.id, NewUserChanges(disabled: true))
            let gone = try await refusal { _ = try await scene.second.client.approve(waiting.id) }
            #expect(gone.status == 403 && gone.code == "forbidden")
            #expect(try await scene.api.jobCount() == 0)
            // Of a key likewise.
            let made = try await scene.admin.createAPIKey(
                NewAPIKey(name: "k", partnerId: scene.api.one.partner, permissions: ["jobs:run"]))
            let key = APIClient(url: scene.api.url, key: made.key)
            defer { key.close() }
            let other = try await scene.ask(key)
            try await scene.admin.revoke(made.id)
            #expect(try await refusal { _ = try await scene.second.client.approve(other.id) }.status == 403)
            #expect(try await scene.api.jobCount() == 0)
        }
    }

    @Test("the same key and body wait once; another body is told; a bulk waits as a whole")
    func idempotent() async throws {
        try await with { scene in
            let client = scene.asker.client
            let first = try await scene.ask(client, key: "k")
            #expect(try await scene.ask(client, key: "k") == first)
            var other = scene.job
            other.timeoutSeconds = 5
            let told = try await refusal { _ = try await client.propose(other, idempotencyKey: "k") }
            #expect(told.status == 409 && told.code == "idempotencyConflict")
            let devices = try await scene.admin.devices(organization: scene.api.one.organization).items
            let jobs = devices.map { NewJob(kind: .ping, target: .devices([$0.id])) }
            let items = try await client.submit(NewJobs(jobs: jobs, confirmDevices: 2)).items
            #expect(items.map(\.status) == [202, 202] && items.allSatisfy { $0.id == nil })
            let bulk = try #require(items[0].approvalId)
            #expect(items[1].approvalId == bulk)
            #expect(try await scene.api.jobCount() == 0)
            #expect(try await scene.second.client.approve(bulk).jobId != nil)
            #expect(try await scene.api.jobCount() == 2)
            // What is refused when it is submitted is told, and made no second time.
            let last = try await scene.ask(client)
            let drain = #"{"organizationId":"\#(scene.api.one.organization)"}"#
            let drained = try await scene.api.call("POST", "/v1/queues/drain", body: drain)
            #expect((200..<300).contains(drained.status))
            for (status, code) in [(409, "draining"), (409, "conflict")] {
                let told = try await refusal { _ = try await scene.second.client.approve(last.id) }
                #expect(told.status == status && told.code == code)
                let shown = try await client.approval(last.id)
                #expect(shown.state == .refused && shown.refusal == "draining" && shown.jobId == nil)
            }
            #expect(try await scene.api.jobCount() == 2)
        }
    }
}
