/// Bytes that cross JSON as base64 (RFC 4648 §4, padded).
package struct Base64Bytes: JSONReadable, JSONWritable, Hashable {
    /// The bytes themselves.
    package let bytes: [UInt8]
    /// Their text, where it was made ahead.
    private let text: [UInt8]?

    /// Bytes to be written as base64.
    package init(_ bytes: [UInt8]) {
        self.bytes = bytes
        text = nil
    }

    /// Bytes to be written many times: their text is made here, once for all copies of this value.
    package static func prepared(_ bytes: [UInt8]) -> Base64Bytes {
        Base64Bytes(bytes, text: Base64.encode(bytes))
    }

    private init(_ bytes: [UInt8], text: [UInt8]) {
        self.bytes = bytes
        self.text = text
    }

    /// The bytes of base64 text; its limit counts bytes, not characters.
    package static func read(_ value: JSONValue, _ limit: FieldLimit) throws(FieldError) -> Base64Bytes {
        guard let bytes = value.string({ Base64.decode($0) }) else {
            throw FieldError(.invalid, "must be base64")
        }
        if let range = limit.range, !range.contains(bytes.count) {
            throw FieldError(
                .invalid, "has \(bytes.count) bytes; allowed are \(range.lowerBound) to \(range.upperBound)")
        }
        return Base64Bytes(bytes)
    }

    /// A base64 string.
    package static func shape(_ limit: FieldLimit) -> Shape {
        .string(format: "byte", allowed: [], limit: .none)
    }

    /// Stands for any bytes.
    package static var placeholder: Base64Bytes { Base64Bytes([]) }

    /// A base64 string.
    package func write(to writer: inout JSONWriter) {
        if let text { writer.append(quoted: text[...]) } else { writer.append(base64: bytes) }
    }

    /// Equal bytes.
    package static func == (left: Base64Bytes, right: Base64Bytes) -> Bool { left.bytes == right.bytes }

    /// By the bytes.
    package func hash(into hasher: inout Hasher) { hasher.combine(bytes) }
}

/// Base64 of RFC 4648 §4, strict: padded, no other characters, zero trailing bits.
package enum Base64 {
    private static let alphabet: InlineArray<64, UInt8> = {
        var alphabet = InlineArray<64, UInt8>(repeating: 0)
        var value = 0
        for character in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8 {
            alphabet[value] = character
            value += 1
        }
        return alphabet
    }()

    /// The six bits of each character; 0xFF for every other byte.
    private static let values: InlineArray<256, UInt8> = {
        var values = InlineArray<256, UInt8>(repeating: 0xFF)
        for value in 0..<64 { values[Int(alphabet[value])] = UInt8(value) }
        return values
    }()

    /// The text of bytes, ASCII.
    package static func encode(_ bytes: [UInt8]) -> [UInt8] {
        var text: [UInt8] = []
        append(bytes, to: &text)
        return text
    }

    /// Appends the text of bytes, ASCII.
    static func append(_ bytes: [UInt8], to text: inout [UInt8]) {
        let source = bytes.span
        text.append(addingCapacity: (source.count + 2) / 3 * 4) { output in
            let whole = source.count / 3 * 3
            var index = 0
            while index < whole {
                let group =
                    UInt32(source[index]) << 16 | UInt32(source[index &+ 1]) << 8 | UInt32(source[index &+ 2])
                output.append(alphabet[Int(group &>> 18)])
                output.append(alphabet[Int(group &>> 12 & 63)])
                output.append(alphabet[Int(group &>> 6 & 63)])
                output.append(alphabet[Int(group & 63)])
                index &+= 3
            }
            guard whole < source.count else { return }
            let hasSecond = whole + 1 < source.count
            let group = UInt32(source[whole]) << 16 | (hasSecond ? UInt32(source[whole + 1]) << 8 : 0)
            output.append(alphabet[Int(group >> 18)])
            output.append(alphabet[Int(group >> 12 & 63)])
            output.append(hasSecond ? alphabet[Int(group >> 6 & 63)] : UInt8(ascii: "="))
            output.append(UInt8(ascii: "="))
        }
    }

    /// The bytes of text; `nil` for anything but strict base64.
    package static func decode(_ string: String) -> [UInt8]? { decode(string.utf8.span) }

    /// The bytes of text in ASCII; `nil` for anything but strict base64.
    package static func decode(_ text: Span<UInt8>) -> [UInt8]? {
        let count = text.count
        guard count % 4 == 0 else { return nil }
        guard count > 0 else { return [] }
        let padding =
            text[count - 1] != UInt8(ascii: "=") ? 0 : text[count - 2] != UInt8(ascii: "=") ? 1 : 2
        // One bit beyond six is set if any character is none of the alphabet; the last group is judged apart.
        var seen: UInt8 = 0
        var last: UInt32 = 0
        let bytes = [UInt8](capacity: count / 4 * 3) { output in
            var index = 0
            while index < count &- 4 {
                let first = values[Int(text[index])]
                let second = values[Int(text[index &+ 1])]
                let third = values[Int(text[index &+ 2])]
                let fourth = values[Int(text[index &+ 3])]
                seen |= first | second | third | fourth
                output.append(first &<< 2 | second &>> 4)
                output.append(second &<< 4 | third &>> 2)
                output.append(third &<< 6 | fourth)
                index &+= 4
            }
            for offset in 0..<4 - padding {
                let value = values[Int(text[index + offset])]
                seen |= value
                last |= UInt32(value) << UInt32(18 - 6 * offset)
            }
            output.append(UInt8(truncatingIfNeeded: last >> 16))
            if padding < 2 { output.append(UInt8(truncatingIfNeeded: last >> 8)) }
            if padding < 1 { output.append(UInt8(truncatingIfNeeded: last)) }
        }
        guard seen < 64, last & (padding == 2 ? 0xFFFF : padding == 1 ? 0xFF : 0) == 0 else { return nil }
        return bytes
    }
}
