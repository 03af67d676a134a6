/// A login of Redis with what one part of the platform needs there, and no more.
///
/// Nobody may change code or settings of the server, see or change other logins, remove data as a whole,
/// watch others, or reach a key outside the prefix. Functions run with the rights of who calls them,
/// therefore all roles may read and write the partition's keys; who holds a login can spoil the copy of the
/// queue, which is rebuilt, and nothing else.
package enum QueueUser: String, Sendable, CaseIterable {
    /// Admits, cancels, looks for presences and tells gateways of cancels.
    case api = "crmm-api"
    /// Sessions: presence, its own inbox and heartbeat, settlement.
    case gateway = "crmm-gateway"
    /// All of the queue: also rebuilds, drains inboxes of dead gateways, and asks the server who it is.
    case worker = "crmm-worker"
    /// Loads the function library and does nothing else.
    case loader = "crmm-loader"

    /// Its rules as `ACL SETUSER` and files of users take them, without state and password.
    package func rules(prefix: String = "crmm:") -> String {
        let queue = "~\(prefix){*"
        let inboxes = "~\(prefix)gateway:*:inbox"
        return switch self {
        case .api: "\(queue) \(inboxes) %R~\(prefix)gateway:*:alive \(Self.common) -@blocking"
        case .gateway: "\(queue) ~\(prefix)gateway:* \(Self.common)"
        case .worker: "\(queue) \(inboxes) %R~\(prefix)gateway:*:alive \(Self.common) +scan +info"
        case .loader: "-@all +function|load +function|list +ping +select +role \(Self.cluster)"
        }
    }

    /// One line of a file of users; `hash` is the SHA-256 of the password in hexadecimal digits.
    package func line(passwordHash hash: String, prefix: String = "crmm:") -> String {
        "user \(rawValue) on #\(hash) resetchannels \(rules(prefix: prefix))"
    }

    /// Data commands on the keys, calls of functions, and what a connection begins with. Of `@dangerous`
    /// (KEYS, FLUSHALL, SORT, MIGRATE …) nothing but ROLE, by which a master is known; `@scripting` goes too,
    /// since FUNCTION LOAD, DELETE and FLUSH are in `@write`.
    private static let common =
        "-@all +@read +@write -@dangerous -@admin -@scripting -scan -randomkey -move -copy "
        + "+fcall +time +ping +select +role "
        + cluster

    private static let cluster = "+cluster|slots +asking"
}

/// A login of Redis with what its own servers need of each other. Redis names these rights in its
/// documentation of ACLs.
package enum ServerUser: String, Sendable, CaseIterable {
    /// A replica at its master. It receives every key, so its password is worth as much as the data.
    case replica = "crmm-replica"
    /// A sentinel at the servers that it watches: it makes one the master and drops clients. It may make a
    /// server follow any other, so its password is worth as much as the data and the server.
    case sentinel = "crmm-sentinel"

    /// Its rules as `ACL SETUSER` and files of users take them, without state and password.
    package var rules: String {
        switch self {
        case .replica: "resetchannels -@all +psync +replconf +ping"
        case .sentinel:
            "allchannels -@all +multi +slaveof +ping +exec +subscribe +config|rewrite +role +publish +info "
                + "+client|setname +client|kill +script|kill"
        }
    }

    /// One line of a file of users; `hash` is the SHA-256 of the password in hexadecimal digits.
    package func line(passwordHash hash: String) -> String { "user \(rawValue) on #\(hash) \(rules)" }
}
