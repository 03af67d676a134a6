import Testing

@testable import Trust

/// Which keys of an issuer's set are good for anything.
@Suite("JWT: keys and sets of keys")
struct JWTKeyTests {
    typealias Forge = TokenForge

    /// Why a key is not used; `nil` if it is.
    private func reason(_ members: String, kid: String? = #""k""#) throws -> JSONWebKey.Reason? {
        let name = kid.map { #""kid":\#($0),"# } ?? ""
        let set = try Forge.set(["{\(name)\(members)}"])
        #expect(set.keys.count + set.passedOver.count == 1)
        return set.passedOver.first?.reason
    }

    /// An odd number of so many bits.
    private func modulus(bits: Int) -> [UInt8] {
        let count = (bits + 7) / 8
        let top = UInt8(1 << ((bits - 1) % 8))
        return [top] + Array(repeating: 0x5A, count: count - 2) + [0x55]
    }

    @Test("RSA has 2048 to 8192 bits and an odd exponent from 65537 on")
    func rsa() throws {
        for (bits, isGood) in [(512, false), (1_024, false), (2_047, false), (2_048, true), (8_192, true)] {
            #expect(
                try reason(Forge.rsaMembers(modulus(bits: bits))) == (isGood ? nil : .badModulus), "\(bits)")
        }
        #expect(try reason(Forge.rsaMembers(modulus(bits: 8_193))) == .badModulus)
        let good = modulus(bits: 2_048)
        #expect(try reason(Forge.rsaMembers(good.dropLast() + [0x54])) == .badModulus)
        #expect(try reason(Forge.rsaMembers([0] + good)) == .malformed)
        let exponents: [([UInt8], JSONWebKey.Reason?)] = [
            ([1], .badExponent), ([3], .badExponent), ([17], .badExponent), ([0xFF, 0xFF], .badExponent),
            ([1, 0, 0], .badExponent), ([1, 0, 1], nil), ([1, 0, 3], nil), ([0xFF, 0xFF, 0xFF, 0xFF], nil),
            ([1, 0, 0, 0, 1], .badExponent), ([0, 1, 0, 1], .malformed), ([], .badExponent),
        ]
        for (exponent, wanted) in exponents {
            #expect(try reason(Forge.rsaMembers(good, e: exponent)) == wanted, "\(exponent)")
        }
        #expect(try reason(#""kty":"RSA","n":"AQAB""#) == .malformed)
        #expect(try reason(#""kty":"RSA","n":"AQ=B","e":"AQAB""#) == .malformed)
    }

    @Test("a point lies on P-256, and on no other curve")
    func ec() throws {
        let point = P256Key().publicKey.point
        #expect(try reason(Forge.ecMembers(point)) == nil)
        for index in [1, 32, 33, 64] {
            var off = point
            off[index] ^= 1
            #expect(try reason(Forge.ecMembers(off)) == .badPoint)
        }
        #expect(try reason(Forge.ecMembers([4] + Array(repeating: 0, count: 64))) == .badPoint)
        #expect(try reason(Forge.ecMembers(point + [0])) == .badPoint)
        #expect(try reason(Forge.ecMembers(Array(point.dropLast()))) == .badPoint)
        for curve in ["P-384", "P-521", "secp256k1", "p-256", "prime256v1"] {
            #expect(try reason(Forge.ecMembers(point, curve: curve)) == .unknownKind)
        }
    }

