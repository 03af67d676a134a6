package import Domain

/// A message from an agent to its gateway. JSON text `{"type": …, …}`; see the protocol's page for examples.
package enum AgentFrame: Sendable, Equatable {
    case hello(Hello)
    case accepted(Accepted)
    case started(Started)
    case finished(Finished)
    case rejected(Rejected)
    /// The agent asks for another certificate of its key: a certificate request, PEM.
    case renew(String)
    case ping(Int)
}

/// A message from a gateway to an agent.
package enum GatewayFrame: Sendable, Equatable {
    case welcome(Welcome)
    /// Newer statements than the agent has named, between two hellos.
    case statements(NewerStatements)
    case dispatch(Dispatch)
    case cancel(AttemptName)
    /// The result of this attempt is committed; the agent may forget it.
    case acknowledged(AttemptName)
    /// The certificate that the agent has asked for, or why there is none.
    case renewed(Renewed)
    case pong(Int)
}

/// Names one attempt of one run.
package struct AttemptName: WireObject, Hashable {
    /// The run.
    package var run: RunID
    /// The attempt's number, from 1.
    package var attempt: Int
    /// The attempt's fencing token.
    package var token: AttemptToken

    /// The name of an attempt.
    package init(run: RunID, attempt: Int, token: AttemptToken) {
        self.run = run
        self.attempt = attempt
        self.token = token
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        run = try reader.field("run")
        attempt = try reader.field("attempt", Int.self, .in(1...1_000))
        token = try reader.field("token")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("run", run)
        writer.field("attempt", attempt)
        writer.field("token", token)
    }
}

/// The first message of an agent, repeated at a slow pace: who it is and what it holds.
package struct Hello: WireObject, Equatable {
    /// The agent's own version.
    package var agentVersion: String
    /// What operators see.
    package var hostname: String
    package var platform: String
    /// Versions of the pinned statements, so that newer ones can be sent.
    package var keySetVersion: Int
    package var assignmentVersion: Int
    /// Entries ever written to the journal; a smaller number than before means a restored copy.
    package var journalPosition: Int
    /// Attempts that were accepted and have not ended.
    package var held: [AttemptName]
    /// Attempts that ended and whose result is not acknowledged; the results follow the welcome.
    package var ended: [AttemptName]
    /// What time the device has; with the feature `clock`.
    package var at: Instant?

    /// A hello.
    package init(
        agentVersion: String, hostname: String, platform: String, keySetVersion: Int, assignmentVersion: Int,
        journalPosition: Int, held: [AttemptName], ended: [AttemptName], at: Instant? = nil
    ) {
        self.at = at
        self.agentVersion = agentVersion
        self.hostname = hostname
        self.platform = platform
        self.keySetVersion = keySetVersion
        self.assignmentVersion = assignmentVersion
        self.journalPosition = journalPosition
        self.held = held
        self.ended = ended
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        agentVersion = try reader.field("agentVersion", String.self, .in(1...64))
        hostname = try reader.field("hostname", String.self, .in(1...255))
        platform = try reader.field("platform", String.self, .in(1...64))
        keySetVersion = try reader.field("keySetVersion", Int.self, .in(0...Int.max))
        assignmentVersion = try reader.field("assignmentVersion", Int.self, .in(0...Int.max))
        journalPosition = try reader.field("journalPosition", Int.self, .in(0...Int.max))
        held = try reader.field("held", [AttemptName].self, .in(0...Limits.helloAttemptsMax))
        ended = try reader.field("ended", [AttemptName].self, .in(0...Limits.helloAttemptsMax))
        at = try reader.optional("at")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("agentVersion", agentVersion)
        writer.field("hostname", hostname)
        writer.field("platform", platform)
        writer.field("keySetVersion", keySetVersion)
        writer.field("assignmentVersion", assignmentVersion)
        writer.field("journalPosition", journalPosition)
        writer.field("held", held)
        writer.field("ended", ended)
        writer.field("at", at)
    }
}

/// The attempt is in the agent's journal and will be started.
package struct Accepted: WireObject, Equatable {
    /// The attempt.
    package var name: AttemptName
    /// Entries ever written to the journal, this acceptance among them.
    package var journalPosition: Int
    /// The trace of its job; nothing is decided by it.
    package var trace: TraceContext?

    /// An acceptance.
    package init(name: AttemptName, journalPosition: Int) {
        self.name = name
        self.journalPosition = journalPosition
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        name = try AttemptName(from: &reader)
        journalPosition = try reader.field("journalPosition", Int.self, .in(1...Int.max))
        trace = try reader.trace()
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        name.fields(to: &writer)
        writer.field("journalPosition", journalPosition)
        writer.field("traceparent", trace?.traceparent)
    }
}

