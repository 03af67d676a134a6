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
    /// How deep values nest at most.
    package static let depthMax = 32

    /// Parses one value that takes up all the bytes.
    ///
    /// Refuses what RFC 8259 refuses, and also invalid UTF-8, lone surrogates, duplicate members, nesting
    /// deeper than `depthMax`, and more values and names than `valuesMax`.
    package static func parse(
        _ bytes: [UInt8], depthMax: Int = JSON.depthMax, valuesMax: Int = Limits.bodyValuesMax
    ) throws(JSONSyntaxError) -> JSON {
        JSON(try JSONText(scanning: bytes, depthMax: depthMax, valuesMax: valuesMax).root)
    }

    /// The tree of a scanned value.
    package init(_ value: JSONValue) {
        switch value.mark.kind {
        case .null: self = .null
        case .false: self = .bool(false)
        case .true: self = .bool(true)
        case .integer: self = .integer(value.integer ?? 0)
        case .number: self = .number(value.number ?? 0)
        case .plain, .unescaped, .escaped: self = .string(value.text.string(at: value.index))
        case .array: self = .array(JSONChildren(of: value).map(JSON.init))
        case .object:
            self = .object(
                JSONChildren(of: value).map { name in
                    JSONMember(name: name.text.string(at: name.index), value: JSON(name.afterName))
                })
        }
    }
}
