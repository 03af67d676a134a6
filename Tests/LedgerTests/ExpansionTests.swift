import Domain
import Postgres
import TestSupport
import Testing

@testable import Ledger

/// A job over a site or an organization becomes runs chunk by chunk; each chunk commits and says how far it
/// came.
@Suite(.serialized, .world) struct ExpansionTests {
    /// A tenant with so many devices and a job over all of them that nobody has begun to expand.
    private func accepted(_ devices: Int) async throws -> (World, Tenant, (OrganizationID, JobID)) {
        let world = try World.here()
        try await world.clear()
        // Devices of organizations on both sides of it.
        for _ in 0..<4 { _ = try await world.tenant(devices: 2) }
        let tenant = try await world.tenant(devices: devices)
        let job = world.job(tenant, devices: nil)
        _ = try await world.api.submit([job], scope: tenant.scope)
        return (world, tenant, (tenant.organization, job.id))
    }

    private func row(_ job: (OrganizationID, JobID), _ tenant: Tenant) async throws -> JobRow {
        try #require(try await World.here().api.job(job.1, scope: tenant.scope))
    }

    private func runs(_ tenant: Tenant) async throws -> [QueuedRun] {
        try await World.here().worker.queuedRuns(
            of: [(tenant.organization.queue(), after: ID(.zero))], limit: 100
        ).values.flatMap(\.self)
    }

    @Test("An expansion that ends between two chunks goes on where it was: a run for each device, none twice")
    func chunks() async throws {
        let (world, tenant, job) = try await accepted(5)
        #expect(try await row(job, tenant).state == .accepted)
        #expect(try await world.worker.expand(job, chunk: 2) == .goesOn)
        var row = try await row(job, tenant)
        #expect(row.state == .active && row.total == nil && row.counts == [.queued: 2])
        // The worker dies; another finds the job.
        #expect(try await world.worker.unexpandedJobs(besides: [], limit: 9).map(\.id) == [job.1])
        #expect(try await world.worker.expand(job, chunk: 2) == .goesOn)
        #expect(try await world.worker.expand(job, chunk: 2) == .whole)
        row = try await self.row(job, tenant)
        #expect(row.state == .active && row.total == 5 && row.counts == [.queued: 5])
        #expect(try await runs(tenant).map(\.device).sorted() == tenant.all.sorted())
        #expect(try await world.worker.unexpandedJobs(besides: [], limit: 9).isEmpty)
        #expect(try await world.worker.expand(job, chunk: 2) == .done)
        #expect(try await self.row(job, tenant).counts == [.queued: 5])
    }

