import Access
import Domain
import Engine
import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import Postgres
import Synchronization
import Trust
import Wire

/// Takes a request to its route: host, route, caller, permission, query and body are judged in this order,
/// and whatever refuses becomes a problem.
struct Responder: HTTPResponder {
    /// What a request brings beside itself.
    struct Context: InitializableFromSource {
        let channel: any Channel

        init(source: ApplicationRequestContextSource) { channel = source.channel }
    }

    /// How long a connection stays for the answer to be read, whose request was not read to its end.
    static let lingering = TimeAmount.seconds(1)
    /// An unread body up to this is skipped, a larger one costs the connection.
    static let skippedBytesMax = 64 << 10

    let routes: RouteTable
    let hosts: Set<String>
    let crossOrigin: CrossOrigin
    let limiter: RateLimiter
    let authenticator: Authenticator
    let refusals: RefusalLog
    let bodies: BodyDeadlines
    /// Requests, and refusals by their code.
    let counters: EventCounters
    let logger: Logger

    func respond(to request: Request, context: Context) async throws -> Response {
        var random = RandomWords(atOnce: 5)
        let requestID = UniqueID.v7(at: .now(), using: &random).description
        let trace = RequestHeaders.trace(of: request.headers, using: &random)
        let log = CallLog(base: logger, requestID: requestID, trace: trace)
        let isRead = Flag()
        var reply: Reply
        let address = context.channel.remoteAddress?.ipAddress
        let judged = Mutex(Judged())
        do {
            reply = try await TraceContext.$current.withValue(trace) {
                try await self.reply(to: request, requestID, isRead, context, address, judged, log)
            }
        } catch let error as HTTPParserBroke {
            throw error.cause
        } catch {
            let (problem, logger) = (Problem.of(error), log.logger)
            if problem == nil {
                logger.error("a request failed unexpectedly", metadata: ["error": "\(error)"])
            }
            if problem?.status == 503 {
                logger.warning("a request was refused", metadata: ["error": "\(error)"])
            }
            let shown = problem ?? .unexpected
            counters.increment("refused.\(shown.code)")
            let judged = judged.withLock { $0 }
            if let route = judged.route, !route.refusals.contains(where: { $0.rawValue == shown.code }) {
                counters.increment("undocumented.\(route.method) \(route.path) \(shown.code)")
                logger.error(
                    "a refusal is not in the description",
                    metadata: ["route": "\(route.method) \(route.path)", "error.code": "\(shown.code)"])
            }
            await refusals.note(
                request, shown, by: judged.principal, requestID: requestID, address: address, logger)
            reply = shown.reply(requestID: requestID)
            if let other = error as? MethodNotAllowed { reply.headers[.allow] = other.allowed }
        }
        if let etag = reply.headers[.eTag], request.method == .get || request.method == .head,
            let known = request.headers[.ifNoneMatch], RequestHeaders.plainTag(known) == etag
        {
            reply = Reply(status: .notModified, headers: [.eTag: known], body: ResponseBody())
        }
        Compression.apply(to: &reply, of: request)
        counters.increment("requests")
        // No answer has them yet, so none of them is looked for.
        reply.headers.append(HTTPField(name: .xRequestID, value: requestID))
        reply.headers.append(HTTPField(name: .traceparent, value: trace.traceparent))
        reply.headers.append(HTTPField(name: .xContentTypeOptions, value: "nosniff"))
        crossOrigin.mark(&reply.headers, for: request)
        if let limit = judged.withLock({ $0.limit }) {
            reply.headers.append(HTTPField(name: .rateLimitPolicy, value: limit.policy))
            reply.headers.append(HTTPField(name: .rateLimit, value: limit.state))
        }
        if reply.headers[.cacheControl] == nil { reply.headers[.cacheControl] = "no-store" }
        if !isRead.isSet, Self.hasLargeBody(request) {
            reply.headers[.connection] = "close"
            let channel = context.channel
            channel.eventLoop.scheduleTask(in: Self.lingering) { channel.close(promise: nil) }
        }
        // RFC 9110, 9.3.2: HEAD is GET without the content.
        let body = request.method == .head ? ResponseBody() : reply.body
        return Response(status: reply.status, headers: reply.headers, body: body)
    }

