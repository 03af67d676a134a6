import Domain

@testable import Streams

/// Where a worker is in the backlog of a queue under limits or pauses of jobs and kinds (`Course`).
struct Course {
    var frontier = RunID(.zero)
    var blocked: [RunLane: RunID] = [:]
    var hasEnded = false
    var isSparse = false
    let began: Int
    let holds: Set<Control>

    func isOver(at now: Int) -> Bool { hasEnded && now - began >= 2_000_000 }

    mutating func note(_ runs: [Records.Row], _ scopes: [LimitScope?]) {
        for (run, scope) in zip(runs, scopes) {
            guard let scope, let lane = run.lanes.first(where: { $0.scope == scope }) else { continue }
            blocked[lane] = min(blocked[lane] ?? run.run.predecessor, run.run.predecessor)
        }
    }
}

/// A bucket of tokens as the rule has it: it is never let in more than `burst` and what came since.
struct Bucket {
    private var level: Double
    private var at: Int
    let rate: RunRate

    /// A bucket that has been full for a while.
    init(_ rate: RunRate, at: Int) { (self.rate, self.at, level) = (rate, at, Double(rate.burst) + 1) }

    // The library's clock has milliseconds: what differs by no more may be there or not.
    private static let blur = 0.02

    /// Whole tokens at a time.
    mutating func tokens(at now: Int) -> Int {
        pour(at: now)
        return Int((level + Self.blur).rounded(.down))
    }

    /// Those of them that are there for certain.
    mutating func certainTokens(at now: Int) -> Int {
        let raised = pour(at: now)
        let isFull = raised >= Double(rate.burst) + Self.blur
        return isFull ? rate.burst : max(0, Int((level - Self.blur).rounded(.down)))
    }

    /// Fills it up to now; returns what there were if it had no end.
    @discardableResult private mutating func pour(at now: Int) -> Double {
        let raised = level + Double(max(0, now - at)) / 1_000_000 * rate.perSecond
        (level, at) = (min(Double(rate.burst), raised), max(at, now))
        return raised
    }

    mutating func take(_ count: Int) { level -= Double(count) }
}

/// Refill under limits and pauses (`LimitedRefill`), and what tells the queue of limits.
extension World {
    static let refillLimit = 24

    func course(of queue: OrganizationQueue, _ worker: Worker, _ holds: Set<Control>) -> Course {
        worker.courses = worker.courses.filter { !$0.value.isOver(at: now) }
        if let course = worker.courses[queue], course.holds == holds { return course }
        return Course(began: now, holds: holds)
    }

    /// Refills a queue whose organization has limits, by a bounded step.
    func bring(
        _ marked: Marked, _ limits: RunLimits, _ holds: Set<Control>, _ worker: Worker, _ epoch: Epoch
    ) async throws {
        var course = course(of: marked.queue, worker, holds)
        var isFull = false
        for (lane, after, places) in try await freeLanes(course, limits, marked.queue) where !isFull {
            let walk = try await commit("walk") {
                $0.walk(
                    marked.queue, after: after, besides: [], in: lane, rows: 120,
                    limit: min(Self.refillLimit, places + 1))
            }
            let brought = try await bring(walk.runs, marked, limits, more: true, epoch)
            if brought.admitted > 0 { reach(.placeReopens) }
            course.blocked[lane] = nil
            course.note(walk.runs, brought.blocked)
            if brought.blocked.count < walk.runs.count {
                isFull = true
                course.blocked[lane] = walk.runs[brought.blocked.count].run.predecessor
            } else if course.blocked[lane] == nil, !walk.isEnd {
                course.blocked[lane] = walk.last
            }
        }
        if !isFull {
            let besides = Array(course.blocked.keys)
            let walk = try await commit("walk") { [course] in
                $0.walk(
                    marked.queue, after: course.frontier, besides: besides, rows: 120,
                    limit: Self.refillLimit)
            }
            let brought = try await bring(walk.runs, marked, limits, more: !walk.isEnd, epoch)
            course.note(walk.runs, brought.blocked)
            if brought.blocked.count == walk.runs.count {
                course.frontier = walk.last ?? course.frontier
                course.hasEnded = walk.isEnd
            } else if let passed = walk.runs.prefix(brought.blocked.count).last {
                course.frontier = passed.run
            }
        }
        worker.courses[marked.queue] = course
    }

    /// Refills a queue of which jobs or kinds are paused, by a bounded step past their runs.
    func pass(_ marked: Marked, _ holds: Set<Control>, _ worker: Worker, _ epoch: Epoch) async throws {
        var course = course(of: marked.queue, worker, holds)
        let walk = try await commit("walk") { [course] in
            $0.walk(
                marked.queue, after: course.frontier, besides: [],
                rows: course.isSparse ? 120 : Self.refillLimit, limit: Self.refillLimit)
        }
        if records.queued(marked.queue).contains(where: records.isHeld) { reach(.heldPassedBy) }
        course.isSparse = walk.runs.count < Self.refillLimit / 4
        let refilled = try await refill(marked, walk.runs, more: !walk.isEnd, epoch)
        if refilled.passed >= walk.runs.count {
            course.frontier = walk.last ?? course.frontier
            course.hasEnded = walk.isEnd
        } else if let passed = walk.runs.prefix(refilled.passed).last {
            course.frontier = passed.run
        }
        worker.courses[marked.queue] = course
    }

