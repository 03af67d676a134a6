import Domain
import Ledger
import Postgres
import TestSupport
import Testing
import Trust
import Wire

@testable import Engine

/// Which values jobs are signed for, and who is given them.
@Suite(.serialized, .world) struct SecretTests {
    private static let deployment: DeploymentID = fresh()
    private static let jobKey = SigningKey()

    private static func signer() throws -> Signer {
        try .fresh(deployment: deployment, jobKey: jobKey)
    }

    private static func submitter(_ bench: Bench) throws -> Submitter {
        try bench.submitter(deployment: deployment, jobKey: jobKey)
    }

    private static func sealer(_ bench: Bench, revoked: DeviceID? = nil) throws -> SecretSealer {
        SecretSealer(
            ledger: bench.world.api, signer: try signer(), keys: World.sealing, isRevoked: { $0 == revoked },
            logger: .quiet)
    }

    /// Makes a secret, or gives it the next value.
    @discardableResult
    private func put(
        _ name: String, _ value: String, of home: Level, organization: OrganizationID? = nil,
        rotating before: SecretRow? = nil
    ) async throws -> SecretRow {
        let api = try World.here().api
        var row =
            before
            ?? SecretRow(
                id: fresh(), home: home, organization: organization, name: name, description: "",
                createdBy: nil, createdAt: .now())
        if before != nil { (row.secretVersion, row.version) = (row.secretVersion + 1, row.version + 1) }
        let label = SecretLabel.script(
            name, partner: row.partner, organization: row.organization, site: row.site,
            version: row.secretVersion)
        let salted = SaltedSecret(SecretBytes(Array(value.utf8)))
        row.sealed = [try World.sealing.seal(salted.bytes, for: label).bytes] + row.sealed.prefix(1)
        let isKept =
            before == nil
            ? try await api.insert(row, scope: .platform) : try await api.updateSecret(row, scope: .platform)
        #expect(isKept)
        return row
    }

    private func script(_ uses: [(String, String?)]) throws -> Script {
        var script = Script(.sh, "true")
        script.secrets = try uses.map {
            SecretUse(name: try #require(SecretName($0.0)), environment: $0.1)
        }
        return script
    }

    private func submit(
        _ bench: Bench, _ target: Target, _ uses: [(String, String?)] = [("a", "A")], level: Level,
        secrets: Level?
    ) async throws -> Result<JobPayload, EngineError> {
        let job = NewJob(kind: .script, target: target, script: try script(uses))
        let outcome = try await Self.submitter(bench).submit(
            [JobRequest(job: job, idempotencyKey: nil, requestHash: [])], by: World.principal, level: level,
            secrets: { secrets }, under: .none)[0]
        switch outcome {
        case .failure(let error): return .failure(error)
        case .success(let accepted):
            let row = try #require(try await bench.world.api.job(accepted.id, scope: .platform))
            let content = try #require(
                try await bench.world.gateway.contents(of: [(row.organization, row.id)])[row.id])
            #expect(content.hasSecrets)
            let statement = try SignedStatement(encoded: content.statement).verified(
                as: .job, by: [Self.jobKey.publicKey], deployment: Self.deployment.bytes,
                now: Instant.now().seconds, organization: row.organization.bytes)
            return .success(try JobPayload.decode(statement.payload))
        }
    }

    private func error(_ result: Result<JobPayload, EngineError>) -> EngineError? {
        if case .failure(let error) = result { error } else { nil }
    }

