import Access
import Domain
import Outbound
import Postgres
import Testing
import Wire

@testable import API

/// What holds an organization back, or removes what it has kept, is not done on the word of a row that was
/// moved in the database.
@Suite("Rows that were moved, and what is set of their organizations")
struct AlteredControlTests {
    /// One call that sets something of an organization.
    private struct Attempt {
        let method: String
        let path: String
        let body: String
    }

    private func attempts(_ organization: OrganizationID) -> [Attempt] {
        let scope = #"{"organizationId": "\#(organization)"}"#
        return [
            Attempt(
                method: "PUT", path: "/v1/organizations/\(organization)/retention", body: #"{"days": 1}"#),
            Attempt(method: "PUT", path: "/v1/queues/\(organization)/weight", body: #"{"weight": 2}"#),
            Attempt(method: "PUT", path: "/v1/queues/\(organization)/cap", body: #"{"cap": 2}"#),
            Attempt(method: "PUT", path: "/v1/queues/\(organization)/quota", body: #"{"openRuns": 2}"#),
            Attempt(method: "PUT", path: "/v1/queues/\(organization)/limits", body: #"{"limits": []}"#),
            Attempt(
                method: "PUT", path: "/v1/queues/\(organization)/interactive",
                body: #"{"perMinute": 60, "burst": 5}"#),
            Attempt(method: "POST", path: "/v1/queues/pause", body: scope),
            Attempt(method: "POST", path: "/v1/queues/drain", body: scope),
            Attempt(method: "POST", path: "/v1/queues/resume", body: scope),
        ]
    }

    private func key(_ api: TestAPI, _ level: Level) async throws -> String {
        try await api.authenticator.createKey(
            name: "k", level: level, permissions: Permission.all, expiresIn: .seconds(600), by: nil
        ).secret
    }

    /// What was ever set of organizations.
    private func set(_ api: TestAPI) async throws -> Int {
        try await api.owner.query(
            """
            SELECT (SELECT count(*) FROM organizations WHERE retention_days IS NOT NULL
                    OR weight <> 1 OR running_cap IS NOT NULL)
                 + (SELECT count(*) FROM queue_controls) + (SELECT count(*) FROM queue_usage)
            """, scope: .platform
        ) { row in try row.decode(Int.self) }[0]
    }

    @Test("of an organization that was put under a partner that partner sets nothing, whatever it is shown")
    func moved() async throws {
        try await TestAPI.with { api in
            let (victim, thief) = (api.one, api.other)
            let own = try await key(api, .partner(victim.partner))
            let key = try await key(api, .partner(thief.partner))
            let moves: [SQL] = [
                "UPDATE organizations SET partner_id = \(thief.partner) WHERE id = \(victim.organization)",
                // Another row's MAC is another row's.
                """
                UPDATE organizations o SET mac = t.mac FROM organizations t
                WHERE o.id = \(victim.organization) AND t.id = \(thief.organization)
                """,
                "UPDATE organizations SET mac_key = 'k2' WHERE id = \(victim.organization)",
            ]
            let before = try await set(api)
            for move in moves {
                #expect(try await api.owner.execute(move, scope: .platform) == 1)
                let place = "/v1/organizations/\(victim.organization)/retention"
                #expect(try await api.call("GET", place, key: key).status == 200, "the database shows it")
                for attempt in attempts(victim.organization) {
                    let answer = try await api.call(
                        attempt.method, attempt.path, key: key, body: attempt.body)
                    let problem = try api.problem(answer)
                    #expect(
                        problem.status == 403 && problem.code == "alteredRow", "\(attempt): \(problem)")
                    #expect(
                        problem.detail.contains(
                            "organization \(victim.organization) was moved outside the API"),
                        "\(problem.detail)")
                }
            }
            #expect(try await set(api) == before)
            // To whom it belonged it is not shown, so there is nothing to set.
            for attempt in attempts(victim.organization) {
                let answer = try await api.call(attempt.method, attempt.path, key: own, body: attempt.body)
                #expect(answer.status == 404 || answer.status == 422, "\(attempt): \(answer.status)")
            }
            #expect(try await set(api) == before)
        }
    }

    @Test("of its own organizations a partner sets all of it")
    func own() async throws {
        try await TestAPI.with { api in
            let own = try await key(api, .partner(api.one.partner))
            for attempt in attempts(api.one.organization) {
                let answer = try await api.call(attempt.method, attempt.path, key: own, body: attempt.body)
                #expect((200..<300).contains(answer.status), "\(attempt): \(answer.status)")
            }
            #expect(try await set(api) > 0)
        }
    }
}
