import Access
import Domain
import Engine
import Ledger
import Outbound
import Postgres
import Testing
import Trust
import Wire

@testable import API

/// What the database's owner moves from one tenant to another gives the other no power over it: nothing is
/// signed or sealed on the word of a row whose MAC does not hold.
@Suite("Rows that were moved in the database")
struct AlteredRowTests {
    /// One call that would have the API sign or seal something, and the field that its refusal names.
    private struct Attempt {
        let path: String
        let body: String
        let field: String

        init(_ path: String, _ body: String, _ field: String) {
            (self.path, self.body, self.field) = (path, body, field)
        }

        static func job(_ target: String, _ field: String) -> Attempt {
            let script = #""script": {"interpreter": "sh", "body": "id"}"#
            return Attempt(
                "/v1/jobs", #"{"kind": "script", "target": {\#(target)}, \#(script)}"#, "target.\(field)")
        }
    }

    private func attempts(organization: OrganizationID) -> [Attempt] {
        [
            .job(#""organizationId": "\#(organization)""#, "organizationId"),
            Attempt("/v1/sites", #"{"name": "x", "organizationId": "\#(organization)"}"#, "organizationId"),
            Attempt(
                "/v1/api-keys",
                #"{"name": "x", "organizationId": "\#(organization)", "permissions": ["jobs:read"]}"#,
                "organizationId"),
        ]
    }

    private func attempts(site: SiteID) -> [Attempt] {
        [
            .job(#""siteId": "\#(site)""#, "siteId"),
            Attempt("/v1/enrollment-tokens", #"{"siteId": "\#(site)"}"#, "siteId"),
            Attempt(
                "/v1/api-keys", #"{"name": "x", "siteId": "\#(site)", "permissions": ["jobs:read"]}"#,
                "siteId"),
        ]
    }

    private func attempts(device: DeviceID) -> [Attempt] {
        [.job(#""deviceIds": ["\#(device)"]"#, "deviceIds[0]")]
    }

    private func key(_ api: TestAPI, _ level: Level) async throws -> String {
        try await api.authenticator.createKey(
            name: "k", level: level, permissions: Permission.all, expiresIn: .seconds(600), by: nil
        ).secret
    }

    /// What was ever signed or sealed.
    private func made(_ api: TestAPI) async throws -> Int {
        try await api.owner.query(
            """
            SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM enrollment_tokens)
                 + (SELECT count(*) FROM api_keys) + (SELECT count(*) FROM sites)
                 + (SELECT count(*) FROM organizations) + (SELECT count(*) FROM devices)
            """, scope: .platform
        ) { row in try row.decode(Int.self) }[0]
    }

    /// Expects each attempt to be refused because of an altered row, and nothing to come of it.
    private func refuses(
        _ attempts: [Attempt], _ api: TestAPI, key: String, naming row: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let before = try await made(api)
        for attempt in attempts {
            let answer = try await api.call("POST", attempt.path, key: key, body: attempt.body)
            let problem = try api.problem(answer)
            #expect(
                problem.status == 403 && problem.code == "alteredRow", "\(attempt): \(problem)",
                sourceLocation: sourceLocation)
            #expect(problem.field == attempt.field, sourceLocation: sourceLocation)
            #expect(
                problem.detail.contains("\(row) was moved outside the API"), "\(problem.detail)",
                sourceLocation: sourceLocation)
        }
        #expect(try await made(api) == before, sourceLocation: sourceLocation)
    }

    /// Expects each attempt to be granted.
    private func grants(
        _ attempts: [Attempt], _ api: TestAPI, key: String, sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        for attempt in attempts {
            let answer = try await api.call("POST", attempt.path, key: key, body: attempt.body)
            #expect(
                answer.status == (attempt.path == "/v1/jobs" ? 202 : 201), "\(attempt): \(answer)",
                sourceLocation: sourceLocation)
        }
    }

    @Test("an organization that is put under another partner is not that partner's to act on")
    func organization() async throws {
        try await TestAPI.with { api in
            let (victim, thief) = (api.one, api.other)
            let key = try await key(api, .partner(thief.partner))
            let all =
                attempts(organization: victim.organization) + attempts(site: victim.site)
                + attempts(device: victim.device)
            let moves: [SQL] = [
                "UPDATE organizations SET partner_id = \(thief.partner) WHERE id = \(victim.organization)",
                // Another row's MAC is another row's.
                """
                UPDATE organizations o SET mac = t.mac FROM organizations t
                WHERE o.id = \(victim.organization) AND t.id = \(thief.organization)
                """,
                "UPDATE organizations SET mac_key = 'k2' WHERE id = \(victim.organization)",
            ]
            for move in moves {
                #expect(try await api.owner.execute(move, scope: .platform) == 1)
                // The database shows it, to whom it was moved; what can be read is not sealed.
                let seen = try await api.call("GET", "/v1/organizations/\(victim.organization)", key: key)
                #expect(seen.status == 200)
                try await refuses(all, api, key: key, naming: "organization \(victim.organization)")
            }
            #expect(api.counters.snapshot["alteredRow.organizations"] == moves.count * all.count)
            try await grants(attempts(device: thief.device), api, key: key)
        }
    }

    @Test("a partner's own rows are believed again once they are what they were")
    func restored() async throws {
        try await TestAPI.with { api in
            let (victim, thief) = (api.one, api.other)
            let key = try await key(api, .partner(victim.partner))
            let all =
                attempts(organization: victim.organization) + attempts(site: victim.site)
                + attempts(device: victim.device)
            try await grants(all, api, key: key)
            try await api.owner.execute(
                "UPDATE organizations SET partner_id = \(thief.partner) WHERE id = \(victim.organization)",
                scope: .platform)
            // Its own organization's key does not depend on the partner, but a row that was altered is not
            // believed in anything.
            try await refuses(
                all, api, key: victim.key, naming: "organization \(victim.organization)")
            try await api.owner.execute(
                "UPDATE organizations SET partner_id = \(victim.partner) WHERE id = \(victim.organization)",
                scope: .platform)
            try await grants(all, api, key: key)
            try await grants(all, api, key: victim.key)
        }
    }

    @Test("a site that is put into another organization, with its devices, is not that organization's")
    func site() async throws {
        try await TestAPI.with { api in
            let (victim, thief) = (api.one, api.other)
            try await api.owner.pipeline(
                scope: .platform,
                [
                    "ALTER TABLE devices DROP CONSTRAINT devices_organization_id_site_id_fkey",
                    "ALTER TABLE certificates DROP CONSTRAINT certificates_organization_id_device_id_fkey",
                    """
                    ALTER TABLE enrollment_tokens
                    DROP CONSTRAINT enrollment_tokens_organization_id_site_id_fkey
                    """,
                    "UPDATE sites SET organization_id = \(thief.organization) WHERE id = \(victim.site)",
                ])
            // The device is still the victim's, at a site that is not.
            let lost = try api.problem(
                try await api.call(
                    "POST", "/v1/jobs", key: victim.key, body: attempts(device: victim.device)[0].body))
            #expect(lost.code == "invalid" && lost.field == "target.deviceIds[0]")
            try await refuses(
                attempts(site: victim.site), api, key: thief.key, naming: "site \(victim.site)")
            try await api.owner.execute(
                "UPDATE devices SET organization_id = \(thief.organization) WHERE id = \(victim.device)",
                scope: .platform)
            try await refuses(
                attempts(site: victim.site) + attempts(device: victim.device), api, key: thief.key,
                naming: "site \(victim.site)")
            // Also where the site is believed: the device was moved by itself.
            try await api.owner.execute(
                "UPDATE devices SET site_id = \(thief.site) WHERE id = \(victim.device)", scope: .platform)
            try await refuses(
                attempts(device: victim.device), api, key: thief.key, naming: "device \(victim.device)")
            #expect(api.counters.snapshot["alteredRow.sites"] == 7)
            #expect(api.counters.snapshot["alteredRow.devices"] == 1)
        }
    }

    @Test("a device that is put at another site of its organization is not that site's to act on")
    func device() async throws {
        try await TestAPI.with { api in
            let tenant = api.one
            let made = try Site.decode(
                try await api.call(
                    "POST", "/v1/sites", key: tenant.key,
                    body: #"{"name": "x", "organizationId": "\#(tenant.organization)"}"#
                ).body)
            let site = SiteID(made.id.value)
            let (own, other) = (try await key(api, .site(tenant.site)), try await key(api, .site(site)))
            let attempt = attempts(device: tenant.device)
            try await grants(attempt, api, key: own)
            try await api.owner.execute(
                "UPDATE devices SET site_id = \(site) WHERE id = \(tenant.device)", scope: .platform)
            let row = "device \(tenant.device)"
            try await refuses(attempt, api, key: other, naming: row)
            try await refuses(attempt, api, key: tenant.key, naming: row)
            try await refuses(attempt, api, key: api.admin, naming: row)
            #expect(api.counters.snapshot["alteredRow.devices"] == 3)
        }
    }

    @Test("of a bulk submission only the jobs for moved devices are refused")
    func bulk() async throws {
        try await TestAPI.with { api in
            try await api.owner.execute(
                "UPDATE devices SET mac = '' WHERE id = \(api.one.device)", scope: .platform)
            let jobs = [api.one.device, api.other.device].map { attempts(device: $0)[0].body }
            let answer = try await api.call(
                "POST", "/v1/jobs/bulk", body: #"{"jobs": [\#(jobs.joined(separator: ","))]}"#)
            let items = try BulkAnswer.decode(answer.body).items
            #expect(items.map(\.status) == [403, 202])
            #expect(items[0].problem?.code == "alteredRow")
            let signed = try await api.owner.query("SELECT organization_id FROM jobs", scope: .platform) {
                try $0.decode(OrganizationID.self)
            }
            #expect(signed == [api.other.organization])
        }
    }

    @Test("a token enrols nobody into a site that was moved since, and no assignment is signed")
    func enrolment() async throws {
        try await TestAPI.with { api in
            let (victim, thief) = (api.one, api.other)
            func enrol() async throws -> HTTPResponse {
                let created = try CreatedEnrollmentToken.decode(
                    try await api.call(
                        "POST", "/v1/enrollment-tokens", key: victim.key,
                        body: #"{"siteId": "\#(victim.site)"}"#
                    ).body)
                try await api.owner.execute(move, scope: .platform)
                let enrollment = NewEnrollment(
                    token: created.token, request: try P256Key().certificateRequest(commonName: "x"),
                    hostname: "x", platform: "linux", agentVersion: "1", machineId: nil)
                return try await api.call(
                    "POST", "/v1/enrollments", key: .some(nil), bytes: enrollment.json)
            }
            var move: SQL = "SELECT 1"
            #expect(try await enrol().status == 201)
            move = "UPDATE organizations SET partner_id = \(thief.partner) WHERE id = \(victim.organization)"
            let problem = try api.problem(try await enrol())
            #expect(problem.status == 403 && problem.code == "alteredRow" && problem.field == "token")
            #expect(problem.detail.contains("organization \(victim.organization) was moved"))
            let devices = try await api.owner.query("SELECT id FROM devices", scope: .platform) {
                try $0.decode(DeviceID.self)
            }
            #expect(devices.count == 3)
        }
    }

    @Test("an organization cannot be made under a partner whose row is not the API's")
    func partner() async throws {
        try await TestAPI.with { api in
            let forged = PartnerID.new(at: .now())
            try await api.owner.execute(
                """
                INSERT INTO partners (id, name, mac_key, mac)
                SELECT \(forged), name, mac_key, mac FROM partners WHERE id = \(api.one.partner)
                """, scope: .platform)
            try await refuses(
                [Attempt("/v1/organizations", #"{"name": "x", "partnerId": "\#(forged)"}"#, "partnerId")],
                api, key: api.admin, naming: "partner \(forged)")
        }
    }
}
