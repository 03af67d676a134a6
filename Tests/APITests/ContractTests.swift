import Access
import Client
import Domain
import Engine
import Foundation
import HTTPTypes
import Hummingbird
import Ledger
import Logging
import Outbound
import Postgres
import Redis
import Streams
import Testing
import Trust
import Wire

@testable import API

@Suite("The contract")
struct ContractTests {
    @Test("partners, organizations and sites are made, read and listed, page by page")
    func tenants() async throws {
        try await TestAPI.with { api in
            let client = APIClient(url: api.url, key: api.admin)
            defer { client.close() }
            let partner = try await client.createPartner(NewPartner(name: "Ünï ☃"))
            let organization = try await client.createOrganization(
                NewOrganization(name: "o", partnerId: PartnerID(partner.id.value)))
            #expect(organization.partnerId == partner.id)
            let site = try await client.createSite(
                NewSite(name: "s", organizationId: OrganizationID(organization.id.value)))
            let read = try Site.decode(try await api.call("GET", "/v1/sites/\(site.id)").body)
            #expect(read == site)
            var names: [String] = []
            var cursor: String?
            repeat {
                let page = try await client.partners(PageOptions(limit: 1, cursor: cursor))
                #expect(page.items.count == 1)
                names += page.items.map(\.name)
                cursor = page.next
            } while cursor != nil
            #expect(names == ["one", "other", "Ünï ☃"])
        }
    }

    @Test("a job is accepted, counted, listed with its runs, and cancelled; a second cancel is no error")
    func jobs() async throws {
        try await TestAPI.with { api in
            let client = APIClient(url: api.url, key: api.one.key)
            defer { client.close() }
            let accepted = try await client.submit(
                NewJob(kind: .ping, target: .devices([api.one.device]), timeoutSeconds: 5))
            #expect(accepted.state == .active)
            let job = try await client.job(accepted.id)
            #expect(job.counts == ["waiting": 1] && job.timeoutSeconds == 5 && job.kind == .ping)
            let run = try #require(try await client.runs(of: job.id).items.first)
            #expect(run.deviceId == api.one.device && run.state == .waiting && run.attempt == 0)
            #expect(try await client.run(run.id) == run)
            #expect(try await client.output(of: run.id).stdoutBytes == 0)
            #expect(try await client.cancel(job.id).cancelRequestedAt != nil)
            #expect(try await client.cancel(job.id).cancelRequestedAt != nil)
            #expect(try await client.jobs().items.map(\.id) == [job.id])
            try await api.end(job.id)
            let refused = await #expect(throws: Problem.self) { _ = try await client.cancel(job.id) }
            #expect(refused?.status == 409 && refused?.code == "conflict")
        }
    }

