import Domain

/// A parsed JSON value (RFC 8259). Members keep their order; a duplicate member is refused while parsing.
package indirect enum JSON: Sendable, Equatable {
    case null
    case bool(Bool)
    /// A number without fraction and exponent that fits 64 bits.
    case integer(Int64)
    case number(Double)
    case string(String)
    case array([JSON])
    case object([JSONMember])

    /// The word for the kind of value, as error messages name it.
    package var kind: String {
        switch self {
        case .null: "null"
        case .bool: "a boolean"
        case .integer: "an integer"
        case .number: "a number"
        case .string: "a string"
        case .array: "an array"
        case .object: "an object"
        }
    }

    /// The member of an object by name; `nil` for other values and absent members.
    package subscript(name: String) -> JSON? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.name == name }?.value
    }
}

/// One name and value of an object.
package struct JSONMember: Sendable, Equatable {
    /// The member's name.
    package let name: String
    /// The member's value.
    package let value: JSON

    /// A member of an object.
    package init(name: String, value: JSON) {
        self.name = name
        self.value = value
    }
}

/// Why bytes are not JSON, or not within the limits of this reader.
package struct JSONSyntaxError: Error, Equatable, CustomStringConvertible {
    /// What is wrong, as a sentence without its end.
    package let message: String
    /// Where, in bytes from the start.
    package let offset: Int

    /// The message with its place.
    package var description: String { "\(message) at byte \(offset)" }
}

extension JSON {
    /// Parses one value that takes up all the bytes.
    ///
    /// Refuses what RFC 8259 refuses, and also invalid UTF-8, lone surrogates, duplicate members, and nesting
    /// deeper than `depthMax`.
    package static func parse(_ bytes: [UInt8], depthMax: Int = 32) throws(JSONSyntaxError) -> JSON {
        var parser = JSONParser(bytes: bytes, depthMax: depthMax)
        return try parser.parseAll()
    }
}

private struct JSONParser {
    let bytes: [UInt8]
    let depthMax: Int
    var position = 0

    init(bytes: [UInt8], depthMax: Int) {
        self.bytes = bytes
        self.depthMax = depthMax
    }

    mutating func parseAll() throws(JSONSyntaxError) -> JSON {
        let value = try parseValue(depth: 0)
        skipSpace()
        guard position == bytes.count else { throw failure("something follows the value") }
        return value
    }

    func failure(_ message: String) -> JSONSyntaxError { JSONSyntaxError(message: message, offset: position) }

    mutating func skipSpace() {
        while position < bytes.count {
            switch bytes[position] {
            case 0x20, 0x09, 0x0A, 0x0D: position += 1
            default: return
            }
        }
    }

    mutating func parseValue(depth: Int) throws(JSONSyntaxError) -> JSON {
        guard depth <= depthMax else { throw failure("values nest deeper than \(depthMax)") }
        skipSpace()
        guard position < bytes.count else { throw failure("a value is missing") }
        switch bytes[position] {
        case UInt8(ascii: "{"): return try parseObject(depth: depth)
        case UInt8(ascii: "["): return try parseArray(depth: depth)
        case UInt8(ascii: "\""): return .string(try parseString())
        case UInt8(ascii: "t"): return try parseWord("true", .bool(true))
        case UInt8(ascii: "f"): return try parseWord("false", .bool(false))
        case UInt8(ascii: "n"): return try parseWord("null", .null)
        default: return try parseNumber()
        }
    }

    mutating func parseWord(_ word: String, _ value: JSON) throws(JSONSyntaxError) -> JSON {
        let end = position + word.utf8.count
        guard end <= bytes.count, bytes[position..<end].elementsEqual(word.utf8) else {
            throw failure("a value is not JSON")
        }
        position = end
        return value
    }

