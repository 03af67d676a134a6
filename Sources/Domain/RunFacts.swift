/// All that an explanation of a run is drawn from, at one time.
///
/// What is `nil` is not known or not there; Redis that does not answer leaves `spot`, `isOnline`, `lane` and
/// `cap` out, and the explanation goes by what PostgreSQL has.
package struct RunFacts: Sendable, Equatable {
    /// When they were gathered, by the database's clock.
    package var now: Instant
    /// Which run of which job.
    package var run: RunID
    package var job: JobID
    package var organization: OrganizationID
    /// The site of its device, if that was asked for.
    package var site: SiteID?
    /// What it does, how soon, and by which lane of its device.
    package var kind: JobKind
    package var priority: Priority
    package var lane: Lane
    /// Where it is, and the number of its latest attempt (0 before the first).
    package var state: RunState
    package var attempt: Int
    package var maximumAttempts: Int
    /// When it was queued, sent, started, is due, has to be sent, and how long it may run.
    package var queuedAt: Instant
    package var sentAt: Instant?
    package var startedAt: Instant?
    package var dueAt: Instant?
    package var expiresAt: Instant
    package var timeoutSeconds: Int
    /// When somebody asked to cancel it or its job.
    package var cancelRequestedAt: Instant?
    /// How the attempt before the next one ended.
    package var lastAttempt: Ending?
    /// How it ended.
    package var ending: Ending?
    /// Whether its job is paused; its wave, and up to which waves are released.
    package var isJobPaused = false
    package var wave = 0
    package var releasedWave = 0
    /// The pauses that cover it.
    package var pauses: [Hold] = []
    /// The device that it is for.
    package var device: Device
    /// Where Redis has it.
    package var spot: Spot?
    /// Unsettled runs of its lane of the device, and how many there may be.
    package var laneLoad: Load?
    /// Runs of that lane on the device, those that run first, without itself.
    package var laneHolders: [Holder] = []
    /// Runs of its organization on devices, and how many there may be.
    package var cap: Load?
    /// Finer limits that are full.
    package var fullLimits: [Limit] = []
    /// When its organization's rate limit lets another run start.
    package var rateLimitedUntil: Instant?
    /// The work in front of it.
    package var ahead: Ahead?

    /// The device of a run.
    package struct Device: Sendable, Equatable {
        /// Which one, its name, and when its agent was heard last.
        package var id: DeviceID
        package var hostname: String
        package var lastSeenAt: Instant?
        /// Whether a gateway holds a session of it; `nil` if that is not known now.
        package var isOnline: Bool?

        /// A device.
        package init(id: DeviceID, hostname: String, lastSeenAt: Instant? = nil, isOnline: Bool? = nil) {
            self.id = id
            self.hostname = hostname
            self.lastSeenAt = lastSeenAt
            self.isOnline = isOnline
        }
    }

    /// Where Redis has a run.
    package enum Spot: Sendable, Equatable, CaseIterable {
        /// Nowhere: a worker has yet to bring it.
        case absent
        /// In its queue's stream, to be claimed.
        case ready
        /// Claimed by a worker.
        case leased
        /// Given back, and not to be claimed before a time.
        case delayed
        /// Beside its queue, until its device's lane has room.
        case setAside
        /// On its device.
        case dispatched
    }

    /// How an attempt, or the run, ended.
    package struct Ending: Sendable, Equatable {
        /// Which attempt, and how.
        package var attempt: Int
        package var outcome: Outcome
        package var exitCode: Int?
        package var reason: String?
        package var at: Instant?

        /// An end.
        package init(
            attempt: Int, outcome: Outcome, exitCode: Int? = nil, reason: String? = nil, at: Instant? = nil
        ) {
            self.attempt = attempt
            self.outcome = outcome
            self.exitCode = exitCode
            self.reason = reason
            self.at = at
        }
    }

    /// A pause that covers the run.
    package struct Hold: Sendable, Equatable {
        /// What it covers, since when, why, and whether the platform set it.
        package var scope: QueueScope
        package var since: Instant
        package var reason: String?
        package var isByPlatform: Bool

        /// A pause.
        package init(scope: QueueScope, since: Instant, reason: String? = nil, isByPlatform: Bool) {
            self.scope = scope
            self.since = since
            self.reason = reason
            self.isByPlatform = isByPlatform
        }
    }

    /// How many there are of how many that may be.
    package struct Load: Sendable, Equatable {
        /// So many; `nil` for no limit.
        package var count: Int
        package var limit: Int?

        /// A load.
        package init(_ count: Int, of limit: Int?) {
            self.count = count
            self.limit = limit
        }

        /// Whether one more would be too many.
        package var isFull: Bool { limit.map { count >= $0 } ?? false }
    }

    /// A run that is on the device in the same lane.
    package struct Holder: Sendable, Equatable {
        /// Which run, and since when it runs; `nil` if it has not started.
        package var run: RunID
        package var startedAt: Instant?

        /// A run of the lane.
        package init(run: RunID, startedAt: Instant?) {
            self.run = run
            self.startedAt = startedAt
        }
    }

    /// A limit, finer than the organization's, under which no room is left.
    package struct Limit: Sendable, Equatable {
        /// What it counts by.
        package enum Scope: Sendable, CaseIterable {
            case job, site, kind, device, deviceLane

            /// The same, as limits are set.
            package init(_ scope: LimitScope) {
                self =
                    switch scope {
                    case .job: .job
                    case .site: .site
                    case .kind: .kind
                    case .device: .device
                    case .lane: .deviceLane
                    }
            }

            /// What a run waits for that finds it full.
            package var cause: WaitCause {
                switch self {
                case .job: .jobCap
                case .site: .siteCap
                case .kind: .kindCap
                case .device: .deviceCap
                case .deviceLane: .deviceLaneCap
                }
            }
        }

        /// What it counts by, and how many there may be.
        package var scope: Scope
        package var load: Load

        /// A limit.
        package init(_ scope: Scope, _ load: Load) {
            self.scope = scope
            self.load = load
        }
    }

    /// The work in front of a run.
    package struct Ahead: Sendable, Equatable {
        /// Queued runs before it in its own queue, and in the organization's more urgent ones.
        package var runs: Int
        /// Whether these are all; if not, there are more.
        package var isExact: Bool
        /// Runs of its organization that ended in a second, over the last minute; `nil` if that is not known.
        package var drainRate: Double?

        /// Work in front.
        package init(runs: Int, isExact: Bool = true, drainRate: Double? = nil) {
            self.runs = runs
            self.isExact = isExact
            self.drainRate = drainRate
        }

        /// When the run after this work starts if it goes on like that; `nil` where that cannot be said.
        package func start(from now: Instant) -> Instant? {
            guard isExact, let drainRate, drainRate > 0 else { return nil }
            let seconds = Double(runs) / drainRate
            return seconds < 31_536_000 ? now + .milliseconds(Int(seconds * 1_000)) : nil
        }
    }

    /// The facts of a run of which nothing special is known.
    package init(
        now: Instant, run: RunID, job: JobID, organization: OrganizationID, kind: JobKind, priority: Priority,
        state: RunState, attempt: Int = 0, maximumAttempts: Int = 1, queuedAt: Instant, expiresAt: Instant,
        timeoutSeconds: Int, device: Device
    ) {
        self.now = now
        self.run = run
        self.job = job
        self.organization = organization
        self.kind = kind
        self.priority = priority
        self.lane = Lane(kind)
        self.state = state
        self.attempt = attempt
        self.maximumAttempts = maximumAttempts
        self.queuedAt = queuedAt
        self.expiresAt = expiresAt
        self.timeoutSeconds = timeoutSeconds
        self.device = device
    }
}
