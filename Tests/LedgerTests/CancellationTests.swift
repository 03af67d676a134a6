import Domain
import Postgres
import TestSupport
import Testing
import Trust

@testable import Ledger

@Suite(.serialized, .world) struct CancellationTests {
    @Test("A run that was not sent ends at once, wherever it is, and its job counts it")
    func unsent() async throws {
        let world = try World.here()
        let tenant = try await world.tenant(devices: 4)
        let (job, runs) = try await world.submit(tenant, tenant.all)
        #expect(try await world.worker.wait([runs[1]]) == [runs[1].run])
        let marked = try await world.mark([runs[2]])
        #expect(marked.count == 1)
        try await world.owner.execute(
            "UPDATE runs SET state = 0, due_at = now() + interval '1 hour' WHERE id = \(runs[3].run)",
            scope: .none)
        for run in runs {
            guard case .ended(let ended) = try await world.api.cancelRun(run.run, scope: tenant.scope) else {
                Issue.record("the run did not end")
                continue
            }
            #expect(ended.run == run.run && ended.job == job)
            #expect(try await world.state(run.run) == .cancelled)
        }
        #expect(try await world.gateway.take(marked.map { ($0.organization, $0.run, $0.token) }).isEmpty)
        try await world.fold()
        let row = try #require(try await world.api.job(job, scope: tenant.scope))
        #expect(row.state == .completed && row.counts == [.cancelled: 4])
    }

    @Test("A run that was sent keeps its row and gets the request once, which outlives its gateway")
    func sent() async throws {
        let world = try World.here()
        let tenant = try await world.tenant()
        let (job, runs) = try await world.submit(tenant, tenant.all)
        let sent = try await world.send(runs)
        func deadline() async throws -> Instant? {
            try await world.owner.query(
                "SELECT deadline FROM runs WHERE id = \(runs[0].run)", scope: .none
            ) { try $0.decode(Instant.self) }.first
        }
        var deadlines: Set<Instant?> = []
        for _ in 0..<2 {
            guard case .asked(let asked) = try await world.api.cancelRun(runs[0].run, scope: tenant.scope)
            else {
                Issue.record("nobody is told")
                return
            }
            #expect(asked.run == runs[0].run && asked.token == sent[0].token && asked.job == job)
            deadlines.insert(try await deadline())
        }
        #expect(deadlines.count == 1, "a second request gives no more time")
        // The gateway fails, and the device says hello to another.
        try await world.gateway.endGateway(sent[0].gateway)
        let open = try await world.gateway.openAttempts(of: tenant.all[0], organization: tenant.organization)
        #expect(open.count == 1 && open[0].cancelRequested && open[0].token == sent[0].token)
        _ = try await world.gateway.settle([AttemptResult(sent[0], .cancelled, exitCode: nil)])
        #expect(try await world.state(runs[0].run) == .cancelled)
    }

    @Test("A run that has ended is not cancelled any more, and it is said how it ended")
    func late() async throws {
        let world = try World.here()
        let tenant = try await world.tenant()
        let (_, runs) = try await world.submit(tenant, tenant.all)
        _ = try await world.gateway.settle(try await world.send(runs).map { AttemptResult($0, .failed) })
        guard case .over(.failed) = try await world.api.cancelRun(runs[0].run, scope: tenant.scope) else {
            Issue.record("it is not said how it ended")
            return
        }
        #expect(try await world.api.cancelRun(fresh(), scope: tenant.scope) == nil)
    }