/// The agent has written the start of an attempt to its journal and started it.
package struct Started: WireObject, Equatable {
    /// The attempt.
    package var name: AttemptName
    /// When, by the device's clock.
    package var at: Instant
    /// Entries ever written to the journal, this start among them.
    package var journalPosition: Int
    /// The trace of its job; nothing is decided by it.
    package var trace: TraceContext?

    /// A start.
    package init(name: AttemptName, at: Instant, journalPosition: Int) {
        self.name = name
        self.at = at
        self.journalPosition = journalPosition
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        name = try AttemptName(from: &reader)
        at = try reader.field("at")
        journalPosition = try reader.field("journalPosition", Int.self, .in(1...Int.max))
        trace = try reader.trace()
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        name.fields(to: &writer)
        writer.field("at", at)
        writer.field("journalPosition", journalPosition)
        writer.field("traceparent", trace?.traceparent)
    }
}

/// What is kept of one of a run's outputs: its first and last bytes and how many there were.
package struct OutputExcerpt: WireObject, Equatable {
    /// The first bytes, up to `Limits.outputHeadBytes`.
    package var head: Base64Bytes
    /// The last bytes after a gap, up to `Limits.outputTailBytes`; empty if the head is all or what follows
    /// it directly.
    package var tail: Base64Bytes
    /// How many bytes were written.
    package var bytes: Int

    /// An excerpt.
    package init(head: [UInt8], tail: [UInt8], bytes: Int) {
        self.head = Base64Bytes(head)
        self.tail = Base64Bytes(tail)
        self.bytes = bytes
    }

    /// Nothing was written.
    package static let empty = OutputExcerpt(head: [], tail: [], bytes: 0)

    /// Whether bytes are missing between head and tail.
    package var isTruncated: Bool { bytes > head.bytes.count + tail.bytes.count }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        head = try reader.field("head", Base64Bytes.self, .in(0...Limits.outputHeadBytes))
        tail = try reader.field("tail", Base64Bytes.self, .in(0...Limits.outputTailBytes))
        bytes = try reader.field("bytes", Int.self, .in(0...Int.max))
        if !reader.isRecording, bytes < head.bytes.count + tail.bytes.count {
            throw FieldError(
                .invalid, field: reader.name(of: "bytes"), "is less than what head and tail hold")
        }
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("head", head)
        writer.field("tail", tail)
        writer.field("bytes", bytes)
    }
}

/// How an attempt ended.
package struct Finished: WireObject, Equatable {
    /// The attempt.
    package var name: AttemptName
    /// One of succeeded, failed, timedOut, cancelled, unknown.
    package var outcome: Outcome
    /// The script's exit code, if it exited.
    package var exitCode: Int?
    /// Why, in one stable word, where the exit code does not say: `signal`, `journal`, …
    package var reason: String?
    /// When it started and ended, by the device's clock.
    package var startedAt: Instant?
    package var finishedAt: Instant
    /// The two outputs.
    package var stdout: OutputExcerpt
    package var stderr: OutputExcerpt
    /// The trace of its job; nothing is decided by it.
    package var trace: TraceContext?

    /// An end.
    package init(
        name: AttemptName, outcome: Outcome, exitCode: Int? = nil, reason: String? = nil,
        startedAt: Instant? = nil,
        finishedAt: Instant, stdout: OutputExcerpt = .empty, stderr: OutputExcerpt = .empty
    ) {
        self.name = name
        self.outcome = outcome
        self.exitCode = exitCode
        self.reason = reason
        self.startedAt = startedAt
        self.finishedAt = finishedAt
        self.stdout = stdout
        self.stderr = stderr
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        name = try AttemptName(from: &reader)
        outcome = try reader.field("outcome")
        exitCode = try reader.optional("exitCode", Int.self, .in(-1...255))
        reason = try reader.optional("reason", String.self, .in(1...200))
        startedAt = try reader.optional("startedAt")
        finishedAt = try reader.field("finishedAt")
        stdout = try reader.field("stdout")
        stderr = try reader.field("stderr")
        trace = try reader.trace()
        if !reader.isRecording, outcome == .expired {
            throw FieldError(
                .invalid, field: reader.name(of: "outcome"), "expired is the server's word, not an agent's")
        }
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        name.fields(to: &writer)
        writer.field("outcome", outcome)
        writer.field("exitCode", exitCode)
        writer.field("reason", reason)
        writer.field("startedAt", startedAt)
        writer.field("finishedAt", finishedAt)
        writer.field("stdout", stdout)
        writer.field("stderr", stderr)
        writer.field("traceparent", trace?.traceparent)
    }
}

