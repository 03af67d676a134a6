/// One value of a row as it came: the column's name and type, and the bytes in binary format, none for NULL.
package struct PostgresCell: Sendable {
    /// The column's name in the result.
    package let column: String
    /// The value's type; in an array, the element's.
    package let type: PostgresType
    /// The value in binary format, nil for NULL.
    package let bytes: ArraySlice<UInt8>?

    /// The bytes of a value that must not be NULL; throws an error that names column and Swift type.
    package func bytes(for swiftType: Any.Type) throws(PostgresError) -> ArraySlice<UInt8> {
        if let bytes { return bytes }
        throw PostgresError(.decoding, "column \"\(column)\" is NULL (\(type)), expected \(swiftType)")
    }

    /// The error for a value of another type than the Swift type takes.
    package func mismatch(_ swiftType: Any.Type) -> PostgresError {
        PostgresError(.decoding, "column \"\(column)\" is \(type), expected \(swiftType)")
    }

    /// The error for bytes that are no value of their type, or none that the Swift type can hold.
    package func malformed(_ swiftType: Any.Type, _ reason: String) -> PostgresError {
        PostgresError(.decoding, "column \"\(column)\" (\(type)) is no \(swiftType): \(reason)")
    }

    /// The two halves of a uuid, most significant first.
    package func uuid(for swiftType: Any.Type) throws -> (high: UInt64, low: UInt64) {
        guard type == .uuid else { throw mismatch(swiftType) }
        let bytes = try bytes(for: swiftType)
        guard bytes.count == 16 else { throw malformed(swiftType, "a uuid has 16 bytes, not \(bytes.count)") }
        return unsafe bytes.withUnsafeBytes { raw in
            unsafe (
                UInt64(bigEndian: raw.loadUnaligned(as: UInt64.self)),
                UInt64(bigEndian: raw.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
            )
        }
    }

    /// A whole number of exactly the width of `Number`.
    func integer<Number: FixedWidthInteger>(_: Number.Type, for swiftType: Any.Type) throws -> Number {
        let bytes = try bytes(for: swiftType)
        guard bytes.count == Number.bitWidth / 8 else {
            throw malformed(swiftType, "\(bytes.count) bytes")
        }
        var number: UInt64 = 0
        for byte in bytes { number = number << 8 | UInt64(byte) }
        return Number(truncatingIfNeeded: number)
    }
}

/// A value that a column can be read as.
package protocol PostgresDecodable: Sendable {
    /// Reads the value; throws a `PostgresError` with code `decoding` that names column and types.
    init(postgres cell: PostgresCell) throws
}

extension Optional: PostgresDecodable where Wrapped: PostgresDecodable {
    /// Reads NULL as nil.
    package init(postgres cell: PostgresCell) throws {
        self = cell.bytes == nil ? nil : try Wrapped(postgres: cell)
    }
}

extension Array: PostgresDecodable where Element: PostgresDecodable {
    /// Reads an array of at most one dimension; elements may be NULL if `Element` is optional.
    package init(postgres cell: PostgresCell) throws {
        var rest = try cell.bytes(for: Self.self)
        func next() throws -> Int32 {
            let word = PostgresCell(column: cell.column, type: .int4, bytes: rest.prefix(4))
            rest = rest.dropFirst(4)
            return try word.integer(Int32.self, for: Self.self)
        }
        // A word that cannot be read is no header of an array: the error below says so of the whole value.
        guard rest.count >= 12, let dimensions = try? next(), dimensions >= 0 else {
            throw cell.mismatch(Self.self)  // a shorter value or another header is a scalar
        }
        _ = try next()
        let type = PostgresType(rawValue: UInt32(bitPattern: try next()))
        self = []
        if dimensions == 0, rest.isEmpty { return }
        guard dimensions == 1 else { throw cell.malformed(Self.self, "\(dimensions) dimensions") }
        let count = Int(try next())
        _ = try next()
        guard count >= 0, count <= rest.count / 4 else {
            throw cell.malformed(Self.self, "\(count) elements")
        }
        reserveCapacity(count)
        for _ in 0..<count {
            let length = Int(try next())
            guard length <= rest.count else { throw cell.malformed(Self.self, "cut short") }
            let bytes = length < 0 ? nil : rest.prefix(length)
            rest = rest.dropFirst(Swift.max(length, 0))
            append(try Element(postgres: PostgresCell(column: cell.column, type: type, bytes: bytes)))
        }
    }
}
