package import Domain

/// Why a run is where it is.
package struct ExplainedRun: WireObject, Equatable {
    /// Which run of which job, on which device, and where it is.
    package var runId: RunID
    package var jobId: JobID
    package var deviceId: DeviceID
    package var state: RunState
    /// What it waits for, in one sentence and in a word, and what would hold it back after that.
    package var sentence: String
    package var waitsFor: WaitCause
    package var alsoWaitsFor: [WaitCause]
    /// Since when, and until when if there is a time for it.
    package var since: Instant?
    package var until: Instant?
    /// Its place among its organization's queued runs, from 1; if the count was cut, it is at least that.
    package var position: Int?
    package var positionIsExact: Bool?
    /// When it starts if things go on as they do.
    package var estimatedStart: Instant?
    /// What that is drawn from.
    package var facts: RunFactsShown

    /// The explanation of facts.
    package init(_ facts: RunFacts) {
        let explanation = RunExplanation(facts)
        runId = facts.run
        jobId = facts.job
        deviceId = facts.device.id
        state = facts.state
        sentence = explanation.sentence
        waitsFor = explanation.cause
        alsoWaitsFor = explanation.others
        since = explanation.since
        until = explanation.until
        position = explanation.position
        positionIsExact = explanation.position == nil ? nil : facts.ahead?.isExact
        estimatedStart = explanation.estimatedStart
        self.facts = RunFactsShown(facts)
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        runId = try reader.field("runId")
        jobId = try reader.field("jobId")
        deviceId = try reader.field("deviceId")
        state = try reader.field("state")
        sentence = try reader.field("sentence")
        waitsFor = try reader.field("waitsFor")
        alsoWaitsFor = try reader.field("alsoWaitsFor")
        since = try reader.optional("since")
        until = try reader.optional("until")
        position = try reader.optional("position")
        positionIsExact = try reader.optional("positionIsExact")
        estimatedStart = try reader.optional("estimatedStart")
        facts = try reader.field("facts")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("runId", runId)
        writer.field("jobId", jobId)
        writer.field("deviceId", deviceId)
        writer.field("state", state)
        writer.field("sentence", sentence)
        writer.field("waitsFor", waitsFor)
        writer.field("alsoWaitsFor", alsoWaitsFor)
        writer.field("since", since)
        writer.field("until", until)
        writer.field("position", position)
        writer.field("positionIsExact", positionIsExact)
        writer.field("estimatedStart", estimatedStart)
        writer.field("facts", facts)
    }
}

/// The facts behind an explanation; what is absent is not known or not there.
package struct RunFactsShown: WireObject, Equatable {
    /// When they were gathered.
    package var at: Instant
    /// What the run does, and how soon; its attempts, and the limits of its times.
    package var kind: JobKind
    package var priority: Priority
    package var attempt: Int
    package var maximumAttempts: Int
    package var timeoutSeconds: Int
    package var expiresAt: Instant
    /// When it was queued, sent, started, and is due; when somebody asked to cancel it.
    package var queuedAt: Instant?
    package var sentAt: Instant?
    package var startedAt: Instant?
    package var dueAt: Instant?
    package var cancelRequestedAt: Instant?
    /// Its device: its name, when its agent was heard last, and whether it has a session.
    package var hostname: String
    package var deviceLastSeenAt: Instant?
    package var deviceOnline: Bool?
    /// Unsettled runs of its lane of the device, how many there may be, and those that are on the device.
    package var laneCount: Int?
    package var laneLimit: Int?
    package var laneRuns: [RunID]
    /// Its organization's runs on devices, and how many there may be.
    package var organizationCount: Int?
    package var organizationCap: Int?
    /// The pauses that cover it.
    package var pauses: [PauseFact]
    /// Its wave, and up to which waves are released.
    package var wave: Int
    package var releasedWave: Int
    /// Queued runs in front of it, and how many of its organization's end in a second.
    package var runsAhead: Int?
    package var drainRate: Double?
    /// How the attempt before the next one, or the run, ended.
    package var endedAs: Outcome?
    package var exitCode: Int?
    package var reason: String?

    init(_ facts: RunFacts) {
        at = facts.now
        kind = facts.kind
        priority = facts.priority
        attempt = facts.attempt
        maximumAttempts = facts.maximumAttempts
        timeoutSeconds = facts.timeoutSeconds
        expiresAt = facts.expiresAt
        queuedAt = facts.state == .queued ? facts.queuedAt : nil
        sentAt = facts.sentAt
        startedAt = facts.startedAt
        dueAt = facts.dueAt
        cancelRequestedAt = facts.cancelRequestedAt
        hostname = facts.device.hostname
        deviceLastSeenAt = facts.device.lastSeenAt
        deviceOnline = facts.device.isOnline
        laneCount = facts.laneLoad?.count
        laneLimit = facts.laneLoad?.limit
        laneRuns = facts.laneHolders.map(\.run)
        organizationCount = facts.cap?.count
        organizationCap = facts.cap?.limit
        pauses = facts.pauses.filter {
            $0.scope.covers(organization: facts.organization, kind: facts.kind, priority: facts.priority)
        }.map(PauseFact.init)
        wave = facts.wave
        releasedWave = facts.releasedWave
        runsAhead = facts.ahead?.runs
        drainRate = facts.ahead?.drainRate
        let ending = facts.ending ?? facts.lastAttempt
        endedAs = ending?.outcome
        exitCode = ending?.exitCode
        reason = ending?.reason
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        at = try reader.field("at")
        kind = try reader.field("kind")
        priority = try reader.field("priority")
        attempt = try reader.field("attempt")
        maximumAttempts = try reader.field("maximumAttempts")
        timeoutSeconds = try reader.field("timeoutSeconds")
        expiresAt = try reader.field("expiresAt")
        queuedAt = try reader.optional("queuedAt")
        sentAt = try reader.optional("sentAt")
        startedAt = try reader.optional("startedAt")
        dueAt = try reader.optional("dueAt")
        cancelRequestedAt = try reader.optional("cancelRequestedAt")
        hostname = try reader.field("hostname")
        deviceLastSeenAt = try reader.optional("deviceLastSeenAt")
        deviceOnline = try reader.optional("deviceOnline")
        laneCount = try reader.optional("laneCount")
        laneLimit = try reader.optional("laneLimit")
        laneRuns = try reader.field("laneRuns")
        organizationCount = try reader.optional("organizationCount")
        organizationCap = try reader.optional("organizationCap")
        pauses = try reader.field("pauses")
        wave = try reader.field("wave")
        releasedWave = try reader.field("releasedWave")
        runsAhead = try reader.optional("runsAhead")
        drainRate = try reader.optional("drainRate")
        endedAs = try reader.optional("endedAs")
        exitCode = try reader.optional("exitCode")
        reason = try reader.optional("reason")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("at", at)
        writer.field("kind", kind)
        writer.field("priority", priority)
        writer.field("attempt", attempt)
        writer.field("maximumAttempts", maximumAttempts)
        writer.field("timeoutSeconds", timeoutSeconds)
        writer.field("expiresAt", expiresAt)
        writer.field("queuedAt", queuedAt)
        writer.field("sentAt", sentAt)
        writer.field("startedAt", startedAt)
        writer.field("dueAt", dueAt)
        writer.field("cancelRequestedAt", cancelRequestedAt)
        writer.field("hostname", hostname)
        writer.field("deviceLastSeenAt", deviceLastSeenAt)
        writer.field("deviceOnline", deviceOnline)
        writer.field("laneCount", laneCount)
        writer.field("laneLimit", laneLimit)
        writer.field("laneRuns", laneRuns)
        writer.field("organizationCount", organizationCount)
        writer.field("organizationCap", organizationCap)
        writer.field("pauses", pauses)
        writer.field("wave", wave)
        writer.field("releasedWave", releasedWave)
        writer.field("runsAhead", runsAhead)
        writer.field("drainRate", drainRate)
        writer.field("endedAs", endedAs)
        writer.field("exitCode", exitCode)
        writer.field("reason", reason)
    }
}

