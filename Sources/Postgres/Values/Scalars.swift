extension Bool: PostgresEncodable, PostgresDecodable {
    /// `bool`
    package static var postgresType: PostgresType { .bool }
    /// `bool[]`
    package static var postgresArrayType: PostgresType { .boolArray }
    /// One byte, 1 or 0.
    package func encode(into bytes: inout PostgresBytes) { bytes.append(integer: UInt8(self ? 1 : 0)) }
    /// Reads `bool`.
    package init(postgres cell: PostgresCell) throws {
        guard cell.type == .bool else { throw cell.mismatch(Self.self) }
        self = try cell.integer(UInt8.self, for: Self.self) != 0
    }
}

extension Int16: PostgresEncodable, PostgresDecodable {
    /// `int2`
    package static var postgresType: PostgresType { .int2 }
    /// `int2[]`
    package static var postgresArrayType: PostgresType { .int2Array }
    /// Two bytes.
    package func encode(into bytes: inout PostgresBytes) { bytes.append(integer: self) }
    /// Reads `int2`.
    package init(postgres cell: PostgresCell) throws {
        guard cell.type == .int2 else { throw cell.mismatch(Self.self) }
        self = try cell.integer(Int16.self, for: Self.self)
    }
}

extension Int32: PostgresEncodable, PostgresDecodable {
    /// `int4`
    package static var postgresType: PostgresType { .int4 }
    /// `int4[]`
    package static var postgresArrayType: PostgresType { .int4Array }
    /// Four bytes.
    package func encode(into bytes: inout PostgresBytes) { bytes.append(integer: self) }
    /// Reads `int4` and `int2`.
    package init(postgres cell: PostgresCell) throws {
        switch cell.type {
        case .int4: self = try cell.integer(Int32.self, for: Self.self)
        case .int2: self = Int32(try cell.integer(Int16.self, for: Self.self))
        default: throw cell.mismatch(Self.self)
        }
    }
}

extension Int: PostgresEncodable, PostgresDecodable {
    /// `int8`
    package static var postgresType: PostgresType { .int8 }
    /// `int8[]`
    package static var postgresArrayType: PostgresType { .int8Array }
    /// Eight bytes.
    package func encode(into bytes: inout PostgresBytes) { bytes.append(integer: Int64(self)) }
    /// Reads `int8`, `int4` and `int2`.
    package init(postgres cell: PostgresCell) throws {
        switch cell.type {
        case .int8: self = Int(try cell.integer(Int64.self, for: Self.self))
        case .int4: self = Int(try cell.integer(Int32.self, for: Self.self))
        case .int2: self = Int(try cell.integer(Int16.self, for: Self.self))
        default: throw cell.mismatch(Self.self)
        }
    }
}

extension Double: PostgresEncodable, PostgresDecodable {
    /// `float8`
    package static var postgresType: PostgresType { .float8 }
    /// `float8[]`
    package static var postgresArrayType: PostgresType { .float8Array }
    /// Eight bytes, IEEE 754.
    package func encode(into bytes: inout PostgresBytes) { bytes.append(integer: bitPattern) }
    /// Reads `float8` and `float4`.
    package init(postgres cell: PostgresCell) throws {
        switch cell.type {
        case .float8: self.init(bitPattern: try cell.integer(UInt64.self, for: Self.self))
        case .float4: self.init(Float(bitPattern: try cell.integer(UInt32.self, for: Self.self)))
        default: throw cell.mismatch(Self.self)
        }
    }
}

extension String: PostgresEncodable, PostgresDecodable {
    /// `text`
    package static var postgresType: PostgresType { .text }
    /// `text[]`
    package static var postgresArrayType: PostgresType { .textArray }
    /// UTF-8; the server refuses U+0000 (22021).
    package func encode(into bytes: inout PostgresBytes) { bytes.append(self) }
    /// Reads `text`, `varchar`, `char(n)`, `name`, and `json` and `jsonb` as their text.
    package init(postgres cell: PostgresCell) throws {
        var bytes = try cell.bytes(for: Self.self)
        switch cell.type {
        case .text, .varchar, .bpchar, .name, .json: break
        case .jsonb: bytes = try cell.jsonbText(for: Self.self)
        default: throw cell.mismatch(Self.self)
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw cell.malformed(Self.self, "not UTF-8")
        }
        self = text
    }
}

extension PostgresCell {
    /// The text in a binary `jsonb`, which is the version 1 and then the text.
    fileprivate func jsonbText(for swiftType: Any.Type) throws -> ArraySlice<UInt8> {
        let bytes = try bytes(for: swiftType)
        guard bytes.first == 1 else { throw malformed(swiftType, "unknown version of jsonb") }
        return bytes.dropFirst()
    }
}

