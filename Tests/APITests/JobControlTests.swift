import Access
import Client
import Domain
import Engine
import Ledger
import Outbound
import TestSupport
import Testing
import Wire

@testable import API

@Suite("Cancels and pauses of what was submitted")
struct JobControlTests {
    private func client(_ api: TestAPI, _ tenancy: Tenancy) -> APIClient {
        APIClient(url: api.url, key: tenancy.key)
    }

    @Test("a run is cancelled by its tenant alone, once")
    func run() async throws {
        try await TestAPI.with { api in
            let (one, other) = (client(api, api.one), client(api, api.other))
            let job = try await one.submit(NewJob(kind: .ping, target: .devices([api.one.device]))).id
            let run = try #require(try await one.runs(of: job).items.first)
            #expect(try await refusal { _ = try await other.cancel(run.id) }.status == 404)
            #expect(try await one.cancel(run.id).state == .cancelled)
            let late = try await refusal { _ = try await one.cancel(run.id) }
            #expect(late.status == 409 && late.code == "conflict")
            #expect(late.detail == "the run has ended already: it is cancelled")
        }
    }

    @Test("jobs are counted and cancelled by a filter, those of the tenant alone")
    func filter() async throws {
        try await TestAPI.with { api in
            let (one, other) = (client(api, api.one), client(api, api.other))
            for _ in 0..<3 {
                _ = try await one.submit(NewJob(kind: .ping, target: .devices([api.one.device])))
            }
            let kept = try await other.submit(NewJob(kind: .ping, target: .devices([api.other.device]))).id
            var request = CancelRequest()
            request.dryRun = true
            #expect(try await one.cancel(request) == CancelledJobs(matched: 3, dryRun: true))
            request.dryRun = false
            #expect(try await one.cancel(request) == CancelledJobs(matched: 3, cancelled: 3))
            #expect(try await other.job(kept).cancelRequestedAt == nil)
            let none = try await refusal { _ = try await one.cancel(request) }
            #expect(none.status == 404 && none.field == "allOrganizations")
        }
    }

    @Test("a job is paused and resumed by its tenant alone; what is not paused is not resumed")
    func pause() async throws {
        try await TestAPI.with { api in
            let (one, other) = (client(api, api.one), client(api, api.other))
            let job = try await one.submit(NewJob(kind: .ping, target: .devices([api.one.device]))).id
            let early = try await refusal { _ = try await one.resume(job) }
            #expect(early.status == 409 && early.detail == "the job is not paused: it is active")
            #expect(try await refusal { _ = try await other.pause(job) }.status == 404)
            #expect(try await one.pause(job).state == .paused)
            #expect(try await refusal { _ = try await other.resume(job) }.status == 404)
            #expect(try await one.resume(job).state == .active)
            _ = try await one.pause(job)
            #expect(try await one.cancel(job).cancelRequestedAt != nil, "a paused job is cancelled, too")
        }
    }

    @Test(
        "a unique key that is held is a conflict of its own code, for one job and in a bulk; return gives it")
    func unique() async throws {
        try await TestAPI.with { api in
            let one = client(api, api.one)
            func job(_ conflict: UniqueConflict) -> NewJob {
                var job = NewJob(kind: .ping, target: .devices([api.one.device]))
                job.unique = Unique(key: "k", scope: .device, onConflict: conflict)
                return job
            }
            let first = try await one.submit(job(.reject))
            #expect(!first.isExisting)
            let refused = try await refusal { _ = try await one.submit(job(.reject)) }
            #expect(refused.status == 409 && refused.code == "uniqueConflict")
            #expect(refused.field == "unique.key" && refused.detail.contains("\(first.id)"))
            let plain = NewJob(kind: .ping, target: .devices([api.one.device]))
            let items = try await one.submit(NewJobs(jobs: [plain, job(.reject), job(.return), plain])).items
            #expect(items.map(\.status) == [202, 409, 202, 202] && items[2].id == first.id)
            let again = try await one.submit(job(.return))
            #expect(again.id == first.id && again.isExisting)
        }
    }

    static let bodies: [(body: String, field: String, says: String)] = [
        ("{}", "organizationId", "exactly one"),
        (#"{"allOrganizations":false}"#, "organizationId", "exactly one"),
        (
            #"{"allOrganizations":true,"siteId":"018f0000-0000-7000-8000-000000000001"}"#, "organizationId",
            "exactly one"
        ),
        (#"{"allOrganizations":true,"state":"completed"}"#, "state", "accepted, active and paused"),
        (#"{"allOrganizations":true,"state":"gone"}"#, "state", "active"),
        (#"{"allOrganizations":true,"kind":"dance"}"#, "kind", "ping"),
        (#"{"allOrganizations":true,"expectedCount":0}"#, "expectedCount", "10000"),
        (#"{"allOrganizations":true,"expectedCount":10001}"#, "expectedCount", "10000"),
        (#"{"allOrganizations":true,"createdBefore":"today"}"#, "createdBefore", ""),
        (
            #"{"allOrganizations":true,"createdAfter":"2026-01-02T00:00:00Z","#
                + #""createdBefore":"2026-01-01T00:00:00Z"}"#,
            "createdBefore", "later than createdAfter"
        ),
        (#"{"allOrganizations":true,"tag":"x"}"#, "tag", ""),
    ]

    @Test("a filter that says nothing, too much or nonsense is refused by field")
    func badInput() async throws {
        try await TestAPI.with { api in
            for (body, field, says) in Self.bodies {
                let response = try await api.call("POST", "/v1/jobs/cancel", key: api.one.key, body: body)
                #expect(response.status == 422, "\(body)")
                let problem = try Problem.decode(response.body)
                #expect(problem.field == field && problem.detail.contains(says), "\(body): \(problem.detail)")
            }
        }
    }
}
