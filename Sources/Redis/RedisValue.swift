/// A reply of the server (RESP 2).
package enum RedisValue: Sendable, Equatable {
    case null
    case integer(Int64)
    case string([UInt8])
    case status(String)
    case error(String)
    case array([RedisValue])

    /// The integer, or the one that a string spells in decimal digits.
    package var int: Int? {
        if case .integer(let value) = self { return Int(value) }
        return text.flatMap { Int($0) }
    }

    /// The number, or the one that a string spells (Redis answers scores as strings).
    package var double: Double? {
        if case .integer(let value) = self { return Double(value) }
        return text.flatMap { Double($0) }
    }

    /// The text of a string or a status; nil for any other reply and for bytes that are not UTF-8.
    package var text: String? {
        switch self {
        case .string(let bytes): String(validating: bytes, as: UTF8.self)
        case .status(let text): text
        case .null, .integer, .error, .array: nil
        }
    }

    /// The elements of an array; an error inside it stays a value.
    package var array: [RedisValue]? {
        if case .array(let elements) = self { elements } else { nil }
    }

    /// The value, or the error that it stands for.
    var result: Result<RedisValue, RedisError> {
        if case .error(let text) = self { .failure(RedisError(reply: text)) } else { .success(self) }
    }
}
