import Domain
import Postgres
import TestSupport
import Testing

@testable import Ledger

/// The mark's refusals, cancels, deadlines, and what never reached its device.
@Suite(.serialized, .world) struct LimitTests {
    /// A tenant with one queued run a device.
    private func queued(_ devices: Int = 1) async throws -> (World, Tenant, JobID, [QueuedRun]) {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant(devices: devices)
        let (job, runs) = try await world.submit(tenant, tenant.all)
        return (world, tenant, job, runs)
    }

    private func state(_ run: RunID, _ tenant: Tenant) async throws -> RunState? {
        try await World.here().api.run(run, scope: tenant.scope)?.state
    }

    // MARK: Mark

    @Test("The mark gives an attempt, the token, the gateway and a deadline after the job's own time")
    func marked() async throws {
        let (world, tenant, _, runs) = try await queued()
        let gateway: GatewayID = fresh()
        let marked = try #require(try await world.mark(runs, gateway: gateway).first)
        #expect(marked.attempt == 1 && marked.generation == 1 && marked.gateway == gateway)
        #expect(marked.device == tenant.all[0])
        #expect(marked.deadline > now() + .seconds(3_600 + 60 + 50))
        #expect(try await world.mark(runs).isEmpty, "a run is marked once")
    }

    @Test(
        "The mark refuses what may not leave",
        arguments: [
            "UPDATE runs SET generation = generation + 1", "UPDATE runs SET state = 2",
            "UPDATE runs SET cancel_requested_at = now()", "UPDATE jobs SET cancel_requested_at = now()",
            "UPDATE jobs SET state = 2", "UPDATE runs SET wave = 1",
            "UPDATE runs SET expires_at = now()", "UPDATE queue_partitions SET epoch = 'another'",
            "DELETE FROM queue_partitions",
        ] as [Change])
    func refusals(change: Change) async throws {
        let (world, tenant, _, runs) = try await queued()
        try await world.owner.execute(change.statement, scope: .none)
        #expect(try await world.mark(runs).isEmpty)
        let attempt = try await world.api.run(runs[0].run, scope: tenant.scope)?.attempt
        #expect(attempt == 0)
    }

    /// One statement that takes away the right to leave.
    struct Change: ExpressibleByStringLiteral, CustomTestStringConvertible, Sendable {
        let statement: SQL
        let testDescription: String

        init(stringLiteral text: StaticString) {
            statement = SQL(stringLiteral: text)
            testDescription = text.description
        }
    }

    @Test("Of a batch only those are marked that may leave, and the others stay as they were")
    func partly() async throws {
        let (world, tenant, _, runs) = try await queued(4)
        let other = try await world.tenant()
        let (_, foreign) = try await world.submit(other, other.all)
        _ = try await world.worker.wait([runs[1]])
        var stale = runs[2]
        stale = QueuedRun(
            organization: stale.organization, run: stale.run, device: stale.device, generation: 7,
            lane: stale.lane, priority: stale.priority)
        // A run named under another organization is not found.
        let misnamed = QueuedRun(
            organization: other.organization, run: runs[3].run, device: runs[3].device, generation: 1,
            lane: .script, priority: .standard)
        let marked = try await world.mark([runs[0], runs[1], stale, misnamed] + foreign)
        #expect(Set(marked.map(\.run)) == [runs[0].run, foreign[0].run])
        #expect(try await state(runs[2].run, tenant) == .queued)
        #expect(try await state(runs[3].run, tenant) == .queued)
    }

    @Test("Two workers that mark the same runs at the same time mark each once")
    func race() async throws {
        let (world, _, _, runs) = try await queued(50)
        async let one = world.mark(runs)
        async let two = world.mark(runs.reversed())
        let marked = try await one + two
        #expect(marked.count == 50)
        #expect(Set(marked.map(\.run)).count == 50)
    }

    // MARK: Undelivered

