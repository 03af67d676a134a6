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

@Suite("Nobody gets more than they have")
struct RightsTests {
    @Test("a role does not get a name that is taken or built in, and is as good as before")
    func renamedRole() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let home = Place(organizationId: api.one.organization)
            _ = try await admin.createRole(
                NewRole(name: "taken", permissions: ["devices:read"], home: home))
            let role = try await admin.createRole(
                NewRole(name: "free", permissions: ["devices:read"], home: home))
            let id = try #require(role.id)
            for name in ["taken", "technician"] {
                let refused = try await refusal {
                    _ = try await admin.edit(id, NewRoleChanges(name: name))
                }
                #expect(refused.status == 409 && refused.code == "conflict" && refused.field == "name")
            }
            #expect(try await admin.edit(id, NewRoleChanges(name: "free")).version == 2)
            #expect(try await admin.edit(id, NewRoleChanges(name: "other")).name == "other")
            // The same name of another organization is another.
            let elsewhere = try await admin.createRole(
                NewRole(
                    name: "mine", permissions: ["devices:read"],
                    home: Place(organizationId: api.other.organization)))
            _ = try await admin.edit(try #require(elsewhere.id), NewRoleChanges(name: "taken"))
        }
    }

    @Test("a key that may do more than the caller is not rotated by the caller, and goes on as it was")
    func rotation() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            let weak = try await api.client(
                .organization(api.one.organization), [.apiKeysWrite, .apiKeysRead])
            defer { admin.close(); weak.close() }
            let strong = try await admin.createAPIKey(
                NewAPIKey(
                    name: "ci", organizationId: api.one.organization, permissions: ["jobs:run", "jobs:read"]))
            let refused = try await refusal { _ = try await weak.rotate(strong.id, NewRotation()) }
            #expect(refused.status == 403)
            let same = APIClient(url: api.url, key: strong.key)
            defer { same.close() }
            #expect(try await same.jobs().items.isEmpty)
            // Who has as much rotates it; both texts are good for a while, then one.
            let rotated = try await admin.rotate(strong.id, NewRotation(overlapSeconds: 3_600))
            let new = APIClient(url: api.url, key: rotated.key)
            defer { new.close() }
            #expect(try await new.jobs().items.isEmpty)
            #expect(try await same.jobs().items.isEmpty)
            let again = try await admin.rotate(strong.id, NewRotation(overlapSeconds: 0))
            #expect(again.key != rotated.key)
            #expect(try await refusal { _ = try await new.jobs() }.status == 401)
        }
    }

    @Test("a key dies with the key that made it, and shrinks with the person who made it")
    func makers() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let first = try await admin.createAPIKey(
                NewAPIKey(name: "1", permissions: ["apiKeys:write", "jobs:read", "sites:read"]))
            let one = APIClient(url: api.url, key: first.key)
            let second = try await one.createAPIKey(
                NewAPIKey(name: "2", organizationId: api.one.organization, permissions: ["jobs:read"]))
            let two = APIClient(url: api.url, key: second.key)
            defer { one.close(); two.close() }
            #expect(try await two.jobs().items.isEmpty)
            try await admin.revoke(first.id)
            #expect(try await refusal { _ = try await two.jobs() }.status == 401)
            // A person's key has what the person has by now.
            let level = Level.organization(api.one.organization)
            let (user, client, _) = try await api.person("a@example.com", .organizationAdmin, on: level)
            defer { client.close() }
            let third = try await client.createAPIKey(
                NewAPIKey(
                    name: "3", organizationId: api.one.organization, permissions: ["jobs:read", "jobs:run"]))
            let three = APIClient(url: api.url, key: third.key)
            defer { three.close() }
            #expect(try await three.jobs().items.isEmpty)
            let bindings = try await admin.bindings(user: user.id).items
            _ = try await admin.bind(
                NewBinding(
                    userId: user.id, role: "viewer", place: Place(organizationId: api.one.organization)))
            try await admin.unbind(try #require(bindings.first).id)
            #expect(try await three.jobs().items.isEmpty)
            let ping = NewJob(kind: .ping, target: .devices([api.one.device]))
            #expect(try await refusal { _ = try await three.submit(ping) }.status == 403)
            _ = try await admin.edit(user.id, NewUserChanges(disabled: true))
            #expect(try await refusal { _ = try await three.jobs() }.status == 401)
        }
    }

    @Test("a key that somebody made lets nobody in: what it made would outlive it")
    func lasting() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let made = try await admin.createAPIKey(
                NewAPIKey(name: "1", permissions: Permission.all.map(\.rawValue)))
            let client = APIClient(url: api.url, key: made.key)
            defer { client.close() }
            let user = try await client.createUser(NewUser(email: "a@example.com", name: "A"))
            let bind = try await refusal {
                _ = try await client.bind(NewBinding(userId: user.id, role: "platformAdmin"))
            }
            #expect(bind.status == 403)
            #expect(try await refusal { _ = try await client.invite(user.id) }.status == 403)
        }
    }

    @Test("a partner's admin may let go whom it let in, also where the person has several organizations")
    func offboarding() async throws {
        try await TestAPI.with { api in
            let (_, boss, _) = try await api.person(
                "boss@example.com", .partnerAdmin, on: .partner(api.one.partner))
            defer { boss.close() }
            let sibling = try await boss.createOrganization(
                NewOrganization(name: "s", partnerId: api.one.partner))
            let user = try await boss.createUser(
                NewUser(email: "t@example.com", name: "T", home: Place(partnerId: api.one.partner)))
            for organization in [api.one.organization, sibling.id] {
                _ = try await boss.bind(
                    NewBinding(
                        userId: user.id, role: "technician", place: Place(organizationId: organization)))
            }
            _ = try await boss.invite(user.id)
            #expect(try await boss.edit(user.id, NewUserChanges(disabled: true)).state == .disabled)
            // Somebody of one of the organizations is not above the person.
            let (_, local, _) = try await api.person(
                "local@example.com", .organizationAdmin, on: .organization(sibling.id))
            defer { local.close() }
            #expect(try await refusal { _ = try await local.user(user.id) }.status == 404)
        }
    }

    @Test("nobody resets the password of somebody who may do more, nor keeps a link until they do")
    func resets() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            let level = Level.organization(api.one.organization)
            let (_, local, _) = try await api.person("local@example.com", .organizationAdmin, on: level)
            let stranger = APIClient(url: api.url, key: nil)
            defer { admin.close(); local.close(); stranger.close() }
            let home = Place(organizationId: api.one.organization)
            let user = try await local.createUser(NewUser(email: "u@example.com", name: "U", home: home))
            let link = try await local.invite(user.id)
            _ = try await admin.bind(
                NewBinding(userId: user.id, role: "partnerAdmin", place: Place(partnerId: api.one.partner)))
            let kept = try await refusal {
                _ = try await stranger.accept(
                    NewAcceptance(token: link.token, password: "correct horse battery"))
            }
            #expect(kept.field == "token")
            #expect(try await refusal { _ = try await local.invite(user.id) }.status == 403)
            #expect(
                try await refusal { _ = try await local.edit(user.id, NewUserChanges(disabled: true)) }.status
                    == 403)
        }
    }

    @Test(
        "an invited person's row holds after a second invitation late in its term, and a disabled one's too")
    func renewal() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            let stranger = APIClient(url: api.url, key: nil)
            defer { admin.close(); stranger.close() }
            let user = try await admin.createUser(NewUser(email: "u@example.com", name: "U"))
            // Its term is nearly over, as only the API can say under its MAC.
            var row = try #require(await api.ledger.user(user.id, scope: .platform))
            row.expiresAt = .now() + .seconds(60)
            let seals = RowSeals(key: try MACKey(bytes: Array(repeating: 7, count: 32)), keyID: "k1")
            let mac = seals.seal(row.sealedParts)
            try await api.owner.execute(
                """
                UPDATE users SET expires_at = \(row.expiresAt), mac = \(PostgresData(mac.code))
                WHERE id = \(user.id)
                """, scope: .platform)
            _ = try await admin.invite(user.id)
            let link = try await admin.invite(user.id)
            let accepted = try await stranger.accept(
                NewAcceptance(token: link.token, password: "correct horse battery"))
            #expect(accepted.state == .active)
            _ = try await admin.edit(user.id, NewUserChanges(name: "V"))
        }
    }

    @Test("an organization sees, and revokes, the keys of its sites")
    func siteKeys() async throws {
        try await TestAPI.with { api in
            let client = try await api.client(.organization(api.one.organization))
            defer { client.close() }
            // The organization's key of the tests has a maker's rights of its own.
            let key = try await client.createAPIKey(
                NewAPIKey(name: "s", siteId: api.one.site, permissions: ["devices:read"]))
            #expect(try await client.apiKeys().items.contains { $0.id == key.id })
            try await client.revoke(key.id)
            let gone = APIClient(url: api.url, key: key.key)
            defer { gone.close() }
            #expect(try await refusal { _ = try await gone.devices() }.status == 401)
        }
    }

    @Test("an edit that was cut off after its revocation grants nothing, until somebody says all of it again")
    func cutOff() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let (user, client, _) = try await api.person(
                "u@example.com", .organizationAdmin, on: .organization(api.one.organization))
            defer { client.close() }
            let role = try await admin.createRole(
                NewRole(name: "r", permissions: ["jobs:read", "devices:read"]))
            let roleID = try #require(role.id)
            let revocations = api.authenticator.revocations
            for (id, version) in [(roleID.value, role.version), (user.id.value, user.version)] {
                try await revocations.revoke(id, below: version + 1, at: .now())
            }
            api.authenticator.forget()
            #expect(try await refusal { _ = try await client.devices() }.status == 401)
            // An edit of the name would seal again what the row said before.
            let renamed = try await refusal { _ = try await admin.edit(roleID, NewRoleChanges(name: "s")) }
            #expect(renamed.status == 409 && renamed.field == "permissions")
            let named = try await refusal { _ = try await admin.edit(user.id, NewUserChanges(name: "V")) }
            #expect(named.status == 409 && named.field == "disabled")
            let narrowed = try await admin.edit(roleID, NewRoleChanges(permissions: ["jobs:read"]))
            #expect(narrowed.permissions == ["jobs:read"] && narrowed.version > role.version)
            _ = try await admin.edit(user.id, NewUserChanges(disabled: false))
            #expect(try await client.devices().items.count == 1)
            // The role can be given again.
            _ = try await admin.bind(
                NewBinding(
                    userId: user.id, roleId: roleID, place: Place(organizationId: api.one.organization)))
        }
    }
}
