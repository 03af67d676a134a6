/// Where in the claims of a token something stands: names from the outside in, with dots between them.
///
/// A dot or backslash that belongs to a name is written behind a backslash: `https://example\.com/role`. One
/// to eight names, of 1 to 128 bytes each.
package struct ClaimPath: Sendable, Hashable, CustomStringConvertible {
    /// The names from the outside in.
    package let names: [String]
    /// The path as it was written.
    package let description: String

    /// Reads a path; throws `malformed` for an empty name, an escape of anything else, or too much.
    package init(_ text: String) throws(TrustError) {
        var names: [[UInt8]] = [[]]
        var isEscaped = false
        for byte in text.utf8 {
            let isSpecial = byte == UInt8(ascii: ".") || byte == UInt8(ascii: "\\")
            if isEscaped {
                guard isSpecial else { throw Self.malformed }
                names[names.count - 1].append(byte)
                isEscaped = false
            } else if byte == UInt8(ascii: "\\") {
                isEscaped = true
            } else if byte == UInt8(ascii: ".") {
                names.append([])
            } else {
                names[names.count - 1].append(byte)
            }
        }
        guard !isEscaped, names.count <= 8, names.allSatisfy({ (1...128).contains($0.count) }) else {
            throw Self.malformed
        }
        self.names = names.map { String(decoding: $0, as: UTF8.self) }
        description = text
    }

    private static var malformed: TrustError {
        TrustError(.malformed, "a path has one to eight names of 1 to 128 bytes with dots between them")
    }
}
