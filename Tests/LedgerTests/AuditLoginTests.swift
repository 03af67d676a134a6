import Domain
import Postgres
import TestSupport
import Testing

@testable import Ledger

/// Who takes out of the audit log, and whose changes are told as whose.
@Suite("The audit log and the database's logins") struct AuditLoginTests {
    @Test("the owner takes out whatever it is called, the services do not, and their changes are told apart")
    func owner() async throws {
        try await World.with { world in
            // What the servers that come with the product, and the example of settings, call it.
            try await world.owner.execute(
                """
                DO $$ BEGIN CREATE ROLE crmm_owner SUPERUSER LOGIN;
                EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$
                """, scope: .platform)
            let tenant = try await world.tenant()
            let log = tenant.organization.value
            let code = RowMAC(keyID: "k1", code: Array(repeating: 1, count: 32))
            let sealed = try await world.api.sealAudit(
                of: log, limit: 100, after: nil, holds: { _, _ in false }
            ) { _, _, _ in code }
            let head = try #require(sealed.head)
            for (name, pool) in world.logins {
                let ledger = Ledger(pool: pool)
                for attempt in [
                    { _ = try await ledger.checkpointAudit(head, mac: code) },
                    { _ = try await ledger.pruneAudit(of: log, limit: 10) },
                    { _ = try await ledger.discardAudit(of: head, mac: code, fault: "none", limit: 10) },
                ] as [() async throws -> Void] {
                    let error = await #expect(throws: PostgresError.self) { try await attempt() }
                    #expect(error?.sqlState == "42501", "\(name)")
                }
            }
            let pool = try world.pool(user: "crmm_owner", connections: 1)
            let owner = Ledger(pool: pool)
            #expect(try await owner.checkpointAudit(head, mac: code))
            #expect(try await owner.pruneAudit(of: log, limit: 100) == head.count)
            try await pool.execute(
                "UPDATE organizations SET name = 'by the owner' WHERE id = \(tenant.organization)",
                scope: .platform)
            await pool.close()
            try await world.logins[0].pool.execute(
                "UPDATE organizations SET name = 'by the API' WHERE id = \(tenant.organization)",
                scope: .platform)
            let kinds = try await world.owner.query(
                "SELECT actor_kind FROM audit_entries WHERE chain = \(tenant.organization) ORDER BY id",
                scope: .platform
            ) { try $0.decode(Int16.self) }
            #expect(kinds == [4, 0])
        }
    }
}