    @Test("the nearest secret that the caller may use is signed for: its id, version and hash, no value")
    func nearest() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(sites: 2)
            let (organization, site) = (Level.organization(tenant.organization), tenant.sites[0])
            let first = Target.devices(tenant.devices[0])
            func signed(
                _ target: Target, _ level: Level
            ) async throws -> [SignedSecret] {
                try await submit(bench, target, level: .platform, secrets: level).get().secrets
            }
            let platform = try await put("a", "of the platform", of: .platform)
            let partner = try await put("a", "of the partner", of: .partner(tenant.partner))
            let found = try await signed(first, .platform)
            #expect(found.map(\.id) == [partner.id] && found[0].version == 1 && found[0].site == nil)
            #expect(try found[0].hash.bytes == partner.opened(version: 1, with: World.sealing).hash)
            // Whoever reaches one organization is given nothing of what is above it.
            let refused = error(try await submit(bench, first, level: .platform, secrets: organization))
            #expect(refused?.code == .invalid && refused?.field == "script.secrets[0].name")
            let own = try await put("a", "of the organization", of: organization)
            #expect(try await signed(first, .platform).map(\.id) == [own.id])
            #expect(try await signed(first, organization).map(\.id) == [own.id])
            let ofSite = try await put(
                "a", "of the site", of: .site(site), organization: tenant.organization)
            for level in [Level.platform, .partner(tenant.partner), organization, .site(site)] {
                let found = try await signed(.site(site), level)
                #expect(found.map(\.id) == [ofSite.id] && found[0].site == site, "\(level)")
            }
            #expect(try await signed(.site(tenant.sites[1]), organization).map(\.id) == [own.id])
            // A job for several sites is signed for the values of all of them.
            let both = try await signed(.organization(tenant.organization), organization)
            #expect(both.map(\.id) == [own.id, ofSite.id] && both.map(\.site) == [nil, site])
            #expect(try await signed(.devices(tenant.all), organization) == both)
            for row in [platform, partner, own] {
                #expect(try await bench.world.api.deleteSecret(row.id, version: nil, scope: .platform))
            }
            // Now the second site has none.
            let partly = error(
                try await submit(bench, .devices(tenant.all), level: organization, secrets: organization))
            #expect(partly?.message.contains("every site") == true)
        }
    }

    @Test("without the permission, for another tenant, by another name or with too much, nothing is signed")
    func refusals() async throws {
        try await Bench.run { bench in
            let (tenant, other) = (try await bench.world.tenant(), try await bench.world.tenant())
            let (mine, theirs) = (
                Level.organization(tenant.organization), Level.organization(other.organization)
            )
            try await put("a", "of mine", of: mine)
            try await put("a", "of theirs", of: theirs)
            let target = Target.devices(tenant.all)
            #expect(error(try await submit(bench, target, level: mine, secrets: nil))?.code == .forbidden)
            for level in [theirs, .site(other.sites[0]), .partner(other.partner)] {
                let refused = error(try await submit(bench, target, level: .platform, secrets: level))
                #expect(refused?.code == .invalid && refused?.field == "script.secrets", "\(level)")
            }
            let unknown = error(
                try await submit(bench, target, [("a", "A"), ("b", "B")], level: mine, secrets: mine))
            #expect(unknown?.field == "script.secrets[1].name")
            let value = String(repeating: "x", count: 16_384)
            for name in ["c", "d", "e", "f"] { try await put(name, value, of: mine) }
            let uses = ["c", "d", "e", "f"].map { ($0, $0.uppercased() as String?) }
            let tooMuch = error(try await submit(bench, target, uses, level: mine, secrets: mine))
            #expect(tooMuch?.message.contains("65536") == true)
            #expect(
                error(try await submit(bench, target, Array(uses.dropLast()), level: mine, secrets: mine))
                    == nil)
            // A row that was moved, renamed or put back does not open, and nothing is signed for it.
            for change: SQL in [
                "UPDATE secrets SET name = 'g' WHERE name = 'c'",
                "UPDATE secrets SET secret_version = 2 WHERE name = 'd'",
                """
                UPDATE secrets SET organization_id = \(tenant.organization), name = 'h'
                WHERE organization_id = \(other.organization)
                """,
            ] { try await bench.world.owner.execute(change, scope: .none) }
            for name in ["g", "d", "h"] {
                let refused = error(
                    try await submit(bench, target, [(name, "A")], level: mine, secrets: mine))
                #expect(refused?.code == .alteredRow, "\(name)")
            }
        }
    }

    /// A tenant with two devices that have keys, and a job for the first of them with a secret.
    private struct Scene {
        let tenant: TestSupport.Tenant
        let keys: [P256Key]
        let secret: SecretRow
        let job: JobPayload

        func request(
            device: Int = 0, key: P256Key? = nil, job: JobID? = nil, organization: OrganizationID? = nil
        ) -> SecretRequest {
            SecretRequest(
                organization: organization ?? tenant.organization, run: fresh(), token: fresh(),
                job: job ?? self.job.job, device: tenant.all[device],
                deviceKey: (key ?? keys[device]).publicKey.der)
        }
    }

    private func scene(_ bench: Bench) async throws -> Scene {
        let tenant = try await bench.world.tenant(devices: 2)
        let keys = [P256Key(), P256Key()]
        for (device, key) in zip(tenant.all, keys) {
            let payload = AssignmentPayload(
                device: device, keyHash: key.publicKeyHash, partner: tenant.partner, site: tenant.sites[0],
                version: 1)
            let signed = try Self.signer().sign(payload, organization: tenant.organization, now: .now())
            try await bench.world.owner.execute(
                "UPDATE devices SET assignment = \(PostgresData(signed.encoded)) WHERE id = \(device)",
                scope: .none)
        }
        let level = Level.organization(tenant.organization)
        let secret = try await put("a", "canary of the tenant", of: level)
        let job = try await submit(bench, .devices([tenant.all[0]]), level: level, secrets: level).get()
        return Scene(tenant: tenant, keys: keys, secret: secret, job: job)
    }

    private func answer(
        _ bench: Bench, _ request: SecretRequest, revoked: DeviceID? = nil
    ) async throws -> SecretAnswer? {
        try await bench.world.gateway.request([request])
        _ = try await Self.sealer(bench, revoked: revoked).answerOnce()
        return try await bench.world.gateway.takeAnswers(
            to: [(request.organization, request.run, request.token)])[request.run]
    }

    @Test("a device that was revoked is given nothing, whatever its rows say")
    func revoked() async throws {
        try await Bench.run { bench in
            let scene = try await scene(bench)
            let request = scene.request()
            guard case .refused(let reason)? = try await answer(bench, request, revoked: request.device)
            else {
                Issue.record("a revoked device is given secrets")
                return
            }
            #expect(reason.contains("revoked"))
        }
    }

    @Test("a device of the job is answered with what its key opens, and the answer is gone once it was taken")
    func answers() async throws {
        try await Bench.run { bench in
            let scene = try await scene(bench)
            let request = scene.request()
            guard case .sealed(let sealed)? = try await answer(bench, request) else {
                Issue.record("there is no answer")
                return
            }
            let signed = try #require(scene.job.secrets(at: scene.tenant.sites[0]))
            let parts = signed[0].sealedParts(
                deployment: Self.deployment, organization: scene.tenant.organization, job: scene.job.job,
                device: scene.tenant.all[0])
            let opened = try SaltedSecret(
                opened: DeviceSeal(bytes: sealed[0]).open(with: scene.keys[0], for: parts))
            #expect(opened.secret == SecretBytes(Array("canary of the tenant".utf8)))
            #expect(opened.has(hash: signed[0].hash.bytes) && sealed.count == 1)
            #expect(try await bench.world.count("SELECT count(*) FROM secret_requests") == 0)
            // What nobody takes goes by itself.
            try await bench.world.gateway.request([request])
            #expect(try await bench.world.api.pruneSecretRequests() == 0)
            try await bench.world.owner.execute(
                "UPDATE secret_requests SET requested_at = now() - interval '61 seconds'", scope: .none)
            #expect(try await bench.world.api.pruneSecretRequests() == 1)
        }
    }

    @Test("a job signed before a rotation has its value, and none once it is gone")
    func rotation() async throws {
        try await Bench.run { bench in
            let scene = try await scene(bench)
            let level = Level.organization(scene.tenant.organization)
            let second = try await put("a", "the second value", of: level, rotating: scene.secret)
            guard case .sealed? = try await answer(bench, scene.request()) else {
                Issue.record("the value before is not given")
                return
            }
            let newer = try await submit(
                bench, .devices([scene.tenant.all[0]]), level: level, secrets: level
            ).get()
            #expect(newer.secrets[0].version == 2 && newer.secrets[0].hash != scene.job.secrets[0].hash)
            _ = try await put("a", "the third value", of: level, rotating: second)
            let gone = try await answer(bench, scene.request())
            #expect(gone == .refused("the secret a was rotated twice since; submit the job again"))
            guard case .sealed? = try await answer(bench, scene.request(job: newer.job)) else {
                Issue.record("the second value is not given")
                return
            }
            #expect(try await bench.world.api.deleteSecret(scene.secret.id, version: nil, scope: .platform))
            #expect(
                try await answer(bench, scene.request(job: newer.job))
                    == .refused("the secret a was taken away"))
        }
    }

    @Test("whoever writes requests, devices, jobs or secrets gets no value for a key of his own")
    func thieves() async throws {
        try await Bench.run { bench in
            let scene = try await scene(bench)
            func refused(_ request: SecretRequest, _ says: String) async throws {
                guard case .refused(let reason)? = try await answer(bench, request) else {
                    Issue.record("\(says): answered")
                    return
                }
                #expect(reason.contains(says), "\(reason)")
            }
            func change(_ statement: SQL) async throws {
                try await bench.world.owner.execute(statement, scope: .none)
            }
            try await refused(scene.request(key: P256Key()), "another key")
            try await refused(scene.request(device: 1), "not for this device")
            try await refused(scene.request(job: fresh()), "no such job")
            let other = try await bench.world.tenant()
            try await refused(scene.request(organization: other.organization), "no such job")
            // A device whose row has the thief's key still has the assignment that was signed.
            let thief = P256Key()
            try await change(
                """
                UPDATE devices SET key_hash = \(PostgresData(thief.publicKeyHash))
                WHERE id = \(scene.tenant.all[0])
                """)
            try await refused(scene.request(key: thief), "another key")
            let forged = SignedStatement.sign(
                Statement(
                    type: .assignment, deployment: Self.deployment.bytes,
                    organization: scene.tenant.organization.bytes, issuedAt: Instant.now().seconds,
                    expiresAt: Instant.now().seconds + 600,
                    payload: AssignmentPayload(
                        device: scene.tenant.all[0], keyHash: thief.publicKeyHash,
                        partner: scene.tenant.partner, site: scene.tenant.sites[0], version: 2
                    ).json), with: SigningKey())
            try await change(
                """
                UPDATE devices SET assignment = \(PostgresData(forged.encoded))
                WHERE id = \(scene.tenant.all[0])
                """)
            try await refused(scene.request(key: thief), "does not hold")
            // Another device's assignment, and a list that was lengthened.
            try await change(
                """
                UPDATE devices SET assignment = (SELECT assignment FROM devices
                                                 WHERE id = \(scene.tenant.all[1]))
                WHERE id = \(scene.tenant.all[0])
                """)
            try await refused(scene.request(key: scene.keys[1]), "another one's")
            try await change(
                """
                UPDATE jobs SET target_devices = \(PostgresData(scene.tenant.all.flatMap(\.bytes)))
                WHERE id = \(scene.job.job)
                """)
            try await refused(scene.request(device: 1), "not for this device")
            try await change(
                """
                UPDATE jobs SET statement = overlay(statement PLACING '\\x00'::bytea FROM 200)
                WHERE id = \(scene.job.job)
                """)
            try await refused(scene.request(device: 1), "does not hold")
        }
    }

    @Test("what is repeated is signed for the value of now, by whoever may use it")
    func retry() async throws {
        try await Bench.run { bench in
            let scene = try await scene(bench)
            let level = Level.organization(scene.tenant.organization)
            try await put("a", "the second value", of: level, rotating: scene.secret)
            try await bench.world.owner.pipeline(
                scope: .none,
                [
                    """
                    INSERT INTO run_history (organization_id, id, job_id, device_id, site_id, state, attempt,
                                             created_at)
                    SELECT organization_id, id, job_id, device_id, site_id, 11, 1, created_at FROM runs
                    WHERE job_id = \(scene.job.job)
                    """, "DELETE FROM runs WHERE job_id = \(scene.job.job)",
                    "UPDATE jobs SET state = 10 WHERE id = \(scene.job.job)",
                ])
            let submitter = try Self.submitter(bench)
            let refused = await #expect(throws: EngineError.self) {
                try await submitter.retry(
                    scene.job.job, idempotencyKey: nil, by: World.principal, level: level)
            }
            #expect(refused?.code == .forbidden)
            let again = try await submitter.retry(
                scene.job.job, idempotencyKey: nil, by: World.principal, level: level, secrets: { level },
                under: .none)
            let content = try #require(
                try await bench.world.gateway.contents(of: [(scene.tenant.organization, again.id)])[again.id])
            #expect(content.hasSecrets)
            guard case .sealed? = try await answer(bench, scene.request(job: again.id)) else {
                Issue.record("the repeated job is not given its secret")
                return
            }
        }
    }
}
