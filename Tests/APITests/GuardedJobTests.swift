import Client
import Domain
import Ledger
import Outbound
import Postgres
import TestSupport
import Testing
import Trust
import Wire

@testable import API
@testable import Access

extension TestAPI {
    /// Enrols more devices at a tenancy's site, as an agent would.
    @discardableResult
    func enrol(_ count: Int, at place: Tenancy) async throws -> [DeviceID] {
        let now = Instant.now()
        let judge = EdgeJudge(
            key: try MACKey(bytes: Array(repeating: 7, count: 32)), keyID: "k1"
        ) { _ in }
        let (token, hash) = (EnrollmentTokenID.new(at: now), SHA256.hash(UniqueID.v7(at: now).bytes))
        try await ledger.createEnrollmentToken(
            token, site: #require(await ledger.site(place.site, scope: .platform)), hash: hash,
            expiresInSeconds: 60, usesMax: count, by: PrincipalID(.zero), scope: .platform)
        var devices: [DeviceID] = []
        for _ in 0..<count {
            let device = DeviceID.new(at: .now())
            let isKept = try await ledger.enroll(
                EnrolledDevice(
                    token: token, tokenHash: hash, device: device, organization: place.organization,
                    site: place.site, hostname: "more", platform: "linux", agentVersion: "1", machineID: nil,
                    keyHash: SHA256.hash(device.bytes), certificateSerial: device.description,
                    certificateEnd: now + .seconds(600), assignment: [1],
                    mac: judge.mac(of: .device(device, at: place.site, of: place.organization))))
            #expect(isKept)
            devices.append(device)
        }
        return devices
    }

    /// How many jobs there are.
    func jobCount() async throws -> Int {
        try await owner.query("SELECT count(*) FROM jobs", scope: .platform) { try $0.decode(Int.self) }[0]
    }
}

@Suite("A job that reaches many devices has their number confirmed")
struct GuardedJobTests {
    private func ping(_ target: Target, confirming devices: Int? = nil) -> NewJob {
        var job = NewJob(kind: .ping, target: target)
        job.confirmDevices = devices
        return job
    }

    @Test("above the threshold exactly the present number lets it through; else nothing is made")
    func confirmation() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let more = try await api.enrol(2, at: api.one)
            let all = more + [api.one.device]
            _ = try await admin.edit(api.one.partner, NewGuardChanges(confirmAbove: 2))
            let targets: [Target] = [
                .devices(all), .site(api.one.site), .organization(api.one.organization),
            ]
            for target in targets {
                for said in [nil, 1, 2, 4] {
                    let refused = try await refusal {
                        _ = try await admin.submit(ping(target, confirming: said))
                    }
                    #expect(refused.status == 409 && refused.code == "confirmationRequired")
                    #expect(refused.devices == 3 && refused.field == "confirmDevices", "\(refused)")
                }
            }
            #expect(try await api.jobCount() == 0)
            for target in targets {
                let job = try await admin.job(admin.submit(ping(target, confirming: 3)).id)
                #expect(job.devicesMax == (target == .devices(all) ? nil : 3))
            }
            // At the threshold nobody has to say it; who does says it right.
            _ = try await admin.submit(ping(.devices(more)))
            let wrong = try await refusal { _ = try await admin.submit(ping(.devices(more), confirming: 3)) }
            #expect(wrong.code == "confirmationRequired" && wrong.devices == 2)
            // The number is that of now.
            try await api.enrol(1, at: api.one)
            let late = try await refusal {
                _ = try await admin.submit(ping(.site(api.one.site), confirming: 3))
            }
            #expect(late.devices == 4)
            // What nobody confirmed never reaches more than the threshold. Another partner has its own.
            let other = try await admin.job(admin.submit(ping(.site(api.other.site))).id)
            #expect(other.devicesMax == 50)
            for said in ["0", "100000001"] {
                let body =
                    #"{"kind":"ping","target":{"siteId":"\#(api.one.site)"},"confirmDevices":\#(said)}"#
                let problem = try api.problem(try await api.call("POST", "/v1/jobs", body: body))
                #expect(problem.status == 422 && problem.field == "confirmDevices")
            }
            let retry = "/v1/jobs/\(other.id)/retry"
            let query = try api.problem(try await api.call("POST", "\(retry)?confirmDevices=0"))
            #expect(query.status == 422 && query.field == "confirmDevices")
        }
    }

    @Test("a bulk is judged as a whole: devices once each, and several organizations always confirmed")
    func bulk() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let more = try await api.enrol(2, at: api.one)
            _ = try await admin.edit(api.one.partner, NewGuardChanges(confirmAbove: 2))
            func refused(_ jobs: [NewJob], _ said: Int?) async throws -> Int? {
                let problem = try await refusal {
                    _ = try await admin.submit(NewJobs(jobs: jobs, confirmDevices: said))
                }
                #expect(problem.status == 409 && problem.code == "confirmationRequired")
                return problem.devices
            }
            let each = (more + [api.one.device]).map { ping(.devices([$0])) }
            #expect(try await refused(each, nil) == 3)
            #expect(try await refused(each + each, 6) == 3)
            #expect(try await refused(each + [ping(.site(api.one.site))], nil) == 6)
            #expect(try await refused(each + [ping(.organization(api.one.organization))], 6) == 3)
            let both = [ping(.devices([api.one.device])), ping(.devices([api.other.device]))]
            #expect(try await refused(both, nil) == 2)
            #expect(try await refused(both, 1) == 2)
            #expect(try await api.jobCount() == 0)
            let items = try await admin.submit(NewJobs(jobs: each + each, confirmDevices: 3)).items
            #expect(items.map(\.status) == Array(repeating: 202, count: 6))
            let two = try await admin.submit(NewJobs(jobs: both, confirmDevices: 2)).items
            #expect(two.map(\.status) == [202, 202])
            // The same device ten times is one device.
            _ = try await admin.submit(NewJobs(jobs: Array(repeating: each[0], count: 10)))
            let inside = try await admin.submit(
                NewJobs(jobs: [ping(.devices([api.one.device]), confirming: 1)])
            ).items
            #expect(inside[0].status == 422 && inside[0].problem?.field == "jobs[0].confirmDevices")
        }
    }

    @Test("what was taken is answered as it was under its key, however many devices there are by then")
    func repeated() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            try await api.enrol(1, at: api.one)
            _ = try await admin.edit(api.one.partner, NewGuardChanges(confirmAbove: 1))
            let first = try await admin.submit(
                ping(.site(api.one.site), confirming: 2), idempotencyKey: "k")
            try await api.enrol(1, at: api.one)
            for said in [nil, 2, 3] {
                let again = try await admin.submit(
                    ping(.site(api.one.site), confirming: said), idempotencyKey: "k")
                #expect(again.id == first.id)
            }
            #expect(try await api.jobCount() == 1)
        }
    }

    @Test("a guard that was altered or taken away lets nothing be submitted for its partner")
    func altered() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            _ = try await admin.edit(api.one.partner, NewGuardChanges(confirmAbove: 1))
            for way: SQL in ["UPDATE guards SET confirm_above = 1000", "DELETE FROM guards"] {
                try await api.owner.execute(way, scope: .platform)
                api.authenticator.guards.forget()
                let refused = try await refusal {
                    _ = try await admin.submit(ping(.devices([api.one.device])))
                }
                #expect(refused.status == 403 && refused.code == "alteredRow")
                #expect(try await api.jobCount() == 0)
            }
            _ = try await admin.submit(ping(.devices([api.other.device])))
        }
    }
}
