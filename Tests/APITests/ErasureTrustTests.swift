import Access
import Client
import Domain
import Ledger
import Postgres
import TestSupport
import Testing
import Trust
import Wire

@testable import API

extension Eraser {
    /// Erases until nothing is left to erase: what others began before it was asked for is waited for.
    func eraseAll(of api: TestAPI) async throws {
        for _ in 0..<2_000 {
            try await eraseAll()
            let left = try await api.owner.query("SELECT count(*) FROM erasures", scope: .platform) {
                try $0.decode(Int.self)
            }
            if left == [0] { return }
        }
        throw Unprepared("an erasure does not end")
    }
}

@Suite("What an erasure is believed by")
struct ErasureTrustTests {
    /// An organization with a device that is archived, exported and asked to be erased.
    private func ask(_ api: TestAPI, _ admin: APIClient) async throws -> OrganizationID {
        let id = api.one.organization
        _ = try await admin.archive(id)
        for try await _ in admin.export(id) {}
        _ = try await admin.erase(id, name: "one")
        return id
    }

    private func rows(_ api: TestAPI, of id: OrganizationID) async throws -> [Int] {
        try await api.owner.query(
            """
            SELECT count(*) FROM devices WHERE organization_id = \(id)
            UNION ALL SELECT count(*) FROM audit_entries WHERE chain = \(id)
            """, scope: .platform
        ) { try $0.decode(Int.self) }
    }

