/// Why a run is where it is: what it waits for, in a word and in a sentence.
///
/// A pure reading of `RunFacts`: every combination of them has one.
package struct RunExplanation: Sendable, Equatable {
    /// What it waits for.
    package let cause: WaitCause
    /// What else would hold it back if that were gone.
    package let others: [WaitCause]
    /// One plain sentence.
    package let sentence: String
    /// Since when it waits for that, and until when if there is a time for it.
    package let since: Instant?
    package let until: Instant?
    /// Its place among its organization's queued runs, from 1; at least that if the count was cut.
    package let position: Int?
    /// When it starts if things go on as they do.
    package let estimatedStart: Instant?

    /// The explanation of these facts.
    package init(_ facts: RunFacts) {
        let causes = Self.causes(facts)
        cause = causes[0].cause
        others = causes.dropFirst().map(\.cause)
        since = causes[0].since
        until = causes[0].until
        let isQueued = facts.state == .queued
        position = isQueued ? facts.ahead.map { $0.runs + 1 } : nil
        estimatedStart =
            switch cause {
            case .notBefore, .retryBackoff: facts.dueAt
            case .turn: facts.ahead?.start(from: facts.now)
            default: nil
            }
        sentence = Self.sentence(cause, facts) + "."
    }

    private struct Cause {
        let cause: WaitCause
        var since: Instant?
        var until: Instant?

        init(_ cause: WaitCause, since: Instant? = nil, until: Instant? = nil) {
            (self.cause, self.since, self.until) = (cause, since, until)
        }
    }

    // MARK: What holds

    /// All that holds, the first to be named first; never none.
    private static func causes(_ facts: RunFacts) -> [Cause] {
        switch facts.state {
        case .succeeded, .failed, .timedOut, .cancelled, .expired, .unknown:
            [Cause(.ended, since: facts.ending?.at)]
        case .running: [running(facts)] + cancelling(facts) + silence(facts)
        case .dispatched: cancelling(facts) + dispatched(facts)
        case .scheduled: cancelling(facts) + [scheduled(facts)] + holds(facts)
        case .waiting: cancelling(facts) + [waiting(facts)] + holds(facts)
        case .queued: queued(facts)
        }
    }

    private static func running(_ facts: RunFacts) -> Cause {
        Cause(
            .running, since: facts.startedAt,
            until: facts.startedAt.map { $0 + .seconds(facts.timeoutSeconds) })
    }

    private static func cancelling(_ facts: RunFacts) -> [Cause] {
        facts.cancelRequestedAt.map { [Cause(.cancelling, since: $0)] } ?? []
    }

    private static func expiring(_ facts: RunFacts) -> [Cause] {
        facts.expiresAt <= facts.now ? [Cause(.expiring, since: facts.expiresAt)] : []
    }

    private static func silence(_ facts: RunFacts) -> [Cause] {
        facts.device.isOnline == false ? [Cause(.deviceOffline, since: facts.device.lastSeenAt)] : []
    }

    /// Marked. What was sent may be behind others of its lane on the device itself, which runs
    /// as many at a time as the queue lets there be.
    private static func dispatched(_ facts: RunFacts) -> [Cause] {
        guard let sentAt = facts.sentAt else { return [Cause(.beingDispatched)] + silence(facts) }
        let working = facts.laneHolders.compactMap(\.startedAt)
        let isBusy = facts.laneLoad?.limit.map { working.count >= $0 } ?? false
        return silence(facts) + (isBusy ? [Cause(.laneBusy, since: working.min())] : [])
            + [Cause(.notStarted, since: sentAt)]
    }

    private static func scheduled(_ facts: RunFacts) -> Cause {
        guard let dueAt = facts.dueAt else { return Cause(.deviceSilent, since: facts.device.lastSeenAt) }
        return facts.attempt == 0
            ? Cause(.notBefore, until: dueAt)
            : Cause(.retryBackoff, since: facts.lastAttempt?.at, until: dueAt)
    }

    private static func waiting(_ facts: RunFacts) -> Cause {
        facts.device.isOnline == true
            ? Cause(.deviceReturned) : Cause(.deviceOffline, since: facts.device.lastSeenAt)
    }

    /// What operators hold back: the widest pause first.
    private static func holds(_ facts: RunFacts) -> [Cause] {
        let pauses: [Cause] = [WaitCause.everythingPaused, .organizationPaused, .kindPaused, .priorityPaused]
            .compactMap { cause in hold(cause, facts).map { Cause(cause, since: $0.since) } }
        return pauses + (facts.isJobPaused ? [Cause(.jobPaused)] : [])
            + (facts.wave > facts.releasedWave ? [Cause(.waveNotReleased)] : [])
    }

    /// The oldest pause that is such a cause.
    private static func hold(_ cause: WaitCause, _ facts: RunFacts) -> RunFacts.Hold? {
        facts.pauses.filter { hold in
            guard
                hold.scope.covers(
                    organization: facts.organization, kind: facts.kind, priority: facts.priority)
            else { return false }
            return switch (hold.scope.organization, hold.scope.kind, hold.scope.priority) {
            case (_, _?, _): cause == .kindPaused
            case (_, nil, _?): cause == .priorityPaused
            case (_?, nil, nil): cause == .organizationPaused
            case (nil, nil, nil): cause == .everythingPaused
            }
        }.min { $0.since < $1.since }
    }

    private static func queued(_ facts: RunFacts) -> [Cause] {
        var causes = cancelling(facts) + expiring(facts) + holds(facts)
        if facts.spot == .leased || facts.spot == .dispatched { return causes + [Cause(.beingDispatched)] }
        causes += silence(facts)
        if facts.spot == .setAside || facts.laneLoad?.isFull == true {
            causes.append(Cause(.laneBusy, since: facts.laneHolders.compactMap(\.startedAt).min()))
        }
        if facts.cap?.isFull == true { causes.append(Cause(.organizationCap)) }
        for scope in RunFacts.Limit.Scope.allCases
        where facts.fullLimits.contains(where: { $0.scope == scope }) {
            causes.append(Cause(scope.cause))
        }
        if let until = facts.rateLimitedUntil, until > facts.now {
            causes.append(Cause(.rateLimit, until: until))
        }
        if facts.spot == .delayed { causes.append(Cause(.setBack)) }
        return causes.isEmpty ? [Cause(.turn, since: facts.queuedAt)] : causes
    }

    // MARK: In words

    private static func sentence(_ cause: WaitCause, _ facts: RunFacts) -> String {
        let device = "device \(facts.device.hostname)"
        switch cause {
        case .ended: return ended(facts.state, facts.ending)
        case .running: return running(facts, on: device)
        case .cancelling: return "It is being cancelled, as was asked for \(at(facts.cancelRequestedAt))"
        case .expiring: return "It was not sent by \(facts.expiresAt) and is about to be ended as expired"
        case .notBefore: return "It waits for its job's time to start, \(at(facts.dueAt))"
        case .retryBackoff: return retry(facts)
        case .deviceSilent:
            return "It waits for \(device), \(lastHeard(facts.device)), to say how attempt "
                + "\(facts.attempt) ended"
        case .everythingPaused: return paused("everything", hold(cause, facts))
        case .organizationPaused: return paused("its organization", hold(cause, facts))
        case .kindPaused:
            let hold = hold(cause, facts)
            let part = hold?.scope.priority.map { " of priority \($0.name)" } ?? ""
            return paused("work of kind \(facts.kind.rawValue)\(part)", hold)
        case .priorityPaused: return paused("work of priority \(facts.priority.name)", hold(cause, facts))
        case .jobPaused: return "It waits because its job is paused"
        case .waveNotReleased:
            return "It waits for its wave \(facts.wave) of the rollout, which is released up to wave "
                + "\(facts.releasedWave)"
        case .beingDispatched: return "A worker is taking it to \(device)"
        case .deviceOffline:
            return "It waits for \(device), which is offline: \(lastHeard(facts.device))"
        case .deviceReturned: return "It is about to be queued: \(device) is connected again"
        case .laneBusy: return laneBusy(facts, on: device)
        case .organizationCap:
            return "It waits for room under its organization's cap: \(load(facts.cap)) are on devices"
        case .jobCap: return full("its job's cap", .job, facts)
        case .siteCap: return full("its site's cap", .site, facts)
        case .kindCap: return full("the cap of kind \(facts.kind.rawValue)", .kind, facts)
        case .deviceCap: return full("the cap of \(device)", .device, facts)
        case .deviceLaneCap: return full("the cap of its lane of \(device)", .deviceLane, facts)
        case .rateLimit:
            return "It waits for its organization's rate limit, which lets a run start "
                + at(facts.rateLimitedUntil)
        case .setBack: return "A worker gave it back, and it waits a moment to be claimed again"
        case .notStarted:
            return "It was sent to \(device) \(at(facts.sentAt)), which has not said yet that it started"
        case .turn: return turn(facts)
        }
    }

    private static func at(_ instant: Instant?) -> String { instant.map { "at \($0)" } ?? "some time ago" }

    private static func lastHeard(_ device: RunFacts.Device) -> String {
        device.lastSeenAt.map { "last heard at \($0)" } ?? "never heard yet"
    }

    private static func load(_ load: RunFacts.Load?) -> String {
        guard let load else { return "all that may" }
        return load.limit.map { "\(load.count) of \($0)" } ?? "\(load.count)"
    }

    private static func ended(_ state: RunState, _ ending: RunFacts.Ending?) -> String {
        var text = "It \(state.past)"
        if let at = ending?.at { text += " at \(at)" }
        if let attempt = ending?.attempt, attempt > 1 { text += " in attempt \(attempt)" }
        let details = [ending?.exitCode.map { "exit code \($0)" }, ending?.reason].compactMap(\.self)
        return details.isEmpty ? text : text + " (\(details.joined(separator: ", ")))"
    }

    private static func running(_ facts: RunFacts, on device: String) -> String {
        var text = "It has been running on \(device)"
        if let startedAt = facts.startedAt {
            let end = startedAt + .seconds(facts.timeoutSeconds)
            text += " since \(startedAt) and may until \(end)"
        }
        if let asked = facts.cancelRequestedAt { text += "; it was asked to stop at \(asked)" }
        if facts.device.isOnline == false {
            text += "; the device is offline now, \(lastHeard(facts.device))"
        }
        return text
    }

    private static func retry(_ facts: RunFacts) -> String {
        var text = "It waits for attempt \(facts.attempt + 1) of \(facts.maximumAttempts), \(at(facts.dueAt))"
        guard let last = facts.lastAttempt else { return text }
        text += ": attempt \(last.attempt) \(last.outcome.state.past)"
        let details = [last.exitCode.map { "exit code \($0)" }, last.reason].compactMap(\.self)
        return details.isEmpty ? text : text + " (\(details.joined(separator: ", ")))"
    }

    private static func paused(_ what: String, _ hold: RunFacts.Hold?) -> String {
        var text = "It waits because \(what) is paused"
        guard let hold else { return text }
        text += " since \(hold.since)"
        if hold.isByPlatform { text += " by the platform" }
        return hold.reason.map { "\(text): \($0)" } ?? text
    }

    private static func laneBusy(_ facts: RunFacts, on device: String) -> String {
        let text = "It waits for \(device), which is busy"
        guard let holder = facts.laneHolders.first else {
            return "\(text): \(load(facts.laneLoad)) runs of its lane are under way"
        }
        let others = facts.laneHolders.count - 1
        let more = others == 0 ? "" : " and \(others) more"
        return holder.startedAt.map { "\(text) with run \(holder.run)\(more) since \($0)" }
            ?? "\(text) with run \(holder.run)\(more)"
    }

    private static func full(
        _ what: String, _ scope: RunFacts.Limit.Scope, _ facts: RunFacts
    ) -> String {
        let found = facts.fullLimits.first { $0.scope == scope }?.load
        return "It waits for room under \(what): \(load(found)) are under way"
    }

    private static func turn(_ facts: RunFacts) -> String {
        let queue = "its organization's \(facts.priority.name) queue"
        guard let ahead = facts.ahead else { return "It waits for its turn in \(queue)" }
        guard ahead.isExact else {
            return "It waits for its turn in \(queue): more than \(ahead.runs) runs are in front of it"
        }
        guard ahead.runs > 0 else {
            return "It is next in \(queue) and is taken as soon as there is a free slot"
        }
        let runs = ahead.runs == 1 ? "1 run is" : "\(ahead.runs) runs are"
        let text = "It waits for its turn in \(queue): \(runs) in front of it"
        guard let start = ahead.start(from: facts.now), let rate = ahead.drainRate else {
            return "\(text), and none of the organization's ended in the last minute to tell a time by"
        }
        let minute = max(1, Int((rate * 60).rounded()))
        return "\(text), and at \(minute) a minute it starts at about \(start)"
    }
}

extension RunState {
    /// What a run that has ended did: `It failed`.
    fileprivate var past: String {
        switch self {
        case .succeeded: "succeeded"
        case .failed: "failed"
        case .timedOut: "ran longer than it might and was stopped"
        case .cancelled: "was cancelled"
        case .expired: "expired before it was sent"
        case .unknown: "ended in a way that its device did not tell"
        case .scheduled, .queued, .waiting, .dispatched, .running: "has not ended"
        }
    }
}
