import Foundation

/// One thing that was seen from outside the product, a line of JSON in the log of a fault run.
///
/// Times are microseconds since 1970 on the machine of the run; the order of the lines means nothing.
package struct Event: Codable, Sendable, Equatable {
    /// What was seen.
    package enum Kind: String, Codable, Sendable {
        /// What the run is: `note`.
        case plan
        /// The API answered that it has a job: `job`, `organization`, `devices`, `allowed`, `maxStarts`,
        /// `notBefore`, `note` (the key of the submission).
        case accepted
        /// A script said that it began, or ended: `job`, `device`, `attempt`.
        case started, ended
        /// What the API says of a run in the end: `job`, `run`, `device`, `attempt`, `state`, `note` (its
        /// reason), `finishedAt`, `output`.
        case outcome
        /// How many runs of a job the API counts in the end: `job`, `counts`.
        case counts
        /// The API answered that a job is to be cancelled: `job`.
        case cancelled
        /// A task was put there, or something for its handler to remove: `task` or `job`, `organization`.
        case taskAccepted, planted
        /// What the database committed of a task, in its order: `task`, `state`, `attempt`, `generation`,
        /// `token`; and a job that was removed: `job`.
        case taskChanged, removed
        /// What the API says of a task in the end: `task`, `attempt`, `state`.
        case taskOutcome
        /// At most so many runs of an organization may be under way: `organization`, `cap`.
        case cap
        /// An agent died with whatever it ran: `device`.
        case agentLost
        /// A fault was to strike, or has struck: `note` names it.
        case armed, struck
        /// A process ended that nobody asked to end, or was started again: `note` names it.
        case died, restarted
    }

    /// When it was seen.
    package var at: Int
    package var kind: Kind
    package var job: String?
    package var run: String?
    package var task: String?
    package var generation: Int?
    package var token: String?
    package var organization: String?
    package var device: String?
    package var devices: [String]?
    package var attempt: Int?
    package var state: String?
    /// The states in which a run may end.
    package var allowed: [String]?
    /// How often its script may be started at most; none says once an attempt.
    package var maxStarts: Int?
    /// No script of it may be started before this.
    package var notBefore: Int?
    package var counts: [String: Int]?
    package var cap: Int?
    package var finishedAt: Int?
    package var output: String?
    package var note: String?

    /// An event without particulars.
    package init(_ kind: Kind, at: Int) { (self.kind, self.at) = (kind, at) }
}

/// Everything that was seen of one fault run.
package struct History: Sendable {
    /// What was seen.
    package var events: [Event]

    /// A history of events.
    package init(events: [Event]) { self.events = events }

    /// Reads lines of JSON; throws on one that is none.
    package init(lines: String) throws {
        let decoder = JSONDecoder()
        events = try lines.split(separator: "\n").map { try decoder.decode(Event.self, from: Data($0.utf8)) }
    }

    /// Lines of JSON, in the order of time.
    package func lines() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return try events.sorted { $0.at < $1.at }
            .map { String(decoding: try encoder.encode($0), as: UTF8.self) + "\n" }.joined()
    }
}
