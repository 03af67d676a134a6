package import Domain
package import Ledger
import Synchronization

/// What a process has counted of the work that went through it; its parts share one.
///
/// Parts count a batch at a time under one lock. Labels are ids of organizations, at most
/// `organizationsMax` and `other`, and the code's own words.
package final class EngineMetrics: Sendable {
    /// How many organizations are shown by name.
    package static let organizationsMax = 20

    /// What is counted for the process as a whole.
    package enum Count: Int, CaseIterable, Sendable {
        case refills, rebuilds, stragglers, undelivered
        case leasesLapsed, leasesUnacknowledged
        case membershipCorrections, counterCorrections, entitlementCorrections, usageCorrections
    }

    private struct Work: Sendable {
        var claims = 0
        var marks = 0
        var retries = 0
        var declared = 0
        var overQuota: [QuotaField: Int] = [:]
        var outcomes: [Outcome: Int] = [:]
        var kinds: [String: Int] = [:]
        var waits = Histogram()
        var times = Histogram()
    }

    private struct State: Sendable {
        var counts = [Int](repeating: 0, count: Count.allCases.count)
        var refusals: [EngineError.Code: Int] = [:]
        var work: OrganizationSlots<Work>
    }

    private let state: Mutex<State>
    private let now: @Sendable () -> ContinuousClock.Instant

    /// Nothing counted yet; `now` is the clock by which slots are given anew.
    package init(now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }) {
        self.now = now
        state = Mutex(
            State(work: OrganizationSlots(limit: Self.organizationsMax, empty: Work(), now: now())))
    }

    /// Counts so many.
    package func count(_ count: Count, by n: Int = 1) {
        guard n != 0 else { return }
        state.withLock { $0.counts[count.rawValue] += n }
    }

    /// Counts jobs that were refused, by why.
    func refused(_ codes: [EngineError.Code]) {
        guard !codes.isEmpty else { return }
        state.withLock { state in for code in codes { state.refusals[code, default: 0] += 1 } }
    }

    /// Counts a job that would have taken its organization over a quota.
    func refusedByQuota(_ organization: OrganizationID, _ field: QuotaField) {
        add(CollectionOfOne(organization), \.self) { work, _ in work.overQuota[field, default: 0] += 1 }
    }

    private func add<Event>(
        _ events: some Sequence<Event>, _ organization: (Event) -> OrganizationID,
        _ change: (inout Work, Event) -> Void
    ) {
        let now = now()
        state.withLock { state in
            for event in events { state.work.count(organization(event), at: now) { change(&$0, event) } }
        }
    }

    /// Counts claims.
    package func claimed(_ organizations: some Sequence<OrganizationID>) {
        add(organizations, \.self) { work, _ in work.claims += 1 }
    }

    /// Counts marks, and how long the runs were queued.
    package func marked(_ runs: [MarkedRun]) {
        add(runs, \.organization) { work, run in
            work.marks += 1
            work.waits.count(run.waitedSeconds)
        }
    }

    /// Counts runs that ended without their device's word.
    package func declared(_ organizations: some Sequence<OrganizationID>) {
        add(organizations, \.self) { work, _ in work.declared += 1 }
    }

    /// Counts what became of results, in the same order.
    package func settled(_ results: [AttemptResult], _ settlements: [Settlement]) {
        add(zip(results, settlements), \.0.organization) { work, pair in
            let (result, settlement) = pair
            switch settlement {
            case .settled, .retried:
                if case .retried = settlement {
                    work.retries += 1
                } else {
                    work.outcomes[result.outcome, default: 0] += 1
                }
                if let startedAt = result.startedAt {
                    work.times.count((result.finishedAt - startedAt) / .seconds(1))
                }
            case .amended: work.kinds["amended", default: 0] += 1
            case .duplicate: work.kinds["duplicate", default: 0] += 1
            case .late: work.kinds["late", default: 0] += 1
            case .foreign: work.kinds["foreign", default: 0] += 1
            }
        }
    }

    /// Adds all to what is shown.
    package func show(in text: inout Exposition) {
        let (counts, holders, others) = state.withLock { ($0.counts, $0.work.holders, $0.work.others) }
        let refusals = state.withLock { $0.refusals }
        func count(_ count: Count) -> Double { Double(counts[count.rawValue]) }
        for (name, work) in holders.map({ ("\($0.organization)", $0.value) }) + [("other", others)] {
            text.add(.claims, [name], Double(work.claims))
            text.add(.marks, [name], Double(work.marks))
            text.add(.retries, [name], Double(work.retries))
            for outcome in Outcome.allCases {
                text.add(.settlements, [name, outcome.name], Double(work.outcomes[outcome] ?? 0))
            }
            text.add(.settlements, [name, "declared"], Double(work.declared))
            for kind in ["amended", "duplicate", "late", "foreign"] {
                text.add(.results, [name, kind], Double(work.kinds[kind] ?? 0))
            }
            for field in QuotaField.allCases {
                text.add(.quotaRefusals, [name, field.rawValue], Double(work.overQuota[field] ?? 0))
            }
            text.add(.waits, [name], work.waits)
            text.add(.runTimes, [name], work.times)
        }
        for code in EngineError.Code.allCases {
            text.add(.jobRefusals, [code.rawValue], Double(refusals[code] ?? 0))
        }
        text.add(.refills, count(.refills))
        text.add(.rebuilds, count(.rebuilds))
        text.add(.stragglers, count(.stragglers))
        text.add(.undelivered, count(.undelivered))
        text.add(.leaseLosses, ["lapsed"], count(.leasesLapsed))
        text.add(.leaseLosses, ["unacknowledged"], count(.leasesUnacknowledged))
        text.add(.corrections, ["membership"], count(.membershipCorrections))
        text.add(.corrections, ["counter"], count(.counterCorrections))
        text.add(.corrections, ["entitlement"], count(.entitlementCorrections))
        text.add(.corrections, ["usage"], count(.usageCorrections))
    }
}
