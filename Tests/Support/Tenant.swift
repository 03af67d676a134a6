package import Domain
package import Ledger
package import Postgres
package import Trust

/// One organization of a partner of its own, with its sites and devices.
package struct Tenant: Sendable {
    /// Its place in the tenancy.
    package let partner: PartnerID
    package let organization: OrganizationID
    package let sites: [SiteID]
    /// The devices by site.
    package let devices: [[DeviceID]]

    /// What the organization may see.
    package var scope: Scope { .organization(organization) }
    /// The devices of all sites.
    package var all: [DeviceID] { devices.flatMap(\.self) }
}

package extension World {
    /// Who submits the jobs of tests.
    static let principal: PrincipalID = fresh()
    /// Who made the MACs of tenants' rows.
    static let judge: EdgeJudge = {
        do {
            let key = try MACKey(bytes: [UInt8](repeating: 7, count: MACKey.byteCountMin))
            return EdgeJudge(key: key, keyID: "tests") { _ in }
        } catch {
            preconditionFailure("a key of enough bytes was refused: \(error)")
        }
    }()
    /// The key of stored secrets.
    static let sealing: SealingKeys = {
        do {
            let secret = SecretBytes([UInt8](repeating: 9, count: SealingKeys.Key.byteCount))
            return try SealingKeys(current: SealingKeys.Key(id: "tests", secret: secret))
        } catch {
            preconditionFailure("a key of enough bytes was refused: \(error)")
        }
    }()
    /// The MAC of rows that nobody judges.
    static let mac = RowMAC(keyID: "", code: [])

    /// Makes a tenant with so many sites of so many devices each.
    func tenant(sites: Int = 1, devices: Int = 1, of partner: PartnerID? = nil) async throws -> Tenant {
        let made = Tenant(
            partner: partner ?? fresh(), organization: fresh(), sites: (0..<sites).map { _ in fresh() },
            devices: (0..<sites).map { _ in (0..<devices).map { _ in fresh() } })
        let places = made.sites.enumerated().flatMap { index, site in made.devices[index].map { _ in site } }
        func mac(_ edge: ParentEdge) -> PostgresData { PostgresData(Self.judge.mac(of: edge).code) }
        let siteMACs = made.sites.map { mac(.site($0, of: made.organization)) }
        let deviceMACs = zip(made.all, places).map { mac(.device($0, at: $1, of: made.organization)) }
        try await owner.pipeline(
            scope: .none,
            [
                """
                INSERT INTO partners (id, name, mac_key, mac)
                VALUES (\(made.partner), 'partner', 'tests', \(mac(.partner(made.partner))))
                ON CONFLICT DO NOTHING
                """,
                """
                INSERT INTO organizations (id, partner_id, name, mac_key, mac)
                VALUES (\(made.organization), \(made.partner), 'organization', 'tests',
                        \(mac(.organization(made.organization, of: made.partner))))
                """,
                """
                INSERT INTO sites (organization_id, id, name, mac_key, mac)
                SELECT \(made.organization), id, 'site', 'tests', mac
                FROM unnest(\(made.sites), \(siteMACs)) AS s(id, mac)
                """,
                """
                INSERT INTO devices (organization_id, id, site_id, hostname, platform, agent_version,
                                     key_hash, assignment, assignment_version, mac_key, mac)
                SELECT \(made.organization), id, site, 'host', 'linux', '1', decode(repeat('00', 32), 'hex'),
                       '', 1, 'tests', mac
                FROM unnest(\(made.all), \(places), \(deviceMACs)) AS d(id, site, mac)
                """,
            ])
        return made
    }

    /// A script job for a list of devices, not yet submitted.
    func job(
        _ tenant: Tenant, devices: [DeviceID]?, site: SiteID? = nil, targetSite: SiteID? = nil,
        key: String? = nil, hash: UInt8 = 1, principal: PrincipalID = principal
    ) -> SubmittedJob {
        SubmittedJob(
            id: fresh(), organization: tenant.organization, site: site, kind: .script, priority: .standard,
            statement: [1, 2, 3], devices: devices, targetSite: targetSite, timeoutSeconds: 60,
            maximumAttempts: 1, idempotent: false, expiresAt: .now() + .seconds(3_600), principal: principal,
            idempotencyKey: key, requestHash: [UInt8](repeating: hash, count: 32))
    }

    /// Commits a job over a list of devices and tells nobody; returns it and its runs in the list's order.
    func submit(
        _ tenant: Tenant, _ devices: [DeviceID], _ priority: Priority = .standard
    ) async throws -> (job: JobID, runs: [QueuedRun]) {
        var job = job(tenant, devices: devices)
        job.priority = priority
        let done = try await api.submit([job], scope: tenant.scope)
        guard done.outcomes == [.accepted(.active)] else {
            throw Unprepared("the job came to \(done.outcomes)")
        }
        var byDevice = Dictionary(grouping: done.queued.reversed(), by: \.device)
        return (job.id, devices.compactMap { byDevice[$0]?.popLast() })
    }

    /// Marks runs for a gateway.
    func mark(
        _ runs: [QueuedRun], gateway: GatewayID = fresh(), epoch: String = epoch
    ) async throws -> [MarkedRun] {
        try await worker.mark(
            runs.map {
                MarkRequest(
                    organization: $0.organization, run: $0.run, generation: $0.generation, gateway: gateway,
                    token: fresh())
            }, epoch: epoch, partition: 0)
    }

    /// Where a run is.
    func state(_ run: RunID) async throws -> RunState? {
        try await api.run(run, scope: .platform)?.state
    }
}

extension Committed {
    /// What became of the jobs, and the runs that were queued.
    package var both: (outcomes: [Submission], queued: [QueuedRun]) { (outcomes, queued) }
}
