import Domain
import Postgres
import TestSupport
import Testing
import Trust

@testable import Ledger

/// Whose secrets are whose, and who may ask for them and answer.
@Suite(.serialized, .world) struct SecretTests {
    private func row(
        _ name: String, _ home: Level, organization: OrganizationID? = nil
    ) -> SecretRow {
        var row = SecretRow(
            id: fresh(), home: home, organization: organization, name: name, description: "",
            createdBy: nil, createdAt: .now())
        row.sealed = [[1]]
        return row
    }

    @Test("a scope sees the secrets of its own level and below, and those that it may use for a job")
    func isolation() async throws {
        let world = try World.here()
        let (mine, sister, other) = (
            try await world.tenant(sites: 2), try await world.tenant(), try await world.tenant()
        )
        let organization = Level.organization(mine.organization)
        let rows = [
            row("a", .platform), row("a", .partner(mine.partner)), row("a", organization),
            row("a", .site(mine.sites[0]), organization: mine.organization),
            row("a", .site(mine.sites[1]), organization: mine.organization),
            row("a", .organization(sister.organization)), row("a", .partner(other.partner)),
        ]
        for row in rows { #expect(try await world.api.insert(row, scope: .platform)) }
        let page = PageRequest(after: nil, limit: 50)
        let cases: [(Scope, [Int])] = [
            (.platform, Array(0..<7)), (.partner(mine.partner), [1, 2, 3, 4]), (mine.scope, [2, 3, 4]),
            (.organizations([mine.organization, sister.organization]), [2, 3, 4, 5]),
            (.site(mine.sites[1]), [4]), (.none, []), (.organizations([]), []),
        ]
        for (scope, seen) in cases {
            let ids = try await world.api.secrets(page, scope: scope).map(\.id)
            #expect(Set(ids) == Set(seen.map { rows[$0].id }) && ids.count == seen.count, "\(scope)")
            for (index, row) in rows.enumerated() {
                let isSeen = seen.contains(index)
                #expect(try await (world.api.secret(row.id, scope: scope) != nil) == isSeen)
                var changed = row
                (changed.secretVersion, changed.version) = (2, 2)
                if !isSeen {
                    #expect(try await !world.api.updateSecret(changed, scope: scope))
                    #expect(try await !world.api.deleteSecret(row.id, version: nil, scope: scope))
                }
            }
            let usable = try await world.api.secrets(
                named: ["a"], for: mine.organization, site: nil, limit: 9, scope: scope)
            let expected = Set(seen.filter { $0 < 5 }.map { rows[$0].id })
            #expect(Set(usable.map(\.id)) == expected, "\(scope)")
            let ofOne = try await world.api.secrets(
                named: ["a"], for: mine.organization, site: mine.sites[1], limit: 9, scope: scope)
            #expect(Set(ofOne.map(\.id)) == expected.subtracting([rows[3].id]), "\(scope)")
        }
        // Nobody makes one on a level that the scope is not, nor for a site of another tenant.
        for (row, scope) in [
            (row("b", .platform), mine.scope), (row("b", .partner(mine.partner)), mine.scope),
            (row("b", .organization(sister.organization)), mine.scope),
            (row("b", organization), Scope.site(mine.sites[0])),
            (row("b", .site(sister.sites[0]), organization: mine.organization), mine.scope),
        ] {
            await #expect(throws: PostgresError.self) { try await world.api.insert(row, scope: scope) }
        }
        #expect(try await !world.api.insert(row("a", organization), scope: mine.scope), "a name twice")
    }

    @Test("gateways ask and take, the API answers; neither reads or writes more, and workers nothing")
    func grants() async throws {
        let world = try World.here()
        let (tenant, other) = (try await world.tenant(), try await world.tenant())
        func request(_ run: RunID, _ token: AttemptToken) -> SecretRequest {
            SecretRequest(
                organization: tenant.organization, run: run, token: token, job: fresh(),
                device: tenant.all[0], deviceKey: [1, 2, 3])
        }
        let (run, first, second): (RunID, AttemptToken, AttemptToken) = (fresh(), fresh(), fresh())
        try await world.gateway.request([request(run, first)])
        let open = try await world.api.openSecretRequests(limit: 9)
        #expect(open.map(\.request.run) == [run] && open[0].content == nil)
        #expect(open[0].assignment != nil && open[0].request.deviceKey == [1, 2, 3])
        let taken = [(organization: tenant.organization, run: run, token: first)]
        #expect(try await world.gateway.takeAnswers(to: taken).isEmpty, "nobody has answered")
        // A later attempt asks anew; the answer to the one before is nobody's.
        try await world.gateway.request([request(run, second)])
        try await world.api.answer([(request(run, first), .sealed([[7]]))])
        #expect(try await world.api.openSecretRequests(limit: 9).count == 1)
        try await world.api.answer([(request(run, second), .sealed([[8], [9]]))])
        try await world.api.answer([(request(run, second), .refused("late"))])
        #expect(try await world.gateway.takeAnswers(to: taken).isEmpty)
        let foreign = [(organization: other.organization, run: run, token: second)]
        #expect(try await world.gateway.takeAnswers(to: foreign).isEmpty)
        let mine = [(organization: tenant.organization, run: run, token: second)]
        #expect(try await world.gateway.takeAnswers(to: mine) == [run: .sealed([[8], [9]])])
        #expect(try await world.gateway.takeAnswers(to: mine).isEmpty, "once")
        for (login, statement): (Int, SQL) in [
            (1, "SELECT id FROM secrets"), (2, "SELECT id FROM secrets"), (2, "DELETE FROM secrets"),
            (1, "SELECT run_id FROM secret_requests"), (0, "UPDATE secrets SET name = 'x'"),
            (0, "UPDATE secret_requests SET device_key = '\\x00'"),
            (0, "INSERT INTO secret_requests (run_id) VALUES (crmm_uuid7())"),
        ] {
            let refused = await #expect(throws: PostgresError.self, "\(login)") {
                try await world.logins[login].pool.execute(statement, scope: .platform)
            }
            #expect(refused?.sqlState == "42501")
        }
    }
}
