/// A statement whose text is written in the source and whose interpolated values are all parameters.
///
///     "SELECT name FROM devices WHERE id = \(id) AND state = ANY(\(states))"
///
/// There is no way to make one from a `String` at run time: literals arrive as `StaticString`. A fragment is
/// spliced in with `\(fragment: other)`, which renumbers its parameters.
package struct SQL: Sendable {
    /// The text around the parameters: always one piece more than there are parameters.
    private var pieces: [String]
    /// The parameters in their order.
    private(set) var binds: [PostgresBind]

    private init(pieces: [String], binds: [PostgresBind]) {
        self.pieces = pieces
        self.binds = binds
    }

    /// The text as it is sent, with `$1`, `$2` … for the parameters.
    package var text: String {
        var text = pieces[0]
        for (index, piece) in pieces.dropFirst().enumerated() { text += "$\(index + 1)\(piece)" }
        return text
    }

    /// Sets fragments one after another with a separator between them.
    package static func joined(_ fragments: [SQL], separator: SQL = ", ") -> SQL {
        var joined = SQL(pieces: [""], binds: [])
        for (index, fragment) in fragments.enumerated() {
            if index > 0 { joined.append(separator) }
            joined.append(fragment)
        }
        return joined
    }

    private mutating func append(_ other: SQL) {
        pieces[pieces.count - 1] += other.pieces[0]
        pieces += other.pieces.dropFirst()
        binds += other.binds
    }

    /// Collects a literal with its parameters.
    package struct StringInterpolation: StringInterpolationProtocol, Sendable {
        fileprivate var sql = SQL(pieces: [""], binds: [])

        /// Starts an empty statement.
        package init(literalCapacity: Int, interpolationCount: Int) {}

        /// Adds text from the source.
        package mutating func appendLiteral(_ literal: StaticString) {
            sql.pieces[sql.pieces.count - 1] += literal.description
        }

        /// Adds a parameter.
        package mutating func appendInterpolation<Value: PostgresEncodable>(_ value: Value) {
            append(PostgresBind(value))
        }

        /// Adds a parameter that may be NULL.
        package mutating func appendInterpolation<Value: PostgresEncodable>(_ value: Value?) {
            append(PostgresBind(value))
        }

        /// Adds an array as one parameter.
        package mutating func appendInterpolation<Value: PostgresEncodable>(_ values: [Value]) {
            append(PostgresBind(elements: values))
        }

        /// Adds an array with NULLs in it as one parameter.
        package mutating func appendInterpolation<Value: PostgresEncodable>(_ values: [Value?]) {
            append(PostgresBind(elements: values))
        }

        /// Adds an array as one parameter that may be NULL.
        package mutating func appendInterpolation<Value: PostgresEncodable>(_ values: [Value]?) {
            append(PostgresBind(elements: values))
        }

        /// Splices another statement's text and parameters.
        package mutating func appendInterpolation(fragment: SQL) { sql.append(fragment) }

        mutating func append(_ bind: PostgresBind) {
            sql.pieces.append("")
            sql.binds.append(bind)
        }
    }
}

extension SQL: ExpressibleByStringInterpolation {
    /// A statement without parameters.
    package init(stringLiteral value: StaticString) { self.init(pieces: [value.description], binds: []) }

    /// A statement with parameters.
    package init(stringInterpolation: StringInterpolation) { self = stringInterpolation.sql }
}

/// What identifies a prepared statement: its text and the types of its parameters.
struct StatementKey: Hashable, Sendable {
    let text: String
    let types: [PostgresType]
}

/// A statement as a connection sends it.
struct Statement: Sendable {
    let key: StatementKey
    /// The parameters end to end, and one byte more so that an empty one has an address too.
    let bytes: [UInt8]
    /// The length of each parameter, −1 for NULL.
    let lengths: [Int32]

    /// The most parameters a statement can have: their number is sent in two bytes.
    static let parametersMax = 65_535
    /// The most bytes in all parameters together; the server takes no message of 1 GiB or more.
    static let bytesMax = 256 << 20

    init(_ sql: SQL) throws(PostgresError) {
        let binds = sql.binds
        guard binds.count <= Self.parametersMax else {
            throw PostgresError(
                .configuration, "\(binds.count) parameters, at most \(Self.parametersMax) are possible")
        }
        let total = binds.reduce(0) { $0 + ($1.bytes?.count ?? 0) }
        guard total <= Self.bytesMax else {
            throw PostgresError(
                .configuration, "\(total) bytes of parameters, at most \(Self.bytesMax) are possible")
        }
        key = StatementKey(text: sql.text, types: binds.map(\.type))
        var bytes: [UInt8] = []
        bytes.reserveCapacity(total + 1)
        for bind in binds { if let value = bind.bytes { bytes += value } }
        bytes.append(0)
        self.bytes = bytes
        lengths = binds.map { $0.bytes.map { Int32($0.count) } ?? -1 }
    }

    /// A script of several statements without parameters, trusted as it stands.
    init(script: String) {
        key = StatementKey(text: script, types: [])
        bytes = [0]
        lengths = []
    }
}