    @Test("Of a cancel and its sending, and of a cancel and its end, one comes first and is recorded")
    func races() async throws {
        let world = try World.here()
        let tenant = try await world.tenant()
        for round in 0..<40 {
            let (job, runs) = try await world.submit(tenant, tenant.all)
            let marked = try await world.mark(runs)
            async let cancelled = world.api.cancelRun(runs[0].run, scope: tenant.scope)
            async let taken = world.gateway.take(marked.map { ($0.organization, $0.run, $0.token) })
            let wasTaken = try await !taken.isEmpty
            switch try await cancelled {
            case .ended: #expect(!wasTaken)
            case .asked: #expect(wasTaken)
            case .over, .ofUnseenJob, nil: Issue.record("the run was open")
            }
            if wasTaken {
                let results = marked.map { AttemptResult($0) }
                async let again = world.api.cancelRun(runs[0].run, scope: tenant.scope)
                async let settled = world.gateway.settle(results)
                #expect(try await settled[0].isSettled)
                switch try await again {
                case .asked, .over(.succeeded): break
                case .ended, .over, .ofUnseenJob, nil: Issue.record("a sent run ends by its device's word")
                }
            }
            #expect(try await world.state(runs[0].run) == (wasTaken ? .succeeded : .cancelled), "\(round)")
            try await world.fold()
            #expect(try await world.api.job(job, scope: tenant.scope)?.state == .completed)
        }
    }

    @Test("Who sees a run but not its job does not cancel it; who sees neither finds nothing")
    func scopes() async throws {
        let world = try World.here()
        let (tenant, other) = (try await world.tenant(sites: 2), try await world.tenant())
        let (_, runs) = try await world.submit(tenant, tenant.all)
        #expect(try await world.api.cancelRun(runs[0].run, scope: other.scope) == nil)
        let site = Scope.site(tenant.sites[0])
        guard case .ofUnseenJob = try await world.api.cancelRun(runs[0].run, scope: site) else {
            Issue.record("a site cancelled in a job of the organization")
            return
        }
        #expect(try await world.state(runs[0].run) == .queued)
        let own = world.job(tenant, devices: tenant.devices[0], site: tenant.sites[0])
        let ownRuns = try await world.api.submit([own], scope: tenant.scope).queued
        guard case .ended = try await world.api.cancelRun(ownRuns[0].run, scope: site) else {
            Issue.record("a site did not cancel its own")
            return
        }
    }

