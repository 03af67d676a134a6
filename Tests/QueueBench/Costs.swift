import Domain
import Engine
import Ledger
import Postgres
import Streams
import Trust

/// What the queue costs Redis.
extension Measure {
    /// Takes runs through the queue step by step, each step a phase: `claim`, `acknowledge`, `settle` and
    /// `refill`, so many rounds of `batches` claims of 128 each, while `runs` runs of so many organizations
    /// are queued. PostgreSQL has its part between the phases, and inboxes are left out.
    func cost() async throws {
        let (organizations, count) = (value("organizations", 10), value("runs", 10_000))
        let (rounds, batches) = (value("rounds", 4), value("batches", 8))
        // In a round each device gets no more runs than one of its lanes takes.
        let devices = max(4, 2_000 / organizations)
        let each = max(1, count / organizations / devices) * devices
        let tenants = try await bed.tenants(organizations, devices: devices)
        try await backlog(tenants, each)
        let gateway = GatewayID.new(at: .now())
        try await bed.gateway.beginGateway(gateway)
        await mark(tenants)
        let refiller = Refiller(ledger: bed.worker, front: bed.front, logger: Bed.logger)
        while try await refiller.refillOnce() > 0 {}
        // The first rounds, in which each organization has its first run, are no phases.
        for _ in 0...organizations / (batches * 128) {
            try await round(refiller, gateway, batches: batches) { _, _, body in try await body() }
        }
        for _ in 0..<rounds {
            try await round(refiller, gateway, batches: batches) { name, count, body in
                try await phase(name, { count ?? $0 }, body)
            }
        }
        let queued = try await bed.number("SELECT count(*) FROM runs WHERE state = 1")
        say(["queued": Double(queued), "active": Double(try await bed.queue.activeOrganizations().count)])
    }

    private typealias Counted = (String, Int?, () async throws -> Int) async throws -> Int

    private func round(
        _ refiller: Refiller, _ gateway: GatewayID, batches: Int, _ counted: Counted
    ) async throws {
        let epoch = try await bed.front.epoch()
        var claims: [Claim] = []
        _ = try await counted("claim", nil) {
            for _ in 0..<batches {
                claims += try await bed.queue.claim(
                    owner: "bench", limit: 128, leaseMilliseconds: 600_000, epoch: epoch
                ).items
            }
            return claims.count
        }
        guard claims.count == batches * 128 else {
            throw BenchError("\(claims.count) runs were claimed of \(batches * 128)")
        }
        let now = Instant.now()
        let marked = try await bed.worker.mark(
            claims.map {
                MarkRequest(
                    organization: $0.organization, run: $0.run, generation: $0.generation, gateway: gateway,
                    token: .new(at: now))
            }, epoch: epoch.id, partition: 0)
        guard marked.count == claims.count else {
            throw BenchError("\(marked.count) of \(claims.count) were marked")
        }
        _ = try await counted("acknowledge", claims.count) {
            try await bed.queue.acknowledge(
                dispatched: claims, dropped: [],
                deadlineMilliseconds: Int(now.microseconds / 1_000) + 600_000,
                epoch: epoch
            ).started
        }
        let settled = try await bed.gateway.settle(
            marked.map {
                AttemptResult(
                    organization: $0.organization, device: $0.device, run: $0.run, attempt: $0.attempt,
                    token: $0.token, outcome: .succeeded, exitCode: 0, reason: nil, startedAt: now,
                    finishedAt: now,
                    output: OutputRow(
                        stdoutHead: [], stdoutTail: [], stdoutBytes: 0, stderrHead: [], stderrTail: [],
                        stderrBytes: 0))
            }
        ).compactMap(\.settledRun)
        _ = try await counted("settle", claims.count) {
            await bed.front.settled(settled)
            return settled.count
        }
        // What refill brings is counted by run as well: as many as were claimed, where there is a backlog.
        _ = try await counted("refill", nil) {
            var brought = 0
            while case let some = try await refiller.refillOnce(), some > 0 { brought += some }
            return brought
        }
    }
}
