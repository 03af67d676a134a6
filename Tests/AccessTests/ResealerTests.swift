import Domain
import Ledger
import Outbound
import Postgres
import TestSupport
import Testing
import Trust

@testable import Access

/// Everything that is stored sealed, put under another key.
struct ResealerTests {
    private static func key(_ byte: UInt8) throws -> SealingKeys.Key {
        try SealingKeys.Key(id: "k\(byte)", secret: SecretBytes(Array(repeating: byte, count: 32)))
    }

    private struct Stopped: Error {}

    private func fill(_ database: TestDatabase, _ keys: SealingKeys) async throws -> UserID {
        // A provider is made, and not asked.
        let issuers = OIDCKeys(OIDCKeys.Configuration())
        defer { issuers.close() }
        let authenticator = database.authenticator(issuers: issuers)
        let (_, text) = try await authenticator.createKey(
            name: "k", level: .platform, permissions: Permission.all, expiresIn: .seconds(600), by: nil)
        let admin = try await authenticator.principal(of: text)
        let (secrets, webhooks) = (
            SecretMaker(authenticator, keys: keys),
            WebhookMaker(authenticator, keys: keys, networks: .none)
        )
        for index in 0..<5 {
            let made = try await secrets.create(
                name: "s\(index)", value: SecretBytes(Array("the value \(index)".utf8)), description: "",
                home: .platform, by: admin)
            if index > 2 {
                _ = try await secrets.rotate(
                    made.id, to: SecretBytes(Array("the next value \(index)".utf8)), version: nil, by: admin)
            }
            let (webhook, _) = try await webhooks.create(
                url: "https://example.com/", description: "", events: [.jobEnded], home: .platform, by: admin)
            if index > 2 {
                _ = try await webhooks.rotate(webhook.id, overlap: .seconds(60), version: nil, by: admin)
            }
        }
        _ = try await OIDCMaker(SignIn(authenticator, sealing: keys)).createProvider(
            home: .platform, issuer: "https://id.example", preset: .generic, keySource: .discovery,
            terms: OIDCProviderRow.Terms(
                name: "idp", audiences: ["client"], authorizedParties: [], organizationClaim: "org",
                roleClaim: "role", emailClaim: "email", linksByEmail: false, use: .idToken, leewaySeconds: 5,
                lifetimeSeconds: 3_600, clientID: "client", redirectURLs: ["https://app.example/"],
                sealed: nil, isDisabled: false), clientSecret: "the client's secret", by: admin)
        let user = UserID(try await RoleMaker(authenticator).administrator().value)
        var credentials =
            try await database.ledger.credentials(of: user)
            ?? CredentialsRow(user: user, expiresAt: .now() + .seconds(600))
        credentials.version += 1
        credentials.sealed = try keys.seal(TOTP().secret, for: SignIn.label(user, credentials.version)).bytes
        credentials.mac = authenticator.seals.seal(credentials.sealedParts)
        #expect(try await database.ledger.write(credentials))
        return user
    }

    /// How many seals of all tables there are of each key, but for what is sealed to devices for a minute.
    private func seals(_ database: TestDatabase) async throws -> [String: Int] {
        let tables = try await database.owner.query(
            """
            SELECT c.relname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
            WHERE c.relkind = 'r' AND a.attname = 'sealed' AND NOT a.attisdropped
              AND c.relname <> 'secret_requests'
            """, scope: .none
        ) { try $0.decode(String.self) }
        let reads: [String: SQL] = [
            "secrets": "SELECT unnest(sealed) FROM secrets",
            "webhooks": "SELECT unnest(sealed) FROM webhooks",
            "user_credentials": "SELECT sealed FROM user_credentials WHERE sealed IS NOT NULL",
            "oidc_providers": "SELECT sealed FROM oidc_providers WHERE sealed IS NOT NULL",
        ]
        #expect(Set(tables) == Set(reads.keys))
        var all: [[UInt8]] = []
        for (table, read) in reads {
            let found = try await database.owner.query(read, scope: .platform) {
                try $0.decode(PostgresData.self).bytes
            }
            #expect(!found.isEmpty, "nothing of \(table) is sealed here")
            all += found
        }
        return try all.reduce(into: [:]) { $0[try SealedSecret(bytes: $1).keyID, default: 0] += 1 }
    }

