import Testing
import Trust

@Suite struct PrimitiveTests {
    @Test("SHA-256 gives the digests of FIPS 180, in one call and in pieces")
    func digest() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        #expect(Hex.encode(SHA256.hash(Array("abc".utf8))) == expected)
        var digest = SHA256()
        let empty = digest.finalize()
        for byte in "abc".utf8 { digest.update([byte]) }
        let first = digest.finalize()
        let again = digest.finalize()
        #expect(Hex.encode(first) == expected && first == again)
        #expect(empty == SHA256.hash([]))
        #expect(Hex.encode(empty).hasPrefix("e3b0c44298fc1c14"))
    }

    @Test("HMAC-SHA-256 gives the codes of RFC 4231")
    func hmac() {
        let first = hmacSHA256(key: [UInt8](repeating: 0x0b, count: 20), message: Array("Hi There".utf8))
        #expect(Hex.encode(first) == "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7")
        let second = hmacSHA256(key: Array("Jefe".utf8), message: Array("what do ya want for nothing?".utf8))
        #expect(Hex.encode(second) == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
        #expect(hmacSHA256(key: [], message: []).count == 32)
    }

    @Test("a MAC tells lists of parts apart that are the same bytes in a row")
    func macParts() throws {
        let key = try MACKey(bytes: randomBytes(32))
        let code = key.mac([[1, 2], [3]])
        #expect(key.isValid(code, for: [[1, 2], [3]]))
        for other: [[UInt8]] in [[[1], [2, 3]], [[1, 2, 3]], [[1, 2], [3], []], [[], [1, 2], [3]], []] {
            #expect(!key.isValid(code, for: other))
        }
        #expect(!key.isValid(Array(code.dropLast()), for: [[1, 2], [3]]))
        #expect(try !MACKey(bytes: randomBytes(32)).isValid(code, for: [[1, 2], [3]]))
    }

    @Test("a MAC key has at least 32 bytes")
    func macKeyLength() throws {
        #expect(throws: TrustError.self) { try MACKey(bytes: randomBytes(31)) }
        _ = try MACKey(bytes: randomBytes(32))
    }

    @Test("random bytes have the length asked for and do not repeat")
    func random() {
        #expect(randomBytes(0).isEmpty)
        #expect(randomBytes(33).count == 33)
        #expect(randomBytes(32) != randomBytes(32))
    }

    @Test("comparison in constant time is comparison")
    func constantTime() {
        #expect(constantTimeEqual([], []))
        #expect(constantTimeEqual([1, 2], [1, 2]))
        #expect(!constantTimeEqual([1, 2], [1, 3]))
        #expect(!constantTimeEqual([1, 2], [1, 2, 3]))
    }

    @Test("base64url comes back for every length up to 70")
    func base64RoundTrip() {
        for count in 0...70 {
            let bytes = randomBytes(count)
            #expect(Base64URL.decode(Base64URL.encode(bytes)) == bytes)
        }
        #expect(Base64URL.encode([0xFB, 0xFF, 0xFE]) == "-__-")
        #expect(Base64URL.encode(Array("f".utf8)) == "Zg")
    }

    @Test(
        "base64url refuses padding, foreign characters, impossible lengths and loose trailing bits",
        arguments: ["Zg==", "Zg=", "Z", "Zh", "Zm9=", "Zm9w\n", "Zm 9", "+///", "Zm9vZ", "Zm9\u{e9}", "ZmF"])
    func base64Strict(text: String) {
        #expect(Base64URL.decode(text) == nil)
    }

    @Test("hexadecimal comes back and refuses anything else")
    func hex() {
        #expect(Hex.encode([0, 0x1F, 0xFF]) == "001fff")
        #expect(Hex.decode("001fFF") == [0, 0x1F, 0xFF])
        for text in ["0", "0g", "0x", " 1", "é"] { #expect(Hex.decode(text) == nil) }
    }

    @Test("an error shows its code, its sentence and where it was thrown")
    func errorText() {
        let error = TrustError(.expired, "too late", file: "Trust/Some.swift", line: 7)
        #expect("\(error)" == "expired: too late (Trust/Some.swift:7)")
    }

    @Test("an error of the library carries the library's own words")
    func libraryError() {
        #expect {
            try P256Key(pem: "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        } throws: { error in
            guard let error = error as? TrustError else { return false }
            return error.code == .malformed && error.message.contains("error:")
        }
    }
}
