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

    /// What may follow the segments so far, while the table is made. Where a word and a parameter both fit,
    /// the word means it.
    private struct Draft {
        var routes: [Route] = []
        /// The names of the parameters on the way here, in order.
        var names: [String] = []
        var words: [Substring: Draft] = [:]
        /// What stands for any segment that is not empty: one node, or none.
        var any: [Draft] = []

        mutating func add(_ route: Route, under segments: ArraySlice<Substring>) {
            guard let first = segments.first else {
                if routes.isEmpty { names = route.parameterNames }
                routes.append(route)
                return
            }
            if first.hasPrefix("{") {
                if any.isEmpty { any.append(Draft()) }
                any[0].add(route, under: segments.dropFirst())
            } else {
                words[first, default: Draft()].add(route, under: segments.dropFirst())
            }
        }
    }

    /// The same once it is made: nothing of it is copied to be looked at.
    private final class Node: Sendable {
        let routes: [Route]
        let names: [String]
        private let words: [Substring: Node]
        private let any: Node?

        init(_ draft: Draft) {
            (routes, names) = (draft.routes, draft.names)
            words = draft.words.mapValues(Node.init)
            any = draft.any.first.map(Node.init)
        }

        /// Where a path ends, and its segments that stand for parameters, in order.
        func find(
            _ segments: ArraySlice<Substring>, _ values: [Substring] = []
        ) -> (node: Node, values: [Substring])? {
            guard let first = segments.first else { return routes.isEmpty ? nil : (self, values) }
            if let found = words[first]?.find(segments.dropFirst(), values) { return found }
            return first.isEmpty ? nil : any?.find(segments.dropFirst(), values + [first])
        }
    }

    /// The routes in the order in which they are described.
    let routes: [Route]
    private let root: Node

    init(_ routes: [Route]) {
        self.routes = routes
        var root = Draft()
        for route in routes { root.add(route, under: route.path.split(separator: "/")[...]) }
        self.root = Node(root)
    }

    /// What a request line means; the path is without its query.
    func match(_ method: HTTPRequest.Method, _ path: Substring) -> Match {
        let segments = path.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
        guard let (node, values) = root.find(segments) else { return .none }
        guard let route = node.routes.first(where: { $0.method == method }) else {
            return .methodNotAllowed(node.routes.map(\.method))
        }
        var parameters: [String: String] = [:]
        for (name, value) in zip(node.names, values) { parameters[name] = String(value) }
        return .route(route, parameters: parameters)
    }
}
