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
        case let error as JSONSyntaxError: Problem(.badRequest, "malformed", "the body is not JSON: \(error)")
        case let error as FieldError:
            Problem(.unprocessableContent, error.reason.rawValue, error.description, field: error.field)
        case let error as AccessError: of(error)
        case let error as EngineError: of(error)
        case let error as LedgerError: of(error)
        case let error as PostgresError: of(error)
        case is RedisError, is QueueError:
            Problem(.serviceUnavailable, "unavailable", "the queue does not answer now; try again")
        default: nil
        }
    }

    private static func of(_ error: AccessError) -> Problem {
        switch error.code {
        case .unauthorized: Problem(.unauthorized, "unauthorized", error.description)
        case .forbidden: Problem(.forbidden, "forbidden", error.description, field: error.field)
        case .notFound: Problem(.notFound, "notFound", error.description, field: error.field)
        case .alteredRow: Problem(.forbidden, "alteredRow", error.description, field: error.field)
        case .invalid: Problem(.unprocessableContent, "invalid", error.description, field: error.field)
        case .conflict: Problem(.conflict, "conflict", error.description, field: error.field)
        case .secondFactorRequired:
            Problem(.unauthorized, "secondFactorRequired", error.description, field: error.field)
        case .stepUpRequired: Problem(.forbidden, "stepUpRequired", error.description, field: error.field)
        case .approvalPending: Problem(.conflict, "approvalPending", error.description)
        case .throttled: Problem(.tooManyRequests, "throttled", error.description, retryAfterSeconds: 30)
        case .overloaded: Problem(.serviceUnavailable, "overloaded", error.description)
        case .preconditionFailed:
            Problem(.preconditionFailed, "preconditionFailed", error.description, field: error.field)
        }
    }

    private static func of(_ error: EngineError) -> Problem {
        switch error.code {
        case .invalid: Problem(.unprocessableContent, "invalid", error.description, field: error.field)
        case .notFound: Problem(.notFound, "notFound", error.description, field: error.field)
        case .conflict: Problem(.conflict, "conflict", error.description, field: error.field)
        case .idempotencyConflict:
            Problem(.conflict, "idempotencyConflict", error.description, field: error.field)
        case .notSupported:
            Problem(.unprocessableContent, "notSupported", error.description, field: error.field)
        case .uniqueConflict: Problem(.conflict, "uniqueConflict", error.description, field: error.field)
        case .expiredToken: Problem(.unauthorized, "expiredToken", error.description, field: error.field)
        case .overloaded: Problem(.serviceUnavailable, "overloaded", error.description, field: error.field)
        case .alteredRow: Problem(.forbidden, "alteredRow", error.description, field: error.field)
        case .forbidden: Problem(.forbidden, "forbidden", error.description, field: error.field)
        case .draining: Problem(.conflict, "draining", error.description, field: error.field)
        case .quotaExceeded: quotaExceeded(error)
        case .confirmationRequired: guarded(.conflict, "confirmationRequired", error)
        case .approvalRequired: guarded(.forbidden, "approvalRequired", error)
        }
    }

    private static func guarded(
        _ status: HTTPResponse.Status, _ code: String, _ error: EngineError
    ) -> Problem {
        var problem = Problem(status, code, error.description, field: error.field)
        problem.devices = error.reach?.devices
        return problem
    }

    private static func quotaExceeded(_ error: EngineError) -> Problem {
        var problem = Problem(
            .tooManyRequests, "quotaExceeded", error.description, field: error.field)
        problem.retryAfterSeconds = error.retryAfterSeconds
        return problem
    }

    private static func of(_ error: LedgerError) -> Problem {
        switch error.code {
        case .notFound: Problem(.notFound, "notFound", error.message)
        case .conflict: Problem(.conflict, "conflict", error.message)
        case .idempotencyConflict: Problem(.conflict, "idempotencyConflict", error.message)
        }
    }

    private static func of(_ error: PostgresError) -> Problem? {
        if error.isTransient || error.code == .closed {
            return Problem(.serviceUnavailable, "unavailable", "the database does not answer now; try again")
        }
        // insufficient_privilege: a row outside the caller's scope.
        return error.sqlState == "42501"
            ? Problem(.forbidden, "forbidden", "this lies outside what the API key may act on") : nil
    }

    /// A problem of a status; the title is the status in words.
    init(
        _ status: HTTPResponse.Status, _ code: String, _ detail: String, field: String? = nil,
        retryAfterSeconds: Int? = nil
    ) {
        self.init(
            code: code, status: status.code, title: status.reasonPhrase, detail: detail,
            field: field.flatMap { $0.isEmpty ? nil : $0 })
        self.retryAfterSeconds = retryAfterSeconds
    }

    /// Nothing there, or nothing that the caller may see.
    static func notFound(_ detail: String = "there is nothing here, or nothing that you may see") -> Problem {
        Problem(.notFound, "notFound", detail)
    }

    /// A body over its limit.
    static func tooLarge(bytesMax: Int) -> Problem {
        Problem(
            .contentTooLarge, "tooLarge", "the body has more than \(bytesMax) bytes, which is the limit here")
    }

    /// What nobody foresaw.
    static let unexpected = Problem(
        .internalServerError, "internal", "something failed here; the log has more under this request's id")

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
