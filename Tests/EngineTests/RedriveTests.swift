import Domain
import Ledger
import Postgres
import Streams
import TestSupport
import Testing
import Trust
import Wire

@testable import Engine

/// Work that is done again: dead letters and the failed runs of a job.
@Suite(.serialized, .world) struct RedriveTests {
    private let key = SigningKey()
    private let deployment: DeploymentID = fresh()

    private func submitter(_ bench: Bench) throws -> Submitter {
        try bench.submitter(deployment: deployment, jobKey: key)
    }

    /// A job over a tenant's devices whose runs have ended like this, each after its only attempt but one.
    private func ended(
        _ bench: Bench, _ tenant: TestSupport.Tenant, _ outcomes: [Outcome], attempts: Int = 2,
        idempotent: Bool = false
    ) async throws -> (job: JobID, runs: [RunID]) {
        var job = NewJob(
            kind: .script, target: .devices(tenant.all), script: Script(.sh, "echo again"),
            timeoutSeconds: 77, expiresInSeconds: 600, idempotent: idempotent)
        job.retry = attempts > 1 ? Retry(maximumAttempts: attempts, backoffSeconds: 1) : nil
        let id = try await submitter(bench).submit(
            [JobRequest(job: job, idempotencyKey: nil, requestHash: [])], by: World.principal,
            level: .organization(tenant.organization))[0].get().id
        // Straight to its last attempt.
        try await bench.world.owner.execute(
            "UPDATE runs SET maximum_attempts = 1 WHERE job_id = \(id)", scope: .none)
        let runs = try await bench.world.api.runs(of: id, after: nil, limit: 500, scope: tenant.scope)
        for (run, outcome) in zip(runs, outcomes) {
            try await bench.world.owner.execute(
                """
                WITH gone AS (DELETE FROM runs WHERE id = \(run.id) RETURNING *)
                INSERT INTO run_history (organization_id, id, job_id, device_id, site_id, state, attempt,
                                         token, created_at, dead)
                SELECT organization_id, id, job_id, device_id, site_id, \(outcome), 1, gen_random_uuid(),
                       created_at, \(attempts > 1) AND \(outcome) IN (11, 12, 15)
                FROM gone
                """, scope: .none)
        }
        return (id, runs.map(\.id))
    }

