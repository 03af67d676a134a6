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

/// What the schema's owner shows to all tenants, by taking the policies of row-level security away, is still
/// nobody's but its own tenant's: the rows are genuine, but nothing that is signed, sealed or made on their
/// word reaches beyond the level of the key.
@Suite("Row-level security that was switched off")
struct OpenPolicyTests {
    /// A way to switch it off for every table.
    enum Way: String, CaseIterable {
        case disabled, addedPolicy, alteredPolicy

        var statement: SQL {
            switch self {
            case .disabled:
                """
                DO $$ DECLARE t regclass; BEGIN
                    FOR t IN SELECT oid FROM pg_class WHERE relrowsecurity LOOP
                        EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', t);
                    END LOOP;
                END $$
                """
            case .addedPolicy:
                """
                DO $$ DECLARE t regclass; BEGIN
                    FOR t IN SELECT oid FROM pg_class WHERE relrowsecurity LOOP
                        EXECUTE format('CREATE POLICY open ON %s USING (true)', t);
                    END LOOP;
                END $$
                """
            case .alteredPolicy:
                """
                DO $$ DECLARE p record; BEGIN
                    FOR p IN SELECT polname, polrelid::regclass AS t FROM pg_policy
                             WHERE polqual IS NOT NULL LOOP
                        EXECUTE format('ALTER POLICY %I ON %s USING (true)', p.polname, p.t);
                    END LOOP;
                END $$
                """
            }
        }
    }

    /// One call that would have the API sign, seal or make something on the word of a row.
    private struct Attempt {
        let path: String
        let field: String
        let body: String

