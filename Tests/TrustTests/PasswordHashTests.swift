import Testing

@testable import Trust

@Suite struct PasswordHashTests {
    private let cheap: Scrypt
    private let password = Array("a horse, a battery".utf8)
    private let salt = "AAECAwQFBgcICQoLDA0ODw"
    private let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"

    init() throws { cheap = try Scrypt(log2N: 4, r: 1, p: 1) }

    @Test(
        "scrypt gives the keys of RFC 7914",
        arguments: [
            (
                "", "", 4, 1, 1,
                "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442"
                    + "fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906"
            ),
            (
                "password", "NaCl", 10, 8, 16,
                "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
                    + "2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640"
            ),
            (
                "pleaseletmein", "SodiumChloride", 14, 8, 1,
                "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
                    + "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"
            ),
        ])
    func vectors(password: String, salt: String, log2N: Int, r: Int, p: Int, key: String) throws {
        let scrypt = try Scrypt(log2N: log2N, r: r, p: p)
        let derived = try scrypt.derive(password: Array(password.utf8), salt: Array(salt.utf8), count: 64)
        #expect(Hex.encode(derived) == key)
    }

    @Test("a password verifies against its hash and its hash's text, another does not")
    func verifies() throws {
        let hash = try PasswordHash(of: password, cost: cheap)
        let kept = try PasswordHash(hash.encoded)
        #expect(kept == hash)
        #expect(kept.encoded == hash.encoded)
        #expect(try hash.verifies(password))
        #expect(try kept.verifies(password))
        for other in [[], password + [1], Array(password.dropLast()), Array("A horse, a battery".utf8)] {
            #expect(try !kept.verifies(other))
        }
    }

    @Test("zero bytes behind a password are not told apart, as they are not in HMAC")
    func trailingZeros() throws {
        #expect(try PasswordHash(of: password, cost: cheap).verifies(password + [0]))
        #expect(try !PasswordHash(of: password, cost: cheap).verifies([0] + password))
    }

    @Test("two hashes of one password have different salts and keys")
    func salts() throws {
        let texts = try (0..<2).map { _ in try PasswordHash(of: password, cost: cheap).encoded }
        let fields = texts.map { $0.split(separator: "$") }
        #expect(fields[0][1] == fields[1][1])
        #expect(fields[0][2] != fields[1][2])
        #expect(fields[0][3] != fields[1][3])
    }

    @Test("a new hash has the standard cost and stands; one of another cost is to be replaced")
    func rehash() throws {
        let hash = try PasswordHash(of: password)
        #expect(hash.encoded.hasPrefix("$scrypt$ln=15,r=8,p=3$"))
        #expect(!hash.needsRehash)
        #expect(try hash.verifies(password))
        #expect(try PasswordHash(of: password, cost: cheap).needsRehash)
        for cost in ["ln=14,r=8,p=3", "ln=15,r=9,p=3", "ln=15,r=8,p=2"] {
            #expect(try PasswordHash("$scrypt$\(cost)$\(salt)$\(key)").needsRehash)
        }
    }

    @Test("the hash for unknown accounts costs what a new one does and verifies nothing")
    func dummy() throws {
        #expect(!PasswordHash.dummy.needsRehash)
        #expect(try !PasswordHash.dummy.verifies(password))
        #expect(try !PasswordHash.dummy.verifies([]))
    }

