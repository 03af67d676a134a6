import Domain

/// Jobs whose expansion failed, and when each is tried again: later after every failure, so that it costs the
/// others less and less.
struct Setbacks {
    /// What is remembered of one job.
    struct Setback {
        let organization: OrganizationID
        var failures = 0
        var until: ContinuousClock.Instant

        /// Whether the wait may be longer than the one before.
        var isLonger: Bool {
            failures == 1 || backoff.ceiling(attempt: failures - 1) > backoff.ceiling(attempt: failures - 2)
        }
    }

    private var setbacks: [JobID: Setback] = [:]

    /// The jobs that are not to be tried as others are.
    var jobs: [JobID] { Array(setbacks.keys) }

    /// The job whose time came first, if any has come.
    func due(at now: ContinuousClock.Instant) -> (organization: OrganizationID, id: JobID)? {
        setbacks.filter { $0.value.until <= now }.min { $0.value.until < $1.value.until }
            .map { ($0.value.organization, $0.key) }
    }

    /// Notes a failure of a job; `nil` if so many have failed that it is hardly the jobs' fault.
    mutating func note(
        _ job: (organization: OrganizationID, id: JobID), at now: ContinuousClock.Instant
    ) -> Setback? {
        guard setbacks[job.id] != nil || setbacks.count < Self.jobsMax else { return nil }
        var setback = setbacks[job.id] ?? Setback(organization: job.organization, until: now)
        let ceiling = Self.backoff.ceiling(attempt: setback.failures)
        var generator = SystemRandomNumberGenerator()
        // At least half of the ceiling: the others go first.
        setback.until = now + (ceiling + Self.backoff.wait(attempt: setback.failures, using: &generator)) / 2
        setback.failures += 1
        setbacks[job.id] = setback
        return setback
    }

    /// Lets a job that another worker is at wait as after its first failure.
    mutating func postpone(_ job: JobID, at now: ContinuousClock.Instant) {
        setbacks[job]?.until = now + Self.backoff.base
    }

    /// Forgets a job that has come further or is whole; returns how often it had failed, if it had.
    mutating func forget(_ job: JobID) -> Int? { setbacks.removeValue(forKey: job)?.failures }

    static let jobsMax = 1_000
    static let backoff = Backoff(base: .seconds(1), limit: .seconds(60))
}
