import Domain
import Trust

/// Why the engine refused. Nothing was changed.
package struct EngineError: Error, Equatable, CustomStringConvertible {
    /// What kind of refusal this is.
    package enum Code: String, Sendable, CaseIterable {
        case invalid
        case notFound
        case conflict
        case idempotencyConflict
        case notSupported
        /// Another job holds the unique key.
        case uniqueConflict
        case expiredToken
        case overloaded
        case alteredRow
        /// What is named, or a level above it, is archived.
        case archived
        /// The level of who asks does not reach so far.
        case forbidden
        /// An operator has new work of this scope refused.
        case draining
        /// The organization would have more open than its quota allows.
        case quotaExceeded
        /// It reaches so many devices that their exact number has to be said.
        case confirmationRequired
        /// It reaches so many devices that a second person has to approve it.
        case approvalRequired
        /// A second factor has to be shown first.
        case stepUpRequired
    }

    /// What kind of refusal this is.
    package let code: Code
    /// The field that was refused, where it was one.
    package let field: String?
    /// One sentence that names value and limit.
    package let message: String
    /// When it may be worth asking again, where that is known.
    package var retryAfterSeconds: Int?
    /// How far it would reach, where that is why.
    package var reach: SubmissionReach?

    /// A refusal.
    package init(_ code: Code, field: String? = nil, _ message: String) {
        self.code = code
        self.field = field
        self.message = message
    }

    /// What a caller is told of a row that grants nothing: of an altered one that it is, of any other what it
    /// is told of an id of nobody.
    init(_ refusal: EdgeRefusal, unseen: EngineError) {
        switch refusal {
        case .missing, .outside: self = unseen
        case .altered(let edge): self.init(.alteredRow, field: unseen.field, edge.refusal)
        case .archived(let edge): self.init(.archived, field: unseen.field, edge.archived)
        }
    }

    /// The sentence, after the field's name.
    package var description: String { field.map { "\($0): \(message)" } ?? message }
}
