import Access
import Client
import Domain
import Engine
import Outbound
import TestSupport
import Testing
import Trust
import Wire

@testable import API

@Suite("How much an organization may have open")
struct QuotaTests {
    private func job(_ tenancy: Tenancy) -> String {
        #"{"kind":"ping","target":{"deviceIds":["\#(tenancy.device)"]}}"#
    }

    @Test("a quota is set by the levels above, shown to the organization, and taken back to the default")
    func setting() async throws {
        try await TestAPI.with { api in
            let one = api.one.organization
            let tenant = try await api.client(.organization(one))
            let partner = try await api.client(.partner(api.one.partner))
            let byDefault = QueueQuota(
                openRuns: QuotaUse(used: 0, limit: Limits.openRunsDefault, isDefault: true),
                openBytes: QuotaUse(used: 0, limit: Limits.openBytesDefault, isDefault: true))
            #expect(try await tenant.quota(of: one) == byDefault)
            let few = try await partner.setQuota(NewQuota(openRuns: 3), of: one)
            #expect(few.openRuns == QuotaUse(used: 0, limit: 3, isDefault: false))
            #expect(few.openBytes == byDefault.openBytes)
            #expect(try await tenant.quota(of: one) == few)
            #expect(try await tenant.queue(of: one).quota == few)
            let reply = try await api.call("POST", "/v1/jobs", body: job(api.one))
            #expect(reply.status == 202)
            let used = try await tenant.queue(of: one).quota
            #expect(used?.openRuns.used == 1 && used.map { $0.openBytes.used > 100 } == true)
            // Absent and null are the default, for each of them.
            let body = #"{"openRuns":null,"openBytes":4194304}"#
            #expect(try await api.call("PUT", "/v1/queues/\(one)/quota", body: body).status == 200)
            let bytes = try await tenant.quota(of: one)
            #expect(bytes.openRuns.isDefault && bytes.openBytes.limit == 4_194_304)
            #expect(try await partner.setQuota(NewQuota(), of: one).openBytes.isDefault)
        }
    }

    @Test("nobody sets his own quota, or sees or sets that of an organization of others")
    func permission() async throws {
        try await TestAPI.with { api in
            let one = api.one.organization
            let tenant = try await api.client(.organization(one))
            let own = try await refusal { _ = try await tenant.setQuota(NewQuota(openRuns: 9), of: one) }
            #expect(own.status == 403 && own.detail.contains("does not set its own"))
            for level in [
                Level.organization(api.other.organization), .partner(api.other.partner), .site(api.one.site),
            ] {
                let other = try await api.client(level)
                let set = try await refusal { _ = try await other.setQuota(NewQuota(openRuns: 9), of: one) }
                #expect(set.status == 404 || set.status == 403, "\(level)")
                let seen = try await refusal { _ = try await other.quota(of: one) }
                #expect(seen.status == 404 || seen.status == 403, "\(level)")
            }
            let reader = try await api.client(.platform, [.queuesRead, .queuesWrite])
            #expect(try await refusal { _ = try await reader.setQuota(NewQuota(), of: one) }.status == 403)
            let nobody = try await api.client(.platform, [.jobsRun])
            #expect(try await refusal { _ = try await nobody.quota(of: one) }.status == 403)
            #expect(try await tenant.quota(of: one).openRuns.isDefault)
        }
    }

    @Test("bad input names field, value and limit, and changes nothing")
    func badInput() async throws {
        try await TestAPI.with { api in
            let path = "/v1/queues/\(api.one.organization)/quota"
            for (body, field, says) in [
                (#"{"openRuns":0}"#, "openRuns", "1"), (#"{"openRuns":100000001}"#, "openRuns", "100000000"),
                (#"{"openBytes":4194303}"#, "openBytes", "4194304"),
                (#"{"openBytes":1099511627777}"#, "openBytes", "1099511627776"),
                (#"{"openRuns":"many"}"#, "openRuns", "integer"), (#"{"openRuns":1.5}"#, "openRuns", ""),
                (#"{"runs":1}"#, "runs", ""),
            ] {
                let problem = try api.problem(try await api.call("PUT", path, body: body))
                #expect(problem.status == 422 && problem.field == field, "\(body): \(problem)")
                #expect(problem.detail.contains(says), "\(body): \(problem.detail)")
            }
            for body in [
                #"{"openRuns":1}"#, #"{"openRuns":100000000}"#, #"{"openBytes":4194304}"#,
                #"{"openBytes":1099511627776}"#, "{}",
            ] {
                #expect(try await api.call("PUT", path, body: body).status == 200, "\(body)")
            }
            let none = "/v1/queues/\(UniqueID.v7(at: .now()))/quota"
            #expect(try await api.call("PUT", none, body: #"{"openRuns":1}"#).status == 404)
            #expect(try await api.call("GET", none).status == 404)
        }
    }

    @Test("what is over the quota is a 429 that says how long to wait, alone in its bulk, and no one else's")
    func refused() async throws {
        try await TestAPI.with { api in
            let one = api.one.organization
            let quota = "/v1/queues/\(one)/quota"
            #expect(try await api.call("PUT", quota, body: #"{"openRuns":2}"#).status == 200)
            let (mine, other) = (job(api.one), job(api.other))
            let bulk = try await api.call(
                "POST", "/v1/jobs/bulk",
                body: #"{"jobs":[\#(mine),\#(mine),\#(mine),\#(other)],"confirmDevices":2}"#)
            #expect(bulk.status == 207)
            let items = try BulkAnswer.decode(bulk.body).items
            #expect(items.map(\.status) == [202, 202, 429, 202])
            let problem = try #require(items[2].problem)
            #expect(problem.code == "quotaExceeded" && problem.field == "openRuns")
            #expect(problem.detail.contains("\(one)") && problem.detail.contains("would be 3; allowed are 2"))
            #expect(problem.retryAfterSeconds == 3_600)
            let key = ("Idempotency-Key", "again")
            let first = try await api.call("POST", "/v1/jobs", body: mine, headers: [key])
            #expect(first.status == 429 && first.header("retry-after") == "3600")
            #expect(try api.problem(first).code == "quotaExceeded")
            #expect(api.counters.snapshot["refused.quotaExceeded"] == 1)
            #expect(try await api.call("POST", "/v1/jobs", body: other).status == 202)
            // The same key is taken when there is room, and answered as before when there is none again.
            #expect(try await api.call("PUT", quota, body: #"{"openRuns":3}"#).status == 200)
            let taken = try await api.call("POST", "/v1/jobs", body: mine, headers: [key])
            #expect(taken.status == 202)
            #expect(try await api.call("POST", "/v1/jobs", body: mine).status == 429)
            let repeated = try await api.call("POST", "/v1/jobs", body: mine, headers: [key])
            #expect(repeated.status == 202 && repeated.body == taken.body)
        }
    }
}
