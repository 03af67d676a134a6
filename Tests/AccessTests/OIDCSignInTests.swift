import Domain
import Foundation
import Ledger
import Postgres
import TestSupport
import Testing
import Trust

@testable import Access

@Suite("Signing in at an issuer's own pages")
struct OIDCSignInTests {
    static let redirect = "https://app.example/back?from=id"
    private static let origin = SignIn.Origin(agent: "test", address: "192.0.2.1", isCommandLine: true)

    /// What the issuer's page was asked for.
    private struct Asked {
        let items: [String: String]

        init(_ url: String) throws {
            let components = try #require(URLComponents(string: url))
            items = Dictionary((components.queryItems ?? []).map { ($0.name, $0.value ?? "") }) { $1 }
            #expect(items.count == components.queryItems?.count)
        }
    }

    private static let clientTerms: OIDCProviderRow.Terms = {
        var terms = Believing.terms
        (terms.clientID, terms.redirectURLs) = ("client 1", [redirect, "http://127.0.0.1:8765/"])
        return terms
    }()

    private func with(
        secret: String? = nil, namesItself: Bool = false,
        _ body: (Believing, OIDCSignIn, UserRow) async throws -> Void
    ) async throws {
        try await Believing.with(Self.clientTerms) { b in
            try b.server.publish([b.signer.jwk], namesItself: namesItself)
            let user = try await b.person("ann@example.com", role: "technician")
            try await b.link("user_1", .user(user.id))
            if let secret {
                _ = try await b.maker.editProvider(
                    b.provider.id, clientSecret: secret, version: nil, by: b.admin
                ) { _ in }
            }
            try await body(b, OIDCSignIn(b.signIn), user)
        }
    }

    /// An ID token of the issuer with these claims changed.
    private func idToken(_ b: Believing, _ asked: Asked, _ changes: [String: String] = [:]) -> String {
        let now = b.clock.now.seconds
        let claims = [
            "iss": "\"\(b.server.url)\"", "sub": #""user_1""#, "aud": #""client 1""#, "iat": "\(now)",
            "exp": "\(now + 60)", "nonce": "\"\(asked.items["nonce"] ?? "")\"",
        ]
        return b.signer.token(claims.merging(changes) { $1 }.filter { !$0.value.isEmpty })
    }

    private func grant(
        _ b: Believing, _ asked: Asked, code: String = "code/1+", authorization: String = "",
        _ changes: [String: String] = [:]
    ) throws {
        try b.server.grant(
            code: code, challenge: asked.items["code_challenge"] ?? "", redirectURL: Self.redirect,
            clientID: "client 1", authorization: authorization, idToken: idToken(b, asked, changes))
    }

    private func finish(
        _ signIn: OIDCSignIn, _ begun: OIDCSignIn.Begun, code: String = "code/1+", state: String? = nil,
        issuer: String? = nil, secondFactor: String? = nil
    ) async throws -> (row: SessionRow, secret: String) {
        try await signIn.finish(
            begun.flow, code: code, state: state ?? Asked(begun.authorizationURL).items["state"] ?? "",
            issuer: issuer, secondFactor: secondFactor, Self.origin)
    }

