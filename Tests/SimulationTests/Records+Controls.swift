import Domain
import Streams

/// What holds runs back, as PostgreSQL keeps it.
enum Control: Hashable {
    case queues(Pause)
    case job(JobID)
    case kind(OrganizationID?, String)
}

/// Limits of what may run now, one a scope, and the rate at which runs are let in (`RunLimits`).
struct RunLimits: Hashable {
    var running: [LimitScope: Int] = [:]
    var rate: RunRate?

    func limit(of lane: RunLane) -> Int? { running[lane.scope] }
}

/// A step along a queue, as `Ledger.walk` makes it.
struct Walk {
    let runs: [Records.Row]
    /// The last run that was looked at.
    let last: RunID?
    let isEnd: Bool
}

extension Records {
    /// Whether a pause covers all runs of a queue.
    func isPaused(_ queue: OrganizationQueue) -> Bool {
        guard !controls.isEmpty else { return false }
        return [nil, queue.organization].contains { organization in
            [nil, queue.priority].contains { priority in
                controls.contains(.queues(Pause(organization: organization, priority: priority)))
            }
        }
    }

    /// Whether a pause covers a run.
    func isPaused(_ row: Row) -> Bool {
        guard !controls.isEmpty else { return false }
        return isPaused(row.queue) || isHeld(row)
    }

    /// Whether the pause of its job or kind covers a run.
    func isHeld(_ row: Row) -> Bool {
        controls.contains(.job(row.job)) || controls.contains(.kind(row.organization, row.kind))
            || controls.contains(.kind(nil, row.kind))
    }

    var isEverythingPaused: Bool { controls.contains(.queues(Pause(organization: nil))) }

    /// The pauses of jobs and kinds that cover runs of an organization; empty if there is none.
    func holds(of organization: OrganizationID) -> Set<Control> {
        controls.filter { control in
            switch control {
            case .queues: false
            case .job(let job): jobs[job] == organization
            case .kind(let covered, _): covered == nil || covered == organization
            }
        }
    }

    /// Walks along a queue from behind a run, past what is paused and what is in one of these lanes.
    func walk(
        _ queue: OrganizationQueue, after: RunID, besides lanes: [RunLane], in only: RunLane? = nil,
        rows: Int, limit: Int
    ) -> Walk {
        let walked = queued(queue).lazy.filter { $0.run > after }.prefix(rows).map { $0 }
        let open = isPaused(queue) ? [] : walked.filter { !isHeld($0) }
        let runs = open.filter { row in
            let own = row.lanes
            return !own.contains(where: lanes.contains) && (only.map(own.contains) ?? true)
        }.prefix(limit)
        if runs.count == limit { return Walk(runs: Array(runs), last: runs.last?.run, isEnd: false) }
        return Walk(runs: Array(runs), last: walked.last?.run, isEnd: walked.count < rows)
    }

    /// How many runs of an organization are on devices, in each of their lanes.
    func onDevices(of organization: OrganizationID) -> [RunLane: Int] {
        var counts: [RunLane: Int] = [:]
        for row in open.values where row.organization == organization && Self.isOnDevice(row) {
            for lane in row.lanes { counts[lane, default: 0] += 1 }
        }
        return counts
    }

    // MARK: Suspects

    /// What became of the begin of a trial, as `Trial` of the ledger.
    enum Trial {
        case begun, stale
        case poisoned(Row)
    }

    static let loneCrashesMax = 3

    /// Notes that a run is taken alone, or ends it.
    mutating func beginTrial(_ run: RunID, generation: Int) -> Trial {
        guard let row = open[run], row.machine.state == .queued, row.machine.generation == generation else {
            return .stale
        }
        guard suspects[run, default: 0] >= Self.loneCrashesMax else {
            suspects[run, default: 0] += 1
            return .begun
        }
        change(run) { row in
            try row.machine.giveUp(generation: generation)
            row.isPoisoned = true
        }
        return end(run).map(Trial.poisoned) ?? .stale
    }

    mutating func endTrial(_ run: RunID) { suspects[run] = nil }
}
