import Domain
import Ledger
import Streams

extension Explainer {
    /// The same runs with the limits and the rate that keep them out of the queue: of those that were not
    /// admitted, for one that was has its places.
    func limited(_ runs: [RunFacts], of organization: OrganizationID) async throws -> [RunFacts] {
        let waiting = runs.indices.filter { runs[$0].state == .queued && runs[$0].spot == .absent }
        guard !waiting.isEmpty,
            let limits = try await ledger.runLimits(of: organization, scope: .organization(organization))
        else { return runs }
        var runs = runs
        if let rate = limits.rate {
            let until = await known {
                try await front.part(of: organization).queue.nextStart(
                    of: organization, RunRate(perSecond: rate.perSecond, burst: rate.burst))
            }
            for at in waiting { runs[at].rateLimitedUntil = until }
        }
        for start in stride(from: 0, to: waiting.count, by: Self.sliceMax) {
            let slice = waiting[start..<min(start + Self.sliceMax, waiting.count)]
            let lanes = slice.map { at in runs[at].lanes.filter { limits.limit(of: $0) != nil } }
            let distinct = Array(Set(lanes.joined()))
            let counts = await known {
                try await front.part(of: organization).queue.taken(
                    distinct, organization: organization)
            }
            guard let counts else { break }
            let taken = Dictionary(zip(distinct, counts)) { first, _ in first }
            for (at, lanes) in zip(slice, lanes) {
                runs[at].fullLimits = lanes.compactMap { lane in
                    let load = RunFacts.Load(taken[lane] ?? 0, of: limits.limit(of: lane))
                    return load.isFull ? RunFacts.Limit(RunFacts.Limit.Scope(lane.scope), load) : nil
                }
            }
        }
        return runs
    }
}

extension RunFacts {
    /// What limits count it by.
    fileprivate var lanes: [RunLane] {
        guard let site else { return [] }
        return RunLane.all(job: job, site: site, kind: kind.rawValue, device: device.id, lane: lane)
    }
}
