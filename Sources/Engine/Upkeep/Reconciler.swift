import Domain
import Faults
package import Ledger
package import Logging
import Postgres
import Streams
import Synchronization
import Trust

/// Takes out of every state what its deadline has passed, and brings PostgreSQL and the queue in line.
///
/// Every worker runs one; locks are skipped, so they share the work. Each step is bounded and repeats while
/// it finds something.
package final class Reconciler: Sendable {
    let ledger: Ledger
    let front: QueueFront
    private let contents: QueueContents
    // Organizations whose runs have their places in the lanes of limits, as far as this worker knows.
    let labelled = Mutex<Set<OrganizationID>>([])
    let logger: Logger
    // In memory: a worker that knows nothing tries a job once and learns it, and nothing is lost by that.
    let setbacks = Mutex(Setbacks())
    // The organization of the job that was expanded last.
    private let turn = Mutex(OrganizationID(.zero))

    /// A reconciler on the worker's login. With other contents than runs only `sweepOnce`, `markStragglers`
    /// and `compareMembership` are for it.
    package init(ledger: Ledger, front: QueueFront, contents: QueueContents? = nil, logger: Logger) {
        self.ledger = ledger
        self.front = front
        self.contents = contents ?? .runs(ledger)
        self.logger = logger
    }

    /// Reconciles until the task is cancelled.
    package func run() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.fold() }
            group.addTask { await self.sweep() }
            group.addTask { await self.due() }
            group.addTask { await self.deadlines() }
            group.addTask { await self.cancels() }
            group.addTask { await self.expansion() }
            group.addTask { await self.stragglers() }
            group.addTask { await self.gateways() }
            group.addTask { await self.membership() }
            group.addTask { await self.waiting() }
            group.addTask {
                await repeating(every: .seconds(1), idle: .seconds(1), self.logger, "limits") {
                    try await self.checkLimits()
                }
            }
            group.addTask { await self.partitions() }
            group.addTask { await self.leftovers() }
            group.addTask { await self.usage() }
            group.addTask { await self.entitlements() }
        }
    }

    private func fold() async {
        // While a snapshot is held somewhere, each look walks all deltas that were folded since.
        await repeating(
            every: .milliseconds(25), idle: .milliseconds(50), timesTook: 10, logger, "fold"
        ) {
            try await self.ledger.foldDeltas(limit: Self.foldMax) == Self.foldMax
        }
    }

    private static let foldMax = 128

    private func sweep() async {
        await front.forEachPart { part in
            await repeating(every: .milliseconds(200), idle: .seconds(1), self.logger, "sweep") {
                try await self.sweepOnce(part)
            }
        }
    }

    private func due() async {
        // While a snapshot is held somewhere, each look walks all that was queued since.
        await repeating(every: .zero, idle: .milliseconds(50), timesTook: 10, logger, "due") {
            try await self.queueDue()
        }
    }

    private func deadlines() async {
        await repeating(every: .milliseconds(10), idle: .milliseconds(500), logger, "deadlines") {
            try await self.judgeDeadlines()
        }
    }

    private func cancels() async {
        await repeating(every: .seconds(3), idle: .seconds(3), logger, "cancels") {
            try await self.repeatCancels()
        }
    }

    private func expansion() async {
        await repeating(every: .milliseconds(5), idle: .milliseconds(50), logger, "expansion") {
            try await self.expandOnce()
        }
    }

    private func stragglers() async {
        await repeating(every: .seconds(2), idle: .seconds(2), logger, "stragglers") {
            try await self.markStragglers()
        }
    }

    private func gateways() async {
        await repeating(every: .seconds(1), idle: .seconds(1), logger, "gateways") {
            try await self.buryGateways()
        }
    }

    private func membership() async {
        await repeating(every: .seconds(30), idle: .seconds(30), logger, "membership") {
            try await self.compareMembership()
        }
    }

    private func waiting() async {
        var last = (OrganizationID(.zero), DeviceID(.zero))
        await repeating(every: .milliseconds(500), idle: .seconds(15), logger, "waiting") {
            last = try await self.wakePresent(after: last) ?? (OrganizationID(.zero), DeviceID(.zero))
            return last.0 != OrganizationID(.zero)
        }
    }

    private func partitions() async {
        await repeating(every: .seconds(3_600), idle: .seconds(3_600), logger, "partitions") {
            try await self.ledger.extendPartitions()
            try await self.ledger.forgetSuspects()
            return false
        }
    }

    private func entitlements() async {
        await repeating(every: .seconds(3), idle: .seconds(3), logger, "entitlements") {
            try await self.compareEntitlements()
        }
    }

    /// Brings weights, caps and pauses to the queue that whoever set them did not bring there.
    package func compareEntitlements() async throws -> Bool {
        let corrected = try await EntitlementSync(ledger: ledger, front: front).compare()
        front.metrics.count(.entitlementCorrections, by: corrected)
        if corrected > 0 {
            logger.notice("entitlements corrected", metadata: ["organizations": "\(corrected)"])
        }
        return false
    }

    /// Returns lapsed leases to their queues and sweeps the partition.
    package func sweepOnce() async throws -> Bool {
        try await inEach(front.parts) { try await self.sweepOnce($0) }.contains(true)
    }

    private func sweepOnce(_ part: QueuePart) async throws -> Bool {
        let epoch = try await part.epoch()
        do {
            let ended = try await endLapsed(in: part, epoch: epoch)
            let report = try await part.queue.sweep(epoch: epoch)
            front.metrics.count(.counterCorrections, by: report.corrected)
            return ended > 0 || report.moved > 0
        } catch QueueError.staleEpoch {
            part.forgetEpoch()
            return false
        }
    }

    /// Ends leases that have lapsed; returns how many.
    private func endLapsed(in part: QueuePart, epoch: Epoch) async throws -> Int {
        let (kept, left) = try await keepDispatched(in: part, epoch: epoch)
        // No more than were looked at: those that lapsed meanwhile come behind them.
        let reclaimed = left > 0 ? try await part.queue.reclaim(now: left, epoch: epoch) : []
        front.metrics.count(.leasesLapsed, by: reclaimed.count)
        return kept + reclaimed.count
    }

    private static let lapsedMax = 128

    /// Claims whose owner died after their mark was committed are on their devices: they go on counting, or
    /// their slots would be given to others beyond a cap. If they are not on their devices they are suspects
    /// when they are queued again. Returns how many there were, and how many other lapsed claims.
    private func keepDispatched(
        in part: QueuePart, epoch: Epoch
    ) async throws -> (kept: Int, left: Int) {
        let lapsed = try await part.queue.lapsed(limit: Self.lapsedMax, epoch: epoch)
        guard !lapsed.isEmpty else { return (0, 0) }
        let running = try await contents.areRunning(lapsed.map { ($0.organization, $0.run) })
        let dispatched = lapsed.filter { running[$0.run] == $0.generation }
        guard !dispatched.isEmpty else { return (0, lapsed.count) }
        try await contents.suspect(dispatched.map { ($0.organization, $0.run, $0.generation) })
        let deadline = Instant.now() + .seconds(3_600)
        try await part.queue.acknowledge(
            dispatched: dispatched, dropped: [],
            deadlineMilliseconds: Int(deadline.microseconds / 1_000), epoch: epoch)
        return (dispatched.count, lapsed.count - dispatched.count)
    }

    /// Queues the scheduled runs whose time has come. Returns whether any was due: more may be.
    package func queueDue() async throws -> Bool {
        let runs = try await ledger.queueDue(limit: Self.dueMax)
        await front.offer([], and: runs.map(\.queue))
        return !runs.isEmpty
    }

    private static let dueMax = 2_000

    /// Runs whose time has passed, marks that reached no gateway, and cancels that have not reached their
    /// rows.
    package func judgeDeadlines() async throws -> Bool {
        // Of a mark that has lapsed the lease has, too, and is what tells that its owner died: afterwards
        // nobody could say so. A partition that does not answer holds up nothing.
        _ = try? await inEach(front.parts) { part in
            let epoch = try await part.epoch()
            while try await self.endLapsed(in: part, epoch: epoch) == Self.lapsedMax {}
        }
        let undelivered = try await ledger.undeliver(limit: 500)
        let awaited = try await ledger.awaitWord(limit: 500)
        let lapsed = try await ledger.lapse(limit: 500)
        let ended = try await ledger.expire(limit: 500)
        if !ended.isEmpty || !undelivered.isEmpty { FaultPoint.reach(.reconcilerMidDeadlines) }
        await front.settled(lapsed)
        await front.ended(ended)
        await front.returned(undelivered)
        front.metrics.count(.undelivered, by: undelivered.count)
        let (cancelled, sent) = try await ledger.cancelRuns(of: nil, organization: nil, scope: .platform)
        await front.ended(cancelled)
        await front.tellCancelled(sent)
        return awaited > 0 || !lapsed.isEmpty || !ended.isEmpty || !undelivered.isEmpty || !cancelled.isEmpty
            || !sent.isEmpty
    }

    /// Tells gateways again what is to be stopped: a letter may have been lost with its gateway, its data set
    /// or a full inbox, and a session that lives on says no hello.
    package func repeatCancels() async throws -> Bool {
        var last: (OrganizationID, RunID)?
        repeat {
            let page = try await ledger.cancelsUnheard(after: last, limit: 500)
            await front.tellCancelled(page)
            last = page.count < 500 ? nil : page.last.map { ($0.organization, $0.run) }
        } while last != nil
        return false
    }

    /// Expands the oldest free job of the organization whose turn it is by a chunk, so that nobody waits for
    /// all that another has; then one whose time to be tried again has come. Returns whether any came
    /// further.
    package func expandOnce(at now: ContinuousClock.Instant = .now) async throws -> Bool {
        let (aside, due) = setbacks.withLock { ($0.jobs, $0.due(at: now)) }
        var jobs = try await ledger.unexpandedJobs(after: turn.withLock(\.self), besides: aside, limit: 8)
        if jobs.isEmpty { jobs = try await ledger.unexpandedJobs(besides: aside, limit: 8) }
        var isFurther = false
        for job in jobs where !isFurther {
            turn.withLock { $0 = job.organization }
            isFurther = try await expand(
                (job.organization, job.id), at: now, [OrganizationQueue(job.organization, job.priority)])
        }
        guard let due else { return isFurther }
        return try await expand(due, at: now, OrganizationQueue.all(of: due.organization)) || isFurther
    }

    /// Expands a job by a chunk, whose runs are in one of these queues. What the database holds against this
    /// job is noted, and the job steps aside.
    private func expand(
        _ job: (organization: OrganizationID, id: JobID), at now: ContinuousClock.Instant,
        _ queues: [OrganizationQueue]
    ) async throws -> Bool {
        let expansion: Expansion
        do {
            expansion = try await ledger.expand(job, chunk: 2_000)
        } catch let error as PostgresError where error.isOfStatement {
            guard let setback = setbacks.withLock({ $0.note(job, at: now) }) else { throw error }
            await note(
                setback.isLonger ? .warning : .debug, "a job's expansion fails and is tried later", job,
                ["failures": "\(setback.failures)", "error": "\(error)"])
            return false
        }
        switch expansion {
        case .passed:
            setbacks.withLock { $0.postpone(job.id, at: now) }
            return false
        case .done:
            _ = setbacks.withLock { $0.forget(job.id) }
            return false
        case .goesOn, .whole:
            if let failures = setbacks.withLock({ $0.forget(job.id) }) {
                await note(.notice, "a job's expansion goes on", job, ["failures": "\(failures)"])
            }
            if expansion == .whole { await note(.debug, "job expanded", job) }
            FaultPoint.reach(.reconcilerMidExpansion)
            await front.offer([], and: queues)
            return true
        }
    }

    /// Marks every organization of which a run has been queued for two seconds, so that what the fast path
    /// lost is brought by refill. As many probes of an index as there are organizations with a backlog, and
    /// at most what was queued in these two seconds beside.
    package func markStragglers() async throws -> Bool {
        let queues = try await contents.backlog(.seconds(2))
        guard !queues.isEmpty else { return false }
        _ = try await inEach(front.split(queues.map { ($0.organization, $0) })) { part, queues in
            try await part.call { try await part.queue.mark(queues, epoch: $0) }
        }
        front.metrics.count(.stragglers, by: queues.count)
        return true
    }

    /// Drains the inboxes of gateways whose heartbeat has lapsed: what was never sent may be marked again.
    package func buryGateways() async throws -> Bool {
        let open = try await ledger.openGateways()
        guard !open.isEmpty else { return false }
        // By the word of a server: one that does not answer has its inbox still, and perhaps its gateway.
        let dead = try await front.mail.dead(open)
        for gateway in dead {
            var items: [InboxLetter.Item] = []
            for case .dispatch(let letter)? in try await front.mail.drain(gateway: gateway).map(
                InboxLetter.init)
            {
                items += letter
            }
            FaultPoint.reach(.reconcilerMidBurial)
            let back = try await ledger.undeliver(items.map { ($0.organization, $0.run, $0.token) })
            await front.returned(back)
            front.metrics.count(.undelivered, by: back.count)
            try await ledger.endGateway(gateway)
            logger.notice(
                "gateway incarnation is gone",
                metadata: ["gateway.id": "\(gateway)", "runs.returned": "\(back.count)"])
        }
        return !dead.isEmpty
    }

    /// Wakes the waiting runs of devices that are present: of those that connected while whoever put them
    /// aside, or committed them as waiting, died. One page a call; returns where the next begins, `nil`
    /// after the last.
    func wakePresent(
        after: (OrganizationID, DeviceID)
    ) async throws -> (OrganizationID, DeviceID)? {
        let devices = try await ledger.waitingDevices(after: after, limit: 1_000)
        let present = zip(devices, try await front.areKnownPresent(devices))
            .compactMap { device, isPresent in isPresent ? device : nil }
        await front.offer(try await ledger.reconnect(present))
        return devices.count == 1_000 ? devices.last : nil
    }

    /// Compares the queue's running runs with the table, so that a crash between two steps leaks nothing:
    /// what has ended leaves, and what was dispatched but not acknowledged is counted.
    package func compareMembership() async throws -> Bool {
        try await inEach(front.parts) { try await self.compareMembership($0) }.contains(true)
    }

    private func compareMembership(_ part: QueuePart) async throws -> Bool {
        let epoch = try await part.epoch()
        var cursor: String?
        var counted: [RunID: Int] = [:]
        var extra: [Settled] = []
        repeat {
            let page = try await part.queue.membership(after: cursor, epoch: epoch)
            let running = try await contents.areRunning(page.items.map { ($0.run.organization, $0.run.run) })
            for item in page.items {
                if running[item.run.run] == item.run.generation {
                    counted[item.run.run] = item.run.generation
                } else {
                    extra.append(item.run)
                }
            }
            cursor = page.next
        } while cursor != nil
        var missing: [Membership] = []
        var last: QueuedRun?
        while true {
            let page = try await contents.running(last, 2_000)
            missing += page.filter {
                part.has($0.run.organization) && counted[$0.run.run] != $0.run.generation
            }.map(Membership.init)
            last = page.last?.run
            if page.count < 2_000 { break }
        }
        guard !extra.isEmpty || !missing.isEmpty else { return false }
        let (added, removed) = try await part.queue.correct(missing: missing, extra: extra, epoch: epoch)
        try await labelMissing(missing, in: part, epoch)
        front.metrics.count(.membershipCorrections, by: added + removed)
        logger.notice("running runs corrected", metadata: ["added": "\(added)", "removed": "\(removed)"])
        return false
    }
}
