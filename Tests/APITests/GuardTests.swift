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

extension TestAPI {
    /// A row as only the API can write it, under its MAC.
    func reseal(_ row: GuardRow) async throws {
        let seals = RowSeals(key: try MACKey(bytes: Array(repeating: 7, count: 32)), keyID: "k1")
        var row = row
        row.mac = seals.seal(row.sealedParts)
        try await owner.execute(
            """
            UPDATE guards SET expires_at = \(row.expiresAt), mac = \(PostgresData(row.mac.code))
            WHERE partner_id = \(row.partner)
            """, scope: .platform)
        authenticator.guards.forget()
    }

    /// The row of a partner's guard.
    func guardRow(_ partner: PartnerID) async throws -> GuardRow {
        try #require(try await ledger.guards(of: [partner])[partner] ?? nil)
    }
}

@Suite("How far one act may reach: a partner's guard")
struct GuardTests {
    @Test("a partner without a guard of its own has the built-in one; edits are counted and bounded")
    func edits() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let before = try await admin.partnerGuard(api.one.partner)
            #expect(before.confirmAbove == 50 && before.approveAbove == nil && before.version == 1)
            #expect(before.stepUpPermissions == ["tenants:delete", "tenants:export"])
            let stricter = NewGuardChanges(
                confirmAbove: 5, approveAbove: .set(20), stepUpPermissions: ["jobs:run"], stepUpSeconds: 60)
            let after = try await admin.edit(api.one.partner, stricter, version: 1)
            #expect(after.version == 2 && after.approveAbove == 20 && after.stepUpSeconds == 60)
            #expect(try await admin.partnerGuard(api.one.partner) == after)
            #expect(try await admin.partnerGuard(api.other.partner).version == 1)
            let stale = try await refusal {
                _ = try await admin.edit(api.one.partner, NewGuardChanges(confirmAbove: 6), version: 1)
            }
            #expect(stale.code == "preconditionFailed")
            let kept = try await admin.edit(api.one.partner, NewGuardChanges(approveAbove: .clear))
            #expect(kept.approveAbove == nil && kept.confirmAbove == 5 && kept.version == 3)
            for (body, field) in [
                (#"{"confirmAbove":-1}"#, "confirmAbove"),
                (#"{"confirmAbove":100000001}"#, "confirmAbove"),
                (#"{"approveAbove":-1}"#, "approveAbove"), (#"{"stepUpSeconds":29}"#, "stepUpSeconds"),
                (#"{"stepUpSeconds":86401}"#, "stepUpSeconds"),
                (#"{"stepUpPermissions":["jobs:run","jobs:all"]}"#, "stepUpPermissions[1]"),
                (#"{"expiresAt":"2030-01-01T00:00:00Z"}"#, "expiresAt"),
            ] {
                let answer = try await api.call(
                    "PATCH", "/v1/partners/\(api.one.partner)/guard", body: body)
                let problem = try api.problem(answer)
                #expect(problem.status == 422 && problem.field == field, "\(body): \(problem)")
            }
            for seconds in [30, 86_400] {
                let edited = try await admin.edit(
                    api.one.partner, NewGuardChanges(confirmAbove: 100_000_000, stepUpSeconds: seconds))
                #expect(edited.stepUpSeconds == seconds)
            }
        }
    }

    @Test("a person tightens a guard at once, and loosens it with a fresh second factor; a key without")
    func loosening() async throws {
        try await TestAPI.with { api in
            let (_, boss, session) = try await api.person(
                "boss@example.com", .partnerAdmin, on: .partner(api.one.partner), steppedUpAt: nil)
            defer { boss.close() }
            let partner = api.one.partner
            let tight = NewGuardChanges(
                confirmAbove: 10, approveAbove: .set(100),
                stepUpPermissions: ["jobs:approve", "tenants:delete", "tenants:export"], stepUpSeconds: 250)
            _ = try await boss.edit(partner, tight)
            let looser = [
                NewGuardChanges(confirmAbove: 11), NewGuardChanges(approveAbove: .set(101)),
                NewGuardChanges(approveAbove: .clear),
                NewGuardChanges(stepUpPermissions: ["jobs:approve"]), NewGuardChanges(stepUpSeconds: 251),
                // Tighter here, looser there.
                NewGuardChanges(confirmAbove: 1, stepUpPermissions: []),
            ]
            for changes in looser {
                let refused = try await refusal { _ = try await boss.edit(partner, changes) }
                #expect(refused.status == 403 && refused.code == "stepUpRequired", "\(changes)")
            }
            try await api.stepUp(session, at: .now() + .seconds(-251))
            #expect(
                try await refusal { _ = try await boss.edit(partner, looser[0]) }.code == "stepUpRequired")
            #expect(try await boss.partnerGuard(partner).version == 2)
            try await api.stepUp(session, at: .now() + .seconds(-30))
            for changes in looser { _ = try await boss.edit(partner, changes) }
            let key = try await api.client(.partner(partner), [.guardsWrite])
            defer { key.close() }
            #expect(
                try await key.edit(partner, NewGuardChanges(confirmAbove: 500)).confirmAbove == 500)
            // An organization's admin sets none, nor does the permission reach another partner.
            let refused = try await refusal { _ = try await boss.edit(api.other.partner, tight) }
            #expect(refused.status == 404)
            let (_, local, _) = try await api.person(
                "local@example.com", .organizationAdmin, on: .organization(api.one.organization))
            defer { local.close() }
            #expect(try await refusal { _ = try await local.edit(partner, tight) }.code == "forbidden")
        }
    }

    @Test("a guard that the database's owner alters, takes away or puts back stops people and is not shown")
    func altered() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            let (_, person, _) = try await api.person(
                "p@example.com", .technician, on: .site(api.one.site), steppedUpAt: nil)
            let (_, stranger, _) = try await api.person(
                "s@example.com", .technician, on: .site(api.other.site), steppedUpAt: nil)
            defer { admin.close(); person.close(); stranger.close() }
            let partner = api.one.partner
            _ = try await admin.edit(partner, NewGuardChanges(confirmAbove: 5, approveAbove: .set(9)))
            try await api.owner.execute("CREATE TABLE old AS SELECT * FROM guards", scope: .platform)
            _ = try await admin.edit(partner, NewGuardChanges(confirmAbove: 4))
            try await api.owner.execute("CREATE TABLE good AS SELECT * FROM guards", scope: .platform)
            let ways: [SQL] = [
                "UPDATE guards SET confirm_above = 1000", "UPDATE guards SET approve_above = NULL",
                "UPDATE guards SET step_up = '{}'", "UPDATE guards SET step_up_seconds = 80000",
                "UPDATE guards SET expires_at = expires_at + interval '1 year'",
                "UPDATE guards SET version = 9007199254740993", "UPDATE guards SET mac_key = 'k2'",
                "UPDATE guards SET partner_id = \(api.other.partner)", "DELETE FROM guards",
                """
                UPDATE guards SET (confirm_above, version, expires_at, mac)
                    = (SELECT confirm_above, version, expires_at, mac FROM old)
                """,
            ]
            for way in ways {
                #expect(try await api.owner.execute(way, scope: .platform) == 1)
                api.authenticator.guards.forget()
                #expect(
                    try await refusal { _ = try await admin.partnerGuard(partner) }.code == "alteredRow")
                #expect(try await refusal { _ = try await person.devices() }.code == "stepUpRequired")
                try await api.owner.execute("DELETE FROM guards", scope: .platform)
                try await api.owner.execute("INSERT INTO guards SELECT * FROM good", scope: .platform)
                api.authenticator.guards.forget()
                #expect(try await admin.partnerGuard(partner).confirmAbove == 4)
                #expect(try await person.devices().items.count == 1)
                // Nobody else is stopped by it.
                #expect(try await stranger.devices().items.count == 1)
            }
            // Who may loosen sets it anew, from the built-in thresholds.
            try await api.owner.execute("UPDATE guards SET confirm_above = 1000", scope: .platform)
            let anew = try await admin.edit(partner, NewGuardChanges(stepUpSeconds: 100))
            #expect(anew.confirmAbove == 50 && anew.version == 4)
            try await api.owner.execute("DELETE FROM guards", scope: .platform)
            #expect(try await admin.edit(partner, NewGuardChanges(confirmAbove: 3)).version == 5)
            #expect(try await person.devices().items.count == 1)
        }
    }

    @Test("a guard in use is renewed, and one that has expired loosens nothing")
    func expiry() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            let (_, boss, _) = try await api.person(
                "boss@example.com", .partnerAdmin, on: .partner(api.one.partner), steppedUpAt: nil)
            defer { admin.close(); boss.close() }
            let partner = api.one.partner
            _ = try await admin.edit(
                partner, NewGuardChanges(confirmAbove: 900, stepUpPermissions: ["jobs:cancel"]))
            var row = try await api.guardRow(partner)
            row.expiresAt = .now() + .seconds(86_400)
            try await api.reseal(row)
            let level = Level.partner(partner)
            #expect(try await api.authenticator.guards.rules(on: level).rules.confirmAbove == 900)
            #expect(try await api.guardRow(partner).expiresAt > .now() + .seconds(89 * 86_400))
            row.expiresAt = .now() + .seconds(-1)
            try await api.reseal(row)
            let judged = try await api.authenticator.guards.rules(on: level)
            #expect(!judged.isAltered && judged.rules.confirmAbove == 50)
            #expect(
                judged.rules.stepUpPermissions == ["jobs:cancel", "tenants:delete", "tenants:export"])
            // To bring it back in force is to loosen what holds.
            let same = try await refusal {
                _ = try await boss.edit(partner, NewGuardChanges(stepUpSeconds: 300))
            }
            #expect(same.code == "stepUpRequired")
        }
    }

    @Test("a permission of the set takes a second factor that was shown lately, of people and not of keys")
    func stepUp() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            let partner = api.one.partner
            let places: [(BuiltinRole, Level)] = [
                (.partnerAdmin, .partner(partner)),
                (.organizationAdmin, .organization(api.one.organization)),
                (.technician, .site(api.one.site)), (.platformAdmin, .platform),
            ]
            var people: [(client: APIClient, session: CreatedSession)] = []
            for (index, (role, level)) in places.enumerated() {
                let person = try await api.person(
                    "p\(index)@example.com", role, on: level, steppedUpAt: nil)
                people.append((person.client, person.session))
            }
            let (_, stranger, _) = try await api.person(
                "s@example.com", .partnerAdmin, on: .partner(api.other.partner), steppedUpAt: nil)
            defer {
                admin.close()
                stranger.close()
                for person in people { person.client.close() }
            }
            for person in people { _ = try await person.client.jobs() }
            let changes = NewGuardChanges(stepUpPermissions: ["jobs:read"], stepUpSeconds: 250)
            _ = try await admin.edit(partner, changes)
            for (client, session) in people {
                let refused = try await refusal { _ = try await client.jobs() }
                #expect(refused.status == 403 && refused.code == "stepUpRequired")
                #expect(refused.detail.contains("jobs:read") && refused.detail.contains("250 seconds"))
                _ = try await client.devices()
                try await api.stepUp(session, at: .now() + .seconds(-251))
                #expect(try await refusal { _ = try await client.jobs() }.code == "stepUpRequired")
                try await api.stepUp(session, at: .now() + .seconds(-60))
                _ = try await client.jobs()
            }
            _ = try await stranger.jobs()
            let key = try await api.client(.partner(partner), [.jobsRead])
            defer { key.close() }
            _ = try await key.jobs()
            _ = try await admin.jobs()
        }
    }

    @Test("what takes a second factor is not given to a key, a role or a person without one")
    func giving() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            let partner = api.one.partner
            let (_, boss, session) = try await api.person(
                "boss@example.com", .partnerAdmin, on: .partner(partner), steppedUpAt: nil)
            defer { admin.close(); boss.close() }
            let home = Place(partnerId: partner)
            let user = try await boss.createUser(NewUser(email: "u@example.com", name: "U", home: home))
            let strong = try await admin.createAPIKey(
                NewAPIKey(name: "strong", partnerId: partner, permissions: ["tenants:export"]))
            let attempts: [(String, () async throws -> Void)] = [
                (
                    "key",
                    {
                        _ = try await boss.createAPIKey(
                            NewAPIKey(name: "1", partnerId: partner, permissions: ["tenants:export"]))
                    }
                ),
                (
                    "key that loosens",
                    {
                        _ = try await boss.createAPIKey(
                            NewAPIKey(name: "2", partnerId: partner, permissions: ["guards:write"]))
                    }
                ),
                ("rotation", { _ = try await boss.rotate(strong.id, NewRotation(overlapSeconds: 60)) }),
                (
                    "role",
                    {
                        _ = try await boss.createRole(
                            NewRole(name: "r", permissions: ["tenants:delete"], home: home))
                    }
                ),
                (
                    "binding",
                    {
                        _ = try await boss.bind(
                            NewBinding(userId: user.id, role: "partnerAdmin", place: home))
                    }
                ),
            ]
            for (name, attempt) in attempts {
                #expect(try await refusal(attempt).code == "stepUpRequired", "\(name)")
            }
            _ = try await boss.createAPIKey(
                NewAPIKey(name: "3", partnerId: partner, permissions: ["jobs:read"]))
            try await api.stepUp(session, at: .now())
            for (_, attempt) in attempts { try await attempt() }
        }
    }
}