    private func freeLanes(
        _ course: Course, _ limits: RunLimits, _ queue: OrganizationQueue
    ) async throws -> [(lane: RunLane, after: RunID, places: Int)] {
        let lanes = course.blocked.sorted { ($0.value, $0.key.name) < ($1.value, $1.key.name) }
        guard !lanes.isEmpty else { return [] }
        let taken = try await call("taken") {
            try await self.queue.taken(lanes.map(\.key), organization: queue.organization)
        }
        return zip(lanes, taken).compactMap { lane, taken in
            let places = (limits.limit(of: lane.key) ?? .max) - taken
            return places > 0 ? (lane.key, lane.value, min(places, Self.refillLimit)) : nil
        }
    }

    private func bring(
        _ rows: [Records.Row], _ marked: Marked, _ limits: RunLimits, more: Bool, _ epoch: Epoch
    ) async throws -> Brought {
        try await call("bring") {
            let entries = rows.map { row in
                LimitedEntry(
                    entry: Entry(row), lanes: row.lanes, limits: row.lanes.map { limits.limit(of: $0) })
            }
            let brought = try await self.watchingReplacements(by: entries.map(\.entry)) {
                try await self.queue.bring(
                    marked.queue, version: marked.version, entries: entries, more: more, rate: limits.rate,
                    epoch: epoch)
            }
            self.checkCleared(brought.cleared, marked)
            for scope in brought.blocked { if let scope { self.reach(Self.full(scope)) } }
            self.judgeRate(brought, of: rows.count, limits.rate, marked.queue.organization)
            return brought
        }
    }

    private static func full(_ scope: LimitScope) -> Interleaving {
        switch scope {
        case .job: .jobFull
        case .site: .siteFull
        case .kind: .kindFull
        case .device: .deviceFull
        case .lane: .deviceLaneFull
        }
    }

    /// No more runs are let in than the rate has tokens.
    private func judgeRate(
        _ brought: Brought, of count: Int, _ rate: RunRate?, _ organization: OrganizationID
    ) {
        guard let rate else { return rates[organization] = nil }
        var bucket = rates[organization] ?? Bucket(rate, at: redisNow)
        if bucket.rate != rate { bucket = Bucket(rate, at: redisNow) }
        let tokens = bucket.tokens(at: redisNow)
        if brought.admitted > tokens { fail("a rate let \(brought.admitted) runs in with \(tokens) tokens") }
        bucket.take(brought.admitted)
        if brought.blocked.count < count, bucket.tokens(at: redisNow) < 1 { reach(.rateEmpty) }
        rates[organization] = bucket
    }

    /// Tells the queue which organizations have limits, and gives runs their places that came without
    /// (`Reconciler.checkLimits`).
    func checkLimits(_ worker: Worker) async throws {
        let limited = try await commit("runLimits") { Set($0.runLimits.keys) }
        let epoch = try await epoch(of: worker)
        let known = try await call("limited") { try await self.queue.limited() }
        for organization in limited.sorted() {
            if !known.contains(organization) {
                try await call("limit") {
                    try await self.queue.limit(organization: organization, isLimited: true, epoch: epoch)
                }
            }
            guard !worker.labelled.contains(organization) else { continue }
            let waiting = try await call("waiting") {
                try await self.queue.waiting(organization: organization)
            }
            try await label(waiting, of: organization, epoch)
            worker.labelled.insert(organization)
        }
        for organization in known.subtracting(limited).sorted() {
            try await call("limit") {
                try await self.queue.limit(organization: organization, isLimited: false, epoch: epoch)
            }
            try await offer([], and: OrganizationQueue.all(of: organization), by: worker)
        }
        worker.labelled.formIntersection(limited)
    }

    private func label(_ runs: [RunID], of organization: OrganizationID, _ epoch: Epoch) async throws {
        let labelled = try await commit("lanes") { $0.labelled(runs, andRunningOf: organization) }
        guard !labelled.isEmpty else { return }
        if !runs.isEmpty { reach(.placesGiven) }
        try await call("label") {
            try await self.queue.label(labelled, organization: organization, epoch: epoch)
        }
    }

    func labelMissing(_ missing: [Membership], _ epoch: Epoch) async throws {
        let limited = try await call("limited") { try await self.queue.limited() }
        for organization in limited.sorted() {
            let runs = missing.filter { $0.run.organization == organization }.map(\.run.run)
            if !runs.isEmpty { try await label(runs, of: organization, epoch) }
        }
    }

    /// In a world without faults the ledger itself keeps finer limits.
    func checkLanes() {
        for organization in organizations {
            guard let highest = highestLimits[organization] else { continue }
            for (lane, count) in records.onDevices(of: organization) {
                let limit = highest[lane.scope] ?? .max
                if count > limit { fail("\(count) runs of \(lane.name), whose limit is \(limit)") }
            }
        }
    }
}

extension Records {
    /// The places of an organization's runs: of those that are named and open, and of all on devices.
    func labelled(_ runs: [RunID], andRunningOf organization: OrganizationID) -> [LabelledRun] {
        let named = Set(runs)
        return rows.filter {
            $0.organization == organization && (named.contains($0.run) || Self.isOnDevice($0))
        }.map { LabelledRun(run: $0.run, lanes: $0.lanes) }
    }
}
