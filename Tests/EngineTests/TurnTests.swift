import Domain
import TestSupport
import Testing

@testable import Engine
@testable import Ledger

/// Organizations take turns at expansion.
@Suite(.serialized, .world) struct TurnTests {
    @Test(
        "A job is expanded although another tenant has older jobs over many devices, chunk by chunk in turn")
    func turns() async throws {
        try await Bench.run { bench in
            let world = bench.world
            let many = try await world.tenant(devices: 2_001)
            let few = try await world.tenant(devices: 1)
            let older = try await world.submitOverAll(many, 3)
            let job = try await world.submitOverAll(few, 1)[0]
            func total(_ job: JobID, _ tenant: Tenant) async throws -> Int? {
                try await world.api.job(job, scope: tenant.scope)?.total
            }
            for _ in 0..<2 { #expect(try await bench.reconciler.expandOnce()) }
            #expect(try await total(job, few) == 1)
            #expect(try await total(older[0], many) == nil)
            for _ in 0..<5 { #expect(try await bench.reconciler.expandOnce()) }
            for job in older { #expect(try await total(job, many) == 2_001) }
            #expect(try await !bench.reconciler.expandOnce())
        }
    }
}
