import Access
import HTTPTypes
import Wire

/// One call of the API, as data: the router, the permission check and the OpenAPI document all come from it.
struct Route: Sendable {
    /// Who may call.
    enum Caller: Sendable, Equatable {
        /// Anyone who reaches the listener.
        case anyone
        /// Any principal.
        case known
        /// A principal with this permission.
        case permitted(Permission)
    }

    /// What a body must be.
    struct Body: Sendable {
        let shape: Shape
        let bytesMax: Int
    }

    /// What an answer carries.
    enum Answer: Sendable {
        case json(Shape)
        /// Server-sent events, each with one JSON value.
        case events(Shape)
        /// Anything else, by its content type.
        case other(String)
        /// Nothing.
        case empty
    }

    let method: HTTPRequest.Method
    /// The path as OpenAPI writes it, with names of parameters in braces.
    let path: String
    let summary: String
    let caller: Caller
    /// The fields of the query; none means that every query is refused.
    var query: [Shape.Field] = []
    var body: Body?
    /// Whether the call takes an `Idempotency-Key`.
    var takesIdempotencyKey = false
    /// Whether the call takes an `If-Match` with the version that is to be changed.
    var takesIfMatch = false
    /// The status of success.
    let status: HTTPResponse.Status
    let answer: Answer
    let respond: @Sendable (Call) async throws -> Reply

    /// The names in braces of the path, in order.
    var parameterNames: [String] {
        path.split(separator: "/").filter { $0.hasPrefix("{") }.map { String($0.dropFirst().dropLast()) }
    }
}

extension Route {
    /// A call without a body that answers JSON.
    static func get<Answer: WireObject>(
        _ path: String, _ summary: String, _ caller: Caller,
        respond: @escaping @Sendable (Call) async throws -> Answer
    ) -> Route {
        Route(
            method: .get, path: path, summary: summary, caller: caller, status: .ok,
            answer: .json(Answer.shape(.none))
        ) { call in .json(try await respond(call)) }
    }

    /// A call with a query that answers JSON.
    static func get<Query: WireObject, Answer: WireObject>(
        _ path: String, _ summary: String, _ caller: Caller,
        respond: @escaping @Sendable (Call, Query) async throws -> Answer
    ) -> Route {
        let query = Query.shape(.none).fields
        return Route(
            method: .get, path: path, summary: summary, caller: caller, query: query,
            status: .ok,
            answer: .json(Answer.shape(.none))
        ) { call in .json(try await respond(call, call.query(Query.self, query))) }
    }

    /// A call with a JSON body that answers JSON.
    static func post<Body: WireObject, Answer: WireObject>(
        _ path: String, _ summary: String, _ caller: Caller, status: HTTPResponse.Status = .created,
        bytesMax: Int = Limits.bodyBytesMax, takesIdempotencyKey: Bool = false, takesIfMatch: Bool = false,
        respond: @escaping @Sendable (Call, Body) async throws -> Answer
    ) -> Route {
        Route(
            method: .post, path: path, summary: summary, caller: caller,
            body: Route.Body(shape: Body.shape(.none), bytesMax: bytesMax),
            takesIdempotencyKey: takesIdempotencyKey, takesIfMatch: takesIfMatch, status: status,
            answer: .json(Answer.shape(.none))
        ) { call in .json(try await respond(call, Body.decode(call.body)), status: status) }
    }

    /// A call that sets what its JSON body says.
    static func put<Body: WireObject, Answer: WireObject>(
        _ path: String, _ summary: String, _ caller: Caller,
        respond: @escaping @Sendable (Call, Body) async throws -> Answer
    ) -> Route {
        Route(
            method: .put, path: path, summary: summary, caller: caller,
            body: Route.Body(shape: Body.shape(.none), bytesMax: Limits.bodyBytesMax), status: .ok,
            answer: .json(Answer.shape(.none))
        ) { call in .json(try await respond(call, Body.decode(call.body))) }
    }

    /// A call that changes what its JSON body names (RFC 7396), if it still is what `If-Match` says.
    static func patch<Body: WireObject, Answer: WireObject>(
        _ path: String, _ summary: String, _ caller: Caller,
        respond: @escaping @Sendable (Call, Body) async throws -> Answer
    ) -> Route {
        Route(
            method: .patch, path: path, summary: summary, caller: caller,
            body: Route.Body(shape: Body.shape(.none), bytesMax: Limits.bodyBytesMax), takesIfMatch: true,
            status: .ok, answer: .json(Answer.shape(.none))
        ) { call in .json(try await respond(call, Body.decode(call.body))) }
    }

    /// A call that takes something away, if it still is what `If-Match` says.
    static func delete(
        _ path: String, _ summary: String, _ caller: Caller,
        respond: @escaping @Sendable (Call) async throws -> Void
    ) -> Route {
        Route(
            method: .delete, path: path, summary: summary, caller: caller,
            takesIfMatch: true, status: .noContent, answer: .empty
        ) { call in
            try await respond(call)
            return .empty
        }
    }

    /// A call without a body that changes something.
    static func post<Answer: WireObject>(
        _ path: String, _ summary: String, _ caller: Caller, status: HTTPResponse.Status,
        takesIfMatch: Bool = false, respond: @escaping @Sendable (Call) async throws -> Answer
    ) -> Route {
        Route(
            method: .post, path: path, summary: summary, caller: caller, takesIfMatch: takesIfMatch,
            status: status,
            answer: .json(Answer.shape(.none))
        ) { call in .json(try await respond(call), status: status) }
    }

    /// A call that anyone may make, for other things than JSON of the contract.
    static func open(
        _ path: String, _ summary: String, _ contentType: String,
        respond: @escaping @Sendable (Call) async throws -> Reply
    ) -> Route {
        Route(
            method: .get, path: path, summary: summary, caller: .anyone, status: .ok,
            answer: .other(contentType),
            respond: respond)
    }
}

extension Shape {
    /// The fields of an object; none for other shapes.
    var fields: [Field] {
        guard case .object(_, let fields) = self else { return [] }
        return fields
    }
}
