import Domain
import Ledger
import Logging
import Streams
import Synchronization
import Trust

/// Suspects: claims over which an owner has crashed.
extension Dispatcher {
    /// A note about a suspect that stands without a crash.
    struct LeftNote {
        let organization: OrganizationID
        let run: RunID
        /// Only this dispatcher's, or all there are of the run.
        let own: Bool
    }

    /// Tries suspects one by one, each while no dispatcher of the process has anything else under way, so
    /// that another crash is known to be its own. Those that are left after `trialTime` are handed back, to
    /// be claimed again before their leases can lapse, and so are all if a batch of another does not end.
    /// - Returns: whether some may be claimed again at once.
    func tryAlone(_ suspects: [Claim], in part: QueuePart, epoch: Epoch) async throws -> Bool {
        let begun = ContinuousClock.now
        for (at, suspect) in suspects.enumerated() {
            guard at == 0 || ContinuousClock.now - begun < trialTime else {
                try await part.queue.release(Array(suspects[at...]), delayMilliseconds: 0, epoch: epoch)
                return true
            }
            let isAlone = try await gate.crashes.alone(until: .now + trialTime / 4) {
                try await tryAlone(suspect, in: part, epoch: epoch)
            }
            guard isAlone else {
                try await part.queue.release(
                    Array(suspects[at...]), delayMilliseconds: Self.retryMilliseconds, epoch: epoch)
                return false
            }
        }
        return false
    }

    // Until a suspect is claimed again that could not be tried alone.
    private static let retryMilliseconds = 1_000

    /// Takes one claim as far as it goes, between a note that it is tried and the end of that note.
    private func tryAlone(_ claim: Claim, in part: QueuePart, epoch: Epoch) async throws {
        let own = LeftNote(organization: claim.organization, run: claim.run, own: true)
        let trial: Trial
        do {
            trial = try await ledger.beginTrial(QueuedRun(claim), owner: owner)
        } catch {
            // It may stand there all the same, if only the reply was lost.
            leftNotes.withLock { $0.append(own) }
            throw error
        }
        switch trial {
        case .begun:
            let passed: Passed
            do {
                passed = try await pass([claim], alone: true, in: part, epoch: epoch)
            } catch {
                // No crash. In a task of its own, for this one may be cancelled.
                await Task { await self.takeBack(own) }.value
                throw error
            }
            // What was put aside or refused has not shown yet what comes of it.
            let isThrough = passed.delivered.contains(claim.run)
            let note = LeftNote(organization: claim.organization, run: claim.run, own: !isThrough)
            await Task { await self.takeBack(note) }.value
        case .stale:
            // Whatever became of it, a mark would be refused: nothing more is done with it.
            let before = try await dispatchedBefore([claim])
            // Whoever marked it may have died of it.
            if !before.isEmpty {
                try await ledger.suspect([(claim.organization, claim.run, claim.generation)])
            }
            let acknowledged = try await part.queue.acknowledge(
                dispatched: before.isEmpty ? [] : [claim], dropped: before.isEmpty ? [claim] : [],
                deadlineMilliseconds: Int(Instant.now().microseconds / 1_000), epoch: epoch)
            part.refill.call()
            front.metrics.count(.leasesUnacknowledged, by: acknowledged.lost)
        case .poisoned(let run):
            let trace = await traces(of: [(run.organization, run.job)])[run.job]
            logger.error(
                "a run has ended since dispatchers crashed over it",
                metadata: [
                    "organization.id": "\(run.organization)", "job.id": "\(run.job)", "run.id": "\(run.run)",
                    "trace": "\(trace?.traceID ?? "none")",
                ])
            try await part.queue.acknowledge(
                dispatched: [], dropped: [claim], deadlineMilliseconds: 0, epoch: epoch)
            await front.ended([run])
        }
    }

    /// Takes a note back, or leaves it for the next batch.
    private func takeBack(_ note: LeftNote) async {
        do {
            try await ledger.endTrial(note.organization, note.run, of: note.own ? owner : nil)
        } catch {
            logger.debug("a note about a suspect is left for later", metadata: ["error": "\(error)"])
            leftNotes.withLock { $0.append(note) }
        }
    }

    /// Takes back the notes that could not be taken back before.
    func takeBackLeftNotes() async {
        let left = leftNotes.withLock { notes in
            defer { notes = [] }
            return notes
        }
        for note in left { await takeBack(note) }
    }

    /// Those of refused claims whose run was dispatched by whoever crashed over it before it acknowledged:
    /// they go on counting for caps and limits.
    func dispatchedBefore(_ claims: [Claim]) async throws -> Set<RunID> {
        let suspects = claims.filter { $0.crashes > 0 }
        guard !suspects.isEmpty else { return [] }
        let running = try await ledger.areRunning(suspects.map { ($0.organization, $0.run) })
        return Set(suspects.filter { running[$0.run] == $0.generation }.map(\.run))
    }
}
