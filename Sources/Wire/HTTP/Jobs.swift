package import Domain

/// Whom a job is for, as a caller says it.
package enum Target: Sendable, Equatable {
    case devices([DeviceID])
    case site(SiteID)
    case organization(OrganizationID)
}

extension Target: WireObject {
    /// Reads exactly one of deviceIds, siteId and organizationId.
    package init(from reader: inout FieldReader) throws(FieldError) {
        try reader.notSupported("tags", "filter")
        let devices = try reader.optional("deviceIds", [DeviceID].self, .in(1...Limits.deviceIDsMax))
        let site: SiteID? = try reader.optional("siteId")
        let organization: OrganizationID? = try reader.optional("organizationId")
        switch (devices, site, organization) {
        case (let devices?, nil, nil):
            guard devices.count < 2 || Set(devices).count == devices.count else {
                throw FieldError(.invalid, field: reader.name(of: "deviceIds"), "names a device twice")
            }
            self = .devices(devices)
        case (nil, let site?, nil): self = .site(site)
        case (nil, nil, let organization?): self = .organization(organization)
        default:
            guard reader.isRecording else {
                throw FieldError(
                    .invalid, field: reader.name(of: "deviceIds"),
                    "exactly one of deviceIds, siteId and organizationId must be given")
            }
            self = .devices([])
        }
    }

    /// Appends its one field.
    package func fields(to writer: inout JSONWriter) {
        switch self {
        case .devices(let devices): writer.field("deviceIds", devices)
        case .site(let site): writer.field("siteId", site)
        case .organization(let organization): writer.field("organizationId", organization)
        }
    }
}

/// Body that submits a job.
package struct NewJob: WireObject, Equatable {
    /// What is done.
    package var kind: JobKind
    /// Whom it is for.
    package var target: Target
    /// What is run, for kind `script`.
    package var script: Script?
    /// Seconds that it may run on a device.
    package var timeoutSeconds: Int
    /// Seconds until a run that was not sent expires, from `notBefore` on if that is given.
    package var expiresInSeconds: Int
    /// Whether an attempt whose end is unknown may be followed by another.
    package var idempotent: Bool
    /// How soon it is served among the organization's other jobs.
    package var priority: Priority
    /// When it may start first; absent means now.
    package var notBefore: Instant?
    /// Which attempts are followed by another; absent means none.
    package var retry: Retry?
    /// Which other jobs it must not stand beside; absent means any.
    package var unique: Unique?
    /// How many devices it reaches, exactly: asked for where it reaches many.
    package var confirmDevices: Int?

    /// A job to be submitted.
    package init(
        kind: JobKind, target: Target, script: Script? = nil,
        timeoutSeconds: Int = Limits.timeoutSecondsDefault,
        expiresInSeconds: Int = Limits.expiresInSecondsDefault, idempotent: Bool = false,
        priority: Priority = .standard
    ) {
        self.kind = kind
        self.target = target
        self.script = script
        self.timeoutSeconds = timeoutSeconds
        self.expiresInSeconds = expiresInSeconds
        self.idempotent = idempotent
        self.priority = priority
    }

    /// Reads the fields; fields of the contract that are not built yet are refused by name.
    package init(from reader: inout FieldReader) throws(FieldError) {
        try reader.notSupported("rollout")
        kind = try reader.field("kind")
        target = try reader.field("target")
        script = try reader.optional("script")
        timeoutSeconds =
            try reader.optional("timeoutSeconds", Int.self, .in(Limits.timeoutSeconds))
            ?? Limits.timeoutSecondsDefault
        expiresInSeconds =
            try reader.optional("expiresInSeconds", Int.self, .in(Limits.expiresInSeconds))
            ?? Limits.expiresInSecondsDefault
        idempotent = try reader.optional("idempotent") ?? false
        priority = try reader.optional("priority") ?? .standard
        notBefore = try reader.optional("notBefore")
        retry = try reader.optional("retry")
        unique = try reader.optional("unique")
        confirmDevices = try reader.optional("confirmDevices", Int.self, .in(Limits.confirmedDevices))
        guard !reader.isRecording else { return }
        if !idempotent, retry?.on?.contains(.unknown) == true {
            throw FieldError(
                .invalid, field: reader.name(of: "retry.on"),
                "holds unknown, which stands only with idempotent: the attempt may have run")
        }
        if kind == .script, script == nil {
            throw FieldError(.missing, field: reader.name(of: "script"), "is missing; kind script needs it")
        }
        if kind != .script, script != nil {
            throw FieldError(.invalid, field: reader.name(of: "script"), "stands only with kind script")
        }
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("kind", kind)
        writer.field("target", target)
        writer.field("script", script)
        writer.field("timeoutSeconds", timeoutSeconds)
        writer.field("expiresInSeconds", expiresInSeconds)
        writer.field("idempotent", idempotent)
        writer.field("priority", priority)
        writer.field("notBefore", notBefore)
        writer.field("retry", retry)
        writer.field("unique", unique)
        writer.field("confirmDevices", confirmDevices)
    }
}

