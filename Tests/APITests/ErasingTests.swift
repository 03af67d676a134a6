import Access
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
@testable import Engine

@Suite("Exporting, erasing and deleting")
struct ErasingTests {
    private func archive(_ admin: APIClient, _ id: OrganizationID) async throws -> [UInt8] {
        var bytes: [UInt8] = []
        for try await piece in admin.export(id) { bytes += piece }
        return bytes
    }

    private func reader(_ bytes: [UInt8]) -> ExportReader {
        var rest = bytes[...]
        return ExportReader { count in
            defer { rest = rest.dropFirst(count) }
            return Array(rest.prefix(count))
        }
    }

    /// The content of each file of an archive.
    private func files(_ bytes: [UInt8]) throws -> [String: String] {
        var files: [String: String] = [:]
        var rest = bytes[...]
        while let (name, count) = TarFile.read(Array(rest.prefix(512))) {
            rest = rest.dropFirst(512)
            files[name] = String(decoding: rest.prefix(count), as: UTF8.self)
            rest = rest.dropFirst(count + TarFile.padding(after: count).count)
        }
        return files
    }

    /// Something of every kind in the first tenant.
    private func fill(_ api: TestAPI, _ admin: APIClient) async throws -> [UniqueID] {
        let (organization, site) = (api.one.organization, api.one.site)
        let home = Place(organizationId: organization)
        let person = try await admin.createUser(
            NewUser(email: "tess@example.com", name: "Tess", home: home))
        _ = try await admin.invite(person.id)
        let role = try #require(
            try await admin.createRole(NewRole(name: "r", permissions: ["jobs:read"], home: home)).id)
        _ = try await admin.bind(NewBinding(userId: person.id, roleId: role, place: home))
        let elsewhere = try await admin.createUser(NewUser(email: "p@example.com", name: "P"))
        _ = try await admin.bind(
            NewBinding(userId: elsewhere.id, role: "viewer", place: Place(siteId: site)))
        let key = try await admin.createAPIKey(
            NewAPIKey(name: "k", siteId: site, permissions: ["jobs:read"]))
        _ = try await admin.createWebhook(
            NewWebhook(url: "https://example.com/", events: [.jobEnded], home: home))
        _ = try await admin.createSecret(
            NewSecret(name: #require(SecretName("s")), value: SecretValue("canary-8731"), home: home))
        _ = try await admin.createEnrollmentToken(NewEnrollmentToken(siteId: site))
        _ = try await admin.edit(api.one.device, NewDeviceChanges(tags: .set(["kiosk"])))
        let job = try await admin.submit(
            NewJob(
                kind: .script, target: .devices([api.one.device]), script: Script(.sh, "echo hello")))
        let run = try await admin.runs(of: job.id).items[0].id
        // A job that has ended, with all that a run leaves.
        let old = try await admin.submit(NewJob(kind: .ping, target: .devices([api.one.device])))
        let gone = try await admin.runs(of: old.id).items[0].id
        try await api.owner.pipeline(
            scope: .platform,
            [
                """
                INSERT INTO run_history (organization_id, id, job_id, device_id, site_id, state, attempt,
                                         created_at, finished_at)
                SELECT organization_id, id, job_id, device_id, site_id, 10, 1, created_at, now()
                FROM runs WHERE id = \(gone)
                """,
                "DELETE FROM runs WHERE id = \(gone)",
                """
                INSERT INTO run_output (organization_id, run_id, site_id, attempt, stdout_head, stdout_tail,
                                        stdout_bytes, stderr_head, stderr_tail, stderr_bytes)
                VALUES (\(organization), \(gone), \(site), 1, 'hi', '', 2, '', '', 0)
                """,
                "UPDATE jobs SET state = 10, finished_at = now() WHERE id = \(old.id)",
            ])
        return [
            organization.value, site.value, api.one.device.value, person.id.value, role.value,
            key.id.value, job.id.value, run.value, gone.value,
        ]
    }

    /// Where one of the ids stands in the database, by table.
    private func traces(_ api: TestAPI, of ids: [UniqueID]) async throws -> [String: Int] {
        let words = ids.flatMap { [$0.description, Hex.encode($0.bytes)] }.joined(separator: "|")
        let rows = try await api.owner.query(
            """
            SELECT c.relname::text, (xpath('//n/text()', query_to_xml(
                       format('SELECT count(*) AS n FROM %I t WHERE t::text ~ %L', c.relname, \(words)),
                       true, false, '')))[1]::text::bigint
            FROM pg_class c
            WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
              AND NOT c.relispartition
            """, scope: .platform
        ) { try $0.decode((String, Int).self) }
        #expect(rows.count > 35)
        return Dictionary(uniqueKeysWithValues: rows.filter { $0.1 > 0 })
    }

    @Test("an export holds every row but what is secret, and one changed byte is found")
    func export() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            _ = try await fill(api, admin)
            try await AuditHeads().sealer(api).seal()
            let bytes = try await archive(admin, api.one.organization)
            let verified = try reader(bytes).verify()
            #expect(verified.manifest.organizationId == api.one.organization)
            #expect(verified.rootKeyHash == Hex.encode(SHA256.hash(api.signer.rootKey.bytes)))
            let files = try files(bytes)
            for kind in [
                "organizations", "sites", "devices", "users", "roles", "role_bindings", "api_keys",
                "webhooks", "secrets", "enrollment_tokens", "jobs", "runs", "run_history", "run_output",
                "audit_entries",
            ] {
                #expect(files["\(kind)/000001.jsonl"]?.isEmpty == false, "\(kind)")
            }
            let jobs = try #require(files["jobs/000001.jsonl"]?.split(separator: "\n"))
            #expect(jobs.count == 2 && jobs[0].contains("echo hello"))
            #expect(files["devices/000001.jsonl"]?.contains("kiosk") == true)
            let all = files.values.joined()
            #expect(!all.contains("canary-8731"))
            #expect(!all.contains(api.other.organization.description))
            // Whatever is changed is found.
            #expect(throws: ExportReader.Fault.self) { try reader(bytes).verify(rootKeyHash: "00") }
            for offset in stride(from: 3, to: bytes.count, by: 487) {
                var changed = bytes
                changed[offset] ^= 1
                #expect(throws: (any Error).self, "\(offset)") { try reader(changed).verify() }
            }
            #expect(throws: ExportReader.Fault.self) { try reader(bytes + [0]).verify() }
            for count in [0, 511, 512, bytes.count / 2, bytes.count - 1_024, bytes.count - 1] {
                #expect(throws: (any Error).self) { try reader(Array(bytes.prefix(count))).verify() }
            }
            // Another's is not there, and none that may not.
            let own = try await api.client(.organization(api.one.organization))
            let viewer = try await api.client(.organization(api.one.organization), [.devicesRead])
            defer { own.close(); viewer.close() }
            let path = "/v1/organizations/\(api.other.organization)/export"
            #expect(try await api.call("GET", path, key: api.one.key).status == 404)
            _ = try reader(try await archive(own, api.one.organization)).verify()
            await #expect(throws: (any Error).self) { _ = try await archive(viewer, api.one.organization) }
        }
    }

    @Test("nothing is left of an erased organization but the platform's own entries")
    func erase() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let heads = AuditHeads()
            let sealer = try heads.sealer(api)
            let ids = try await fill(api, admin)
            try await sealer.seal()
            try await sealer.keepHeads()
            let id = api.one.organization
            // In use, not exported, called otherwise, by its own people, by a stranger: refused, unchanged.
            #expect(try await refusal { _ = try await admin.erase(id, name: "one") }.status == 409)
            let exportedBefore = try await archive(admin, id)
            #expect(!exportedBefore.isEmpty)
            _ = try await admin.archive(id)
            let unexported = try await refusal { _ = try await admin.erase(id, name: "one") }
            #expect(unexported.status == 409 && unexported.detail.contains("export"))
            _ = try reader(try await archive(admin, id)).verify()
            let wrong = try await refusal { _ = try await admin.erase(id, name: "One") }
            #expect(wrong.status == 422 && wrong.field == "name")
            let stranger = try await api.client(.partner(api.other.partner))
            defer { stranger.close() }
            #expect(try await refusal { _ = try await stranger.erase(id, name: "one") }.status == 404)
            #expect(try await refusal { _ = try await stranger.erasure(of: id) }.status == 404)
            let counted = try await admin.erasure(of: id)
            #expect(counted.archived && counted.exportedAt != nil && counted.askedAt == nil)
            #expect(counted.rows["jobs"] == 2 && counted.rows["run_history"] == 2)
            #expect(counted.rows["devices"] == 1 && counted.rows["users"] == 1)
            #expect((counted.rows["audit_entries"] ?? 0) > 10)

            let asked = try await admin.erase(id, name: "one")
            #expect(asked.askedAt != nil && asked.removed == 0)
            // It is gone for everybody at once, and nobody brings it back.
            let path = "/v1/organizations/\(id)"
            #expect(try await api.call("GET", path).status == 404)
            let restored = try await api.call("POST", "\(path)/restore").status
            #expect(restored == 404)
            #expect(try await api.call("POST", "\(path)/erase", body: #"{"name":"one"}"#).status == 404)
            #expect(try await api.call("GET", "\(path)/export").status == 404)
            #expect(try await admin.erasure(of: id).rows["jobs"] == 2)

            // In small steps, each from where the last ended.
            var steps = 0
            while try await api.ledger.eraseStep(id.value, limit: 1) != 0 { steps += 1 }
            #expect(steps > 12)
            #expect(try await admin.erasure(of: id).removed >= steps)
            let eraser = Eraser(ledger: api.ledger, sealer: sealer, seals: try heads.seals())
            try await eraser.eraseAll(of: api)
            #expect(try await refusal { _ = try await admin.erasure(of: id) }.status == 404)
            // Who was on the way when it went leaves nothing, and begins no log anew.
            try await api.ledger.noteRefusal(
                action: "GET /v1/devices", code: "forbidden", at: .organization(id))
            var left = try await traces(api, of: ids)
            // Ids that grant nothing any more stand in the list of what was revoked, which nobody shortens;
            // what others did to the tenant stands in their own logs.
            left["revocations"] = nil
            #expect(Set(left.keys) == ["audit_entries"], "\(left)")
            let entries = try await api.owner.query(
                """
                SELECT action FROM audit_entries e
                WHERE strpos(e::text, \(id.description)) > 0 AND outcome = 0 ORDER BY e.id
                """, scope: .platform
            ) { try $0.decode(String.self) }
            #expect(entries == ["organizations.erase", "organizations.erased"])
            let chains = try await api.owner.query(
                "SELECT DISTINCT chain FROM audit_entries", scope: .platform
            ) { try $0.decode(ID<Subject.Tenant>.self).value }
            #expect(!chains.contains(id.value))

            // The logs hold without it, also once its head is forgotten.
            try await sealer.seal()
            #expect(try await sealer.verify().faults == [])
            try await sealer.keepHeads()
            #expect(!heads.all.contains { $0.chain == id.value })
            #expect(try await sealer.verify().faults == [])
            // The other tenant is as it was.
            #expect(try await admin.device(api.other.device).id == api.other.device)
        }
    }

    @Test("a log that somebody else takes out is missed, whatever they write of an erasure")
    func forged() async throws {
        try await TestAPI.with { api in
            let heads = AuditHeads()
            let sealer = try heads.sealer(api)
            try await sealer.seal()
            try await sealer.keepHeads()
            let id = api.one.organization
            try await api.owner.pipeline(
                scope: .platform,
                [
                    "ALTER TABLE audit_entries DISABLE TRIGGER kept",
                    "DELETE FROM audit_entries WHERE chain = \(id)",
                    "ALTER TABLE audit_entries ENABLE TRIGGER kept",
                    """
                    INSERT INTO audit_entries (chain, id, at, actor_kind, action, subject_id, outcome, after)
                    VALUES ('00000000-0000-0000-0000-000000000000', crmm_uuid7(), now(), 0,
                            'organizations.erased', \(id), 0,
                            '{"position": 1000, "mac": "00", "checkpointKey": "k1", "checkpointMac": "00"}')
                    """,
                ])
            try await sealer.seal()
            #expect(try await sealer.verify().faults.map(\.chain) == [id.value])
        }
    }

    @Test("a checkpoint that somebody else puts in hides no entry that was cut, and nothing is sealed on top")
    func forgedCheckpoint() async throws {
        try await TestAPI.with { api in
            let sealer = try AuditHeads().sealer(api)
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let id = api.one.organization
            _ = try await admin.edit(api.one.site, NewSiteChanges(name: "cut"))
            try await sealer.seal()
            try await sealer.keepHeads()
            try await api.owner.pipeline(
                scope: .platform,
                [
                    "ALTER TABLE audit_entries DISABLE TRIGGER kept",
                    "DELETE FROM audit_entries WHERE chain = \(id) AND action = 'sites.update'",
                    "ALTER TABLE audit_entries ENABLE TRIGGER kept",
                    """
                    INSERT INTO audit_checkpoints (chain, position, mac, checkpoint_key, checkpoint_mac)
                    VALUES (\(id), 1000000, '', 'k1', '')
                    """,
                ])
            _ = try await admin.edit(api.one.site, NewSiteChanges(name: "on top"))
            await #expect(throws: LedgerError.self) { try await sealer.seal() }
            await #expect(throws: AccessError.self) { try await sealer.keepHeads() }
            try await api.owner.execute("DELETE FROM audit_checkpoints", scope: .platform)
            #expect(try await sealer.verify().faults.map(\.chain) == [id.value])
        }
    }

    @Test("a partner is erased after its organizations; what it made for others stays")
    func partner() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let sealer = try AuditHeads().sealer(api)
            let made = try await admin.createPartner(NewPartner(name: "leaving"))
            let home = Place(partnerId: made.id)
            let person = try await admin.createUser(NewUser(email: "x@example.com", name: "X", home: home))
            let below = try await admin.createOrganization(NewOrganization(name: "below", partnerId: made.id))
            _ = try await admin.createSecret(
                NewSecret(name: #require(SecretName("s")), value: SecretValue("12345678"), home: home))
            _ = try await admin.edit(made.id, NewGuardChanges(confirmAbove: 3))
            #expect(try await refusal { _ = try await admin.erase(made.id, name: "leaving") }.status == 409)
            _ = try await admin.archive(made.id)
            let held = try await refusal { _ = try await admin.erase(made.id, name: "leaving") }
            #expect(held.status == 409 && held.detail.contains("organizations"))
            _ = try await admin.restore(made.id)
            _ = try await admin.archive(below.id)
            _ = try await archive(admin, below.id)
            _ = try await admin.erase(below.id, name: "below")
            _ = try await admin.archive(made.id)
            _ = try await admin.erase(made.id, name: "leaving")
            let eraser = Eraser(ledger: api.ledger, sealer: sealer, seals: try AuditHeads().seals())
            try await eraser.eraseAll(of: api)
            var left = try await traces(api, of: [made.id.value, below.id.value, person.id.value])
            left["revocations"] = nil
            #expect(Set(left.keys) == ["audit_entries"], "\(left)")
            try await sealer.seal()
            #expect(try await sealer.verify().faults == [])
        }
    }

    @Test("an archived device is deleted; what its runs brought stays with their jobs")
    func deviceDeleted() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let path = "/v1/devices/\(api.one.device)"
            let job = try await admin.submit(NewJob(kind: .ping, target: .devices([api.one.device])))
            #expect(try await api.call("DELETE", path).status == 409)
            let archived = try await admin.edit(api.one.device, NewDeviceChanges(state: .archived))
            let stale = [("If-Match", "\"\(archived.version - 1)\"")]
            #expect(try await api.call("DELETE", path, headers: stale).status == 412)
            #expect(try await api.call("DELETE", path, key: api.other.key).status == 404)
            // By whoever has the site alone, which shows no certificates.
            let own = try await api.client(.site(api.one.site))
            defer { own.close() }
            try await own.remove(api.one.device)
            #expect(try await api.call("GET", path).status == 404)
            let runs = try await admin.runs(of: job.id).items
            #expect(runs.map(\.deviceId) == [api.one.device])
        }
    }

    @Test("an archived site is deleted once it has no devices and lets nobody in")
    func siteDeleted() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let path = "/v1/sites/\(api.one.site)"
            #expect(try await api.call("DELETE", path).status == 409)
            let key = try await admin.createAPIKey(
                NewAPIKey(name: "k", siteId: api.one.site, permissions: ["jobs:read"]))
            _ = try await admin.edit(api.one.device, NewDeviceChanges(state: .archived))
            try await admin.remove(api.one.device)
            _ = try await admin.archive(api.one.site)
            #expect(try await api.call("DELETE", path).status == 409)
            try await admin.revoke(key.id)
            #expect(try await api.call("DELETE", path, key: api.other.key).status == 404)
            try await admin.remove(api.one.site)
            #expect(try await api.call("GET", path).status == 404)
            let log: ID<Subject.Tenant> = ID(api.one.organization.value)
            let entries = try await admin.audit(log: log, action: "sites.delete").items
            #expect(entries.count == 1 && entries[0].subjectId?.value == api.one.site.value)
        }
    }

    @Test("old entries are taken out behind a checkpoint, of logs that hold and of no others")
    func prune() async throws {
        try await TestAPI.with { api in
            let heads = AuditHeads()
            let sealer = try heads.sealer(api)
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            try await sealer.seal()
            try await sealer.keepHeads()
            let middle = Instant.now() + .milliseconds(1)
            _ = try await admin.edit(api.one.site, NewSiteChanges(name: "later"))
            _ = try await admin.edit(api.other.site, NewSiteChanges(name: "later"))
            try await sealer.seal()
            try await api.owner.pipeline(
                scope: .platform,
                [
                    "ALTER TABLE audit_entries DISABLE TRIGGER kept",
                    """
                    UPDATE audit_entries SET action = 'sites.read'
                    WHERE chain = \(api.other.organization) AND position = 1
                    """,
                    "ALTER TABLE audit_entries ENABLE TRIGGER kept",
                ])
            let owner = try heads.sealer(api, Ledger(pool: api.owner))
            let report = try await owner.prune(before: middle)
            #expect(report.entries > 3)
            #expect(report.faults.map(\.chain) == [api.other.organization.value])
            let left = try await admin.audit(log: ID(api.one.organization.value), PageOptions(limit: 500))
            #expect(left.items.map(\.action) == ["sites.update"])
            let kept = try await admin.audit(log: ID(api.other.organization.value), PageOptions(limit: 500))
            #expect(kept.items.count > 2)
            // What is left goes on from there, and a checkpoint that somebody else moves is found.
            _ = try await admin.edit(api.one.site, NewSiteChanges(name: "on"))
            try await sealer.seal()
            #expect(
                try await sealer.verify().faults.map(\.chain) == [api.other.organization.value])
            try await api.owner.execute(
                "UPDATE audit_checkpoints SET position = position + 1 WHERE chain = \(api.one.organization)",
                scope: .platform)
            #expect(
                Set(try await sealer.verify().faults.map(\.chain))
                    == [api.one.organization.value, api.other.organization.value])
        }
    }
}
