/// Base 32 (RFC 4648 §6) without padding: what authenticator apps read.
package enum Base32 {
    /// The text of `bytes`, upper case.
    package static func encode(_ bytes: [UInt8]) -> String { standard.encode(bytes) }

    /// The bytes of `text`; nil for lower case, padding, any other character, an impossible length, and
    /// trailing bits that are not zero, so that every byte string has exactly one text.
    package static func decode(_ text: String) -> [UInt8]? { standard.decode(text) }

    private static let standard = Base32Alphabet("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
}

/// Thirty-two characters that stand for five bits each.
struct Base32Alphabet: Sendable {
    /// Crockford's, lower case: without i, l, o and u.
    static let crockford = Base32Alphabet("0123456789abcdefghjkmnpqrstvwxyz")

    private let characters: [UInt8]

    init(_ characters: String) {
        self.characters = Array(characters.utf8)
        precondition(self.characters.count == 32)
    }

    func encode(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = []
        var pool: UInt32 = 0
        var bits: UInt32 = 0
        for byte in bytes {
            pool = pool << 8 | UInt32(byte)
            bits += 8
            while bits >= 5 {
                bits -= 5
                text.append(characters[Int(pool >> bits & 31)])
            }
            pool &= (1 << bits) - 1
        }
        if bits > 0 { text.append(characters[Int(pool << (5 - bits) & 31)]) }
        return String(decoding: text, as: UTF8.self)
    }

    func decode(_ text: String) -> [UInt8]? {
        var bytes: [UInt8] = []
        var pool: UInt32 = 0
        var bits: UInt32 = 0
        for character in text.utf8 {
            guard let value = characters.firstIndex(of: character) else { return nil }
            pool = pool << 5 | UInt32(value)
            bits += 5
            if bits >= 8 {
                bits -= 8
                bytes.append(UInt8(truncatingIfNeeded: pool >> bits))
                pool &= (1 << bits) - 1
            }
        }
        return bits < 5 && pool == 0 ? bytes : nil
    }
}
