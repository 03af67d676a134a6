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

@Suite("The audit log")
struct AuditTests {
    @Test("a change is noted with who, from where, by which request, and the row before and after")
    func change() async throws {
        try await TestAPI.with { api in
            let response = try await api.call(
                "PATCH", "/v1/sites/\(api.one.site)", key: api.one.key, body: #"{"name":"renamed"}"#)
            #expect(response.status == 200)
            let client = APIClient(url: api.url, key: api.one.key)
            defer { client.close() }
            let entry = try #require(try await client.audit(action: "sites.update").items.first)
            let principal = try await api.authenticator.principal(of: api.one.key)
            #expect(entry.actor == "key" && entry.actorId == principal.id && entry.address == "127.0.0.1")
            #expect(entry.requestId?.description == response.header("x-request-id"))
            #expect(entry.subjectId?.value == api.one.site.value && !entry.refused)
            #expect(entry.logId.value == api.one.organization.value)
            #expect(entry.before?.contains(#""name": "one""#) == true)
            #expect(entry.after?.contains(#""name": "renamed""#) == true)
            // The other tenant sees nothing of it.
            let other = APIClient(url: api.url, key: api.other.key)
            defer { other.close() }
            #expect(try await other.audit(action: "sites.update").items.isEmpty)
        }
    }

    @Test("refused attempts are noted, of strangers only so many a minute")
    func refusals() async throws {
        try await TestAPI.with { api in
            #expect(
                try await api.call("DELETE", "/v1/api-keys/\(UniqueID.zero)", key: api.one.key).status == 404)
            #expect(
                try await api.call("POST", "/v1/partners", key: api.one.key, body: #"{"name":"x"}"#).status
                    == 403)
            let client = APIClient(url: api.url, key: api.one.key)
            let admin = APIClient(url: api.url, key: api.admin)
            defer { client.close(); admin.close() }
            let refused = try await client.audit(refused: true).items
            #expect(refused.map(\.action) == ["POST /v1/partners", "DELETE /v1/api-keys/\(UniqueID.zero)"])
            #expect(refused.map(\.after) == ["forbidden", "notFound"])
            #expect(try await api.call("GET", "/v1/sites", key: .some("crmm_x")).status == 401)
            let strangers = try await admin.audit(action: "GET /v1/sites", PageOptions(limit: 100)).items
            #expect(strangers.count == 1 && strangers[0].actor == "unknown" && strangers[0].actorId == nil)
        }
    }

    @Test("of an address, of a principal and of all only so many refusals of a minute are noted")
    func bounded() async throws {
        try await TestAPI.with { api in
            let (log, time) = (RefusalLog(ledger: api.ledger), ContinuousClock.now)
            func admitted(_ who: String, _ count: Int, max: Int, after seconds: Int = 0) -> Int {
                (0..<count).count { _ in
                    log.isAdmitted(who, max: max, at: time.advanced(by: .seconds(seconds)))
                }
            }
            let few = RefusalLog.ofAddressMax
            #expect(admitted("a", few + 5, max: few) == few && admitted("b", 3, max: few) == 3)
            #expect(admitted("a", few + 5, max: few, after: 59) == 0)
            #expect(admitted("a", few + 5, max: few, after: 61) == few)
            let all = RefusalLog.ofMinuteMax
            #expect((0..<all).reduce(0) { $0 + admitted("\($1)", 2, max: few, after: 122) } == all)
        }
    }

    @Test("no secret stands in the log, and its entries cannot be changed by any service")
    func secrets() async throws {
        try await TestAPI.with { api in
            let (_, client, session) = try await api.person("a@example.com", .viewer, on: .platform)
            defer { client.close() }
            let key = try await APIClient(url: api.url, key: api.admin).createAPIKey(
                NewAPIKey(name: "k", permissions: ["jobs:read"]))
            let hash = Hex.encode(try #require(OpaqueSecret(.apiKey, text: key.key)).hash)
            for secret in [key.key, session.token ?? "", hash, "scrypt"] {
                let found = try await api.owner.query(
                    "SELECT count(*) FROM audit_entries e WHERE strpos(e::text, \(secret)) > 0",
                    scope: .platform
                ) { try $0.decode(Int.self) }
                #expect(found == [0], "\(secret.prefix(8))")
            }
            for statement: SQL in [
                "UPDATE audit_entries SET action = 'x'", "DELETE FROM audit_entries",
                "TRUNCATE audit_entries",
            ] {
                let refused = await #expect(throws: PostgresError.self) {
                    try await api.owner.execute(statement, scope: .platform)
                }
                #expect(refused?.sqlState == "42501")
            }
        }
    }

