package import Domain
package import Postgres

/// What is left of a device whose organization is given up.
package struct OffboardedDevice: Sendable {
    /// Which device, where, and when it was heard of last.
    package let device: DeviceID
    package let site: SiteID
    package let hostname: String
    package let lastSeenAt: Instant?
    /// Runs that have not ended yet.
    package let openRuns: Int
    /// Whether none of its certificates opens a session any more.
    package let isCutOff: Bool
}

extension Ledger {
    /// Revokes all certificates and enrolment tokens of an organization, in steps that commit by themselves:
    /// each row is a line of the log.
    /// - Returns: how many of each.
    package func cutCertificates(
        of organization: OrganizationID, scope: Scope
    ) async throws -> (certificates: Int, tokens: Int) {
        let certificates = try await inSteps(
            """
            UPDATE certificates SET revoked_at = now()
            WHERE organization_id = \(organization) AND serial IN (
                SELECT serial FROM certificates
                WHERE organization_id = \(organization) AND revoked_at IS NULL LIMIT \(Self.cutMax))
            """, scope: scope)
        let tokens = try await inSteps(
            """
            UPDATE enrollment_tokens SET revoked_at = now()
            WHERE organization_id = \(organization) AND id IN (
                SELECT id FROM enrollment_tokens
                WHERE organization_id = \(organization) AND revoked_at IS NULL LIMIT \(Self.cutMax))
            """, scope: scope)
        return (certificates, tokens)
    }

    private func inSteps(_ statement: SQL, scope: Scope) async throws -> Int {
        var all = 0
        while true {
            let done = try await pool.execute(statement, scope: scope)
            all += done
            if done < Self.cutMax { return all }
        }
    }

    private static let cutMax = 1_000

    /// The keys, and the people's bindings, that are on a partner, or on an organization or a site of it; and
    /// the people who are at home in it.
    package func credentials(
        of level: Level, scope: Scope
    ) async throws -> (keys: [APIKeyID], bindings: [BindingID], users: [UserID]) {
        let (home, placed): (SQL, SQL)
        switch level {
        case .partner(let partner):
            home = "partner_id = \(partner)"
            placed = home
        case .organization(let organization):
            home = "organization_id = \(organization)"
            placed = """
                (organization_id = \(organization)
                 OR site_id IN (SELECT id FROM sites WHERE organization_id = \(organization)))
                """
        case .platform, .organizations, .site: preconditionFailure("a partner or an organization is given up")
        }
        let results = try await pool.pipeline(
            scope: scope,
            [
                "SELECT id FROM api_keys WHERE revoked_at IS NULL AND \(fragment: placed)",
                "SELECT id FROM role_bindings WHERE \(fragment: placed)",
                "SELECT id FROM users WHERE \(fragment: home) AND state <> 2",
            ])
        return (
            try results[0].rows.map { try $0.decode(APIKeyID.self) },
            try results[1].rows.map { try $0.decode(BindingID.self) },
            try results[2].rows.map { try $0.decode(UserID.self) }
        )
    }

    /// The devices of an organization by id, as they stand while it is given up.
    package func offboarding(
        of organization: OrganizationID, _ page: PageRequest, scope: Scope
    ) async throws -> [OffboardedDevice] {
        try await pool.query(
            """
            SELECT d.id, d.site_id, d.hostname, d.last_seen_at,
                   (SELECT count(*) FROM runs r
                    WHERE r.organization_id = d.organization_id AND r.device_id = d.id
                      AND r.state IN (0, 1, 2, 3, 4)),
                   NOT EXISTS (SELECT FROM certificates c
                               WHERE c.organization_id = d.organization_id AND c.device_id = d.id
                                 AND c.revoked_at IS NULL AND c.not_after > now())
            FROM devices d
            WHERE d.organization_id = \(organization) AND d.id > \(page.afterID)
            ORDER BY d.organization_id, d.id LIMIT \(page.limit)
            """, scope: scope
        ) { row in
            let (device, site, hostname, lastSeenAt, openRuns, isCutOff) = try row.decode(
                (DeviceID, SiteID, String, Instant?, Int, Bool).self)
            return OffboardedDevice(
                device: device, site: site, hostname: hostname, lastSeenAt: lastSeenAt, openRuns: openRuns,
                isCutOff: isCutOff)
        }
    }

    /// Devices of an organization or one of its sites after one, by id.
    package func deviceIDs(
        organization: OrganizationID, site: SiteID?, after: DeviceID, limit: Int, scope: Scope
    ) async throws -> [DeviceID] {
        try await pool.query(
            """
            SELECT id FROM devices
            WHERE organization_id = \(organization) AND id > \(after)
              AND site_id = coalesce(\(site), site_id)
            ORDER BY organization_id, id LIMIT \(limit)
            """, scope: scope
        ) { row in try row.decode(DeviceID.self) }
    }
}
