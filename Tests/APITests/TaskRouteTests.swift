import Access
import Client
import Domain
import Ledger
import Postgres
import TestSupport
import Testing
import Trust
import Wire

@testable import API

@Suite("The platform's own work")
struct TaskRouteTests {
    private func submit(_ api: TestAPI, _ tenancy: Tenancy, count: Int = 1) async throws -> [TaskID] {
        try await api.ledger.submit(
            (0..<count).map { _ in
                SubmittedTask(
                    id: .new(at: .now()), organization: tenancy.organization, kind: .retention, payload: [],
                    expiresAt: .now() + .seconds(600))
            }, scope: .organization(tenancy.organization)
        ).map(\.id).sorted()
    }

    @Test("tasks are listed by organization, kind and state, in pages, each tenant's own")
    func list() async throws {
        try await TestAPI.with { api in
            let mine = try await submit(api, api.one, count: 3)
            let theirs = try await submit(api, api.other)
            let one = APIClient(url: api.url, key: api.one.key)
            let platform = APIClient(url: api.url, key: api.admin)
            #expect(try await one.tasks().items.map(\.id) == mine)
            #expect(try await platform.tasks().items.map(\.id) == (mine + theirs).sorted())
            #expect(
                try await platform.tasks(organization: api.other.organization).items.map(\.id) == theirs)
            #expect(try await one.tasks(organization: api.other.organization).items.isEmpty)
            #expect(try await one.tasks(kind: "retention", state: .queued).items.count == 3)
            #expect(try await one.tasks(state: .running).items.isEmpty)
            let first = try await one.tasks(PageOptions(limit: 2))
            let second = try await one.tasks(PageOptions(limit: 2, cursor: first.next))
            #expect((first.items + second.items).map(\.id) == mine && second.next == nil)
            let shown = try await one.task(mine[0])
            #expect(shown.kind == "retention" && shown.state == .queued && shown.attempt == 0)
            #expect(shown.organizationId == api.one.organization && shown.maximumAttempts == 5)
        }
    }

    @Test("a task is cancelled, and repeated once as a new one")
    func cancelAndRetry() async throws {
        try await TestAPI.with { api in
            let id = try await submit(api, api.one)[0]
            let one = APIClient(url: api.url, key: api.one.key)
            let early = try await refusal { _ = try await one.retry(id) }
            #expect(early.status == 409 && early.detail.contains("queued"))
            let cancelled = try await one.cancel(id)
            #expect(cancelled.state == .cancelled && cancelled.finishedAt != nil)
            #expect(try await one.cancel(id).state == .cancelled)
            let new = try await one.retry(id)
            #expect(new.id != id && new.retryOf == id && new.state == .queued)
            #expect(try await one.retry(id).id == new.id)
            #expect(try await one.tasks().items.count == 2)
        }
    }

    @Test("another tenant's task is one that there is not")
    func foreign() async throws {
        try await TestAPI.with { api in
            let id = try await submit(api, api.other)[0]
            let one = APIClient(url: api.url, key: api.one.key)
            #expect(try await refusal { _ = try await one.task(id) }.status == 404)
            #expect(try await refusal { _ = try await one.cancel(id) }.status == 404)
            #expect(try await refusal { _ = try await one.retry(id) }.status == 404)
            #expect(
                try await refusal { _ = try await one.retention(of: api.other.organization) }.status == 404)
            #expect(
                try await refusal {
                    _ = try await one.keep(api.other.organization, NewRetention(days: 5))
                }.status == 404)
            let theirs = APIClient(url: api.url, key: api.other.key)
            #expect(try await theirs.task(id).state == .queued)
            #expect(try await theirs.retention(of: api.other.organization).isDefault)
        }
    }

    @Test("a kind and a state that there are not, and no id, are refused by name")
    func badInput() async throws {
        try await TestAPI.with { api in
            let kind = try api.problem(try await api.call("GET", "/v1/tasks?kind=webhook"))
            #expect(kind.status == 422 && kind.field == "kind")
            #expect(kind.detail.contains("\"webhook\"") && kind.detail.contains("retention"))
            let state = try api.problem(try await api.call("GET", "/v1/tasks?state=waiting"))
            #expect(state.status == 422 && state.field == "state" && state.detail.contains("timedOut"))
            #expect(try api.problem(try await api.call("GET", "/v1/tasks/1")).status == 404)
            let place = "/v1/organizations/\(api.one.organization)/retention"
            for days in [0, 3_651] {
                let refused = try api.problem(
                    try await api.call("PUT", place, body: #"{"days":\#(days)}"#))
                #expect(refused.status == 422 && refused.field == "days" && refused.detail.contains("3650"))
            }
        }
    }

    @Test("an organization's retention is set, shown, and put back to the default")
    func retention() async throws {
        try await TestAPI.with { api in
            let one = APIClient(url: api.url, key: api.one.key)
            let id = api.one.organization
            #expect(
                try await one.retention(of: id) == Retention(organizationId: id, days: 90, isDefault: true))
            for days in [1, 3_650] {
                let set = try await one.keep(id, NewRetention(days: days))
                #expect(set == Retention(organizationId: id, days: days, isDefault: false))
            }
            #expect(try await one.keep(id, NewRetention(days: nil)).isDefault)
        }
    }
}
