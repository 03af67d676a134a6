/// What a history shows that must not be.
package struct Violation: Sendable, Equatable, CustomStringConvertible {
    /// Which rule was broken.
    package enum Rule: String, Sendable, CaseIterable {
        /// An accepted run has no final state in the end.
        case lost
        /// A run has ended in a state in which it could not.
        case wrongEnd
        /// A run was recorded twice, or counted otherwise than it ended.
        case recordedTwice
        /// A key was accepted as two jobs.
        case acceptedTwice
        /// A script was started twice in one attempt, or more often than it might.
        case startedTwice
        /// A script was started before its time.
        case early
        /// A run has succeeded whose script has not run to its end in that attempt.
        case invented
        /// What a script said is not what is recorded of it.
        case outputLost
        /// A script was started that nobody has accepted.
        case strange
        /// A later start had an attempt that is not higher, or the record names a lower one than was started.
        case attemptFell
        /// More runs of an organization were under way than its cap allows.
        case capExceeded
        /// A run began, or ran on to its end, although it had been cancelled.
        case cancelIgnored
        /// A run is said to be unknown although no agent was lost that could have taken it along.
        case unknownWithoutLoss
        /// A journal came back shorter than its device had said, though nobody restored a copy.
        case journalLost
        /// A task has succeeded, and what it was to do was not done.
        case effectLost
        /// What a task was to do was done twice, or something that nobody asked for.
        case effectTwice
        /// A fault did not strike.
        case notStruck
        /// Nothing was accepted, or nothing was started: the run shows nothing.
        case empty
    }

    /// The rule.
    package let rule: Rule
    /// What broke it: ids, times, states.
    package let what: String

    /// A violation of a rule.
    package init(_ rule: Rule, _ what: String) { (self.rule, self.what) = (rule, what) }

    /// One line.
    package var description: String { "\(rule.rawValue): \(what)" }
}
