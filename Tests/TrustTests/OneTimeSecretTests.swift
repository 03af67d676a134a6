import Testing
import Trust

@Suite struct RecoveryCodeTests {
    @Test("a set has ten different codes of four groups of four characters that nobody confuses")
    func set() {
        let codes = RecoveryCode.newSet()
        let texts = codes.map(\.text)
        #expect(Set(texts).count == 10)
        #expect(Set(codes.map(\.hash)).count == 10)
        for text in texts {
            #expect(text.split(separator: "-").map(\.count) == [4, 4, 4, 4])
            #expect(text.allSatisfy { "0123456789abcdefghjkmnpqrstvwxyz-".contains($0) })
            #expect(RecoveryCode(text)?.text == text)
        }
    }

    @Test("a code is known however it is typed")
    func typed() throws {
        let code = try #require(RecoveryCode("0123-4567-89ab-cdef"))
        let typings = [
            "0123456789abcdef", "0123-4567-89AB-CDEF", " o123 4567 89ab cdef ", "Oi23-4567-89ab-cdef",
            "oL23-4567-89AB-cdef", "0I23-4567-89ab-cdef", "01-23-45-67-89-ab-cd-ef", "0l234567-89abcdef",
        ]
        for text in typings {
            #expect(RecoveryCode(text) == code)
            #expect(RecoveryCode(text)?.hash == code.hash)
        }
    }

    @Test(
        "anything else is no code",
        arguments: [
            "", "0123-4567-89ab-cde", "0123-4567-89ab-cdef0", "u123-4567-89ab-cdef", "0123_4567_89ab_cdef",
            "0123-4567-89ab-cdeé", "0123-4567-89ab-cdef\n",
            "0123-4567-89ab-cdef" + "                         "
                + "                         ",
        ])
    func refused(text: String) {
        #expect(RecoveryCode(text) == nil)
    }

    @Test("a code is found among the kept hashes, and not when its hash is gone")
    func index() throws {
        let codes = RecoveryCode.newSet()
        var hashes = codes.map(\.hash)
        for (index, code) in codes.enumerated() { #expect(code.index(among: hashes) == index) }
        hashes.remove(at: 3)
        #expect(codes[3].index(among: hashes) == nil)
        #expect(codes[4].index(among: hashes) == 3)
        #expect(codes[0].index(among: []) == nil)
        #expect(codes[0].index(among: [Array(hashes[0].dropLast())]) == nil)
    }

    @Test("what is hashed has a prefix of its own")
    func domain() throws {
        let code = try #require(RecoveryCode("0000-0000-0000-0000"))
        let zeros = [UInt8](repeating: 0, count: 10)
        #expect(code.hash == SHA256.hash(Array("cloudrmm.recovery.v1\0".utf8) + zeros))
    }
}

@Suite struct OpaqueSecretTests {
    @Test(
        "a secret comes back from its text, with the hash of its random bytes",
        arguments: OpaqueSecret.Kind.allCases)
    func roundTrip(kind: OpaqueSecret.Kind) throws {
        let secret = OpaqueSecret(kind)
        let text = secret.text
        #expect(text.hasPrefix(kind.rawValue) && text.utf8.count == kind.rawValue.utf8.count + 43)
        let read = try #require(OpaqueSecret(kind, text: text))
        #expect(read == secret && read.text == text && read.hash == secret.hash)
        let bytes = try #require(Base64URL.decode(String(text.dropFirst(kind.rawValue.count))))
        #expect(bytes.count == 32 && secret.hash == SHA256.hash(bytes))
        #expect(OpaqueSecret(kind) != secret)
    }

    @Test("a secret of one kind is none of another")
    func kinds() {
        for kind in OpaqueSecret.Kind.allCases {
            for other in OpaqueSecret.Kind.allCases where other != kind {
                #expect(OpaqueSecret(other, text: OpaqueSecret(kind).text) == nil)
            }
        }
    }

    @Test("an API key that begins like a session's prefix is still an API key")
    func prefixes() {
        let text = "crmm_session_" + String(repeating: "A", count: 35)
        #expect(OpaqueSecret(.apiKey, text: text)?.text == text)
        #expect(OpaqueSecret(.session, text: text) == nil)
    }

    @Test("a text of another form is no secret")
    func strict() {
        let text = OpaqueSecret.Kind.session.rawValue + String(repeating: "A", count: 43)
        #expect(OpaqueSecret(.session, text: text) != nil)
        let cut = String(text.dropLast())
        let others: [String] = [
            "", cut, "\(text)A", "\(text)=", " \(text)", "\(cut)\n", text.uppercased(), "\(cut)B", "\(cut)+",
            "\(cut.dropLast())é", "x\(text.dropFirst())",
            // Combining marks, which make one character with the end of the prefix.
            "crmm_session_\u{301}\u{301}" + String(repeating: "A", count: 39),
        ]
        for other in others { #expect(OpaqueSecret(.session, text: other) == nil) }
    }
}