    @Test("a changed salt, key or cost does not verify")
    func changed() throws {
        let text = try PasswordHash(of: password, cost: cheap).encoded
        let fields = text.split(separator: "$").map(String.init)
        let others = [
            "$scrypt$ln=5,r=1,p=1$\(fields[2])$\(fields[3])",
            "$scrypt$ln=4,r=2,p=1$\(fields[2])$\(fields[3])",
            "$scrypt$ln=4,r=1,p=2$\(fields[2])$\(fields[3])", "$scrypt$ln=4,r=1,p=1$\(salt)$\(fields[3])",
            "$scrypt$ln=4,r=1,p=1$\(fields[2])$\(key)",
        ]
        for other in others { #expect(try !PasswordHash(other).verifies(password)) }
    }

    @Test("a text of another form is refused")
    func malformed() {
        let texts = [
            "", "$", "scrypt$ln=15,r=8,p=1$\(salt)$\(key)", "x$scrypt$ln=15,r=8,p=1$\(salt)$\(key)",
            "$Scrypt$ln=15,r=8,p=1$\(salt)$\(key)", "$argon2id$ln=15,r=8,p=1$\(salt)$\(key)",
            "$scrypt$ln=15,r=8$\(salt)$\(key)", "$scrypt$r=8,ln=15,p=1$\(salt)$\(key)",
            "$scrypt$ln=15,r=8,p=1,p=1$\(salt)$\(key)", "$scrypt$ln=15,r=8,p=1,$\(salt)$\(key)",
            "$scrypt$ln=015,r=8,p=1$\(salt)$\(key)", "$scrypt$ln=+15,r=8,p=1$\(salt)$\(key)",
            "$scrypt$ln=-15,r=8,p=1$\(salt)$\(key)", "$scrypt$ln= 15,r=8,p=1$\(salt)$\(key)",
            "$scrypt$ln=,r=8,p=1$\(salt)$\(key)", "$scrypt$ln=0,r=8,p=1$\(salt)$\(key)",
            "$scrypt$ln=15,r=0,p=1$\(salt)$\(key)", "$scrypt$ln=15,r=8,p=0$\(salt)$\(key)",
            "$scrypt$ln=15,r=8,p=1000$\(salt)$\(key)", "$scrypt$ln=1a,r=8,p=1$\(salt)$\(key)",
            "$scrypt$ln=15,r=8,p=1$$\(key)", "$scrypt$ln=15,r=8,p=1$\(salt)$",
            "$scrypt$ln=15,r=8,p=1$\(salt)", "$scrypt$ln=15,r=8,p=1$\(salt)$\(key)$",
            "$scrypt$ln=15,r=8,p=1$\(salt)$\(key)\n", "$scrypt$ln=15,r=8,p=1$\(salt)==$\(key)=",
            "$scrypt$ln=15,r=8,p=1$\(salt.dropLast())$\(key)", "$scrypt$ln=15,r=8,p=1$\(salt)A$\(key)",
            "$scrypt$ln=15,r=8,p=1$\(salt)$\(key.dropLast())", "$scrypt$ln=15,r=8,p=1$\(salt)$\(key)A",
            "$scrypt$ln=15,r=8,p=1$\(salt.dropLast())x$\(key)",
            "$scrypt$ln=15,r=8,p=1$\(salt)$\(key.dropLast())9",
            "$scrypt$ln=15,r=8,p=1$-\(salt.dropFirst())$\(key)",
            "$scrypt$ln=15,r=8,p=1$\(salt)$_\(key.dropFirst())",
            "$scrypt$ln=15,r=8,p=1$\(salt)$\(String(repeating: "A", count: 1_000))",
        ]
        for text in texts {
            #expect("\(text)") { try PasswordHash(text) } throws: { ($0 as? TrustError)?.code == .malformed }
        }
    }

    @Test("the standard alphabet is written and read: + and /, without padding")
    func alphabet() throws {
        let text = "$scrypt$ln=4,r=1,p=1$+/+/+/+/+/+/+/+/+/+/+w$" + String(repeating: "/", count: 42) + "8"
        #expect(try PasswordHash(text).encoded == text)
    }

    @Test(
        "a cost at the limit is accepted, one above is not",
        arguments: [
            ((17, 8, 1), (18, 8, 1)), ((20, 1, 1), (21, 1, 1)), ((17, 8, 1), (17, 9, 1)),
            ((10, 32, 1), (10, 33, 1)), ((10, 1, 16), (10, 1, 17)), ((17, 8, 4), (17, 8, 5)),
            ((1, 1, 1), (0, 1, 1)), ((1, 1, 1), (1, 0, 1)), ((1, 1, 1), (1, 1, 0)), ((1, 1, 1), (-1, 1, 1)),
        ])
    func limits(within: (Int, Int, Int), above: (Int, Int, Int)) throws {
        _ = try Scrypt(log2N: within.0, r: within.1, p: within.2)
        #expect { try Scrypt(log2N: above.0, r: above.1, p: above.2) } throws: {
            ($0 as? TrustError)?.code == .limit
        }
    }

