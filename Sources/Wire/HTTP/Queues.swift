package import Domain

/// Body that names what a pause, a drain or a resume covers.
///
/// Either an organization is named or all are meant in so many words; kind and priority narrow that down.
/// Exactly what was paused is resumed: a resume of an organization does not touch a pause of one of its
/// kinds.
package struct ControlRequest: WireObject, Equatable {
    /// What is covered.
    package var scope: QueueScope
    /// Why, shown to whoever is held back by it; a resume takes none.
    package var reason: String?

    /// A control of a scope.
    package init(_ scope: QueueScope, reason: String? = nil) {
        self.scope = scope
        self.reason = reason
    }

    /// Reads the fields; neither an organization nor all is refused, and both.
    package init(from reader: inout FieldReader) throws(FieldError) {
        scope = try QueueScope(from: &reader)
        reason = try reader.optional("reason", String.self, .in(Limits.reasonBytes))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        scope.fields(to: &writer)
        writer.field("reason", reason)
    }
}

/// Body that names the controls that end.
package struct ResumeRequest: WireObject, Equatable {
    /// What they cover, exactly.
    package var scope: QueueScope
    /// Only those of this mode; else all.
    package var mode: ControlMode?

    /// An end of controls.
    package init(_ scope: QueueScope, mode: ControlMode? = nil) {
        self.scope = scope
        self.mode = mode
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        scope = try QueueScope(from: &reader)
        mode = try reader.optional("mode")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        scope.fields(to: &writer)
        writer.field("mode", mode)
    }
}

extension QueueScope {
    /// Reads what a body covers. Nothing at all would be everything, and is too easily said by mistake.
    fileprivate init(from reader: inout FieldReader) throws(FieldError) {
        self.init(organization: try reader.optional("organizationId"))
        let all = try reader.optional("allOrganizations", Bool.self) ?? false
        kind = try reader.optional("kind")
        priority = try reader.optional("priority")
        guard !reader.isRecording, all == (organization != nil) else { return }
        throw FieldError(
            .invalid, field: reader.name(of: "organizationId"),
            all
                ? "must not stand beside allOrganizations"
                : "is missing: name an organization, or say allOrganizations: true")
    }

    fileprivate func fields(to writer: inout JSONWriter) {
        if organization == nil { writer.field("allOrganizations", true) }
        writer.field("organizationId", organization)
        writer.field("kind", kind)
        writer.field("priority", priority)
    }
}

/// A pause or a drain that is in force.
package struct QueueControl: WireObject, Equatable {
    /// Names it.
    package var id: ControlID
    /// How it holds back what it covers.
    package var mode: ControlMode
    /// What it covers; an absent part narrows nothing.
    package var organizationId: OrganizationID?
    package var kind: JobKind?
    package var priority: Priority?
    /// Whether the platform set it: then only the platform lifts it.
    package var byPlatform: Bool
    /// Why, the API key that set it, and when.
    package var reason: String?
    package var createdBy: PrincipalID
    package var since: Instant

    /// A control as it is shown.
    package init(
        id: ControlID, mode: ControlMode, scope: QueueScope, byPlatform: Bool, reason: String?,
        createdBy: PrincipalID, since: Instant
    ) {
        self.id = id
        self.mode = mode
        organizationId = scope.organization
        kind = scope.kind
        priority = scope.priority
        self.byPlatform = byPlatform
        self.reason = reason
        self.createdBy = createdBy
        self.since = since
    }

    /// What it covers.
    package var scope: QueueScope {
        QueueScope(organization: organizationId, kind: kind, priority: priority)
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        mode = try reader.field("mode")
        organizationId = try reader.optional("organizationId")
        kind = try reader.optional("kind")
        priority = try reader.optional("priority")
        byPlatform = try reader.field("byPlatform")
        reason = try reader.optional("reason")
        createdBy = try reader.field("createdBy")
        since = try reader.field("since")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("mode", mode)
        writer.field("organizationId", organizationId)
        writer.field("kind", kind)
        writer.field("priority", priority)
        writer.field("byPlatform", byPlatform)
        writer.field("reason", reason)
        writer.field("createdBy", createdBy)
        writer.field("since", since)
    }
}

/// The controls that a resume has lifted.
package struct LiftedControls: WireObject, Equatable {
    /// Each as it was.
    package var lifted: [QueueControl]

    /// Lifted controls.
    package init(lifted: [QueueControl]) { self.lifted = lifted }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) { lifted = try reader.field("lifted") }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) { writer.field("lifted", lifted) }
}

/// Body that sets an organization's weight.
package struct NewWeight: WireObject, Equatable {
    /// Its share against others; 1 is the default.
    package var weight: Double

    /// A weight.
    package init(weight: Double) { self.weight = weight }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        weight = try reader.field("weight")
        guard !reader.isRecording, !Limits.weight.contains(weight) else { return }
        throw FieldError(
            .invalid, field: reader.name(of: "weight"),
            "is \(weight); allowed are \(Limits.weight.lowerBound) to \(Limits.weight.upperBound)")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) { writer.field("weight", weight) }
}

