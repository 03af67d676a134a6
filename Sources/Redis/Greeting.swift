/// What is said on a new connection before anybody's commands, and what its answers come to; pure.
///
/// Login, choice of the database, and the question that the deployment wants answered: of a sentinel where
/// the master is, of a master that sentinels named whether it is one.
struct Greeting {
    /// Whom the greeting is for.
    enum Host: Equatable {
        /// A server with data. Behind sentinels it must say that it is the master.
        case server(mustBeMaster: Bool)
        /// One of the sentinels.
        case sentinel
    }

    /// What an answer came to.
    enum Outcome: Equatable {
        /// More answers are missing.
        case goesOn
        /// Commands may flow.
        case isReady
        /// The master is there.
        case leads(to: RedisConfiguration.Address)
    }

    private enum Step {
        case login, database, role, master
        /// An answer of any kind: the server does not want another certificate of us.
        case sign
    }

    /// What is to be sent, in this order.
    private(set) var commands: [RedisCommand] = []
    private var steps: [Step] = []

    init(_ configuration: RedisConfiguration, to host: Host) {
        switch host {
        case .server(let mustBeMaster):
            addLogin(configuration.username, configuration.password)
            if configuration.database != 0 {
                add(.database, RedisCommand("SELECT", .int(configuration.database)))
            }
            if mustBeMaster { add(.role, RedisCommand("ROLE")) }
        case .sentinel:
            guard case .sentinel(let sentinel) = configuration.deployment else { break }
            addLogin(sentinel.username, sentinel.password)
            add(.master, RedisCommand("SENTINEL", "GET-MASTER-ADDR-BY-NAME", .string(sentinel.master)))
        }
        // TLS 1.3: that our certificate is refused, or missing, is said after the handshake, as first answer.
        if steps.isEmpty, configuration.tls != nil { add(.sign, RedisCommand("PING")) }
    }

    /// Whether nothing is to be said.
    var isEmpty: Bool { steps.isEmpty }

    /// Takes the answer to the oldest command.
    mutating func hear(_ value: RedisValue) throws(RedisError) -> Outcome {
        let step = steps.removeFirst()
        if case .error(let text) = value {
            switch step {
            case .login, .master: throw RedisError(reply: text)
            case .sign where !text.hasPrefix("NOPERM"): throw RedisError(reply: text)
            case .sign: break
            case .database:
                throw RedisError(reply: text, about: "the database of the address")
            case .role: throw RedisError(reply: text, about: "the role, which is asked for behind sentinels")
            }
        }
        switch step {
        case .master: return .leads(to: try Self.master(value))
        case .role:
            guard value.array?.first?.text == "master" else {
                throw RedisError(.connection, "the server that the sentinels name is not a master")
            }
        case .login, .database, .sign: break
        }
        return steps.isEmpty ? .isReady : .goesOn
    }

    private static func master(_ value: RedisValue) throws(RedisError) -> RedisConfiguration.Address {
        if case .null = value {
            throw RedisError(.configuration, "the sentinel knows no master of the name in the address")
        }
        guard let parts = value.array, parts.count == 2, let host = parts[0].text, let port = parts[1].int,
            !host.isEmpty, (1...65_535).contains(port)
        else { throw RedisError(.protocolViolation, "the sentinel answers no address of a master") }
        return .tcp(host: host, port: port)
    }

    private mutating func addLogin(_ username: String?, _ password: String?) {
        guard username != nil || password != nil else { return }
        var login = RedisCommand("AUTH")
        if let username { login.append(.string(username)) }
        login.append(.string(password ?? ""))
        add(.login, login)
    }

    private mutating func add(_ step: Step, _ command: RedisCommand) {
        steps.append(step)
        commands.append(command)
    }
}
