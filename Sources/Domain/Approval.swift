/// What waits for a second person.
package enum ApprovalKind: Int16, Sendable, CaseIterable {
    /// A job.
    case job = 1
    /// A bulk of jobs.
    case bulk = 2
    /// The retry of a job.
    case retry = 3

    /// The kind's name on the wire.
    package var name: String {
        switch self {
        case .job: "job"
        case .bulk: "bulk"
        case .retry: "retry"
        }
    }
}

/// Where a submission is that waits for a second person.
package enum ApprovalState: Int16, Sendable, CaseIterable {
    /// Nobody has decided; it leaves by a decision, or by its end, after which nobody decides any more.
    case awaitingApproval = 0
    /// Approved and submitted. A crash between the two leaves it here without a job: it is asked for anew.
    case approved = 1
    /// Rejected: nothing was made.
    case rejected = 2
    /// Approved, and refused when it was submitted then: nothing was made.
    case refused = 3

    /// The state's name on the wire.
    package var name: String {
        switch self {
        case .awaitingApproval: "awaitingApproval"
        case .approved: "approved"
        case .rejected: "rejected"
        case .refused: "refused"
        }
    }
}
