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
        var words: [UInt64] = [0, 0]
        for (index, byte) in bytes.enumerated() { words[index / 8] = words[index / 8] << 8 | UInt64(byte) }
        self.init(high: words[0], low: words[1])
    }

    /// The 16 bytes, most significant first.
    package var bytes: [UInt8] {
        (0..<16).map { index in
            UInt8(truncatingIfNeeded: (index < 8 ? high : low) >> UInt64(56 - 8 * (index % 8)))
        }
    }

    /// The identifier of canonical text (36 characters, either case); `nil` for anything else.
    package init?(_ text: some StringProtocol) {
        var words: [UInt64] = [0, 0]
        var digits = 0
        var position = 0
        for byte in text.utf8 {
            if position == 8 || position == 13 || position == 18 || position == 23 {
                guard byte == UInt8(ascii: "-") else { return nil }
            } else {
                guard digits < 32, let digit = hexadecimalValue(byte) else { return nil }
                words[digits / 16] = words[digits / 16] << 4 | UInt64(digit)
                digits += 1
            }
            position += 1
        }
        guard position == 36 else { return nil }
        self.init(high: words[0], low: words[1])
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
        text.reserveCapacity(36)
        for (index, byte) in bytes.enumerated() {
            if index == 4 || index == 6 || index == 8 || index == 10 { text.append(UInt8(ascii: "-")) }
            text.append(hexadecimalDigits[Int(byte >> 4)])
            text.append(hexadecimalDigits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
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