    private func refusal(
        _ body: () async throws -> some Any, says: String? = nil
    ) async -> EngineError? {
        do {
            _ = try await body()
            return nil
        } catch {
            let error = error as? EngineError
            if let says { #expect(error?.message.contains(says) == true, "\(String(describing: error))") }
            return error
        }
    }

    @Test("Dead letters are repeated by a newly signed job with the same content, and are none any more")
    func redrive() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 3)
            let submitter = try submitter(bench)
            let (job, runs) = try await ended(bench, tenant, [.failed, .succeeded, .timedOut])
            let selection = DeadLetterSelection(jobId: job)
            let letters = try await submitter.letters(selection, scope: tenant.scope)
            #expect(Set(letters.map(\.run.id)) == [runs[0], runs[2]])
            let outcomes = try await submitter.redrive(
                letters, by: World.principal, level: .organization(tenant.organization))
            #expect(outcomes.map(\.retryOf) == [job] && outcomes.map(\.runs) == [2])
            let new = try outcomes[0].outcome.get().id
            let row = try #require(try await bench.world.api.job(new, scope: tenant.scope))
            #expect(row.retryOf == job && row.counts == [.waiting: 2])
            #expect(row.expiresAt - row.createdAt > .seconds(590) && row.retry.maximumAttempts == 2)
            let content = try #require(
                try await bench.world.gateway.contents(of: [(tenant.organization, new)])[new])
            let statement = try SignedStatement(encoded: content.statement).verified(
                as: .job, by: [key.publicKey], deployment: deployment.bytes, now: Instant.now().seconds,
                organization: tenant.organization.bytes)
            let payload = try JobPayload.decode(statement.payload)
            #expect(payload.job == new && payload.script == Script(.sh, "echo again"))
            #expect(payload.timeoutSeconds == 77)
            // What was fetched before is not repeated once more, and a selection does not find it.
            let again = try await submitter.redrive(
                letters, by: World.principal, level: .organization(tenant.organization))
            guard case .failure(let error) = again[0].outcome else {
                Issue.record("redriven twice")
                return
            }
            #expect(error.code == .conflict)
            #expect(try await bench.world.count("SELECT count(*) FROM jobs") == 2)
            let none = await refusal({ try await submitter.letters(selection, scope: tenant.scope) })
            #expect(none?.code == .invalid)
            let named = await refusal(
                {
                    try await submitter.letters(
                        DeadLetterSelection(runIds: [runs[0]]), scope: tenant.scope)
                }, says: "failed")
            #expect(named?.code == .conflict && named?.field == "runIds[0]")
        }
    }

    @Test("A living run is refused by name, and another tenant's as if there were none")
    func refused() async throws {
        try await Bench.run { bench in
            let (tenant, other) = (
                try await bench.world.tenant(devices: 2), try await bench.world.tenant()
            )
            let submitter = try submitter(bench)
            let (job, runs) = try await ended(bench, tenant, [.failed])
            let living = await refusal(
                {
                    try await submitter.letters(
                        DeadLetterSelection(runIds: runs), scope: tenant.scope)
                }, says: "waiting")
            #expect(living?.code == .conflict && living?.field == "runIds[1]")
            let foreign = await refusal({
                try await submitter.letters(DeadLetterSelection(runIds: [runs[0]]), scope: other.scope)
            })
            #expect(foreign?.code == .invalid && foreign?.field == "runIds[0]")
            for selection in [
                DeadLetterSelection(jobId: job), DeadLetterSelection(organizationId: tenant.organization),
                DeadLetterSelection(reason: "attempts"),
            ] {
                #expect(
                    await refusal({ try await submitter.letters(selection, scope: other.scope) })?.code
                        == .invalid)
                #expect(try await submitter.letters(selection, scope: tenant.scope).count == 1)
            }
            #expect(
                await refusal({
                    try await submitter.letters(DeadLetterSelection(reason: "poison"), scope: tenant.scope)
                })?.code == .invalid)
            let letters = try await submitter.letters(DeadLetterSelection(jobId: job), scope: tenant.scope)
            #expect(try await submitter.discard(letters, scope: other.scope) == 0)
            let theirs = try await submitter.redrive(
                letters, by: World.principal, level: .organization(other.organization))
            #expect(throws: EngineError.self) { try theirs[0].outcome.get() }
            #expect(try await bench.world.count("SELECT count(*) FROM jobs") == 1)
            #expect(
                await refusal({
                    try await submitter.retry(
                        job, idempotencyKey: nil, by: World.principal,
                        level: .organization(other.organization))
                })?.code == .notFound)
            #expect(try await submitter.discard(letters, scope: tenant.scope) == 1)
            #expect(try await submitter.discard(letters, scope: tenant.scope) == 0)
        }
    }

    @Test("Many dead letters need their exact number, but for a dry run; a wrong number is refused always")
    func many() async throws {
        try await Bench.run { bench in
            let count = Limits.deadLettersUnsaidMax + 1
            let tenant = try await bench.world.tenant(devices: count)
            let submitter = try submitter(bench)
            let (job, runs) = try await ended(
                bench, tenant, [Outcome](repeating: .failed, count: count))
            func letters(_ expected: Int?, dryRun: Bool = false) async throws -> Int {
                try await submitter.letters(
                    DeadLetterSelection(jobId: job, dryRun: dryRun, expectedCount: expected),
                    scope: tenant.scope
                ).count
            }
            let unsaid = await refusal({ try await letters(nil) }, says: "\(count)")
            #expect(unsaid?.code == .invalid && unsaid?.field == "expectedCount")
            #expect(await refusal({ try await letters(count - 1) }, says: "\(count)")?.code == .conflict)
            #expect(try await letters(nil, dryRun: true) == count)
            #expect(try await letters(count) == count)
            _ = try await bench.world.api.discard([runs[0]], scope: tenant.scope)
            #expect(try await letters(nil) == count - 1, "just as many as need not be said")
        }
    }

    @Test("What stands in the database instead of what was signed is not signed again")
    func altered() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let submitter = try submitter(bench)
            let (job, _) = try await ended(bench, tenant, [.failed])
            let (other, _) = try await ended(bench, tenant, [.failed])
            let letters = try await submitter.letters(DeadLetterSelection(jobId: job), scope: tenant.scope)
            for altering in [
                "UPDATE jobs SET statement = (SELECT statement FROM jobs WHERE id = \(other))" as SQL,
                "UPDATE jobs SET statement = set_byte(statement, 100, get_byte(statement, 100) # 1)",
                "UPDATE jobs SET statement = ''",
            ] {
                try await bench.world.owner.execute(
                    "\(fragment: altering) WHERE id = \(job)", scope: .none)
                let outcomes = try await submitter.redrive(
                    letters, by: World.principal, level: .organization(tenant.organization))
                guard case .failure(let error) = outcomes[0].outcome else {
                    Issue.record("signed again")
                    continue
                }
                #expect(error.code == .alteredRow)
            }
            #expect(try await bench.world.count("SELECT count(*) FROM jobs") == 2)
            #expect(
                try await submitter.letters(DeadLetterSelection(jobId: job), scope: tenant.scope).count == 1)
        }
    }

    @Test("A job's failed, timed out and expired runs are repeated; what is unknown only if that is harmless")
    func job() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 6)
            let submitter = try submitter(bench)
            let outcomes: [Outcome] = [.failed, .succeeded, .timedOut, .expired, .unknown, .cancelled]
            for idempotent in [false, true] {
                let (job, _) = try await ended(
                    bench, tenant, outcomes, attempts: idempotent ? 2 : 1, idempotent: idempotent)
                let new = try await submitter.retry(
                    job, idempotencyKey: "again \(idempotent)", by: World.principal,
                    level: .organization(tenant.organization))
                let row = try #require(try await bench.world.api.job(new.id, scope: tenant.scope))
                #expect(row.counts == [.waiting: idempotent ? 4 : 3] && row.retryOf == job)
                let letters = try await bench.world.api.deadLetters(
                    DeadLetterFilter(), limit: 10, scope: tenant.scope)
                #expect(letters.isEmpty, "they are dealt with")
            }
            let (good, _) = try await ended(
                bench, tenant, [Outcome](repeating: .succeeded, count: 6), attempts: 1)
            #expect(
                await refusal({
                    try await submitter.retry(
                        good, idempotencyKey: nil, by: World.principal,
                        level: .organization(tenant.organization))
                })?.code == .conflict)
        }
    }

    @Test("What is repeated is guarded as what is new: nothing is made without the exact number, or a second")
    func guarded() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 3)
            let (submitter, level) = (try submitter(bench), Level.organization(tenant.organization))
            let (job, _) = try await ended(bench, tenant, [.failed, .failed, .timedOut])
            let letters = try await submitter.letters(DeadLetterSelection(jobId: job), scope: tenant.scope)
            func under(
                _ word: SubmissionGuard.Word, _ confirm: Int, _ approve: Int? = nil
            ) -> SubmissionGuard {
                SubmissionGuard(word, field: "confirmDevices") { organizations in
                    #expect(organizations == [tenant.organization])
                    return GuardRules(
                        confirmAbove: confirm, approveAbove: approve, stepUpPermissions: [],
                        stepUpSeconds: 60)
                }
            }
            let refused: [(SubmissionGuard, EngineError.Code)] = [
                (under(.none, 2), .confirmationRequired), (under(.confirmed(2), 2), .confirmationRequired),
                (under(.confirmed(4), 2), .confirmationRequired),
                (under(.confirmed(3), 2, 2), .approvalRequired), (under(.none, 9, 2), .approvalRequired),
            ]
            for (guarded, code) in refused {
                let retry = await refusal({
                    try await submitter.retry(
                        job, idempotencyKey: nil, by: World.principal, level: level, secrets: { nil },
                        under: guarded)
                })
                let redrive = await refusal({
                    try await submitter.redrive(
                        letters, by: World.principal, level: level, secrets: { nil }, under: guarded)
                })
                #expect(retry?.code == code && retry?.reach?.devices == 3)
                #expect(redrive?.code == code && redrive?.reach?.devices == 3)
            }
            #expect(try await bench.world.count("SELECT count(*) FROM jobs") == 1)
            _ = try await submitter.retry(
                job, idempotencyKey: nil, by: World.principal, level: level, secrets: { nil },
                under: under(.none, 3, 3))
            _ = try await submitter.retry(
                job, idempotencyKey: nil, by: World.principal, level: level, secrets: { nil },
                under: under(.confirmed(3), 2))
            _ = try await submitter.retry(
                job, idempotencyKey: nil, by: World.principal, level: level, secrets: { nil },
                under: under(.approved(3), 0, 0))
        }
    }
}
