import Domain
import Testing

@testable import Trust

/// What a token has to look like before anybody asks what it says.
@Suite("JWT: form, header and choice of key")
struct JWTFormTests {
    typealias Forge = TokenForge

    @Test(
        "a token of each algorithm is believed, and says what it says",
        arguments: ["RS256", "ES256", "EdDSA"])
    func good(name: String) async throws {
        let forge = try await Forge.shared.value
        let algorithm = try #require(JSONWebKey.Algorithm(rawValue: name))
        let token = try await forge.token(algorithm, claims: Forge.claims(["jti": #""t1""#]))
        let claims = try JSONWebToken.verify(token, keys: forge.keys(), rules: Forge.rules(), at: Forge.now)
        #expect(claims.subject == "user_1" && claims.issuer == Forge.issuer && claims.audiences == ["api"])
        #expect(claims.expiresAt == Forge.now + .seconds(60) && claims.tokenID == "t1")
        let hint = try JSONWebToken.unverifiedHint(of: token)
        #expect(hint.issuer == Forge.issuer && hint.keyID == name && hint.audiences == ["api"])
    }

    @Test("the key says the algorithm: no other name is taken, not even with the right signature")
    func algorithms() async throws {
        let forge = try await Forge.shared.value
        let keys = try forge.keys()
        let others = [
            "none", "None", "NONE", "nOnE", "HS256", "HS384", "HS512", "RS384", "RS512", "PS256", "PS384",
            "PS512", "ES384", "ES512", "ES256K", "Ed448", "Ed25519", "rs256", "RS256 ", "",
        ]
        for algorithm in [JSONWebKey.Algorithm.rs256, .es256, .edDSA] {
            for other in others {
                let header = Forge.header(other, kid: algorithm.rawValue)
                let token = try await forge.token(algorithm, header: header)
                #expect(try Forge.refusal(token, keys) == .algorithmRefused, "\(other)")
            }
            for other in [JSONWebKey.Algorithm.rs256, .es256, .edDSA]
            where other.rawValue != algorithm.rawValue {
                // The algorithm of another key, signed by that key and by this one.
                let header = Forge.header(other.rawValue, kid: algorithm.rawValue)
                for signer in [algorithm, other] {
                    let token = try await forge.token(signer, header: header)
                    #expect(try Forge.refusal(token, keys) == .otherAlgorithm, "\(header)")
                }
            }
        }
        for header in [#"{"kid":"EdDSA"}"#, #"{"alg":1,"kid":"EdDSA"}"#, #"{"alg":null,"kid":"EdDSA"}"#] {
            #expect(try Forge.refusal(await forge.token(header: header), keys) == .algorithmRefused)
        }
        let unsigned = Forge.message(Forge.header("none", kid: "EdDSA"), Forge.claims()) + "."
        #expect(try Forge.refusal(unsigned, keys) == .notThreeParts)
    }

    @Test("the public RSA key is no secret of HMAC")
    func confusion() async throws {
        let forge = try await Forge.shared.value
        for (name, wanted) in [("HS256", JWTRefusal.Code.algorithmRefused), ("RS256", .badSignature)] {
            let message = Forge.message(Forge.header(name, kid: "RS256"), Forge.claims())
            let result = try await Tool.run(
                "openssl",
                [
                    "dgst", "-sha256", "-mac", "HMAC", "-macopt",
                    "hexkey:\(Hex.encode(Array(forge.rsa.pem.utf8)))",
                ], input: message)
            let token = Forge.token(message, try Forge.hex(result))
            #expect(try Forge.refusal(token, forge.keys()) == wanted)
        }
    }

    @Test(
        "what would change how it is judged, or brings a key along, is refused whatever it says",
        arguments: [
            #""crit":["exp"]"#, #""crit":[]"#, #""crit":null"#, #""b64":false"#, #""b64":true"#,
            #""zip":"DEF""#, #""enc":"A128GCM""#, #""jwk":{}"#, #""jku":"https://id.example/keys""#,
            #""x5u":"https://id.example/""#, #""x5c":[]"#,
        ])
    func header(member: String) async throws {
        let forge = try await Forge.shared.value
        let token = try await forge.token(header: Forge.header("EdDSA", "," + member))
        #expect(try Forge.refusal(token, forge.keys()) == .forbiddenHeader)
        #expect(throws: JWTRefusal(.forbiddenHeader)) { try JSONWebToken.unverifiedHint(of: token) }
    }

    @Test("a key is named once, by printable characters, and only compared")
    func keyIDs() async throws {
        let forge = try await Forge.shared.value
        let keys = try forge.keys()
        func refusal(_ kid: String) async throws -> JWTRefusal.Code? {
            try Forge.refusal(await forge.token(header: #"{"alg":"EdDSA"\#(kid)}"#), keys)
        }
        #expect(try await refusal("") == .keyIDMissing)
        let long = String(repeating: "k", count: 257)
        for kid in [
            "1", "null", "[]", #"["EdDSA"]"#, #""""#, #""\#(long)""#, #""a b""#, #""a\u0000""#, #""é""#,
        ] {
            #expect(try await refusal(#","kid":\#(kid)"#) == .keyIDRefused, "\(kid)")
        }
        for kid in [
            "../../../../dev/null", "/etc/passwd", "file:///dev/null", "https://evil.example/key",
            "'OR'1'='1",
            "$(id)", "eddsa", String(long.dropLast()),
        ] { #expect(try await refusal(#","kid":"\#(kid)""#) == .unknownKey, "\(kid)") }
        #expect(try await refusal(#","kid":"EdDSA","kid":"RS256""#) == .notJSON)
        let token = try await forge.token()
        // Two keys of one name, and one that cannot be used beside another, say nothing of which is meant.
        let twice = try Forge.set([forge.jwk(.edDSA), forge.jwk(.rs256, "EdDSA")])
        #expect(try Forge.refusal(token, twice) == .ambiguousKey)
        let spoiled = try Forge.set([forge.jwk(.edDSA), #"{"kty":"oct","kid":"EdDSA","k":"AAAA"}"#])
        #expect(try Forge.refusal(token, spoiled) == .ambiguousKey)
        let unusable = try Forge.set([#"{"kty":"oct","kid":"EdDSA","k":"AAAA"}"#])
        #expect(try Forge.refusal(token, unusable) == .unusableKey)
    }

    @Test("there are three parts, none of them empty; an encrypted token is none")
    func parts() async throws {
        let forge = try await Forge.shared.value
        let token = try await forge.token()
        let parts = token.split(separator: ".").map(String.init)
        for text in [
            "", ".", "..", "...", "a", parts[0], parts[0] + "." + parts[1], token + ".", "." + token,
            token + "." + parts[2], "\(parts[0])..\(parts[2])", ".\(parts[1]).\(parts[2])",
            "\(parts[0]).\(parts[1]).", "\(parts[0]).\(parts[1]).\(parts[2]).\(parts[2]).\(parts[2])",
        ] { #expect(try Forge.refusal(text, forge.keys()) == .notThreeParts, "\(text)") }
    }

    @Test("each part has one text: no padding, no other alphabet, no blanks, no bits left over")
    func encoding() async throws {
        let forge = try await Forge.shared.value
        // 64 bytes of a signature leave four bits over in the last character.
        let token = try await forge.token()
        let parts = token.split(separator: ".").map(String.init)
        for index in 0..<3 {
            for edit: (String) -> String in [
                { $0 + "=" }, { $0 + "==" }, { "+" + $0.dropFirst() }, { "/" + $0.dropFirst() },
                { " " + $0 }, { $0 + "\n" }, { $0 + "\r\n" }, { "\t" + $0 }, { $0 + "\0" }, { "é" + $0 },
            ] {
                var edited = parts
                edited[index] = edit(parts[index])
                let text = edited.joined(separator: ".")
                #expect(try Forge.refusal(text, forge.keys()) == .notBase64URL, "\(text.debugDescription)")
            }
        }
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
        let character = try #require(token.last)
        let last = try #require(alphabet.firstIndex(of: character))
        for bits in 1..<16 {
            let text = String(token.dropLast()) + String(alphabet[last ^ bits])
            #expect(try Forge.refusal(text, forge.keys()) == .notBase64URL)
        }
    }

    @Test("16 KiB are read, and not a byte more")
    func size() async throws {
        let forge = try await Forge.shared.value
        func token(_ padding: Int) async throws -> String {
            try await forge.token(
                claims: Forge.claims(["x": "\"\(String(repeating: "x", count: padding))\""]))
        }
        let padding = (JSONWebToken.bytesMax - (try await token(0)).utf8.count) * 3 / 4
        for extra in 0...3 {
            let token = try await token(padding + extra)
            let wanted: JWTRefusal.Code? = token.utf8.count > JSONWebToken.bytesMax ? .tokenTooLong : nil
            #expect(try Forge.refusal(token, forge.keys()) == wanted)
            #expect(abs(token.utf8.count - JSONWebToken.bytesMax) <= 6)
        }
        let garbage = String(repeating: "=", count: JSONWebToken.bytesMax + 1)
        #expect(try Forge.refusal(garbage, forge.keys()) == .tokenTooLong)
    }

    @Test("header and claims are objects of JSON, no member twice, not nested without end")
    func json() async throws {
        let forge = try await Forge.shared.value
        let keys = try forge.keys()
        for header in [
            "[]", "1", "null", #""x""#, "{", #"{"alg":"EdDSA","kid":"EdDSA"}x"#,
            #"{"alg":"none","alg":"EdDSA","kid":"EdDSA"}"#,
            #"{"alg":"EdDSA","\u0061lg":"none","kid":"EdDSA"}"#,
            "\u{FEFF}" + Forge.header("EdDSA"), #"{'alg':'EdDSA','kid':'EdDSA'}"#,
        ] {
            #expect(try Forge.refusal(await forge.token(header: header), keys) == .notJSON, "\(header)")
        }
        let usual = Forge.claims().dropLast()
        func nested(_ depth: Int) -> String {
            usual + #","x":"# + String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
                + "}"
        }
        for claims in [
            "[]", "null", "{", usual + #","sub":"root"}"#, usual + #","\u0073ub":"root"}"#, usual + "}{}",
            nested(17), nested(200), usual + #","x":NaN}"#, usual + #","x":"\ud800"}"#,
        ] { #expect(try Forge.refusal(await forge.token(claims: claims), keys) == .notJSON, "\(claims)") }
        #expect(try Forge.refusal(await forge.token(claims: nested(15)), keys) == nil)
        var bytes = Array(Forge.claims(["x": #""?""#]).utf8)
        let index = try #require(bytes.firstIndex(of: UInt8(ascii: "?")))
        bytes[index] = 0xFF
        let message = Base64URL.encode(Array(Forge.header("EdDSA").utf8)) + "." + Base64URL.encode(bytes)
        let token = Forge.token(message, try await forge.sign(message, .edDSA))
        #expect(try Forge.refusal(token, keys) == .notJSON)
    }

    @Test("the type is what the use asks for")
    func types() async throws {
        let forge = try await Forge.shared.value
        let table: [(type: String, access: Bool, others: Bool)] = [
            ("", false, true), (#","typ":"JWT""#, false, true), (#","typ":"jwt""#, false, true),
            (#","typ":"application/jwt""#, false, true), (#","typ":"at+jwt""#, true, false),
            (#","typ":"AT+JWT""#, true, false), (#","typ":"application/at+jwt""#, true, false),
            (#","typ":"id+jwt""#, false, false), (#","typ":"logout+jwt""#, false, false),
            (#","typ":"dpop+jwt""#, false, false), (#","typ":"secevent+jwt""#, false, false),
            (#","typ":"""#, false, false), (#","typ":1"#, false, false), (#","typ":null"#, false, false),
        ]
        for row in table {
            let token = try await forge.token(header: Forge.header("EdDSA", row.type))
            for use in JWTRules.Use.allCases {
                let isTaken = use == .accessToken ? row.access : row.others
                let found = try Forge.refusal(token, forge.keys(), Forge.rules(use: use))
                #expect(found == (isTaken ? nil : .wrongType), "\(row.type) as \(use)")
            }
        }
    }
}
