import Access
import Domain
import Hummingbird
import Logging
import NIOCore
import Postgres
import Wire

/// One request, judged so far as its route says: what a handler works with.
struct Call: Sendable {
    /// Names the request in answer and log.
    let id: String
    /// Who is calling; absent only where the route lets anyone in.
    let caller: Principal?
    /// The text of the caller's key, to judge a long stream again.
    let credential: String?
    /// The parameters of the path.
    let parameters: [String: String]
    /// The query, still encoded.
    let rawQuery: Substring?
    /// The body, within its limit; empty where the route takes none.
    let body: [UInt8]
    let idempotencyKey: String?
    /// The request's own body stream, which ends when the client goes.
    let stream: RequestBody
    let logger: Logger

    /// Who is calling.
    var principal: Principal {
        get throws {
            guard let caller else { throw AccessError.unauthorized }
            return caller
        }
    }

    /// The rows that the caller sees.
    var scope: Scope { get throws { try principal.scope } }

    /// The path's id; text that is none names nothing.
    func id<Subject>(_: ID<Subject>.Type = ID<Subject>.self) throws -> ID<Subject> {
        guard let text = parameters["id"], let id = ID<Subject>(text) else { throw Problem.notFound() }
        return id
    }

    /// The query as the route's type reads it.
    func query<Query: WireObject>(_: Query.Type, _ fields: [Shape.Field]) throws -> Query {
        try Query.read(QueryText.json(of: rawQuery ?? "", fields), .none, field: "")
    }
}

/// What a handler answers.
struct Reply: Sendable {
    var status: HTTPResponse.Status
    var headers: HTTPFields
    var body: ResponseBody

    /// A JSON answer.
    static func json(_ value: some JSONWritable, status: HTTPResponse.Status = .ok) -> Reply {
        bytes(value.json, "application/json", status: status)
    }

    /// An answer of bytes.
    static func bytes(_ bytes: [UInt8], _ contentType: String, status: HTTPResponse.Status = .ok) -> Reply {
        Reply(
            status: status, headers: [.contentType: contentType, .contentLength: String(bytes.count)],
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
    }
}
