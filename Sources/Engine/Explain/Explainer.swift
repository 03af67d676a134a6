package import Domain
package import Ledger
package import Postgres
import Streams
import Trust
import Wire

/// Gathers the facts behind a run or a job and explains them, by a few bounded reads.
///
/// PostgreSQL is asked what must hold; Redis, what the queue does with it now. If Redis does not answer, what
/// PostgreSQL has is explained.
package struct Explainer: Sendable {
    let ledger: Ledger
    let front: QueueFront
    private let rates: QueueRates

    /// An explainer on the API's login, which knows the queue by its rates.
    package init(ledger: Ledger, rates: QueueRates) {
        self.ledger = ledger
        self.front = rates.front
        self.rates = rates
    }

    /// How many open runs of a job are explained one by one.
    package static let runsMax = 10_000

    // MARK: A run

    /// A run's facts; `nil` if the scope does not see it.
    package func facts(of id: RunID, scope: Scope) async throws -> RunFacts? {
        // It may end, or be redispatched, between two looks; the second one of an ended run finds it so.
        for _ in 0..<2 {
            guard let row = try await ledger.run(id, scope: scope) else { return nil }
            guard row.state.isOutcome else {
                if let facts = try await ledger.facts(of: id, organization: row.organization) {
                    return try await completed(facts)
                }
                continue
            }
            return try await ended(row)
        }
        throw EngineError(.conflict, "the run is ending just now: ask again")
    }

    private func ended(_ row: RunRow) async throws -> RunFacts? {
        guard let job = try await ledger.job(row.job, scope: .organization(row.organization)),
            let device = try await ledger.device(row.device, scope: .organization(row.organization))
        else { return nil }
        var facts = RunFacts(
            now: .now(), run: row.id, job: row.job, organization: row.organization, kind: job.kind,
            priority: job.priority, state: row.state, attempt: row.attempt,
            maximumAttempts: job.retry.maximumAttempts, queuedAt: job.createdAt, expiresAt: job.expiresAt,
            timeoutSeconds: job.timeoutSeconds,
            device: RunFacts.Device(
                id: row.device, hostname: device.hostname, lastSeenAt: device.lastSeenAt))
        facts.startedAt = row.startedAt
        facts.ending = Outcome(rawValue: row.state.rawValue).map {
            RunFacts.Ending(
                attempt: row.attempt, outcome: $0, exitCode: row.exitCode, reason: row.reason,
                at: row.finishedAt)
        }
        return facts
    }

    /// An open run's facts with all that is known of one run alone.
    private func completed(_ facts: RunFacts) async throws -> RunFacts {
        var facts = try await queued([facts], of: facts.organization)[0]
        let organization = facts.organization
        switch facts.state {
        case .queued:
            var ahead = try await ledger.runsAhead(
                of: facts.run, in: OrganizationQueue(organization, facts.priority))
            ahead.drainRate = await known {
                try await rates.rates(of: [organization])[organization]?.drainRate
            }
            facts.ahead = ahead
            facts.laneHolders = try await holders(of: facts)
        case .dispatched: facts.laneHolders = try await holders(of: facts)
        case .scheduled:
            if facts.attempt > 0 {
                facts.lastAttempt = try await ledger.lastRetried(of: facts.run, organization: organization)
            }
        case .waiting, .running, .succeeded, .failed, .timedOut, .cancelled, .expired, .unknown: break
        }
        return facts
    }

    private func holders(of facts: RunFacts) async throws -> [RunFacts.Holder] {
        try await ledger.laneHolders(
            of: facts.device.id, lane: facts.lane, beside: facts.run, organization: facts.organization)
    }

    // MARK: A job

    /// What a job's open runs wait for; `nil` if the scope does not see it.
    package func explain(_ id: JobID, scope: Scope) async throws -> (JobRow, JobExplanation)? {
        guard let job = try await ledger.job(id, scope: scope) else { return nil }
        var runs: [RunFacts] = []
        if !job.state.isEnd {
            runs = try await ledger.facts(ofRunsOf: id, limit: Self.runsMax + 1, scope: scope)
        }
        let isWhole = runs.count <= Self.runsMax
        runs = try await queued(Array(runs.prefix(Self.runsMax)), of: job.organization)
        let explanation = JobExplanation(
            state: job.state, isExpanded: job.total != nil, runs: runs.map { ($0.run, RunExplanation($0)) },
            isWhole: isWhole, ended: job.counts.filter(\.key.isOutcome), finishedAt: job.finishedAt)
        return (job, explanation)
    }

    // MARK: What the queue does

    /// Open runs of an organization with what holds them back and where the queue has them.
    private func queued(_ runs: [RunFacts], of organization: OrganizationID) async throws -> [RunFacts] {
        guard !runs.isEmpty else { return [] }
        let pauses = try await ledger.controls(
            covering: organization, scope: .organization(organization)
        ).filter { $0.mode == .pause }.map {
            RunFacts.Hold(
                scope: $0.scope, since: $0.since, reason: $0.reason, isByPlatform: $0.isByPlatform)
        }
        var runs = runs
        for at in runs.indices { runs[at].pauses = pauses }
        let queue = front.part(of: organization).queue
        if let depth = await known({ try await queue.depths(of: [organization]).first }) {
            let load = RunFacts.Load(depth.running + depth.leased, of: depth.cap)
            for at in runs.indices { runs[at].cap = load }
        }
        for start in stride(from: 0, to: runs.count, by: Self.sliceMax) {
            let slice = start..<min(start + Self.sliceMax, runs.count)
            let some = runs[slice]
            guard
                let (places, loads, present) = await known({
                    try await (
                        queue.places(of: some.map(\.run), organization: organization),
                        queue.laneLoads(of: some.map { ($0.device.id, $0.lane) }),
                        front.arePresent(some.map { (organization, $0.device.id) })
                    )
                })
            else { break }
            for (offset, at) in slice.enumerated() {
                runs[at].spot = RunFacts.Spot(places[offset])
                runs[at].laneLoad = RunFacts.Load(loads[offset], of: Limits.runsPerDevice)
                // Of a new data set a missing presence says nothing yet.
                runs[at].device.isOnline =
                    present[offset] ? true : front.isSettling(organization) ? nil : false
            }
        }
        return try await limited(runs, of: organization)
    }

    /// What Redis says, or nothing if it does not answer.
    func known<Value: Sendable>(_ ask: () async throws -> Value?) async -> Value? {
        // Why it does not is in the log of whoever needs it.
        try? await ask()
    }

    static let sliceMax = 500
}

extension RunFacts.Spot {
    /// Where the queue has a run.
    fileprivate init(_ place: RunPlace) {
        switch place {
        case .absent: self = .absent
        case .ready: self = .ready
        case .leased: self = .leased
        case .delayed: self = .delayed
        case .setAside: self = .setAside
        case .dispatched: self = .dispatched
        }
    }
}