/// The agent refuses a dispatch: nothing of it was started, and nothing of it will be.
package struct Rejected: WireObject, Equatable {
    /// The attempt.
    package var name: AttemptName
    /// Why, in one stable word: `signature`, `target`, `expired`, `replay`, `content`, `full`, …
    package var code: String
    /// One sentence for the operator.
    package var message: String
    /// The trace of its job; nothing is decided by it.
    package var trace: TraceContext?

    /// A refusal.
    package init(name: AttemptName, code: String, message: String) {
        self.name = name
        self.code = code
        self.message = message
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        name = try AttemptName(from: &reader)
        code = try reader.field("code", String.self, .in(1...64))
        message = try reader.field("message", String.self, .in(1...500))
        trace = try reader.trace()
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        name.fields(to: &writer)
        writer.field("code", code)
        writer.field("message", message)
        writer.field("traceparent", trace?.traceparent)
    }
}

/// The answer to a hello.
package struct Welcome: WireObject, Equatable {
    /// The session's number: only the newest session of a device is served.
    package var session: Int
    /// A newer key set and assignment than the hello named, as encoded statements.
    package var keySet: Base64Bytes?
    package var assignment: Base64Bytes?
    /// Held attempts that have ended on the server: to be killed, their results dropped.
    package var drop: [AttemptName]
    /// Held attempts that somebody asked to cancel.
    package var cancel: [AttemptName]
    /// Seconds between the agent's pings.
    package var pingSeconds: Int
    /// Seconds between the agent's hellos.
    package var helloSeconds: Int
    /// What time the gateway has; with the feature `clock`.
    package var at: Instant?
    /// What the gateway takes in this session; with the feature `limits`.
    package var limits: SessionLimits?

    /// A welcome.
    package init(
        session: Int, keySet: [UInt8]? = nil, assignment: [UInt8]? = nil, drop: [AttemptName] = [],
        cancel: [AttemptName] = [], pingSeconds: Int, helloSeconds: Int
    ) {
        self.session = session
        self.keySet = keySet.map(Base64Bytes.init)
        self.assignment = assignment.map(Base64Bytes.init)
        self.drop = drop
        self.cancel = cancel
        self.pingSeconds = pingSeconds
        self.helloSeconds = helloSeconds
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        session = try reader.field("session", Int.self, .in(0...Int.max))
        keySet = try reader.optional("keySet")
        assignment = try reader.optional("assignment")
        drop = try reader.field("drop", [AttemptName].self, .in(0...Limits.helloAttemptsMax))
        cancel = try reader.field("cancel", [AttemptName].self, .in(0...Limits.helloAttemptsMax))
        pingSeconds = try reader.field("pingSeconds", Int.self, .in(1...3_600))
        helloSeconds = try reader.field("helloSeconds", Int.self, .in(1...86_400))
        at = try reader.optional("at")
        limits = try reader.optional("limits")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("session", session)
        writer.field("keySet", keySet)
        writer.field("assignment", assignment)
        writer.field("drop", drop)
        writer.field("cancel", cancel)
        writer.field("pingSeconds", pingSeconds)
        writer.field("helloSeconds", helloSeconds)
        writer.field("at", at)
        writer.field("limits", limits)
    }
}

/// What a device is to believe from now on, if it holds.
package struct NewerStatements: WireObject, Equatable {
    /// A newer key set and assignment, as encoded statements.
    package var keySet: Base64Bytes?
    package var assignment: Base64Bytes?

    /// One of them, or both.
    package init(keySet: Base64Bytes? = nil, assignment: Base64Bytes? = nil) {
        self.keySet = keySet
        self.assignment = assignment
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        keySet = try reader.optional("keySet")
        assignment = try reader.optional("assignment")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("keySet", keySet)
        writer.field("assignment", assignment)
    }
}

