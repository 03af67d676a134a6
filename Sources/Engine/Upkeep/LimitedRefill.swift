import Domain
import Ledger
import Streams

/// Where a worker is in the backlog of a queue whose organization has limits, or pauses of jobs or kinds.
///
/// Behind the frontier each run is in the queue, or is passed by for a lane that was full; of each such lane
/// the course knows after which run to look when a place becomes free. So nobody waits behind a lane that is
/// full, and a backlog that is blocked as a whole is walked once, not again for each place. Runs come below
/// the frontier too (an old run is queued again), so a course is believed for a time
/// only: two seconds, or twenty times what it took to walk; and not once the pauses are others.
struct Course {
    /// Up to where all runs were looked at.
    var frontier = RunID(.zero)
    /// The lanes that were full, and after which run there are others of theirs.
    var blocked: [RunLane: RunID] = [:]
    /// Whether there were more such lanes than are kept, so that only a new course finds their runs.
    var isPartial = false
    /// Whether it has come to the end of the queue.
    var hasEnded = false
    let began: ContinuousClock.Instant
    /// The pauses by which runs were passed by.
    let holds: Holds?
    var took = Duration.zero
    /// Whether most of what the last step walked was passed by, so that longer steps are worth it: each row
    /// of a step is looked at, however many of them are taken.
    var isSparse = false

    init(began: ContinuousClock.Instant, holds: Holds?) { (self.began, self.holds) = (began, holds) }

    /// Whether what lies behind the frontier is to be looked at anew.
    func isOver(at now: ContinuousClock.Instant) -> Bool {
        hasEnded && (isPartial || now - began >= max(Refiller.lowWaterLife, took * 20))
    }

    /// Notes what became of these runs; those behind them found no room.
    mutating func note(_ runs: [LanedRun], _ scopes: [LimitScope?]) {
        for (run, scope) in zip(runs, scopes) {
            guard let scope, let lane = run.lanes.first(where: { $0.scope == scope }) else { continue }
            let after = run.run.run.predecessor
            if let known = blocked[lane] {
                blocked[lane] = min(known, after)
            } else if blocked.count < Self.lanesMax {
                blocked[lane] = after
            } else {
                isPartial = true
            }
        }
    }

    static let lanesMax = 1_000
}

extension Refiller {
    /// Refills a queue whose organization has limits, by a bounded step; returns how many entries were new.
    func bring(_ marked: Marked, _ limits: RunLimits, _ holds: Holds?, epoch: Epoch) async throws -> Int {
        let began = now()
        var course = takeCourse(of: marked.queue, at: began, holds)
        var admitted = 0
        var isFull = false
        for (lane, after, places) in try await freeLanes(course, limits, marked.queue) where !isFull {
            // One more than there are places: it is passed by, so the queue is marked at the next free place.
            let count = min(Self.laneMax, places + 1)
            let walk = try await ledger.walk(
                marked.queue, after: after, besides: [], in: lane, limit: count)
            let brought = try await bring(walk.runs, marked, limits, more: true, epoch)
            admitted += brought.admitted
            course.blocked[lane] = nil
            course.note(walk.runs, brought.blocked)
            if brought.blocked.count < walk.runs.count {
                isFull = true
                course.blocked[lane] = walk.runs[brought.blocked.count].run.run.predecessor
            } else if course.blocked[lane] == nil, !walk.isEnd {
                course.blocked[lane] = walk.last
            }
        }
        if !isFull {
            let walk = try await ledger.walk(
                marked.queue, after: course.frontier, besides: Array(course.blocked.keys), limit: Self.limit)
            let brought = try await bring(walk.runs, marked, limits, more: !walk.isEnd, epoch)
            admitted += brought.admitted
            course.note(walk.runs, brought.blocked)
            if brought.blocked.count == walk.runs.count {
                course.frontier = walk.last ?? course.frontier
                course.hasEnded = walk.isEnd
            } else if let passed = walk.runs.prefix(brought.blocked.count).last {
                course.frontier = passed.run.run
            }
        }
        course.took += now() - began
        put(course, of: marked.queue)
        return admitted
    }

    /// Refills a queue of which jobs or kinds are paused, by a bounded step past their runs; returns how many
    /// entries were new.
    func pass(_ marked: Marked, _ holds: Holds, epoch: Epoch) async throws -> Int {
        let began = now()
        var course = takeCourse(of: marked.queue, at: began, holds)
        let walk = try await ledger.walk(
            marked.queue, after: course.frontier, besides: [],
            rows: course.isSparse ? Self.rowsMax : Self.limit, limit: Self.limit)
        course.isSparse = walk.runs.count < Self.limit / 4
        let refilled = try await front.part(of: marked.queue.organization).queue.refill(
            marked.queue, version: marked.version, entries: walk.runs.map { Entry($0.run) },
            more: !walk.isEnd, epoch: epoch)
        front.metrics.count(.refills, by: refilled.admitted)
        if refilled.passed >= walk.runs.count {
            course.frontier = walk.last ?? course.frontier
            course.hasEnded = walk.isEnd
        } else if let passed = walk.runs.prefix(refilled.passed).last {
            course.frontier = passed.run.run
        }
        course.took += now() - began
        put(course, of: marked.queue)
        return refilled.admitted
    }

    /// The lanes of a course that have places again, and how many; some at a time.
    private func freeLanes(
        _ course: Course, _ limits: RunLimits, _ queue: OrganizationQueue
    ) async throws -> [(lane: RunLane, after: RunID, places: Int)] {
        let lanes = course.blocked.sorted { $0.value < $1.value }
        let taken = try await front.part(of: queue.organization).queue.taken(
            lanes.map(\.key), organization: queue.organization)
        let free = zip(lanes, taken).compactMap { lane, taken -> (RunLane, RunID, Int)? in
            let places = (limits.limit(of: lane.key) ?? .max) - taken
            return places > 0 ? (lane.key, lane.value, min(places, Self.laneMax)) : nil
        }
        return Array(free.prefix(16))
    }

    private func bring(
        _ runs: [LanedRun], _ marked: Marked, _ limits: RunLimits, more: Bool, _ epoch: Epoch
    ) async throws -> Brought {
        try await front.part(of: marked.queue.organization).queue.bring(
            marked.queue, version: marked.version,
            entries: runs.map { run in
                LimitedEntry(
                    entry: Entry(run.run), lanes: run.lanes, limits: run.lanes.map { limits.limit(of: $0) })
            }, more: more, rate: limits.rate.map { RunRate(perSecond: $0.perSecond, burst: $0.burst) },
            epoch: epoch)
    }

    private static let rowsMax = 2_000
    // As many as a window takes.
    private static let laneMax = 256
}
