import HTTPTypes
import Wire

/// Every code that a refusal may have: what programs decide by. A problem is made of one of these and of
/// nothing else, so the pages that list them are complete.
///
/// A code never changes its meaning and is not taken away within `/v1`; others may come.
enum ProblemCode: String, CaseIterable {
    // 400
    case malformed
    // 401
    case unauthorized, secondFactorRequired, expiredToken
    // 403
    case forbidden, alteredRow, crossSite, stepUpRequired, approvalRequired
    // 404
    case notFound
    // 405
    case methodNotAllowed
    // 409
    case conflict, idempotencyConflict, uniqueConflict, draining, approvalPending, archived,
        confirmationRequired
    // 412
    case preconditionFailed
    // 413
    case tooLarge
    // 415
    case unsupportedMediaType
    // 421
    case hostNotAllowed
    // 422
    case missing, wrongType, invalid, unknownField, notSupported
    // 429
    case rateLimited, throttled, quotaExceeded, tooManyStreams
    // 500
    case `internal`
    // 503
    case unavailable, overloaded

    /// The status that it comes with.
    var status: HTTPResponse.Status {
        switch self {
        case .malformed: .badRequest
        case .unauthorized, .secondFactorRequired, .expiredToken: .unauthorized
        case .forbidden, .alteredRow, .crossSite, .stepUpRequired, .approvalRequired: .forbidden
        case .notFound: .notFound
        case .methodNotAllowed: .methodNotAllowed
        case .conflict, .idempotencyConflict, .uniqueConflict, .draining, .approvalPending, .archived,
            .confirmationRequired:
            .conflict
        case .preconditionFailed: .preconditionFailed
        case .tooLarge: .contentTooLarge
        case .unsupportedMediaType: .unsupportedMediaType
        case .hostNotAllowed: .misdirectedRequest
        case .missing, .wrongType, .invalid, .unknownField, .notSupported: .unprocessableContent
        case .rateLimited, .throttled, .quotaExceeded, .tooManyStreams: .tooManyRequests
        case .internal: .internalServerError
        case .unavailable, .overloaded: .serviceUnavailable
        }
    }

    /// What it says, and what to do about it.
    var meaning: String {
        switch self {
        case .malformed:
            "The body is not JSON, has a member twice, or is nested too deeply. Send valid JSON of RFC 8259."
        case .unauthorized:
            "The API key or session is missing, unknown, expired or revoked, or a sign-in is not right; "
                + "callers are not told which. Send Authorization: Bearer with a key that is good."
        case .secondFactorRequired:
            "The second factor is missing, or was shown too long ago. Send the code of the authenticator."
        case .expiredToken: "The enrolment token has expired or was used up. Make another."
        case .forbidden:
            "The caller lacks the permission that the call needs, or would reach beyond its level. "
                + "GET /v1/whoami says what it may do where."
        case .alteredRow:
            "A row that grants power was changed outside the product, and so grants nothing. "
                + "An operator has to look into it."
        case .crossSite:
            "A change with a cookie came without the Origin of this host or the session's X-CSRF-Token."
        case .stepUpRequired:
            "The partner wants a fresh second factor for this permission. Send its code to "
                + "POST /v1/sessions/step-up, and ask again."
        case .approvalRequired:
            "It reaches so many devices that a second person has to approve it, and this call keeps nothing "
                + "for them. devices says how many."
        case .notFound:
            "There is nothing here, or nothing that the caller may see. With the code notSupported: the path "
                + "is part of the contract, but not built yet."
        case .methodNotAllowed: "The path does not have this method. The Allow header lists those it has."
        case .conflict: "What is there does not allow it. The detail says what."
        case .idempotencyConflict:
            "The Idempotency-Key was used for another body. Use another key, or the body of before."
        case .uniqueConflict: "Another job holds the unique key. Wait for it, or choose another key."
        case .draining: "An operator has new work of this scope refused. Submit again after they resume it."
        case .approvalPending: "Nobody has approved the device code yet. Ask again in a few seconds."
        case .archived:
            "It, or a level above it, is archived, and nothing new is made there. "
                + "The detail names what to restore."
        case .confirmationRequired:
            "It reaches many devices, or several organizations. Send their exact number, which devices says, "
                + "as the field that is named."
        case .preconditionFailed:
            "It was changed since it was read. Read it again, and send its ETag as If-Match."
        case .tooLarge: "The body has more bytes than the call takes. The detail names the limit."
        case .unsupportedMediaType: "The body is of another type. Send Content-Type: application/json."
        case .hostNotAllowed: "The Host header names a host that this listener does not serve."
        case .missing: "A field that must be there is missing; field names it."
        case .wrongType: "A field holds another kind of JSON value than it takes; field names it."
        case .invalid: "A value is outside what is allowed; field and detail name it and its limit."
        case .unknownField: "There is no such field or parameter; the detail lists those that there are."
        case .notSupported: "A field, kind or header of the contract is not built yet, or not for this call."
        case .rateLimited:
            "The caller, or all callers of its tenant together, ask too often. RateLimit says how much is "
                + "left; wait as long as Retry-After says."
        case .throttled: "There were too many attempts that failed. Wait as long as Retry-After says."
        case .quotaExceeded:
            "The organization would have more open than its quota allows. Wait as long as Retry-After says, "
                + "or have the quota raised."
        case .tooManyStreams: "The caller holds as many event streams as it may. Close one first."
        case .internal:
            "Something failed that nobody foresaw. The log has more under the answer's requestId."
        case .unavailable: "The database or the queue does not answer now. Try again after Retry-After."
        case .overloaded: "There is too much to do just now. Try again after Retry-After."
        }
    }

    /// Codes by their status, both in the order of the cases.
    static func byStatus(_ codes: Set<ProblemCode>) -> [(status: HTTPResponse.Status, codes: [ProblemCode])] {
        var groups: [(status: HTTPResponse.Status, codes: [ProblemCode])] = []
        for code in allCases where codes.contains(code) {
            if groups.last?.status == code.status {
                groups[groups.count - 1].codes.append(code)
            } else {
                groups.append((code.status, [code]))
            }
        }
        return groups
    }
}

extension FieldError.Reason {
    /// The code of a field that was refused for this reason.
    var code: ProblemCode {
        switch self {
        case .missing: .missing
        case .wrongType: .wrongType
        case .invalid: .invalid
        case .unknownField: .unknownField
        case .notSupported: .notSupported
        }
    }
}