/// Work for the device. Everything that matters stands in the signed statement.
package struct Dispatch: WireObject, Equatable {
    /// The attempt.
    package var name: AttemptName
    /// The encoded job statement.
    package var job: Base64Bytes
    /// For lists of devices: where this device's leaf stands, and the hashes beside its path.
    package var leafIndex: Int?
    package var proof: [Base64Bytes]?
    /// The values of the script's secrets, sealed to the device's key, in the order of the script.
    package var secrets: [Base64Bytes]?
    /// The trace of its job; nothing is decided by it.
    package var trace: TraceContext?

    /// A dispatch.
    package init(name: AttemptName, job: [UInt8], leafIndex: Int? = nil, proof: [[UInt8]]? = nil) {
        self.init(name: name, job: Base64Bytes(job), leafIndex: leafIndex, proof: proof)
    }

    /// A dispatch of a statement that goes to many devices: `Base64Bytes.prepared` encodes it once.
    package init(name: AttemptName, job: Base64Bytes, leafIndex: Int? = nil, proof: [[UInt8]]? = nil) {
        self.name = name
        self.job = job
        self.leafIndex = leafIndex
        self.proof = proof?.map(Base64Bytes.init)
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        name = try AttemptName(from: &reader)
        job = try reader.field("job")
        leafIndex = try reader.optional("leafIndex", Int.self, .in(0...Limits.deviceIDsMax))
        proof = try reader.optional("proof", [Base64Bytes].self, .in(0...32, elements: 32...32))
        secrets = try reader.optional(
            "secrets", [Base64Bytes].self,
            .in(0...Limits.scriptSecretsMax, elements: 1...Limits.sealedSecretBytesMax))
        trace = try reader.trace()
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        name.fields(to: &writer)
        writer.field("job", job)
        writer.field("leafIndex", leafIndex)
        writer.field("proof", proof)
        writer.field("secrets", secrets)
        writer.field("traceparent", trace?.traceparent)
    }
}

extension AgentFrame {
    /// The frame of a JSON text.
    package static func decode(_ bytes: [UInt8]) throws -> AgentFrame {
        var reader = try FieldReader(frame: bytes)
        let type = try reader.field("type", String.self, .in(1...32))
        let frame: AgentFrame
        switch type {
        case "hello": frame = .hello(try Hello(from: &reader))
        case "accepted": frame = .accepted(try Accepted(from: &reader))
        case "started": frame = .started(try Started(from: &reader))
        case "finished": frame = .finished(try Finished(from: &reader))
        case "rejected": frame = .rejected(try Rejected(from: &reader))
        case "renew":
            frame = .renew(try Renew(from: &reader).request)
        case "ping": frame = .ping(try reader.field("seq", Int.self))
        default:
            throw FieldError(.invalid, field: "type", "\"\(printable(type))\" is not a message of an agent")
        }
        try reader.finish()
        return frame
    }

    /// The frame as JSON text.
    package var encoded: [UInt8] {
        switch self {
        case .hello(let body): encodeFrame("hello", body)
        case .accepted(let body): encodeFrame("accepted", body)
        case .started(let body): encodeFrame("started", body)
        case .finished(let body): encodeFrame("finished", body)
        case .rejected(let body): encodeFrame("rejected", body)
        case .renew(let request): encodeFrame("renew", Renew(request: request))
        case .ping(let sequence): encodeFrame("ping", sequence: sequence)
        }
    }
}

extension GatewayFrame {
    /// The frame of a JSON text.
    package static func decode(_ bytes: [UInt8]) throws -> GatewayFrame {
        var reader = try FieldReader(frame: bytes)
        let type = try reader.field("type", String.self, .in(1...32))
        let frame: GatewayFrame
        switch type {
        case "welcome": frame = .welcome(try Welcome(from: &reader))
        case "statements": frame = .statements(try NewerStatements(from: &reader))
        case "dispatch": frame = .dispatch(try Dispatch(from: &reader))
        case "cancel": frame = .cancel(try AttemptName(from: &reader))
        case "acknowledged": frame = .acknowledged(try AttemptName(from: &reader))
        case "renewed": frame = .renewed(try Renewed(from: &reader))
        case "pong": frame = .pong(try reader.field("seq", Int.self))
        default:
            throw FieldError(.invalid, field: "type", "\"\(printable(type))\" is not a message of a gateway")
        }
        try reader.finish()
        return frame
    }

    /// The frame as JSON text.
    package var encoded: [UInt8] {
        switch self {
        case .welcome(let body): encodeFrame("welcome", body)
        case .statements(let body): encodeFrame("statements", body)
        case .dispatch(let body): encodeFrame("dispatch", body)
        case .cancel(let body): encodeFrame("cancel", body)
        case .acknowledged(let body): encodeFrame("acknowledged", body)
        case .renewed(let body): encodeFrame("renewed", body)
        case .pong(let sequence): encodeFrame("pong", sequence: sequence)
        }
    }
}

extension FieldReader {
    fileprivate init(frame bytes: [UInt8]) throws {
        try self.init(
            JSONValue(scanning: bytes, depthMax: Limits.frameDepthMax, valuesMax: Limits.frameValuesMax))
    }
}

private func encodeFrame(_ type: String, _ body: some WireObject) -> [UInt8] {
    var writer = JSONWriter()
    writer.object { writer in
        writer.field("type", type)
        body.fields(to: &writer)
    }
    return writer.bytes
}

private func encodeFrame(_ type: String, sequence: Int) -> [UInt8] {
    var writer = JSONWriter()
    writer.object { writer in
        writer.field("type", type)
        writer.field("seq", sequence)
    }
    return writer.bytes
}