    mutating func parseObject(depth: Int) throws(JSONSyntaxError) -> JSON {
        position += 1
        var members: [JSONMember] = []
        // Few names are compared one by one; a set costs more than it saves until there are many.
        var names: Set<String> = []
        skipSpace()
        if take(UInt8(ascii: "}")) { return .object([]) }
        while true {
            skipSpace()
            guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") else {
                throw failure("a member's name is missing")
            }
            let name = try parseString()
            if members.count == 16 { names = Set(members.map(\.name)) }
            let isNew =
                members.count < 16 ? !members.contains { $0.name == name } : names.insert(name).inserted
            guard isNew else { throw failure("a member stands twice") }
            skipSpace()
            guard take(UInt8(ascii: ":")) else { throw failure("a colon is missing") }
            members.append(JSONMember(name: name, value: try parseValue(depth: depth + 1)))
            skipSpace()
            if take(UInt8(ascii: ",")) { continue }
            guard take(UInt8(ascii: "}")) else { throw failure("an object is not closed") }
            return .object(members)
        }
    }

    mutating func parseArray(depth: Int) throws(JSONSyntaxError) -> JSON {
        position += 1
        var elements: [JSON] = []
        skipSpace()
        if take(UInt8(ascii: "]")) { return .array([]) }
        while true {
            elements.append(try parseValue(depth: depth + 1))
            skipSpace()
            if take(UInt8(ascii: ",")) { continue }
            guard take(UInt8(ascii: "]")) else { throw failure("an array is not closed") }
            return .array(elements)
        }
    }

    mutating func take(_ byte: UInt8) -> Bool {
        guard position < bytes.count, bytes[position] == byte else { return false }
        position += 1
        return true
    }

    mutating func parseString() throws(JSONSyntaxError) -> String {
        position += 1
        let start = position
        while position < bytes.count, bytes[position] != UInt8(ascii: "\""),
            bytes[position] != UInt8(ascii: "\\")
        {
            guard bytes[position] >= 0x20 else { throw failure("a control character stands in a string") }
            position += 1
        }
        guard position < bytes.count else { throw failure("a string is not closed") }
        var text = Array(bytes[start..<position])
        while bytes[position] != UInt8(ascii: "\"") {
            if bytes[position] == UInt8(ascii: "\\") {
                try parseEscape(into: &text)
            } else {
                guard bytes[position] >= 0x20 else { throw failure("a control character stands in a string") }
                text.append(bytes[position])
                position += 1
            }
            guard position < bytes.count else { throw failure("a string is not closed") }
        }
        position += 1
        guard let string = String(validating: text, as: UTF8.self) else {
            throw failure("a string is not UTF-8")
        }
        return string
    }

    mutating func parseEscape(into text: inout [UInt8]) throws(JSONSyntaxError) {
        position += 1
        guard position < bytes.count else { throw failure("a string is not closed") }
        let escape = bytes[position]
        position += 1
        switch escape {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(escape)
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0C)
        case UInt8(ascii: "n"): text.append(0x0A)
        case UInt8(ascii: "r"): text.append(0x0D)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "u"):
            var unit = try parseCodeUnit()
            if (0xD800..<0xDC00).contains(unit) {
                guard take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")) else {
                    throw failure("a surrogate stands alone")
                }
                let low = try parseCodeUnit()
                guard (0xDC00..<0xE000).contains(low) else { throw failure("a surrogate stands alone") }
                unit = 0x10000 + (unit - 0xD800) << 10 + (low - 0xDC00)
            }
            guard let scalar = Unicode.Scalar(unit) else { throw failure("a surrogate stands alone") }
            text.append(contentsOf: UTF8.encode(scalar)!)
        default: throw failure("an escape is not known")
        }
    }

    mutating func parseCodeUnit() throws(JSONSyntaxError) -> UInt32 {
        guard position + 4 <= bytes.count else { throw failure("a string is not closed") }
        var unit: UInt32 = 0
        for byte in bytes[position..<position + 4] {
            guard let digit = hexadecimalValue(byte) else { throw failure("an escape is not hexadecimal") }
            unit = unit << 4 | UInt32(digit)
        }
        position += 4
        return unit
    }

    mutating func parseNumber() throws(JSONSyntaxError) -> JSON {
        let start = position
        _ = take(UInt8(ascii: "-"))
        let firstDigit = position
        guard skipDigits() > 0 else { throw failure("a value is not JSON") }
        guard bytes[firstDigit] != UInt8(ascii: "0") || position == firstDigit + 1 else {
            throw failure("a number begins with zero")
        }
        var isInteger = true
        if take(UInt8(ascii: ".")) {
            isInteger = false
            guard skipDigits() > 0 else { throw failure("a number ends at its point") }
        }
        if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
            isInteger = false
            _ = take(UInt8(ascii: "+")) || take(UInt8(ascii: "-"))
            guard skipDigits() > 0 else { throw failure("a number ends at its exponent") }
        }
        guard position - start <= 64 else { throw failure("a number has more than 64 characters") }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        if isInteger, let integer = Int64(text) { return .integer(integer) }
        guard let number = Double(text), number.isFinite else { throw failure("a number is out of range") }
        return .number(number)
    }

    mutating func skipDigits() -> Int {
        let start = position
        while position < bytes.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[position]) {
            position += 1
        }
        return position - start
    }
}
