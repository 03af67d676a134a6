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
    @Test("A submission whose second part fails keeps what the first has committed, and it is in the queue")
    func parts() async throws {
        try await Bench.run { bench in
            let world = bench.world
            let tenant = try await world.tenant(devices: 1_500)
            let signer = Signer(
                deployment: fresh(), rootKey: SigningKey(), jobKey: SigningKey(), keySetVersion: 1,
                serverCA: try CertificateAuthority.make(commonName: "s", validitySeconds: 60).certificate,
                deviceCA: try CertificateAuthority.make(commonName: "d", validitySeconds: 60), now: .now())
            let submitter = Submitter(
                ledger: world.api, signer: signer, judge: World.judge, front: bench.front, logger: .quiet)
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
