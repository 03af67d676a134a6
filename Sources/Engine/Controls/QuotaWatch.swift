import Domain
package import Ledger
import Postgres
import Streams
import Synchronization
import Wire

/// Refuses jobs that would take their organization over its quota, by what it knows of its open work.
///
/// A look at each submission would cost as much as its commit. So what was read is believed for a while, and
/// what this process has let through since is added to it: as long as that is less than an eighth of the room
/// that there was, the jobs fit, and nothing is read. Otherwise it is read anew, callers together; nothing is
/// ever refused by what was not read for it. What is let through is held from the judgement on, so callers of
/// one process never pass the quota together.
final class QuotaWatch: Sendable {
    private struct Line {
        var known: Known?
        // What was let through and has not come to an end, and all that ever did and was committed.
        var underWay = OpenWork()
        var committed = OpenWork()

        var added: OpenWork { underWay + committed - (known?.committedBefore ?? committed) }
        var used: OpenWork { (known?.row.used ?? OpenWork()) + added }
    }

    private struct Known {
        let row: OpenWorkRow
        let read: ContinuousClock.Instant
        let committedBefore: OpenWork
    }

    /// For how long what was read is believed: a quota that was set is heeded so soon.
    static let life = Duration.seconds(2)
    // The part of the room that is let through without another look.
    private static let unreadPart = 8
    // More organizations than that are forgotten when nothing of theirs is under way.
    private static let linesMax = 10_000

    private let reads: Gathering<[OrganizationID], [OrganizationID: OpenWorkRow]>
    private let ledger: Ledger
    private let rates: QueueRates
    private let metrics: EngineMetrics
    private let now: @Sendable () -> ContinuousClock.Instant
    private let lines = Mutex<[OrganizationID: Line]>([:])

