/// A 128-bit identifier (RFC 9562), kept as two words; new ones are version 7, so ids sort by their time of
/// creation.
package struct UniqueID: Hashable, Sendable {
    /// The first eight bytes, most significant first: for version 7, 48 bits of milliseconds, version, 12
    /// random bits.
    package let high: UInt64
    /// The last eight bytes: variant and 62 random bits for version 7.
    package let low: UInt64

    /// The identifier of two words.
    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// A version 7 identifier of that instant, random in its other 74 bits.
    package static func v7(at instant: Instant) -> UniqueID {
        var generator = SystemRandomNumberGenerator()
        return v7(at: instant, using: &generator)
    }

    /// A version 7 identifier from a given source of randomness.
    package static func v7(at instant: Instant, using generator: inout some RandomNumberGenerator) -> UniqueID
    {
        let milliseconds = UInt64(max(0, instant.microseconds / 1_000)) & 0xFFFF_FFFF_FFFF
        let high = milliseconds << 16 | 0x7000 | (generator.next() & 0x0FFF)
        let low = 0x8000_0000_0000_0000 | (generator.next() & 0x3FFF_FFFF_FFFF_FFFF)
        return UniqueID(high: high, low: low)
    }

    /// The identifier in 16 bytes, most significant first; `nil` for any other count.
    package init?(bytes: some Collection<UInt8>) {
        guard bytes.count == 16 else { return nil }
        var (high, low): (UInt64, UInt64) = (0, 0)
        for byte in bytes {
            high = high << 8 | low >> 56
            low = low << 8 | UInt64(byte)
        }
        self.init(high: high, low: low)
    }

    /// The 16 bytes, most significant first.
    package var bytes: [UInt8] {
        [UInt8](capacity: 16) { output in
            for index: UInt64 in 0..<8 { output.append(UInt8(truncatingIfNeeded: high >> (56 - 8 * index))) }
            for index: UInt64 in 0..<8 { output.append(UInt8(truncatingIfNeeded: low >> (56 - 8 * index))) }
        }
    }

    /// The identifier of canonical text (36 characters, either case); `nil` for anything else.
    package init?(_ text: some StringProtocol) { self.init(String(text)) }

    /// The identifier of canonical text (36 characters, either case); `nil` for anything else.
    package init?(_ text: String) { self.init(text: text.utf8.span) }

    /// The identifier of canonical text in UTF-8; `nil` for anything else.
    package init?(text: Span<UInt8>) {
        guard text.count == 36, text[8] == UInt8(ascii: "-"), text[13] == UInt8(ascii: "-"),
            text[18] == UInt8(ascii: "-"), text[23] == UInt8(ascii: "-")
        else { return nil }
        var digits = HexadecimalReader()
        digits.read(text, 0..<8)
        digits.read(text, 9..<13)
        digits.read(text, 14..<18)
        let high = digits.word
        digits.read(text, 19..<23)
        digits.read(text, 24..<36)
        guard digits.areValid else { return nil }
        self.init(high: high, low: digits.word)
    }

    /// The time that a version 7 identifier carries, in whole milliseconds.
    package var createdAt: Instant { Instant(microseconds: Int64(high >> 16) * 1_000) }

    /// The identifier whose bits are all zero: stands for "none" where a fixed layout needs one.
    package static let zero = UniqueID(high: 0, low: 0)
}

extension UniqueID: CustomStringConvertible {
    /// Canonical lower-case text, 36 characters.
    package var description: String {
        var text: [UInt8] = []
        appendText(to: &text)
        return String(decoding: text, as: UTF8.self)
    }

    /// Appends the canonical text in ASCII.
    package func appendText(to bytes: inout [UInt8]) {
        bytes.append(addingCapacity: 36) { output in
            Self.append(high, from: 60, digits: 8, to: &output)
            output.append(UInt8(ascii: "-"))
            Self.append(high, from: 28, digits: 4, to: &output)
            output.append(UInt8(ascii: "-"))
            Self.append(high, from: 12, digits: 4, to: &output)
            output.append(UInt8(ascii: "-"))
            Self.append(low, from: 60, digits: 4, to: &output)
            output.append(UInt8(ascii: "-"))
            Self.append(low, from: 44, digits: 12, to: &output)
        }
    }

    @inline(__always)
    private static func append(
        _ word: UInt64, from shift: UInt64, digits: Int, to output: inout OutputSpan<UInt8>
    ) {
        var shift = shift
        for _ in 0..<digits {
            let digit = UInt8(truncatingIfNeeded: word &>> shift) & 15
            output.append(digit &+ (digit < 10 ? UInt8(ascii: "0") : UInt8(ascii: "a") &- 10))
            shift &-= 4
        }
    }
}

extension UniqueID: Comparable {
    /// By bytes, which for version 7 is by time.
    package static func < (left: UniqueID, right: UniqueID) -> Bool {
        left.high == right.high ? left.low < right.low : left.high < right.high
    }
}

/// The digits of lower-case hexadecimal text, in ASCII.
package let hexadecimalDigits = Array("0123456789abcdef".utf8)

/// The value of one hexadecimal digit in ASCII.
package func hexadecimalValue(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
}

/// Reads hexadecimal digits into a word and remembers whether one of them was none.
private struct HexadecimalReader {
    /// The last sixteen digits.
    private(set) var word: UInt64 = 0
    private var seen: UInt8 = 0

    /// Whether all so far were digits.
    var areValid: Bool { seen < 16 }

    @inline(__always)
    mutating func read(_ text: Span<UInt8>, _ range: Range<Int>) {
        for index in range {
            let byte = text[index]
            let decimal = byte &- UInt8(ascii: "0")
            let letter = (byte | 0x20) &- UInt8(ascii: "a")
            let value = decimal < 10 ? decimal : letter < 6 ? letter &+ 10 : 0xFF
            seen |= value
            word = word << 4 | UInt64(value & 15)
        }
    }
}
