/// Where a server is, who we are there, and the limits of a connection to it.
///
///     redis://[user[:password]@]host[:port][/database]
///     rediss://…[?ca=file&certificate=file&key=file&serverName=name]
///     unix://[user[:password]@]/path/to.sock
///     redis+sentinel://[user[:password]@]host[:port],…/master[/database][?sentinelUser=…&sentinelPassword=…]
///     rediss+sentinel://…
///     redis+cluster://[user[:password]@]host[:port],…
///     rediss+cluster://…
///
/// Every part is percent-decoded. Without a user the password is the default user's; the port is 6379 when
/// absent, a sentinel's 26379. Files are PEM.
package struct RedisConfiguration: Sendable, CustomStringConvertible, CustomDebugStringConvertible {
    /// The place of a server.
    package enum Address: Sendable, Hashable, CustomStringConvertible {
        case unix(path: String)
        case tcp(host: String, port: Int)

        /// Path of the socket, or host and port, an IPv6 address in brackets.
        package var description: String {
            switch self {
            case .unix(let path): "unix://\(path)"
            case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
            }
        }
    }

    /// How the server with the data is found.
    package enum Deployment: Sendable, Equatable {
        /// It listens at one of the addresses.
        case single
        /// The addresses are sentinels, which know where the master is.
        case sentinel(Sentinel)
        /// The addresses are nodes of a cluster, which know all others; it has one database.
        case cluster
    }

    /// Whom sentinels are asked for, and who we are there.
    package struct Sentinel: Sendable, Equatable {
        /// The name under which they watch the master.
        package var master: String
        /// As of the server itself: without a user the password is the default user's.
        package var username: String?
        package var password: String?
    }

    /// Where servers listen: one, or every sentinel that is known beforehand.
    package var addresses: [Address]
    /// How they lead to the server with the data.
    package var deployment = Deployment.single
    /// Who we are there: without a user the password is the default user's, without both nobody logs in.
    package var username: String?
    package var password: String?
    /// The number that `SELECT` is given on each new connection.
    package var database = 0
    /// What TLS is spoken with; nil for none.
    package var tls: RedisTLS?
    /// For one attempt: connecting, TLS, authentication and selection of the database.
    package var connectTimeout: Duration = .seconds(5)
    /// For a command that names no other limit, from the call to its answer.
    package var commandTimeout: Duration = .seconds(5)
    /// The most memory that one reply may take: its bytes, and 32 more for each value in it.
    package var replyBytesMax = 64 << 20
    /// The most commands that may wait for an answer at once; further ones are refused. In a cluster, of each
    /// node.
    package var pendingMax = 100_000
    /// Whether commands are refused, instead of waiting, when no connection can be made: another node may
    /// have them.
    var refusesWhileDown = false

    /// Reads an address of one of the forms above, and the files that it names; throws `.configuration` with
    /// the name of the wrong part.
    package init(url: String) throws {
        var reader = try RedisURL(url)
        (username, password) = (reader.username, reader.password)
        switch reader.scheme {
        case "unix":
            addresses = [.unix(path: try reader.socketPath())]
        case "redis", "rediss":
            addresses = [try reader.address(reader.place, port: 6379)]
            database = try reader.database(reader.path)
        case "redis+sentinel", "rediss+sentinel":
            addresses = try reader.addresses(port: 26379)
            let (master, rest) = try reader.master()
            database = try reader.database(rest)
            deployment = .sentinel(
                Sentinel(
                    master: master, username: reader.take("sentinelUser"),
                    password: reader.take("sentinelPassword")))
        case "redis+cluster", "rediss+cluster":
            addresses = try reader.addresses(port: 6379)
            guard try reader.database(reader.path) == 0 else {
                throw RedisURL.refusal("has a database, but a cluster has only the one with the number 0")
            }
            deployment = .cluster
        default:
            throw RedisURL.refusal(
                "has the scheme “\(reader.scheme)”: expected redis or unix, rediss for TLS, "
                    + "redis+sentinel, rediss+sentinel, redis+cluster or rediss+cluster")
        }
        if reader.scheme.hasPrefix("rediss") {
            tls = RedisTLS(
                authority: reader.take("ca"), certificate: reader.take("certificate"),
                key: reader.take("key"), serverName: reader.take("serverName"))
            // Read again at each connection; here so that a wrong file is known before anything starts.
            _ = try tls?.context()
        }
        try reader.finish()
    }

    /// The addresses and the database, without credentials.
    package var description: String {
        let place = addresses.map(\.description).joined(separator: ",")
        return switch deployment {
        case .single: "\(place) database \(database)"
        case .sentinel(let sentinel): "\(sentinel.master) of the sentinels \(place) database \(database)"
        case .cluster: "the cluster of \(place)"
        }
    }
    /// The same, so that no dump shows the password either.
    package var debugDescription: String { description }
}
