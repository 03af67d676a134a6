import Domain
import Ledger
import Logging
import Postgres
import TestSupport
import Testing
import Wire

@testable import Engine

/// Whoever follows a trace finds the job's expansion under it, also where it fails.
@Suite(.serialized, .world) struct ExpansionTraceTests {
    private static let failed = "a job's expansion fails and is tried later"

    @Test("What is said of an expansion names the job's trace, and nothing where it came without one")
    func traced() async throws {
        try await Bench.run { bench in
            let world = bench.world
            let tenant = try await world.tenant(devices: 3)
            let trace = try #require(TraceContext("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
            var (traced, plain) = (world.job(tenant, devices: nil), world.job(tenant, devices: nil))
            (traced.expectedRuns, traced.trace, plain.expectedRuns) = (3, trace, 3)
            let lines = LogLines()
            let reconciler = Reconciler(ledger: world.worker, front: bench.front, logger: lines.logger())
            // No run can be written.
            try await world.owner.execute(
                "ALTER TABLE runs ADD CONSTRAINT planted CHECK (false) NOT VALID", scope: .none)
            _ = try await world.api.submit([traced], scope: tenant.scope)
            #expect(try await !reconciler.expandOnce())
            try await world.owner.execute("ALTER TABLE runs DROP CONSTRAINT planted", scope: .none)
            _ = try await world.api.submit([plain], scope: tenant.scope)
            let later = ContinuousClock.now + .seconds(100)
            while try await reconciler.expandOnce(at: later) {}
            let said = lines.metadata(of: Self.failed) + lines.metadata(of: "a job's expansion goes on")
            #expect(said.count == 2)
            #expect(said.allSatisfy { $0["trace"] == "\(trace.traceID)" && $0["job.id"] == "\(traced.id)" })
            let expanded = lines.metadata(of: "job expanded")
            let jobs = expanded.compactMap { $0["job.id"].map { "\($0)" } }
            #expect(jobs.sorted() == ["\(traced.id)", "\(plain.id)"].sorted())
            for metadata in expanded {
                let isTraced = metadata["job.id"] == "\(traced.id)"
                #expect(metadata["trace"] == (isTraced ? "\(trace.traceID)" : nil))
            }
        }
    }

    @Test("Where nobody listens no trace is read for it")
    func quiet() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 1)
            let lines = LogLines()
            let reconciler = Reconciler(
                ledger: bench.world.worker, front: bench.front, logger: lines.logger(from: .info))
            var job = bench.world.job(tenant, devices: nil)
            job.expectedRuns = 1
            _ = try await bench.world.api.submit([job], scope: tenant.scope)
            #expect(try await reconciler.expandOnce())
            #expect(lines.metadata(of: "job expanded").isEmpty)
        }
    }
}