extension JobKind {
    /// Kinds of the contract that a later release brings.
    package static var notSupportedYet: Set<String> { ["inventory.scan", "patch.scan", "patch.install"] }
}

/// Body that submits many jobs; each gets an outcome of its own, so elements are judged one by one.
package struct NewJobs: WireObject, Equatable {
    /// The jobs, each as the body of a single submission.
    package var jobs: [JSONValue]
    /// How many devices they reach together, exactly: asked for where they reach many.
    package var confirmDevices: Int?

    /// Jobs to be submitted.
    package init(jobs: [NewJob], confirmDevices: Int? = nil) {
        self.confirmDevices = confirmDevices
        do {
            self.jobs = try JSONValue(scanning: jobs.json, valuesMax: .max).elements.map(Array.init) ?? []
        } catch {
            preconditionFailure("what was written cannot be read: \(error)")
        }
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        jobs = try reader.field("jobs", [JSONValue].self, .in(1...Limits.bulkJobsMax))
        confirmDevices = try reader.optional("confirmDevices", Int.self, .in(Limits.confirmedDevices))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("jobs", jobs)
        writer.field("confirmDevices", confirmDevices)
    }
}

/// Answer to the submission of a job.
package struct AcceptedJob: WireObject, Equatable {
    /// Its id.
    package var id: JobID
    /// Where it is.
    package var state: JobState
    /// Whether it was there before and holds the unique key; then nothing was made.
    package var isExisting: Bool

    /// An accepted job.
    package init(id: JobID, state: JobState, isExisting: Bool = false) {
        self.id = id
        self.state = state
        self.isExisting = isExisting
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        state = try reader.field("state")
        isExisting = try reader.optional("existing") ?? false
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("state", state)
        if isExisting { writer.field("existing", true) }
    }
}

/// What became of one job of a bulk submission.
package struct BulkItem: WireObject, Equatable {
    /// The HTTP status that a single submission would have had.
    package var status: Int
    /// The job's id, if it was accepted.
    package var id: JobID?
    /// What waits for a second person, if the whole does.
    package var approvalId: ApprovalID?
    /// Why not, otherwise.
    package var problem: Problem?

    /// An item's outcome.
    package init(
        status: Int, id: JobID? = nil, approvalId: ApprovalID? = nil, problem: Problem? = nil
    ) {
        self.status = status
        self.id = id
        self.approvalId = approvalId
        self.problem = problem
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        status = try reader.field("status")
        id = try reader.optional("id")
        approvalId = try reader.optional("approvalId")
        problem = try reader.optional("problem")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("status", status)
        writer.field("id", id)
        writer.field("approvalId", approvalId)
        writer.field("problem", problem)
    }
}

/// Answer to a bulk submission: an item a job, in order.
package struct BulkAnswer: WireObject, Equatable {
    /// The items.
    package var items: [BulkItem]

    /// An answer.
    package init(items: [BulkItem]) { self.items = items }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) { items = try reader.field("items") }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) { writer.field("items", items) }
}

