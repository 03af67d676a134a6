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
    /// Statuses beside `status` with which the same is answered.
    var otherStatuses: [HTTPResponse.Status] = []
    /// Whether what is answered is edited by versions, and so has an `ETag`.
    var isVersioned = false
    /// The codes of refusals that are this call's own, beside those that its parts bring.
    var ownRefusals: [ProblemCode] = []
    let respond: @Sendable (Call) async throws -> Reply

    /// The names in braces of the path, in order.
    var parameterNames: [String] {
        path.split(separator: "/").filter { $0.hasPrefix("{") }.map { String($0.dropFirst().dropLast()) }
    }

    /// The same call, with refusals of its own.
    func refusing(_ codes: ProblemCode...) -> Route {
        var route = self
        route.ownRefusals += codes
        return route
    }

    /// Every code that it may be refused with. What is judged before the route is known is not the route's:
    /// an unknown path is `notFound`, another method `methodNotAllowed`.
    var refusals: Set<ProblemCode> {
        // Anything may come from another host, bring a header or a query that the call does not take, or
        // meet a database that does not answer.
        var codes = Set(ownRefusals).union([
            .hostNotAllowed, .unknownField, .notSupported, .invalid, .internal, .unavailable,
        ])
        if caller != .anyone {
            codes.formUnion([.unauthorized, .forbidden, .stepUpRequired, .rateLimited])
            if method != .get { codes.formUnion([.crossSite, .alteredRow, .archived]) }
        }
        if path.contains("{") || body?.shape.namesSomething == true { codes.insert(.notFound) }
        if query.contains(where: \.isRequired) { codes.insert(.missing) }
        if !query.isEmpty { codes.insert(.wrongType) }
        if body != nil {
            codes.formUnion([.malformed, .unsupportedMediaType, .tooLarge, .missing, .wrongType])
        }
        if takesIfMatch { codes.insert(.preconditionFailed) }
        if takesIdempotencyKey { codes.insert(.idempotencyConflict) }
        return codes
    }
}

extension Route {
    /// A call without a body that answers JSON.
    static func get<Answer: WireObject>(
        _ path: String, _ summary: String, _ caller: Caller,
        respond: @escaping @Sendable (Call) async throws -> Answer
    ) -> Route {
        .reading(path, summary, caller, [], Answer.self) { call in
            try call.requireNoQuery()
            return try await respond(call)
        }
    }

    /// A call with a query that answers JSON.
    static func get<Query: WireObject, Answer: WireObject>(
        _ path: String, _ summary: String, _ caller: Caller,
        respond: @escaping @Sendable (Call, Query) async throws -> Answer
    ) -> Route {
        let query = Query.shape(.none).fields
        return .reading(path, summary, caller, query, Answer.self) { call in
            try await respond(call, call.query(Query.self, query))
        }
    }

    private static func reading<Answer: WireObject>(
        _ path: String, _ summary: String, _ caller: Caller, _ query: [Shape.Field], _: Answer.Type,
        _ read: @escaping @Sendable (Call) async throws -> Answer
    ) -> Route {
        let shape = Answer.shape(.none)
        return Route(
            method: .get, path: path, summary: summary, caller: caller,
            query: query + [FieldSelection.parameter], status: .ok, answer: .json(shape),
            isVersioned: Answer.self is any Versioned.Type
        ) { call in
            let selection = try FieldSelection(call.rawQuery, of: shape)
            let reply = Reply.json(try await read(call))
            return try selection?.apply(to: reply) ?? reply
        }
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
            answer: .json(Answer.shape(.none)), isVersioned: Answer.self is any Versioned.Type
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
            answer: .json(Answer.shape(.none)), isVersioned: Answer.self is any Versioned.Type
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
            status: .ok, answer: .json(Answer.shape(.none)), isVersioned: Answer.self is any Versioned.Type
        ) { call in .json(try await respond(call, Body.decode(call.body))) }
    }

    /// A call that answers something else than JSON.
    static func download(
        _ path: String, _ summary: String, _ caller: Caller, _ contentType: String,
        respond: @escaping @Sendable (Call) async throws -> Reply
    ) -> Route {
        Route(
            method: .get, path: path, summary: summary, caller: caller, status: .ok,
            answer: .other(contentType), respond: respond)
    }

    /// A call that takes something away, if it still is what `If-Match` says.
    static func delete(
        _ path: String, _ summary: String, _ caller: Caller, takesIfMatch: Bool = true,
        respond: @escaping @Sendable (Call) async throws -> Void
    ) -> Route {
        Route(
            method: .delete, path: path, summary: summary, caller: caller,
            takesIfMatch: takesIfMatch, status: .noContent, answer: .empty
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
            answer: .json(Answer.shape(.none)), isVersioned: Answer.self is any Versioned.Type
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

    /// Whether an id stands in it somewhere.
    var namesSomething: Bool {
        switch self {
        case .string(let format, _, _): format == "uuid"
        case .array(let element, _), .map(let element): element.namesSomething
        case .object(_, let fields): fields.contains { $0.shape.namesSomething }
        case .integer, .number, .boolean, .any: false
        }
    }
}
