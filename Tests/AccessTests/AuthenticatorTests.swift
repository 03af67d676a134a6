import Domain
import Ledger
import Postgres
import Testing
import Trust

@testable import Access

@Suite("API keys")
struct AuthenticatorTests {
    @Test("a key opens what it was made for, and its secret stands nowhere in the database")
    func roundTrip() async throws {
        try await TestDatabase.with { database in
            let authenticator = database.authenticator()
            let (row, secret) = try await authenticator.createKey(
                name: "admin", level: .platform, permissions: [.jobsRun, .jobsRead], expiresIn: .seconds(60),
                by: nil)
            #expect(secret.hasPrefix("crmm_") && secret.utf8.count == 48)
            let principal = try await authenticator.principal(of: secret)
            #expect(principal.id.value == row.id.value && principal.kind == .key)
            #expect(principal.reach == [.jobsRun: .platform, .jobsRead: .platform])
            let copies = try await database.owner.query(
                "SELECT count(*) FROM api_keys k WHERE k::text LIKE '%' || \(secret) || '%'", scope: .platform
            ) { try $0.decode(Int.self) }
            #expect(copies == [0])
        }
    }

    @Test("a key that is malformed, unknown, expired or revoked gets the one same refusal")
    func refusals() async throws {
        try await TestDatabase.with { database in
            let clock = ManualClock()
            let authenticator = database.authenticator { clock.now }
            let (_, secret) = try await authenticator.createKey(
                name: "a", level: .platform, permissions: [], expiresIn: .seconds(60), by: nil)
            let (otherRow, other) = try await authenticator.createKey(
                name: "b", level: .platform, permissions: [], expiresIn: .seconds(600), by: nil)
            let unknown = "crmm_" + Base64URL.encode(Array(repeating: 1, count: 32))
            for text in [
                "", "crmm_", secret + "A", String(secret.dropLast()), "CRMM_" + secret.dropFirst(5), unknown,
            ] {
                let refused = try await refusal { _ = try await authenticator.principal(of: text) }
                #expect(refused.code == .unauthorized && refused.message == AccessError.unauthorized.message)
            }
            _ = try await authenticator.principal(of: secret)
            clock.advance(.seconds(61))
            #expect(
                try await refusal { _ = try await authenticator.principal(of: secret) }.code == .unauthorized)
            _ = try await authenticator.principal(of: other)
            #expect(try await database.ledger.revokeAPIKey(otherRow.id, scope: .platform))
            clock.advance(.seconds(Int64(Authenticator.cacheSeconds)))
            #expect(
                try await refusal { _ = try await authenticator.principal(of: other) }.code == .unauthorized)
        }
    }

    @Test("a judged key is believed for five seconds without its row, and not longer")
    func cache() async throws {
        try await TestDatabase.with { database in
            let clock = ManualClock()
            let authenticator = database.authenticator { clock.now }
            let (_, secret) = try await authenticator.createKey(
                name: "a", level: .platform, permissions: [], expiresIn: .seconds(60), by: nil)
            _ = try await authenticator.principal(of: secret)
            try await database.owner.execute("DELETE FROM api_keys", scope: .platform)
            clock.advance(.seconds(4))
            _ = try await authenticator.principal(of: secret)
            clock.advance(.seconds(1))
            #expect(
                try await refusal { _ = try await authenticator.principal(of: secret) }.code == .unauthorized)
        }
    }

    /// Edits that an owner of the database could try, each of one column that grants power.
    static let edits: [SQL] = [
        "UPDATE api_keys SET permissions = permissions || ARRAY['partners:write']",
        "UPDATE api_keys SET permissions = ARRAY['jobs:read', 'jobs:run', 'partners:write']",
        "UPDATE api_keys SET permissions = '{}'",
        "UPDATE api_keys SET expires_at = expires_at + interval '1 year'",
        "UPDATE api_keys SET organization_id = NULL",
        "UPDATE api_keys SET organization_id = gen_random_uuid()",
        "UPDATE api_keys SET partner_id = gen_random_uuid(), organization_id = NULL",
        "UPDATE api_keys SET partner_id = organization_id, organization_id = NULL",
        "UPDATE api_keys SET site_id = organization_id, organization_id = NULL",
        "UPDATE api_keys SET id = gen_random_uuid()",
        "UPDATE api_keys SET name = 'other'",
        "UPDATE api_keys SET mac_key = 'k2'",
        "UPDATE api_keys SET mac = decode(repeat('00', 32), 'hex')",
        "UPDATE api_keys SET mac = ''",
    ]

    @Test("an edit of any column that grants power makes a key worthless, also by the database's owner")
    func edits() async throws {
        try await TestDatabase.with { database in
            let organization = try await database.makeOrganization()
            for edit in Self.edits {
                let authenticator = database.authenticator()
                let (_, secret) = try await authenticator.createKey(
                    name: "k", level: .organization(organization), permissions: [.jobsRun, .jobsRead],
                    expiresIn: .seconds(60), by: nil)
                #expect(try await database.owner.execute(edit, scope: .platform) == 1)
                let refused = try await refusal { _ = try await authenticator.principal(of: secret) }
                #expect(refused.code == .unauthorized, "after \(edit)")
                try await database.owner.execute("DELETE FROM api_keys", scope: .platform)
            }
        }
    }

    @Test("a stolen row does not work for another secret, and another MAC key believes nothing")
    func otherSecret() async throws {
        try await TestDatabase.with { database in
            let authenticator = database.authenticator()
            let (_, secret) = try await authenticator.createKey(
                name: "k", level: .platform, permissions: [.jobsRun], expiresIn: .seconds(60), by: nil)
            let stranger = Authenticator(
                ledger: database.ledger, seals: RowSeals(key: MACKeyOf.bytes(8), keyID: "k1"),
                judge: TestDatabase.judge, store: .memory)
            #expect(try await refusal { _ = try await stranger.principal(of: secret) }.code == .unauthorized)
            let own = APIKeySecret()
            try await database.owner.execute(
                "UPDATE api_keys SET key_hash = \(PostgresData(own.hash))", scope: .platform)
            #expect(
                try await refusal { _ = try await authenticator.principal(of: own.text) }.code
                    == .unauthorized)
        }
    }
}
