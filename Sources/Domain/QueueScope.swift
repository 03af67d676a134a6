/// What an operator's control of the queues covers: all organizations or one, of them all kinds or one, and
/// all priorities or one. A part that is absent narrows nothing.
package struct QueueScope: Hashable, Sendable, CustomStringConvertible {
    /// Whose runs.
    package var organization: OrganizationID?
    /// Which of them.
    package var kind: JobKind?
    package var priority: Priority?

    /// What these cover; nothing covers everything.
    package init(organization: OrganizationID? = nil, kind: JobKind? = nil, priority: Priority? = nil) {
        self.organization = organization
        self.kind = kind
        self.priority = priority
    }

    /// Whether every run of every organization is covered.
    package var isEverything: Bool { organization == nil && kind == nil && priority == nil }

    /// Whether every run of one organization is covered, and none of another.
    package var isWholeOrganization: Bool { organization != nil && kind == nil && priority == nil }

    /// Whether a run or a job is covered.
    package func covers(organization: OrganizationID, kind: JobKind, priority: Priority) -> Bool {
        (self.organization ?? organization) == organization && (self.kind ?? kind) == kind
            && (self.priority ?? priority) == priority
    }

    /// In words: `priority bulk of kind script of organization …`, or `everything`.
    package var description: String {
        let parts = [
            priority.map { "priority \($0.name)" }, kind.map { "kind \($0.rawValue)" },
            organization.map { "organization \($0)" },
        ].compactMap(\.self)
        return parts.isEmpty ? "everything" : parts.joined(separator: " of ")
    }
}

/// How a control holds back what it covers.
package enum ControlMode: Int16, Sendable, CaseIterable {
    /// Nothing is marked: what is queued stays queued.
    case pause = 1
    /// New submissions are refused: what is queued runs to its end.
    case drain = 2

    /// The word used in JSON, logs and the command line.
    package var name: String { Self.names[self] }
    private static let names = CaseNames<Self>()

    /// What is done by it, in a sentence: `paused`.
    package var participle: String {
        switch self {
        case .pause: "paused"
        case .drain: "draining"
        }
    }
}
