import Testing
import Wire

@Suite struct Base64Tests {
    @Test("the examples of RFC 4648 hold both ways")
    func examples() {
        for (bytes, text) in [
            ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            #expect(Base64.encode(Array(bytes.utf8)) == Array(text.utf8))
            #expect(Base64.decode(text) == Array(bytes.utf8))
        }
    }

    @Test("bytes of every length come back", arguments: 0...100)
    func roundTrip(count: Int) {
        let bytes = (0..<count).map { _ in UInt8.random(in: 0...255) }
        let text = String(decoding: Base64.encode(bytes), as: UTF8.self)
        #expect(text.utf8.count == (count + 2) / 3 * 4)
        #expect(Base64.decode(text) == bytes)
    }

    @Test("every byte but those of the alphabet is refused, at every place of a group")
    func alphabet() {
        for place in 0..<8 {
            for byte in UInt8.min...UInt8.max {
                var text = Array("AAAAAAAA".utf8)
                text[place] = byte
                let isLetter = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8
                    .contains(byte)
                let isPadding = byte == UInt8(ascii: "=") && place == 7
                #expect((Base64.decode(text.span) != nil) == (isLetter || isPadding))
            }
        }
    }

    @Test(
        "what is not strict base64 is refused",
        arguments: [
            "A", "AA", "AAA", "AAAAA", "=", "====", "A===", "AA=A", "AAAA====", "AA==AAAA", "AB==", "AAB=",
            "AA= ", "AA-_", "AAé",
        ])
    func refused(text: String) { #expect(Base64.decode(text) == nil) }

    @Test("in JSON the text may have escapes, and the limit counts bytes")
    func fields() throws {
        func read(_ text: String, _ limit: FieldLimit = .none) throws -> [UInt8] {
            try Base64Bytes.read(JSONValue(scanning: Array(text.utf8)), limit).bytes
        }
        #expect(try read(#""\u005am\u0039v""#) == Array("foo".utf8))
        #expect(try read(#""\/\/\/\/""#) == [255, 255, 255])
        #expect(try read(#""Zm9v""#, .in(3...3)) == Array("foo".utf8))
        #expect(throws: FieldError(.invalid, "has 3 bytes; allowed are 4 to 5")) {
            try read(#""Zm9v""#, .in(4...5))
        }
        #expect(throws: FieldError(.invalid, "has 3 bytes; allowed are 1 to 2")) {
            try read(#""Zm9v""#, .in(1...2))
        }
        for text in ["1", "null", "\"Zm9\"", "[]"] {
            #expect(throws: FieldError(.invalid, "must be base64")) { try read(text) }
        }
    }

    @Test("bytes whose text was prepared are the same bytes, and write the same text")
    func prepared() {
        let bytes = (0..<700).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        #expect(Base64Bytes.prepared(bytes) == Base64Bytes(bytes))
        #expect(Base64Bytes.prepared(bytes).hashValue == Base64Bytes(bytes).hashValue)
        #expect(Base64Bytes.prepared(bytes).json == Base64Bytes(bytes).json)
        #expect(Base64Bytes.prepared(bytes) != Base64Bytes.prepared([]))
        #expect(Base64Bytes.prepared([]).json == Array("\"\"".utf8))
    }
}
