import Access
import Client
import Domain
import Ledger
import TestSupport
import Testing
import Trust
import Wire

@testable import API

@Suite("Explanations over the API")
struct ExplainTests {
    private func key(_ api: TestAPI, _ level: Level) async throws -> String {
        try await api.authenticator.createKey(
            name: "k", level: level, permissions: [.jobsRead, .jobsRun], expiresIn: .seconds(600), by: nil
        ).secret
    }

    private func client(_ api: TestAPI, _ level: Level) async throws -> APIClient {
        APIClient(url: api.url, key: try await key(api, level))
    }

    @Test("a run and its job are explained to whoever sees them, at every level, and to nobody else")
    func levels() async throws {
        try await TestAPI.with { api in
            let one = api.one
            try await api.connect(one.device)
            let tenant = try await client(api, .organization(one.organization))
            let job = try await tenant.submit(NewJob(kind: .ping, target: .devices([one.device])))
            let run = try #require(try await tenant.runs(of: job.id).items.first).id
            let levels: [Level] = [
                .platform, .partner(one.partner), .organization(one.organization), .site(one.site),
            ]
            for level in levels {
                let client = try await client(api, level)
                let explained = try await client.explain(run)
                #expect(explained.runId == run && explained.jobId == job.id && explained.state == .queued)
                #expect(explained.waitsFor == .turn && explained.deviceId == one.device)
                #expect(explained.position == 1 && explained.positionIsExact == true)
                #expect(explained.facts.deviceOnline == true && explained.facts.hostname == "one")
                #expect(explained.sentence.contains("It is next in its organization's standard queue"))
                // A site does not see its organization's jobs.
                guard level != .site(one.site) else { continue }
                let whole = try await client.explain(job.id)
                #expect(whole.groups.map(\.waitsFor) == [.turn])
                #expect(whole.groups.first?.runId == run)
                #expect(whole.sentence == "Of its 1 open run 1 waits for a turn in the queue.")
            }
            let strangers: [Level] = [
                .partner(api.other.partner), .organization(api.other.organization), .site(api.other.site),
            ]
            for level in strangers {
                let key = try await key(api, level)
                let foreign = try await api.call("GET", "/v1/runs/\(run)/explain", key: key)
                #expect(try api.problem(foreign).status == 404)
                let foreignJob = try await api.call("GET", "/v1/jobs/\(job.id)/explain", key: key)
                #expect(try api.problem(foreignJob).status == 404)
            }
            let nobody = try await api.call("GET", "/v1/runs/\(RunID(.zero))/explain")
            #expect(try api.problem(nobody).status == 404)
        }
    }

    @Test("what Redis and PostgreSQL know stands in the facts, and the position moves with the queue")
    func facts() async throws {
        try await TestAPI.with { api in
            let tenant = try await client(api, .organization(api.one.organization))
            try await api.connect(api.one.device)
            var runs: [RunID] = []
            for _ in 0..<3 {
                let job = try await tenant.submit(NewJob(kind: .ping, target: .devices([api.one.device])))
                runs.append(try #require(try await tenant.runs(of: job.id).items.first).id)
            }
            let last = try await tenant.explain(runs[2])
            #expect(last.waitsFor == .turn && last.position == 3 && last.facts.runsAhead == 2)
            #expect(last.facts.deviceOnline == true && last.facts.laneLimit == Limits.runsPerDevice)
            #expect(last.facts.organizationCount == 0 && last.facts.organizationCap == nil)
            #expect(last.estimatedStart == nil && last.facts.pauses.isEmpty && last.facts.laneRuns.isEmpty)
            let roundTrip = try ExplainedRun.decode(last.json)
            #expect(roundTrip == last)
        }
    }
}
