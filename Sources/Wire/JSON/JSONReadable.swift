package import Domain

extension String: JSONReadable {
    /// A string within its limit in bytes of UTF-8, without NUL.
    package static func read(_ json: JSON, _ limit: FieldLimit, field: String) throws(FieldError) -> String {
        guard case .string(let text) = json else {
            throw FieldError(.wrongType, field: field, "must be a string, not \(json.kind)")
        }
        if let range = limit.range, !range.contains(text.utf8.count) {
            throw FieldError(
                .invalid, field: field,
                text.isEmpty
                    ? "must not be empty"
                    : "has \(text.utf8.count) bytes; allowed are \(range.lowerBound) to \(range.upperBound)")
        }
        guard !text.utf8.contains(0) else {
            throw FieldError(.invalid, field: field, "must not contain a NUL character")
        }
        return text
    }

    /// A string.
    package static func shape(_ limit: FieldLimit) -> Shape {
        .string(format: nil, allowed: [], limit: limit)
    }

    /// Stands for any string.
    package static var placeholder: String { "" }
}

extension Int: JSONReadable {
    /// An integer within its limit.
    package static func read(_ json: JSON, _ limit: FieldLimit, field: String) throws(FieldError) -> Int {
        guard case .integer(let number) = json else {
            throw FieldError(.wrongType, field: field, "must be an integer, not \(json.kind)")
        }
        if let range = limit.range, !range.contains(Int(number)) {
            throw FieldError(
                .invalid, field: field, "is \(number); allowed are \(range.lowerBound) to \(range.upperBound)"
            )
        }
        return Int(number)
    }

    /// An integer.
    package static func shape(_ limit: FieldLimit) -> Shape { .integer(limit: limit) }

    /// Stands for any integer.
    package static var placeholder: Int { 0 }
}

extension Double: JSONReadable {
    /// A number.
    package static func read(_ json: JSON, _ limit: FieldLimit, field: String) throws(FieldError) -> Double {
        switch json {
        case .integer(let number): return Double(number)
        case .number(let number): return number
        default: throw FieldError(.wrongType, field: field, "must be a number, not \(json.kind)")
        }
    }

    /// A number.
    package static func shape(_ limit: FieldLimit) -> Shape { .number }

    /// Stands for any number.
    package static var placeholder: Double { 0 }
}

extension Bool: JSONReadable {
    /// A boolean.
    package static func read(_ json: JSON, _ limit: FieldLimit, field: String) throws(FieldError) -> Bool {
        guard case .bool(let value) = json else {
            throw FieldError(.wrongType, field: field, "must be a boolean, not \(json.kind)")
        }
        return value
    }

    /// A boolean.
    package static func shape(_ limit: FieldLimit) -> Shape { .boolean }

    /// Stands for any boolean.
    package static var placeholder: Bool { false }
}

extension Instant: JSONReadable {
    /// RFC 3339 text.
    package static func read(_ json: JSON, _ limit: FieldLimit, field: String) throws(FieldError) -> Instant {
        let text = try String.read(json, .in(1...40), field: field)
        guard let instant = Instant(text) else {
            throw FieldError(
                .invalid, field: field, "must be a time of RFC 3339, such as 2026-03-01T12:00:00Z")
        }
        return instant
    }

    /// A time.
    package static func shape(_ limit: FieldLimit) -> Shape {
        .string(format: "date-time", allowed: [], limit: .none)
    }

    /// Stands for any time.
    package static var placeholder: Instant { Instant(microseconds: 0) }
}

extension ID: JSONReadable {
    /// Canonical UUID text.
    package static func read(_ json: JSON, _ limit: FieldLimit, field: String) throws(FieldError) -> ID {
        guard case .string(let text) = json, let id = ID(text) else {
            throw FieldError(.invalid, field: field, "must be an id, a UUID in its canonical form")
        }
        return id
    }

    /// A UUID.
    package static func shape(_ limit: FieldLimit) -> Shape {
        .string(format: "uuid", allowed: [], limit: .none)
    }

