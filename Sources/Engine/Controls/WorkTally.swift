package import Domain
import Streams
import Synchronization
import Trust

/// What this process has marked and seen end, by organization, in the present period.
///
/// Reported as it stands, each second and at the end, so nothing is counted twice; a process that dies loses
/// its last second.
package final class WorkTally: Sendable {
    fileprivate struct State {
        var period = 0
        var counts: [OrganizationID: WorkCount] = [:]
        // What the period before came to after it was reported last.
        var unreported: (period: Int, counts: [OrganizationID: WorkCount])?
        var isNew = false
    }

    private let state = Mutex(State())
    private let now: @Sendable () -> Instant
    private let source = "\(UniqueID.v7(at: .now()))"

    /// An empty tally; `now` is the clock of its periods.
    package init(now: @escaping @Sendable () -> Instant = { .now() }) { self.now = now }

    /// Counts runs that were marked.
    package func marked(_ organizations: some Sequence<OrganizationID>) {
        add(organizations) { $0.marked += 1 }
    }

    /// Counts runs that ended.
    package func ended(_ organizations: some Sequence<OrganizationID>) {
        add(organizations) { $0.ended += 1 }
    }

    /// Reports what was counted since the last report, to each partition what its organizations did.
    package func report(to parts: [QueuePart]) async throws {
        let due = state.withLock { state in
            state.turn(to: period)
            let due = [state.unreported, state.isNew ? (state.period, state.counts) : nil].compactMap(\.self)
            (state.unreported, state.isNew) = (nil, false)
            return due
        }
        for (period, counts) in due {
            do {
                for part in parts {
                    let own = parts.count == 1 ? counts : counts.filter { part.has($0.key) }
                    guard !own.isEmpty else { continue }
                    try await part.queue.report(own, source: source, period: period)
                }
            } catch {
                // Said again, with what is added meanwhile while the period lasts.
                state.withLock {
                    if $0.period == period { $0.isNew = true } else { $0.unreported = (period, counts) }
                }
                throw error
            }
        }
    }

    private var period: Int { Int(now().microseconds / 1_000_000) / Queue.ratePeriodSeconds }

    private func add(
        _ organizations: some Sequence<OrganizationID>, _ count: (inout WorkCount) -> Void
    ) {
        let period = period
        state.withLock { state in
            state.turn(to: period)
            for organization in organizations {
                count(&state.counts[organization, default: WorkCount()])
                state.isNew = true
            }
        }
    }
}

extension WorkTally.State {
    fileprivate mutating func turn(to period: Int) {
        guard period != self.period else { return }
        if isNew { unreported = (self.period, counts) }
        (self.period, counts, isNew) = (period, [:], false)
    }
}
