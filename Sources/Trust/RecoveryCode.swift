/// One of the codes by which somebody gets in who has lost his authenticator: 80 random bits as four groups
/// of four characters, `xxxx-xxxx-xxxx-xxxx`, in Crockford's base 32 in lower case. Each works once.
package struct RecoveryCode: Sendable, Equatable {
    /// How many make a set.
    package static let setCount = 10
    /// The number of random bytes.
    package static let byteCount = 10

    private static let groupLength = 4
    private static let domain = Array("cloudrmm.recovery.v1".utf8) + [0]

    private let bytes: SecretBytes

    /// A new code.
    init() { bytes = SecretBytes(random: Self.byteCount) }

    /// The code as a person typed it: in either case, with or without hyphens and spaces, with i and l for 1
    /// and o for 0; nil for anything else.
    package init?(_ text: String) {
        guard text.utf8.count <= 64 else { return nil }
        let typed = text.utf8.compactMap { character -> UInt8? in
            switch character {
            case UInt8(ascii: "-"), UInt8(ascii: " "): nil
            case UInt8(ascii: "i"), UInt8(ascii: "l"), UInt8(ascii: "I"), UInt8(ascii: "L"): UInt8(ascii: "1")
            case UInt8(ascii: "o"), UInt8(ascii: "O"): UInt8(ascii: "0")
            case UInt8(ascii: "A")...UInt8(ascii: "Z"): character | 0x20
            default: character
            }
        }
        guard let bytes = Base32Alphabet.crockford.decode(String(decoding: typed, as: UTF8.self)),
            bytes.count == Self.byteCount
        else { return nil }
        self.bytes = SecretBytes(bytes)
    }

    /// A new set of different codes.
    package static func newSet() -> [RecoveryCode] {
        var codes: [RecoveryCode] = []
        while codes.count < setCount {
            let code = RecoveryCode()
            if !codes.contains(code) { codes.append(code) }
        }
        return codes
    }

    /// What its owner is shown once.
    package var text: String {
        let characters = Array(Base32Alphabet.crockford.encode(bytes.copy()))
        return stride(from: 0, to: characters.count, by: Self.groupLength)
            .map { String(characters[$0..<min($0 + Self.groupLength, characters.count)]) }
            .joined(separator: "-")
    }

    /// SHA-256 over a prefix of its own and the random bytes: what the row keeps. It needs no stretching,
    /// since nobody tries 2^80 codes.
    package var hash: [UInt8] { SHA256.hash(Self.domain + bytes.copy()) }

    /// The place of this code among kept hashes; nil when it is none of them. It looks at all of them, so
    /// that the time does not tell which it was.
    package func index(among hashes: [[UInt8]]) -> Int? {
        let own = hash
        var found: Int?
        for (index, kept) in hashes.enumerated() where constantTimeEqual(kept, own) { found = index }
        return found
    }
}
