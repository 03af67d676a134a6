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
            let tenant = try await bench.world.tenant(devices: 3)
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
            #expect(signed == 2 && left.filter(tenant.all.contains) == [altered])
            #expect(try await retirement.resign().signed == 0, "once")
            let alone = try signer(second)
            for device in try await ledger.assigned(tenant.all, scope: .platform)
            where device.device != altered {
                let held = try alone.verified(device, now: now)
                #expect(held.version == 2 && held.device == device.device && held.site == tenant.sites[0])
                #expect(held.keyHash.bytes == [UInt8](repeating: 7, count: 32))
            }
            #expect(try await retirement.use().openJobs == 1)
            try await bench.world.owner.execute(
                "UPDATE jobs SET total = NULL WHERE id = \(open)", scope: .none)
            try await bench.world.owner.execute("DELETE FROM runs WHERE job_id = \(open)", scope: .none)
            #expect(try await retirement.use().openJobs == 1, "its runs are still to be made")
            try await bench.world.owner.execute(
                "UPDATE jobs SET total = 3 WHERE id = \(open)", scope: .none)
            #expect(try await KeyRetirement(ledger: ledger, signer: old).use().openJobs == 0)
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

    @Test("A key set is published before it is signed by; what stands in the table is judged by the root key")
    func publication() async throws {
        try await Bench.run { bench in
            let ledger = bench.world.api
            let (root, third) = (SigningKey(), SigningKey())
            func signer(_ version: Int, _ key: SigningKey, beside others: [SigningKey] = []) throws -> Signer
            {
                try .made(
                    deployment: deployment, jobKey: key, serverCA: serverCA, deviceCA: deviceCA,
                    rootKey: root, others: others.map(\.publicKey), version: version)
            }
            func publish(_ signer: Signer) async throws -> Signer {
                try await KeySetPublication(ledger: ledger, logger: .quiet).publish(signer, now: .now())
            }
            func put(_ statement: [UInt8], as version: Int) async throws {
                try await bench.world.owner.execute(
                    """
                    INSERT INTO key_sets (version, statement) VALUES (\(version), \(PostgresData(statement)))
                    ON CONFLICT (version) DO UPDATE SET statement = excluded.statement
                    """, scope: .none)
            }
            func drop(_ version: Int) async throws {
                try await bench.world.owner.execute(
                    "DELETE FROM key_sets WHERE version = \(version)", scope: .none)
            }
            let one = try signer(1, first)
            #expect(try await publish(one).keySet == one.keySet)
            #expect(try await ledger.newestKeySet()?.statement == one.keySet.encoded)
            #expect(try await publish(one).keySet == one.keySet, "again, as at each start")
            // A host with the directory of before takes the newer set over, and signs with its own key.
            let two = try signer(2, second, beside: [first])
            #expect(try await publish(two).keySetVersion == 2)
            let behind = try await publish(one)
            #expect(behind.keySetVersion == 2 && behind.jobKey == first.publicKey)
            // Once its key is retired it does not start.
            let three = try signer(3, second)
            _ = try await publish(three)
            await #expect(throws: EngineError.self) { _ = try await publish(one) }
            // The retired key does not come back by an older set under a higher number, nor by nonsense.
            for row in [two.keySet.encoded, [1, 2, 3], try self.signer(second).keySet.encoded] {
                try await put(row, as: 9)
                let held = try await publish(three)
                #expect(held.keySetVersion == 3 && held.jobKeys == [second.publicKey])
            }
            try await drop(9)
            // What stands there in place of one's own set is not overlooked: agents would get it.
            let four = try signer(4, third, beside: [second])
            for row in [[7], two.keySet.encoded, three.keySet.encoded] {
                try await put(row, as: 4)
                await #expect(throws: EngineError.self) { _ = try await publish(four) }
            }
            try await drop(4)
            #expect(try await publish(four).keySetVersion == 4)
        }
    }
}