    @Test("an Ed25519 key has 32 bytes and is not of small order; no other curve is taken")
    func okp() throws {
        let bytes = SigningKey().publicKey.bytes
        #expect(try reason(Forge.okpMembers(bytes)) == nil)
        for curve in ["Ed448", "X25519", "X448", "ed25519"] {
            #expect(try reason(Forge.okpMembers(bytes, curve: curve)) == .unknownKind)
        }
        var bad = [bytes + [0], Array(bytes.dropLast()), [], Array(repeating: 0xFF, count: 32)]
        bad += [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ].compactMap(Hex.decode)
        #expect(bad.count == 9)
        for bytes in bad { #expect(try reason(Forge.okpMembers(bytes)) == .badPoint, "\(bytes)") }
    }

    @Test("kind, curve, algorithm, use and operations agree")
    func agreement() throws {
        let (rsa, ec, ed) = (
            Forge.rsaMembers(modulus(bits: 2_048)), Forge.ecMembers(P256Key().publicKey.point),
            Forge.okpMembers(SigningKey().publicKey.bytes)
        )
        let names = ["RS256", "ES256", "EdDSA", "Ed25519", "RS384", "PS256", "RSA-OAEP", "ES256K", "none"]
        for (members, own) in [(rsa, ["RS256"]), (ec, ["ES256"]), (ed, ["EdDSA", "Ed25519"])] {
            for name in names {
                let wanted: JSONWebKey.Reason? = own.contains(name) ? nil : .otherAlgorithm
                #expect(try reason(members + #","alg":"\#(name)""#) == wanted, "\(name)")
            }
            #expect(try reason(members + #","alg":1"#) == .otherAlgorithm)
            #expect(try reason(members + #","use":"sig","key_ops":["verify"]"#) == nil)
            for other in [
                #""use":"enc""#, #""use":1"#, #""key_ops":["sign"]"#, #""key_ops":["verify","sign"]"#,
                #""key_ops":[]"#, #""key_ops":"verify""#,
            ] { #expect(try reason(members + "," + other) == .otherPurpose, "\(other)") }
        }
        #expect(try reason(#""kty":"RSA","crv":"P-256""#) == .unknownKind)
        #expect(try reason(ec.replacing(#""kty":"EC""#, with: #""kty":"OKP""#)) == .unknownKind)
        #expect(try reason(#""kty":"XYZ""#) == .unknownKind)
        #expect(try reason(#""kty":1"#) == .malformed && reason(#""n":"AQAB""#) == .malformed)
    }

    @Test("symmetric and private keys are passed over")
    func secrets() throws {
        #expect(try reason(#""kty":"oct","k":"c2VjcmV0""#) == .secret)
        let ec = Forge.ecMembers(P256Key().publicKey.point)
        for member in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            #expect(try reason(ec + #","\#(member)":"AAAA""#) == .secret, "\(member)")
        }
    }

    @Test("a key has a name of 1 to 256 printable characters")
    func names() throws {
        let ed = Forge.okpMembers(SigningKey().publicKey.bytes)
        #expect(try reason(ed, kid: nil) == .badID)
        let long = String(repeating: "k", count: 256)
        for (kid, isGood) in [
            ("\"\(long)\"", true), ("\"\(long)k\"", false), (#""""#, false), ("1", false), (#""a b""#, false),
            (#""a\n""#, false), (#""é""#, false),
        ] { #expect(try reason(ed, kid: kid) == (isGood ? nil : .badID), "\(kid)") }
    }

    @Test("a set is an object with at most a hundred keys in 256 KiB; one bad key spoils no other")
    func sets() throws {
        let key = "{\(Forge.okpMembers(SigningKey().publicKey.bytes)),\"kid\":\"a\"}"
        func code(_ text: String) -> TrustError.Code? {
            do {
                _ = try JSONWebKeySet(document: Array(text.utf8), issuer: Forge.issuer)
                return nil
            } catch { return error.code }
        }
        for text in [
            "", "[]", "{}", #"{"keys":{}}"#, #"{"keys":[],"keys":[]}"#, "<html>", #"{"keys":[]}x"#,
            String(repeating: "[", count: 100_000),
        ] { #expect(code(text) == .malformed, "\(text.prefix(40))") }
        #expect(code(#"{"keys":[]}"#) == nil)
        let hundred = Array(repeating: "{}", count: 100)
        #expect(code(#"{"keys":[\#(hundred.joined(separator: ","))]}"#) == nil)
        #expect(code(#"{"keys":[\#((hundred + ["{}"]).joined(separator: ","))]}"#) == .limit)
        let text = #"{"keys":[]}"#
        #expect(code(text + String(repeating: " ", count: JSONWebKeySet.bytesMax - text.utf8.count)) == nil)
        #expect(code(text + String(repeating: " ", count: JSONWebKeySet.bytesMax)) == .limit)
        let set = try Forge.set(["1", #"{"kty":"oct","kid":"s"}"#, key, #"{"kty":"RSA","kid":"r"}"#])
        #expect(set.keys.map(\.id) == ["a"])
        #expect(set.passedOver.map(\.reason) == [.malformed, .secret, .malformed])
        #expect(set.names("a") && set.names("s") && !set.names("b"))
    }

    @Test("keys are good for their issuer's tokens alone")
    func issuers() async throws {
        let forge = try await Forge.shared.value
        let token = try await forge.token()
        for other in ["https://id.example/", "https://other.example", "https://ID.example", ""] {
            let keys = try Forge.set([forge.jwk(.edDSA)], issuer: other)
            #expect(try Forge.refusal(token, keys) == .keysOfAnotherIssuer)
        }
    }

    @Test("a discovery document names its issuer and where its keys are")
    func discovery() throws {
        let document = try IssuerDocument(
            document: Array(#"{"issuer":"https://a","jwks_uri":"https://a/keys","x":[1]}"#.utf8))
        #expect(document.issuer == "https://a" && document.keysURL == "https://a/keys")
        let long = String(repeating: "x", count: 1_025)
        for text in [
            "", "[]", #"{"issuer":"https://a"}"#, #"{"jwks_uri":"https://a"}"#,
            #"{"issuer":1,"jwks_uri":"https://a"}"#, #"{"issuer":"a","jwks_uri":""}"#,
            #"{"issuer":"a","issuer":"b","jwks_uri":"c"}"#, #"{"issuer":"a","jwks_uri":"\#(long)"}"#,
        ] {
            let refused = #expect(throws: TrustError.self) { try IssuerDocument(document: Array(text.utf8)) }
            #expect(refused?.code == .malformed, "\(text.prefix(60))")
        }
    }
}
