package import Domain

/// Writes JSON text, compact, members in the order in which they are given.
package struct JSONWriter: Sendable {
    /// The text so far, UTF-8.
    package private(set) var bytes: [UInt8] = []

    /// An empty text.
    package init() { bytes.reserveCapacity(256) }

    /// Appends one member; the caller's object must be open.
    package mutating func field(_ name: String, _ value: some JSONWritable) {
        open(member: name)
        value.write(to: &self)
    }

    /// Appends one member unless its value is absent.
    package mutating func field(_ name: String, _ value: (some JSONWritable)?) {
        if let value { field(name, value) }
    }

    private mutating func open(member name: String) {
        separate()
        append(string: name)
        bytes.append(UInt8(ascii: ":"))
    }

    /// Appends one member whose name stands in a text.
    mutating func member(_ name: JSONValue, _ value: JSONValue) {
        separate()
        name.write(to: &self)
        bytes.append(UInt8(ascii: ":"))
        value.write(to: &self)
    }

    /// Appends an object whose members the closure writes.
    package mutating func object(_ members: (inout JSONWriter) -> Void) {
        bytes.append(UInt8(ascii: "{"))
        members(&self)
        bytes.append(UInt8(ascii: "}"))
    }

    /// Appends one member whose value is an object that the closure writes.
    package mutating func object(_ name: String, _ members: (inout JSONWriter) -> Void) {
        open(member: name)
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
        let text = string.utf8.span
        var escapes = 0
        for index in text.indices where Self.needsEscape(text[index]) { escapes &+= 1 }
        if escapes == 0 {
            bytes.append(contentsOf: string.utf8)
        } else {
            append(escaping: text, escapes: escapes)
        }
        bytes.append(UInt8(ascii: "\""))
    }

    /// Appends a string of characters none of which needs an escape.
    mutating func append(quoted text: ArraySlice<UInt8>) {
        bytes.append(UInt8(ascii: "\""))
        bytes.append(contentsOf: text)
        bytes.append(UInt8(ascii: "\""))
    }

    /// Appends a string that holds bytes as base64.
    mutating func append(base64 source: [UInt8]) {
        bytes.append(UInt8(ascii: "\""))
        Base64.append(source, to: &bytes)
        bytes.append(UInt8(ascii: "\""))
    }

    /// Appends a string that holds an identifier.
    mutating func append(id: UniqueID) {
        bytes.append(UInt8(ascii: "\""))
        id.appendText(to: &bytes)
        bytes.append(UInt8(ascii: "\""))
    }

    /// Appends a string that holds a time.
    mutating func append(time: Instant) {
        bytes.append(UInt8(ascii: "\""))
        time.appendText(to: &bytes)
        bytes.append(UInt8(ascii: "\""))
    }

    /// Appends an integer.
    mutating func append(integer: Int64) {
        if integer < 0 { bytes.append(UInt8(ascii: "-")) }
        var rest = integer.magnitude
        guard rest > 9 else { return bytes.append(UInt8(ascii: "0") + UInt8(rest)) }
        var digits = InlineArray<20, UInt8>(repeating: 0)
        var first = 20
        while rest > 0 {
            let (quotient, digit) = rest.quotientAndRemainder(dividingBy: 10)
            first -= 1
            digits[first] = UInt8(ascii: "0") + UInt8(digit)
            rest = quotient
        }
        for index in first..<20 { bytes.append(digits[index]) }
    }

    @inline(__always)
    private static func needsEscape(_ byte: UInt8) -> Bool {
        byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\")
    }

    private mutating func append(escaping text: Span<UInt8>, escapes: Int) {
        // The longest escape, of a control character, has six bytes.
        bytes.append(addingCapacity: text.count + 5 * escapes) { output in
            for index in text.indices {
                let byte = text[index]
                guard Self.needsEscape(byte) else {
                    output.append(byte)
                    continue
                }
                output.append(UInt8(ascii: "\\"))
                switch byte {
                case 0x0A: output.append(UInt8(ascii: "n"))
                case 0x0D: output.append(UInt8(ascii: "r"))
                case 0x09: output.append(UInt8(ascii: "t"))
                case 0..<0x20:
                    for byte in "u00".utf8 { output.append(byte) }
                    output.append(hexadecimalDigits[Int(byte >> 4)])
                    output.append(hexadecimalDigits[Int(byte & 15)])
                default: output.append(byte)
                }
            }
        }
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
    package func write(to writer: inout JSONWriter) { writer.append(integer: Int64(self)) }
}

extension Int64: JSONWritable {
    /// A JSON integer.
    package func write(to writer: inout JSONWriter) { writer.append(integer: Int64(self)) }
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
    package func write(to writer: inout JSONWriter) { writer.append(time: self) }
}

extension ID: JSONWritable {
    /// Canonical UUID text.
    package func write(to writer: inout JSONWriter) { writer.append(id: value) }
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
