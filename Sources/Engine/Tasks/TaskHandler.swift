package import Domain
import FoundationEssentials
import Ledger

/// Does the tasks of one kind.
///
/// A task is done at least once: an attempt whose worker dies is followed by another, and only the current
/// attempt's end is recorded. So a handler says or writes everything in a way that bears repetition.
package protocol TaskHandler: Sendable {
    /// What a task of this kind is about; stored as JSON.
    associatedtype Payload: Codable & Sendable

    /// The kind.
    static var kind: TaskKind { get }

    /// Does one attempt. Returning ends the task as succeeded, throwing is a failure that is repeated by the
    /// policy; a `TaskRefusal` is not repeated, a `TaskFailure` and a `TaskPostponement` are when they say.
    ///
    /// Its Swift task is cancelled when the attempt takes too long, somebody cancels the task, its lease is
    /// lost, or the worker stops. A handler that then throws is done again where that is due; one that goes
    /// on is left alone, and what it returns counts only as long as the attempt is the current one.
    func handle(_ work: TaskAttempt<Payload>) async throws
}

/// One attempt of a task, as its handler sees it.
package struct TaskAttempt<Payload: Sendable>: Sendable {
    /// The tenant that it is done for, the task, and the number of the attempt.
    package let organization: OrganizationID
    package let id: TaskID
    package let attempt: Int
    /// What it is about.
    package let payload: Payload
}

/// Ends a task as failed: another attempt would fail again.
package struct TaskRefusal: Error, CustomStringConvertible {
    /// Why.
    package let description: String

    /// A refusal with its reason, which the tenant sees.
    package init(_ description: String) { self.description = description }
}

/// Ends an attempt as failed; another follows after a time that the handler says instead of the policy, as
/// long as the policy has one.
package struct TaskFailure: Error, CustomStringConvertible {
    /// Why, which the tenant sees.
    package let description: String
    /// How long the next attempt waits.
    package let wait: Duration

    /// A failure with its reason.
    package init(_ description: String, again wait: Duration) {
        self.description = description
        self.wait = wait
    }
}

/// Ends an attempt that has tried nothing, since it could not be done now: another follows, and no failure is
/// counted.
package struct TaskPostponement: Error {
    /// How long the next attempt waits.
    package let wait: Duration

    /// A postponement.
    package init(by wait: Duration) { self.wait = wait }
}

/// A handler without its type: what a pool works with.
package struct TaskWork: Sendable {
    /// The kind.
    package let kind: TaskKind
    let perform: @Sendable (MarkedTask) async throws -> Void

    /// The work of a handler.
    package init<Handler: TaskHandler>(_ handler: Handler) {
        kind = Handler.kind
        perform = { task in
            let payload: Handler.Payload
            do {
                payload = try JSONDecoder().decode(Handler.Payload.self, from: Data(task.payload))
            } catch {
                throw TaskRefusal("the payload cannot be read: \(error)")
            }
            try await handler.handle(
                TaskAttempt(
                    organization: task.organization, id: task.id, attempt: task.attempt, payload: payload))
        }
    }
}
