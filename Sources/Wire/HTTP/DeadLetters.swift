package import Domain

/// A run of which nothing more is tried, and that somebody should look at.
package struct DeadLetter: WireObject, Equatable {
    /// The run, as it ended.
    package var run: Run
    /// Whose it is.
    package var organizationId: OrganizationID
    /// Why it is one: `poison` (dispatchers crashed over it) or `attempts` (its job's retries did not bring
    /// it to success).
    package var reason: String
    /// Since when it is one.
    package var since: Instant

    /// A dead letter.
    package init(run: Run, organizationId: OrganizationID, reason: String, since: Instant) {
        self.run = run
        self.organizationId = organizationId
        self.reason = reason
        self.since = since
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        run = try reader.field("run")
        organizationId = try reader.field("organizationId")
        reason = try reader.field("reason")
        since = try reader.field("since")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("run", run)
        writer.field("organizationId", organizationId)
        writer.field("reason", reason)
        writer.field("since", since)
    }
}

/// What is known of one attempt.
package struct AttemptEvidence: WireObject, Equatable {
    /// Which attempt, and how it ended.
    package var attempt: Int
    package var outcome: Outcome
    package var exitCode: Int?
    package var reason: String?
    package var startedAt: Instant?
    package var finishedAt: Instant?
    /// Why it is kept: `retried`, `amended`, `late`, or `last` for the one that the run ended with.
    package var kind: String

    /// Evidence.
    package init(
        attempt: Int, outcome: Outcome, exitCode: Int?, reason: String?, startedAt: Instant?,
        finishedAt: Instant?, kind: String
    ) {
        self.attempt = attempt
        self.outcome = outcome
        self.exitCode = exitCode
        self.reason = reason
        self.startedAt = startedAt
        self.finishedAt = finishedAt
        self.kind = kind
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        attempt = try reader.field("attempt")
        outcome = try reader.field("outcome")
        exitCode = try reader.optional("exitCode")
        reason = try reader.optional("reason")
        startedAt = try reader.optional("startedAt")
        finishedAt = try reader.optional("finishedAt")
        kind = try reader.field("kind")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("attempt", attempt)
        writer.field("outcome", outcome)
        writer.field("exitCode", exitCode)
        writer.field("reason", reason)
        writer.field("startedAt", startedAt)
        writer.field("finishedAt", finishedAt)
        writer.field("kind", kind)
    }
}

/// A crash of a dispatcher that handled nothing but one run.
package struct CrashEvidence: WireObject, Equatable {
    /// When it took the run, for which attempt, and under which name.
    package var at: Instant
    package var attempt: Int
    package var owner: String

    /// Evidence.
    package init(at: Instant, attempt: Int, owner: String) {
        self.at = at
        self.attempt = attempt
        self.owner = owner
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        at = try reader.field("at")
        attempt = try reader.field("attempt")
        owner = try reader.field("owner")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("at", at)
        writer.field("attempt", attempt)
        writer.field("owner", owner)
    }
}

/// A dead letter with the evidence of its attempts and crashes.
package struct DeadLetterDetail: WireObject, Equatable {
    /// The letter.
    package var letter: DeadLetter
    /// Its attempts in their order, and the lone crashes.
    package var attempts: [AttemptEvidence]
    package var crashes: [CrashEvidence]

    /// A dead letter with its evidence.
    package init(letter: DeadLetter, attempts: [AttemptEvidence], crashes: [CrashEvidence]) {
        self.letter = letter
        self.attempts = attempts
        self.crashes = crashes
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        letter = try reader.field("letter")
        attempts = try reader.field("attempts")
        crashes = try reader.field("crashes")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("letter", letter)
        writer.field("attempts", attempts)
        writer.field("crashes", crashes)
    }
}

/// Which dead letters to redrive or to discard.
package struct DeadLetterSelection: WireObject, Equatable {
    /// By name, or by what they are; at least one of these.
    package var runIds: [RunID]?
    package var organizationId: OrganizationID?
    package var jobId: JobID?
    package var reason: String?
    package var since: Instant?
    /// Whether to say only what would be done.
    package var dryRun: Bool
    /// How many they are: must be right where it is given, and be given where they are many.
    package var expectedCount: Int?

    /// A selection.
    package init(
        runIds: [RunID]? = nil, organizationId: OrganizationID? = nil, jobId: JobID? = nil,
        reason: String? = nil, since: Instant? = nil, dryRun: Bool = false, expectedCount: Int? = nil
    ) {
        self.runIds = runIds
        self.organizationId = organizationId
        self.jobId = jobId
        self.reason = reason
        self.since = since
        self.dryRun = dryRun
        self.expectedCount = expectedCount
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        runIds = try reader.optional("runIds", [RunID].self, .in(1...Limits.deadLettersMax))
        organizationId = try reader.optional("organizationId")
        jobId = try reader.optional("jobId")
        reason = try reader.optional("reason", String.self, .in(1...20))
        since = try reader.optional("since")
        dryRun = try reader.optional("dryRun") ?? false
        expectedCount = try reader.optional("expectedCount", Int.self, .in(0...Limits.deadLettersMax))
        guard !reader.isRecording else { return }
        guard runIds != nil || organizationId != nil || jobId != nil || reason != nil || since != nil else {
            throw FieldError(
                .missing, field: reader.name(of: "runIds"),
                "is missing, and so are organizationId, jobId, reason and since; one of them must be given")
        }
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("runIds", runIds)
        writer.field("organizationId", organizationId)
        writer.field("jobId", jobId)
        writer.field("reason", reason)
        writer.field("since", since)
        writer.field("dryRun", dryRun)
        writer.field("expectedCount", expectedCount)
    }
}

/// What becomes of the dead letters of one job.
package struct RedrivenJob: WireObject, Equatable {
    /// The job that they belong to, and how many of its runs they are.
    package var retryOf: JobID
    package var runs: Int
    /// The new job; absent in a dry run, or where there is a problem.
    package var id: JobID?
    /// Why not.
    package var problem: Problem?

    /// What became of them.
    package init(retryOf: JobID, runs: Int, id: JobID? = nil, problem: Problem? = nil) {
        self.retryOf = retryOf
        self.runs = runs
        self.id = id
        self.problem = problem
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        retryOf = try reader.field("retryOf")
        runs = try reader.field("runs")
        id = try reader.optional("id")
        problem = try reader.optional("problem")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("retryOf", retryOf)
        writer.field("runs", runs)
        writer.field("id", id)
        writer.field("problem", problem)
    }
}

/// What became of dead letters that were redriven or discarded.
package struct DeadLetterAnswer: WireObject, Equatable {
    /// How many were meant, and whether nothing was done to them.
    package var count: Int
    package var dryRun: Bool
    /// Those that were redriven, by job; empty if they were discarded.
    package var jobs: [RedrivenJob]

    /// An answer.
    package init(count: Int, dryRun: Bool, jobs: [RedrivenJob] = []) {
        self.count = count
        self.dryRun = dryRun
        self.jobs = jobs
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        count = try reader.field("count")
        dryRun = try reader.field("dryRun")
        jobs = try reader.field("jobs")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("count", count)
        writer.field("dryRun", dryRun)
        writer.field("jobs", jobs)
    }
}
