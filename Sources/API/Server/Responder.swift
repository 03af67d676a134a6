import Access
import Domain
import Engine
import HTTPTypes
import Hummingbird
import Logging
import NIOCore
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

    /// How long a body may take to arrive.
    static let bodyTimeout = TimeAmount.seconds(60)
    /// How long a connection stays for the answer to be read, whose request was not read to its end.
    static let lingering = TimeAmount.seconds(1)
    /// An unread body up to this is skipped, a larger one costs the connection.
    static let skippedBytesMax = 64 << 10

    let routes: RouteTable
    let hosts: Set<String>
    let authenticator: Authenticator
    /// Requests, and refusals by their code.
    let counters: EventCounters
    let logger: Logger

    func respond(to request: Request, context: Context) async throws -> Response {
        let requestID = UniqueID.v7(at: .now()).description
        var logger = logger
        logger[metadataKey: "request.id"] = .string(requestID)
        let trace = Self.trace(of: request)
        logger[metadataKey: "trace"] = .string(trace.traceID)
        let isRead = Flag()
        var reply: Reply
        do {
            reply = try await TraceContext.$current.withValue(trace) {
                try await self.reply(to: request, requestID, isRead, context, logger)
            }
        } catch let error as HTTPParserBroke {
            throw error.cause
        } catch {
            let problem = Problem.of(error)
            if problem == nil {
                logger.error("a request failed unexpectedly", metadata: ["error": "\(error)"])
            }
            if problem?.status == 503 {
                logger.warning("a request was refused", metadata: ["error": "\(error)"])
            }
            let shown = problem ?? .unexpected
            counters.increment("refused.\(shown.code)")
            reply = shown.reply(requestID: requestID)
        }
        counters.increment("requests")
        reply.headers[.xRequestID] = requestID
        reply.headers[.traceparent] = trace.traceparent
        reply.headers[.xContentTypeOptions] = "nosniff"
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
        to request: Request, _ requestID: String, _ isRead: Flag, _ context: Context, _ logger: Logger
    ) async throws -> Reply {
        try checkHost(request)
        let target = Substring(request.head.path ?? "")
        let path = target.prefix { $0 != "?" }
        let (route, parameters) = try route(request.method, path)
        var credential: String?
        var caller: Principal?
        if case .permitted(let permission) = route.caller {
            let key = try Self.credential(of: request)
            let principal = try await authenticator.principal(of: key)
            try principal.require(permission)
            (credential, caller) = (key, principal)
        }
        let rawQuery = path.endIndex < target.endIndex ? target[target.index(after: path.endIndex)...] : nil
        if route.query.isEmpty, let rawQuery, !rawQuery.isEmpty {
            throw FieldError(.unknownField, field: "query", "takes no parameters here")
        }
        if !route.takesIdempotencyKey, request.headers[.idempotencyKey] != nil, request.method == .post {
            throw FieldError(
                .notSupported, field: "Idempotency-Key", "is not supported for this call yet")
        }
        var bytes: [UInt8] = []
        if let body = route.body {
            try Self.checkContentType(request)
            bytes = try await read(request, bytesMax: body.bytesMax, context)
            isRead.set()
        }
        return try await route.respond(
            Call(
                id: requestID, caller: caller, credential: credential, parameters: parameters,
                rawQuery: rawQuery,
                body: bytes,
                idempotencyKey: route.takesIdempotencyKey ? try Self.idempotencyKey(of: request) : nil,
                stream: request.body, logger: logger))
    }

    // MARK: The head

    /// A step of the caller's trace, or of a new one where none is named that can be read.
    private static func trace(of request: Request) -> TraceContext {
        let fields = request.headers[values: .traceparent]
        guard fields.count == 1, let caller = TraceContext(fields[0]) else { return .new() }
        return caller.next()
    }

    private func checkHost(_ request: Request) throws {
        guard let authority = request.head.authority, hosts.contains(Self.hostName(authority)) else {
            throw Problem(
                .misdirectedRequest, "hostNotAllowed",
                "the Host header names a host that this listener does not serve")
        }
    }

    /// The name of `name:port`, `[::1]:port` or either without a port, in lower case.
    static func hostName(_ authority: String) -> String {
        let text = authority.lowercased()
        if text.hasPrefix("["), let end = text.firstIndex(of: "]") {
            return String(text[text.index(after: text.startIndex)..<end])
        }
        return String(text.prefix { $0 != ":" })
    }

    private func route(_ method: HTTPRequest.Method, _ path: Substring) throws -> (Route, [String: String]) {
        switch routes.match(method == .head ? .get : method, path) {
        case .route(let route, let parameters): return (route, parameters)
        case .methodNotAllowed(let methods):
            let allowed = methods.map(\.rawValue).joined(separator: ", ")
            throw Problem(
                .methodNotAllowed, "methodNotAllowed",
                "\(printable(method.rawValue)) is not allowed here; allowed: \(allowed)")
        case .none:
            if case .route(let route, _) = Handlers.notSupportedYet.match(.get, path) {
                throw Handlers.notSupported(route.path)
            }
            throw Problem.notFound("there is no such path; /openapi.json lists those that there are")
        }
    }

    private static func credential(of request: Request) throws(AccessError) -> String {
        let fields = request.headers[values: .authorization]
        let parts = (fields.first ?? "").split(separator: " ")
        guard fields.count == 1, parts.count == 2, parts[0].lowercased() == "bearer" else {
            throw AccessError.unauthorized
        }
        return String(parts[1])
    }

    private static func idempotencyKey(of request: Request) throws -> String? {
        guard let key = request.headers[.idempotencyKey] else { return nil }
        guard Limits.idempotencyKeyBytes.contains(key.utf8.count),
            key.utf8.allSatisfy({ (0x20..<0x7F).contains($0) })
        else {
            throw FieldError(
                .invalid, field: "Idempotency-Key",
                "must be 1 to \(Limits.idempotencyKeyBytes.upperBound) printable ASCII characters"
            )
        }
        return key
    }

    // MARK: The body

    private static func checkContentType(_ request: Request) throws {
        let type = (request.headers[.contentType] ?? "").prefix { $0 != ";" }.lowercased()
        guard type.split(separator: " ").first == "application/json" else {
            throw Problem(
                .unsupportedMediaType, "unsupportedMediaType",
                "the body must be sent as Content-Type: application/json")
        }
    }

    private func read(_ request: Request, bytesMax: Int, _ context: Context) async throws -> [UInt8] {
        let length = request.headers[.contentLength].flatMap { Int($0) } ?? 0
        guard length <= bytesMax else { throw Problem.tooLarge(bytesMax: bytesMax) }
        let channel = context.channel
        let timer = channel.eventLoop.scheduleTask(in: Self.bodyTimeout) { channel.close(promise: nil) }
        defer { timer.cancel() }
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

    /// Whether the body was read to its end.
    private final class Flag: Sendable {
        private let value = Atomic(false)

        var isSet: Bool { value.load(ordering: .relaxed) }
        func set() { value.store(true, ordering: .relaxed) }
    }
}

extension HTTPField.Name {
    static let xRequestID = HTTPField.Name("X-Request-Id")!
    static let traceparent = HTTPField.Name("traceparent")!
    static let idempotencyKey = HTTPField.Name("Idempotency-Key")!
}
