package import Domain

/// Writes JSON text, compact, members in the order in which they are given.
package struct JSONWriter: Sendable {
    /// The text so far, UTF-8.
    package private(set) var bytes: [UInt8] = []

    /// An empty text.
    package init() { bytes.reserveCapacity(256) }

    /// Appends one member; the caller's object must be open.
    package mutating func field(_ name: String, _ value: some JSONWritable) {
        separate()
        append(string: name)
        bytes.append(UInt8(ascii: ":"))
        value.write(to: &self)
    }

    /// Appends one member unless its value is absent.
    package mutating func field(_ name: String, _ value: (some JSONWritable)?) {
        if let value { field(name, value) }
    }

    /// Appends an object whose members the closure writes.
    package mutating func object(_ members: (inout JSONWriter) -> Void) {
        bytes.append(UInt8(ascii: "{"))
        members(&self)
        bytes.append(UInt8(ascii: "}"))
    }

    /// Appends one member whose value is an object that the closure writes.
    package mutating func object(_ name: String, _ members: (inout JSONWriter) -> Void) {
        separate()
        append(string: name)
        bytes.append(UInt8(ascii: ":"))
        object(members)
    }

    /// Appends an array, element by element.
    package mutating func array<Elements: Sequence>(
        _ elements: Elements, _ write: (Elements.Element, inout JSONWriter) -> Void
    ) {
        bytes.append(UInt8(ascii: "["))
        for element in elements {
            separate()
            write(element, &self)
        }
        bytes.append(UInt8(ascii: "]"))
    }

    /// Appends text that is JSON already.
    package mutating func append(raw text: some Sequence<UInt8>) { bytes.append(contentsOf: text) }

    /// Appends a string with the escapes that RFC 8259 asks for.
    package mutating func append(string: String) {
        bytes.append(UInt8(ascii: "\""))
        for byte in string.utf8 {
            switch byte {
            case UInt8(ascii: "\""): append(raw: "\\\"".utf8)
            case UInt8(ascii: "\\"): append(raw: "\\\\".utf8)
            case 0x0A: append(raw: "\\n".utf8)
            case 0x0D: append(raw: "\\r".utf8)
            case 0x09: append(raw: "\\t".utf8)
            case 0..<0x20:
                append(raw: "\\u00".utf8)
                bytes.append(hexadecimalDigits[Int(byte >> 4)])
                bytes.append(hexadecimalDigits[Int(byte & 15)])
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }

    private mutating func separate() {
        switch bytes.last {
        case nil, UInt8(ascii: "{"), UInt8(ascii: "["): break
        default: bytes.append(UInt8(ascii: ","))
        }
    }
}

/// A value that writes itself as one JSON value.
package protocol JSONWritable {
    /// Appends the value.
    func write(to writer: inout JSONWriter)
}

extension JSONWritable {
    /// The value as JSON text.
    package var json: [UInt8] {
        var writer = JSONWriter()
        write(to: &writer)
        return writer.bytes
    }
}

extension String: JSONWritable {
    /// A JSON string.
    package func write(to writer: inout JSONWriter) { writer.append(string: self) }
}

extension Int: JSONWritable {
    /// A JSON integer.
    package func write(to writer: inout JSONWriter) { writer.append(raw: String(self).utf8) }
}

extension Int64: JSONWritable {
    /// A JSON integer.
    package func write(to writer: inout JSONWriter) { writer.append(raw: String(self).utf8) }
}

extension Double: JSONWritable {
    /// A JSON number; what JSON cannot express is `null`.
    package func write(to writer: inout JSONWriter) {
        writer.append(raw: (isFinite ? description : "null").utf8)
    }
}

extension Bool: JSONWritable {
    /// `true` or `false`.
    package func write(to writer: inout JSONWriter) { writer.append(raw: (self ? "true" : "false").utf8) }
}

extension Instant: JSONWritable {
    /// RFC 3339 text.
    package func write(to writer: inout JSONWriter) { writer.append(string: description) }
}

extension ID: JSONWritable {
    /// Canonical UUID text.
    package func write(to writer: inout JSONWriter) { writer.append(string: description) }
}

extension Array: JSONWritable where Element: JSONWritable {
    /// A JSON array.
    package func write(to writer: inout JSONWriter) { writer.array(self) { $0.write(to: &$1) } }
}

extension Dictionary: JSONWritable where Key == String, Value: JSONWritable {
    /// A JSON object, members sorted by name.
    package func write(to writer: inout JSONWriter) {
        let members = sorted { $0.key < $1.key }
        writer.object { writer in
            for (name, value) in members { writer.field(name, value) }
        }
    }
}

extension JSON: JSONWritable {
    /// The value itself.
    package func write(to writer: inout JSONWriter) {
        switch self {
        case .null: writer.append(raw: "null".utf8)
        case .bool(let value): value.write(to: &writer)
        case .integer(let value): value.write(to: &writer)
        case .number(let value): value.write(to: &writer)
        case .string(let value): value.write(to: &writer)
        case .array(let elements): elements.write(to: &writer)
        case .object(let members):
            writer.object { writer in
                for member in members { writer.field(member.name, member.value) }
            }
        }
    }
}
