/// Where an API or a gateway listens: the parts of a URL that the agent uses.
package struct ServiceAddress: Sendable, Equatable {
    /// DNS name or IP address, without brackets; also the name that the server's certificate must carry.
    package let host: String
    /// TCP port.
    package let port: Int
    /// What stands before the agent's own paths: empty, or a path that begins with a slash and does not end
    /// with one.
    package let path: String

    /// The parts of a URL with exactly this scheme; without a port it is 443. User, query and fragment are
    /// refused.
    package init(_ url: String, scheme: String) throws(AgentError) {
        func refusal(_ reason: String) -> AgentError {
            AgentError(.invalid, "\"\(url.prefix(200))\" \(reason)")
        }
        guard url.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { throw refusal("is not a URL") }
        guard url.lowercased().hasPrefix("\(scheme)://") else {
            throw refusal("must begin with \(scheme)://")
        }
        let rest = url.dropFirst(scheme.count + 3)
        let authority = rest.prefix { $0 != "/" }
        var path = rest.dropFirst(authority.count)
        while path.hasSuffix("/") { path = path.dropLast() }
        guard !rest.contains(where: { "?#@\\".contains($0) }) else {
            throw refusal("must hold host, port and path only")
        }

        var host = authority
        var port: Substring?
        if authority.hasPrefix("["), let bracket = authority.firstIndex(of: "]") {
            host = authority[authority.index(after: authority.startIndex)..<bracket]
            let tail = authority[authority.index(after: bracket)...]
            guard tail.isEmpty || tail.hasPrefix(":") else { throw refusal("has a port that is none") }
            port = tail.isEmpty ? nil : tail.dropFirst()
        } else if let colon = authority.firstIndex(of: ":") {
            host = authority[..<colon]
            port = authority[authority.index(after: colon)...]
        }
        guard !host.isEmpty else { throw refusal("names no host") }
        let number = port.map { Int($0) ?? 0 } ?? 443
        guard (1...65_535).contains(number) else { throw refusal("has a port that is none") }
        self.host = String(host)
        self.port = number
        self.path = String(path)
    }

    /// Host and port as they stand in a `Host` header.
    package var authority: String { (host.contains(":") ? "[\(host)]" : host) + ":\(port)" }
}
