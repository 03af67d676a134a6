import Domain
import Ledger
import Postgres
import TestSupport
import Testing

@testable import Engine

/// The comparison of uses goes round all organizations.
@Suite(.serialized, .world) struct UsageTests {
    private func corrections(_ bench: Bench) -> Bool {
        var text = Exposition()
        bench.front.metrics.show(in: &text)
        return text.text.split(separator: "\n").contains(
            #"cloudrmm_queue_corrections_total{what="usage"} 1"#)
    }

    @Test("It comes to every organization page by page, mends what is wrong, and counts that")
    func round() async throws {
        try await Bench.run { bench in
            let world = bench.world
            try await world.clear()
            let tenants = [try await world.tenant(), try await world.tenant(), try await world.tenant()]
            for tenant in tenants { _ = try await world.submit(tenant, tenant.all) }
            let wrong = tenants[1].organization
            try await world.owner.execute(
                """
                INSERT INTO queue_usage_deltas (organization_id, runs, bytes) VALUES (\(wrong), 5, 5)
                """, scope: .none)
            var (last, pages): (OrganizationID?, Int) = (OrganizationID(.zero), 0)
            while let after = last {
                last = try await bench.reconciler.checkUsage(after: after, limit: 2)
                pages += 1
            }
            #expect(pages > 1)
            for tenant in tenants {
                let row = try await world.api.openWork(of: [tenant.organization], scope: tenant.scope)
                #expect(row[tenant.organization]?.used == OpenWork(runs: 1, bytes: 3))
            }
            #expect(corrections(bench))
            let compared: SQL = "SELECT count(*) FROM queue_usage_checks WHERE due_at > now()"
            #expect(
                try await world.count(compared) == world.count("SELECT count(*) FROM organizations"))
        }
    }

    @Test("While another worker compares it gives way, and where one cannot be compared it goes on")
    func others() async throws {
        try await Bench.run { bench in
            let world = bench.world
            try await world.clear()
            let tenants = [try await world.tenant(), try await world.tenant()]
            for tenant in tenants { _ = try await world.submit(tenant, tenant.all) }
            let reconciler = bench.reconciler
            let compared: SQL = "SELECT count(*) FROM queue_usage_checks"
            try await world.owner.transaction(scope: .none) { transaction in
                try await transaction.execute("SELECT pg_advisory_xact_lock(hashtext('crmm usage'))")
                #expect(try await reconciler.checkUsage(after: OrganizationID(.zero)) == nil)
            }
            #expect(try await world.count(compared) == 0)
            // A sum that is no number of eight bytes.
            let first = tenants.map(\.organization).min { $0.value < $1.value } ?? tenants[0].organization
            for _ in 0..<2 {
                try await world.owner.execute(
                    """
                    INSERT INTO queue_usage_deltas (organization_id, runs, bytes)
                    VALUES (\(first), 9223372036854775807, 1)
                    """, scope: .none)
            }
            #expect(try await reconciler.checkUsage(after: OrganizationID(.zero)) == nil)
            #expect(try await world.count(compared) == world.count("SELECT count(*) FROM organizations"))
            let later: SQL = """
                SELECT count(*) FROM queue_usage_checks
                WHERE due_at > now() + interval '20 hours' AND organization_id = \(first)
                """
            #expect(try await world.count(later) == 1, "it is tried tomorrow")
        }
    }
}
