import Domain
import Engine
import Ledger
import Postgres

/// How soon a cancel is done.
extension Measure {
    /// From the request to cancel one run to its commit for queued runs, and for those that agents hold to
    /// its arrival in their gateway's inbox. As the product's submitter does it, one after the other.
    func cancels() async throws {
        let count = value("runs", 300)
        let tenant = try await bed.tenants(1, devices: count)[0]
        let scope = Scope.organization(tenant.organization)
        let queued = try await bed.api.submit(tenant.singles(count), scope: scope).queued
        await bed.front.offer(queued)
        var ends: [Double] = []
        for run in queued {
            let began = ContinuousClock.now
            guard case .ended(let ended) = try await bed.api.cancelRun(run.run, scope: scope) else {
                throw BenchError("a queued run did not end")
            }
            await bed.front.ended([ended])
            ends.append((ContinuousClock.now - began) / .milliseconds(1))
        }
        // Agents that hold what they get.
        let sink = try await Sink(bed, holding: tenant.devices) { _, _ in }
        let arrivals = tenant.devices.map { sink.follow($0) }
        let waits = try await running(sink) {
            let runs = try await bed.api.submit(tenant.singles(count), scope: scope).queued
            await bed.front.offer(runs)
            var waits: [Double] = []
            for (device, arrivals) in zip(tenant.devices, arrivals) {
                guard let run = runs.first(where: { $0.device == device }) else { continue }
                var seen = arrivals.makeAsyncIterator()
                _ = await seen.next()
                // Sent, as a gateway says it.
                try await bed.owner.execute(
                    "UPDATE runs SET sent_at = now() WHERE id = \(run.run)", scope: .none)
                let began = ContinuousClock.now
                guard case .asked(let asked) = try await bed.api.cancelRun(run.run, scope: scope) else {
                    throw BenchError("a run that was sent has ended")
                }
                await bed.front.tellCancelled([asked])
                if let told = await seen.next() { waits.append((told - began) / .milliseconds(1)) }
            }
            return waits
        }
        let (queuedTimes, toldTimes) = (Self.percentiles(ends), Self.percentiles(waits))
        say([
            "endedP50ms": queuedTimes["p50ms"] ?? 0, "endedP99ms": queuedTimes["p99ms"] ?? 0,
            "toldP50ms": toldTimes["p50ms"] ?? 0, "toldP99ms": toldTimes["p99ms"] ?? 0,
        ])
    }
}
