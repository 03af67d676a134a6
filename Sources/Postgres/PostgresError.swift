/// Why a request to PostgreSQL failed.
package struct PostgresError: Error, Hashable, Sendable {
    /// What went wrong, for the code that decides what to do next.
    package enum Code: Hashable, Sendable {
        /// The server refused a statement, with this SQLSTATE.
        case server(String)
        /// The connection was lost or could not be made.
        case connection
        /// The time limit passed.
        case timeout
        /// The caller's task was cancelled.
        case cancelled
        /// More requests wait than the pool may hold.
        case overloaded
        /// The pool is not started or closed, or the transaction has ended.
        case closed
        /// A value is not what the caller expected.
        case decoding
        /// The request or the configuration is wrong; it never reached the server or must not.
        case configuration
    }

    /// What went wrong.
    package let code: Code
    /// The server's five characters, where it sent some.
    package var sqlState: String?
    /// One sentence, without the values of parameters.
    package let message: String
    /// The violated constraint, where the server names one.
    package var constraint: String?
    /// The table, where the server names one.
    package var table: String?
    /// The column, where the server names one.
    package var column: String?
    /// The statement's text with `$1` for its parameters, where one statement is to blame.
    package var statement: String?
    /// Whether the work may stand in the database although the caller is told that it failed: it was sent
    /// whole, and its outcome was not learned.
    package var mayHaveCommitted = false

    init(_ code: Code, _ message: String, sqlState: String? = nil, mayHaveCommitted: Bool = false) {
        self.code = code
        self.message = message
        self.sqlState = sqlState
        self.mayHaveCommitted = mayHaveCommitted
    }

    /// Whether the same request may succeed later: conflicts between transactions, a server short of
    /// resources or going down, lost connections, time limits.
    ///
    /// Repeating is safe by itself only where ``mayHaveCommitted`` is false or the request is idempotent.
    package var isTransient: Bool {
        if let sqlState {
            let states = ["40001", "40P01", "55P03", "57P01", "57P02", "57P03", "57P05", "25P03", "26000"]
            if states.contains(sqlState) || sqlState.hasPrefix("08") || sqlState.hasPrefix("53") {
                return true
            }
        }
        switch code {
        case .connection, .timeout, .overloaded: return true
        case .server, .cancelled, .closed, .decoding, .configuration: return false
        }
    }

    /// The same failure as it looks to another caller.
    func with(mayHaveCommitted: Bool) -> PostgresError {
        var copy = self
        copy.mayHaveCommitted = mayHaveCommitted
        return copy
    }
}

extension PostgresError: CustomStringConvertible {
    /// Code, SQLSTATE, message and what the server named.
    package var description: String {
        var text = "PostgreSQL: \(message)"
        if let sqlState { text += " [\(sqlState)]" }
        if let constraint { text += ", constraint \(constraint)" }
        if let table { text += ", table \(table)" }
        if let column { text += ", column \(column)" }
        if mayHaveCommitted { text += "; it may have committed" }
        if let statement { text += "; in: \(statement)" }
        return text
    }
}
