import Domain
import Ledger
import Streams
import Synchronization

extension Reconciler {
    /// Tells the queue which organizations have limits, as PostgreSQL says it, and gives runs their places in
    /// the lanes that came without: those that were queued or running before.
    package func checkLimits() async throws -> Bool {
        let limited = Set(try await ledger.runLimits().keys)
        _ = try await inEach(front.parts) { part in
            try await self.checkLimits(limited.filter(part.has), in: part)
        }
        labelled.withLock { $0.formIntersection(limited) }
        return false
    }

    private func checkLimits(_ limited: Set<OrganizationID>, in part: QueuePart) async throws {
        let epoch = try await part.epoch()
        let known = try await part.queue.limited()
        for organization in limited {
            if !known.contains(organization) {
                try await part.queue.limit(organization: organization, isLimited: true, epoch: epoch)
            }
            // Each worker does it once, so that one that died in between leaves nothing undone.
            guard !labelled.withLock({ $0.contains(organization) }) else { continue }
            let waiting = try await part.queue.waiting(organization: organization)
            try await label(waiting, of: organization, in: part, epoch)
            _ = labelled.withLock { $0.insert(organization) }
        }
        for organization in known.subtracting(limited) {
            try await part.queue.limit(organization: organization, isLimited: false, epoch: epoch)
            await front.offer(all: [organization])
        }
    }

    /// Gives runs that were found dispatched, and were not counted, their places in the lanes of limits.
    func labelMissing(_ missing: [Membership], in part: QueuePart, _ epoch: Epoch) async throws {
        let limited = try await part.queue.limited()
        for (organization, runs) in Dictionary(grouping: missing, by: \.run.organization)
        where limited.contains(organization) {
            try await label(runs.map(\.run.run), of: organization, in: part, epoch)
        }
    }

    private func label(
        _ runs: [RunID], of organization: OrganizationID, in part: QueuePart, _ epoch: Epoch
    ) async throws {
        let laned = try await ledger.lanes(of: runs, andRunningOf: organization)
        try await part.queue.label(laned.map(LabelledRun.init), organization: organization, epoch: epoch)
    }
}

extension LabelledRun {
    /// A run with what limits count by.
    init(_ run: LanedRun) { self.init(run: run.run.run, lanes: run.lanes) }
}