    @Test(
        "A job reaches no more devices than its bound, and says whether some were left out",
        arguments: [(bound: 3, chunk: 2), (4, 2), (1, 2), (5, 2), (6, 2), (5, 5), (9, 2)])
    func bounded(bound: Int, chunk: Int) async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant(devices: 5)
        var job = world.job(tenant, devices: nil)
        job.devicesMax = bound
        _ = try await world.api.submit([job], scope: tenant.scope)
        let place = (tenant.organization, job.id)
        var last = Expansion.goesOn
        for _ in 0..<9 {
            last = try await world.worker.expand(place, chunk: chunk)
            if last != .goesOn { break }
        }
        #expect(last == .whole)
        let row = try await row(place, tenant)
        let reached = min(bound, 5)
        #expect(row.total == reached && row.counts == [.queued: reached])
        #expect(row.devicesMax == bound && row.leftOut == (bound < 5))
        #expect(try await runs(tenant).map(\.device).sorted() == Array(tenant.all.sorted().prefix(reached)))
        #expect(try await world.worker.unexpandedJobs(besides: [], limit: 9).isEmpty)
    }

    @Test("A chunk that fails leaves nothing, and is made whole by the next try")
    func brokenChunk() async throws {
        let (world, tenant, job) = try await accepted(5)
        #expect(try await world.worker.expand(job, chunk: 2) == .goesOn)
        try await world.owner.execute(
            "ALTER TABLE runs ADD CONSTRAINT planted CHECK (generation > 1) NOT VALID", scope: .none)
        await #expect(throws: PostgresError.self) { try await world.worker.expand(job, chunk: 2) }
        try await world.owner.execute("ALTER TABLE runs DROP CONSTRAINT planted", scope: .none)
        let row = try await row(job, tenant)
        #expect(row.state == .active && row.total == nil && row.counts == [.queued: 2])
        #expect(try await world.worker.expand(job, chunk: 3) == .goesOn)
        #expect(try await world.worker.expand(job, chunk: 3) == .whole)
        #expect(try await runs(tenant).map(\.device).sorted() == tenant.all.sorted())
    }

    @Test("Runs that end while their job is expanded do not complete it; its last chunk does")
    func endedMeanwhile() async throws {
        let (world, tenant, job) = try await accepted(2)
        #expect(try await world.worker.expand(job, chunk: 1) == .goesOn)
        for remaining in [1, 0] {
            let results = try await world.send(try await runs(tenant)).map { AttemptResult($0) }
            _ = try await world.gateway.settle(results)
            try await world.fold()
            let row = try await row(job, tenant)
            #expect(row.state == .active && row.total == nil && row.counts == [.succeeded: 2 - remaining])
            let expansion = try await world.worker.expand(job, chunk: 1)
            #expect(expansion == (remaining == 0 ? .whole : .goesOn))
        }
        let row = try await row(job, tenant)
        #expect(row.state == .completed && row.total == 2 && row.finishedAt != nil)
    }

    @Test("A run that ends right before the last chunk and is not folded yet is folded to the job's end")
    func endedUnfolded() async throws {
        let (world, tenant, job) = try await accepted(1)
        #expect(try await world.worker.expand(job, chunk: 1) == .goesOn)
        let results = try await world.send(try await runs(tenant)).map { AttemptResult($0) }
        _ = try await world.gateway.settle(results)
        #expect(try await world.worker.expand(job, chunk: 1) == .whole)
        #expect(try await row(job, tenant).state == .active)
        try await world.fold()
        let row = try await row(job, tenant)
        #expect(row.state == .completed && row.counts == [.succeeded: 1])
    }

    @Test("A cancel between two chunks: no more runs are made, and the job is cancelled with those it has")
    func cancelled() async throws {
        let (world, tenant, job) = try await accepted(5)
        #expect(try await world.worker.expand(job, chunk: 2) == .goesOn)
        _ = try await world.api.requestCancel(job.1, scope: tenant.scope)
        let (ended, _) = try await world.worker.cancelRuns(of: nil, organization: nil, scope: .platform)
        #expect(ended.count == 2)
        #expect(try await world.worker.expand(job, chunk: 2) == .whole)
        try await world.fold()
        let row = try await row(job, tenant)
        #expect(row.state == .cancelled && row.total == 2 && row.counts == [.cancelled: 2])
    }

    @Test(
        "A job that could not be expanded until it expired ends with the runs that it has", arguments: [0, 2])
    func expired(expanded: Int) async throws {
        let (world, tenant, job) = try await accepted(5)
        if expanded > 0 { #expect(try await world.worker.expand(job, chunk: expanded) == .goesOn) }
        try await world.owner.execute(
            "UPDATE jobs SET expires_at = now() - interval '1 second' WHERE id = \(job.1)", scope: .none)
        try await world.lapse(try await runs(tenant).map(\.run))
        _ = try await world.worker.expire(limit: 10)
        #expect(try await world.worker.expand(job, chunk: 2) == .whole)
        try await world.fold()
        let row = try await row(job, tenant)
        #expect(row.state == .completed && row.total == expanded)
        #expect(row.counts == (expanded == 0 ? [:] : [.expired: expanded]))
    }

    @Test("A job that another worker expands is passed by, and nothing waits for it")
    func taken() async throws {
        let (world, _, job) = try await accepted(1)
        let worker = world.worker
        try await world.owner.transaction(scope: .none) { transaction in
            try await transaction.execute("SELECT FROM jobs WHERE id = \(job.1) FOR UPDATE")
            #expect(try await worker.expand(job, chunk: 2) == .passed)
        }
        #expect(try await worker.expand(job, chunk: 2) == .whole)
    }
}
