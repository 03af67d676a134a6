/// A value in PostgreSQL's binary format while it is written: big-endian numbers, UTF-8 text, raw bytes.
package struct PostgresBytes: Sendable {
    private(set) var bytes: [UInt8] = []

    init() {}

    /// Appends a number in network byte order.
    package mutating func append<Number: FixedWidthInteger>(integer: Number) {
        append(UInt64(truncatingIfNeeded: integer), width: Number.bitWidth / 8)
    }

    mutating func append(_ number: UInt64, width: Int) {
        var shift = UInt64(8 * width)
        while shift > 0 {
            shift -= 8
            bytes.append(UInt8(truncatingIfNeeded: number >> shift))
        }
    }

    /// Appends text as UTF-8.
    package mutating func append(_ text: String) { bytes.append(contentsOf: text.utf8) }

    /// Appends bytes as they are.
    package mutating func append(_ raw: [UInt8]) { bytes.append(contentsOf: raw) }

    /// Appends an array's element: its length, then its value; −1 alone for NULL.
    mutating func append<Value: PostgresEncodable>(element: Value?) {
        guard let element else { return append(integer: Int32(-1)) }
        append(present: element)
    }

    /// Appends an array's element that is not NULL: without an optional, whose type the runtime looks up.
    mutating func append<Value: PostgresEncodable>(present element: Value) {
        let start = bytes.count
        append(integer: Int32(0))
        element.encode(into: &self)
        close(elementAt: start)
    }

    /// Writes the length of the element whose value ends here.
    mutating func close(elementAt start: Int) {
        let length = UInt32(bytes.count - start - 4)
        for index in 0..<4 {
            bytes[start + index] = UInt8(truncatingIfNeeded: length >> UInt32(24 - 8 * index))
        }
    }
}

/// A value that can be a statement's parameter.
package protocol PostgresEncodable: Sendable {
    /// The parameter's type.
    static var postgresType: PostgresType { get }
    /// The type of an array of such values.
    static var postgresArrayType: PostgresType { get }
    /// Writes the value in the type's binary format.
    func encode(into bytes: inout PostgresBytes)
}

/// A parameter ready to be sent; no bytes is NULL.
struct PostgresBind: Sendable {
    let type: PostgresType
    let bytes: [UInt8]?

    init<Value: PostgresEncodable>(_ value: Value?) {
        type = Value.postgresType
        bytes = value.map { value in
            var encoded = PostgresBytes()
            value.encode(into: &encoded)
            return encoded.bytes
        }
    }

    /// An array without NULLs.
    init<Value: PostgresEncodable>(elements: [Value]) {
        type = Value.postgresArrayType
        var encoded = Self.header(count: elements.count, hasNulls: false, of: Value.postgresType)
        for element in elements { encoded.append(present: element) }
        bytes = encoded.bytes
    }

    /// An array whose elements may be NULL, as may be the whole.
    init<Value: PostgresEncodable>(elements: [Value?]?) {
        type = Value.postgresArrayType
        guard let elements else {
            bytes = nil
            return
        }
        var encoded = Self.header(
            count: elements.count, hasNulls: elements.contains { $0 == nil }, of: Value.postgresType)
        for element in elements { encoded.append(element: element) }
        bytes = encoded.bytes
    }

    /// One dimension, or none if there are no elements: dimensions, NULL flag, element type, then per
    /// dimension its size and lower bound, before the elements (array_recv in the server's source).
    static func header(count: Int, hasNulls: Bool, of type: PostgresType) -> PostgresBytes {
        var encoded = PostgresBytes()
        encoded.append(integer: Int32(count == 0 ? 0 : 1))
        encoded.append(integer: Int32(hasNulls ? 1 : 0))
        encoded.append(integer: type.rawValue)
        guard count > 0 else { return encoded }
        encoded.append(integer: Int32(count))
        encoded.append(integer: Int32(1))
        return encoded
    }
}