    @Test("A mark that no gateway took in time goes back, and comes again as the same attempt")
    func undelivered() async throws {
        let (world, tenant, _, runs) = try await queued(2)
        let marked = try await world.mark(runs)
        #expect(try await world.worker.undeliver(limit: 9).isEmpty, "its time has not passed")
        _ = try await world.gateway.take([(tenant.organization, marked[1].run, marked[1].token)])
        try await world.owner.execute("UPDATE runs SET deadline = now() - interval '1 s'", scope: .none)
        let back = try await world.worker.undeliver(limit: 9)
        #expect(back.map(\.run) == [marked[0].run])
        #expect(back.map(\.generation) == [2])
        #expect(try await world.mark([runs[0]]).isEmpty, "the old generation")
        let again = try #require(try await world.mark(back).first)
        #expect(again.attempt == 1 && again.token == marked[0].token && again.generation == 2)
    }

    @Test("A gateway cannot take what went back, was settled, or has another token")
    func take() async throws {
        let (world, tenant, _, runs) = try await queued(3)
        let marked = try await world.mark(runs)
        let names = marked.map { (tenant.organization, $0.run, $0.token) }
        #expect(try await world.worker.undeliver([names[0]]).count == 1)
        _ = try await world.gateway.settle([AttemptResult(marked[1])])
        let wrong = (tenant.organization, marked[2].run, fresh() as AttemptToken)
        #expect(try await world.gateway.take([names[0], names[1], wrong]).isEmpty)
        #expect(try await world.gateway.take([names[2]]).map(\.run) == [marked[2].run])
        #expect(try await world.worker.undeliver([names[2]]).isEmpty, "what was sent never goes back")
        #expect(try await world.gateway.take([names[2]]).count == 1, "it may be sent again")
    }

    // MARK: Deadlines