/// A job as it is shown.
package struct Job: WireObject, Equatable {
    /// Its id, its tenant and what it does.
    package var id: JobID
    package var organizationId: OrganizationID
    package var kind: JobKind
    /// How soon it is served among the organization's other jobs.
    package var priority: Priority
    /// Where it is, and how many of its runs are in which state.
    package var state: JobState
    package var counts: [String: Int]
    /// Seconds that it may run on a device.
    package var timeoutSeconds: Int
    /// When it was submitted, when its runs expire, when the last of them ended, when somebody asked to
    /// cancel it.
    package var createdAt: Instant
    package var expiresAt: Instant
    package var finishedAt: Instant?
    package var cancelRequestedAt: Instant?
    /// When its runs may start first; which attempts are followed by another, and how many were.
    package var notBefore: Instant?
    package var retry: Retry?
    package var retries = 0
    /// The job whose runs it repeats.
    package var retryOf: JobID?
    /// The trace that its request belongs to, with the step that took it (W3C Trace Context).
    package var traceparent: String?
    /// How many devices of its site or organization it reaches at the most, and whether some were left out by
    /// that, which were enrolled last.
    package var devicesMax: Int?
    package var leftOut = false

    /// A job as it is shown.
    package init(
        id: JobID, organizationId: OrganizationID, kind: JobKind, priority: Priority, state: JobState,
        counts: [String: Int], timeoutSeconds: Int, createdAt: Instant, expiresAt: Instant,
        finishedAt: Instant?,
        cancelRequestedAt: Instant?
    ) {
        self.id = id
        self.organizationId = organizationId
        self.kind = kind
        self.priority = priority
        self.state = state
        self.counts = counts
        self.timeoutSeconds = timeoutSeconds
        self.createdAt = createdAt
        self.expiresAt = expiresAt
        self.finishedAt = finishedAt
        self.cancelRequestedAt = cancelRequestedAt
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        organizationId = try reader.field("organizationId")
        kind = try reader.field("kind")
        priority = try reader.field("priority")
        state = try reader.field("state")
        counts = try reader.field("counts")
        timeoutSeconds = try reader.field("timeoutSeconds")
        createdAt = try reader.field("createdAt")
        expiresAt = try reader.field("expiresAt")
        finishedAt = try reader.optional("finishedAt")
        cancelRequestedAt = try reader.optional("cancelRequestedAt")
        notBefore = try reader.optional("notBefore")
        retry = try reader.optional("retry")
        retries = try reader.optional("retries") ?? 0
        retryOf = try reader.optional("retryOf")
        traceparent = try reader.optional("traceparent", String.self, .in(1...TraceContext.bytesMax))
        devicesMax = try reader.optional("devicesMax")
        leftOut = try reader.optional("leftOut") ?? false
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("organizationId", organizationId)
        writer.field("kind", kind)
        writer.field("priority", priority)
        writer.field("state", state)
        writer.field("counts", counts)
        writer.field("timeoutSeconds", timeoutSeconds)
        writer.field("createdAt", createdAt)
        writer.field("expiresAt", expiresAt)
        writer.field("finishedAt", finishedAt)
        writer.field("cancelRequestedAt", cancelRequestedAt)
        writer.field("notBefore", notBefore)
        writer.field("retry", retry)
        writer.field("retries", retries)
        writer.field("retryOf", retryOf)
        writer.field("traceparent", traceparent)
        writer.field("devicesMax", devicesMax)
        if leftOut { writer.field("leftOut", true) }
    }
}

/// A run as it is shown.
package struct Run: WireObject, Equatable {
    /// Its id, its job and its device.
    package var id: RunID
    package var jobId: JobID
    package var deviceId: DeviceID
    /// Where it is, and the number of its latest attempt (0 before the first).
    package var state: RunState
    package var attempt: Int
    /// How it ended.
    package var exitCode: Int?
    package var startedAt: Instant?
    package var finishedAt: Instant?
    package var reason: String?
    /// When a scheduled run is queued; absent while its silent device's word is awaited.
    package var dueAt: Instant?

    /// A run as it is shown.
    package init(
        id: RunID, jobId: JobID, deviceId: DeviceID, state: RunState, attempt: Int, exitCode: Int? = nil,
        startedAt: Instant? = nil, finishedAt: Instant? = nil, reason: String? = nil
    ) {
        self.id = id
        self.jobId = jobId
        self.deviceId = deviceId
        self.state = state
        self.attempt = attempt
        self.exitCode = exitCode
        self.startedAt = startedAt
        self.finishedAt = finishedAt
        self.reason = reason
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        jobId = try reader.field("jobId")
        deviceId = try reader.field("deviceId")
        state = try reader.field("state")
        attempt = try reader.field("attempt")
        exitCode = try reader.optional("exitCode")
        startedAt = try reader.optional("startedAt")
        finishedAt = try reader.optional("finishedAt")
        reason = try reader.optional("reason")
        dueAt = try reader.optional("dueAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("jobId", jobId)
        writer.field("deviceId", deviceId)
        writer.field("state", state)
        writer.field("attempt", attempt)
        writer.field("exitCode", exitCode)
        writer.field("startedAt", startedAt)
        writer.field("finishedAt", finishedAt)
        writer.field("reason", reason)
        writer.field("dueAt", dueAt)
    }
}

/// A run's output as it is shown: text, with a line that says how much is missing where it was cut.
package struct RunOutput: WireObject, Equatable {
    /// The two outputs; bytes that are not UTF-8 are replaced.
    package var stdout: String
    package var stderr: String
    /// How many bytes each had.
    package var stdoutBytes: Int
    package var stderrBytes: Int
    /// Whether something is missing from either.
    package var truncated: Bool

    /// An output as it is shown.
    package init(stdout: String, stderr: String, stdoutBytes: Int, stderrBytes: Int, truncated: Bool) {
        self.stdout = stdout
        self.stderr = stderr
        self.stdoutBytes = stdoutBytes
        self.stderrBytes = stderrBytes
        self.truncated = truncated
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        stdout = try reader.field("stdout")
        stderr = try reader.field("stderr")
        stdoutBytes = try reader.field("stdoutBytes")
        stderrBytes = try reader.field("stderrBytes")
        truncated = try reader.field("truncated")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("stdout", stdout)
        writer.field("stderr", stderr)
        writer.field("stdoutBytes", stdoutBytes)
        writer.field("stderrBytes", stderrBytes)
        writer.field("truncated", truncated)
    }
}