    /// A watch on the API's login. `now` is the clock by which what was read ages.
    init(
        ledger: Ledger, front: QueueFront,
        now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }
    ) {
        self.ledger = ledger
        self.now = now
        rates = QueueRates(front: front)
        metrics = front.metrics
        reads = Gathering(sizeMax: Limits.bulkJobsMax) { scope, parts in
            let rows = try await ledger.openWork(of: Array(Set(parts.joined())), scope: scope)
            return parts.map { _ in rows }
        }
    }

    /// Takes those jobs out that do not fit, in order, with their outcomes, and holds the room of the others
    /// until `end`. One that was taken before under the same key is no new work, and is answered as if there
    /// were no quota.
    func sift(
        _ jobs: inout [(index: Int, job: SubmittedJob)],
        _ outcomes: inout [Result<AcceptedJob, EngineError>?], scope: Scope
    ) async throws {
        try await read(for: jobs.map(\.job))
        var refused: [(index: Int, job: SubmittedJob, excess: Excess)] = []
        lines.withLock { lines in
            jobs.removeAll { index, job in
                let organization = job.organization
                guard let excess = Self.excess(of: job, lines[organization, default: Line()]) else {
                    lines[organization, default: Line()].underWay =
                        lines[organization, default: Line()].underWay + job.work
                    return false
                }
                refused.append((index, job, excess))
                return true
            }
        }
        guard !refused.isEmpty else { return }
        do {
            let earlier = try await ledger.earlier(than: refused.map(\.job), scope: scope)
            let rates = await drainRates(of: refused.filter { earlier[$0.job.id] == nil }.map(\.excess))
            for (index, job, excess) in refused {
                if let (id, state) = earlier[job.id] {
                    outcomes[index] = .success(AcceptedJob(id: id, state: state))
                } else {
                    metrics.refusedByQuota(excess.organization, excess.field)
                    outcomes[index] = .failure(excess.refusal(rate: rates[excess.organization]))
                }
            }
        } catch {
            end(jobs.map { ($0.job, isCommitted: false) })
            throw error
        }
    }

    /// What was let through has come to an end: it is committed, or may be, or nothing of it is.
    func end(_ jobs: [(job: SubmittedJob, isCommitted: Bool)]) {
        lines.withLock { lines in
            for (job, isCommitted) in jobs {
                guard var line = lines[job.organization] else { continue }
                line.underWay = line.underWay - job.work
                if isCommitted { line.committed = line.committed + job.work }
                lines[job.organization] = line
            }
        }
    }

    // MARK: Reading

    private func read(for jobs: [SubmittedJob]) async throws {
        var wanted: [OrganizationID: OpenWork] = [:]
        for job in jobs { wanted[job.organization] = (wanted[job.organization] ?? OpenWork()) + job.work }
        let begin = now()
        let before = lines.withLock { lines in
            var before: [OrganizationID: OpenWork] = [:]
            for (organization, work) in wanted {
                let line = lines[organization] ?? Line()
                if !Self.fits(work, line, at: begin) { before[organization] = line.committed }
            }
            return before
        }
        guard !before.isEmpty else { return }
        let rows = try await reads(Array(before.keys), size: before.count, scope: .platform)
        lines.withLock { lines in
            if lines.count > Self.linesMax {
                let old = begin - .seconds(60)
                lines = lines.filter {
                    $0.value.underWay != OpenWork() || $0.value.known.map { $0.read > old } ?? false
                }
            }
            for (organization, committedBefore) in before {
                guard let row = rows[organization] else { continue }
                var line = lines[organization] ?? Line()
                if let other = line.known, other.read > begin { continue }
                // A line that was forgotten meanwhile counts from nothing again.
                let before = OpenWork(
                    runs: min(committedBefore.runs, line.committed.runs),
                    bytes: min(committedBefore.bytes, line.committed.bytes))
                line.known = Known(row: row, read: begin, committedBefore: before)
                lines[organization] = line
            }
        }
    }

    /// Whether work fits without another look.
    private static func fits(_ work: OpenWork, _ line: Line, at now: ContinuousClock.Instant) -> Bool {
        guard let known = line.known, now - known.read < life else { return false }
        let added = line.added + work
        return added.runs <= (known.row.runsLimit - known.row.used.runs) / unreadPart
            && added.bytes <= (known.row.bytesLimit - known.row.used.bytes) / unreadPart
    }

    // MARK: Refusing

    /// How far a job would take its organization over one of its quotas.
    private struct Excess {
        let organization: OrganizationID
        let field: QuotaField
        /// What there would be, of which the job brings so much, and what is allowed.
        let value: Int
        let own: Int
        let limit: Int
        /// The runs whose end makes room for it, as many as bytes have at the mean.
        let runs: Double

        func refusal(rate: Double?) -> EngineError {
            let seconds = own > limit ? QuotaWatch.waitSecondsMax : QuotaWatch.seconds(runs, rate)
            let outlook =
                if own > limit { "the job alone has \(own), so it is never taken" } else {
                    "room for it is expected in \(seconds) s"
                }
            var error = EngineError(
                .quotaExceeded, field: field.rawValue,
                "of organization \(organization) would be \(value); allowed are \(limit); \(outlook)")
            error.retryAfterSeconds = seconds
            return error
        }
    }

    private static func excess(of job: SubmittedJob, _ line: Line) -> Excess? {
        guard let row = line.known?.row else { return nil }
        let (own, used) = (job.work, line.used)
        let sum = used + own
        if sum.runs > row.runsLimit {
            return Excess(
                organization: job.organization, field: .openRuns, value: sum.runs, own: own.runs,
                limit: row.runsLimit, runs: Double(sum.runs - row.runsLimit))
        }
        if sum.bytes > row.bytesLimit {
            let bytesOfRun = Double(used.bytes) / Double(max(1, used.runs))
            return Excess(
                organization: job.organization, field: .openBytes, value: sum.bytes, own: own.bytes,
                limit: row.bytesLimit, runs: Double(sum.bytes - row.bytesLimit) / max(1, bytesOfRun))
        }
        return nil
    }

    /// How long until so many runs have ended, at so many a second: whole seconds within the bounds. What
    /// drains nothing takes the longest; what is not known now, as long as rates take to be known.
    static func seconds(_ runs: Double, _ rate: Double?) -> Int {
        guard let rate else { return 60 }
        guard rate > 0 else { return waitSecondsMax }
        return Int(min(max(1, (runs / rate).rounded(.up)), Double(waitSecondsMax)))
    }

    static let waitSecondsMax = 3_600

    /// Runs that ended a second in the last minute, by organization; empty if the queue does not say now.
    private func drainRates(of excesses: [Excess]) async -> [OrganizationID: Double] {
        guard !excesses.isEmpty else { return [:] }
        do {
            return try await rates.rates(of: Array(Set(excesses.map(\.organization)))).mapValues(\.drainRate)
        } catch {
            // The refusal holds without it.
            return [:]
        }
    }
}

/// What a quota limits.
package enum QuotaField: String, Sendable, CaseIterable {
    case openRuns, openBytes
}

extension OpenWorkRow {
    /// What holds: what was set, or the default.
    package var runsLimit: Int { runsMax ?? Limits.openRunsDefault }
    /// The same of bytes.
    package var bytesLimit: Int { bytesMax ?? Limits.openBytesDefault }
}
