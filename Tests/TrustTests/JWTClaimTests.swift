import Domain
import Testing
import Wire

@testable import Trust

/// What a token whose signature holds has to say.
@Suite("JWT: claims")
struct JWTClaimTests {
    typealias Forge = TokenForge

    /// Why the usual claims with these changed are refused; an empty text takes one away.
    private func refusal(
        _ changes: [String: String], _ rules: JWTRules? = nil, at now: Instant = Forge.now
    ) async throws -> JWTRefusal.Code? {
        let forge = try await Forge.shared.value
        let isAccess = rules?.use == .accessToken
        let header = Forge.header("EdDSA", isAccess ? #","typ":"at+jwt""# : "")
        let token = try await forge.token(header: header, claims: Forge.claims(changes))
        return try Forge.refusal(token, forge.keys(), rules, at: now)
    }

    @Test("the issuer is the one of the rules, byte for byte")
    func issuer() async throws {
        for text in [
            "", #""https://id.example/""#, #""https://ID.example""#, #""http://id.example""#, #""""#, "1",
            "null",
            #"["https://id.example"]"#, #""https://id.example ""#, #""https://id.examp\u006ce.evil""#,
        ] { #expect(try await refusal(["iss": text]) == .wrongIssuer, "\(text)") }
        #expect(try await refusal(["iss": #""https://id.examp\u006ce""#]) == nil)
        // Two texts that Swift calls equal are two issuers.
        let (composed, decomposed) = ("https://id.example/\u{E9}", "https://id.example/e\u{301}")
        #expect(composed == decomposed)
        let forge = try await Forge.shared.value
        let rules = try JWTRules(issuer: composed, audiences: ["api"], use: .sessionToken)
        for (said, wanted) in [(composed, JWTRefusal.Code?.none), (decomposed, .wrongIssuer)] {
            let token = try await forge.token(claims: Forge.claims(["iss": "\"\(said)\""]))
            let keys = try Forge.set([forge.jwk(.edDSA)], issuer: composed)
            #expect(try Forge.refusal(token, keys, rules) == wanted)
            let others = try Forge.set([forge.jwk(.edDSA)], issuer: decomposed)
            #expect(try Forge.refusal(token, others, rules) == .keysOfAnotherIssuer)
        }
    }

    @Test("the audience is named, alone or among others; where none is asked for, none is named")
    func audience() async throws {
        let table: [(String, isOurs: Bool)] = [
            (#""api""#, true), (#"["api"]"#, true), (#"["other","api"]"#, true), ("", false),
            (#""other""#, false),
            (#""API""#, false), (#""api ""#, false), (#""api,other""#, false), ("[]", false), ("null", false),
            (#"["other"]"#, false), (#"["api",1]"#, false), (#"[["api"]]"#, false), ("1", false),
            (#"{"api":1}"#, false), (#""""#, false), (#"[""]"#, false),
        ]
        for (text, isOurs) in table {
            #expect(try await refusal(["aud": text]) == (isOurs ? nil : .wrongAudience), "\(text)")
        }
        // The other environment of the same issuer.
        let staging = try Forge.rules(audiences: ["staging"])
        #expect(try await refusal([:], staging) == .wrongAudience)
        let party = try Forge.rules(audiences: [], parties: ["app"])
        #expect(try await refusal(["azp": #""app""#], party) == .wrongAudience)
        #expect(try await refusal(["azp": #""app""#, "aud": ""], party) == nil)
        #expect(try await refusal(["azp": #""app""#, "aud": "[]"], party) == nil)
    }

    @Test("the authorized party is one of those that are asked for")
    func party() async throws {
        let rules = try Forge.rules(parties: ["https://app.example", "https://two.example"])
        for (text, isOurs) in [
            (#""https://app.example""#, true), (#""https://two.example""#, true), ("", false), ("1", false),
            (#""https://app.example/""#, false), (#""https://evil.example""#, false), ("null", false),
            (#"["https://app.example"]"#, false),
        ] {
            #expect(
                try await refusal(["azp": text], rules) == (isOurs ? nil : .wrongAuthorizedParty), "\(text)")
        }
        #expect(try await refusal(["azp": #""whoever""#]) == nil)
        #expect(try await refusal(["azp": "1"]) == .wrongAuthorizedParty)
    }

    @Test("a token is used for what it was issued for: no ID token, no refresh token opens anything")
    func uses() async throws {
        let access = try Forge.rules(use: .accessToken)
        let identity = try Forge.rules(use: .idToken)
        let table: [([String: String], bearer: Bool, identity: Bool)] = [
            (["nonce": #""n""#], false, true), (["at_hash": #""h""#], false, true),
            (["c_hash": #""h""#], false, true), (["s_hash": #""h""#], false, true),
            (["token_use": #""id""#], false, true), (["token_use": #""access""#], true, false),
            (["token_use": #""refresh""#], false, false), (["typ": #""Bearer""#], true, false),
            (["typ": #""ID""#], false, true), (["typ": #""Refresh""#], false, false),
            (["typ": #""Offline""#], false, false), (["typ": #""Logout""#], false, false),
            (["typ": "1"], false, false), (["token_type": #""access_token""#], true, false),
            (["token_type": "null"], false, false), ([:], true, true),
        ]
        for row in table {
            for (rules, isTaken) in [(nil, row.bearer), (access, row.bearer), (identity, row.identity)] {
                let found = try await refusal(row.0, rules)
                #expect(
                    found == (isTaken ? nil : .wrongUse), "\(row.0) as \(rules?.use.rawValue ?? "session")")
            }
        }
        #expect(try await refusal(["iat": ""], identity) == .issueTimeMissing)
    }

    @Test("times are numbers, and their edges are where the leeway ends")
    func times() async throws {
        let now = Forge.now.seconds
        for text in [
            "", "null", #""1900000060""#, "true", "[]", "-1", "253402300800", "1e400", "1e300", "-0.5",
        ] {
            let wanted: JWTRefusal.Code = text.isEmpty ? .expiryMissing : .badTime
            let found = try await refusal(["exp": text])
            #expect(found == wanted || (text == "1e400" && found == .notJSON), "\(text)")
        }
        for name in ["nbf", "iat"] {
            for text in ["null", #""1""#, "true", "-1", "9223372036854775808", "1e300"] {
                #expect(try await refusal([name: text]) == .badTime, "\(name) \(text)")
            }
        }
        // exp = now + 60, leeway 30: dead from now + 90 on.
        let edge = Forge.now + .seconds(90)
        #expect(try await refusal([:], at: Instant(microseconds: edge.microseconds - 1)) == nil)
        #expect(try await refusal([:], at: edge) == .expired)
        #expect(try await refusal(["exp": "\(now - 30)", "iat": "\(now - 90)"]) == .expired)
        #expect(try await refusal(["exp": "\(now - 29)", "iat": "\(now - 90)"]) == nil)
        #expect(try await refusal(["exp": "\(now - 29).5", "iat": "\(now - 90)"]) == nil)
        #expect(try await refusal(["exp": "0", "iat": "0"]) == .expired)
        for (name, code) in [("nbf", JWTRefusal.Code.notYetValid), ("iat", .issuedInFuture)] {
            #expect(try await refusal([name: "\(now + 30)"]) == nil)
            #expect(try await refusal([name: "\(now + 30).5"]) == code)
            #expect(try await refusal([name: "\(now + 31)"]) == code)
        }
        // The longest lifetime is 3,600 seconds from the issue on, from the beginning where that is not said.
        #expect(try await refusal(["exp": "\(now + 3_600)"]) == nil)
        #expect(try await refusal(["exp": "\(now + 3_601)"]) == .lifetimeRefused)
        #expect(try await refusal(["exp": "\(now + 3_600)", "iat": "\(now - 1)"]) == .lifetimeRefused)
        #expect(try await refusal(["exp": "\(now + 3_600)", "iat": "", "nbf": "\(now)"]) == nil)
        #expect(try await refusal(["exp": "\(now + 3_601)", "iat": "", "nbf": "\(now)"]) == .lifetimeRefused)
        #expect(try await refusal(["exp": "\(now + 3_601)", "iat": ""]) == .lifetimeRefused)
        #expect(try await refusal(["exp": "253402300799"]) == .lifetimeRefused)
        #expect(try await refusal(["exp": "\(now + 5)", "iat": "\(now + 5)"]) == .lifetimeRefused)
    }

    @Test("subject and token id are texts of 1 to 255 bytes")
    func names() async throws {
        let long = String(repeating: "s", count: 255)
        for (name, code) in [("sub", JWTRefusal.Code.badSubject), ("jti", .badTokenID)] {
            #expect(try await refusal([name: "\"\(long)\""]) == nil)
            for text in [
                "\"\(long)s\"", #""""#, "1", "null", #"["user_1"]"#, #""a\u0000b""#, #""a\nb""#, #""\u007f""#,
            ] {
                #expect(try await refusal([name: text]) == code, "\(name) \(text)")
            }
        }
        #expect(try await refusal(["sub": ""]) == .badSubject)
        #expect(try await refusal(["jti": ""]) == nil)
    }

    @Test("rules that would believe what was issued to anybody are refused, and limits out of range")
    func rules() throws {
        func code(_ audiences: Set<String>, leeway: Int = 30, lifetime: Int = 3_600) -> TrustError.Code? {
            do {
                _ = try JWTRules(
                    issuer: Forge.issuer, audiences: audiences, use: .accessToken, leewaySeconds: leeway,
                    lifetimeSecondsMax: lifetime)
                return nil
            } catch { return error.code }
        }
        #expect(code([]) == .limit && code(["a"]) == nil)
        #expect(code(["a"], leeway: 300) == nil && code(["a"], leeway: 301) == .limit)
        #expect(code(["a"], leeway: 0) == nil && code(["a"], leeway: -1) == .limit)
        #expect(code(["a"], lifetime: 60) == nil && code(["a"], lifetime: 59) == .limit)
        #expect(code(["a"], lifetime: 86_400) == nil && code(["a"], lifetime: 86_401) == .limit)
    }

    @Test("paths lead into claims, a dot of a name stands behind a backslash")
    func paths() async throws {
        let forge = try await Forge.shared.value
        let token = try await forge.token(
            claims: Forge.claims([
                "a": #"{"b":{"c":"deep"},"list":["x",1,"y"],"d.e":"dotted","n":1}"#,
                "https://x.example/role": #""r""#, "yes": "true", "text": #""true""#,
            ]))
        let claims = try JSONWebToken.verify(token, keys: forge.keys(), rules: Forge.rules(), at: Forge.now)
        #expect(try claims.text(at: ClaimPath("a.b.c")) == "deep")
        #expect(try claims.text(at: ClaimPath(#"a.d\.e"#)) == "dotted")
        #expect(try claims.text(at: ClaimPath(#"https://x\.example/role"#)) == "r")
        #expect(try claims.texts(at: ClaimPath("a.list")) == ["x", "y"])
        #expect(try claims.texts(at: ClaimPath("a.b.c")) == ["deep"])
        for path in ["a", "a.n", "a.b.c.d", "b", "a.list", "A.b.c"] {
            #expect(try claims.text(at: ClaimPath(path)) == nil, "\(path)")
        }
        #expect(claims.isTrue("yes") && !claims.isTrue("text") && claims.has("text") && !claims.has("none"))
        let long = String(repeating: "n", count: 129)
        for path in ["", ".", "a.", ".a", "a..b", #"a\"#, #"a\b"#, long, "a.a.a.a.a.a.a.a.a"] {
            #expect(throws: TrustError.self, "\(path)") { try ClaimPath(path) }
        }
    }
}
