import Domain
import Ledger
import Postgres
import Streams
import TestSupport
import Testing
import Trust
import Wire

@testable import Engine

@Suite(.serialized, .world) struct SubmitterTests {
    /// A submitter with keys of its own.
    private static func submitter(_ bench: Bench, jobKey: SigningKey = SigningKey()) throws -> Submitter {
        try bench.submitter(deployment: deployment, jobKey: jobKey)
    }

    private static let deployment: DeploymentID = fresh()

    @Test("What may start later and be tried again is signed as it is committed")
    func signed() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let key = SigningKey()
            let notBefore = Instant(seconds: Instant.now().seconds + 7_200)
            var job = NewJob(kind: .ping, target: .devices(tenant.all), expiresInSeconds: 600)
            (job.notBefore, job.retry) = (notBefore, Retry(maximumAttempts: 4, on: [.timedOut]))
            let accepted = try await Self.submitter(bench, jobKey: key).submit(
                [JobRequest(job: job, idempotencyKey: nil, requestHash: [])], by: World.principal,
                level: .organization(tenant.organization))[0].get()
            let content = try #require(
                try await bench.world.gateway.contents(of: [(tenant.organization, accepted.id)])[accepted.id])
            let statement = try SignedStatement(encoded: content.statement).verified(
                as: .job, by: [key.publicKey], deployment: Self.deployment.bytes, now: Instant.now().seconds,
                organization: tenant.organization.bytes)
            #expect(statement.expiresAt == notBefore.seconds + 600, "the expiry counts from then on")
            let payload = try JobPayload.decode(statement.payload)
            #expect(payload.notBefore == notBefore && payload.maximumAttempts == 4)
            let row = try #require(try await bench.world.api.job(accepted.id, scope: tenant.scope))
            #expect(row.notBefore == notBefore && row.expiresAt == notBefore + .seconds(600))
            #expect(row.retry == job.retry?.policy(idempotent: false) && row.counts == [.scheduled: 1])
        }
    }

    @Test(
        "A time that is past or too far ahead is refused by field, value and limit; just inside it is taken")
    func times() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let submitter = try Self.submitter(bench)
            func submit(_ time: Instant, key: String? = nil) async throws -> Result<AcceptedJob, EngineError>
            {
                var job = NewJob(kind: .ping, target: .devices(tenant.all))
                job.notBefore = time
                return try await submitter.submit(
                    [JobRequest(job: job, idempotencyKey: key, requestHash: [1])], by: World.principal,
                    level: .organization(tenant.organization))[0]
            }
            let limit = Duration.seconds(Limits.notBeforeSecondsMax)
            for (time, says) in [
                (Instant.now() + .seconds(-1), "past"), (.now() + limit + .seconds(60), "7776000"),
            ] {
                guard case .failure(let error) = try await submit(time) else {
                    Issue.record("\(time) was taken")
                    continue
                }
                #expect(error.code == .invalid && error.field == "notBefore")
                #expect(error.message.contains(says) && error.message.contains(time.description))
            }
            _ = try await submit(.now() + limit + .seconds(-60)).get()
            // Asked again when its time has come: the same answer, not a refusal.
            let first = try await submit(.now() + .seconds(60), key: "k").get()
            #expect(try await submit(.now() + .seconds(-1), key: "k").get().id == first.id)
            let other = try await submit(.now() + .seconds(-1), key: "other")
            #expect(throws: EngineError.self) { try other.get() }
        }
    }

    @Test("A submission whose second part fails keeps what the first has committed, and it is in the queue")
    func parts() async throws {
        try await Bench.run { bench in
            let world = bench.world
            let tenant = try await world.tenant(devices: 1_500)
            _ = try await Post.open(bench, holding: tenant.all)
            let submitter = try Self.submitter(bench)
            let requests = ["first", "second"].map { key in
                JobRequest(
                    job: NewJob(kind: .script, target: .devices(tenant.all), script: Script(.sh, "true")),
                    idempotencyKey: key, requestHash: [])
            }
            func submit() async throws -> [Result<AcceptedJob, EngineError>] {
                try await submitter.submit(
                    requests, by: World.principal, level: .organization(tenant.organization))
            }
            try await world.owner.execute(
                "ALTER TABLE jobs ADD CONSTRAINT no CHECK (idempotency_key <> 'second')", scope: .none)
            let outcomes = try await submit()
            let first = try outcomes[0].get()
            #expect(throws: EngineError.self) { try outcomes[1].get() }
            #expect(try await world.api.job(first.id, scope: tenant.scope)?.counts == [.queued: 1_500])
            #expect(try await bench.depth(tenant).ready.isEmpty == false)
            try await world.owner.execute("ALTER TABLE jobs DROP CONSTRAINT no", scope: .none)
            // Who asks again with the keys runs nothing twice.
            #expect(try await submit().map { try $0.get().id }[0] == first.id)
            #expect(try await world.count("SELECT count(*) FROM runs") == 3_000)
        }
    }
}
