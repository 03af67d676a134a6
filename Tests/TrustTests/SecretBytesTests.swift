import Testing

@testable import Trust

@Suite struct SecretBytesTests {
    /// A byte whose number stands in no other text.
    private let byte: UInt8 = 217

    /// Everything that string conversion, reflection and `dump` say about a value.
    private func shown(_ value: Any) -> String {
        var dumped = ""
        dump(value, to: &dumped)
        var children: [String] = []
        func walk(_ value: Any) {
            for child in Mirror(reflecting: value).children {
                children.append("\(child.value) \(String(reflecting: child.value))")
                walk(child.value)
            }
        }
        walk(value)
        return "\(value) \(String(reflecting: value)) \(dumped) \(children)"
    }

    private func bytes(_ count: Int) -> [UInt8] { [UInt8](repeating: byte, count: count) }

    @Test("this test would see bytes that are shown")
    func control() {
        struct Careless { let bytes: [UInt8] }
        #expect(shown(Careless(bytes: bytes(20))).contains("217"))
    }

    @Test("no text, mirror or dump shows secret bytes, alone or in what holds them")
    func hidden() throws {
        let secret = SecretBytes(bytes(32))
        let session = try #require(
            OpaqueSecret(.session, text: "crmm_session_" + Base64URL.encode(bytes(32))))
        let code = try #require(RecoveryCode(Base32Alphabet.crockford.encode(bytes(10))))
        let totp = try TOTP(secret: SecretBytes(bytes(20)))
        let key = try SealingKeys.Key(id: "one", secret: secret)
        let forms: [String] = [
            "217", "d9d9", "D9D9", String(Base64URL.encode(bytes(32)).prefix(8)),
            String(Base32.encode(bytes(20)).prefix(8)), String(code.text.prefix(4)),
        ]
        let values: [Any] = [
            secret, session, code, totp, key, try SealingKeys(current: key), [secret], ["key": secret],
            Optional(secret) as Any, (1, secret),
        ]
        for value in values {
            let text = shown(value)
            for form in forms { #expect(!text.contains(form), "\(type(of: value)) shows \(form)") }
        }
        #expect("\(secret)" == "(secret)")
        #expect(String(reflecting: secret) == "(secret)")
        #expect(Mirror(reflecting: secret).children.isEmpty)
    }

    @Test("a password's hash shows its cost, not its salt or key")
    func passwordHash() throws {
        let hash = try PasswordHash(of: bytes(20), cost: Scrypt(log2N: 4, r: 1, p: 1))
        let text = shown(hash)
        for field in hash.encoded.split(separator: "$").suffix(2) { #expect(!text.contains(field)) }
        #expect("\(hash)" == "(password hash, ln=4,r=1,p=1)")
    }

    @Test("nothing that holds a secret can be encoded")
    func notEncodable() throws {
        let key = try SealingKeys.Key(id: "one", secret: SecretBytes(bytes(32)))
        let values: [Any] = [
            SecretBytes([1]), OpaqueSecret(.session), RecoveryCode.newSet()[0], TOTP(), key,
            try SealingKeys(current: key),
        ]
        for value in values { #expect(!(value is any Encodable)) }
    }

    @Test("bytes are lent, copied and compared")
    func access() {
        let secret = SecretBytes([1, 2, 3])
        #expect(secret.count == 3 && secret.copy() == [1, 2, 3])
        #expect(secret.withBytes { bytes in bytes.indices.reduce(0) { $0 + Int(bytes[$1]) } } == 6)
        #expect(secret == SecretBytes([1, 2, 3]))
        for other in [[], [1, 2], [1, 2, 4], [1, 2, 3, 0]] as [[UInt8]] {
            #expect(secret != SecretBytes(other))
        }
        #expect(SecretBytes([]).copy().isEmpty && SecretBytes([]) == SecretBytes([]))
        #expect(SecretBytes(random: 0).count == 0)
        #expect(SecretBytes(random: 32) != SecretBytes(random: 32))
    }
}
