import Domain
import Testing
import Trust

@Suite struct TOTPTests {
    private let totp: TOTP

    init() throws { totp = try TOTP(secret: SecretBytes(Array("12345678901234567890".utf8))) }

    @Test("HOTP gives the values of RFC 4226, appendix D")
    func hotp() {
        let values = [
            "755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871",
            "520489",
        ]
        for (step, value) in values.enumerated() { #expect(totp.code(ofStep: Int64(step)) == value) }
    }

    @Test(
        "TOTP gives the last six digits of RFC 6238, appendix B",
        arguments: [
            (59, "94287082"), (1_111_111_109, "07081804"), (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"), (2_000_000_000, "69279037"), (20_000_000_000, "65353130"),
        ] as [(Int64, String)])
    func vectors(seconds: Int64, value: String) {
        #expect(totp.code(at: Instant(seconds: seconds)) == String(value.suffix(6)))
    }

    @Test("a code is accepted one step before and after its own, not two")
    func window() {
        for (step, accepts) in [(98, false), (99, true), (100, true), (101, true), (102, false)] {
            let now = Instant(seconds: Int64(step) * 30 + 7)
            let expected: Int64? = accepts ? 100 : nil
            #expect(totp.verify(totp.code(ofStep: 100), at: now, lastAcceptedStep: nil) == expected)
        }
    }

    @Test("a step begins at whole half minutes")
    func edges() {
        #expect(TOTP.step(at: Instant(seconds: 29)) == 0)
        #expect(TOTP.step(at: Instant(seconds: 30)) == 1)
        #expect(TOTP.step(at: Instant(microseconds: 29_999_999)) == 0)
        #expect(TOTP.step(at: Instant(seconds: -1)) == -1)
        #expect(TOTP.step(at: Instant(seconds: -30)) == -1)
        #expect(TOTP.step(at: Instant(seconds: -31)) == -2)
    }

    @Test("a code is accepted once, and none of an earlier step after it")
    func replay() {
        let now = Instant(seconds: 3_000)
        #expect(totp.verify(totp.code(ofStep: 100), at: now, lastAcceptedStep: 99) == 100)
        #expect(totp.verify(totp.code(ofStep: 100), at: now, lastAcceptedStep: 100) == nil)
        #expect(totp.verify(totp.code(ofStep: 99), at: now, lastAcceptedStep: 100) == nil)
        #expect(totp.verify(totp.code(ofStep: 101), at: now, lastAcceptedStep: 100) == 101)
        #expect(totp.verify(totp.code(ofStep: 101), at: now, lastAcceptedStep: 101) == nil)
    }

    @Test("only six digits are a code")
    func strict() {
        let now = Instant(seconds: 59)
        #expect(totp.verify("287082", at: now, lastAcceptedStep: nil) == 1)
        for text in ["", "28708", "2870820", " 287082", "287 082", "287083", "٢٨٧٠٨٢", "94287082"] {
            #expect(totp.verify(text, at: now, lastAcceptedStep: nil) == nil)
        }
    }

    @Test("a secret has 20 bytes, and a new one is another")
    func secrets() throws {
        for count in [0, 19, 21] {
            #expect { try TOTP(secret: SecretBytes(random: count)) } throws: {
                ($0 as? TrustError)?.code == .malformed
            }
        }
        #expect(TOTP() != TOTP())
        #expect(TOTP().secret.count == 20)
    }

    @Test("the address for apps names issuer and account, encoded, and the secret in base 32")
    func uri() {
        #expect(
            totp.uri(issuer: "Cloud & Söhne", account: "a+b:c/d?@example.com")
                == "otpauth://totp/Cloud%20%26%20S%C3%B6hne:a%2Bb%3Ac%2Fd%3F%40example.com"
                + "?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Cloud%20%26%20S%C3%B6hne"
                + "&algorithm=SHA1&digits=6&period=30")
    }

    @Test("Python reads the address and makes the same code")
    func python() async throws {
        let totp = TOTP()
        let program = """
            import base64, hmac, struct, sys
            from urllib.parse import parse_qs, unquote, urlsplit
            uri = urlsplit(sys.argv[1])
            query = parse_qs(uri.query, strict_parsing=True)
            key = base64.b32decode(query['secret'][0])
            mac = hmac.new(key, struct.pack('>Q', 1700000000 // int(query['period'][0])), 'sha1').digest()
            value = struct.unpack_from('>I', mac, mac[19] & 15)[0] & 0x7fffffff
            print(unquote(uri.path), query['issuer'][0], f'{value % 1000000:06}')
            """
        let uri = totp.uri(issuer: "A B", account: "c@d")
        let result = try await Tool.run("python3", ["-c", program, uri])
        let code = totp.code(at: Instant(seconds: 1_700_000_000))
        #expect(result.output == "/A B:c@d A B \(code)\n", "\(result.errors)")
    }
}

@Suite struct Base32Tests {
    @Test(
        "base 32 gives the texts of RFC 4648 without padding",
        arguments: [
            ("", ""), ("f", "MY"), ("fo", "MZXQ"), ("foo", "MZXW6"), ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ])
    func vectors(plain: String, text: String) {
        #expect(Base32.encode(Array(plain.utf8)) == text)
        #expect(Base32.decode(text) == Array(plain.utf8))
    }

    @Test("base 32 comes back for every length up to 40")
    func roundTrip() {
        for count in 0...40 {
            let bytes = randomBytes(count)
            #expect(Base32.decode(Base32.encode(bytes)) == bytes)
        }
    }

    @Test(
        "base 32 refuses lower case, padding, other characters, impossible lengths and loose trailing bits",
        arguments: [
            "my", "MY======", "M", "MZX", "MZXW6Y", "MZ", "MZXR", "MZXW7", "MZXW6YR", "M1", "M8", "M0",
            "MY\n", " MY",
            "M-Y", "MÝ",
        ])
    func strict(text: String) {
        #expect(Base32.decode(text) == nil)
    }
}
