/// One row of a result: a view into the values copied out of the connection.
package struct PostgresRow: Sendable {
    let table: PostgresTable
    let index: Int

    /// Reads a row of one column.
    package func decode<A: PostgresDecodable>(_: A.Type = A.self) throws -> A {
        try expect(columns: 1)
        return try A(postgres: cell(0))
    }

    /// Reads the columns in their order; their number must be that of the types.
    package func decode<each Column: PostgresDecodable>(
        _: (repeat each Column).Type = (repeat each Column).self
    ) throws -> (repeat each Column) {
        var count = 0
        for _ in repeat (each Column).self { count += 1 }
        try expect(columns: count)
        var column = -1
        func next<A: PostgresDecodable>(_: A.Type) throws -> A {
            column += 1
            return try A(postgres: cell(column))
        }
        return (repeat try next((each Column).self))
    }

    func cell(_ column: Int) -> PostgresCell { table.cell(row: index, column: column) }

    func expect(columns: Int) throws(PostgresError) {
        guard table.columns.count != columns else { return }
        let found = table.columns.map { "\($0.name) \($0.type)" }.joined(separator: ", ")
        throw PostgresError(.decoding, "expected \(columns) columns, found \(table.columns.count): \(found)")
    }
}

/// What one statement returned.
package struct PostgresResult: Sendable {
    /// The rows; none for a statement that returns none.
    package let rows: [PostgresRow]
    /// How many rows the statement inserted, updated, deleted or returned.
    package let affected: Int
    /// The server's word for what it did, like `INSERT 0 1`.
    let tag: String
}

/// The values of a whole result, end to end in one buffer.
final class PostgresTable: Sendable {
    /// A result's column.
    struct Column: Sendable {
        let name: String
        let type: PostgresType
    }

    let columns: [Column]
    private let bytes: [UInt8]
    /// Where each value lies in `bytes`, row by row; nil for NULL.
    private let places: [Range<Int>?]

    init(columns: [Column], places: [Range<Int>?], bytes: [UInt8]) {
        self.columns = columns
        self.places = places
        self.bytes = bytes
    }

    func cell(row: Int, column: Int) -> PostgresCell {
        PostgresCell(
            column: columns[column].name, type: columns[column].type,
            bytes: places[row * columns.count + column].map { bytes[$0] })
    }
}
