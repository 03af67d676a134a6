import Domain
import Postgres
import Synchronization
import TestSupport
import Testing

@testable import Ledger

/// What each kind of scope sees and touches, through each call and each login.
@Suite(.serialized, .world) struct IsolationTests {
    /// Two organizations of one partner and one of another; the first has two sites, each with a device, an
    /// open and a settled run.
    struct Scene: Sendable {
        let mine: Tenant
        let sister: Tenant
        let stranger: Tenant
        /// By site of `mine`, then `sister`, then `stranger`.
        let places: [Place]
    }

    /// A site with its device and its jobs.
    struct Place: Sendable {
        let tenant: Tenant
        let site: SiteID
        let device: DeviceID
        let settledJob: JobID
        let settledRun: RunID
        let openJob: JobID
        let openRun: RunID
        let attempt: MarkedRun
        let key: APIKeyID
    }

    private static func scene() async throws -> Scene {
        let world = try World.here()
        let mine = try await world.tenant(sites: 2)
        let sister = try await world.tenant(of: mine.partner)
        let stranger = try await world.tenant()
        var places: [Place] = []
        for tenant in [mine, sister, stranger] {
            for (index, site) in tenant.sites.enumerated() {
                let device = tenant.devices[index][0]
                let jobs = [0, 1].map { _ in world.job(tenant, devices: [device], site: site) }
                let runs = try await world.api.submit(jobs, scope: tenant.scope).queued
                let sent = try await world.send(runs)
                let ofJob = try await world.api.runs(
                    of: jobs[0].id, after: nil, limit: 1, scope: tenant.scope)
                let (done, open) = sent[0].run == ofJob[0].id ? (sent[0], sent[1]) : (sent[1], sent[0])
                _ = try await world.gateway.settle([AttemptResult(done)])
                let key: APIKeyID = fresh()
                try await world.owner.execute(
                    """
                    INSERT INTO api_keys (id, site_id, name, key_hash, permissions, expires_at, mac_key, mac)
                    VALUES (\(key), \(site), 'key', sha256(\(PostgresData(key.bytes))), '{}', now(), '', '')
                    """, scope: .none)
                places.append(
                    Place(
                        tenant: tenant, site: site, device: device, settledJob: jobs[0].id,
                        settledRun: done.run, openJob: jobs[1].id, openRun: open.run, attempt: open, key: key)
                )
            }
        }
        return Scene(mine: mine, sister: sister, stranger: stranger, places: places)
    }

