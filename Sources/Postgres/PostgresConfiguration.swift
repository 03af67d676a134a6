/// How to reach a server and how much to ask of it.
package struct PostgresConfiguration: Sendable {
    /// The URL as libpq takes it; holds a password and is never logged.
    let url: String
    /// The database, where it is not the URL's.
    package var database: String?
    /// The role to log in as, where it is not the URL's.
    package var user: String?
    /// How many connections carry single requests, pipelined.
    package var connections = 4
    /// How many connections at most carry transactions, one at a time each; opened when first needed.
    package var transactionConnections = 4
    /// The time limit of a request that names none, from the call on, and of an idle transaction.
    package var statementTimeout: Duration = .seconds(15)
    /// How long making a connection may take.
    package var connectTimeout: Duration = .seconds(10)
    /// How many requests may wait or run in the pool; one more is refused.
    package var pendingMax = 50_000
    /// The name that the server lists the connections under.
    package var applicationName = "cloudrmm"
    /// Whether prepared statements are planned once, whatever their parameters (`force_generic_plan`).
    package var genericPlans = false

    /// Takes `postgresql://user:password@host:port/database?host=/socket/directory` as libpq reads it
    /// (manual, 34.1.1.2); throws `configuration` for anything else.
    package init(url: String) throws {
        guard url.hasPrefix("postgresql://") || url.hasPrefix("postgres://"), LibPQ.canParse(url: url) else {
            throw PostgresError(
                .configuration,
                "the database's URL is malformed, expected postgresql://user:password@host:port/database")
        }
        self.url = url
    }
}

extension PostgresConfiguration: CustomStringConvertible {
    /// The settings without the URL.
    package var description: String {
        "PostgresConfiguration(connections: \(connections), statementTimeout: \(statementTimeout))"
    }
}
