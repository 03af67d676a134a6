import Access
import Client
import Domain
import Engine
import Ledger
import Outbound
import Postgres
import TestSupport
import Testing
import Trust
import Wire

@testable import API

@Suite("Secrets")
struct SecretRouteTests {
    private static let value = "canary-7f3a9c51"

    private func new(_ name: String, _ home: Place, value: String = value) throws -> NewSecret {
        NewSecret(
            name: try #require(SecretName(name)), value: SecretValue(value), description: "d", home: home)
    }

    @Test("one is made, rotated and taken away, and no answer, no row and no log has its value")
    func values() async throws {
        try await TestAPI.with { api in
            let one = APIClient(url: api.url, key: api.one.key)
            let home = Place(organizationId: api.one.organization)
            let made = try await one.createSecret(new("db_password", home))
            #expect(made.name.text == "db_password" && made.home == home && made.description == "d")
            #expect(made.secretVersion == 1 && made.version == 1)
            #expect(try await one.secret(made.id) == made)
            #expect(try await one.secrets().items == [made])
            let rotated = try await one.rotate(
                made.id, NewSecretValue(value: SecretValue(Self.value + "-2")))
            #expect(rotated.secretVersion == 2 && rotated.version == 2 && rotated.id == made.id)
            _ = try await one.rotate(made.id, NewSecretValue(value: SecretValue(Self.value + "-3")))
            let sealed = try #require(await api.ledger.secret(made.id, scope: .platform)).sealed
            #expect(sealed.count == 2, "the value before the one before is erased")
            try await one.remove(made.id)
            #expect(try await refusal { _ = try await one.secret(made.id) }.status == 404)
            _ = try await one.createSecret(new("db_password", home))
            for path in ["/v1/secrets", "/v1/secrets/\(made.id)", "/v1/audit"] {
                let text = String(decoding: try await api.call("GET", path).body, as: UTF8.self)
                #expect(!text.contains("canary") && !text.contains("sealed"), "\(path)")
            }
            let rows = try await api.owner.query(
                """
                SELECT coalesce((SELECT string_agg(encode(s, 'escape') || x::text, '')
                                 FROM secrets x, unnest(x.sealed) s), '')
                       || (SELECT string_agg(a::text, '') FROM audit_entries a)
                """, scope: .none
            ) { try $0.decode(String.self) }
            #expect(!rows[0].contains("canary") && rows[0].contains("secrets.create"))
            #expect(rows[0].contains("secrets.update") && rows[0].contains("secrets.delete"))
        }
    }

    @Test("a value or a name that cannot be is refused by field and limit, and the refusal has no value")
    func limits() async throws {
        try await TestAPI.with { api in
            let one = APIClient(url: api.url, key: api.one.key)
            let home = Place(organizationId: api.one.organization)
            func problem(_ name: String, _ value: String) async throws -> Problem {
                let body = JSON.object([
                    JSONMember(name: "name", value: .string(name)),
                    JSONMember(name: "value", value: .string(value)),
                    JSONMember(name: "organizationId", value: .string("\(api.one.organization)")),
                ])
                let response = try await api.call(
                    "POST", "/v1/secrets", key: api.one.key, bytes: body.json)
                return try api.problem(response)
            }
            let (few, many) = (String(repeating: "x", count: 7), String(repeating: "y", count: 16_385))
            for value in [few, many, "canary-\0-canary"] {
                let refused = try await problem("a", value)
                #expect(refused.status == 422 && refused.field == "value")
                #expect(!refused.detail.contains(value.prefix(7)))
            }
            #expect(try await problem("a", few).detail.contains("8 to 16384"))
            for name in ["", "A", "1a", "_a", "a-b", "a b", "ä", "a\n", String(repeating: "a", count: 65)] {
                #expect(try await problem(name, Self.value).field == "name", "\(name)")
            }
            for (name, value) in [
                ("a", few + "x"), (String(repeating: "b", count: 64), String(many.dropLast())),
                ("c1_", "ü☃-😀"),
            ] { _ = try await one.createSecret(new(name, home, value: value)) }
            let twice = try await refusal { _ = try await one.createSecret(new("a", home)) }
            #expect(twice.status == 409 && twice.field == "name")
            // The same name on another level is another secret.
            _ = try await one.createSecret(new("a", Place(siteId: api.one.site)))
            try await api.owner.execute(
                """
                INSERT INTO secrets (id, organization_id, name, description, sealed)
                SELECT crmm_uuid7(), \(api.one.organization), 'n' || n, '', ARRAY['x'::bytea]
                FROM generate_series(1, \(Ledger.secretsMax - 3)) n
                """, scope: .none)
            let full = try await refusal { _ = try await one.createSecret(new("z", home)) }
            #expect(full.status == 409 && full.detail.contains("200"))
        }
    }

    @Test("another tenant's secret is one that there is not, and nobody makes one above or elsewhere")
    func foreign() async throws {
        try await TestAPI.with { api in
            let theirs = APIClient(url: api.url, key: api.other.key)
            let made = try await theirs.createSecret(new("a", Place(organizationId: api.other.organization)))
            let one = APIClient(url: api.url, key: api.one.key)
            let value = NewSecretValue(value: SecretValue(Self.value))
            let calls: [() async throws -> Void] = [
                { _ = try await one.secret(made.id) }, { _ = try await one.rotate(made.id, value) },
                { try await one.remove(made.id) },
            ]
            for call in calls { #expect(try await refusal(call).status == 404) }
            #expect(try await one.secrets().items.isEmpty)
            for home in [
                Place(organizationId: api.other.organization), Place(siteId: api.other.site),
                Place(partnerId: api.one.partner), Place(),
            ] {
                let refused = try await refusal { _ = try await one.createSecret(new("a", home)) }
                #expect([403, 404].contains(refused.status), "\(home)")
            }
            let level = Level.organization(api.other.organization)
            let reader = try await api.client(level, [.secretsRead])
            #expect(try await reader.secret(made.id).id == made.id)
            #expect(try await refusal { _ = try await reader.rotate(made.id, value) }.status == 403)
            let user = try await api.client(level, [.secretsUse])
            #expect(try await refusal { _ = try await user.secret(made.id) }.status == 403)
            // A key of the site has the site's and no other.
            let ofSite = try await api.client(.site(api.other.site))
            let own = try await ofSite.createSecret(new("a", Place(siteId: api.other.site)))
            #expect(try await ofSite.secrets().items == [own])
            #expect(try await theirs.secrets().items.map(\.id) == [made.id, own.id])
            #expect(try await theirs.rotate(own.id, value).secretVersion == 2)
        }
    }

    @Test("a job names secrets with the permission alone, each for one variable or the input")
    func jobs() async throws {
        try await TestAPI.with { api in
            let level = Level.organization(api.one.organization)
            let one = APIClient(url: api.url, key: api.one.key)
            _ = try await one.createSecret(new("a", Place(organizationId: api.one.organization)))
            func submit(_ secrets: String, _ more: String = "", by key: String) async throws -> Problem? {
                let response = try await api.call(
                    "POST", "/v1/jobs", key: key,
                    body: #"{"kind":"script","target":{"deviceIds":["\#(api.one.device)"]},"#
                        + #""script":{"interpreter":"sh","body":"true","secrets":\#(secrets)\#(more)}}"#)
                return response.status == 202 ? nil : try api.problem(response)
            }
            let use = #"[{"name":"a","environment":"A"}]"#
            #expect(try await submit(use, by: api.one.key) == nil)
            #expect(try await submit(#"[{"name":"a","stdin":true}]"#, by: api.one.key) == nil)
            let (_, without) = try await api.authenticator.createKey(
                name: "k", level: level, permissions: [.jobsRun, .secretsRead, .secretsWrite],
                expiresIn: .seconds(600), by: nil)
            let refused = try #require(try await submit(use, by: without))
            #expect(refused.status == 403 && refused.field == "script.secrets")
            #expect(try await submit("[]", by: without) == nil)
            for (secrets, more, field) in [
                (#"[{"name":"b","environment":"A"}]"#, "", "script.secrets[0].name"),
                (#"[{"name":"A","environment":"A"}]"#, "", "script.secrets[0].name"),
                (#"[{"name":"a"}]"#, "", "script.secrets[0].environment"),
                (#"[{"name":"a","environment":"A","stdin":true}]"#, "", "script.secrets[0].environment"),
                (#"[{"name":"a","environment":"PATH"}]"#, "", "script.secrets[0].environment"),
                (#"[{"name":"a","environment":"LD_PRELOAD"}]"#, "", "script.secrets[0].environment"),
                (#"[{"name":"a","environment":"BASH_ENV"}]"#, "", "script.secrets[0].environment"),
                (#"[{"name":"a","environment":"A B"}]"#, "", "script.secrets[0].environment"),
                (use, #","env":{"A":"1"}"#, "script.secrets[0].environment"),
                (#"[{"name":"a","stdin":true}]"#, #","stdin":"x""#, "script.secrets[0].stdin"),
                (
                    #"[{"name":"a","environment":"A"},{"name":"a","environment":"A"}]"#, "",
                    "script.secrets[1].environment"
                ),
            ] {
                let problem = try #require(try await submit(secrets, more, by: api.one.key))
                #expect(problem.status == 422 && problem.field == field, "\(secrets): \(problem)")
            }
            let many = (0..<17).map { #"{"name":"a","environment":"A\#($0)"}"# }.joined(separator: ",")
            #expect(try await submit("[\(many)]", by: api.one.key)?.detail.contains("16") == true)
        }
    }

    @Test("what is of another version than If-Match says is not changed")
    func versions() async throws {
        try await TestAPI.with { api in
            let one = APIClient(url: api.url, key: api.one.key)
            let made = try await one.createSecret(new("a", Place(organizationId: api.one.organization)))
            let late = try await api.call(
                "POST", "/v1/secrets/\(made.id)/rotate", key: api.one.key,
                body: #"{"value":"\#(Self.value)"}"#, headers: [("If-Match", "\"2\"")])
            #expect(late.status == 412)
            #expect(try await refusal { try await one.remove(made.id, version: 2) }.status == 412)
            try await one.remove(made.id, version: 1)
        }
    }
}