    @Test("What was never sent expires, wherever it waits; what was sent is unknown")
    func expired() async throws {
        let (world, tenant, job, runs) = try await queued(5)
        _ = try await world.worker.wait([runs[0]])
        let marked = try await world.mark([runs[1], runs[2], runs[3]])
        let byRun = Dictionary(uniqueKeysWithValues: marked.map { ($0.run, $0) })
        let (two, three) = (try #require(byRun[runs[2].run]), try #require(byRun[runs[3].run]))
        _ = try await world.gateway.take([(tenant.organization, two.run, two.token)])
        try await world.gateway.start([(tenant.organization, three.device, three.run, three.token, now())])
        #expect(try await world.worker.expire(limit: 9).isEmpty, "no deadline has passed")
        try await world.lapse(runs.map(\.run))
        #expect(try await world.worker.expire(limit: 2).count == 2)
        #expect(Set(try await world.worker.expire(limit: 9).map(\.job)) == [job])
        for run in [runs[0], runs[1], runs[4]] {
            #expect(try await state(run.run, tenant) == .expired)
        }
        #expect(try await state(two.run, tenant) == .unknown)
        #expect(try await state(three.run, tenant) == .unknown)
        #expect(try await world.gateway.settle([AttemptResult(two)]) == [.amended(job)])
        #expect(
            try await world.gateway.settle([AttemptResult(try #require(byRun[runs[1].run]))]) == [.duplicate],
            "an expired run was never sent: no word of an agent changes it")
    }

    @Test("What was taken gets the deadline of the device's word when its gateway's time has passed")
    func awaitWord() async throws {
        let (world, tenant, job, runs) = try await queued(2)
        let sent = try await world.send([runs[0]])[0]
        _ = try await world.mark([runs[1]])
        #expect(try await world.worker.awaitWord(limit: 9) == 0)
        try await world.owner.execute("UPDATE runs SET deadline = now() - interval '1 s'", scope: .none)
        #expect(try await world.worker.awaitWord(limit: 9) == 1)
        #expect(try await world.worker.expire(limit: 9).isEmpty)
        #expect(
            try await world.count(
                """
                SELECT extract(epoch FROM deadline - expires_at)::bigint FROM runs WHERE id = \(sent.run)
                """) == 120)
        #expect(try await state(sent.run, tenant) == .dispatched)
        try await world.lapse([sent.run])
        _ = try await world.worker.expire(limit: 9)
        #expect(try await state(sent.run, tenant) == .unknown)
        #expect(try await world.api.job(job, scope: tenant.scope)?.counts == [.unknown: 1, .dispatched: 1])
    }

    @Test("A job that expires within its gateway's time still waits for the device's word")
    func shortExpiry() async throws {
        let (world, tenant, _, runs) = try await queued()
        _ = try await world.send(runs)
        try await world.owner.execute(
            "UPDATE runs SET expires_at = now() - interval '2 s', deadline = now() - interval '1 s'",
            scope: .none)
        _ = try await world.worker.awaitWord(limit: 9)
        _ = try await world.worker.expire(limit: 9)
        let end = try await state(runs[0].run, tenant)
        #expect(end == .dispatched)
    }

    @Test("What was marked, never taken, and expired while no worker looked is expired")
    func expiredUntaken() async throws {
        let (world, tenant, _, runs) = try await queued()
        _ = try await world.mark(runs)
        try await world.owner.execute(
            "UPDATE runs SET deadline = now() - interval '5 s', expires_at = now() - interval '2 s'",
            scope: .none)
        #expect(try await world.worker.undeliver(limit: 9).isEmpty)
        #expect(try await world.worker.awaitWord(limit: 9) == 0)
        _ = try await world.worker.expire(limit: 9)
        let end = try await state(runs[0].run, tenant)
        #expect(end == .expired)
    }

    // MARK: Cancel

    @Test("A cancel ends at once what was not sent and asks for the rest")
    func cancel() async throws {
        let (world, tenant, job, runs) = try await queued(4)
        _ = try await world.worker.wait([runs[0]])
        let sent = try await world.send([runs[1]])[0]
        _ = try await world.mark([runs[2]])
        #expect(try await world.api.requestCancel(job, scope: tenant.scope) == tenant.organization)
        #expect(try await world.mark([runs[3]]).isEmpty, "the flag alone stops the mark")
        let (ended, told) = try await world.api.cancelRuns(
            of: job, organization: tenant.organization, scope: tenant.scope)
        #expect(Set(ended.map(\.run)) == [runs[0].run, runs[2].run, runs[3].run])
        #expect(told.map(\.run) == [sent.run])
        #expect(told.first?.token == sent.token)
        let row = try #require(try await world.api.job(job, scope: tenant.scope))
        #expect(row.counts == [.cancelled: 3, .dispatched: 1] && row.cancelRequestedAt != nil)
        let open = try await world.gateway.openAttempts(of: sent.device, organization: tenant.organization)
        #expect(open.map(\.cancelRequested) == [true])
        // Asking again finds nothing to do.
        _ = try await world.api.requestCancel(job, scope: tenant.scope)
        let again = try await world.api.cancelRuns(
            of: job, organization: tenant.organization, scope: tenant.scope)
        #expect(again.ended.isEmpty && again.sent.isEmpty)
    }

    @Test(
        "After a cancel the agent's word decides; without it the run is cancelled later, amendably"
    )
    func cancelWord() async throws {
        let (world, tenant, job, runs) = try await queued(3)
        let sent = try await world.send(runs)
        _ = try await world.api.requestCancel(job, scope: tenant.scope)
        _ = try await world.api.cancelRuns(of: job, organization: tenant.organization, scope: tenant.scope)
        #expect(
            try await world.count(
                "SELECT count(*) FROM runs WHERE deadline <= now() + interval '2 minutes'") == 3)
        _ = try await world.gateway.settle([
            AttemptResult(sent[0], .succeeded), AttemptResult(sent[1], .cancelled),
        ])
        try await world.lapse([sent[2].run])
        _ = try await world.worker.expire(limit: 9)
        try await world.fold()
        var row = try #require(try await world.api.job(job, scope: tenant.scope))
        #expect(row.counts == [.succeeded: 1, .cancelled: 2] && row.state == .cancelled)
        #expect(try await world.gateway.settle([AttemptResult(sent[2], .failed)]) == [.amended(job)])
        try await world.fold()
        row = try #require(try await world.api.job(job, scope: tenant.scope))
        #expect(row.counts == [.succeeded: 1, .cancelled: 1, .failed: 1] && row.state == .cancelled)
    }

    @Test("A job that has ended cannot be cancelled, one that nobody sees is not there")
    func cancelEnded() async throws {
        let (world, tenant, job, runs) = try await queued()
        let other = try await world.tenant()
        #expect(try await world.api.requestCancel(job, scope: other.scope) == nil)
        #expect(try await world.api.requestCancel(fresh(), scope: tenant.scope) == nil)
        _ = try await world.gateway.settle(try await world.send(runs).map { AttemptResult($0) })
        let refused = await #expect(throws: LedgerError.self) {
            _ = try await world.api.requestCancel(job, scope: tenant.scope)
        }
        #expect(refused?.code == .conflict)
        #expect(refused?.message.contains("completed") == true)
    }

