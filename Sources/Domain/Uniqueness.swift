/// Within what a job's unique key is unique.
package enum UniqueScope: String, Sendable, CaseIterable {
    case organization
    /// The one site that the job is for.
    case site
    /// The one device that the job is for.
    case device
}

/// What becomes of a job whose unique key another holds.
package enum UniqueConflict: String, Sendable, CaseIterable {
    /// It is refused, and the refusal names the other.
    case reject
    /// It is not made: the other is the answer.
    case `return`
    /// The other is cancelled, in the commit that makes this one.
    case replace
}

/// How far a job is while it holds its unique key.
package enum UniqueState: String, Sendable, CaseIterable {
    /// None of its runs has left or ended.
    case queued
    /// It has not ended.
    case running
}
