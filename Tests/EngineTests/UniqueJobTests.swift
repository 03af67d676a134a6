import Domain
import Ledger
import Postgres
import Streams
import TestSupport
import Testing
import Trust
import Wire

@testable import Engine

/// Keys that are unique, and bulks, through the submitter.
@Suite(.serialized, .world) struct UniqueJobTests {
    private static func request(
        _ devices: [DeviceID], _ unique: Unique?, key: String? = nil
    ) -> JobRequest {
        var job = NewJob(kind: .ping, target: .devices(devices))
        job.unique = unique
        return JobRequest(job: job, idempotencyKey: key, requestHash: [1])
    }

    @Test("The conflict names who holds the key; a caller who wants it gets that job; a replaced one is gone")
    func conflicts() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            _ = try await Post.open(bench, holding: tenant.all)
            let level = Level.organization(tenant.organization)
            let submitter = try bench.submitter()
            func submit(_ conflict: UniqueConflict) async throws -> Result<AcceptedJob, EngineError> {
                try await submitter.submit(
                    [Self.request(tenant.all, Unique(key: "u", onConflict: conflict))],
                    by: World.principal, level: level)[0]
            }
            let first = try await submit(.reject).get()
            let refused = await #expect(throws: EngineError.self) { try await submit(.reject).get() }
            #expect(refused?.code == .uniqueConflict && refused?.field == "unique.key")
            #expect(refused?.message == "is held by job \(first.id), which is active")
            let returned = try await submit(.return).get()
            #expect(returned.id == first.id && returned.isExisting)
            #expect(try await bench.depth(tenant).ready == [.standard: 1])
            let second = try await submit(.replace).get()
            #expect(second.id != first.id && !second.isExisting)
            #expect(try await bench.depth(tenant).ready == [.standard: 1], "its run left the queue at once")
            let runs = try await bench.world.api.runs(of: first.id, after: nil, limit: 9, scope: tenant.scope)
            #expect(runs.map(\.state) == [.cancelled])
        }
    }

    @Test("A place that the target or the level does not have is refused by field")
    func places() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(sites: 2, devices: 2)
            let submitter = try bench.submitter()
            let site = Level.site(tenant.sites[0])
            let cases: [(devices: [DeviceID], UniqueScope, Level, EngineError.Code?)] = [
                (tenant.all, .site, .organization(tenant.organization), .invalid),
                (tenant.devices[0], .site, .organization(tenant.organization), nil),
                (tenant.devices[0], .device, .organization(tenant.organization), .invalid),
                ([tenant.all[0]], .device, site, nil), ([tenant.all[0]], .organization, site, .forbidden),
            ]
            for (devices, scope, level, code) in cases {
                let outcome = try await submitter.submit(
                    [Self.request(devices, Unique(key: "u", scope: scope))], by: World.principal, level: level
                )[0]
                switch outcome {
                case .success: #expect(code == nil, "\(scope)")
                case .failure(let error): #expect(error.code == code && error.field == "unique.scope")
                }
            }
        }
    }

    @Test("Ten thousand jobs in one call have an outcome each, and the same again under the same keys")
    func bulk() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 10)
            let submitter = try bench.submitter()
            var requests = (0..<Limits.bulkJobsMax).map { index in
                Self.request([tenant.all[index % 10]], nil, key: "k#\(index)")
            }
            requests[5_000].job.target = .devices([fresh()])
            let level = Level.organization(tenant.organization)
            let outcomes = try await submitter.submit(requests, by: World.principal, level: level)
            #expect(outcomes.count == requests.count)
            for (index, outcome) in outcomes.enumerated() {
                switch outcome {
                case .success: #expect(index != 5_000)
                case .failure(let error):
                    #expect(index == 5_000 && error.field == "target.deviceIds[0]", "\(index): \(error)")
                }
            }
            let again = try await submitter.submit(requests, by: World.principal, level: level)
            for (first, second) in zip(outcomes, again) {
                switch (first, second) {
                case (.success(let one), .success(let other)): #expect(one.id == other.id)
                case (.failure(let one), .failure(let other)): #expect(one == other)
                default: Issue.record("another outcome under the same key")
                }
            }
            #expect(try await bench.world.count("SELECT count(*) FROM runs") == requests.count - 1)
            try await bench.world.clear()
        }
    }
}