    /// What somebody does who owns the database, and at which entry it is found.
    static let attacks: [(what: String, statements: [SQL], position: Int)] = [
        ("nothing", [], 0),
        ("a changed action", ["UPDATE audit_entries SET action = 'x' WHERE position = 3"], 3),
        (
            "a changed row",
            ["UPDATE audit_entries SET after = replace(after, 'x3', 'y3') WHERE position = 4"], 4
        ),
        ("another who", ["UPDATE audit_entries SET actor_id = gen_random_uuid() WHERE position = 2"], 2),
        ("another time", ["UPDATE audit_entries SET at = at + interval '1 s' WHERE position = 5"], 5),
        ("one that is gone", ["DELETE FROM audit_entries WHERE position = 3"], 3),
        (
            "one that is gone, the others moved up",
            [
                "DELETE FROM audit_entries WHERE position = 3",
                "UPDATE audit_entries SET position = position - 1 WHERE position > 3",
            ], 3
        ),
        ("the end cut off", ["DELETE FROM audit_entries WHERE position > 4"], 5),
        ("all gone", ["DELETE FROM audit_entries"], 1),
        (
            "a checkpoint that nobody made",
            [
                """
                INSERT INTO audit_checkpoints SELECT chain, 4, mac, now(), 'k1', mac FROM audit_entries
                WHERE position = 4
                """,
                "DELETE FROM audit_entries WHERE position <= 4",
            ], 4
        ),
        (
            "two that changed places",
            ["UPDATE audit_entries SET before = after, after = before WHERE position = 3"], 3
        ),
    ]

    @Test("whatever the database's owner does to a sealed log is found, by its first entry")
    func verification() async throws {
        for (what, statements, position) in Self.attacks {
            try await TestAPI.with { api in
                let heads = AuditHeads()
                let sealer = try heads.sealer(api)
                try await sealer.seal()
                // Only one log is looked at: that of a partner of its own.
                let admin = APIClient(url: api.url, key: api.admin)
                defer { admin.close() }
                let partner = try await admin.createPartner(NewPartner(name: "x0"))
                for number in 1...6 {
                    _ = try await admin.edit(partner.id, NewPartnerChanges(name: "x\(number)"))
                }
                try await sealer.seal()
                try await sealer.keepHeads()
                let before = try await sealer.verify()
                #expect(before.faults == [] && before.entries > 7, "\(what)")
                try await api.owner.pipeline(
                    scope: .platform,
                    [
                        "ALTER TABLE audit_entries DISABLE TRIGGER ALL"
                    ])
                for statement in statements {
                    try await api.owner.pipeline(
                        scope: .platform,
                        [
                            "ALTER TABLE audit_entries RENAME TO everything",
                            """
                            CREATE VIEW audit_entries AS SELECT * FROM everything
                            WHERE chain = (SELECT id FROM partners WHERE name = 'x6')
                            """,
                            statement, "DROP VIEW audit_entries",
                            "ALTER TABLE everything RENAME TO audit_entries",
                        ])
                }
                let after = try await sealer.verify()
                #expect(after.faults.map(\.position) == (position == 0 ? [] : [position]), "\(what)")
                #expect(after.faults.allSatisfy { $0.chain == partner.id.value }, "\(what)")
            }
        }
    }

    @Test("a log that was rewritten below its head gets nothing put on top, and its head stays to tell")
    func resealing() async throws {
        try await TestAPI.with { api in
            let heads = AuditHeads()
            let sealer = try heads.sealer(api)
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let partner = try await admin.createPartner(NewPartner(name: "x0"))
            for number in 1...3 {
                _ = try await admin.edit(partner.id, NewPartnerChanges(name: "x\(number)"))
            }
            try await sealer.seal()
            try await sealer.keepHeads()
            let chain = ID<Subject.Tenant>(partner.id.value)
            try await api.owner.pipeline(
                scope: .platform,
                [
                    "ALTER TABLE audit_entries DISABLE TRIGGER ALL",
                    """
                    UPDATE audit_entries
                    SET after = 'forged', position = NULL, mac_key = NULL, mac = NULL
                    WHERE chain = \(chain) AND position >= 2
                    """,
                    "ALTER TABLE audit_entries ENABLE TRIGGER ALL",
                ])
            // The process that sealed it, and another that only has the file.
            for sealer in [sealer, try heads.sealer(api)] {
                await #expect(throws: LedgerError.self) { try await sealer.seal() }
                await #expect(throws: AccessError.self) { try await sealer.keepHeads() }
                let faults = try await sealer.verify().faults
                #expect(faults.map(\.chain) == [partner.id.value] && faults.first?.position == 2)
            }
            // Other logs go on.
            let other = try await admin.createPartner(NewPartner(name: "y"))
            await #expect(throws: LedgerError.self) { try await sealer.seal() }
            let sealed = try await api.owner.query(
                """
                SELECT count(*) FROM audit_entries
                WHERE chain = \(ID<Subject.Tenant>(other.id.value)) AND position IS NOT NULL
                """, scope: .platform
            ) { try $0.decode(Int.self) }
            #expect(sealed == [1])
        }
    }

    @Test("two sealers make one chain")
    func twoSealers() async throws {
        try await TestAPI.with { api in
            let (one, other) = (try AuditHeads().sealer(api), try AuditHeads().sealer(api))
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let partner = try await admin.createPartner(NewPartner(name: "x"))
            for round in 0..<20 {
                async let first: Void = one.seal()
                async let second: Void = other.seal()
                _ = try await admin.edit(partner.id, NewPartnerChanges(name: "x\(round)"))
                _ = try await (first, second)
            }
            try await one.seal()
            let report = try await one.verify()
            #expect(report.faults == [])
            let unsealed = try await api.owner.query(
                "SELECT count(*) FROM audit_entries WHERE position IS NULL", scope: .platform
            ) { try $0.decode(Int.self) }
            #expect(unsealed == [0])
        }
    }
}