        static func job(_ id: some CustomStringConvertible, _ member: String, _ field: String) -> Attempt {
            let id = member == "deviceIds" ? #"["\#(id)"]"# : #""\#(id)""#
            return Attempt(
                path: "/v1/jobs", field: "target.\(field)",
                body: #"{"kind": "ping", "target": {"\#(member)": \#(id)}}"#)
        }

        static func make(_ path: String, _ id: some CustomStringConvertible, _ member: String) -> Attempt {
            let permissions = path == "/v1/api-keys" ? #", "permissions": ["jobs:run"]"# : ""
            let name = path == "/v1/enrollment-tokens" ? "" : #", "name": "x""#
            return Attempt(
                path: path, field: member, body: #"{"\#(member)": "\#(id)"\#(name)\#(permissions)}"#)
        }

        /// Whether the field names a level, which is a 404 as in a path, and not what a job or a token is
        /// for.
        var namesLevel: Bool { !["/v1/jobs", "/v1/enrollment-tokens"].contains(path) }

        static func all(_ id: PartnerID) -> [Attempt] {
            [.make("/v1/organizations", id, "partnerId"), .make("/v1/api-keys", id, "partnerId")]
        }

        static func all(_ id: OrganizationID) -> [Attempt] {
            [
                .job(id, "organizationId", "organizationId"), .make("/v1/sites", id, "organizationId"),
                .make("/v1/api-keys", id, "organizationId"),
                Attempt(
                    path: "/v1/queues/pause", field: "organizationId",
                    body: #"{"organizationId": "\#(id)"}"#),
            ]
        }

        static func all(_ id: SiteID) -> [Attempt] {
            [
                .job(id, "siteId", "siteId"), .make("/v1/enrollment-tokens", id, "siteId"),
                .make("/v1/api-keys", id, "siteId"),
            ]
        }

        static func all(_ id: DeviceID) -> [Attempt] { [.job(id, "deviceIds", "deviceIds[0]")] }
    }

    /// What was ever signed, sealed or made.
    private func made(_ api: TestAPI) async throws -> Int {
        try await api.owner.query(
            """
            SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM enrollment_tokens)
                 + (SELECT count(*) FROM api_keys) + (SELECT count(*) FROM sites)
                 + (SELECT count(*) FROM organizations) + (SELECT count(*) FROM queue_controls)
                 + (SELECT count(*) FROM partners)
            """, scope: .platform
        ) { row in try row.decode(Int.self) }[0]
    }

    @Test(
        "a key acts on its own level alone, and what is shown beyond it does not exist",
        arguments: Way.allCases)
    func refused(way: Way) async throws {
        try await TestAPI.with { api in
            let (own, victim) = (api.one, api.other)
            let second = try await sibling(of: own, api)
            try await api.owner.execute(way.statement, scope: .none)
            let stranger =
                Attempt.all(victim.partner) + Attempt.all(victim.organization) + Attempt.all(victim.site)
                + Attempt.all(victim.device)
            let above = Attempt.all(own.partner)
            let beside = Attempt.all(own.organization) + Attempt.all(second)
            // The second site has no device that a job could be for.
            let besideWithDevice = beside.filter { $0.field != "target.siteId" }
            let below = Attempt.all(own.site) + Attempt.all(own.device)
            let nobody =
                Attempt.all(PartnerID.new(at: .now())) + Attempt.all(OrganizationID.new(at: .now()))
                + Attempt.all(SiteID.new(at: .now())) + Attempt.all(DeviceID.new(at: .now()))
            let keys: [(level: Level, refused: [Attempt], granted: [Attempt])] = [
                (.partner(own.partner), stranger, above + besideWithDevice + below),
                (.organization(own.organization), stranger + above, besideWithDevice + below),
                (.site(own.site), stranger + above + beside, below),
            ]
            for (level, refused, granted) in keys {
                let key = try await api.authenticator.createKey(
                    name: "k", level: level, permissions: Permission.all, expiresIn: .seconds(600), by: nil
                ).secret
                let shown = try await api.call("GET", "/v1/sites/\(victim.site)", key: key)
                #expect(shown.status == 200, "row-level security is off")
                let before = try await made(api)
                for attempt in refused {
                    // The same words as for an id of nobody.
                    let same = try #require(
                        nobody.first { ($0.path, $0.field) == (attempt.path, attempt.field) })
                    var problems: [Problem] = []
                    for attempt in [attempt, same] {
                        let answer = try await api.call("POST", attempt.path, key: key, body: attempt.body)
                        problems.append(try api.problem(answer))
                    }
                    #expect(problems[0].field == attempt.field, "\(level) \(attempt): \(problems[0])")
                    #expect(problems[0].status == (attempt.namesLevel ? 404 : 422))
                    #expect(problems[0].status == problems[1].status)
                    #expect(problems[0].code == problems[1].code && problems[0].field == problems[1].field)
                    #expect(problems[0].detail == problems[1].detail)
                }
                let partner = try await api.call(
                    "POST", "/v1/partners", key: key, body: #"{"name": "x"}"#)
                #expect(try api.problem(partner).code == "forbidden")
                #expect(try await made(api) == before, "\(level)")
                for attempt in granted {
                    let answer = try await api.call("POST", attempt.path, key: key, body: attempt.body)
                    #expect(answer.status < 300, "\(level) \(attempt): \(answer)")
                }
            }
            // The operator hears of each, and nothing was altered.
            let counted = api.counters.snapshot
            let told = ["partners", "organizations", "sites", "devices"].map {
                counted["outsideRow.\($0)"] ?? 0
            }
            #expect(told.reduce(0, +) == keys.map(\.refused.count).reduce(0, +), "\(told)")
            #expect(counted.keys.allSatisfy { !$0.hasPrefix("alteredRow") })
        }
    }

    /// A second site of the organization.
    private func sibling(of tenant: Tenancy, _ api: TestAPI) async throws -> SiteID {
        let made = try Site.decode(
            try await api.call(
                "POST", "/v1/sites", key: tenant.key,
                body: #"{"name": "x", "organizationId": "\#(tenant.organization)"}"#
            ).body)
        return made.id
    }
}
