import Access
import Client
import Domain
import Engine
import Ledger
import Outbound
import Postgres
import Testing
import Wire

@testable import API

@Suite("Webhooks")
struct WebhookRouteTests {
    private func new(_ home: Place, url: String = "https://example.com/hook") -> NewWebhook {
        NewWebhook(url: url, events: [.jobEnded, .siteCreated], description: "d", home: home)
    }

    @Test("one is made with a secret that no other answer and no row has")
    func secret() async throws {
        try await TestAPI.with { api in
            let one = APIClient(url: api.url, key: api.one.key)
            let made = try await one.createWebhook(new(Place(organizationId: api.one.organization)))
            #expect(made.secret.hasPrefix("whsec_") && made.secret.utf8.count == 49)
            #expect(made.webhook.state == .active && made.webhook.events == [.jobEnded, .siteCreated])
            let id = made.webhook.id
            #expect(try await one.webhook(id) == made.webhook)
            for path in ["/v1/webhooks", "/v1/webhooks/\(id)"] {
                let text = String(decoding: try await api.call("GET", path).body, as: UTF8.self)
                #expect(text.contains("\(id)") && !text.contains("whsec_") && !text.contains("sealed"))
            }
            let rows = try await api.owner.query(
                """
                SELECT w::text || coalesce((SELECT string_agg(a::text, '') FROM audit_entries a), '')
                FROM webhooks w
                """, scope: .none
            ) { try $0.decode(String.self) }
            #expect(rows.count == 1 && !rows[0].contains("whsec_"))
            let rotated = try await one.rotate(id, NewRotation(overlapSeconds: 60))
            #expect(rotated.secret != made.secret && rotated.webhook.secretVersion == 2)
            #expect(rotated.webhook.previousSecretExpiresAt != nil)
            let again = try await one.rotate(id, NewRotation(overlapSeconds: 0))
            #expect(again.webhook.previousSecretExpiresAt == nil && again.webhook.version == 3)
        }
    }

    @Test("one is edited, disabled, enabled and taken away, if it still is of the version that was read")
    func edit() async throws {
        try await TestAPI.with { api in
            let one = APIClient(url: api.url, key: api.one.key)
            let id = try await one.createWebhook(new(Place(organizationId: api.one.organization))).webhook.id
            let edited = try await one.edit(
                id, NewWebhookChanges(url: "https://example.org/", events: [.userCreated]), version: 1)
            #expect(edited.url == "https://example.org/" && edited.events == [.userCreated])
            #expect(edited.version == 2 && edited.description == "d")
            let late = try await refusal { _ = try await one.edit(id, NewWebhookChanges(), version: 1) }
            #expect(late.status == 412)
            #expect(try await refusal { try await one.remove(id, version: 1) }.status == 412)
            let disabled = try await one.edit(id, NewWebhookChanges(disabled: true))
            #expect(disabled.state == .disabled && disabled.disabledAt != nil)
            #expect(try await refusal { _ = try await one.test(id) }.status == 409)
            let enabled = try await one.enable(id)
            #expect(enabled.state == .active && enabled.disabledAt == nil)
            try await one.remove(id)
            #expect(try await refusal { _ = try await one.webhook(id) }.status == 404)
        }
    }

    @Test("a test is sent and logged, and what is under way is not sent again")
    func deliveries() async throws {
        try await TestAPI.with { api in
            let one = APIClient(url: api.url, key: api.one.key)
            let id = try await one.createWebhook(new(Place(organizationId: api.one.organization))).webhook.id
            let sent = try await one.test(id)
            #expect(sent.type == "webhook.test" && sent.state == .pending && sent.webhookId == id)
            let second = try await one.test(id)
            let log = try await one.deliveries(of: id, PageOptions(limit: 1))
            #expect(log.items.map(\.id) == [second.id])
            let rest = try await one.deliveries(of: id, PageOptions(limit: 1, cursor: log.next))
            #expect(rest.items == [sent] && rest.next == nil)
            #expect(try await refusal { _ = try await one.redeliver(sent.id) }.status == 409)
            try await api.owner.pipeline(
                scope: .none,
                [
                    "UPDATE webhook_deliveries SET state = 2",
                    "UPDATE tasks SET state = 11, finished_at = now()",
                ])
            let again = try await one.redeliver(sent.id)
            #expect(again.id == sent.id && again.state == .pending && again.redeliveries == 1)
            #expect(try await one.tasks(kind: "webhook.deliver", state: .queued).items.count == 1)
        }
    }

    @Test("a URL inside, with a user, a fragment or without TLS is refused when it is made")
    func urls() async throws {
        try await TestAPI.with { api in
            let one = APIClient(url: api.url, key: api.one.key)
            let home = Place(organizationId: api.one.organization)
            for url in [
                "http://example.com/", "ftp://example.com/", "https://", "https:///x",
                "https://u:p@example.com/",
                "https://example.com/#x", "https://10.0.0.1/", "https://127.0.0.1:8443/", "https://[::1]/",
                "https://[::ffff:10.0.0.1]/x", "https://169.254.169.254/", "https://example.com/ä",
                "https://example.com\\@10.0.0.1/",
            ] {
                let refused = try await refusal { _ = try await one.createWebhook(new(home, url: url)) }
                #expect(refused.status == 422 && refused.field == "url", "\(url)")
            }
            let made = try await one.createWebhook(new(home))
            let refused = try await refusal {
                _ = try await one.edit(made.webhook.id, NewWebhookChanges(url: "https://10.0.0.1/"))
            }
            #expect(refused.status == 422)
            let unknown = try await api.call(
                "POST", "/v1/webhooks", key: api.one.key,
                body: #"{"url":"https://example.com/","events":["job.begun"]}"#)
            #expect(unknown.status == 422)
            #expect(try api.problem(unknown).detail.contains("job.ended"))
        }
    }

    @Test("another tenant's webhook is one that there is not, and nobody makes one above or elsewhere")
    func foreign() async throws {
        try await TestAPI.with { api in
            let theirs = APIClient(url: api.url, key: api.other.key)
            let made = try await theirs.createWebhook(new(Place(organizationId: api.other.organization)))
            let sent = try await theirs.test(made.webhook.id)
            let one = APIClient(url: api.url, key: api.one.key)
            let id = made.webhook.id
            let calls: [() async throws -> Void] = [
                { _ = try await one.webhook(id) }, { _ = try await one.edit(id, NewWebhookChanges()) },
                { try await one.remove(id) }, { _ = try await one.rotate(id, NewRotation()) },
                { _ = try await one.enable(id) }, { _ = try await one.test(id) },
                { _ = try await one.deliveries(of: id) }, { _ = try await one.redeliver(sent.id) },
            ]
            for call in calls { #expect(try await refusal(call).status == 404) }
            #expect(try await one.webhooks().items.isEmpty)
            for home in [
                Place(organizationId: api.other.organization), Place(partnerId: api.one.partner), Place(),
            ] {
                let refused = try await refusal { _ = try await one.createWebhook(new(home)) }
                #expect([403, 404].contains(refused.status))
            }
            let site = try await refusal {
                _ = try await one.createWebhook(new(Place(siteId: api.one.site)))
            }
            #expect(site.status == 422)
            let reader = try await api.client(.organization(api.other.organization), [.webhooksRead])
            #expect(try await reader.webhook(id).id == id)
            #expect(try await refusal { _ = try await reader.enable(id) }.status == 403)
            let stranger = try await api.client(.organization(api.other.organization), [.jobsRead])
            #expect(try await refusal { _ = try await stranger.webhook(id) }.status == 403)
        }
    }
}