    @Test("a run that is stopped after any step leaves what opens, and the next one does the rest")
    func resumes() async throws {
        try await TestDatabase.with { database in
            let (old, new) = (try Self.key(1), try Self.key(2))
            let user = try await fill(database, try SealingKeys(current: old))
            #expect(try await seals(database) == ["k1": 16])
            let keys = try SealingKeys(current: new, older: [old])
            let authenticator = database.authenticator()
            let resealer = Resealer(
                ledger: database.ledger, keys: keys, seals: authenticator.seals, batch: 1)
            var (steps, rows) = (0, 0)
            while true {
                do {
                    let outcome = try await resealer.run { _ in
                        steps += 1
                        throw Stopped()
                    }
                    #expect(outcome == Resealer.Outcome())
                    break
                } catch is Stopped {
                    rows += 1
                    #expect(try await seals(database)["k2", default: 0] >= rows)
                }
            }
            #expect(steps == 12, "each row once")
            #expect(try await seals(database) == ["k2": 16])
            // The old key is not needed any more: all opens, and the MAC of what it covers holds.
            let alone = try SealingKeys(current: new)
            for row in try await database.ledger.secrets(
                PageRequest(after: nil, limit: 9), scope: .platform)
            {
                for (index, value) in row.sealed.enumerated() {
                    let version = row.secretVersion - index
                    let label = SecretLabel.script(
                        row.name, partner: nil, organization: nil, site: nil, version: version)
                    let salted = try SaltedSecret(opened: alone.open(SealedSecret(bytes: value), for: label))
                    let expected = version == 1 ? "the value" : "the next value"
                    #expect(salted.secret.copy().starts(with: expected.utf8))
                }
            }
            let credentials = try #require(try await database.ledger.credentials(of: user))
            #expect(authenticator.seals.holds(credentials.mac, credentials.sealedParts))
            for row in try await database.ledger.oidcProviders(
                PageRequest(after: nil, limit: 9), scope: .platform)
            {
                #expect(authenticator.seals.holds(row.mac, row.sealedParts))
                let secret = try alone.open(
                    SealedSecret(bytes: row.terms.sealed ?? []), for: row.secretLabel)
                #expect(secret.copy() == Array("the client's secret".utf8))
            }
            _ = try alone.open(
                SealedSecret(bytes: credentials.sealed ?? []), for: SignIn.label(user, credentials.version))
        }
    }

    @Test("what was altered is left as it is and named, and the rest is done")
    func altered() async throws {
        try await TestDatabase.with { database in
            let (old, new) = (try Self.key(1), try Self.key(2))
            _ = try await fill(database, try SealingKeys(current: old))
            try await database.owner.pipeline(
                scope: .none,
                [
                    "UPDATE secrets SET name = 'renamed' WHERE name = 's1'",
                    "UPDATE user_credentials SET confirmed = NOT confirmed",
                    "UPDATE oidc_providers SET name = 'renamed'",
                ])
            let resealer = Resealer(
                ledger: database.ledger, keys: try SealingKeys(current: new, older: [old]),
                seals: database.authenticator().seals)
            let outcome = try await resealer.run()
            #expect(outcome.resealed == 9 && outcome.left.count == 3, "\(outcome)")
            #expect(outcome.left[0].hasPrefix("secrets "))
            #expect(outcome.left[1].hasPrefix("user_credentials "))
            #expect(outcome.left[2].hasPrefix("oidc_providers "))
            #expect(try await seals(database)["k1"] == 3)
            // Under a key that is not here nothing opens, and nothing is lost.
            let stranger = Resealer(
                ledger: database.ledger, keys: try SealingKeys(current: Self.key(3)),
                seals: database.authenticator().seals)
            #expect(try await stranger.run().resealed == 0)
            #expect(try await seals(database) == ["k1": 3, "k2": 13])
        }
    }

    @Test("who has read a row before it was sealed anew writes nothing of it that was")
    func renewedMeanwhile() async throws {
        try await TestDatabase.with { database in
            let (old, new) = (try Self.key(1), try Self.key(2))
            let user = try await fill(database, try SealingKeys(current: old))
            let page = PageRequest(after: nil, limit: 9)
            var provider = try #require(
                try await database.ledger.oidcProviders(page, scope: .platform).first)
            var credentials = try #require(try await database.ledger.credentials(of: user))
            let seals = database.authenticator().seals
            let outcome = try await Resealer(
                ledger: database.ledger, keys: try SealingKeys(current: new, older: [old]), seals: seals
            ).run()
            #expect(outcome.left.isEmpty)
            provider.expiresAt = provider.expiresAt + .seconds(60)
            provider.mac = seals.seal(provider.sealedParts)
            try await database.ledger.renew(provider)
            credentials.expiresAt = credentials.expiresAt + .seconds(60)
            credentials.mac = seals.seal(credentials.sealedParts)
            try await database.ledger.renew(credentials)
            provider.version += 1
            provider.mac = seals.seal(provider.sealedParts)
            #expect(try await !database.ledger.update(provider, scope: .platform))
            #expect(try await self.seals(database) == ["k2": 16])
            let kept = try #require(try await database.ledger.oidcProviders(page, scope: .platform).first)
            #expect(seals.holds(kept.mac, kept.sealedParts))
            let known = try #require(try await database.ledger.credentials(of: user))
            #expect(seals.holds(known.mac, known.sealedParts))
        }
    }
}