/// A pause that covers a run.
package struct PauseFact: WireObject, Equatable {
    /// What it covers; an absent part narrows nothing.
    package var organizationId: OrganizationID?
    package var kind: JobKind?
    package var priority: Priority?
    /// Since when, why, and whether the platform set it.
    package var since: Instant
    package var reason: String?
    package var byPlatform: Bool

    init(_ hold: RunFacts.Hold) {
        organizationId = hold.scope.organization
        kind = hold.scope.kind
        priority = hold.scope.priority
        since = hold.since
        reason = hold.reason
        byPlatform = hold.isByPlatform
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        organizationId = try reader.optional("organizationId")
        kind = try reader.optional("kind")
        priority = try reader.optional("priority")
        since = try reader.field("since")
        reason = try reader.optional("reason")
        byPlatform = try reader.field("byPlatform")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("organizationId", organizationId)
        writer.field("kind", kind)
        writer.field("priority", priority)
        writer.field("since", since)
        writer.field("reason", reason)
        writer.field("byPlatform", byPlatform)
    }
}

/// What a job's runs wait for.
package struct ExplainedJob: WireObject, Equatable {
    /// Which job, and where it is.
    package var jobId: JobID
    package var state: JobState
    /// All in one sentence.
    package var sentence: String
    /// Its open runs by what they wait for, the commonest first.
    package var groups: [WaitingGroup]

    /// The explanation of a job.
    package init(job: JobID, state: JobState, _ explanation: JobExplanation) {
        jobId = job
        self.state = state
        sentence = explanation.sentence
        groups = explanation.groups.map(WaitingGroup.init)
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        jobId = try reader.field("jobId")
        state = try reader.field("state")
        sentence = try reader.field("sentence")
        groups = try reader.field("groups")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("jobId", jobId)
        writer.field("state", state)
        writer.field("sentence", sentence)
        writer.field("groups", groups)
    }
}

/// Runs of a job that wait for the same thing.
package struct WaitingGroup: WireObject, Equatable {
    /// What they wait for, and how many they are.
    package var waitsFor: WaitCause
    package var count: Int
    /// The first of them, and what is to be said of it.
    package var runId: RunID
    package var sentence: String
    package var since: Instant?

    init(_ group: JobExplanation.Group) {
        waitsFor = group.cause
        count = group.count
        runId = group.first
        sentence = group.sentence
        since = group.since
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        waitsFor = try reader.field("waitsFor")
        count = try reader.field("count")
        runId = try reader.field("runId")
        sentence = try reader.field("sentence")
        since = try reader.optional("since")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("waitsFor", waitsFor)
        writer.field("count", count)
        writer.field("runId", runId)
        writer.field("sentence", sentence)
        writer.field("since", since)
    }
}

extension WaitCause: WireWord {
    /// Its raw value.
    package var word: String { rawValue }
}
