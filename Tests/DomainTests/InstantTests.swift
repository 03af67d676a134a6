import Domain
import Testing

@Suite struct InstantTests {
    @Test("seconds are rounded down over the whole range, and every instant has a text")
    func floors() {
        for (microseconds, seconds) in [
            (-1, -1), (0, 0), (999_999, 0), (1_000_000, 1), (-1_000_000, -1), (-1_000_001, -2),
            (Int64.min, -9_223_372_036_855), (Int64.min + 999_998, -9_223_372_036_854),
            (Int64.max, 9_223_372_036_854),
        ] as [(Int64, Int64)] {
            let instant = Instant(microseconds: microseconds)
            #expect(instant.seconds == seconds, "\(microseconds)")
            #expect(instant.description.hasSuffix("Z"))
        }
        #expect(Instant(microseconds: -1).description == "1969-12-31T23:59:59.999Z")
    }

    @Test("RFC 3339 text and back, across leap days and before 1970")
    func textRoundTrip() throws {
        for text in [
            "1970-01-01T00:00:00.000Z", "2024-02-29T23:59:59.999Z", "2000-02-29T12:00:00.000Z",
            "1969-12-31T23:59:59.500Z", "2100-03-01T00:00:00.001Z",
        ] {
            #expect(try #require(Instant(text)).description == text)
        }
        #expect(Instant("2026-01-01T02:00:00+02:00") == Instant("2026-01-01T00:00:00Z"))
        #expect(Instant("2026-01-01T00:00:00.123456789Z")?.microseconds == 1_767_225_600_123_456)
    }

    @Test(
        "text that is no time is refused",
        arguments: [
            "", "2026-01-01", "2026-13-01T00:00:00Z", "2026-02-29T00:00:00Z", "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00", "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00Zx", "2026-01-01T00:00:60Z",
        ])
    func refused(text: String) { #expect(Instant(text) == nil) }

    @Test("an id is its text, its bytes and its time")
    func identifiers() throws {
        let instant = Instant(microseconds: 1_767_225_600_123_456)
        let id = UniqueID.v7(at: instant)
        #expect(UniqueID(id.description) == id)
        #expect(UniqueID(bytes: id.bytes) == id)
        #expect(id.createdAt.microseconds == 1_767_225_600_123_000)
        #expect(UniqueID.v7(at: instant + .milliseconds(1)) > id)
        #expect(UniqueID("0190b5a0-0000-7000-8000-00000000000") == nil)
        #expect(UniqueID("0190b5a0-0000-7000-8000-00000000000g") == nil)
        #expect(UniqueID("0190b5a000000-7000-8000-000000000000") == nil)
    }

    @Test("years of other than four digits are written with their sign and length")
    func strangeYears() {
        #expect(Instant(seconds: 253_402_300_799).description == "9999-12-31T23:59:59.000Z")
        #expect(Instant(seconds: 253_402_300_800).description == "10000-01-01T00:00:00.000Z")
        #expect(Instant(seconds: -62_167_219_200).description == "0000-01-01T00:00:00.000Z")
        #expect(Instant(seconds: -62_167_219_201).description == "00-1-12-31T23:59:59.000Z")
    }

    @Test("times come back from their text, and damaged text is read or refused")
    func randomTimes() throws {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<5_000 {
            let instant = Instant(
                microseconds: .random(in: -62_167_219_200_000...253_402_300_799_999, using: &generator)
                    * 1_000)
            var text = Array(instant.description.utf8)
            #expect(Instant(text: text.span) == instant)
            text[Int.random(in: 0..<text.count)] = .random(in: 0...255)
            if let other = Instant(text: text.span) { #expect(Instant(other.description) == other) }
            text.removeLast(Int.random(in: 1...5))
            _ = Instant(text: text.span)
        }
    }

    @Test("an id's text is fixed, and each of its characters counts")
    func identifierText() throws {
        let id = UniqueID(high: 0x0123_4567_89AB_CDEF, low: 0xFEDC_BA98_7654_3210)
        let text = "01234567-89ab-cdef-fedc-ba9876543210"
        #expect(id.description == text)
        #expect(UniqueID(text) == id)
        #expect(UniqueID(text.uppercased()) == id)
        #expect(UniqueID(text[...]) == id)
        #expect(
            id.bytes == [
                0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32,
                0x10,
            ])
        #expect(UniqueID(bytes: id.bytes[0..<15]) == nil)
        #expect(UniqueID(bytes: id.bytes + [0]) == nil)
        let digits = Array("0123456789abcdefABCDEF".utf8)
        for place in 0..<36 {
            for byte in UInt8.min...UInt8.max {
                var changed = Array(text.utf8)
                changed[place] = byte
                let isDash = [8, 13, 18, 23].contains(place)
                let isRight = isDash ? byte == UInt8(ascii: "-") : digits.contains(byte)
                #expect((UniqueID(text: changed.span) != nil) == isRight)
            }
        }
        #expect(UniqueID(text + "0") == nil)
        #expect(UniqueID(String(text.dropLast())) == nil)
        #expect(UniqueID("") == nil)
    }
}
