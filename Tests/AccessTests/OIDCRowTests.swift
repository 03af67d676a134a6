import Domain
import Ledger
import Postgres
import TestSupport
import Testing

@testable import Access

/// Rows by which tokens of other issuers are believed, edited by the database's owner: each column that the
/// catalog knows, but for those that say nothing of power.
@Suite("Rows that make tokens believed")
struct OIDCRowTests {
    /// Edits of a provider. Its id is held by the links, which name it.
    static let providers: [String: SQL] = [
        "issuer": "issuer = issuer || '/'", "preset": "preset = 'generic'",
        "key_source": "key_source = 'clerkAPI'", "audiences": "audiences = ARRAY['a']",
        "authorized_parties": "authorized_parties = authorized_parties || ARRAY['https://evil.example']",
        "organization_claim": "organization_claim = 'sub'", "role_claim": "role_claim = 'sub'",
        "email_claim": "email_claim = 'sub'", "links_by_email": "links_by_email = true",
        "token_use": "token_use = 'idToken'", "leeway_seconds": "leeway_seconds = 300",
        "lifetime_seconds": "lifetime_seconds = 86400", "disabled": "disabled = true",
        "client_id": "client_id = 'evil'", "redirect_urls": "redirect_urls = ARRAY['https://evil.example/']",
        "sealed": "client_id = 'x', sealed = 'y'",
        "expires_at": "expires_at = expires_at + interval '1 year'",
        "version": "version = 2", "name": "name = 'other'", "partner_id": "partner_id = NULL",
        "organization_id": "partner_id = NULL, organization_id = (SELECT id FROM organizations LIMIT 1)",
        "created_by": "created_by = gen_random_uuid()", "mac_key": "mac_key = 'k2'", "mac": "mac = ''",
    ]
    static let silentOfProviders: Set = ["id", "links_made", "created_at", "updated_at"]

    /// Edits of links: of a role and an organization, which the token needs both.
    static let links: [String: SQL] = [
        "id": "id = gen_random_uuid() WHERE kind = 'role'",
        "provider_id": "provider_id = (SELECT id FROM oidc_providers WHERE name = 'second')",
        "partner_id": "partner_id = NULL",
        "organization_id":
            "partner_id = NULL, organization_id = (SELECT id FROM organizations WHERE name = 'o')",
        "kind": """
        kind = 'subject', target_organization_id = NULL, user_id = (SELECT id FROM users LIMIT 1)
        WHERE kind = 'organization'
        """,
        "external": "external = 'org:guest' WHERE kind = 'role'",
        "target_organization_id": """
        target_organization_id = (SELECT id FROM organizations WHERE name = 'other')
        WHERE kind = 'organization'
        """,
        "builtin": "builtin = 'organizationAdmin' WHERE kind = 'role'",
        "role_id": "builtin = NULL, role_id = (SELECT id FROM roles LIMIT 1) WHERE kind = 'role'",
        "expires_at": "expires_at = expires_at + interval '1 year'", "version": "version = 2",
        "created_by": "created_by = gen_random_uuid()", "mac_key": "mac_key = 'k2'", "mac": "mac = ''",
    ]
    /// `user_id` is of a subject's link, which has a test of its own.
    static let otherOfLinks: Set = ["user_id", "created_at", "updated_at"]

    @Test("an edit of any column of a provider by the database's owner makes it believe nothing")
    func alteredProvider() async throws {
        try await Believing.with { b in
            let owner = b.database.owner
            #expect(
                try await owner.columns(of: "oidc_providers")
                    == Self.silentOfProviders.union(Self.providers.keys))
            #expect(try await b.code(b.token()) == nil)
            try await owner.pipeline(
                scope: .platform,
                [
                    "CREATE TABLE kept AS SELECT * FROM oidc_providers",
                    "CREATE TABLE kept_links AS SELECT * FROM oidc_links",
                ])
            for (column, edit) in Self.providers {
                try await owner.execute("UPDATE oidc_providers SET \(fragment: edit)", scope: .platform)
                b.clock.advance(.seconds(6))
                try await b.expect("unknownIssuer", column)
                try await owner.pipeline(
                    scope: .platform,
                    [
                        "DELETE FROM oidc_links", "DELETE FROM oidc_providers",
                        "INSERT INTO oidc_providers SELECT * FROM kept",
                        "INSERT INTO oidc_links SELECT * FROM kept_links",
                    ])
                b.clock.advance(.seconds(6))
                try await b.expect(nil, "before \(column)")
            }
        }
    }

    @Test("an edit of any column of a link by the database's owner makes it stand for nothing")
    func alteredLink() async throws {
        try await Believing.with { b in
            let owner = b.database.owner
            #expect(
                try await owner.columns(of: "oidc_links") == Self.otherOfLinks.union(Self.links.keys))
            _ = try await b.database.tenants.createOrganization(
                partner: b.partner, name: "other", level: .platform)
            // The same in all but its name: it would believe the same token, had it the links.
            var terms = Believing.terms
            terms.name = "second"
            _ = try await b.maker.createProvider(
                home: .partner(b.partner), issuer: b.server.url, preset: .clerk, keySource: .discovery,
                terms: terms, by: b.admin)
            _ = try await RoleMaker(b.authenticator).createRole(
                name: "made", permissions: [.jobsRead], home: .partner(b.partner), by: b.admin)
            let user = try await b.person("ann@example.com")
            try await owner.execute("CREATE TABLE kept AS SELECT * FROM oidc_links", scope: .platform)
            for (column, edit) in Self.links {
                try await owner.execute("UPDATE oidc_links SET \(fragment: edit)", scope: .platform)
                b.clock.advance(.seconds(6))
                try await b.expect("nothingLinked", column)
                try await owner.pipeline(
                    scope: .platform,
                    ["DELETE FROM oidc_links", "INSERT INTO oidc_links SELECT * FROM kept"])
                b.clock.advance(.seconds(6))
                try await b.expect(nil, "before \(column)")
            }
            // A subject's link that was altered is not passed over for what its organization would give.
            try await b.link("user_1", .user(user.id))
            let other = try await b.person("bob@example.com")
            for edit: SQL in ["version = 9", "user_id = \(other.id)"] {
                try await owner.execute(
                    "UPDATE oidc_links SET \(fragment: edit) WHERE kind = 'subject'", scope: .platform)
                b.clock.advance(.seconds(6))
                #expect(try await b.code(b.token()) == "noPerson", "\(edit)")
                try await owner.execute(
                    "UPDATE oidc_links SET version = 1, user_id = \(user.id) WHERE kind = 'subject'",
                    scope: .platform)
            }
        }
    }
}