    private func reply(
        to request: Request, _ requestID: String, _ isRead: Flag, _ context: Context, _ address: String?,
        _ judged: borrowing Mutex<Judged>, _ log: CallLog
    ) async throws -> Reply {
        try checkHost(request)
        let target = Substring(request.head.path ?? "")
        let path = target.prefix { $0 != "?" }
        let match = routes.match(request.method == .head ? .get : request.method, path)
        if case .methodNotAllowed(let methods) = match,
            let reply = crossOrigin.preflight(request, methods: methods)
        {
            return reply
        }
        let (route, parameters) = try Self.route(match, request.method, path)
        judged.withLock { $0.route = route }
        var credential: String?
        var isFromCookie = false
        var caller: Principal?
        var reach: Level?
        if route.caller != .anyone {
            let key: String
            (key, isFromCookie) = try self.credential(of: request)
            let principal = try await authenticator.principal(of: key)
            let limit = limiter.ask(principal: principal.id.value, tenant: principal.tenant)
            judged.withLock { ($0.principal, $0.limit) = (principal, limit) }
            if let seconds = limit?.retryAfterSeconds {
                throw Problem(
                    .rateLimited, "there are too many requests: ask again in \(seconds) seconds",
                    retryAfterSeconds: seconds)
            }
            if case .permitted(let permission) = route.caller {
                reach = try principal.require(permission)
                try await authenticator.guards.requireFresh(for: permission, by: principal)
            }
            (credential, caller) = (key, principal)
        }
        let rawQuery = path.endIndex < target.endIndex ? target[target.index(after: path.endIndex)...] : nil
        if route.query.isEmpty, let rawQuery, !rawQuery.isEmpty {
            throw FieldError(.unknownField, field: "query", "takes no parameters here")
        }
        if !route.takesIdempotencyKey, request.method == .post, request.headers[.idempotencyKey] != nil {
            throw FieldError(
                .notSupported, field: "Idempotency-Key", "is not supported for this call yet")
        }
        if !route.takesIfMatch, request.headers[.ifMatch] != nil {
            throw FieldError(.notSupported, field: "If-Match", "is not supported for this call")
        }
        var bytes: [UInt8] = []
        if let body = route.body {
            try RequestHeaders.checkContentType(of: request.headers)
            bytes = try await read(request, bytesMax: body.bytesMax, context)
            isRead.set()
        }
        let call = Call(
            id: requestID, caller: caller, reach: reach, credential: credential,
            isFromCookie: isFromCookie, address: address,
            userAgent: request.headers[.userAgent], parameters: parameters,
            rawQuery: rawQuery, body: bytes,
            idempotencyKey: route.takesIdempotencyKey
                ? try RequestHeaders.idempotencyKey(of: request.headers) : nil,
            version: route.takesIfMatch ? try RequestHeaders.version(of: request.headers) : nil,
            stream: request.body,
            log: log)
        // What the call changes is noted as this caller's.
        let actor =
            caller.map { $0.actor(requestID: requestID, address: address) }
            ?? Principal.unknownActor(requestID: requestID, address: address)
        return try await Actor.$current.withValue(actor) { try await route.respond(call) }
    }

    // MARK: The head

    private func checkHost(_ request: Request) throws {
        guard let authority = request.head.authority, hosts.contains(RequestHeaders.hostName(authority))
        else {
            throw Problem(
                .hostNotAllowed,
                "the Host header names a host that this listener does not serve")
        }
    }

    private static func route(
        _ match: RouteTable.Match, _ method: HTTPRequest.Method, _ path: Substring
    ) throws -> (Route, [String: String]) {
        switch match {
        case .route(let route, let parameters): return (route, parameters)
        case .methodNotAllowed(let methods):
            throw MethodNotAllowed(method: method, methods: methods)
        case .none:
            if case .route(let route, _) = Handlers.notSupportedYet.match(.get, path) {
                throw Handlers.notSupported(route.path)
            }
            throw Problem.notFound("there is no such path; /openapi.json lists those that there are")
        }
    }

    /// A key or a session: from one Authorization header, or without one from the cookie.
    private func credential(of request: Request) throws -> (text: String, isFromCookie: Bool) {
        if request.headers[.authorization] == nil, let secret = SessionCookie.secret(in: request.headers) {
            try checkOrigin(request, secret)
            return (secret, true)
        }
        return (try RequestHeaders.bearer(of: request.headers), false)
    }

    /// A browser sends its cookie with whatever a page makes it send: a change has to come from a page of
    /// this host that knows the session's word.
    private func checkOrigin(_ request: Request, _ secret: String) throws {
        guard request.method != .get, request.method != .head else { return }
        let origin = (request.headers[.origin] ?? "").split(separator: "/", omittingEmptySubsequences: false)
        let isOurs = origin.count == 3 && hosts.contains(RequestHeaders.hostName(String(origin[2])))
        let token = request.headers[.csrfToken] ?? ""
        guard isOurs, constantTimeEqual(Array(token.utf8), Array(SessionCookie.csrfToken(of: secret).utf8))
        else {
            throw Problem(
                .crossSite,
                "a change with a cookie needs the Origin of this host and the session's X-CSRF-Token")
        }
    }

    // MARK: The body

    private func read(_ request: Request, bytesMax: Int, _ context: Context) async throws -> [UInt8] {
        let length = request.headers[.contentLength].flatMap { Int($0) } ?? 0
        guard length <= bytesMax else { throw Problem.tooLarge(bytesMax: bytesMax) }
        let arrival = bodies.begin(context.channel)
        defer { bodies.end(arrival) }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(length)
        do {
            for try await part in request.body {
                guard bytes.count + part.readableBytes <= bytesMax else {
                    throw Problem.tooLarge(bytesMax: bytesMax)
                }
                bytes.append(contentsOf: part.readableBytesView)
            }
        } catch let problem as Problem {
            throw problem
        } catch {
            throw HTTPParserBroke(cause: error)
        }
        return bytes
    }

    private static func hasLargeBody(_ request: Request) -> Bool {
        if let length = request.headers[.contentLength] { return (Int(length) ?? .max) > skippedBytesMax }
        return request.headers[.transferEncoding] != nil
    }

    /// The connection broke, or what came on it is not HTTP, in the middle of a body: the connection's
    /// affair.
    private struct HTTPParserBroke: Error {
        let cause: any Error
    }

    /// What is known of a request by the time that it is refused.
    private struct Judged {
        var principal: Principal?
        var route: Route?
        var limit: RateLimiter.Answer?
    }

    /// Whether the body was read to its end.
    private final class Flag: Sendable {
        private let value = Atomic(false)

        var isSet: Bool { value.load(ordering: .relaxed) }
        func set() { value.store(true, ordering: .relaxed) }
    }
}
