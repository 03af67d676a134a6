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
}
