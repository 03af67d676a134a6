/// A value in PostgreSQL's binary format while it is written: big-endian numbers, UTF-8 text, raw bytes.
package struct PostgresBytes: Sendable {
    private(set) var bytes: [UInt8] = []

    init() {}

    /// Appends a number in network byte order.
    package mutating func append<Number: FixedWidthInteger>(integer: Number) {
        for shift in stride(from: Number.bitWidth - 8, through: 0, by: -8) {
            bytes.append(UInt8(truncatingIfNeeded: integer >> Number(shift)))
        }
    }

    /// Appends text as UTF-8.
    package mutating func append(_ text: String) { bytes.append(contentsOf: text.utf8) }

    /// Appends bytes as they are.
    package mutating func append(_ raw: some Sequence<UInt8>) { bytes.append(contentsOf: raw) }

    /// Appends an array's element: its length, then its value; −1 alone for NULL.
    mutating func append<Value: PostgresEncodable>(element: Value?) {
        guard let element else { return append(integer: Int32(-1)) }
        let start = bytes.count
        append(integer: Int32(0))
        element.encode(into: &self)
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

    /// One dimension, or none if there are no elements: dimensions, NULL flag, element type, then per
    /// dimension its size and lower bound, then the elements (array_recv in the server's source).
    init<Value: PostgresEncodable>(elements: [Value?]?) {
        type = Value.postgresArrayType
        bytes = elements.map { elements in
            var encoded = PostgresBytes()
            encoded.append(integer: Int32(elements.isEmpty ? 0 : 1))
            encoded.append(integer: Int32(elements.contains { $0 == nil } ? 1 : 0))
            encoded.append(integer: Value.postgresType.rawValue)
            guard !elements.isEmpty else { return encoded.bytes }
            encoded.append(integer: Int32(elements.count))
            encoded.append(integer: Int32(1))
            for element in elements { encoded.append(element: element) }
            return encoded.bytes
        }
    }
}