    @Test("a person who signed in there has an ordinary session here", arguments: [nil, "s3cret %&+"])
    func session(secret: String?) async throws {
        try await with(secret: secret) { b, signIn, user in
            let begun = try await signIn.begin(b.provider.id, redirectURL: Self.redirect)
            #expect(begun.authorizationURL.hasPrefix("\(b.server.url)/authorize?"))
            let asked = try Asked(begun.authorizationURL)
            #expect(asked.items["response_type"] == "code" && asked.items["client_id"] == "client 1")
            #expect(asked.items["redirect_uri"] == Self.redirect && asked.items["scope"] == "openid email")
            #expect(asked.items["code_challenge_method"] == "S256")
            for name in ["state", "nonce", "code_challenge"] { #expect(asked.items[name]?.utf8.count == 43) }
            // Neither the proof nor the nonce can be read from what the page keeps.
            #expect(!begun.flow.contains(asked.items["nonce"] ?? "?"))
            let basic = secret == nil ? "" : "Basic Y2xpZW50JTIwMTpzM2NyZXQlMjAlMjUlMjYlMkI="
            try grant(b, asked, authorization: basic)
            let (row, text) = try await finish(signIn, begun)
            #expect(row.user == user.id && row.steppedUpAt == nil)
            let principal = try await b.authenticator.principal(of: text)
            #expect(principal.session == row.id && principal.reach[.jobsRun] == .organization(b.organization))
            // A code is good once, and so the same answer does not come twice.
            let again = try await refusal { _ = try await finish(signIn, begun) }
            #expect(again.code == .unauthorized && b.refusals.last == "codeRefused")
        }
    }

    @Test("each begins with a state, a nonce and a proof of its own")
    func fresh() async throws {
        try await with { b, signIn, _ in
            var seen: Set<String> = []
            for _ in 0..<3 {
                let begun = try await signIn.begin(b.provider.id, redirectURL: Self.redirect)
                let asked = try Asked(begun.authorizationURL)
                for name in ["state", "nonce", "code_challenge"] { seen.insert(asked.items[name] ?? "") }
                seen.insert(begun.flow)
            }
            #expect(seen.count == 12)
        }
    }

    @Test("people are sent back to an address that the provider names, exactly")
    func redirects() async throws {
        try await with { b, signIn, _ in
            for url in [
                "https://app.example/back", "https://app.example/back?from=id&x", Self.redirect + "/",
                "https://APP.example/back?from=id", "https://evil.example/", "http://127.0.0.1:8766/", "",
            ] {
                let refused = try await refusal {
                    _ = try await signIn.begin(b.provider.id, redirectURL: url)
                }
                #expect(refused.code == .invalid && refused.field == "redirectUrl", "\(url)")
            }
            for url in [
                "http://app.example/", "ftp://app.example/", "https://app.example/#x",
                "https://a@app.example/",
                "http://127.0.0.1.evil.example/", "http://localhost.evil.example/", "https://app.example/ x",
                "javascript:alert(1)", "/back",
            ] {
                let refused = try await refusal {
                    _ = try await b.maker.editProvider(b.provider.id, version: nil, by: b.admin) {
                        $0.redirectURLs = [url]
                    }
                }
                #expect(refused.code == .invalid && refused.field == "redirectUrls[0]", "\(url)")
            }
            let unknown = try await refusal { _ = try await signIn.begin(.new(at: .now()), redirectURL: "x") }
            #expect(unknown.code == .notFound)
            _ = try await b.maker.editProvider(b.provider.id, version: nil, by: b.admin) {
                $0.isDisabled = true
            }
            let disabled = try await refusal {
                _ = try await signIn.begin(b.provider.id, redirectURL: Self.redirect)
            }
            #expect(disabled.code == .notFound)
        }
    }

    @Test("state, flow, issuer and proof are those of the beginning")
    func mixUp() async throws {
        try await with(namesItself: true) { b, signIn, _ in
            let begun = try await signIn.begin(b.provider.id, redirectURL: Self.redirect)
            let other = try await signIn.begin(b.provider.id, redirectURL: Self.redirect)
            let asked = try Asked(begun.authorizationURL)
            let (issuer, state) = (b.server.url, asked.items["state"] ?? "")
            try grant(b, asked)
            func field(_ body: () async throws -> Void) async throws -> String? {
                let refused = try await refusal(body)
                #expect(refused.code == .invalid)
                return refused.field
            }
            // Somebody else's state, or a state in another's browser.
            #expect(
                try await field { _ = try await finish(signIn, begun, state: "x", issuer: issuer) } == "state"
            )
            #expect(
                try await field { _ = try await finish(signIn, other, state: state, issuer: issuer) }
                    == "state")
            // An issuer that names itself and does not, or names another.
            for said in [nil, "https://evil.example", issuer + "/"] {
                #expect(try await field { _ = try await finish(signIn, begun, issuer: said) } == "issuer")
            }
            for flow in ["", "x", String(begun.flow.dropLast(4)), begun.flow + "AAAA"] {
                let found = try await field {
                    _ = try await signIn.finish(
                        flow, code: "code/1+", state: state, issuer: issuer, secondFactor: nil, Self.origin)
                }
                #expect(found == "flow")
            }
            #expect(try b.server.requests("/token").count == 0)
            // The code of one sign-in does not end another: the proof is not its own.
            let stolen = try await refusal { _ = try await finish(signIn, other, issuer: issuer) }
            #expect(stolen.code == .unauthorized && b.refusals.last == "codeRefused")
        }
    }

    @Test("a flow ends after ten minutes, and with an edit of its provider")
    func endings() async throws {
        try await with { b, signIn, _ in
            let begun = try await signIn.begin(b.provider.id, redirectURL: Self.redirect)
            b.clock.advance(.seconds(599))
            try grant(b, Asked(begun.authorizationURL))
            _ = try await finish(signIn, begun)
            b.clock.advance(.seconds(1))
            #expect(try await refusal { _ = try await finish(signIn, begun) }.field == "flow")
            let second = try await signIn.begin(b.provider.id, redirectURL: Self.redirect)
            _ = try await b.maker.editProvider(b.provider.id, version: nil, by: b.admin) { $0.name = "other" }
            #expect(try await refusal { _ = try await finish(signIn, second) }.field == "flow")
        }
    }

    @Test("an ID token is this client's, of now, for this sign-in, and of somebody here")
    func tokens() async throws {
        try await with { b, signIn, _ in
            let now = b.clock.now.seconds
            let cases: [([String: String], String)] = [
                (["nonce": ""], "wrongNonce"), (["nonce": #""x""#], "wrongNonce"),
                (["nonce": "1"], "wrongNonce"),
                (["aud": #""other""#], "wrongAudience"), (["aud": ""], "wrongAudience"),
                (["aud": #"["client 1","other"]"#], "wrongAuthorizedParty"),
                (["azp": #""other""#], "wrongAuthorizedParty"),
                (["iss": #""https://evil.example""#], "wrongIssuer"),
                (["exp": "\(now - 60)"], "expired"), (["iat": ""], "issueTimeMissing"),
                (["token_use": #""access""#], "wrongUse"), (["typ": #""Refresh""#], "wrongUse"),
                (["sub": #""user_2""#], "nothingLinked"),
            ]
            for (changes, code) in cases {
                let begun = try await signIn.begin(b.provider.id, redirectURL: Self.redirect)
                try grant(b, Asked(begun.authorizationURL), changes)
                let refused = try await refusal { _ = try await finish(signIn, begun) }
                #expect(refused.code == .unauthorized && b.refusals.last == code, "\(changes)")
            }
            let several = ["aud": #"["client 1","other"]"#, "azp": #""client 1""#]
            let begun = try await signIn.begin(b.provider.id, redirectURL: Self.redirect)
            try grant(b, Asked(begun.authorizationURL), several)
            _ = try await finish(signIn, begun)
        }
    }

    @Test("who is disabled, has no account, or may do more than the provider may say gets no session")
    func people() async throws {
        try await with { b, signIn, user in
            func attempt(_ changes: [String: String] = [:]) async throws -> AccessError {
                let begun = try await signIn.begin(b.provider.id, redirectURL: Self.redirect)
                try grant(b, Asked(begun.authorizationURL), changes)
                return try await refusal { _ = try await finish(signIn, begun) }
            }
            let member = Believing.member.merging(["sub": #""user_2""#]) { $1 }
            #expect(try await attempt(member).code == .forbidden)
            let elsewhere = try await b.database.makeOrganization()
            let more = try await RoleMaker(b.authenticator).bind(
                user.id, to: .builtin("viewer"), on: .organization(elsewhere), by: nil)
            #expect(try await attempt().code == .forbidden)
            let admin = Believing.principal(.platform, Permission.all, b.clock.now)
            try await RoleMaker(b.authenticator).unbind(more.id, by: admin)
            _ = try await RoleMaker(b.authenticator).editUser(
                user.id, name: nil, state: .disabled, version: nil, by: admin)
            #expect(try await attempt().code == .unauthorized && b.refusals.last == "noPerson")
            let count = try await b.database.owner.query(
                "SELECT count(*) FROM sessions", scope: .platform
            ) { try $0.decode(Int.self) }[0]
            #expect(count == 0)
        }
    }

    @Test("a second factor here is asked for, although the issuer may have asked for its own")
    func secondFactor() async throws {
        try await with { b, signIn, user in
            let admin = Believing.principal(.platform, Permission.all, b.clock.now)
            let link = try await b.signIn.resetPassword(of: user.id, by: admin)
            _ = try await b.signIn.acceptLink(link.secret, password: "correct horse battery")
            let (secret, _) = try await b.signIn.beginTOTP(of: user.id)
            let totp = try TOTP(secret: SecretBytes(try #require(Base32.decode(secret))))
            _ = try await b.signIn.confirmTOTP(of: user.id, code: totp.code(at: b.clock.now))
            b.clock.advance(.seconds(60))
            func attempt(_ code: String?) async throws -> (row: SessionRow, secret: String) {
                let begun = try await signIn.begin(b.provider.id, redirectURL: Self.redirect)
                try grant(b, Asked(begun.authorizationURL))
                return try await finish(signIn, begun, secondFactor: code)
            }
            #expect(try await refusal { _ = try await attempt(nil) }.code == .secondFactorRequired)
            #expect(try await refusal { _ = try await attempt("000000") }.code == .unauthorized)
            let (row, _) = try await attempt(totp.code(at: b.clock.now))
            #expect(row.steppedUpAt == b.clock.now)
        }
    }

    @Test("the client's secret is kept sealed, bound to its row, and taken away by an empty one")
    func secrets() async throws {
        try await with(secret: "very-secret") { b, _, _ in
            func row() async throws -> OIDCProviderRow {
                try #require(try await b.database.ledger.oidcProvider(b.provider.id, scope: .platform))
            }
            let sealed = try #require(try await row().terms.sealed)
            #expect(!Hex.encode(sealed).contains(Hex.encode(Array("very-secret".utf8))))
            let shown = try await b.database.owner.query(
                """
                SELECT coalesce(string_agg(coalesce(before, '') || coalesce(after, ''), ''), '')
                FROM audit_entries
                """, scope: .platform
            ) { try $0.decode(String.self) }[0]
            #expect(shown.contains("client 1") && !shown.contains("sealed"))
            let weak = Believing.principal(
                .partner(b.partner), BuiltinRole.viewer.permissions.union([.oidcWrite]), b.clock.now)
            let refused = try await refusal {
                _ = try await b.maker.editProvider(
                    b.provider.id, clientSecret: "mine", version: nil, by: weak
                ) { _ in }
            }
            #expect(refused.code == .forbidden)
            _ = try await b.maker.editProvider(b.provider.id, clientSecret: "", version: nil, by: b.admin) {
                _ in
            }
            #expect(try await row().terms.sealed == nil)
        }
    }
}
