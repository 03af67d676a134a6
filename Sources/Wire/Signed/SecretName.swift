/// What a secret is called: a lower-case letter, then lower-case letters, digits and underscores, 64 at the
/// most.
package struct SecretName: JSONReadable, JSONWritable, Hashable, Sendable, CustomStringConvertible {
    /// The name.
    package let text: String

    /// The name of text; `nil` for anything else.
    package init?(_ text: String) {
        guard Limits.secretNameBytes.contains(text.utf8.count), let first = text.utf8.first,
            Self.isLetter(first),
            text.utf8.allSatisfy({ byte in
                Self.isLetter(byte) || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte
                    || byte == UInt8(ascii: "_")
            })
        else { return nil }
        self.text = text
    }

    private init(unchecked text: String) { self.text = text }

    /// A name.
    package static func read(_ value: JSONValue, _ limit: FieldLimit) throws(FieldError) -> SecretName {
        guard let name = SecretName(try String.read(value, .in(Limits.secretNameBytes))) else {
            throw FieldError(
                .invalid, "must be a lower-case letter, then lower-case letters, digits and underscores")
        }
        return name
    }

    /// A name.
    package static func shape(_ limit: FieldLimit) -> Shape {
        .string(format: nil, allowed: [], limit: .in(Limits.secretNameBytes))
    }

    /// Stands for any name.
    package static var placeholder: SecretName { SecretName(unchecked: "a") }

    /// Appends the name.
    package func write(to writer: inout JSONWriter) { text.write(to: &writer) }

    /// The name.
    package var description: String { text }

    private static func isLetter(_ byte: UInt8) -> Bool { UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte }
}
