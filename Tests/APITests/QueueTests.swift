import Access
import Client
import Domain
import Engine
import HTTPTypes
import Ledger
import Postgres
import Streams
import TestSupport
import Testing
import Trust
import Wire

@testable import API

@Suite("Operators' controls of the queues")
struct QueueTests {
    @Test("a pause is set, listed, shown where it holds back, and lifted; the second resume is a conflict")
    func pause() async throws {
        try await TestAPI.with { api in
            let one = api.one.organization
            let platform = try await api.client(.platform)
            let tenant = try await api.client(.organization(one))
            let scope = QueueScope(organization: one, kind: .script, priority: .bulk)
            let control = try await tenant.pause(ControlRequest(scope, reason: "a reason"))
            #expect(control.scope == scope && control.mode == .pause && control.reason == "a reason")
            #expect(!control.byPlatform)
            let again = try await tenant.pause(ControlRequest(scope, reason: "another"))
            #expect(again.id == control.id && again.since == control.since && again.reason == "another")
            let all = try await platform.pause(ControlRequest(QueueScope(kind: .ping)))
            #expect(try await platform.controls().items == [again, all])
            #expect(try await tenant.controls().items == [again, all], "what holds it back")
            #expect(try await tenant.queue(of: one).controls == [again, all])
            let other = try await api.client(.organization(api.other.organization))
            #expect(try await other.controls().items == [all])
            #expect(try await tenant.resume(ResumeRequest(scope)).lifted == [again])
            let refused = try await refusal { _ = try await tenant.resume(ResumeRequest(scope)) }
            #expect(refused.status == 409 && refused.code == "conflict")
            #expect(
                refused.detail
                    == "priority bulk of kind script of organization \(one) is not paused and not draining")
        }
    }

    @Test("a resume ends exactly what is named, of the mode that is named")
    func resume() async throws {
        try await TestAPI.with { api in
            let tenant = try await api.client(.organization(api.one.organization))
            let whole = QueueScope(organization: api.one.organization)
            let part = QueueScope(organization: api.one.organization, kind: .ping)
            let paused = try await tenant.pause(ControlRequest(whole))
            let draining = try await tenant.drain(ControlRequest(whole))
            let kept = try await tenant.pause(ControlRequest(part))
            #expect(try await tenant.resume(ResumeRequest(whole, mode: .drain)).lifted == [draining])
            let refused = try await refusal {
                _ = try await tenant.resume(ResumeRequest(whole, mode: .drain))
            }
            #expect(refused.detail.hasSuffix("is not draining"))
            #expect(try await tenant.resume(ResumeRequest(whole)).lifted == [paused])
            #expect(try await tenant.controls().items == [kept])
        }
    }

    @Test("what drains refuses new jobs by name, answers those that it has, and lets the rest pass")
    func drain() async throws {
        try await TestAPI.with { api in
            let one = api.one.organization
            let tenant = try await api.client(.organization(one))
            try await api.connect(api.one.device)
            let job = NewJob(kind: .ping, target: .devices([api.one.device]))
            let before = try await tenant.submit(job, idempotencyKey: "k")
            _ = try await tenant.drain(
                ControlRequest(QueueScope(organization: one, kind: .ping), reason: "moving house"))
            let refused = try await refusal { _ = try await tenant.submit(job, idempotencyKey: "l") }
            #expect(refused.status == 409 && refused.code == "draining")
            #expect(refused.detail.hasPrefix("kind ping of organization \(one) is draining since "))
            #expect(refused.detail.hasSuffix("takes no new jobs: moving house"))
            #expect(try await tenant.submit(job, idempotencyKey: "k").id == before.id, "it was taken before")
            let other = NewJob(kind: .sysinfo, target: .devices([api.one.device]))
            _ = try await tenant.submit(other)
            #expect(try await tenant.job(before.id).counts == ["queued": 1], "what is queued stays")
            let stranger = try await api.client(.organization(api.other.organization))
            _ = try await stranger.submit(NewJob(kind: .ping, target: .devices([api.other.device])))
        }
    }

    @Test("a weight and a cap are set, shown and act in the queue")
    func weights() async throws {
        try await TestAPI.with { api in
            let one = api.one.organization
            let partner = try await api.client(.partner(api.one.partner))
            #expect(try await partner.weigh(one, NewWeight(weight: 2.5)).weight == 2.5)
            #expect(try await partner.cap(one, NewCap(cap: 10)).cap == 10)
            let depth = try #require(try await api.queue.depths(of: [one]).first)
            #expect(depth.weight == 2.5 && depth.cap == 10)
            #expect(try await partner.cap(one, NewCap(cap: nil)).cap == nil)
            let shown = try await partner.queue(of: one)
            #expect(shown.weight == 2.5 && shown.cap == nil && shown.controls.isEmpty)
            #expect(shown.queues.allSatisfy { $0.organizationId == one && $0.weight == 2.5 })
        }
    }

    /// A call about one organization.
    private enum Attempt: CaseIterable {
        case pause, drain, resume, weigh, cap, show

        func make(_ client: APIClient, _ organization: OrganizationID) async throws {
            let scope = QueueScope(organization: organization)
            switch self {
            case .pause: _ = try await client.pause(ControlRequest(scope))
            case .drain: _ = try await client.drain(ControlRequest(scope))
            case .resume: _ = try await client.resume(ResumeRequest(scope))
            case .weigh: _ = try await client.weigh(organization, NewWeight(weight: 2))
            case .cap: _ = try await client.cap(organization, NewCap(cap: 2))
            case .show: _ = try await client.queue(of: organization)
            }
        }
    }

    @Test("each level reaches itself and what is below it, and nobody else")
    func levels() async throws {
        try await TestAPI.with { api in
            let (one, other) = (api.one.organization, api.other.organization)
            let platform = try await api.client(.platform)
            let partner = try await api.client(.partner(api.one.partner))
            let tenant = try await api.client(.organization(one))
            let site = try await api.client(.site(api.one.site))
            func pause(_ client: APIClient, _ scope: QueueScope) async throws {
                _ = try await client.pause(ControlRequest(scope))
            }
            for (client, organization) in [(partner, other), (tenant, other), (site, one), (site, other)] {
                for attempt in Attempt.allCases {
                    let refused = try await refusal { try await attempt.make(client, organization) }
                    #expect(refused.status == 404, "\(attempt)")
                }
            }
            // Nobody but the platform reaches all.
            for client in [partner, tenant, site] {
                for scope in [QueueScope(), QueueScope(kind: .ping), QueueScope(priority: .bulk)] {
                    let refused = try await refusal { try await pause(client, scope) }
                    #expect(refused.status == 403 && refused.field == "allOrganizations")
                }
                #expect(try await refusal { _ = try await client.workers() }.status == 403)
                #expect(try await refusal { _ = try await client.drain(WorkerID(.zero)) }.status == 403)
            }
            // Nobody weighs itself.
            let own = try await refusal { _ = try await tenant.weigh(one, NewWeight(weight: 2)) }
            #expect(own.status == 403)
            #expect(try await refusal { _ = try await tenant.cap(one, NewCap(cap: 2)) }.status == 403)
            // What the platform has set, only the platform lifts; what others set, it lifts too.
            let scope = QueueScope(organization: one)
            _ = try await platform.pause(ControlRequest(scope))
            for client in [partner, tenant] {
                let refused = try await refusal { _ = try await client.resume(ResumeRequest(scope)) }
                #expect(refused.status == 403 && refused.detail.contains("by the platform"))
            }
            try await pause(tenant, scope)
            #expect(try await partner.resume(ResumeRequest(scope)).lifted.map(\.byPlatform) == [false])
            #expect(try await api.queue.depths(of: [one]).map(\.paused) == [true], "the platform's holds")
            try await pause(tenant, scope)
            #expect(try await platform.resume(ResumeRequest(scope)).lifted.count == 2)
            #expect(try await api.queue.depths(of: [one]).map(\.paused) == [false])
        }
    }

    @Test("a partner that was not given the permission weighs nobody")
    func permission() async throws {
        try await TestAPI.with { api in
            let (_, key) = try await api.authenticator.createKey(
                name: "k", level: .partner(api.one.partner), permissions: [.queuesRead, .queuesWrite],
                expiresIn: .seconds(600), by: nil)
            let partner = APIClient(url: api.url, key: key)
            let refused = try await refusal {
                _ = try await partner.weigh(api.one.organization, NewWeight(weight: 2))
            }
            #expect(refused.status == 403 && refused.detail.contains("queues:weigh"))
            _ = try await partner.pause(ControlRequest(QueueScope(organization: api.one.organization)))
        }
    }

    @Test("workers are listed; one drains once, and what claims nothing is refused by name")
    func workers() async throws {
        try await TestAPI.with { api in
            let client = APIClient(url: api.url, key: api.admin)
            let (worker, gateway) = (WorkerID.new(at: .now()), WorkerID.new(at: .now()))
            try await api.ledger.beginWorker(worker, role: "worker", host: "a", processID: 1)
            try await api.ledger.beginWorker(gateway, role: "gateway", host: "b", processID: 2)
            let listed = try await client.workers().items
            #expect(Set(listed.map(\.id)) == [worker, gateway] && listed.allSatisfy { $0.state == .running })
            #expect(try await client.drain(worker).state == .draining)
            #expect(try await client.drain(worker).state == .draining)
            let refused = try await refusal { _ = try await client.drain(gateway) }
            #expect(refused.status == 409 && refused.detail.contains("a role gateway"))
            try await api.ledger.endWorker(worker)
            let ended = try await refusal { _ = try await client.drain(worker) }
            #expect(ended.status == 409 && ended.detail.contains("stopped"))
            #expect(try await refusal { _ = try await client.drain(WorkerID(.zero)) }.status == 404)
        }
    }

    /// A request, the field that is refused, and what is said of it.
    struct BadCase {
        let method: String
        let path: String
        let body: String
        let field: String
        let says: String

        init(_ method: String, _ path: String, _ body: String, _ field: String, _ says: String) {
            (self.method, self.path, self.body, self.field, self.says) = (method, path, body, field, says)
        }
    }

    private static let badCases: [BadCase] = [
        BadCase("POST", "pause", "{}", "organizationId", "is missing"),
        BadCase("POST", "drain", #"{"kind":"ping"}"#, "organizationId", "allOrganizations: true"),
        BadCase("POST", "resume", #"{"allOrganizations":false}"#, "organizationId", "is missing"),
        BadCase(
            "POST", "pause", #"{"allOrganizations":true,"organizationId":"ID"}"#, "organizationId", "beside"),
        BadCase(
            "POST", "pause", #"{"organizationId":"ID","kind":"reboot"}"#, "kind", "script, ping, sysinfo"),
        BadCase(
            "POST", "pause", #"{"organizationId":"ID","priority":"urgent"}"#, "priority",
            "interactive, standard, bulk"),
        BadCase("POST", "resume", #"{"organizationId":"ID","mode":"stop"}"#, "mode", "pause, drain"),
        BadCase("POST", "pause", #"{"organizationId":"ID","reason":""}"#, "reason", "must not be empty"),
        BadCase("POST", "pause", #"{"organizationId":"ID","reason":"LONG"}"#, "reason", "1 to 500"),
        BadCase("POST", "resume", #"{"organizationId":"ID","reason":"x"}"#, "reason", "is not a field here"),
        BadCase("PUT", "ID/weight", #"{"weight":0}"#, "weight", "is 0.0; allowed are 0.001 to 1000.0"),
        BadCase("PUT", "ID/weight", #"{"weight":-1}"#, "weight", "is -1.0; allowed are 0.001 to 1000.0"),
        BadCase("PUT", "ID/weight", #"{"weight":1000.5}"#, "weight", "is 1000.5"),
        BadCase("PUT", "ID/weight", #"{"weight":"2"}"#, "weight", "must be a number"),
        BadCase("PUT", "ID/cap", #"{"cap":0}"#, "cap", "is 0; allowed are 1 to 1000000"),
        BadCase("PUT", "ID/cap", #"{"cap":1000001}"#, "cap", "allowed are 1 to 1000000"),
        BadCase("PUT", "ID/cap", "{}", "cap", "unlimited: true"),
        BadCase("PUT", "ID/cap", #"{"cap":1,"unlimited":true}"#, "cap", "beside unlimited"),
    ]

    @Test("bad input names field, value and limit, and changes nothing")
    func badInput() async throws {
        try await TestAPI.with { api in
            func filled(_ text: String) -> String {
                text.replacing("ID\"", with: "\(api.one.organization)\"")
                    .replacing("ID/", with: "\(api.one.organization)/")
                    .replacing("LONG", with: String(repeating: "x", count: 501))
            }
            for bad in Self.badCases {
                let answer = try await api.call(
                    bad.method, "/v1/queues/\(filled(bad.path))", body: filled(bad.body))
                let problem = try api.problem(answer)
                #expect(problem.status == 422 && problem.field == bad.field, "\(bad): \(problem)")
                #expect(problem.detail.contains(bad.says), "\(bad): \(problem.detail)")
            }
            let changed = try await api.owner.query(
                """
                SELECT (SELECT count(*) FROM queue_controls)
                     + (SELECT count(*) FROM organizations WHERE weight <> 1 OR running_cap IS NOT NULL)
                """, scope: .platform
            ) { row in try row.decode(Int.self) }
            #expect(changed == [0])
        }
    }
}
