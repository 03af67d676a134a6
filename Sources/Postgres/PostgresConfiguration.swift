import Glibc

/// How to reach a server and how much to ask of it.
package struct PostgresConfiguration: Sendable {
    /// The modes of TLS, from none at all to one that verifies issuer and name.
    private static let modes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

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
    /// (manual, 34.1.1.2), with its parameters of TLS: `sslmode`, `sslrootcert`, `sslcert`, `sslkey`,
    /// `sslcrl`; throws `configuration` for anything else.
    package init(url: String) throws {
        guard url.hasPrefix("postgresql://") || url.hasPrefix("postgres://"),
            let options = LibPQ.options(url: url)
        else {
            throw PostgresError(
                .configuration,
                "the database's URL is malformed, expected postgresql://user:password@host:port/database")
        }
        if let mode = options["sslmode"], !Self.modes.contains(mode) {
            throw PostgresError(
                .configuration,
                "the database's URL has an unknown sslmode; allowed are \(Self.modes.joined(separator: ", "))"
            )
        }
        for name in ["sslrootcert", "sslcert", "sslkey", "sslcrl"] {
            // Newer libraries take "system" for authorities, and "engine:id" for a key.
            guard let path = options[name], path != "system", !path.contains(":") else { continue }
            // libpq would go on without some of them, and say so of others only when it connects.
            guard unsafe access(path, R_OK) == 0 else {
                throw PostgresError(
                    .configuration, "the database's URL names a file as \(name) that cannot be read: \(path)")
            }
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