    @Test("a kept hash that costs too much is refused before anything is spent")
    func expensive() {
        for cost in ["ln=18,r=8,p=1", "ln=20,r=8,p=1", "ln=63,r=8,p=1", "ln=999,r=999,p=999"] {
            #expect { try PasswordHash("$scrypt$\(cost)$\(salt)$\(key)") } throws: {
                ($0 as? TrustError)?.code == .limit
            }
        }
    }

    @Test("the largest memory that is allowed is enough for the library")
    func largest() throws {
        let derived = try Scrypt(log2N: 17, r: 8, p: 1).derive(password: password, salt: [1], count: 32)
        #expect(derived.count == 32)
    }

    @Test("Python's scrypt derives the same key from the kept text")
    func python() async throws {
        let text = try PasswordHash(of: password).encoded
        let program = """
            import base64, hashlib, sys
            _, name, cost, salt, key = sys.argv[1].split('$')
            cost = dict(part.split('=') for part in cost.split(','))
            decode = lambda text: base64.b64decode(text + '=' * (-len(text) % 4), validate=True)
            derived = hashlib.scrypt(b'a horse, a battery', salt=decode(salt), n=2 ** int(cost['ln']),
                r=int(cost['r']), p=int(cost['p']), maxmem=2 ** 27, dklen=32)
            print(name, derived == decode(key))
            """
        let result = try await Tool.run("python3", ["-c", program, text])
        #expect(result.output == "scrypt True\n", "\(result.errors)")
    }
}

@Suite struct PasswordPolicyTests {
    private func refusal(_ text: String, email: String = "anna.lind@example.com") -> PasswordPolicy.Refusal? {
        PasswordPolicy.refusal(of: Array(text.utf8), email: email)
    }

    @Test("a password has 12 to 1024 bytes")
    func length() {
        let long = String(repeating: "ab", count: 512)
        #expect(refusal("xk2 plmw9qa") == .tooShort)
        #expect(refusal("xk2 plmw9qaz") == nil)
        #expect(refusal(long) == nil)
        #expect(refusal(long + "c") == .tooLong)
        #expect(refusal("") == .tooShort)
    }

    @Test("one character again and again is refused, also one of several bytes")
    func oneCharacter() {
        #expect(refusal(String(repeating: "x", count: 40)) == .oneCharacter)
        #expect(refusal(String(repeating: "é", count: 8)) == .oneCharacter)
        #expect(refusal(String(repeating: "x", count: 40) + "y") == nil)
    }

    @Test("a common password is refused in any case, with something behind it is not")
    func common() {
        for text in ["123456789012", "PasswordPassword", "qwertyuiop123", "CorrectHorseBatteryStaple"] {
            #expect(refusal(text) == .common)
        }
        #expect(refusal("PasswordPassword and more") == nil)
    }

    @Test("the list of common passwords holds only what could be chosen at all")
    func list() {
        #expect(PasswordPolicy.common.count > 100)
        for password in PasswordPolicy.common {
            let text = String(decoding: password, as: UTF8.self)
            #expect(text == text.lowercased() && refusal(text) == .common, "\(text)")
        }
    }

    @Test("the name in the address is refused in any case, up to its tag; a short one is not looked for")
    func address() {
        #expect(refusal("my-Anna.Lind-pass") == .containsAddress)
        #expect(refusal("anna.lind1234") == .containsAddress)
        #expect(refusal("zzzzz anna.lind") == .containsAddress)
        #expect(refusal("xx anna lind 99") == nil)
        #expect(refusal("long anna.lind one", email: "ANNA.LIND+crmm@example.com") == .containsAddress)
        #expect(refusal("a sunny afternoon", email: "ann@example.com") == nil)
        #expect(refusal("a sunny afternoon", email: "sunn@example.com") == .containsAddress)
        #expect(refusal("a sunny afternoon", email: "@example.com") == nil)
        #expect(refusal("a sunny afternoon", email: "") == nil)
        #expect(refusal("a sunny afternoon", email: "a.name.longer.than.the.password@example.com") == nil)
    }

    @Test("each refusal has a reason that can be said of any field")
    func reasons() {
        #expect(Set(PasswordPolicy.Refusal.allCases.map(\.reason)).count == 5)
        for refusal in PasswordPolicy.Refusal.allCases { #expect(refusal.reason.hasPrefix("must")) }
    }
}
