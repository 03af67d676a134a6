import HTTPTypes

/// All routes, and which of them a request means.
struct RouteTable: Sendable {
    /// What a method and a path mean.
    enum Match {
        case route(Route, parameters: [String: String])
        /// The path exists with these methods.
        case methodNotAllowed([HTTPRequest.Method])
        case none
    }

    private struct Pattern: Sendable {
        let segments: [Substring]
        let routes: [Route]
    }

    /// The routes in the order in which they are described.
    let routes: [Route]
    private let patterns: [Int: [Pattern]]

    init(_ routes: [Route]) {
        self.routes = routes
        let byPath = Dictionary(grouping: routes, by: \.path).values.map { routes in
            Pattern(segments: routes[0].path.split(separator: "/"), routes: routes)
        }
        // Where a word and a parameter both fit, the word means it.
        let sorted = byPath.sorted { $0.routes[0].parameterNames.count < $1.routes[0].parameterNames.count }
        patterns = Dictionary(grouping: sorted) { $0.segments.count }
    }

    /// What a request line means; the path is without its query.
    func match(_ method: HTTPRequest.Method, _ path: Substring) -> Match {
        let segments = path.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
        for pattern in patterns[segments.count] ?? [] {
            guard let parameters = Self.parameters(of: segments, pattern.segments) else { continue }
            if let route = pattern.routes.first(where: { $0.method == method }) {
                return .route(route, parameters: parameters)
            }
            return .methodNotAllowed(pattern.routes.map(\.method))
        }
        return .none
    }

    private static func parameters(of segments: ArraySlice<Substring>, _ pattern: [Substring]) -> [String:
        String]?
    {
        var parameters: [String: String] = [:]
        for (segment, expected) in zip(segments, pattern) {
            if expected.hasPrefix("{") {
                guard !segment.isEmpty else { return nil }
                parameters[String(expected.dropFirst().dropLast())] = String(segment)
            } else if segment != expected {
                return nil
            }
        }
        return parameters
    }
}
