import Access
import Domain
import Hummingbird
import Ledger
import Logging
import NIOCore
import Postgres
import Wire

/// What the lines of a call's log say of it: put together only where there is one.
struct CallLog: Sendable {
    let base: Logger
    let requestID: String
    let trace: TraceContext

    var logger: Logger {
        var logger = base
        logger[metadataKey: "request.id"] = .string(requestID)
        logger[metadataKey: "trace"] = .string(trace.traceID)
        return logger
    }
}

/// One request, judged so far as its route says: what a handler works with.
struct Call: Sendable {
    /// Names the request in answer and log.
    let id: String
    /// Who is calling; absent only where the route lets anyone in.
    let caller: Principal?
    /// Where the caller may use the route's permission.
    let reach: Level?
    /// The text of the caller's key, to judge a long stream again; and whether it came as a cookie.
    let credential: String?
    let isFromCookie: Bool
    /// Where the request comes from, and with what.
    let address: String?
    let userAgent: String?
    /// The parameters of the path.
    let parameters: [String: String]
    /// The query, still encoded.
    let rawQuery: Substring?
    /// The body, within its limit; empty where the route takes none.
    let body: [UInt8]
    let idempotencyKey: String?
    /// The version that `If-Match` names; absent if any will do.
    let version: Int?
    /// The request's own body stream, which ends when the client goes.
    let stream: RequestBody
    let log: CallLog

    /// A logger that names the call in each line.
    var logger: Logger { log.logger }

    /// With what the request was made, as it can be shown.
    var agent: String { printable(userAgent ?? "unknown") }

    /// Who is calling.
    var principal: Principal {
        get throws {
            guard let caller else { throw AccessError.unauthorized }
            return caller
        }
    }

    /// Where the caller may use the route's permission.
    var level: Level {
        get throws {
            guard let reach else { throw AccessError.unauthorized }
            return reach
        }
    }

    /// The rows that the caller sees by the route's permission.
    var scope: Scope { get throws { try level.scope } }

    /// The path's id; text that is none names nothing.
    func id<Subject>(_: ID<Subject>.Type = ID<Subject>.self) throws -> ID<Subject> {
        guard let text = parameters["id"], let id = ID<Subject>(text) else { throw Problem.notFound() }
        return id
    }

    /// The query as the route's type reads it, without what selects fields of the answer.
    func query<Query: WireObject>(_: Query.Type, _ fields: [Shape.Field]) throws -> Query {
        try Query.read(queryMembers(fields), .none, field: "")
    }

    /// Refuses every parameter but what selects fields of the answer.
    func requireNoQuery() throws {
        guard case .object(let members) = try queryMembers([]), let one = members.first else { return }
        throw FieldError(
            .unknownField, field: printable(one.name), "is not a parameter here; known is: fields")
    }

    private func queryMembers(_ fields: [Shape.Field]) throws -> JSON {
        guard let rawQuery else { return .object([]) }
        guard case .object(let members) = try QueryText.json(of: rawQuery, fields) else { return .object([]) }
        return .object(members.filter { $0.name != FieldSelection.parameter.name })
    }
}

/// What a handler answers.
struct Reply: Sendable {
    var status: HTTPResponse.Status
    var headers: HTTPFields
    var body: ResponseBody
    /// The bytes of the body where they are known as a whole.
    var content: [UInt8]?
    /// The same compressed, where that was done before.
    var compressed: [UInt8]?

    /// A JSON answer; of what is edited by versions with its `ETag`.
    static func json(_ value: some JSONWritable, status: HTTPResponse.Status = .ok) -> Reply {
        var reply = bytes(value.json, "application/json", status: status)
        if let versioned = value as? any Versioned { reply.headers[.eTag] = "\"\(versioned.version)\"" }
        return reply
    }

    /// An answer that carries nothing.
    static var empty: Reply { Reply(status: .noContent, headers: [:], body: ResponseBody()) }

    /// An answer of bytes.
    static func bytes(_ bytes: [UInt8], _ contentType: String, status: HTTPResponse.Status = .ok) -> Reply {
        Reply(
            status: status, headers: [.contentType: contentType, .contentLength: String(bytes.count)],
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)), content: bytes)
    }
}