    @Test("A cancel goes through a job of more than 500 runs in steps, and a worker finishes what was left")
    func cancelMany() async throws {
        let (world, tenant, job, _) = try await queued(1_100)
        _ = try await world.api.requestCancel(job, scope: tenant.scope)
        let first = try await world.api.cancelRuns(
            of: job, organization: tenant.organization, scope: tenant.scope)
        #expect(first.ended.count == 500)
        #expect(
            try await world.worker.cancelRuns(of: nil, organization: nil, scope: .platform).ended.count == 500
        )
        #expect(
            try await world.worker.cancelRuns(of: nil, organization: nil, scope: .platform).ended.count == 100
        )
        #expect(try await world.worker.cancelRuns(of: nil, organization: nil, scope: .platform).ended.isEmpty)
        try await world.fold()
        let row = try #require(try await world.api.job(job, scope: tenant.scope))
        #expect(row.state == .cancelled && row.counts == [.cancelled: 1_100])
    }

    @Test("A cancel that died after its request was noted on the runs is finished by a worker")
    func cancelInterrupted() async throws {
        let (world, tenant, job, runs) = try await queued(2)
        _ = try await world.api.requestCancel(job, scope: tenant.scope)
        try await world.owner.execute("UPDATE runs SET cancel_requested_at = now()", scope: .none)
        _ = try await world.worker.cancelRuns(of: nil, organization: nil, scope: .platform)
        for run in runs { #expect(try await state(run.run, tenant) == .cancelled) }
        #expect(try await world.api.job(job, scope: tenant.scope)?.counts == [.cancelled: 2])
    }

    @Test("A site's own principal may cancel a job of its site")
    func cancelBySite() async throws {
        let (world, tenant, _, _) = try await queued()
        let site = Scope.site(tenant.sites[0])
        let job = world.job(tenant, devices: tenant.all, site: tenant.sites[0])
        _ = try await world.api.submit([job], scope: site)
        _ = try await world.api.requestCancel(job.id, scope: site)
        let (ended, _) = try await world.api.cancelRuns(
            of: job.id, organization: tenant.organization, scope: site)
        #expect(ended.count == 1)
        #expect(try await world.api.job(job.id, scope: site)?.counts == [.cancelled: 1])
    }

    // MARK: Waiting

    @Test("A run waits for its device, and comes back in the next generation when the device does")
    func waiting() async throws {
        let (world, tenant, _, runs) = try await queued(3)
        #expect(try await world.worker.wait([runs[0], runs[1]]) == [runs[0].run, runs[1].run])
        #expect(try await world.worker.wait([runs[0]]).isEmpty)
        let back = try await world.gateway.reconnect([(tenant.organization, tenant.all[0])])
        #expect(back.map(\.run) == [runs[0].run])
        #expect(back.map(\.generation) == [2])
        #expect(try await state(runs[1].run, tenant) == .waiting)
        #expect(
            try await world.worker.wait([runs[0]]).isEmpty, "the old generation does not park the new one")
        #expect(try await world.gateway.reconnect([(tenant.organization, tenant.all[0])]).isEmpty)
    }
}
