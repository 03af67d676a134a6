import Domain
import Faults
package import Ledger
package import Logging
import Streams
import Synchronization

/// Brings the work of marked queues from PostgreSQL to the queue, a bounded window at a time.
///
/// The mark is a version: it is cleared only if nothing changed since it was read and nothing more was there.
/// So work that was committed at any moment is found, whatever happened to the fast path.
package final class Refiller: Sendable {
    let ledger: Ledger
    let front: QueueFront
    private let contents: QueueContents
    private let logger: Logger
    let now: @Sendable () -> ContinuousClock.Instant
    private let limits = Mutex<(read: ContinuousClock.Instant, [OrganizationID: RunLimits])?>(nil)
    private let courses = Mutex<[OrganizationQueue: Course]>([:])
    private let places = Mutex<[OrganizationQueue: Place]>([:])

    /// Where this worker is in a queue's backlog.
    ///
    /// Rows that left `queued` leave dead entries at the head of its index, and while a snapshot is held
    /// somewhere each look walks them. So a pass begins at the low water: the first run that the last look
    /// from the very start found, moved on by later ones. Runs come below it (an old run is queued again, a
    /// commit is late), and nothing says so; therefore it is believed for a short time only, then a look
    /// from the start finds them, and only that look may clear the mark. The time is as long as such looks
    /// are slow: a queue without dead rows is not to stay marked.
    private struct Place {
        /// Nothing before this was queued at the last look from the start.
        var low = RunID(.zero)
        /// When that look was, and for how long it is believed.
        let looked: ContinuousClock.Instant
        var life = Refiller.lowWaterLife
        /// Where a pass that has begun goes on, instead of reading again what the queue holds already.
        var passed: RunID?
        var steps = 0

        var after: RunID { passed ?? low.predecessor }
        var isFromStart: Bool { passed == nil && low == RunID(.zero) }

        /// Moves on by a step that found these runs, of which so many are in the queue. Every so many steps,
        /// and after the last row, the next pass begins.
        mutating func move(by runs: [QueuedRun], passed count: Int) {
            if passed == nil, let first = runs.first { low = first.run }
            if steps < 15, count > 0, count < runs.count || runs.count == Refiller.limit {
                passed = runs[count - 1].run
                steps += 1
            } else {
                beginPass()
            }
        }

        mutating func beginPass() { (passed, steps) = (nil, 0) }
    }

    /// A refiller on the worker's login, of runs unless other contents are given. `now` is the clock by which
    /// low waters age.
    package init(
        ledger: Ledger, front: QueueFront, contents: QueueContents? = nil, logger: Logger,
        now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }
    ) {
        self.ledger = ledger
        self.front = front
        self.contents = contents ?? .runs(ledger)
        self.logger = logger
        self.now = now
    }

    /// Refills until the task is cancelled.
    package func run() async {
        // Woken by what leaves room or marks a queue in this process; other processes' marks are found late.
        await front.forEachPart { part in
            await repeating(
                every: .zero, idle: .milliseconds(100), wokenBy: part.refill, self.logger, "refill"
            ) {
                try await self.refillOnce(part) > 0
            }
        }
    }

    /// Refills the queues that have waited longest, some of each partition; returns how many entries were
    /// new.
    package func refillOnce() async throws -> Int {
        try await inEach(front.parts) { try await self.refillOnce($0) }.reduce(0, +)
    }

    private func refillOnce(_ part: QueuePart) async throws -> Int {
        let epoch = try await part.epoch()
        let marked: [Marked]
        do {
            marked = try await part.queue.marked(limit: 64, epoch: epoch)
        } catch QueueError.staleEpoch {
            part.forgetEpoch()
            return 0
        }
        let limits = try await currentLimits()
        let roomy = marked.filter { $0.room > 0 }
        // After the marks: whoever resumes commits, then marks, so that a version which is read with the old
        // pauses is not the last one.
        let holds = try await currentHolds(of: roomy)
        var admitted = 0
        var open: [Marked] = []
        for marked in roomy {
            let holds = holds[marked.queue.organization]
            if let limits = limits[marked.queue.organization] {
                admitted += try await bring(marked, limits, holds, epoch: epoch)
            } else if let holds {
                admitted += try await pass(marked, holds, epoch: epoch)
            } else {
                open.append(marked)
            }
        }
        guard !open.isEmpty else { return admitted }
        let began = now()
        let places = places(of: open, at: began)
        let queued = try await contents.queued(
            zip(open, places).map { ($0.queue, after: $1.after) }, Self.limit)
        let life = min(Self.lowWaterLife, max(Self.lowWaterLifeMin, (now() - began) * 20))
        let steps = zip(open, places).map { marked, place in
            var step = Step(marked: marked, place: place, runs: queued[marked.queue] ?? [])
            if place.isFromStart { step.place.life = life }
            return step
        }
        for steps in Self.together(steps) {
            admitted += try await inEach(steps, all: true) { step in
                try await self.take(step, in: part, epoch: epoch)
            }.reduce(0, +)
        }
        return admitted
    }

    /// What was read for a marked queue, and where its place was.
    private struct Step: Sendable {
        let marked: Marked
        var place: Place
        let runs: [QueuedRun]
    }

    /// In which parts steps are sent together: thousands of queues with a run or two do not wait for each
    /// other's answers, and a claim that is sent meanwhile not for more than a call's entries.
    private static func together(_ steps: [Step]) -> [[Step]] {
        var parts: [[Step]] = []
        var entries = 0
        for step in steps {
            entries += step.runs.count
            if parts.isEmpty || entries > Queue.runsPerCall || parts[parts.count - 1].count == 32 {
                parts.append([])
                entries = step.runs.count
            }
            parts[parts.count - 1].append(step)
        }
        return parts
    }

    /// Puts what was read into the queue; returns how many entries were new.
    private func take(_ step: Step, in part: QueuePart, epoch: Epoch) async throws -> Int {
        var place = step.place
        let isWhole = place.isFromStart && step.runs.count < Self.limit
        let refilled = try await part.queue.refill(
            step.marked.queue, version: step.marked.version, entries: step.runs.map(Entry.init),
            more: !isWhole, epoch: epoch)
        FaultPoint.reach(.refillerMidBatch)
        front.metrics.count(.refills, by: refilled.admitted)
        place.move(by: step.runs, passed: refilled.passed)
        if refilled.cleared { place.beginPass() }
        places.withLock { [place] in $0[step.marked.queue] = place }
        return refilled.admitted
    }

    /// The limits of all organizations, as they were half a second ago at the most.
    private func currentLimits() async throws -> [OrganizationID: RunLimits] {
        let now = now()
        if let known = limits.withLock(\.self), now - known.read < .milliseconds(500) { return known.1 }
        let read = try await contents.limits()
        limits.withLock { $0 = (now, read) }
        return read
    }

    /// What pauses of jobs and kinds hold back of these queues' organizations.
    private func currentHolds(of marked: [Marked]) async throws -> [OrganizationID: Holds] {
        guard !marked.isEmpty else { return [:] }
        return try await contents.holds(Array(Set(marked.map(\.queue.organization))))
    }

    /// The course of a queue, or a new one.
    func takeCourse(
        of queue: OrganizationQueue, at now: ContinuousClock.Instant, _ holds: Holds?
    ) -> Course {
        courses.withLock { courses in
            courses = courses.filter { !$0.value.isOver(at: now) }
            if let course = courses[queue], course.holds == holds { return course }
            return Course(began: now, holds: holds)
        }
    }

    /// Keeps a course.
    func put(_ course: Course, of queue: OrganizationQueue) { courses.withLock { $0[queue] = course } }

    /// Where the next steps begin; those whose last look from the start is too long ago begin there.
    private func places(of open: [Marked], at now: ContinuousClock.Instant) -> [Place] {
        places.withLock { places in
            places = places.filter { now - $0.value.looked < $0.value.life }
            return open.map { places[$0.queue] ?? Place(looked: now) }
        }
    }

    // How long a run that comes below the low water may wait for refill, and how often dead rows are walked:
    // for a twentieth of the time, between the pace of refill and the time by which stragglers are marked.
    static let lowWaterLife = Duration.seconds(2)
    static let lowWaterLifeMin = Duration.milliseconds(100)

    // A full window, and as many more as one step may find room for.
    static let limit = 384
}

extension RunID {
    /// The greatest id before this one; the least has none and stays.
    var predecessor: RunID {
        guard self != RunID(.zero) else { return self }
        return RunID(UniqueID(high: value.low == 0 ? value.high - 1 : value.high, low: value.low &- 1))
    }
}
