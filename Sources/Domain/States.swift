/// Where a run is. Each state says who takes a run out of it and after how long.
///
/// | state | holds | leaves by | latest after |
/// |---|---|---|---|
/// | scheduled | not before its time, or until another attempt | its time; its device's word | `expiresAt` |
/// | queued | may run now | the mark; no presence → waiting | `expiresAt` |
/// | waiting | the device is offline | reconnect → queued, cancel | `expiresAt` |
/// | dispatched | marked; attempt and token exist | the agent's word; lost inbox → queued | its deadline |
/// | running | the agent said that it started | the agent's word, cancel | its deadline |
///
/// The other six are outcomes. A crash leaves a run in the state of its last commit; the reconciler owns the
/// deadlines.
package enum RunState: Int16, Sendable, CaseIterable {
    case scheduled = 0
    case queued = 1
    case waiting = 2
    case dispatched = 3
    case running = 4
    case succeeded = 10
    case failed = 11
    case timedOut = 12
    case cancelled = 13
    case expired = 14
    case unknown = 15

    /// Whether the run has ended.
    package var isOutcome: Bool { rawValue >= 10 }

    /// The word used in JSON, logs and the command line.
    package var name: String { Self.names[self] }
    private static let names = CaseNames<Self>()

    /// The state of a word.
    package init?(name: String) {
        guard let state = Self.names[name] else { return nil }
        self = state
    }
}

/// How a run ended; a subset of `RunState` by raw value.
package enum Outcome: Int16, Sendable, CaseIterable {
    case succeeded = 10
    case failed = 11
    case timedOut = 12
    case cancelled = 13
    /// Never sent in time.
    case expired = 14
    /// The device has it and cannot say, or not yet, how it ended.
    case unknown = 15

    /// The state that a run with this outcome is in.
    package var state: RunState {
        switch self {
        case .succeeded: .succeeded
        case .failed: .failed
        case .timedOut: .timedOut
        case .cancelled: .cancelled
        case .expired: .expired
        case .unknown: .unknown
        }
    }

    /// The word used in JSON, logs and the command line.
    package var name: String { Self.names[self] }
    private static let names = CaseNames<Self>()

    /// The outcome of a word.
    package init?(name: String) {
        guard let outcome = Self.names[name] else { return nil }
        self = outcome
    }
}

/// Where a job is.
///
/// `accepted`: committed, its target not yet expanded; a worker takes it out within seconds. `active`: it has
/// runs that have not ended, or more are to come; the folder of its deltas takes it out. `paused`: as active,
/// but nothing is marked. `completed`, `cancelled`: ended.
package enum JobState: Int16, Sendable, CaseIterable {
    case accepted = 0
    case active = 1
    case paused = 2
    case completed = 10
    case cancelled = 11

    /// Whether nothing of the job is left to do.
    package var isEnd: Bool { rawValue >= 10 }

    /// The word used in JSON, logs and the command line.
    package var name: String { Self.names[self] }
    private static let names = CaseNames<Self>()

    /// The state of a word.
    package init?(name: String) {
        guard let state = Self.names[name] else { return nil }
        self = state
    }
}

/// Which of an organization's streams a run goes through.
package enum Priority: Int16, Sendable, CaseIterable {
    case interactive = 0
    case standard = 1
    case bulk = 2

    /// The word used in JSON, logs, keys and the command line.
    package var name: String { Self.names[self] }
    private static let names = CaseNames<Self>()

    /// The priority of a word.
    package init?(name: String) {
        guard let priority = Self.names[name] else { return nil }
        self = priority
    }
}

/// What a job does on a device. Kinds of the contract that are not built yet are refused by name.
package enum JobKind: String, Sendable, CaseIterable {
    case script
    case ping
    case sysinfo
}

/// A program that runs a script's body.
package enum Interpreter: String, Sendable, CaseIterable {
    case sh
    case bash
    case python3
}
