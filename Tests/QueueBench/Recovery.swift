import Domain
import Engine
import Ledger
import Redis
import Streams
import Trust

/// How soon runs go on that a worker left behind.
extension Measure {
    /// From the end of a worker that had claimed runs, with the product's lease of 5 s, to their arrival in
    /// an inbox by the workers that are left. How it ends: `how=0` it is gone after the claim; `how=1` it is
    /// gone after the mark has committed; `how=2` it stops in order.
    func recovery() async throws {
        let (how, rounds, runs) = (value("how", 0), value("rounds", 10), value("runs", 16))
        let tenant = try await bed.tenants(1, devices: rounds * runs)[0]
        let sink = try await Sink(bed, holding: tenant.devices)
        let devices = tenant.devices.map { ($0, sink.follow($0)) }
        let waits = try await running(sink) {
            try await withThrowingTaskGroup(of: [Double].self) { group in
                for round in 0..<rounds {
                    let mine = Array(devices[(round * runs)..<((round + 1) * runs)])
                    group.addTask {
                        // Apart, so that a step that comes once a second is met at any moment.
                        try await Task.sleep(for: .milliseconds(310) * round)
                        return try await leave(tenant, mine, owner: "lost.\(round)", how)
                    }
                }
                return try await group.reduce(into: []) { $0 += $1 }
            }
        }
        var result = Self.percentiles(waits)
        result["lost"] = Double(waits.count)
        say(result)
    }

    /// Lets an owner claim runs of these devices and come to its end; returns how long they waited.
    private func leave(
        _ tenant: BenchTenant, _ devices: [(DeviceID, AsyncStream<ContinuousClock.Instant>)], owner: String,
        _ how: Int
    ) async throws -> [Double] {
        let epoch = try await bed.front.epoch()
        let jobs = devices.map { tenant.job([$0.0]) }
        let queued = try await bed.api.submit(jobs, scope: .organization(tenant.organization)).queued
        // One after the other on one connection: the claim is there before the bell has woken anybody.
        async let offered: Void = bed.front.offer(queued)
        async let claimed = bed.queue.claim(
            owner: owner, limit: devices.count, leaseMilliseconds: 5_000, epoch: epoch)
        let claims = try await claimed.items
        await offered
        let began = ContinuousClock.now
        switch how {
        case 1:
            _ = try await bed.worker.mark(
                claims.compactMap { claim in
                    claim.presence.map {
                        MarkRequest(
                            organization: claim.organization, run: claim.run, generation: claim.generation,
                            gateway: $0.gateway, token: .new(at: .now()))
                    }
                }, epoch: epoch.id, partition: 0)
        case 2:
            let bell = try bed.blocking()
            let dispatcher = Dispatcher(
                ledger: bed.worker, front: bed.front, bell: bell, owner: owner, logger: Bed.logger)
            let task = Task { await dispatcher.run() }
            task.cancel()
            await task.value
            await bell.close()
        default: break
        }
        let lost = Set(claims.map(\.device))
        var waits: [Double] = []
        for (device, arrivals) in devices where lost.contains(device) {
            for await arrived in arrivals {
                waits.append((arrived - began) / .milliseconds(1))
                break
            }
        }
        return waits
    }
}