    @Test("one that the database's owner asks for, or makes of another, takes nothing")
    func forged() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let heads = AuditHeads()
            let sealer = try heads.sealer(api)
            let eraser = Eraser(ledger: api.ledger, sealer: sealer, seals: try heads.seals())
            let id = try await ask(api, admin)
            let before = try await rows(api, of: id)
            #expect(before[0] == 1 && before[1] > 3)
            // Another organization under the same seal, and this one otherwise than it was asked for.
            try await api.owner.pipeline(
                scope: .platform,
                [
                    "UPDATE organizations SET state = 2 WHERE id = \(api.other.organization)",
                    """
                    INSERT INTO erasures (id, kind, partner_id, name, asked_by, asked_at, mac_key, mac,
                                          counted)
                    SELECT \(api.other.organization), kind, partner_id, name, asked_by, asked_at, mac_key,
                           mac, counted
                    FROM erasures WHERE id = \(id)
                    """,
                ])
            for (column, value) in [
                ("name", "'two'"), ("asked_by", "crmm_uuid7()"), ("asked_at", "now()"),
                ("mac_key", "'k2'"), ("mac", "decode('00', 'hex')"),
            ] as [(SQL, SQL)] {
                try await api.owner.pipeline(
                    scope: .platform,
                    [
                        "CREATE TABLE kept AS SELECT * FROM erasures WHERE id = \(id)",
                        """
                        UPDATE erasures SET \(fragment: column) = \(fragment: value)
                        WHERE id = \(id)
                        """,
                    ])
                let error = await #expect(throws: AccessError.self) { try await eraser.eraseAll() }
                #expect(error?.code == .alteredRow)
                #expect(try await rows(api, of: id) == before, "\(column)")
                try await api.owner.pipeline(
                    scope: .platform,
                    [
                        """
                        UPDATE erasures e SET \(fragment: column) = k.\(fragment: column)
                        FROM kept k WHERE e.id = k.id
                        """, "DROP TABLE kept",
                    ])
            }
            // What was asked for goes though the other waits, and nothing of the other did.
            await #expect(throws: AccessError.self) { try await eraser.eraseAll() }
            #expect(try await rows(api, of: id)[0] == 0)
            #expect(try await rows(api, of: api.other.organization)[0] == 1)
        }
    }

    @Test("the API's login takes no part out of the log of what is in use")
    func login() async throws {
        try await TestAPI.with { api in
            let heads = AuditHeads()
            let (sealer, id) = (try heads.sealer(api), api.one.organization)
            try await sealer.seal()
            let head = try #require(try await api.ledger.auditHead(of: id.value))
            let mac = RowMAC(keyID: "k1", code: [])
            for attempt in [
                { _ = try await api.ledger.checkpointAudit(head, mac: mac) },
                { _ = try await api.ledger.pruneAudit(of: id.value, limit: 10) },
                { _ = try await api.ledger.discardAudit(of: head, mac: mac, fault: "none", limit: 10) },
            ] as [() async throws -> Void] {
                let error = await #expect(throws: PostgresError.self) { try await attempt() }
                #expect(error?.sqlState == "42501", "\(error as Any)")
            }
            // Nor does the owner by a fault alone: nothing is being erased.
            let owner = Ledger(pool: api.owner)
            await #expect(throws: PostgresError.self) {
                _ = try await owner.discardAudit(of: head, mac: mac, fault: "none", limit: 10)
            }
            #expect(try await sealer.verify().faults == [])
        }
    }

    @Test("a log that does not hold waits, until the server's operator has it taken out, which is told")
    func discarded() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let heads = AuditHeads()
            let (sealer, seals) = (try heads.sealer(api), try heads.seals())
            let eraser = Eraser(ledger: api.ledger, sealer: sealer, seals: seals)
            let owner = Ledger(pool: api.owner)
            let operated = Eraser(ledger: owner, sealer: try heads.sealer(api, owner), seals: seals)
            try await sealer.seal()
            try await sealer.keepHeads()
            let id = try await ask(api, admin)
            let none = await #expect(throws: AccessError.self) {
                _ = try await operated.discardLog(of: api.other.organization.value)
            }
            #expect(none?.code == .notFound)
            let holds = await #expect(throws: AccessError.self) {
                _ = try await operated.discardLog(of: id.value)
            }
            #expect(holds?.code == .conflict)
            try await api.owner.pipeline(
                scope: .platform,
                [
                    "ALTER TABLE audit_entries DISABLE TRIGGER kept",
                    "UPDATE audit_entries SET action = 'sites.read' WHERE chain = \(id) AND position = 2",
                    "ALTER TABLE audit_entries ENABLE TRIGGER kept",
                ])
            await #expect(throws: AccessError.self) { try await eraser.eraseAll() }
            #expect(try await rows(api, of: id)[1] > 3)
            #expect(try await operated.discardLog(of: id.value).position == 2)
            try await eraser.eraseAll(of: api)
            #expect(try await rows(api, of: id) == [0, 0])
            let told = try await admin.audit(action: "audit.discarded").items
            #expect(told.map(\.subjectId?.value) == [id.value])
            #expect(told.first?.after?.contains("entry 2") == true)
            try await sealer.seal()
            try await sealer.keepHeads()
            #expect(try await sealer.verify().faults == [])
        }
    }

    @Test("a log of which nothing is left, though it had entries, waits as well")
    func emptied() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let heads = AuditHeads()
            let (sealer, seals) = (try heads.sealer(api), try heads.seals())
            let eraser = Eraser(ledger: api.ledger, sealer: sealer, seals: seals)
            let owner = Ledger(pool: api.owner)
            let operated = Eraser(ledger: owner, sealer: try heads.sealer(api, owner), seals: seals)
            let id = try await ask(api, admin)
            try await sealer.seal()
            try await sealer.keepHeads()
            try await api.owner.pipeline(
                scope: .platform,
                [
                    "ALTER TABLE audit_entries DISABLE TRIGGER kept",
                    "DELETE FROM audit_entries WHERE chain = \(id)",
                    "ALTER TABLE audit_entries ENABLE TRIGGER kept",
                ])
            await #expect(throws: (any Error).self) { try await eraser.eraseAll() }
            #expect(try await admin.erasure(of: id).askedAt != nil)
            _ = try await operated.discardLog(of: id.value)
            // The head is kept until somebody looks, and what the platform's log says lets it go.
            #expect(heads.all.contains { $0.chain == id.value })
            try await sealer.seal()
            #expect(try await sealer.verify().faults == [])
            try await eraser.eraseAll(of: api)
            try await sealer.seal()
            try await sealer.keepHeads()
            #expect(!heads.all.contains { $0.chain == id.value })
            #expect(try await sealer.verify().faults == [])
        }
    }

    @Test("runs that are settled while they are erased leave neither history nor output")
    func settled() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let job = try await admin.submit(NewJob(kind: .ping, target: .devices([api.one.device])))
            let run = try await admin.runs(of: job.id).items[0].id
            // It is on its device, so it does not end with the archive.
            try await api.owner.execute(
                """
                UPDATE runs SET state = 4, attempt = 1, token = crmm_uuid7(), sent_at = now(),
                    started_at = now() WHERE id = \(run)
                """, scope: .platform)
            let id = try await ask(api, admin)
            let step = try await api.owner.transaction(scope: .platform) { transaction in
                try await transaction.execute(
                    """
                    INSERT INTO run_history (organization_id, id, job_id, device_id, site_id, state, attempt,
                                             created_at, finished_at)
                    SELECT organization_id, id, job_id, device_id, site_id, 13, 1, created_at, now()
                    FROM runs WHERE id = \(run)
                    """)
                try await transaction.execute("DELETE FROM runs WHERE id = \(run)")
                let step = Task { try await api.ledger.eraseStep(id.value, limit: 100) }
                // It waits for the run that is being settled.
                for _ in 0..<10_000 {
                    let waits = try await transaction.query(
                        """
                        SELECT count(*) FROM pg_stat_activity
                        WHERE datname = current_database() AND wait_event_type = 'Lock'
                        """
                    ) { try $0.decode(Int.self) }
                    if waits == [1] { break }
                }
                return step
            }
            #expect(try await step.value == nil, "it is looked at again")
            let heads = AuditHeads()
            let eraser = Eraser(
                ledger: api.ledger, sealer: try heads.sealer(api), seals: try heads.seals())
            try await eraser.eraseAll(of: api)
            let left = try await api.owner.query(
                "SELECT count(*) FROM run_history WHERE organization_id = \(id)", scope: .platform
            ) { try $0.decode(Int.self) }
            #expect(left == [0])
        }
    }

    @Test("people who may do more than who erases are not erased with it, and are named")
    func peopleAbove() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            let partner = try await api.client(.partner(api.one.partner))
            defer { admin.close(); partner.close() }
            let id = api.one.organization
            let person = try await admin.createUser(
                NewUser(email: "above@example.com", name: "A", home: Place(organizationId: id)))
            _ = try await admin.bind(NewBinding(userId: person.id, role: "viewer", place: Place()))
            _ = try await partner.archive(id)
            for try await _ in partner.export(id) {}
            let refused = try await refusal { _ = try await partner.erase(id, name: "one") }
            #expect(refused.status == 409 && refused.detail.contains("above@example.com"))
            #expect(try await partner.erasure(of: id).askedAt == nil)
            // Counted is also what no level but the platform's reads.
            _ = try await admin.invite(person.id)
            #expect(try await partner.erasure(of: id).rows["sign_in_links"] == 1)
            // Who may as much has it erased, and the person has nothing left elsewhere.
            _ = try await admin.erase(id, name: "one")
            let heads = AuditHeads()
            let eraser = Eraser(
                ledger: api.ledger, sealer: try heads.sealer(api), seals: try heads.seals())
            try await eraser.eraseAll(of: api)
            #expect(try await admin.users().items.allSatisfy { $0.id != person.id })
            try await api.authenticator.revocations.refresh(at: .now())
            #expect(api.authenticator.revocations.isVoid(person.id.value, version: person.version))
        }
    }
}
