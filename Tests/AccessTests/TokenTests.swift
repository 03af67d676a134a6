import Domain
import Ledger
import Postgres
import Synchronization
import TestSupport
import Testing
import Trust

@testable import Access

/// An installation that believes an issuer of its own like Clerk, at home at a partner, with everything
/// linked.
struct Believing {
    let database: TestDatabase
    let clock: ManualClock
    let server: ProviderServer
    let signer: TokenSigner
    let authenticator: Authenticator
    let refusals: Codes
    let partner: PartnerID
    let organization: OrganizationID
    let site: SiteID
    let provider: OIDCProviderRow
    let admin: Principal

    final class Codes: Sendable {
        let list = Mutex<[String]>([])
        var last: String? { list.withLock { $0.last } }
    }

    let signIn: SignIn
    var maker: OIDCMaker { OIDCMaker(signIn) }

    static let terms = OIDCProviderRow.Terms(
        name: "idp", audiences: [], authorizedParties: ["https://app.example"], organizationClaim: "org_id",
        roleClaim: "org_role", emailClaim: "email", linksByEmail: false, use: .sessionToken, leewaySeconds: 5,
        lifetimeSeconds: 3_600, clientID: nil, redirectURLs: [], sealed: nil, isDisabled: false)

    static func with(
        _ terms: OIDCProviderRow.Terms = terms, _ body: (Believing) async throws -> Void
    ) async throws {
        try await TestDatabase.with { database in
            let (server, signer, clock, codes) = (
                try ProviderServer(), TokenSigner("a"), ManualClock(), Codes()
            )
            try server.publish([signer.jwk])
            let keys = OIDCKeys(OIDCKeys.Configuration(trustedIssuers: [server.url]))
            let authenticator = database.authenticator(
                issuers: keys, now: { clock.now },
                onTokenRefusal: { code in codes.list.withLock { $0.append(code) } })
            let partner = try await database.tenants.createPartner(name: "p", level: .platform)
            let organization = try await database.tenants.createOrganization(
                partner: ID(partner.id), name: "o", level: .platform)
            let admin = principal(.partner(ID(partner.id)), BuiltinRole.partnerAdmin.permissions, clock.now)
            let signIn = try TestDatabase.signIn(authenticator)
            let provider = try await OIDCMaker(signIn).createProvider(
                home: .partner(ID(partner.id)), issuer: server.url, preset: .clerk, keySource: .discovery,
                terms: terms, by: admin)
            let believing = Believing(
                database: database, clock: clock, server: server, signer: signer,
                authenticator: authenticator, refusals: codes, partner: ID(partner.id),
                organization: ID(organization.id), site: try await database.makeSite(of: ID(organization.id)),
                provider: provider, admin: admin, signIn: signIn)
            try await believing.link("org_1", .organization(believing.organization))
            try await believing.link("org:member", .role(.builtin("viewer")))
            try await body(believing)
            keys.close()
        }
    }

    static func principal(_ level: Level, _ permissions: Set<Permission>, _ now: Instant) -> Principal {
        let id = PrincipalID.new(at: now)
        return Principal(
            kind: .key, id: id, maker: id,
            reach: Dictionary(uniqueKeysWithValues: permissions.map { ($0, level) }),
            expiresAt: now + .seconds(86_400 * 300), lifetimeOfMade: nil)
    }

    @discardableResult
    func link(_ external: String, _ target: OIDCLinkRow.Target) async throws -> OIDCLinkRow {
        try await maker.createLink(of: provider.id, external: external, target: target, by: admin)
    }

    /// A person with a role on a level.
    func person(
        _ email: String, home: Level? = nil, role: String = "viewer", on level: Level? = nil
    ) async throws -> UserRow {
        let roles = RoleMaker(authenticator)
        let user = try await roles.createUser(
            email: email, name: email, home: home ?? .partner(partner), by: nil)
        _ = try await roles.bind(
            user.id, to: .builtin(role), on: level ?? .organization(organization), by: nil)
        return user
    }