    /// Stands for any id.
    package static var placeholder: ID { ID(.zero) }
}

extension Array: JSONReadable where Element: JSONReadable {
    /// An array whose count lies within its limit.
    package static func read(_ json: JSON, _ limit: FieldLimit, field: String) throws(FieldError) -> [Element]
    {
        guard case .array(let elements) = json else {
            throw FieldError(.wrongType, field: field, "must be an array, not \(json.kind)")
        }
        if let range = limit.range, !range.contains(elements.count) {
            throw FieldError(
                .invalid, field: field,
                elements.isEmpty
                    ? "must not be empty"
                    : "has \(elements.count) elements; allowed are \(range.lowerBound) to \(range.upperBound)"
            )
        }
        var values: [Element] = []
        values.reserveCapacity(elements.count)
        for (index, element) in elements.enumerated() {
            values.append(try Element.read(element, limit.ofElements, field: "\(field)[\(index)]"))
        }
        return values
    }

    /// An array.
    package static func shape(_ limit: FieldLimit) -> Shape {
        .array(Element.shape(limit.ofElements), limit: limit)
    }

    /// Stands for any array.
    package static var placeholder: [Element] { [] }
}

extension Dictionary: JSONReadable where Key == String, Value: JSONReadable {
    /// An object of any names; its limit is the count, that of its elements each value's.
    package static func read(_ json: JSON, _ limit: FieldLimit, field: String) throws(FieldError) -> [String:
        Value]
    {
        guard case .object(let members) = json else {
            throw FieldError(.wrongType, field: field, "must be an object, not \(json.kind)")
        }
        if let range = limit.range, !range.contains(members.count) {
            throw FieldError(
                .invalid, field: field,
                "has \(members.count) members; allowed are \(range.lowerBound) to \(range.upperBound)")
        }
        var values: [String: Value] = [:]
        for member in members {
            values[member.name] = try Value.read(
                member.value, limit.ofElements, field: "\(field).\(printable(member.name))")
        }
        return values
    }

    /// An object of any names.
    package static func shape(_ limit: FieldLimit) -> Shape { .map(Value.shape(limit.ofElements)) }

    /// Stands for any object.
    package static var placeholder: [String: Value] { [:] }
}

extension JSON: JSONReadable {
    /// Any value.
    package static func read(_ json: JSON, _ limit: FieldLimit, field: String) throws(FieldError) -> JSON {
        json
    }

    /// Anything.
    package static func shape(_ limit: FieldLimit) -> Shape { .any }

    /// Stands for any value.
    package static var placeholder: JSON { .null }
}

/// A closed set of words on the wire.
package protocol WireWord: JSONReadable, JSONWritable, CaseIterable, Equatable {
    /// The word of this value.
    var word: String { get }
    /// What another word of the contract that is not built yet gets.
    static var notSupportedYet: Set<String> { get }
}

extension WireWord {
    /// None by default.
    package static var notSupportedYet: Set<String> { [] }

    /// The value of a word.
    package static func read(_ json: JSON, _ limit: FieldLimit, field: String) throws(FieldError) -> Self {
        let text = try String.read(json, .none, field: field)
        if let value = allCases.first(where: { $0.word == text }) { return value }
        if notSupportedYet.contains(text) {
            throw FieldError(.notSupported, field: field, "\(text) is not supported yet")
        }
        let allowed = allCases.map(\.word).joined(separator: ", ")
        throw FieldError(.invalid, field: field, "is \"\(printable(text))\"; allowed are: \(allowed)")
    }

    /// One of the words.
    package static func shape(_ limit: FieldLimit) -> Shape {
        .string(format: nil, allowed: allCases.map(\.word), limit: .none)
    }

    /// The first of the words.
    package static var placeholder: Self {
        guard let first = allCases.first else { preconditionFailure("\(Self.self) has no words") }
        return first
    }

