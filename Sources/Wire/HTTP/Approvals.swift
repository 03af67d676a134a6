package import Domain

extension ApprovalKind: WireWord {
    /// Its name.
    package var word: String { name }
}

extension ApprovalState: WireWord {
    /// Its name.
    package var word: String { name }
}

/// Answer to a submission: a job, or what waits for a second person.
package enum Submitted: WireObject, Equatable {
    case job(AcceptedJob)
    case approval(PendingApproval)

    /// A word of either's state.
    private enum State: WireWord {
        case job(JobState)
        case approval(ApprovalState)

        static var allCases: [State] {
            JobState.allCases.map(State.job) + ApprovalState.allCases.map(State.approval)
        }

        var word: String {
            switch self {
            case .job(let state): state.name
            case .approval(let state): state.name
            }
        }
    }

    /// Reads the fields; the state's word tells which it is.
    package init(from reader: inout FieldReader) throws(FieldError) {
        let id: ID<Subject.Submission> = try reader.field("id")
        let state: State = try reader.field("state")
        let isExisting = try reader.optional("existing") ?? false
        let devices: Int? = try reader.optional("devices")
        let expiresAt: Instant? = try reader.optional("expiresAt")
        switch state {
        case .job(let state):
            self = .job(AcceptedJob(id: JobID(id.value), state: state, isExisting: isExisting))
        case .approval(let state):
            guard let devices, let expiresAt else {
                throw FieldError(.missing, field: reader.name(of: "devices"), "is missing")
            }
            self = .approval(
                PendingApproval(
                    id: ApprovalID(id.value), state: state, devices: devices, expiresAt: expiresAt))
        }
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        switch self {
        case .job(let job): job.fields(to: &writer)
        case .approval(let approval): approval.fields(to: &writer)
        }
    }
}

/// A submission that waits for a second person, as whoever asked is told.
package struct PendingApproval: Sendable, Equatable {
    /// Its id, not that of a job.
    package var id: ApprovalID
    /// Where it is.
    package var state: ApprovalState
    /// How many devices it reaches.
    package var devices: Int
    /// Until when somebody may approve it.
    package var expiresAt: Instant

    /// A submission that waits.
    package init(id: ApprovalID, state: ApprovalState, devices: Int, expiresAt: Instant) {
        self.id = id
        self.state = state
        self.devices = devices
        self.expiresAt = expiresAt
    }

    fileprivate func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("state", state)
        writer.field("devices", devices)
        writer.field("expiresAt", expiresAt)
    }
}

/// A submission that waits or waited for a second person, as it is shown.
package struct Approval: WireObject, Equatable {
    /// Its id, and the level that holds all it reaches.
    package var id: ApprovalID
    package var place: Place
    /// What was asked, where it is, and how many devices it reaches.
    package var kind: ApprovalKind
    package var state: ApprovalState
    package var devices: Int
    /// The exact body that was sent; absent in lists. And the job that is to be retried.
    package var submission: JSONValue?
    package var retryOf: JobID?
    /// Who asked, when, and until when it waits.
    package var askedBy: PrincipalID
    package var createdAt: Instant
    package var expiresAt: Instant
    /// Who has decided, and when.
    package var decidedBy: PrincipalID?
    package var decidedAt: Instant?
    /// What came of it: its first job, or the code of the problem.
    package var jobId: JobID?
    package var refusal: String?

    /// A submission as it is shown.
    package init(
        id: ApprovalID, place: Place, kind: ApprovalKind, state: ApprovalState, devices: Int,
        askedBy: PrincipalID, createdAt: Instant, expiresAt: Instant
    ) {
        self.id = id
        self.place = place
        self.kind = kind
        self.state = state
        self.devices = devices
        self.askedBy = askedBy
        self.createdAt = createdAt
        self.expiresAt = expiresAt
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        place = try reader.field("place")
        kind = try reader.field("kind")
        state = try reader.field("state")
        devices = try reader.field("devices")
        submission = try reader.optional("submission")
        retryOf = try reader.optional("retryOf")
        askedBy = try reader.field("askedBy")
        createdAt = try reader.field("createdAt")
        expiresAt = try reader.field("expiresAt")
        decidedBy = try reader.optional("decidedBy")
        decidedAt = try reader.optional("decidedAt")
        jobId = try reader.optional("jobId")
        refusal = try reader.optional("refusal")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("place", place)
        writer.field("kind", kind)
        writer.field("state", state)
        writer.field("devices", devices)
        writer.field("submission", submission)
        writer.field("retryOf", retryOf)
        writer.field("askedBy", askedBy)
        writer.field("createdAt", createdAt)
        writer.field("expiresAt", expiresAt)
        writer.field("decidedBy", decidedBy)
        writer.field("decidedAt", decidedAt)
        writer.field("jobId", jobId)
        writer.field("refusal", refusal)
    }
}
