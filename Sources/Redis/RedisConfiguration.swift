/// Where a server is, who we are there, and the limits of a connection to it.
///
///     redis://[user[:password]@]host[:port][/database]
///     unix://[user[:password]@]/path/to.sock
///
/// Every part is percent-decoded. Without a user the password is the default user's; the port is 6379 when
/// absent.
package struct RedisConfiguration: Sendable, CustomStringConvertible, CustomDebugStringConvertible {
    /// The place of a server.
    package enum Address: Sendable, Equatable, CustomStringConvertible {
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

    /// Where the server listens.
    package var address: Address
    /// Who we are there: without a user the password is the default user's, without both nobody logs in.
    package var username: String?
    package var password: String?
    /// The number that `SELECT` is given on each new connection.
    package var database = 0
    /// For one attempt: connecting, authentication and selection of the database.
    package var connectTimeout: Duration = .seconds(5)
    /// For a command that names no other limit, from the call to its answer.
    package var commandTimeout: Duration = .seconds(5)
    /// The most memory that one reply may take: its bytes, and 32 more for each value in it.
    package var replyBytesMax = 64 << 20
    /// The most commands that may wait for an answer at once; further ones are refused.
    package var pendingMax = 100_000

    /// Reads an address of one of the two forms above; throws `.configuration` with the name of the wrong
    /// part.
    package init(url: String) throws {
        guard let colon = url.range(of: "://") else {
            throw Self.refusal("has no scheme: expected redis:// or unix://")
        }
        let scheme = url[..<colon.lowerBound].lowercased()
        let rest = url[colon.upperBound...]
        if let mark = rest.first(where: { $0 == "?" || $0 == "#" }) {
            throw Self.refusal("has a “\(mark)”, which has no meaning here: write it percent-encoded")
        }
        let authority = rest.prefix { $0 != "/" }
        let path = rest[authority.endIndex...]
        let place: Substring
        if let at = authority.lastIndex(of: "@") {
            (username, password) = try Self.credentials(authority[..<at])
            place = authority[authority.index(after: at)...]
        } else {
            place = authority
        }
        switch scheme {
        case "redis":
            address = try Self.tcp(place)
            database = try Self.database(path)
        case "unix":
            guard place.isEmpty else {
                throw Self.refusal("has a host, but a unix address has none: expected unix:///path")
            }
            address = .unix(path: try Self.socketPath(path))
        default:
            throw Self.refusal("has the scheme “\(scheme)”: expected redis or unix")
        }
    }

    /// The address and the database, without credentials.
    package var description: String { "\(address) database \(database)" }
    /// The same, so that no dump shows the password either.
    package var debugDescription: String { description }

    private static func credentials(_ text: Substring) throws -> (String?, String?) {
        let user = text.prefix { $0 != ":" }
        let username = try decode(user, part: "user")
        guard user.endIndex < text.endIndex else {
            guard !username.isEmpty else { throw refusal("has an empty user") }
            return (username, nil)
        }
        let password = try decode(text[text.index(after: user.endIndex)...], part: "password")
        return (username.isEmpty ? nil : username, password)
    }

    private static func tcp(_ place: Substring) throws -> Address {
        let host: Substring
        var port = place[place.endIndex...]
        if place.first == "[" {
            guard let end = place.firstIndex(of: "]") else { throw refusal("has a host with “[” but no “]”") }
            host = place[place.index(after: place.startIndex)..<end]
            port = place[place.index(after: end)...]
        } else {
            host = place.prefix { $0 != ":" }
            port = place[host.endIndex...]
        }
        guard !host.isEmpty else { throw refusal("has no host") }
        let name = try decode(host, part: "host")
        if port.isEmpty { return .tcp(host: name, port: 6379) }
        guard port.first == ":", let number = digits(port.dropFirst()), (1...65535).contains(number) else {
            throw refusal("has the port “\(port.dropFirst())”: expected 1 to 65535")
        }
        return .tcp(host: name, port: number)
    }

    private static func database(_ path: Substring) throws -> Int {
        let number = path.dropFirst()
        if number.isEmpty { return 0 }
        guard let database = digits(number) else {
            throw refusal("has the database “\(number)”: expected a number")
        }
        return database
    }

    private static func socketPath(_ text: Substring) throws -> String {
        let path = try decode(text, part: "path")
        guard path.utf8.count > 1 else { throw refusal("has no path of a socket") }
        guard path.utf8.count <= SocketAddress.pathBytesMax else {
            throw refusal(
                "has a path of \(path.utf8.count) bytes: at most \(SocketAddress.pathBytesMax) are possible")
        }
        return path
    }

    private static func digits(_ text: Substring) -> Int? {
        text.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) } ? Int(text) : nil
    }

    private static func decode(_ text: Substring, part: String) throws -> String {
        var bytes: [UInt8] = []
        var rest = text.utf8
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = rest.popFirst().flatMap({ Character(UnicodeScalar($0)).hexDigitValue }),
                let low = rest.popFirst().flatMap({ Character(UnicodeScalar($0)).hexDigitValue }),
                high | low != 0
            else { throw refusal("has a “%” in its \(part) that no two hexadecimal digits follow, or a NUL") }
            bytes.append(UInt8(high << 4 | low))
        }
        guard let decoded = String(validating: bytes, as: UTF8.self) else {
            throw refusal("has a \(part) that is not UTF-8")
        }
        return decoded
    }

    private static func refusal(_ sentence: String) -> RedisError {
        RedisError(.configuration, "the address of Redis \(sentence)")
    }
}

extension StringProtocol {
    /// The first place of a short text; the standard library has it only for `Collection` under Foundation.
    fileprivate func range(of text: String) -> Range<Index>? {
        indices.lazy
            .first { self[$0...].hasPrefix(text) }
            .map { $0..<index($0, offsetBy: text.count) }
    }
}
