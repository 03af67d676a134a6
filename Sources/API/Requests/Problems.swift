import Access
import Engine
import HTTPTypes
import Ledger
import Postgres
import Redis
import Streams
import Trust
import Wire

/// The one mapping from refusals to HTTP: every error that reaches a caller goes through here.
extension Problem {
    /// The problem of an error; `nil` if nobody foresaw it, which makes it a 500 without details.
    static func of(_ error: any Error) -> Problem? {
        switch error {
        case let problem as Problem: problem
        case let other as MethodNotAllowed: Problem(.methodNotAllowed, other.description)
        case let error as JSONSyntaxError: Problem(.malformed, "the body is not JSON: \(error)")
        case let error as FieldError:
            Problem(error.reason.code, error.description, field: error.field)
        case let error as AccessError: of(error)
        case let error as EngineError: of(error)
        case let error as LedgerError: of(error)
        case let error as PostgresError: of(error)
        case is RedisError, is QueueError:
            Problem(.unavailable, "the queue does not answer now; try again")
        default: nil
        }
    }

    private static func of(_ error: AccessError) -> Problem {
        switch error.code {
        case .unauthorized: Problem(.unauthorized, error.description)
        case .forbidden: Problem(.forbidden, error.description, field: error.field)
        case .notFound: Problem(.notFound, error.description, field: error.field)
        case .alteredRow: Problem(.alteredRow, error.description, field: error.field)
        case .archived: Problem(.archived, error.description, field: error.field)
        case .invalid: Problem(.invalid, error.description, field: error.field)
        case .conflict: Problem(.conflict, error.description, field: error.field)
        case .secondFactorRequired:
            Problem(.secondFactorRequired, error.description, field: error.field)
        case .stepUpRequired: Problem(.stepUpRequired, error.description, field: error.field)
        case .approvalPending: Problem(.approvalPending, error.description)
        case .throttled: Problem(.throttled, error.description, retryAfterSeconds: 30)
        case .overloaded: Problem(.overloaded, error.description)
        case .preconditionFailed:
            Problem(.preconditionFailed, error.description, field: error.field)
        }
    }

    private static func of(_ error: EngineError) -> Problem {
        switch error.code {
        case .invalid: Problem(.invalid, error.description, field: error.field)
        case .notFound: Problem(.notFound, error.description, field: error.field)
        case .conflict: Problem(.conflict, error.description, field: error.field)
        case .idempotencyConflict:
            Problem(.idempotencyConflict, error.description, field: error.field)
        case .notSupported:
            Problem(.notSupported, error.description, field: error.field)
        case .uniqueConflict: Problem(.uniqueConflict, error.description, field: error.field)
        case .expiredToken: Problem(.expiredToken, error.description, field: error.field)
        case .overloaded: Problem(.overloaded, error.description, field: error.field)
        case .alteredRow: Problem(.alteredRow, error.description, field: error.field)
        case .archived: Problem(.archived, error.description, field: error.field)
        case .forbidden: Problem(.forbidden, error.description, field: error.field)
        case .draining: Problem(.draining, error.description, field: error.field)
        case .quotaExceeded: quotaExceeded(error)
        case .stepUpRequired: Problem(.stepUpRequired, error.description, field: error.field)
        case .confirmationRequired: guarded(.confirmationRequired, error)
        case .approvalRequired: guarded(.approvalRequired, error)
        }
    }

    private static func guarded(_ code: ProblemCode, _ error: EngineError) -> Problem {
        var problem = Problem(code, error.description, field: error.field)
        problem.devices = error.reach?.devices
        return problem
    }

    private static func quotaExceeded(_ error: EngineError) -> Problem {
        var problem = Problem(.quotaExceeded, error.description, field: error.field)
        problem.retryAfterSeconds = error.retryAfterSeconds
        return problem
    }

    private static func of(_ error: LedgerError) -> Problem {
        switch error.code {
        case .notFound: Problem(.notFound, error.message)
        case .conflict: Problem(.conflict, error.message)
        case .idempotencyConflict: Problem(.idempotencyConflict, error.message)
        }
    }

    private static func of(_ error: PostgresError) -> Problem? {
        if error.isTransient || error.code == .closed {
            return Problem(.unavailable, "the database does not answer now; try again")
        }
        // insufficient_privilege: a row outside the caller's scope.
        return error.sqlState == "42501"
            ? Problem(.forbidden, "this lies outside what the API key may act on") : nil
    }

    /// A problem of a code; the title is its status in words.
    init(_ code: ProblemCode, _ detail: String, field: String? = nil, retryAfterSeconds: Int? = nil) {
        self.init(
            code: code.rawValue, status: code.status.code, title: code.status.reasonPhrase, detail: detail,
            field: field.flatMap { $0.isEmpty ? nil : $0 })
        self.retryAfterSeconds = retryAfterSeconds
    }

    /// Nothing there, or nothing that the caller may see.
    static func notFound(_ detail: String = "there is nothing here, or nothing that you may see") -> Problem {
        Problem(.notFound, detail)
    }

    /// A body over its limit.
    static func tooLarge(bytesMax: Int) -> Problem {
        Problem(.tooLarge, "the body has more than \(bytesMax) bytes, which is the limit here")
    }

    /// What nobody foresaw.
    static let unexpected = Problem(
        .internal, "something failed here; the log has more under this request's id")

    /// The answer that carries it.
    func reply(requestID: String) -> Reply {
        var named = self
        named.requestId = requestID
        var reply = Reply.bytes(
            named.json, "application/problem+json",
            status: HTTPResponse.Status(code: status, reasonPhrase: title))
        switch status {
        case 401: reply.headers[.wwwAuthenticate] = "Bearer"
        case 503: reply.headers[.retryAfter] = "1"
        default: break
        }
        if let retryAfterSeconds { reply.headers[.retryAfter] = "\(retryAfterSeconds)" }
        return reply
    }
}

/// A method that a path does not have, beside those that it has.
struct MethodNotAllowed: Error, CustomStringConvertible {
    let method: HTTPRequest.Method
    let methods: [HTTPRequest.Method]

    /// The value of `Allow` (RFC 9110, 10.2.1); what has GET has HEAD.
    var allowed: String {
        (methods + (methods.contains(.get) ? [.head] : [])).map(\.rawValue).joined(separator: ", ")
    }

    var description: String { "\(printable(method.rawValue)) is not allowed here; allowed: \(allowed)" }
}