    /// The word as a string.
    package func write(to writer: inout JSONWriter) { writer.append(string: word) }
}

extension RunState: WireWord {
    /// Its name.
    package var word: String { name }
}

extension Outcome: WireWord {
    /// Its name.
    package var word: String { name }
}

extension JobState: WireWord {
    /// Its name.
    package var word: String { name }
}

extension Priority: WireWord {
    /// Its name.
    package var word: String { name }
}

extension JobKind: WireWord {
    /// Its raw value.
    package var word: String { rawValue }
}

extension Interpreter: WireWord {
    /// Its raw value.
    package var word: String { rawValue }
}

/// Bytes that cross JSON as base64 (RFC 4648 §4, padded).
package struct Base64Bytes: JSONReadable, JSONWritable, Hashable {
    /// The bytes themselves.
    package let bytes: [UInt8]

    /// Bytes to be written as base64.
    package init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// The bytes of base64 text; its limit counts bytes, not characters.
    package static func read(_ json: JSON, _ limit: FieldLimit, field: String) throws(FieldError)
        -> Base64Bytes
    {
        guard case .string(let text) = json, let bytes = Base64.decode(text) else {
            throw FieldError(.invalid, field: field, "must be base64")
        }
        if let range = limit.range, !range.contains(bytes.count) {
            throw FieldError(
                .invalid, field: field,
                "has \(bytes.count) bytes; allowed are \(range.lowerBound) to \(range.upperBound)")
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
        writer.append(raw: "\"".utf8)
        writer.append(raw: Base64.encode(bytes))
        writer.append(raw: "\"".utf8)
    }
}

/// Base64 of RFC 4648 §4, strict: padded, no other characters, zero trailing bits.
package enum Base64 {
    private static let alphabet = Array(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    private static let values: [UInt8] = {
        var values = [UInt8](repeating: 0xFF, count: 256)
        for (value, character) in alphabet.enumerated() { values[Int(character)] = UInt8(value) }
        return values
    }()

    /// The text of bytes, ASCII.
    package static func encode(_ bytes: [UInt8]) -> [UInt8] {
        var text: [UInt8] = []
        text.reserveCapacity((bytes.count + 2) / 3 * 4)
        var index = 0
        while index < bytes.count {
            let count = min(3, bytes.count - index)
            let group =
                UInt32(bytes[index]) << 16 | (count > 1 ? UInt32(bytes[index + 1]) << 8 : 0)
                | (count > 2 ? UInt32(bytes[index + 2]) : 0)
            text.append(alphabet[Int(group >> 18)])
            text.append(alphabet[Int(group >> 12 & 63)])
            text.append(count > 1 ? alphabet[Int(group >> 6 & 63)] : UInt8(ascii: "="))
            text.append(count > 2 ? alphabet[Int(group & 63)] : UInt8(ascii: "="))
            index += 3
        }
        return text
    }

    /// The bytes of text; `nil` for anything but strict base64.
    package static func decode(_ string: String) -> [UInt8]? {
        let text = Array(string.utf8)
        guard text.count % 4 == 0 else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count / 4 * 3)
        var index = 0
        while index < text.count {
            let padding =
                index + 4 == text.count
                ? (text[index + 3] == UInt8(ascii: "=") ? (text[index + 2] == UInt8(ascii: "=") ? 2 : 1) : 0)
                : 0
            var group: UInt32 = 0
            for offset in 0..<4 - padding {
                let value = values[Int(text[index + offset])]
                guard value != 0xFF else { return nil }
                group |= UInt32(value) << UInt32(18 - 6 * offset)
            }
            bytes.append(UInt8(group >> 16))
            if padding < 2 { bytes.append(UInt8(group >> 8 & 0xFF)) }
            if padding < 1 { bytes.append(UInt8(group & 0xFF)) }
            if padding == 2, group & 0xFFFF != 0 { return nil }
            if padding == 1, group & 0xFF != 0 { return nil }
            index += 4
        }
        return bytes
    }
}