    @Test("A filter finds the open jobs that it names, of the scope, that nobody asked to cancel")
    func filter() async throws {
        let world = try World.here()
        let (tenant, other) = (try await world.tenant(sites: 2), try await world.tenant())
        var jobs = [
            world.job(tenant, devices: tenant.all), world.job(tenant, devices: tenant.all),
            world.job(tenant, devices: tenant.devices[0], site: tenant.sites[0]),
            world.job(tenant, devices: nil), world.job(tenant, devices: tenant.all),
            world.job(tenant, devices: tenant.devices[1]),
        ]
        (jobs[0].kind, jobs[1].priority) = (.ping, .bulk)
        let runs = try await world.api.submit(jobs, scope: tenant.scope).queued
        let foreign = try await world.submit(other, other.all).job
        _ = try await world.api.requestCancel(jobs[4].id, scope: tenant.scope)
        _ = try await world.gateway.settle(
            try await world.send([runs[runs.count - 1]]).map { AttemptResult($0) })
        func found(_ scope: Scope, _ narrow: (inout JobFilter) -> Void) async throws -> Set<Int> {
            var filter = JobFilter()
            narrow(&filter)
            let rows = try await world.api.openJobs(filter, limit: 100, scope: scope)
            return Set(
                rows.map { row in jobs.firstIndex { $0.id == row.id } ?? (row.id == foreign ? 9 : -1) })
        }
        let scope = tenant.scope
        #expect(try await found(scope) { _ in } == [0, 1, 2, 3])
        #expect(
            try await found(.organizations([tenant.organization, other.organization])) { _ in }
                == [0, 1, 2, 3, 9])
        #expect(
            try await found(.organizations([tenant.organization, other.organization])) {
                $0.organization = other.organization
            } == [9])
        #expect(try await found(scope) { $0.organization = other.organization } == [])
        #expect(try await found(scope) { $0.kind = .ping } == [0])
        #expect(try await found(scope) { $0.priority = .bulk } == [1])
        #expect(try await found(scope) { $0.site = tenant.sites[0] } == [2])
        #expect(try await found(.site(tenant.sites[0])) { _ in } == [2])
        #expect(try await found(scope) { $0.state = .accepted } == [3])
        #expect(try await found(scope) { $0.createdBefore = .now() + .seconds(-60) } == [])
        #expect(try await found(scope) { $0.createdAfter = .now() + .seconds(-60) } == [0, 1, 2, 3])
        let limited = try await world.api.openJobs(JobFilter(), limit: 2, scope: scope)
        #expect(limited.map(\.id) == Array(jobs.prefix(4).map(\.id).sorted().prefix(2)))
        let asked = try await world.api.requestCancels(
            [
                (tenant.organization, jobs[0].id), (tenant.organization, jobs[5].id),
                (other.organization, foreign),
            ],
            scope: scope)
        #expect(asked == [jobs[0].id], "neither what has ended nor what is another's")
        #expect(try await found(scope) { _ in } == [1, 2, 3])
    }

    @Test("A paused job is not marked, completes with what runs, and goes on when it is resumed")
    func pause() async throws {
        let world = try World.here()
        try await world.clear()
        let (tenant, other) = (try await world.tenant(devices: 2), try await world.tenant())
        let (job, runs) = try await world.submit(tenant, tenant.all)
        let sent = try await world.send([runs[0]])
        #expect(try await world.api.pauseJob(job, scope: other.scope) == nil)
        for _ in 0..<2 {
            #expect(try await world.api.pauseJob(job, scope: tenant.scope) == tenant.organization)
        }
        #expect(try await world.mark([runs[1]]).isEmpty)
        _ = try await world.gateway.settle(sent.map { AttemptResult($0) })
        try await world.fold()
        #expect(try await world.api.job(job, scope: tenant.scope)?.state == .paused)
        #expect(try await world.api.resumeJob(job, scope: other.scope) == nil)
        #expect(try await world.api.resumeJob(job, scope: tenant.scope) == tenant.organization)
        let again = try await #require(throws: LedgerError.self) {
            try await world.api.resumeJob(job, scope: tenant.scope)
        }
        #expect(again.code == .conflict && again.message.contains("is active"))
        let rest = try await world.send([runs[1]])
        _ = try await world.api.pauseJob(job, scope: tenant.scope)
        _ = try await world.gateway.settle(rest.map { AttemptResult($0) })
        try await world.fold()
        #expect(
            try await world.api.job(job, scope: tenant.scope)?.state == .completed, "though it was paused")
        let late = try await #require(throws: LedgerError.self) {
            try await world.api.pauseJob(job, scope: tenant.scope)
        }
        #expect(late.code == .conflict && late.message.contains("completed"))
    }

    @Test("A job that is paused before it is expanded is expanded, stays paused, and is resumed to active")
    func pauseAccepted() async throws {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant(devices: 3)
        let jobs = [world.job(tenant, devices: nil), world.job(tenant, devices: nil)]
        _ = try await world.api.submit(jobs, scope: tenant.scope)
        for job in jobs { _ = try await world.api.pauseJob(job.id, scope: tenant.scope) }
        _ = try await world.api.resumeJob(jobs[1].id, scope: tenant.scope)
        #expect(try await world.api.job(jobs[1].id, scope: tenant.scope)?.state == .accepted)
        _ = try await world.worker.expand(limit: 4)
        let row = try #require(try await world.api.job(jobs[0].id, scope: tenant.scope))
        #expect(row.state == .paused && row.total == 3 && row.counts == [.queued: 3])
        _ = try await world.api.resumeJob(jobs[0].id, scope: tenant.scope)
        #expect(try await world.api.job(jobs[0].id, scope: tenant.scope)?.state == .active)
    }
}
