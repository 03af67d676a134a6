import Client
import Domain
import Outbound
import Postgres
import Testing
import Wire

@testable import API

@Suite("Traces of callers")
struct TraceTests {
    private static let trace = "0af7651916cd43dd8448eb211c80319c"
    private static let text = "00-\(trace)-b7ad6b7169203331-01"

    private func context(_ response: HTTPResponse) throws -> TraceContext {
        let header = try #require(response.header("traceparent"))
        #expect(header.utf8.count == TraceContext.length)
        return try #require(TraceContext(header))
    }

    private func submit(_ api: TestAPI, headers: [(String, String)]) async throws -> (Job, TraceContext) {
        let body = String(
            decoding: NewJob(kind: .ping, target: .devices([api.one.device]), timeoutSeconds: 5).json,
            as: UTF8.self)
        let response = try await api.call(
            "POST", "/v1/jobs", key: api.one.key, body: body, headers: headers)
        let accepted = try AcceptedJob.decode(response.body)
        let shown = try await api.call("GET", "/v1/jobs/\(accepted.id)", key: api.one.key)
        return (try Job.decode(shown.body), try context(response))
    }

    @Test("a caller's trace is kept with the job, answered with a step of this server, and shown")
    func kept() async throws {
        try await TestAPI.with { api in
            let (job, answered) = try await submit(api, headers: [("traceparent", Self.text)])
            #expect(answered.traceID == Self.trace && answered.isSampled)
            #expect(answered.traceparent != Self.text, "the step is another one")
            #expect(job.traceparent == answered.traceparent)
            let page = try await api.call("GET", "/v1/jobs", key: api.one.key)
            #expect(String(decoding: page.body, as: UTF8.self).contains(answered.traceparent))
        }
    }

    @Test("without one that can be read a trace begins here: of each request its own")
    func begun() async throws {
        try await TestAPI.with { api in
            let (first, one) = try await submit(api, headers: [])
            let (second, two) = try await submit(api, headers: [("traceparent", "00-nonsense")])
            let twice = [("traceparent", Self.text), ("traceparent", Self.text)]
            let (third, three) = try await submit(api, headers: twice)
            #expect(Set([one, two, three].map(\.traceID)).union([Self.trace]).count == 4)
            #expect([first, second, third].map(\.traceparent) == [one, two, three].map(\.traceparent))
            let refused = try await api.call(
                "GET", "/v1/nothing", key: api.one.key, headers: [("traceparent", Self.text)])
            #expect(refused.status == 404)
            #expect(try context(refused).traceID == Self.trace)
        }
    }

    @Test("each job of a bulk submission has the trace of their request")
    func bulk() async throws {
        try await TestAPI.with { api in
            let new = NewJob(kind: .ping, target: .devices([api.one.device]), timeoutSeconds: 5)
            let one = String(decoding: new.json, as: UTF8.self)
            let response = try await api.call(
                "POST", "/v1/jobs/bulk", key: api.one.key, body: "{\"jobs\":[\(one),\(one)]}",
                headers: [("traceparent", Self.text)])
            let items = try BulkAnswer.decode(response.body).items
            #expect(items.count == 2)
            for item in items {
                let id = try #require(item.id)
                let shown = try await api.call("GET", "/v1/jobs/\(id)", key: api.one.key)
                let trace = try #require(Job.decode(shown.body).traceparent.flatMap { TraceContext($0) })
                #expect(trace.traceID == Self.trace)
            }
        }
    }

    @Test("a retry and a redriven dead letter have the trace of who asked for them, not that of the old job")
    func repeated() async throws {
        try await TestAPI.with { api in
            let (job, first) = try await submit(api, headers: [])
            // Its only run has failed, and nothing more is tried.
            try await api.owner.pipeline(
                scope: .platform,
                [
                    """
                    INSERT INTO run_history (organization_id, id, job_id, device_id, site_id, state, attempt,
                                             created_at, finished_at, dead)
                    SELECT organization_id, id, job_id, device_id, site_id, 11, 1, created_at, now(), true
                    FROM runs
                    """,
                    "DELETE FROM runs",
                    "UPDATE jobs SET state = 10, ended = '{0,1,0,0,0,0}', finished_at = now()",
                ])
            let headers = [("traceparent", Self.text)]
            let redriven = try DeadLetterAnswer.decode(
                try await api.call(
                    "POST", "/v1/dead-letters/redrive", key: api.one.key, body: #"{"jobId":"\#(job.id)"}"#,
                    headers: headers
                ).body)
            let retried = try AcceptedJob.decode(
                try await api.call(
                    "POST", "/v1/jobs/\(job.id)/retry", key: api.one.key, body: "{}", headers: headers
                ).body)
            let ids = [try #require(redriven.jobs.first?.id, "\(redriven)"), retried.id]
            #expect(Set(ids).count == 2)
            for id in ids {
                let shown = try await api.call("GET", "/v1/jobs/\(id)", key: api.one.key)
                let new = try Job.decode(shown.body)
                #expect(new.retryOf == job.id)
                #expect(new.traceparent.flatMap { TraceContext($0) }?.traceID == Self.trace)
            }
            let old = try Job.decode(try await api.call("GET", "/v1/jobs/\(job.id)", key: api.one.key).body)
            #expect(old.traceparent == first.traceparent)
        }
    }
}
