import Domain
import Ledger
import Postgres
import Synchronization
import TestSupport
import Testing
import Trust

@testable import Engine
@testable import Streams

/// A job that cannot be expanded steps aside.
@Suite(.serialized, .world) struct SetbackTests {
    /// Lets every expansion of the jobs in a table `planted` fail.
    private func plant(_ world: World) async throws {
        try await world.owner.pipeline(
            scope: .none,
            [
                "DROP TABLE IF EXISTS planted",
                "CREATE TABLE planted (job_id uuid)",
                "GRANT SELECT ON planted TO crmm_worker",
                """
                CREATE OR REPLACE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN
                    IF EXISTS (SELECT FROM planted WHERE job_id = NEW.job_id) THEN
                        RAISE EXCEPTION 'planted';
                    END IF;
                    RETURN NEW;
                END $$
                """,
                """
                CREATE OR REPLACE TRIGGER planted BEFORE INSERT ON runs
                FOR EACH ROW EXECUTE FUNCTION planted()
                """,
            ])
    }

    @Test("A job whose expansion always fails steps aside, is tried again later, and goes on when it can")
    func aside() async throws {
        try await Bench.run { bench in
            let world = bench.world
            try await plant(world)
            let tenant = try await world.tenant(devices: 3)
            let jobs = try await world.submitOverAll(tenant, 3)
            func states() async throws -> [JobState?] {
                var states: [JobState?] = []
                for job in jobs { states.append(try await world.api.job(job, scope: tenant.scope)?.state) }
                return states
            }
            try await world.owner.execute("INSERT INTO planted VALUES (\(jobs[0]))", scope: .none)
            let now = ContinuousClock.now
            #expect(try await bench.reconciler.expandOnce(at: now))
            #expect(try await states() == [.accepted, .active, .accepted])
            #expect(try await bench.reconciler.expandOnce(at: now))
            #expect(try await states() == [.accepted, .active, .active])
            #expect(try await !bench.reconciler.expandOnce(at: now + .seconds(1)), "it fails again")
            try await world.owner.execute("DELETE FROM planted", scope: .none)
            #expect(try await !bench.reconciler.expandOnce(at: now + .seconds(1)), "it has to wait longer")
            #expect(try await bench.reconciler.expandOnce(at: now + .seconds(3)))
            #expect(try await states() == [.active, .active, .active])
            #expect(try await world.count("SELECT count(*) FROM runs") == 9)
            #expect(try await !bench.reconciler.expandOnce(at: now + .seconds(100)))
        }
    }

    @Test("A job that had failed and that another worker is at is no job that came further; a whole one is")
    func passed() async throws {
        try await Bench.run { bench in
            let world = bench.world
            try await plant(world)
            let tenant = try await world.tenant(devices: 3)
            let job = try await world.submitOverAll(tenant, 1)[0]
            try await world.owner.execute("INSERT INTO planted VALUES (\(job))", scope: .none)
            let now = ContinuousClock.now
            #expect(try await !bench.reconciler.expandOnce(at: now))
            try await world.owner.transaction(scope: .none) { transaction in
                try await transaction.execute("SELECT FROM jobs WHERE id = \(job) FOR UPDATE")
                #expect(try await !bench.reconciler.expandOnce(at: now + .seconds(2)))
            }
            #expect(bench.reconciler.setbacks.withLock { $0.jobs } == [job])
            #expect(try await !bench.reconciler.expandOnce(at: now + .seconds(2)), "it waits again")
            try await world.owner.execute("DELETE FROM planted", scope: .none)
            #expect(try await world.worker.expand((tenant.organization, job), chunk: 9) == .whole)
            #expect(try await !bench.reconciler.expandOnce(at: now + .seconds(3)))
            #expect(bench.reconciler.setbacks.withLock { $0.jobs } == [])
        }
    }

    @Test("The wait grows to a minute and no further, and is said to be longer only as long as it grows")
    func growth() {
        var setbacks = Setbacks()
        let job = (organization: OrganizationID.new(at: .now()), id: JobID.new(at: .now()))
        let now = ContinuousClock.now
        for ceiling in [1, 2, 4, 8, 16, 32, 60] {
            let setback = setbacks.note(job, at: now)
            #expect(setback?.isLonger == true)
            let wait = (setback?.until ?? now) - now
            #expect(wait >= .seconds(ceiling) / 2 && wait <= .seconds(ceiling))
        }
        #expect(setbacks.note(job, at: now)?.isLonger == false)
        #expect(setbacks.jobs == [job.id])
        #expect(setbacks.due(at: now + .seconds(29)) == nil)
        #expect(setbacks.due(at: now + .seconds(60))?.id == job.id)
        #expect(setbacks.forget(job.id) == 8)
        #expect(setbacks.jobs.isEmpty && setbacks.forget(job.id) == nil)
    }

    @Test("When a thousand jobs have failed, the next failure is not taken for the job's own")
    func bound() {
        var setbacks = Setbacks()
        let jobs = (0...Setbacks.jobsMax).map { _ in
            (organization: OrganizationID.new(at: .now()), id: JobID.new(at: .now()))
        }
        let now = ContinuousClock.now
        for job in jobs.dropLast() { #expect(setbacks.note(job, at: now) != nil) }
        #expect(setbacks.note(jobs[Setbacks.jobsMax], at: now) == nil)
        #expect(setbacks.note(jobs[0], at: now) != nil, "one that is known is noted again")
    }
}

extension World {
    /// Commits so many jobs over a tenant's organization that are still to be expanded; oldest first.
    func submitOverAll(_ tenant: Tenant, _ count: Int) async throws -> [JobID] {
        let jobs = (0..<count).map { age in
            var job = job(tenant, devices: nil)
            job.id = .new(at: .now() + .seconds(age))
            return job
        }
        _ = try await api.submit(jobs, scope: tenant.scope)
        return jobs.map(\.id)
    }
}