/// Body that sets an organization's cap on running runs, or says that there is none.
package struct NewCap: WireObject, Equatable {
    /// The most runs that it may have on devices; `nil` for any number.
    package var cap: Int?

    /// A cap, or none.
    package init(cap: Int?) { self.cap = cap }

    /// Reads the fields; neither a cap nor `unlimited` is refused, and both.
    package init(from reader: inout FieldReader) throws(FieldError) {
        cap = try reader.optional("cap", Int.self, .in(Limits.runningCap))
        let isUnlimited = try reader.optional("unlimited", Bool.self) ?? false
        guard !reader.isRecording, isUnlimited == (cap != nil) else { return }
        throw FieldError(
            .invalid, field: reader.name(of: "cap"),
            isUnlimited
                ? "must not stand beside unlimited" : "is missing: give a number, or say unlimited: true")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("cap", cap)
        if cap == nil { writer.field("unlimited", true) }
    }
}

/// How an organization stands in the queue.
package struct OrganizationQueues: WireObject, Equatable {
    /// Whose queues.
    package var organizationId: OrganizationID
    /// Its weight, its part of the work in the last minute, and the part that its weight entitles it to.
    package var weight: Double
    package var share: Double?
    package var entitlement: Double?
    /// Runs marked and settled a second over the last minute.
    package var startRate: Double?
    package var drainRate: Double?
    /// The most runs that may be on devices.
    package var cap: Int?
    /// How many interactive runs go before its standard ones.
    package var interactive: InteractiveBucket?
    /// Its queues by priority.
    package var queues: [QueueStatus]
    /// What holds it back now: its own controls and those of all organizations.
    package var controls: [QueueControl]
    /// What it has open, and how much it may.
    package var quota: QueueQuota?

    /// An organization as it is shown.
    package init(
        organizationId: OrganizationID, weight: Double, share: Double?, entitlement: Double?,
        startRate: Double?, drainRate: Double?, cap: Int?, interactive: InteractiveBucket? = nil,
        queues: [QueueStatus], controls: [QueueControl], quota: QueueQuota?
    ) {
        self.organizationId = organizationId
        self.weight = weight
        self.share = share
        self.entitlement = entitlement
        self.startRate = startRate
        self.drainRate = drainRate
        self.cap = cap
        self.interactive = interactive
        self.queues = queues
        self.controls = controls
        self.quota = quota
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        organizationId = try reader.field("organizationId")
        weight = try reader.field("weight")
        share = try reader.optional("share")
        entitlement = try reader.optional("entitlement")
        startRate = try reader.optional("startRate")
        drainRate = try reader.optional("drainRate")
        cap = try reader.optional("cap")
        interactive = try reader.optional("interactive")
        queues = try reader.field("queues")
        controls = try reader.field("controls")
        quota = try reader.optional("quota")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("organizationId", organizationId)
        writer.field("weight", weight)
        writer.field("share", share)
        writer.field("entitlement", entitlement)
        writer.field("startRate", startRate)
        writer.field("drainRate", drainRate)
        writer.field("cap", cap)
        writer.field("interactive", interactive)
        writer.field("queues", queues)
        writer.field("controls", controls)
        writer.field("quota", quota)
    }
}

/// A role of a process: a worker dispatches, a gateway holds agents' sessions, an API answers this.
package struct WorkerStatus: WireObject, Equatable {
    /// Which one, and what it does.
    package var id: WorkerID
    package var role: String
    /// Where it runs.
    package var host: String
    package var processId: Int
    /// When it began, and when it was heard last.
    package var startedAt: Instant
    package var seenAt: Instant
    /// Where it is.
    package var state: WorkerState
    /// How many of the platform's own tasks it does now.
    package var tasks: Int

    /// A worker as it is shown.
    package init(
        id: WorkerID, role: String, host: String, processId: Int, startedAt: Instant, seenAt: Instant,
        state: WorkerState, tasks: Int = 0
    ) {
        self.id = id
        self.role = role
        self.host = host
        self.processId = processId
        self.startedAt = startedAt
        self.seenAt = seenAt
        self.state = state
        self.tasks = tasks
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        role = try reader.field("role")
        host = try reader.field("host")
        processId = try reader.field("processId")
        startedAt = try reader.field("startedAt")
        seenAt = try reader.field("seenAt")
        state = try reader.field("state")
        tasks = try reader.field("tasks")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("role", role)
        writer.field("host", host)
        writer.field("processId", processId)
        writer.field("startedAt", startedAt)
        writer.field("seenAt", seenAt)
        writer.field("state", state)
        writer.field("tasks", tasks)
    }
}

extension ControlMode: WireWord {
    /// Its name.
    package var word: String { name }
}

extension WorkerState: WireWord {
    /// Its raw value.
    package var word: String { rawValue }
}
