import Domain
import Ledger
import Postgres
import TestSupport
import Testing
import Trust
import Wire

@testable import Engine

/// Job keys one after the other: what each has signed holds while its key set names it.
@Suite(.serialized, .world) struct KeyRotationTests {
    private let deployment: DeploymentID = fresh()
    private let first = SigningKey()
    private let second = SigningKey()
    private let serverCA: Certificate
    private let deviceCA: CertificateAuthority

    init() throws {
        serverCA = try CertificateAuthority.make(commonName: "s", validitySeconds: 60).certificate
        deviceCA = try CertificateAuthority.make(commonName: "d", validitySeconds: 60)
    }

    private func signer(_ key: SigningKey, beside others: [SigningKey] = []) throws -> Signer {
        try .made(
            deployment: deployment, jobKey: key, serverCA: serverCA, deviceCA: deviceCA,
            others: others.map(\.publicKey))
    }

    private func submitter(_ bench: Bench, _ signer: Signer) -> Submitter {
        Submitter(
            ledger: bench.world.api, signer: signer, judge: World.judge, front: bench.front,
            keys: World.sealing, logger: .quiet)
    }

    private func job(_ tenant: TestSupport.Tenant) -> JobRequest {
        let job = NewJob(
            kind: .script, target: .devices(tenant.all), script: Script(.sh, "true"), timeoutSeconds: 60,
            expiresInSeconds: 600, idempotent: false)
        return JobRequest(job: job, idempotencyKey: nil, requestHash: [])
    }

    @Test("What the key before has signed is repeated under the new one, until it is retired")
    func retry() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let level = Level.organization(tenant.organization)
            let before = submitter(bench, try signer(first))
            let id = try await before.submit([job(tenant)], by: World.principal, level: level)[0].get().id
            try await bench.world.owner.execute(
                """
                WITH gone AS (DELETE FROM runs WHERE job_id = \(id) RETURNING *)
                INSERT INTO run_history (organization_id, id, job_id, device_id, site_id, state, attempt,
                                         token, created_at, dead)
                SELECT organization_id, id, job_id, device_id, site_id, 11, 1, gen_random_uuid(), created_at,
                       false FROM gone
                """, scope: .none)
            let retired = submitter(bench, try signer(second))
            await #expect(throws: EngineError.self) {
                try await retired.retry(id, idempotencyKey: nil, by: World.principal, level: level)
            }
            let after = submitter(bench, try signer(second, beside: [first]))
            let again = try await after.retry(id, idempotencyKey: nil, by: World.principal, level: level)
            let content = try #require(
                try await bench.world.api.contents(of: [(tenant.organization, again.id)])[again.id])
            #expect(
                try SignedStatement(encoded: content.statement).keyID(as: .job) == second.publicKey.id)
        }
    }

    @Test("Assignments are signed anew from what was signed, and open work keeps a key from being retired")
    func retire() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            let (ledger, old) = (bench.world.api, try signer(first))
            let now = Instant.now()
            for device in tenant.all {
                let assignment = old.sign(
                    AssignmentPayload(
                        device: device, keyHash: [UInt8](repeating: 7, count: 32), partner: tenant.partner,
                        site: tenant.sites[0], version: 1),
                    organization: tenant.organization, now: now)
                try await bench.world.owner.execute(
                    """
                    UPDATE devices SET assignment = \(PostgresData(assignment.encoded)),
                           assignment_version = 1
                    WHERE id = \(device)
                    """, scope: .none)
            }
            let altered = tenant.all[tenant.all.count - 1]
            try await bench.world.owner.execute(
                "UPDATE devices SET assignment = '\\x0102'::bytea WHERE id = \(altered)", scope: .none)
            let open = try await submitter(bench, old).submit(
                [job(tenant)], by: World.principal, level: .organization(tenant.organization))[0].get().id

            let new = try signer(second, beside: [first])
            let retirement = KeyRetirement(ledger: ledger, signer: new)
            let (signed, left) = try await retirement.resign()
            #expect(signed == tenant.all.count - 1 && left.filter(tenant.all.contains) == [altered])
            #expect(try await retirement.resign().signed == 0, "once")
            let alone = try signer(second)
            for device in try await ledger.assigned(tenant.all, scope: .platform)
            where device.device != altered {
                let held = try alone.verify(
                    assignment: device.assignment, of: tenant.organization, now: now)
                #expect(held.version == 2 && held.device == device.device && held.site == tenant.sites[0])
                #expect(held.keyHash.bytes == [UInt8](repeating: 7, count: 32))
            }
            #expect(try await retirement.use().openJobs == 1)
            #expect(try await KeyRetirement(ledger: ledger, signer: old).use().openJobs == 0)
            try await bench.world.owner.execute("DELETE FROM runs WHERE job_id = \(open)", scope: .none)
            #expect(try await retirement.use() == .none)
        }
    }

    @Test("A signer takes no key set that its root key did not sign, or that does not name its own keys")
    func sets() throws {
        let root = SigningKey()
        func made(_ key: SigningKey, named: SigningKey, by signedBy: SigningKey) throws -> Signer {
            let statement = Signer.keySet(
                version: 3, jobKeys: [named.publicKey], serverCA: serverCA, deviceCA: deviceCA.certificate,
                deployment: deployment, now: .now())
            return try Signer(
                deployment: deployment, rootKey: root.publicKey, keySet: .sign(statement, with: signedBy),
                jobKey: key, serverCA: serverCA, deviceCA: deviceCA, now: .now())
        }
        #expect(try made(first, named: first, by: root).keySetVersion == 3)
        #expect(throws: TrustError.self) { _ = try made(first, named: first, by: SigningKey()) }
        #expect(throws: EngineError.self) { _ = try made(first, named: second, by: root) }
    }
}