    static let member = ["org_id": #""org_1""#, "org_role": #""org:member""#]

    func token(_ claims: [String: String] = member, by signer: TokenSigner? = nil) -> String {
        (signer ?? self.signer).token(sessionClaims(issuer: server.url, at: clock.now, claims))
    }

    /// Expects that the member's token is refused with a code, or opens something.
    func expect(_ code: String?, _ comment: String) async throws {
        let found = try await self.code(token())
        #expect(found == code, "\(comment)")
    }

    /// The code with which a token is refused; the caller is told the same of all. `nil` if it opens
    /// something.
    func code(_ token: String, _ authenticator: Authenticator? = nil) async throws -> String? {
        do {
            _ = try await (authenticator ?? self.authenticator).principal(of: token)
            return nil
        } catch let error as AccessError {
            #expect(error.code == .unauthorized && error.message == AccessError.unauthorized.message)
            return refusals.last ?? "untold"
        }
    }
}

@Suite("Tokens of other issuers")
struct TokenTests {
    @Test("a session of Clerk has the linked role in the linked organization, in both forms of its claims")
    func member() async throws {
        try await Believing.with { b in
            let compact = ["o": #"{"id":"org_1","rol":"member","slg":"x"}"#, "sts": #""active""#, "v": "2"]
            for claims in [Believing.member, compact] {
                let principal = try await b.authenticator.principal(of: b.token(claims))
                #expect(principal.kind == .user)
                #expect(Set(principal.reach.values) == [.organization(b.organization)])
                #expect(principal.permissions == BuiltinRole.viewer.permissions)
                #expect(principal.expiresAt == Instant(seconds: b.clock.now.seconds + 60))
            }
        }
    }

    @Test(
        "a token without organization, with another, with none of the roles, or still pending opens nothing")
    func nothing() async throws {
        try await Believing.with { b in
            let cases: [([String: String], String)] = [
                ([:], "nothingLinked"), (["org_role": #""org:member""#], "nothingLinked"),
                (["org_id": #""org_1""#], "nothingLinked"), (["org_slug": #""org_1""#], "nothingLinked"),
                (["org_id": #""org_2""#, "org_role": #""org:member""#], "nothingLinked"),
                (["org_id": #""org_1""#, "org_role": #""org:admin""#], "nothingLinked"),
                (["org_id": #"["org_1"]"#, "org_role": #""org:member""#], "nothingLinked"),
                (Believing.member.merging(["o": #"{"id":"org_2","rol":"member"}"#]) { $1 }, "nothingLinked"),
                (Believing.member.merging(["o": #"{"id":"org_1","rol":"admin"}"#]) { $1 }, "nothingLinked"),
                (Believing.member.merging(["o": #"{"id":"org_1"}"#]) { $1 }, "nothingLinked"),
                (Believing.member.merging(["o": "1"]) { $1 }, "nothingLinked"),
                (["o": #"{"rol":"member","slg":"org_1"}"#], "nothingLinked"),
                (Believing.member.merging(["sts": #""pending""#]) { $1 }, "pendingSession"),
            ]
            for (claims, code) in cases {
                let found = try await b.code(b.token(claims))
                #expect(found == code, "\(claims)")
            }
        }
    }

    @Test("a token of another issuer, environment, party, key or time opens nothing")
    func otherTokens() async throws {
        try await Believing.with { b in
            #expect(try await b.code(b.token()) == nil)
            let other = try ProviderServer()
            // Another issuer's keys, and its tokens in the name of this one and in its own.
            try other.publish([TokenSigner("a").jwk])
            #expect(try await b.code(b.token(by: TokenSigner("a"))) == "badSignature")
            #expect(try await b.code(b.token(by: TokenSigner("b"))) == "unknownKey")
            let now = b.clock.now
            func code(_ claims: [String: String]) async throws -> String? {
                try await b.code(b.token(Believing.member.merging(claims) { $1 }))
            }
            #expect(try await code(["iss": "\"\(other.url)\""]) == "unknownIssuer")
            #expect(try await code(["iss": "\"\(b.server.url)/\""]) == "unknownIssuer")
            #expect(try await code(["azp": #""https://staging.example""#]) == "unknownIssuer")
            #expect(try await code(["aud": #""somebody""#]) == "wrongAudience")
            #expect(try await code(["exp": "\(now.seconds - 5)"]) == "expired")
            #expect(try await code(["exp": "\(now.seconds + 90_000)"]) == "lifetimeRefused")
            #expect(try await code(["token_use": #""refresh""#]) == "wrongUse")
            #expect(try await b.code(String(repeating: "a", count: 20_000) + ".b.c") == "tokenTooLong")
            let unbelieving = b.database.authenticator(now: { b.clock.now })
            #expect(try await b.code(b.token(), unbelieving) != nil)
        }
    }

    @Test("the slug names the organization where the provider says so, in both forms of Clerk's claims")
    func slug() async throws {
        var terms = Believing.terms
        terms.organizationClaim = "org_slug"
        try await Believing.with(terms) { b in
            for claims in [
                ["org_slug": #""org_1""#, "org_role": #""org:member""#],
                ["o": #"{"id":"org_9","rol":"member","slg":"org_1"}"#],
            ] {
                let found = try await b.code(b.token(claims))
                #expect(found == nil)
            }
            let byID = try await b.code(b.token(Believing.member))
            #expect(byID == "nothingLinked")
        }
    }

    @Test("who is disabled is not let in by another provider of the issuer above or below")
    func barred() async throws {
        // The second provider is the younger, then the older: the older is asked first.
        for shift in [Duration.seconds(1), .seconds(-1)] {
            try await barred(shift)
        }
    }

    private func barred(_ shift: Duration) async throws {
        try await Believing.with { b in
            let user = try await b.person("ann@example.com")
            try await b.link("user_1", .user(user.id))
            // Another home's provider of the same issuer and party, which the subject has no link to.
            let inside = Believing.principal(
                .organization(b.organization), BuiltinRole.organizationAdmin.permissions, b.clock.now)
            b.clock.advance(shift)
            let second = try await b.maker.createProvider(
                home: .organization(b.organization), issuer: b.server.url, preset: .clerk,
                keySource: .discovery, terms: Believing.terms, by: inside)
            for (name, target) in [
                ("org_1", OIDCLinkRow.Target.organization(b.organization)),
                ("org:member", .role(.builtin("viewer"))),
            ] {
                _ = try await b.maker.createLink(of: second.id, external: name, target: target, by: inside)
            }
            let before = try await b.authenticator.principal(of: b.token())
            #expect((before.id.value == user.id.value) == (shift > .zero))
            let admin = Believing.principal(.platform, Permission.all, b.clock.now)
            _ = try await RoleMaker(b.authenticator).editUser(
                user.id, name: nil, state: .disabled, version: nil, by: admin)
            #expect(try await b.code(b.token()) == "noPerson")
            // Whoever else comes is let in by either.
            let other = b.signer.token(
                sessionClaims(issuer: b.server.url, subject: "user_2", at: b.clock.now, Believing.member))
            #expect(try await b.code(other) == nil)
        }
    }

    @Test("no crowd of namesakes hides the one who is disabled, and an altered one counts as disabled")
    func namesakes() async throws {
        try await Believing.with { b in
            for _ in 0..<(Rights.accountsMax + 2) {
                let organization = try await b.database.tenants.createOrganization(
                    partner: b.partner, name: "\(UniqueID.v7(at: .now()))", level: .platform)
                _ = try await b.person("ann@example.com", home: .organization(ID(organization.id)))
            }
            let claims = Believing.member.merging(["email": #""Ann@example.com""#]) { $1 }
            #expect(try await b.code(b.token(claims)) == nil)
            let user = try await b.person("ann@example.com")
            let admin = Believing.principal(.platform, Permission.all, b.clock.now)
            _ = try await RoleMaker(b.authenticator).editUser(
                user.id, name: nil, state: .disabled, version: nil, by: admin)
            #expect(try await b.code(b.token(claims)) == "noPerson")
        }
        try await Believing.with { b in
            let claims = Believing.member.merging(["email": #""ann@example.com""#]) { $1 }
            let user = try await b.person("ann@example.com")
            #expect(try await b.code(b.token(claims)) == nil)
            try await b.database.owner.execute(
                "UPDATE users SET state = 0 WHERE id = \(user.id)", scope: .platform)
            b.clock.advance(.seconds(6))
            #expect(try await b.code(b.token(claims)) == "noPerson")
        }
    }

    @Test("who has no account here lets nobody in: no key, no binding, no provider and no link")
    func lasting() async throws {
        try await Believing.with { b in
            try await b.link("org:admin", .role(.builtin("organizationAdmin")))
            let claims = ["org_id": #""org_1""#, "org_role": #""org:admin""#]
            let member = try await b.authenticator.principal(of: b.token(claims))
            #expect(
                member.permissions == BuiltinRole.organizationAdmin.permissions.subtracting([.apiKeysWrite]))
            let user = try await b.person("ann@example.com", home: .organization(b.organization))
            for attempt: () async throws -> Void in [
                {
                    _ = try await RoleMaker(b.authenticator).bind(
                        user.id, to: .builtin("technician"), on: .organization(b.organization), by: member)
                },
                {
                    _ = try await b.maker.createProvider(
                        home: .organization(b.organization), issuer: "https://id.example", preset: .clerk,
                        keySource: .discovery, terms: Believing.terms, by: member)
                },
                {
                    _ = try await b.maker.createLink(
                        of: b.provider.id, external: "x", target: .user(user.id), by: member)
                },
            ] { #expect(try await refusal(attempt).code == .forbidden) }
            // The route of keys asks for a permission that no token without an account has.
            #expect(throws: AccessError.self) { try member.require(.apiKeysWrite) }
        }
    }

    @Test("a linked subject is that person, with the person's own rights; a disabled one is nobody")
    func person() async throws {
        try await Believing.with { b in
            let user = try await b.person("ann@example.com", role: "technician")
            try await b.link("user_1", .user(user.id))
            let principal = try await b.authenticator.principal(of: b.token([:]))
            #expect(principal.id.value == user.id.value && principal.maker.value == user.id.value)
            #expect(principal.reach[.jobsRun] == .organization(b.organization))
            let admin = Believing.principal(.platform, Permission.all, b.clock.now)
            _ = try await RoleMaker(b.authenticator).editUser(
                user.id, name: nil, state: .disabled, version: nil, by: admin)
            // Not even what the organization and role of the token would give.
            #expect(try await b.code(b.token()) == "noPerson")
        }
    }

    @Test("a linked person has no more than what lies where the provider is at home")
    func narrowed() async throws {
        try await Believing.with { b in
            let user = try await b.person("ann@example.com")
            try await b.link("user_1", .user(user.id))
            let elsewhere = try await b.database.makeOrganization()
            _ = try await RoleMaker(b.authenticator).bind(
                user.id, to: .builtin("technician"), on: .organization(elsewhere), by: nil)
            let principal = try await b.authenticator.principal(of: b.token([:]))
            #expect(Set(principal.reach.values) == [.organization(b.organization)])
            #expect(principal.reach[.jobsRun] == nil)
        }
    }

    @Test("an address is believed only if it is verified and the provider may say who has it")
    func email() async throws {
        let (address, verified) = (["email": #""Ann@example.com""#], ["email_verified": "true"])
        for mayLink in [false, true] {
            var terms = Believing.terms
            terms.linksByEmail = mayLink
            try await Believing.with(terms) { b in
                let user = try await b.person("ann@example.com", role: "technician")
                #expect(try await b.code(b.token(address)) == "nothingLinked")
                let asText = address.merging(["email_verified": #""true""#]) { $1 }
                #expect(try await b.code(b.token(asText)) == "nothingLinked")
                let token = b.token(address.merging(verified) { $1 })
                guard mayLink else {
                    #expect(try await b.code(token) == "nothingLinked")
                    return
                }
                #expect(try await b.authenticator.principal(of: token).id.value == user.id.value)
                // Nobody of another home, whoever has the same address there.
                let platform = try await b.person(
                    "root@example.com", home: .platform, role: "platformAdmin", on: .platform)
                let other = address.merging(["email": "\"\(platform.email)\"", "email_verified": "true"]) {
                    $1
                }
                #expect(try await b.code(b.token(other)) == "nothingLinked")
                let admin = Believing.principal(.platform, Permission.all, b.clock.now)
                _ = try await RoleMaker(b.authenticator).editUser(
                    user.id, name: nil, state: .disabled, version: nil, by: admin)
                let member = Believing.member.merging(address) { $1 }
                #expect(try await b.code(b.token(member)) == "noPerson")
            }
        }
    }

    @Test("a judged token is believed for five seconds and never beyond its end")
    func cache() async throws {
        try await Believing.with { b in
            let long = b.token()
            #expect(try await b.code(long) == nil)
            try await b.database.owner.execute("DELETE FROM oidc_links", scope: .platform)
            b.clock.advance(.seconds(4))
            #expect(try await b.code(long) == nil)
            b.clock.advance(.seconds(1))
            #expect(try await b.code(long) == "nothingLinked")
        }
        try await Believing.with { b in
            let short = b.token(Believing.member.merging(["exp": "\(b.clock.now.seconds + 2)"]) { $1 })
            let before = try await b.code(short)
            b.clock.advance(.seconds(7))
            let after = try await b.code(short)
            #expect(before == nil && after == "expired")
        }
    }

    @Test("an edit holds at once, and neither an old row nor a deleted one is brought back")
    func edits() async throws {
        try await Believing.with { b in
            let token = b.token()
            #expect(try await b.code(token) == nil)
            try await b.database.owner.execute(
                "CREATE TABLE kept AS SELECT * FROM oidc_providers", scope: .platform)
            _ = try await b.maker.editProvider(b.provider.id, version: 1, by: b.admin) {
                $0.isDisabled = true
            }
            #expect(try await b.code(token) == "unknownIssuer")
            let stale = try await refusal {
                _ = try await b.maker.editProvider(b.provider.id, version: 1, by: b.admin) { $0.name = "x" }
            }
            #expect(stale.code == .preconditionFailed)
            try await b.database.owner.execute(
                """
                UPDATE oidc_providers p
                SET disabled = k.disabled, version = k.version, expires_at = k.expires_at,
                    mac = k.mac FROM kept k
                """, scope: .platform)
            #expect(try await b.code(token) == "unknownIssuer")
            let altered = try await refusal {
                _ = try await b.maker.editProvider(b.provider.id, version: 1, by: b.admin) { $0.name = "x" }
            }
            #expect(altered.code == .alteredRow)
        }
    }

    @Test("rows in use are renewed, and those that are not used for 90 days grant nothing")
    func renewal() async throws {
        try await Believing.with { b in
            b.clock.advance(.seconds(46 * 86_400))
            try await b.expect(nil, "renewal")
            b.clock.advance(.seconds(46 * 86_400))
            try await b.expect(nil, "renewal")
            b.clock.advance(.seconds(91 * 86_400))
            try await b.expect("unknownIssuer", "renewal")
        }
    }

    @Test("nobody links to more than they have, nor lets an issuer say more than they could")
    func limits() async throws {
        try await Believing.with { b in
            let weak = Believing.principal(
                .partner(b.partner),
                BuiltinRole.viewer.permissions.union([.oidcWrite, .usersRead, .rolesRead]),
                b.clock.now)
            func expect(_ code: AccessError.Code, _ body: () async throws -> Void) async throws {
                let found = try await refusal(body).code
                #expect(found == code)
            }
            func link(_ target: OIDCLinkRow.Target, by maker: Principal) async throws {
                _ = try await b.maker.createLink(of: b.provider.id, external: "x", target: target, by: maker)
            }
            let technician = try await b.person("t@example.com", role: "technician")
            let elsewhere = try await b.database.makeOrganization()
            try await expect(.forbidden) { try await link(.role(.builtin("technician")), by: weak) }
            try await expect(.invalid) { try await link(.role(.builtin("partnerAdmin")), by: b.admin) }
            try await expect(.forbidden) { try await link(.user(technician.id), by: weak) }
            try await expect(.notFound) { try await link(.organization(elsewhere), by: b.admin) }
            let root = try await b.person(
                "r@example.com", home: .platform, role: "platformAdmin", on: .platform)
            try await expect(.notFound) { try await link(.user(root.id), by: b.admin) }
            try await b.link("org:tech", .role(.builtin("technician")))
            let two = try await b.database.tenants.createOrganization(
                partner: b.partner, name: "two", level: .platform)
            try await expect(.forbidden) { try await link(.organization(ID(two.id)), by: weak) }
            let edits: [(inout OIDCProviderRow.Terms) -> Void] = [
                { $0.linksByEmail = true }, { $0.authorizedParties.append("https://evil.example") },
                { $0.roleClaim = "sub" },
            ]
            for edit in edits {
                try await expect(.forbidden) {
                    _ = try await b.maker.editProvider(b.provider.id, version: nil, by: weak, edit)
                }
            }
            let renamed = try await b.maker.editProvider(b.provider.id, version: nil, by: weak) {
                $0.name = "y"
            }
            #expect(renamed.version == 2)
            var byAnother = Believing.terms
            (byAnother.name, byAnother.linksByEmail, byAnother.emailClaim) = ("w", true, "contact")
            try await expect(.invalid) {
                _ = try await b.maker.createProvider(
                    home: .partner(b.partner), issuer: "https://id.example", preset: .generic,
                    keySource: .discovery, terms: byAnother, by: b.admin)
            }
            var open = Believing.terms
            (open.name, open.authorizedParties) = ("z", [])
            try await expect(.invalid) {
                _ = try await b.maker.createProvider(
                    home: .partner(b.partner), issuer: "https://id.example", preset: .generic,
                    keySource: .discovery, terms: open, by: b.admin)
            }
            try await expect(.invalid) {
                _ = try await b.maker.createProvider(
                    home: .partner(b.partner), issuer: "https://id.example", preset: .clerk,
                    keySource: .clerkAPI, terms: Believing.terms, by: b.admin)
            }
        }
    }
}
