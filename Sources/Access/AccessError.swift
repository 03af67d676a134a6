import Domain
import Trust

/// Why a caller was not let in, or was not given what it asked for.
package struct AccessError: Error, CustomStringConvertible {
    /// What kind of refusal this is.
    package enum Code: String, Sendable {
        /// The credential is absent, unknown, altered, expired or revoked: callers are not told which.
        case unauthorized
        /// The principal does not have the permission, or less than it wants to give away.
        case forbidden
        /// A level that does not exist or that the principal does not see.
        case notFound
        /// A row that the database's owner or somebody else has altered: it grants nothing.
        case alteredRow
        /// What is named, or a level above it, is archived.
        case archived
        /// The value cannot stand.
        case invalid
        /// What is there does not allow it.
        case conflict
        /// The second factor is missing.
        case secondFactorRequired
        /// It takes a second factor that was shown lately.
        case stepUpRequired
        /// Nobody has approved the device yet.
        case approvalPending
        /// Too many attempts.
        case throttled
        /// Too much to do just now.
        case overloaded
        /// The row is of another version than If-Match names.
        case preconditionFailed
    }

    /// What kind of refusal this is.
    package let code: Code
    /// The field that was refused, if one was.
    package let field: String?
    /// One sentence.
    package let message: String

    /// A refusal.
    package init(_ code: Code, field: String? = nil, _ message: String) {
        self.code = code
        self.field = field
        self.message = message
    }

    /// What a caller is told of a row that grants nothing: of an altered one that it is, of any other what it
    /// is told of an id of nobody.
    init(_ refusal: EdgeRefusal, field: String?) {
        switch refusal {
        case .missing, .outside:
            guard let field else {
                self = .nothingHere
                return
            }
            self.init(.notFound, field: field, "names nothing that you may see")
        case .altered(let edge): self.init(.alteredRow, field: field, edge.refusal)
        case .archived(let edge): self.init(.archived, field: field, edge.archived)
        }
    }

    /// The answer where there is nothing, or nothing that the caller may see.
    package static let nothingHere = AccessError(
        .notFound, "there is nothing here, or nothing that you may see")

    /// The answer to who edits what somebody else has edited since.
    package static let changedMeanwhile = AccessError(
        .preconditionFailed, "it was changed since you read it: read it again, and send its ETag as If-Match")

    /// The one answer to whoever does not get in.
    package static let notSignedIn = AccessError(
        .unauthorized, "e-mail address, password or code are not right, or the account may not sign in")

    /// The answer to who has shown all but the second factor.
    package static let secondFactorRequired = AccessError(
        .secondFactorRequired, field: "code", "is missing: send the code of your authenticator")

    /// The answer to who has not shown the second factor lately enough.
    package static func stepUpRequired(for what: String, seconds: Int) -> AccessError {
        AccessError(
            .stepUpRequired,
            "\(what) takes a second factor that was shown within the last \(seconds) seconds: show it at "
                + "POST /v1/sessions/step-up, and ask again")
    }

    /// The answer to a device that nobody has approved yet.
    package static let approvalPending = AccessError(
        .approvalPending, "nobody has approved the code yet: ask again in a few seconds")

    /// The answer to who has failed too often.
    package static let throttled = AccessError(
        .throttled, "there were too many attempts that failed: wait before you try again")

    /// The one answer to a link or code that does not work.
    package static let badLink = AccessError(
        .invalid, field: "token", "is unknown, was used, or has expired")

    /// The one answer to every credential that does not hold.
    package static let unauthorized = AccessError(
        .unauthorized,
        "the API key, session or token is missing, unknown, expired or revoked; send one as Authorization: "
            + "Bearer, an API key as crmm_…")

    /// The sentence, after the field's name.
    package var description: String { field.map { "\($0): \(message)" } ?? message }
}