    @Test("the same idempotency key and body give the same job, another body is refused")
    func idempotency() async throws {
        try await TestAPI.with { api in
            let client = APIClient(url: api.url, key: api.one.key)
            defer { client.close() }
            let job = NewJob(kind: .ping, target: .devices([api.one.device]))
            let first = try await client.submit(job, idempotencyKey: "k")
            #expect(try await client.submit(job, idempotencyKey: "k").id == first.id)
            // The same job in other words: another order of members and defaults written out.
            let words =
                #"{"target":{"deviceIds":["\#(api.one.device)"]},"expiresInSeconds":604800,"kind":"ping"}"#
            let again = try await api.call(
                "POST", "/v1/jobs", key: api.one.key, body: words, headers: [("Idempotency-Key", "k")])
            #expect(try AcceptedJob.decode(again.body).id == first.id)
            let other = NewJob(kind: .sysinfo, target: .devices([api.one.device]))
            let refused = await #expect(throws: Problem.self) {
                _ = try await client.submit(other, idempotencyKey: "k")
            }
            #expect(refused?.status == 409 && refused?.code == "idempotencyConflict")
            #expect(try await client.submit(job, idempotencyKey: "l").id != first.id)
        }
    }

    @Test("of a bulk submission each element has an outcome of its own, in order")
    func bulk() async throws {
        try await TestAPI.with { api in
            let good = #"{"kind":"ping","target":{"deviceIds":["\#(api.one.device)"]}}"#
            let stranger = #"{"kind":"ping","target":{"deviceIds":["\#(api.other.device)"]}}"#
            let body = #"{"jobs":[\#(good),{"kind":"ping"},1,\#(stranger),\#(good)]}"#
            let headers = [("Idempotency-Key", "b")]
            let response = try await api.call(
                "POST", "/v1/jobs/bulk", key: api.one.key, body: body, headers: headers)
            #expect(response.status == 207)
            let items = try BulkAnswer.decode(response.body).items
            #expect(items.map(\.status) == [202, 422, 422, 422, 202])
            #expect(items[1].problem?.field == "jobs[1].target" && items[2].problem?.field == "jobs[2]")
            #expect(items[0].id != nil && items[0].id != items[4].id)
            let again = try await api.call(
                "POST", "/v1/jobs/bulk", key: api.one.key, body: body, headers: headers)
            #expect(try BulkAnswer.decode(again.body).items.map(\.id) == items.map(\.id))
        }
    }

    @Test("devices are listed with their presence and narrowed by it")
    func devices() async throws {
        try await TestAPI.with { api in
            let client = APIClient(url: api.url, key: api.admin)
            defer { client.close() }
            try await api.connect(api.other.device)
            let all = try await client.devices().items
            #expect(all.map(\.online) == [false, true])
            #expect(try await client.devices(online: true).items.map(\.id) == [api.other.device])
            #expect(try await client.devices(online: false).items.map(\.id) == [api.one.device])
            #expect(try await client.devices(organization: api.one.organization, online: true).items.isEmpty)
            #expect(try await client.devices(site: api.other.site).items.map(\.id) == [api.other.device])
            let first = try await client.devices(PageOptions(limit: 1))
            #expect(
                try await client.devices(PageOptions(cursor: first.next)).items.map(\.id) == [
                    api.other.device
                ])
            #expect(try await client.device(api.other.device).online)
            #expect(all.map(\.offlineReason) == [nil, nil], "never seen, and there")
            try await api.owner.execute(
                "UPDATE devices SET last_seen_at = now(), departure = 1, clock_skew_ms = -61000",
                scope: .platform)
            let (away, there) = (
                try await client.device(api.one.device), try await client.device(api.other.device)
            )
            #expect(away.offlineReason == "left" && away.clockSkewMilliseconds == -61_000)
            #expect(there.offlineReason == nil)
        }
    }

    @Test(
        "a stream shows the job at once and at each change, and ends with the job"
    )
    func events() async throws {
        try await TestAPI.with { api in
            let client = APIClient(url: api.url, key: api.one.key)
            defer { client.close() }
            let accepted = try await client.submit(NewJob(kind: .ping, target: .devices([api.one.device])))
            var seen: [Job] = []
            for try await job in client.events(of: accepted.id) {
                seen.append(job)
                if seen.count == 1 { _ = try await client.cancel(job.id) }
                if seen.count == 2 { try await api.end(job.id) }
            }
            // A cancel is more than one commit, and each may be seen.
            #expect(seen.count >= 3 && zip(seen, seen.dropFirst()).allSatisfy { $0 != $1 })
            #expect(seen[0].cancelRequestedAt == nil && seen[1].cancelRequestedAt != nil)
            #expect(seen.last?.state == .cancelled && seen.dropLast().allSatisfy { !$0.state.isEnd })
            var after: [Job] = []
            for try await job in client.events(of: accepted.id) { after.append(job) }
            #expect(after.map(\.state) == [.cancelled])
            let stranger = APIClient(url: api.url, key: api.other.key)
            defer { stranger.close() }
            let refused = await #expect(throws: Problem.self) {
                for try await _ in stranger.events(of: accepted.id) {}
            }
            #expect(refused?.status == 404)
        }
    }

    @Test("queues are listed with what waits in them")
    func queues() async throws {
        try await TestAPI.with { api in
            let client = APIClient(url: api.url, key: api.one.key)
            defer { client.close() }
            try await api.connect(api.one.device)
            for priority in [Priority.standard, .bulk, .bulk] {
                let new = NewJob(kind: .ping, target: .devices([api.one.device]), priority: priority)
                let accepted = try await client.submit(new)
                #expect(try await client.job(accepted.id).priority == priority)
            }
            let queues = try await client.queues().items
            #expect(
                queues.map(\.organizationId) == [OrganizationID](repeating: api.one.organization, count: 3))
            #expect(queues.map(\.priority) == Priority.allCases)
            #expect(queues.map(\.depth) == [0, 1, 2])
            #expect(queues.map(\.exact) == [true, true, true])
            // Pages of one queue are the same list, and what is no cursor is refused.
            var page = try await client.queues(PageOptions(limit: 1))
            var paged = page.items
            while let next = page.next {
                page = try await client.queues(PageOptions(limit: 1, cursor: next))
                paged += page.items
            }
            #expect(paged.map(\.priority) == Priority.allCases)
            for cursor in ["x", "AAAAAAAAAAAAAAAAAAAAAAk"] {
                let refused = await #expect(throws: Problem.self) {
                    _ = try await client.queues(PageOptions(limit: 1, cursor: cursor))
                }
                #expect(refused?.status == 422 && refused?.field == "cursor")
            }
        }
    }

    @Test("a key holds 100 event streams and no more; each that ends makes room")
    func streamLimit() async throws {
        try await TestAPI.with { api in
            let client = APIClient(url: api.url, key: api.one.key)
            defer { client.close() }
            let accepted = try await client.submit(NewJob(kind: .ping, target: .devices([api.one.device])))
            let row = try #require(await api.ledger.job(accepted.id, scope: .platform))
            let call = Call(
                id: "r", caller: try await api.authenticator.principal(of: api.one.key), reach: .platform,
                credential: api.one.key, isFromCookie: false, address: nil, userAgent: "test",
                parameters: [:], rawQuery: nil, body: [], idempotencyKey: nil, version: nil,
                stream: RequestBody(buffer: ByteBuffer()),
                log: CallLog(base: Logger(label: "test"), requestID: "r", trace: .new()))
            let watches = JobWatches(ledger: api.ledger, authenticator: api.authenticator)
            var replies: [Reply] = []
            for _ in 0..<JobWatches.streamsMax { replies.append(try watches.reply(to: call, first: row)) }
            let refused = #expect(throws: Problem.self) { _ = try watches.reply(to: call, first: row) }
            #expect(refused?.status == 429 && refused?.detail.contains("100") == true)
            replies.removeLast()
            replies.append(try watches.reply(to: call, first: row))
            #expect(throws: Problem.self) { _ = try watches.reply(to: call, first: row) }
        }
    }

    @Test("HEAD answers as GET does, without the content, and leaves the connection usable")
    func head() async throws {
        try await TestAPI.with { api in
            for _ in 0..<3 {
                let head = try await api.call("HEAD", "/v1/partners")
                #expect(head.status == 200 && head.body.isEmpty)
                let get = try await api.call("GET", "/v1/partners")
                #expect(head.header("content-length") == get.header("content-length"))
                #expect(try await api.call("HEAD", "/v1/dragons").status == 404)
            }
        }
    }

    @Test("readiness names the parts that do not answer")
    func readiness() async throws {
        try await TestAPI.with { api in
            #expect(try await api.call("GET", "/healthz", key: .some(nil)).status == 200)
            #expect(try await api.call("GET", "/readyz", key: .some(nil)).status == 200)
            api.isReady.clear()
            let response = try await api.call("GET", "/readyz", key: .some(nil))
            #expect(response.status == 503)
            #expect(try Readiness.decode(response.body).parts == ["database": true, "redis": false])
        }
    }

    @Test(
        "a database that is away is a 503 with Retry-After and without details"
    )
    func databaseGone() async throws {
        try await TestAPI.with { api in
            let closed = PostgresPool(
                configuration: try PostgresConfiguration(url: "postgresql:///none"),
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            let thrown = await #expect(throws: PostgresError.self) {
                try await closed.execute("SELECT 1", scope: .none)
            }
            let error = try #require(thrown)
            let problem = try #require(Problem.of(error))
            #expect(
                problem.status == 503 && problem.code == "unavailable" && !problem.detail.contains("SELECT"))
            #expect(problem.reply(requestID: "r").headers[.retryAfter] == "1")
        }
    }

    @Test("a queue that is away, or is being rebuilt, is a 503 with Retry-After and without details")
    func queueGone() throws {
        let errors: [any Error] = [
            RedisError(.connection, "no secret address"), RedisError(.timeout, "no secret address"),
            QueueError.staleEpoch(current: nil), QueueError.full,
        ]
        for error in errors {
            let problem = try #require(Problem.of(error))
            #expect(problem.status == 503 && problem.code == "unavailable", "\(error)")
            #expect(!problem.detail.contains("secret"))
            #expect(problem.reply(requestID: "r").headers[.retryAfter] == "1")
        }
    }

    @Test("an idempotency key is refused where it would be ignored")
    func idempotencyElsewhere() async throws {
        try await TestAPI.with { api in
            let answer = try await api.call(
                "POST", "/v1/partners", body: #"{"name":"twice"}"#, headers: [("Idempotency-Key", "k")])
            let problem = try api.problem(answer)
            #expect(problem.status == 422 && problem.code == "notSupported")
            #expect(problem.field == "Idempotency-Key")
        }
    }

    @Test("TLS by our own handler, trusted by the authority alone")
    func tls() async throws {
        let authority = try CertificateAuthority.make(commonName: "test", validitySeconds: 3_600)
        let key = P256Key()
        let certificate = try authority.issueServer(
            for: key, dnsNames: ["localhost"], ipAddresses: ["127.0.0.1"], validitySeconds: 3_600)
        let context = try TLSContext.server(
            certificatePEM: certificate.pem, keyPEM: key.pem, clientCA: nil, minimum: .v12, alpn: ["http/1.1"]
        )
        let file = FileManager.default.temporaryDirectory.appending(
            path: "crmm-\(UInt64.random(in: 0...UInt64.max)).pem")
        try Data(authority.certificate.pem.utf8).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }  // A leftover of a failed test does no harm.
        try await TestAPI.with(tls: context) { api in
            let client = APIClient(url: api.url, key: api.admin, certificateAuthority: file.path)
            defer { client.close() }
            #expect(try await client.partners().items.count == 2)
            let big = NewJob(
                kind: .script, target: .devices([api.one.device]),
                script: Script(.sh, String(repeating: "x", count: 1 << 20)))
            _ = try await client.submit(big)
            let stranger = APIClient(url: api.url, key: api.admin)
            defer { stranger.close() }
            let refused = await #expect(throws: OutboundError.self) { _ = try await stranger.partners() }
            #expect(refused?.code == .tls)
        }
    }
}

extension TestAPI {
    /// Ends a job as a worker would.
    func end(_ job: JobID) async throws {
        let ended = try await owner.execute(
            "UPDATE jobs SET state = 11, finished_at = now() WHERE id = \(job)", scope: .platform)
        #expect(ended == 1)
    }
}
