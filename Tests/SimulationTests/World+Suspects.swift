import Domain

@testable import Streams

/// Runs over which dispatchers crash, and how they are found (`Dispatcher.tryAlone`).
extension World {
    /// Takes suspects one by one, each while its process does nothing else, so that another crash is known to
    /// be its own. Where that is not so, they are handed back.
    func tryAlone(_ suspects: [Claim], _ worker: Worker, _ epoch: Epoch) async throws {
        if plan.lapse == .suspectsTogether {
            var begun: [Claim] = []
            for suspect in suspects where try await begin(suspect, worker, epoch) { begun.append(suspect) }
            try await pass(begun, worker, epoch)
            for suspect in begun { try await endTrial(suspect) }
            return
        }
        for (at, suspect) in suspects.enumerated() {
            let isTried = try await worker.alone { try await tryAlone(suspect, worker, epoch) }
            guard !isTried else { continue }
            _ = try await call("release") {
                try await self.queue.release(Array(suspects[at...]), delayMilliseconds: 0, epoch: epoch)
            }
            return
        }
    }

    private func tryAlone(_ claim: Claim, _ worker: Worker, _ epoch: Epoch) async throws {
        let owner = worker.owner
        do {
            guard try await begin(claim, worker, epoch) else { return }
            reach(.suspectAlone)
            try await pass([claim], worker, epoch)
            try await endTrial(claim)
        } catch let crash as Crash {
            if inTrial[claim.run]?.remove(owner) != nil { loneDeaths[claim.run, default: 0] += 1 }
            throw crash
        } catch {
            try await takeBack(claim.run, worker)
            throw error
        }
    }

    /// Notes that a claim is taken alone; false if it is not to be tried any more.
    private func begin(_ claim: Claim, _ worker: Worker, _ epoch: Epoch) async throws -> Bool {
        let trial = try await commit("beginTrial") { records in
            let trial = records.beginTrial(claim.run, generation: claim.generation)
            if case .begun = trial { self.inTrial[claim.run, default: []].insert(worker.owner) }
            if case .poisoned = trial { self.judgePoison(claim.run) }
            return trial
        }
        switch trial {
        case .begun: return true
        case .stale:
            // Whatever became of it, a mark would be refused: nothing more is done with it.
            let before = try await commit("areRunning") { records in
                let row = records.open[claim.run]
                return row?.machine.generation == claim.generation && row.map(Records.isOnDevice) == true
            }
            _ = try await call("acknowledge") {
                try await self.queue.acknowledge(
                    dispatched: before ? [claim] : [], dropped: before ? [] : [claim],
                    deadlineMilliseconds: 1, epoch: epoch)
            }
            return false
        case .poisoned(let row):
            _ = try await call("acknowledge") {
                try await self.queue.acknowledge(
                    dispatched: [], dropped: [claim], deadlineMilliseconds: 0, epoch: epoch)
            }
            try await ended([row], by: worker)
            return false
        }
    }

    private func endTrial(_ claim: Claim) async throws {
        try await forget(claim.run)
        reach(.suspectCleared)
    }

    /// There was no crash: the note goes now, or before the next batch, and counts until then.
    private func takeBack(_ run: RunID, _ worker: Worker) async throws {
        do {
            try await forget(run)
        } catch let crash as Crash {
            strays[run, default: 0] += 1
            throw crash
        } catch {
            strays[run, default: 0] += 1
            worker.leftNotes.append(run)
        }
        inTrial[run]?.remove(worker.owner)
    }

    /// Takes back notes about trials that have failed without a crash.
    func takeBackNotes(_ worker: Worker) async throws {
        while let run = worker.leftNotes.last {
            try await forget(run)
            worker.leftNotes.removeLast()
        }
    }

    private func forget(_ run: RunID) async throws {
        try await commit("endTrial") { records in
            records.endTrial(run)
            (self.inTrial[run], self.loneDeaths[run], self.strays[run]) = (nil, nil, nil)
        }
    }

    /// Three died over this one alone, no more and no fewer.
    private func judgePoison(_ run: RunID) {
        reach(.poisonEnds)
        let deaths = loneDeaths[run, default: 0]
        // The note of a trial that outlasts its lease stands as well.
        let most = deaths + strays[run, default: 0] + (inTrial[run]?.count ?? 0)
        if deaths > Records.loneCrashesMax || most < Records.loneCrashesMax {
            fail("the run \(run.short) ended as poison after \(deaths) lone crashes")
        }
        if aim == .poison, strays[run] == nil, inTrial[run]?.isEmpty != false, !poison.contains(run) {
            fail("the innocent run \(run.short) ended as poison")
        }
    }

    /// Whoever handles a run of poison dies of it.
    func strike(_ claims: [Claim], _ worker: Worker) throws {
        guard claims.contains(where: { poison.contains($0.run) }) else { return }
        if claims.count > 1 { reach(.batchDies) }
        note("\(worker.name) dies of poison")
        dying = worker
        throw Crash()
    }
}
