import Domain
import Ledger
import Postgres
import Synchronization
import Wire

/// The drains that submissions are judged by, as they were a moment ago: a look at each submission would cost
/// as much as its commit.
final class DrainWatch: Sendable {
    private let ledger: Ledger
    private let known = Mutex<(drains: [ControlRow], read: ContinuousClock.Instant)?>(nil)
    private let now: @Sendable () -> ContinuousClock.Instant

    /// For how long what was read is believed: who sets a drain waits so long before it says that it holds.
    static let life = Duration.milliseconds(500)

    /// A watch on the API's login. `now` is the clock by which what was read ages.
    init(ledger: Ledger, now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }) {
        self.ledger = ledger
        self.now = now
    }

    /// Takes those jobs out that a drain covers, with their outcomes. One that was taken before under the
    /// same key is no new work, and is answered as if there were no drain.
    func sift(
        _ jobs: inout [(index: Int, job: SubmittedJob)],
        _ outcomes: inout [Result<AcceptedJob, EngineError>?], scope: Scope
    ) async throws {
        let drains = try await drains()
        guard !drains.isEmpty else { return }
        var refused: [(index: Int, job: SubmittedJob, refusal: EngineError)] = []
        jobs.removeAll { item in
            guard let refusal = Self.refusal(of: item.job, drains) else { return false }
            refused.append((item.index, item.job, refusal))
            return true
        }
        guard !refused.isEmpty else { return }
        let earlier = try await ledger.earlier(than: refused.map(\.job), scope: scope)
        for (index, job, refusal) in refused {
            if let (id, state) = earlier[job.id] {
                outcomes[index] = .success(AcceptedJob(id: id, state: state))
            } else {
                outcomes[index] = .failure(refusal)
            }
        }
    }

    private func drains() async throws -> [ControlRow] {
        let now = now()
        if let known = known.withLock({ $0 }), now - known.read < Self.life { return known.drains }
        let drains = try await ledger.drains()
        known.withLock { $0 = (drains, now) }
        return drains
    }

    private static func refusal(of job: SubmittedJob, _ drains: [ControlRow]) -> EngineError? {
        let drain = drains.first {
            $0.scope.covers(organization: job.organization, kind: job.kind, priority: job.priority)
        }
        return drain.map {
            let reason = $0.reason.map { ": \($0)" } ?? ""
            return EngineError(
                .draining, "\($0.scope) is draining since \($0.since) and takes no new jobs\(reason)")
        }
    }
}
