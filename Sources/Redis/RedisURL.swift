/// The parts of an address of Redis as they stand in its text, percent-decoded; each is taken once.
struct RedisURL {
    let scheme: String
    private(set) var username: String?
    private(set) var password: String?
    /// What stands between the credentials and the path, still encoded.
    let place: Substring
    /// From the first slash on, still encoded.
    let path: Substring
    private var parameters: [String: String] = [:]

    /// Cuts the text into its parts; throws `.configuration` where that is not possible.
    init(_ url: String) throws {
        guard let colon = url.range(of: "://") else {
            throw Self.refusal("has no scheme: expected redis:// or unix://")
        }
        scheme = url[..<colon.lowerBound].lowercased()
        let rest = url[colon.upperBound...]
        if rest.contains("#") {
            throw Self.refusal("has a “#”, which has no meaning here: write it percent-encoded")
        }
        let hierarchy = rest.prefix { $0 != "?" }
        let authority = hierarchy.prefix { $0 != "/" }
        path = hierarchy[authority.endIndex...]
        if let at = authority.lastIndex(of: "@") {
            place = authority[authority.index(after: at)...]
            (username, password) = try Self.credentials(authority[..<at])
        } else {
            place = authority
        }
        if hierarchy.endIndex < rest.endIndex {
            try readParameters(rest[rest.index(after: hierarchy.endIndex)...])
        }
    }

    /// Takes the value of a parameter, if it is there.
    mutating func take(_ name: String) -> String? { parameters.removeValue(forKey: name) }

    /// Refuses what nobody took.
    func finish() throws {
        guard let name = parameters.keys.min() else { return }
        throw Self.refusal("has the parameter “\(name)” after its “?”, which has no meaning with \(scheme)")
    }

    /// All places of a list with commas.
    func addresses(port: Int) throws -> [RedisConfiguration.Address] {
        try place.split(separator: ",", omittingEmptySubsequences: false).map { try address($0, port: port) }
    }

    /// One place, with this port if it names none.
    func address(_ place: Substring, port defaultPort: Int) throws -> RedisConfiguration.Address {
        let host: Substring
        var port = place[place.endIndex...]
        if place.first == "[" {
            guard let end = place.firstIndex(of: "]") else {
                throw Self.refusal("has a host with “[” but no “]”")
            }
            host = place[place.index(after: place.startIndex)..<end]
            port = place[place.index(after: end)...]
        } else {
            host = place.prefix { $0 != ":" }
            port = place[host.endIndex...]
        }
        guard !host.isEmpty else { throw Self.refusal("has no host") }
        let name = try Self.decode(host, part: "host")
        if port.isEmpty { return .tcp(host: name, port: defaultPort) }
        guard port.first == ":", let number = Self.digits(port.dropFirst()), (1...65535).contains(number)
        else {
            throw Self.refusal("has the port “\(port.dropFirst())”: expected 1 to 65535")
        }
        return .tcp(host: name, port: number)
    }

    /// The number behind the slash that `path` begins with; 0 if there is none.
    func database(_ path: Substring) throws -> Int {
        let number = path.dropFirst()
        if number.isEmpty { return 0 }
        guard let database = Self.digits(number) else {
            throw Self.refusal("has the database “\(number)”: expected a number")
        }
        return database
    }

    /// The name of a master, and the rest of the path.
    func master() throws -> (String, Substring) {
        let name = path.dropFirst().prefix { $0 != "/" }
        guard !name.isEmpty else { throw Self.refusal("has no name of a master behind its sentinels") }
        return (try Self.decode(name, part: "master"), path[name.endIndex...])
    }

    /// The path of a socket, which is all that a unix address has.
    func socketPath() throws -> String {
        guard place.isEmpty else {
            throw Self.refusal("has a host, but a unix address has none: expected unix:///path")
        }
        let path = try Self.decode(path, part: "path")
        guard path.utf8.count > 1 else { throw Self.refusal("has no path of a socket") }
        guard path.utf8.count <= SocketAddress.pathBytesMax else {
            throw Self.refusal(
                "has a path of \(path.utf8.count) bytes: at most \(SocketAddress.pathBytesMax) are possible")
        }
        return path
    }

    static func refusal(_ sentence: String) -> RedisError {
        RedisError(.configuration, "the address of Redis \(sentence)")
    }

    private mutating func readParameters(_ text: Substring) throws {
        for pair in text.split(separator: "&", omittingEmptySubsequences: false) {
            let name = String(pair.prefix { $0 != "=" })
            guard !name.isEmpty, pair.utf8.count > name.utf8.count else {
                throw Self.refusal("has a “?” that no name=value follows")
            }
            let value = try Self.decode(pair.dropFirst(name.count + 1), part: name)
            guard !value.isEmpty else { throw Self.refusal("has an empty \(name)") }
            guard parameters.updateValue(value, forKey: name) == nil else {
                throw Self.refusal("has \(name) twice")
            }
        }
    }

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
}

extension StringProtocol {
    /// The first place of a short text; the standard library has it only for `Collection` under Foundation.
    fileprivate func range(of text: String) -> Range<Index>? {
        indices.lazy
            .first { self[$0...].hasPrefix(text) }
            .map { $0..<index($0, offsetBy: text.count) }
    }
}
