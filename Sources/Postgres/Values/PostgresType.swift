/// A type of PostgreSQL by its object id.
package struct PostgresType: RawRepresentable, Hashable, Sendable {
    /// The type's row in `pg_type`.
    package let rawValue: UInt32

    /// Names the type by its object id; ids of types that an extension or a migration creates differ by
    /// database.
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// `bool`
    package static let bool = PostgresType(rawValue: 16)
    /// `bytea`
    package static let bytea = PostgresType(rawValue: 17)
    /// `name`, the type of identifiers in the catalog
    package static let name = PostgresType(rawValue: 19)
    /// `int8`
    package static let int8 = PostgresType(rawValue: 20)
    /// `int2`
    package static let int2 = PostgresType(rawValue: 21)
    /// `int4`
    package static let int4 = PostgresType(rawValue: 23)
    /// `text`
    package static let text = PostgresType(rawValue: 25)
    /// `json`
    package static let json = PostgresType(rawValue: 114)
    /// `float4`
    package static let float4 = PostgresType(rawValue: 700)
    /// `float8`
    package static let float8 = PostgresType(rawValue: 701)
    /// `char(n)`
    package static let bpchar = PostgresType(rawValue: 1042)
    /// `varchar`
    package static let varchar = PostgresType(rawValue: 1043)
    /// `timestamptz`
    package static let timestamptz = PostgresType(rawValue: 1184)
    /// `uuid`
    package static let uuid = PostgresType(rawValue: 2950)
    /// `jsonb`
    package static let jsonb = PostgresType(rawValue: 3802)

    /// `bool[]`
    package static let boolArray = PostgresType(rawValue: 1000)
    /// `bytea[]`
    package static let byteaArray = PostgresType(rawValue: 1001)
    /// `int2[]`
    package static let int2Array = PostgresType(rawValue: 1005)
    /// `int4[]`
    package static let int4Array = PostgresType(rawValue: 1007)
    /// `text[]`
    package static let textArray = PostgresType(rawValue: 1009)
    /// `int8[]`
    package static let int8Array = PostgresType(rawValue: 1016)
    /// `float8[]`
    package static let float8Array = PostgresType(rawValue: 1022)
    /// `timestamptz[]`
    package static let timestamptzArray = PostgresType(rawValue: 1185)
    /// `uuid[]`
    package static let uuidArray = PostgresType(rawValue: 2951)
    /// `jsonb[]`
    package static let jsonbArray = PostgresType(rawValue: 3807)

    private static let names: [PostgresType: String] = [
        .bool: "bool", .bytea: "bytea", .name: "name", .int8: "int8", .int2: "int2", .int4: "int4",
        .text: "text", .json: "json", .float4: "float4", .float8: "float8", .bpchar: "bpchar",
        .varchar: "varchar", .timestamptz: "timestamptz", .uuid: "uuid", .jsonb: "jsonb",
        .boolArray: "bool[]", .byteaArray: "bytea[]", .int2Array: "int2[]", .int4Array: "int4[]",
        .textArray: "text[]", .int8Array: "int8[]", .float8Array: "float8[]",
        .timestamptzArray: "timestamptz[]", .uuidArray: "uuid[]", .jsonbArray: "jsonb[]",
    ]
}

extension PostgresType: CustomStringConvertible {
    /// The type's name, or its object id where the driver does not know it.
    package var description: String { Self.names[self] ?? "type \(rawValue)" }
}
