package import Domain

/// An organization's limits that are finer than its cap, as they are set and shown: setting them replaces
/// all.
package struct QueueLimits: WireObject, Equatable {
    /// The most runs on devices, by what they count by.
    package var limits: [QueueLimit]
    /// How many runs may begin; absent for any number.
    package var rate: QueueRate?

    /// Limits.
    package init(limits: [QueueLimit], rate: QueueRate? = nil) {
        self.limits = limits
        self.rate = rate
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        limits = try reader.field("limits", [QueueLimit].self, .in(0...Limits.queueLimitsMax))
        rate = try reader.optional("rate")
        guard !reader.isRecording else { return }
        var lanes: Set<RunLane> = []
        for (index, limit) in limits.enumerated() where !lanes.insert(limit.lane).inserted {
            throw FieldError(
                .invalid, field: reader.name(of: "limits[\(index)]"), "limits the same as one before it")
        }
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("limits", limits)
        writer.field("rate", rate)
    }
}

/// The most runs on devices of a job, a site, a kind, a device, or a lane of a device.
package struct QueueLimit: WireObject, Equatable {
    /// What it counts by.
    package var scope: LimitScope
    /// Which of these: an id, a kind, or `DEVICE/LANE`; absent for each that has no limit of its own.
    package var key: String?
    /// The most runs.
    package var running: Int

    /// A limit.
    package init(scope: LimitScope, key: String? = nil, running: Int) {
        self.scope = scope
        self.key = key
        self.running = running
    }

    /// What it limits.
    package var lane: RunLane { RunLane(scope, key ?? "") }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        scope = try reader.field("scope")
        key = try reader.optional("key", String.self, .in(1...64))
        running = try reader.field("running", Int.self, .in(Limits.queueLimit))
        guard !reader.isRecording, let key, !Self.isKey(key, of: scope) else { return }
        throw FieldError(
            .invalid, field: reader.name(of: "key"),
            "is none of the scope \(scope.rawValue): \(Self.expected(of: scope)) is expected")
    }

    private static func isKey(_ key: String, of scope: LimitScope) -> Bool {
        switch scope {
        case .job, .site, .device: return UniqueID(key)?.description == key
        case .kind: return JobKind(rawValue: key) != nil
        case .lane:
            let parts = key.split(separator: "/", omittingEmptySubsequences: false)
            return parts.count == 2 && UniqueID(parts[0]).map { $0.description == parts[0] } == true
                && Int16(parts[1]).flatMap(Lane.init(rawValue:)) != nil
        }
    }

    private static func expected(of scope: LimitScope) -> String {
        switch scope {
        case .job, .site, .device: "an id"
        case .kind: JobKind.allCases.map(\.rawValue).joined(separator: ", ")
        case .lane: "a device's id, a slash, and 0 (interactive) or 1 (script)"
        }
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("scope", scope)
        writer.field("key", key)
        writer.field("running", running)
    }
}

/// How many runs may begin in a time.
package struct QueueRate: WireObject, Equatable {
    /// Runs a second in the long run, and at once.
    package var perSecond: Double
    package var burst: Int

    /// A rate.
    package init(perSecond: Double, burst: Int) {
        self.perSecond = perSecond
        self.burst = burst
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        perSecond = try reader.field("perSecond")
        burst = try reader.field("burst", Int.self, .in(Limits.queueBurst))
        guard !reader.isRecording, !Limits.queueRate.contains(perSecond) else { return }
        throw FieldError(
            .invalid, field: reader.name(of: "perSecond"),
            "is \(perSecond); allowed are \(Limits.queueRate.lowerBound) to \(Limits.queueRate.upperBound)")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("perSecond", perSecond)
        writer.field("burst", burst)
    }
}

extension LimitScope: WireWord {
    /// Its raw value.
    package var word: String { rawValue }
}
