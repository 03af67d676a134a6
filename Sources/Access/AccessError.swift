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
        /// The value cannot stand.
        case invalid
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
    init(_ refusal: EdgeRefusal, field: String) {
        switch refusal {
        case .missing, .outside: self.init(.notFound, field: field, "names nothing that you may see")
        case .altered(let edge): self.init(.alteredRow, field: field, edge.refusal)
        }
    }

    /// The one answer to every credential that does not hold.
    package static let unauthorized = AccessError(
        .unauthorized,
        "the API key is missing, unknown, expired or revoked; send Authorization: Bearer crmm_…")

    /// The sentence, after the field's name.
    package var description: String { field.map { "\($0): \(message)" } ?? message }
}