/// Bytes as `bytea`.
package struct PostgresData: Hashable, Sendable, PostgresEncodable, PostgresDecodable {
    /// The bytes.
    package var bytes: [UInt8]
    /// Wraps bytes.
    package init(_ bytes: [UInt8]) { self.bytes = bytes }
    /// `bytea`
    package static var postgresType: PostgresType { .bytea }
    /// `bytea[]`
    package static var postgresArrayType: PostgresType { .byteaArray }
    /// The bytes as they are.
    package func encode(into bytes: inout PostgresBytes) { bytes.append(self.bytes) }
    /// Reads `bytea`.
    package init(postgres cell: PostgresCell) throws {
        guard cell.type == .bytea else { throw cell.mismatch(Self.self) }
        bytes = Array(try cell.bytes(for: Self.self))
    }
}

/// A JSON document as `jsonb`.
package struct PostgresJSON: Hashable, Sendable, PostgresEncodable, PostgresDecodable {
    /// The document; the server normalises it and refuses what is not JSON (22P02).
    package var text: String
    /// Wraps a document.
    package init(_ text: String) { self.text = text }
    /// `jsonb`
    package static var postgresType: PostgresType { .jsonb }
    /// `jsonb[]`
    package static var postgresArrayType: PostgresType { .jsonbArray }
    /// The version 1, then the text.
    package func encode(into bytes: inout PostgresBytes) {
        bytes.append(integer: UInt8(1))
        bytes.append(text)
    }
    /// Reads `jsonb` and `json`.
    package init(postgres cell: PostgresCell) throws {
        guard cell.type == .jsonb || cell.type == .json else { throw cell.mismatch(Self.self) }
        text = try String(postgres: cell)
    }
}

/// An instant as `timestamptz`: microseconds since 1970-01-01 00:00:00 UTC.
///
/// `Int64.max` and `Int64.min` stand for `infinity` and `-infinity`.
package struct PostgresTimestamp: Hashable, Comparable, Sendable, PostgresEncodable, PostgresDecodable {
    /// Microseconds since 1970.
    package var microsecondsSince1970: Int64
    /// The server counts from 2000-01-01.
    private static let epochMicroseconds: Int64 = 946_684_800_000_000

    /// Wraps an instant.
    package init(microsecondsSince1970: Int64) { self.microsecondsSince1970 = microsecondsSince1970 }
    /// `timestamptz`
    package static var postgresType: PostgresType { .timestamptz }
    /// `timestamptz[]`
    package static var postgresArrayType: PostgresType { .timestamptzArray }
    /// Eight bytes, microseconds since 2000.
    package func encode(into bytes: inout PostgresBytes) {
        let (value, overflow) = microsecondsSince1970.subtractingReportingOverflow(Self.epochMicroseconds)
        bytes.append(integer: microsecondsSince1970 == .max ? .max : overflow ? .min : value)
    }
    /// Reads `timestamptz`.
    package init(postgres cell: PostgresCell) throws {
        guard cell.type == .timestamptz else { throw cell.mismatch(Self.self) }
        let value = try cell.integer(Int64.self, for: Self.self)
        let (sum, overflow) = value.addingReportingOverflow(Self.epochMicroseconds)
        microsecondsSince1970 = value == .min ? .min : overflow ? .max : sum
    }
    /// Earlier is less.
    package static func < (left: Self, right: Self) -> Bool {
        left.microsecondsSince1970 < right.microsecondsSince1970
    }
}

/// Sixteen bytes as `uuid`.
package struct PostgresUUID: Hashable, Sendable, PostgresEncodable, PostgresDecodable {
    /// The first eight bytes, big-endian.
    package let high: UInt64
    /// The last eight bytes, big-endian.
    package let low: UInt64

    /// Wraps the two halves.
    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }
    /// Wraps sixteen bytes; nil for any other number.
    package init?(bytes: some Collection<UInt8>) {
        guard bytes.count == 16 else { return nil }
        high = bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
        low = bytes.dropFirst(8).reduce(0) { $0 << 8 | UInt64($1) }
    }
    /// The sixteen bytes.
    package var bytes: [UInt8] {
        var encoded = PostgresBytes()
        encode(into: &encoded)
        return encoded.bytes
    }
    /// `uuid`
    package static var postgresType: PostgresType { .uuid }
    /// `uuid[]`
    package static var postgresArrayType: PostgresType { .uuidArray }
    /// Sixteen bytes.
    package func encode(into bytes: inout PostgresBytes) {
        bytes.append(integer: high)
        bytes.append(integer: low)
    }
    /// Reads `uuid`.
    package init(postgres cell: PostgresCell) throws {
        (high, low) = try cell.uuid(for: Self.self)
    }
}
