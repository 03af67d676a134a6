/// When a run is told to end, killed and given up; pure, in nanoseconds of one monotonic clock.
///
/// | phase | holds | left when |
/// |---|---|---|
/// | running | the leader runs within its time | it ends; time is up or cancelled (TERM to the tree) |
/// | terminating | the tree was sent TERM | tree and streams have ended; the grace is over (KILL) |
/// | draining | the leader ended, a survivor holds a stream | the streams end; time is over (KILL) |
/// | killed | the tree was killed | leader and streams ended; a last drain time is over; nothing helps |
///
/// A leader that survives its KILL (uninterruptible sleep) is given up after `unkillableSeconds`.
struct RunLifecycle {
    enum Phase: Equatable {
        case running
        case terminating(killAt: UInt64)
        case draining(until: UInt64)
        case killed(giveUpAt: UInt64, abandonAt: UInt64)
    }

    enum Cause { case timeout, cancel }

    enum Action: Equatable {
        /// Nothing to do before this time, unless something happens.
        case wait(until: UInt64)
        case terminateTree
        case killTree
        case finish
    }

    /// What is the case at one moment.
    struct Observation {
        var now: UInt64
        var leaderEnded: Bool
        var streamsEnded: Bool
        var cancelRequested: Bool
    }

    private(set) var phase = Phase.running
    /// Why the run was told to end, nil if it ended by itself.
    private(set) var cause: Cause?
    private let deadline: UInt64
    private let grace: UInt64
    private let drain: UInt64
    private let unkillable: UInt64

    /// How often a tree without its leader is looked for while it may still end by itself.
    static let lookNanoseconds: UInt64 = 50_000_000

    init(startedAt: UInt64, limits: RunLimits) {
        deadline = startedAt.addingWithoutOverflow(limits.timeoutSeconds)
        grace = UInt64(0).addingWithoutOverflow(limits.killGraceSeconds)
        drain = UInt64(0).addingWithoutOverflow(limits.drainSeconds)
        unkillable = UInt64(0).addingWithoutOverflow(limits.unkillableSeconds)
    }

    /// The next thing to do; `treeIsGone` is asked only where it matters, because looking is dear.
    mutating func next(_ seen: Observation, treeIsGone: () -> Bool) -> Action {
        switch phase {
        case .running:
            if seen.leaderEnded {
                phase = .draining(until: seen.now &+ drain)
                return next(seen, treeIsGone: treeIsGone)
            }
            guard seen.cancelRequested || seen.now >= deadline else { return .wait(until: deadline) }
            cause = seen.cancelRequested ? .cancel : .timeout
            phase = .terminating(killAt: seen.now.addingWithoutOverflow(grace))
            return .terminateTree
        case .terminating(let killAt):
            if seen.now >= killAt { return kill(seen) }
            guard seen.leaderEnded else { return .wait(until: killAt) }
            if seen.streamsEnded && treeIsGone() { return .finish }
            return .wait(until: min(killAt, seen.now &+ RunLifecycle.lookNanoseconds))
        case .draining(let until):
            if seen.streamsEnded { return .finish }
            if seen.now >= until || seen.cancelRequested { return kill(seen) }
            return .wait(until: until)
        case .killed(let giveUpAt, let abandonAt):
            if seen.leaderEnded && (seen.streamsEnded || seen.now >= giveUpAt) { return .finish }
            if seen.now >= abandonAt { return .finish }
            return .wait(until: seen.leaderEnded ? giveUpAt : abandonAt)
        }
    }

    private mutating func kill(_ seen: Observation) -> Action {
        phase = .killed(
            giveUpAt: seen.now.addingWithoutOverflow(drain),
            abandonAt: seen.now.addingWithoutOverflow(Swift.max(drain, unkillable)))
        return .killTree
    }
}

extension UInt64 {
    fileprivate func addingWithoutOverflow(_ other: UInt64) -> UInt64 {
        let (sum, overflows) = addingReportingOverflow(other)
        return overflows ? .max : sum
    }

    fileprivate func addingWithoutOverflow(_ seconds: Double) -> UInt64 {
        addingWithoutOverflow(UInt64(exactly: (Swift.max(0, seconds) * 1e9).rounded()) ?? .max)
    }
}
