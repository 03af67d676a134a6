import Testing

@testable import Trust

/// Which signatures hold: one of the library's many answers means yes.
@Suite("JWT: signatures")
struct JWTSignatureTests {
    typealias Forge = TokenForge

    /// A signature that is wrong, and how.
    private typealias Forgery = (String, [UInt8])

    private func join(_ parts: [UInt8]...) -> [UInt8] { Array(parts.joined()) }

    private func key(_ members: String) throws -> JSONWebKey {
        let set = try Forge.set([#"{"kid":"k",\#(members)}"#])
        return try #require(set.keys.first)
    }

    /// A token's usual header and claims under an algorithm, with signatures that are wrong.
    private func expectRefused(
        _ algorithm: JSONWebKey.Algorithm, _ signatures: [Forgery]
    ) async throws {
        let forge = try await Forge.shared.value
        let message = Forge.message(Forge.header(algorithm.rawValue), Forge.claims())
        #expect(
            try Forge.refusal(Forge.token(message, await forge.sign(message, algorithm)), forge.keys()) == nil
        )
        for (name, signature) in signatures {
            let found = try Forge.refusal(Forge.token(message, signature), forge.keys())
            #expect(found == (signature.isEmpty ? .notThreeParts : .badSignature), "\(name)")
        }
    }

    @Test("the vectors of RFC 6979 (P-256, SHA-256) and RFC 8032 hold")
    func vectors() throws {
        let point = try #require(
            Hex.decode(
                "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
                    + "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"))
        let signature = try #require(
            Hex.decode(
                "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
                    + "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"))
        let ec = try key(Forge.ecMembers(point))
        #expect(ec.isValid(signature, for: Array("sample".utf8)))
        #expect(!ec.isValid(signature, for: Array("Sample".utf8)))
        let edKey = try #require(
            Hex.decode("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"))
        let edSignature = try #require(
            Hex.decode(
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555"
                    + "fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"))
        let ed = try key(Forge.okpMembers(edKey))
        #expect(ed.isValid(edSignature, for: []) && !ed.isValid(edSignature, for: [0]))
    }

    @Test(
        "no bit of a good token can be turned: not of its text, and not of what its parts decode to",
        arguments: ["RS256", "ES256", "EdDSA"])
    func bits(name: String) async throws {
        let forge = try await Forge.shared.value
        let keys = try forge.keys()
        let algorithm = try #require(JSONWebKey.Algorithm(rawValue: name))
        let token = try await forge.token(algorithm)
        #expect(try Forge.refusal(token, keys) == nil)
        var text = Array(token.utf8)
        for index in text.indices {
            for bit in 0..<8 {
                text[index] ^= 1 << bit
                #expect(
                    try Forge.refusal(String(decoding: text, as: UTF8.self), keys) != nil, "\(index).\(bit)")
                text[index] ^= 1 << bit
            }
        }
        let parts = try token.split(separator: ".").map { try #require(Base64URL.decode(String($0))) }
        for (part, bytes) in parts.enumerated() {
            for index in bytes.indices {
                for bit in 0..<8 {
                    var edited = parts
                    edited[part][index] ^= 1 << bit
                    let flipped = edited.map(Base64URL.encode).joined(separator: ".")
                    #expect(try Forge.refusal(flipped, keys) != nil, "\(part): \(index).\(bit)")
                }
            }
        }
    }

    @Test("another key's signature does not hold, whatever name it goes by")
    func otherKeys() async throws {
        let forge = try await Forge.shared.value
        let message = Forge.message(Forge.header("EdDSA"), Forge.claims())
        try await expectRefused(
            .edDSA,
            [
                ("another", SigningKey().sign(Array(message.utf8))),
                ("of other bytes", forge.ed.sign(Array((message + " ").utf8))),
                ("of the claims alone", forge.ed.sign(Array(Forge.claims().utf8))),
            ])
    }

    // MARK: RSA

    /// 00 01 FF… 00 and a DigestInfo: what RSASSA-PKCS1-v1_5 signs (RFC 8017, 9.2).
    private func block(_ info: [UInt8], padding: Int? = nil, after: [UInt8] = []) -> [UInt8] {
        let count = padding ?? 256 - 3 - info.count - after.count
        let head = [0, 1] + [UInt8](repeating: 0xFF, count: count) + [0] + info + after
        return head + [UInt8](repeating: 0xAA, count: 256 - head.count)
    }

    @Test("RS256 is PKCS#1 v1.5 with SHA-256, exactly: no byte behind, no other padding, hash or form")
    func rsaForgeries() async throws {
        let forge = try await Forge.shared.value
        let message = Forge.message(Forge.header("RS256"), Forge.claims())
        let digest = SHA256.hash(Array(message.utf8))
        let oid = try #require(Hex.decode("0609608648016503040201"))
        let right = try #require(
            Hex.decode("3031300d060960864801650304020105000420"))
        let info = right + digest
        let good = try await forge.rawRSA(block(info))
        // The hand-made block is the one that OpenSSL makes: what follows differs from it in one thing each.
        #expect(good == (try await forge.sign(message, .rs256)))
        let pss = ["-sha256", "-sigopt", "rsa_padding_mode:pss"]
        var other = block(info)
        other[1] = 2
        var broken = block(info)
        broken[10] = 0xFE
        let withoutNull = join([0x30, 0x2F, 0x30, 0x0B], oid, [0x04, 0x20], digest)
        let longForm = join([0x30, 0x81, 0x31, 0x30, 0x0D], oid, [0x05, 0x00, 0x04, 0x20], digest)
        let inParameters = join(
            [0x30, 0x39, 0x30, 0x15], oid, [0x04, 0x08, 1, 2, 3, 4, 5, 6, 7, 8, 0x04, 0x20], digest)
        let nameOf1 = try #require(Hex.decode("3021300906052b0e03021a05000414"))
        let sha1 = join(nameOf1, Array(digest.prefix(20)))
        let nameOf512 = try #require(Hex.decode("3051300d060960864801650304020305000440"))
        let sha512 = join(nameOf512, digest, digest)
        let blocks: [Forgery] = [
            ("bytes behind the digest", block(info, padding: 8)),
            ("one byte behind", block(info, padding: 201, after: [0])),
            ("no padding", block(info, padding: 0)),
            ("encryption's block", other), ("a byte of the padding", broken), ("no NULL", block(withoutNull)),
            ("a longer form of DER", block(longForm)), ("garbage in the parameters", block(inParameters)),
            ("the bare digest", block(digest)), ("SHA-1", block(sha1)), ("SHA-512's name", block(sha512)),
        ]
        var forgeries: [Forgery] = []
        for (name, block) in blocks { forgeries.append((name, try await forge.rawRSA(block))) }
        for options in [["-sha512"], ["-sha1"], pss, pss + ["-sigopt", "rsa_pss_saltlen:32"]] {
            forgeries.append(("\(options)", try await forge.digestSignature(message, options)))
        }
        let zeros = [UInt8](repeating: 0, count: 255)
        forgeries += [
            ("shorter", Array(good.dropLast())), ("longer", join(good, [0])),
            ("zero in front", join([0], good)),
            ("zero", join(zeros, [0])), ("one", join(zeros, [1])), ("the modulus", forge.rsa.modulus),
            ("nothing", []), ("the message", Array(message.utf8)),
        ]
        try await expectRefused(.rs256, forgeries)
    }

    // MARK: ECDSA

    private static let order =
        Hex.decode("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551") ?? []

    /// The order of P-256 less a number, 32 bytes each.
    private func negated(_ number: [UInt8]) -> [UInt8] {
        var borrow = 0
        var result = [UInt8](repeating: 0, count: 32)
        for index in (0..<32).reversed() {
            let digit = Int(Self.order[index]) - Int(number[index]) - borrow
            (result[index], borrow) = (UInt8(truncatingIfNeeded: digit), digit < 0 ? 1 : 0)
        }
        return result
    }

    @Test("ES256 is r and s in 64 bytes, each from 1 to the order less one")
    func ecdsaForgeries() async throws {
        let forge = try await Forge.shared.value
        let message = Forge.message(Forge.header("ES256"), Forge.claims())
        let der = try await forge.digestSignature(message, ["-sha256"], by: forge.ec.path)
        let good = try Forge.raw(der)
        let (r, s) = (Array(good[..<32]), Array(good[32...]))
        let zero = [UInt8](repeating: 0, count: 32)
        let one = join(Array(zero.dropLast()), [1])
        let last = join(Array(Self.order.dropLast()), [0x50])
        let full = [UInt8](repeating: 0xFF, count: 32)
        let n = Self.order
        let numbers: [(String, r: [UInt8], s: [UInt8])] = [
            ("r = 0", zero, s), ("s = 0", r, zero), ("both 0", zero, zero), ("r = n", n, s), ("s = n", r, n),
            ("r = n, s = 0", n, zero), ("both n", n, n), ("r = 1", one, s), ("s = 1", r, one),
            ("both 1", one, one), ("r = n - 1", last, s), ("both n - 1", last, last),
            ("r = 2^256 - 1", full, s), ("both 2^256 - 1", full, full), ("swapped", s, r),
            ("-r", negated(r), s), ("r, r", r, r), ("s, s", s, s), ("r alone", r, []), ("shorter", r, [1]),
        ]
        var forgeries: [Forgery] = numbers.map { ($0.0, join($0.r, $0.s)) }
        forgeries += [
            ("DER", der), ("one less", Array(good.dropLast())), ("longer", join(good, [0])),
            ("33 bytes each", join([0], r, [0], s)), ("nothing", []),
        ]
        let other = try await forge.digestSignature(message, ["-sha512"], by: forge.ec.path)
        forgeries.append(("with SHA-512", try Forge.raw(other)))
        try await expectRefused(.es256, forgeries)
        // A signature has a twin: a token's text is no name for it.
        let twin = Forge.token(message, join(r, negated(s)))
        #expect(try Forge.refusal(twin, forge.keys()) == nil)
    }

    @Test("a curve that P-256 is not signs nothing for it")
    func otherCurve() async throws {
        let forge = try await Forge.shared.value
        for curve in ["secp384r1", "secp256k1"] {
            let path = "\(forge.folder.path)/\(curve).pem"
            let made = try await Tool.openssl("ecparam", "-name", curve, "-genkey", "-noout", "-out", path)
            try #require(made.status == 0)
            let message = Forge.message(Forge.header("ES256"), Forge.claims())
            let der = try await forge.digestSignature(message, ["-sha256"], by: path)
            let raw = curve == "secp256k1" ? try Forge.raw(der) : Array(der.suffix(64))
            try await expectRefused(.es256, [(curve, raw)])
        }
    }

    // MARK: Ed25519

    @Test("EdDSA is 64 bytes with S below the order")
    func edForgeries() async throws {
        let forge = try await Forge.shared.value
        let message = Forge.message(Forge.header("EdDSA"), Forge.claims())
        let good = try await forge.sign(message, .edDSA)
        let order = try #require(
            Hex.decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010"))
        var above = good
        var carry = 0
        for index in 0..<32 {
            let sum = Int(good[32 + index]) + Int(order[index]) + carry
            (above[32 + index], carry) = (UInt8(truncatingIfNeeded: sum), sum >> 8)
        }
        let (first, second) = (Array(good[..<32]), Array(good[32...]))
        let zero = [UInt8](repeating: 0, count: 32)
        let identity = join([1], Array(zero.dropLast()))
        let minusOne = join([0xEC], Array(repeating: 0xFF, count: 30), [0x7F])
        var flagged = good
        flagged[63] |= 0x80
        let forgeries: [Forgery] = [
            ("S + L", above), ("S = L", join(first, order)), ("S with its top bit", flagged),
            ("S = 0", join(first, zero)), ("R = 0", join(zero, second)),
            ("R the identity, S = 0", join(identity, zero)), ("zero", join(zero, zero)),
            ("R of small order", join(minusOne, second)), ("swapped", join(second, first)),
            ("shorter", Array(good.dropLast())), ("longer", join(good, [0])), ("half", first),
            ("nothing", []),
        ]
        try await expectRefused(.edDSA, forgeries)
    }
}