    /// A kind of scope, and which of the scene's four places it sees.
    struct Case: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let scope: @Sendable (Scene) -> Scope
        let sees: [Int]
    }

    private static let cases = [
        Case(testDescription: "platform", scope: { _ in .platform }, sees: [0, 1, 2, 3]),
        Case(testDescription: "partner", scope: { .partner($0.mine.partner) }, sees: [0, 1, 2]),
        Case(testDescription: "organization", scope: { $0.mine.scope }, sees: [0, 1]),
        Case(
            testDescription: "organizations",
            scope: { .organizations([$0.mine.organization, $0.stranger.organization]) }, sees: [0, 1, 3]),
        Case(testDescription: "site", scope: { .site($0.mine.sites[1]) }, sees: [1]),
        Case(testDescription: "none", scope: { _ in .none }, sees: []),
        Case(testDescription: "no organizations", scope: { _ in .organizations([]) }, sees: []),
        Case(
            testDescription: "an organization as a partner",
            scope: { .partner(ID($0.mine.organization.value)) }, sees: []),
        Case(
            testDescription: "a partner as an organization",
            scope: { .organization(ID($0.mine.partner.value)) }, sees: []),
        Case(
            testDescription: "an organization as a site", scope: { .site(ID($0.mine.organization.value)) },
            sees: []),
    ]

    @Test("A scope sees exactly its rows, by every read", arguments: cases)
    func reads(kind: Case) async throws {
        let (world, scene) = (try World.here(), try await Self.sharedScene())
        let (api, scope) = (world.api, kind.scope(scene))
        let page = PageRequest(after: nil, limit: 500)
        for (index, place) in scene.places.enumerated() {
            let sees = kind.sees.contains(index)
            let organization = place.tenant.organization
            #expect(try await (api.device(place.device, scope: scope) != nil) == sees)
            #expect(try await (api.site(place.site, scope: scope) != nil) == sees)
            #expect(try await (api.siteRow(place.site, scope: scope) != nil) == sees)
            #expect(try await (api.job(place.openJob, scope: scope) != nil) == sees)
            #expect(try await (api.run(place.openRun, scope: scope) != nil) == sees)
            #expect(try await (api.run(place.settledRun, scope: scope) != nil) == sees)
            #expect(try await (api.output(of: place.settledRun, scope: scope) != nil) == sees)
            #expect(
                try await api.runs(of: place.settledJob, after: nil, limit: 9, scope: scope).count
                    == (sees ? 1 : 0))
            #expect(try await (api.places(of: [place.device], scope: scope)[place.device] != nil) == sees)
            #expect(
                try await api.devices(
                    DeviceFilter(organization: organization, site: place.site), page, scope: scope
                )
                .map(\.id) == (sees ? [place.device] : []))
            #expect(
                try await api.deviceCount(
                    organization: organization, site: place.site, atMost: 5, scope: scope)
                    == (sees ? 1 : 0))
        }
        let devices = Set(try await api.devices(DeviceFilter(), page, scope: scope).map(\.id))
        let jobs = try await api.jobs(organization: nil, before: nil, limit: 500, scope: scope).map(\.id)
        let sites = try await api.sites(page, scope: scope).map(\.id)
        let all = Set(scene.places.map(\.device))
        let seen = kind.sees.map { scene.places[$0] }
        #expect(devices.intersection(all) == Set(seen.map(\.device)))
        #expect(Set(jobs).isSuperset(of: seen.flatMap { [$0.openJob, $0.settledJob] }))
        #expect(Set(sites).isSuperset(of: seen.map(\.site.value)))
        if scope != .platform {
            #expect(devices.count == seen.count && jobs.count == 2 * seen.count && sites.count == seen.count)
        }
    }

    @Test("Organizations and partners are seen whole or not at all", arguments: cases)
    func tenants(kind: Case) async throws {
        let (world, scene) = (try World.here(), try await Self.sharedScene())
        let (api, scope) = (world.api, kind.scope(scene))
        let wholes: [String: Set<OrganizationID>] = [
            "platform": [scene.mine.organization, scene.sister.organization, scene.stranger.organization],
            "partner": [scene.mine.organization, scene.sister.organization],
            "organization": [scene.mine.organization],
            "organizations": [scene.mine.organization, scene.stranger.organization],
        ]
        for tenant in [scene.mine, scene.sister, scene.stranger] {
            let sees = wholes[kind.testDescription]?.contains(tenant.organization) ?? false
            #expect(try await !api.edges(of: tenant.organization, scope: scope).isEmpty == sees)
            #expect(try await (api.organization(tenant.organization, scope: scope) != nil) == sees)
            let depths = try await api.queueDepths(after: nil, limit: 1_000, scope: scope)
            #expect(depths.contains { $0.queue.organization == tenant.organization } == sees)
            let partner = try await api.partner(tenant.partner, scope: scope)
            let ownPartner = kind.testDescription == "partner" && tenant.partner == scene.mine.partner
            #expect((partner != nil) == (kind.testDescription == "platform" || ownPartner))
        }
    }

    @Test("A scope touches no row that it does not see, by every write", arguments: cases)
    func writes(kind: Case) async throws {
        let (world, scene) = (try World.here(), try await Self.scene())
        let (api, scope) = (world.api, kind.scope(scene))
        for (index, place) in scene.places.enumerated() where !kind.sees.contains(index) {
            #expect(try await api.requestCancel(place.openJob, scope: scope) == nil)
            _ = try await world.api.requestCancel(place.openJob, scope: place.tenant.scope)
            let cancelled = try await api.cancelRuns(of: place.openJob, organization: nil, scope: scope)
            #expect(cancelled.ended.isEmpty && cancelled.sent.isEmpty)
            #expect(try await !api.revokeAPIKey(place.key, scope: scope))
            await refused {
                _ = try await api.createSite(
                    fresh(), organization: place.tenant.organization, name: "x", mac: World.mac, scope: scope)
            }
            await refused {
                _ = try await api.submit([world.job(place.tenant, devices: [place.device])], scope: scope)
            }
            await refused {
                try await api.createEnrollmentToken(
                    fresh(),
                    site: SitePlace(
                        site: place.site, organization: place.tenant.organization, partner: nil,
                        edges: []),
                    hash: [UInt8](repeating: 0, count: 32), expiresInSeconds: 60, usesMax: 1,
                    by: World.principal, scope: scope)
            }
            await refused {
                try await api.insert(key(site: place.site), scope: scope)
            }
            let row = try await world.owner.query(
                "SELECT state, cancel_requested_at IS NULL FROM runs WHERE id = \(place.openRun)",
                scope: .none
            ) { try $0.decode((RunState, Bool).self) }
            #expect(row.first?.0 == .dispatched && row.first?.1 == true)
        }
        // A key is revoked at its own level, or by the platform.
        for index in kind.sees where ["platform", "site"].contains(kind.testDescription) {
            #expect(try await api.revokeAPIKey(scene.places[index].key, scope: scope))
        }
    }

    @Test("Only the platform makes partners, and only who sees a partner makes its organizations")
    func makingTenants() async throws {
        let (world, scene) = (try World.here(), try await Self.sharedScene())
        for kind in Self.cases where kind.testDescription != "platform" {
            let scope = kind.scope(scene)
            await refused {
                _ = try await world.api.createPartner(fresh(), name: "x", mac: World.mac, scope: scope)
            }
            let isPartner = kind.testDescription == "partner"
            if isPartner {
                let made = try await world.api.createOrganization(
                    fresh(), partner: scene.mine.partner, name: "x", mac: World.mac, scope: scope)
                #expect(made.partner == scene.mine.partner)
            } else {
                await refused {
                    _ = try await world.api.createOrganization(
                        fresh(), partner: scene.mine.partner, name: "x", mac: World.mac, scope: scope)
                }
            }
            await refused {
                _ = try await world.api.createOrganization(
                    fresh(), partner: scene.stranger.partner, name: "x", mac: World.mac, scope: scope)
            }
        }
    }

    @Test("Only the platform makes a key of the platform", arguments: cases)
    func platformKeys(kind: Case) async throws {
        let (world, scene) = (try World.here(), try await Self.sharedScene())
        guard kind.testDescription != "platform" else {
            try await world.api.insert(key(site: nil), scope: .platform)
            return
        }
        await refused { try await world.api.insert(key(site: nil), scope: kind.scope(scene)) }
    }

    @Test(
        "A scope that is no scope sees nothing of any table",
        arguments: [
            "", " ", "platform ", "Platform", "platform;", "partner", "partner:", "partner:x",
            "partner:------------------------------------", "organizations:", "organizations:{",
            "organizations:{,}",
            "organizations:{NULL}", "organizations:platform", "organizations:{}}", "organizations:{*}",
            "site:",
            "site:00000000-0000-0000-0000-00000000000g", "organization:%",
            "site:ffffffffffffffffffffffffffffffffffff",
            "organizations:{00000000-0000-0000-0000-000000000000,}", "true", "{}", "platform,partner:",
        ])
    func garbage(setting: String) async throws {
        let world = try World.here()
        _ = try await Self.sharedScene()
        let tables: [SQL] = [
            "partners", "organizations", "sites", "devices", "certificates", "enrollment_tokens", "api_keys",
            "jobs", "runs", "run_history", "run_output", "attempts", "job_deltas",
        ]
        for (name, pool) in world.logins {
            for table in tables {
                do {
                    let count = try await pool.query(
                        "SELECT count(*) FROM \(fragment: table)", scope: Scope(setting: setting)
                    ) { try $0.decode(Int.self) }
                    #expect(count == [0], "\(name) sees rows of \(table.text) under “\(setting)”")
                } catch let error as PostgresError {
                    // No grant on the table, or a text that is no list of ids: no row either way.
                    #expect(["42501", "22P02"].contains(error.sqlState), "\(error)")
                }
            }
        }
    }

    /// The scene of the tests that change nothing in it.
    private static func sharedScene() async throws -> Scene {
        if let scene = shared.withLock({ $0 }) { return scene }
        let scene = try await scene()
        shared.withLock { $0 = scene }
        return scene
    }

    private static let shared = Mutex<Scene?>(nil)

    @Test("Each service may do its own work and nothing more")
    func grants() async throws {
        let world = try World.here()
        let refusals: [String: [SQL]] = [
            "crmm_api": [
                "DELETE FROM jobs", "DELETE FROM devices", "UPDATE run_history SET state = 10",
                "UPDATE run_output SET attempt = 1", "INSERT INTO run_output SELECT * FROM run_output",
                "UPDATE queue_partitions SET epoch = ''", "INSERT INTO gateways VALUES (gen_random_uuid())",
                "DELETE FROM organizations", "DELETE FROM job_deltas", "SELECT * FROM run_history_default",
                "UPDATE partners SET mac = ''", "UPDATE sites SET organization_id = gen_random_uuid()",
                "DELETE FROM partners", "DELETE FROM users", "UPDATE revocations SET below = 0",
                "DELETE FROM revocations", "DELETE FROM audit_entries",
                "UPDATE audit_entries SET before = ''", "UPDATE audit_checkpoints SET position = 9",
                "INSERT INTO audit_entries SELECT * FROM audit_entries",
                "SELECT crmm_write_audit(NULL, NULL, 'x', NULL, 0::smallint, NULL, NULL)",
                "UPDATE deployment SET id = gen_random_uuid()",
                "UPDATE jobs SET statement = ''", "UPDATE runs SET state = 3", "UPDATE runs SET token = NULL",
            ],
            "crmm_worker": [
                "SELECT * FROM api_keys", "SELECT * FROM enrollment_tokens", "SELECT * FROM certificates",
                "SELECT * FROM run_output", "INSERT INTO jobs SELECT * FROM jobs",
                "UPDATE jobs SET statement = ''",
                "UPDATE devices SET key_hash = ''", "UPDATE organizations SET weight = 2",
                "UPDATE run_history SET state = 10", "UPDATE jobs SET target_devices = NULL",
                "UPDATE runs SET device_id = gen_random_uuid()", "UPDATE runs SET sent_at = NULL",
            ],
            "crmm_gateway": [
                "SELECT * FROM api_keys", "SELECT * FROM enrollment_tokens", "SELECT * FROM run_output",
                "INSERT INTO runs SELECT * FROM runs", "INSERT INTO jobs SELECT * FROM jobs",
                "UPDATE jobs SET statement = ''", "UPDATE devices SET key_hash = ''",
                "UPDATE devices SET assignment = ''", "UPDATE devices SET site_id = gen_random_uuid()",
                "UPDATE certificates SET revoked_at = NULL", "UPDATE queue_partitions SET epoch = ''",
                "UPDATE run_history SET device_id = gen_random_uuid()", "DELETE FROM run_history",
                "DELETE FROM job_deltas", "SELECT * FROM run_states",
                "UPDATE runs SET device_id = gen_random_uuid()", "UPDATE runs SET token = gen_random_uuid()",
                "UPDATE runs SET expires_at = now()", "UPDATE runs SET attempt = 2",
            ],
        ]
        for (name, pool) in world.logins {
            for statement in refusals[name] ?? [] {
                let refused = await #expect(throws: PostgresError.self, "\(name): \(statement.text)") {
                    try await pool.execute(statement, scope: .platform)
                }
                #expect(refused?.sqlState == "42501", "\(name): \(statement.text)")
            }
        }
    }

    @Test("The gate and what follows it name the organization: a run under another one's name is not found")
    func batches() async throws {
        let (world, scene) = (try World.here(), try await Self.sharedScene())
        let (victim, thief) = (scene.places[3], scene.places[0])
        let name = (thief.tenant.organization, victim.openRun, victim.attempt.token)
        #expect(try await world.gateway.take([name]).isEmpty)
        #expect(try await world.worker.undeliver([name]).isEmpty)
        #expect(try await world.gateway.contents(of: [(thief.tenant.organization, victim.openJob)]).isEmpty)
        #expect(
            try await world.gateway.openAttempts(of: victim.device, organization: thief.tenant.organization)
                .isEmpty)
        #expect(try await world.gateway.reconnect([(thief.tenant.organization, victim.device)]).isEmpty)
        #expect(
            try await world.gateway.identity(
                victim.device, organization: thief.tenant.organization, certificateSerial: "1") == nil)
        #expect(
            try await world.worker.queuedRuns(
                of: [(thief.tenant.organization.queue(), after: ID(.zero))], limit: 9
            ).values.flatMap(\.self).allSatisfy { $0.organization == thief.tenant.organization })
    }

    private func key(site: SiteID?) -> APIKeyRow {
        let id: APIKeyID = fresh()
        return APIKeyRow(
            id: id, keyHash: id.bytes + id.bytes, prefix: "",
            place: LevelColumns(site.map(Level.site) ?? .platform),
            name: "x", permissions: [], expiresAt: now(), createdBy: nil, actsForMaker: false,
            createdAt: now())
    }
}

/// Expects that a write is refused: by a policy, or because what it would belong to is not seen.
private func refused(
    at location: SourceLocation = #_sourceLocation, _ body: () async throws -> Void
) async {
    do {
        try await body()
        Issue.record("was not refused", sourceLocation: location)
    } catch let error as PostgresError {
        #expect(error.sqlState == "42501" || error.sqlState == "23503", "\(error)", sourceLocation: location)
    } catch let error as LedgerError {
        #expect(error.code == .notFound, sourceLocation: location)
    } catch {
        Issue.record(error, sourceLocation: location)
    }
}
