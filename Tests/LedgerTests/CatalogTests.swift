import Postgres
import TestSupport
import Testing

@testable import Ledger

/// What PostgreSQL's own catalog says about who may touch what.
@Suite(.serialized, .world) struct CatalogTests {
    private static let services = ["crmm_api", "crmm_worker", "crmm_gateway"]

    /// Tables that every service may see whole: they hold no tenant's rows.
    private static let forEveryone = ["deployment", "gateways", "key_sets", "queue_partitions"]

    /// Relations that a service may touch, by table or column grant, although row-level security is not
    /// enabled, not forced or without a policy; for a view, although it runs as its owner.
    private static let unguarded: SQL = """
        SELECT DISTINCT c.relname::text FROM pg_class c
        JOIN pg_roles r ON r.rolname IN ('crmm_api', 'crmm_worker', 'crmm_gateway')
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND (has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE')
               OR has_table_privilege(r.oid, c.oid, 'TRUNCATE, REFERENCES, TRIGGER')
               OR has_any_column_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'))
          AND CASE WHEN c.relkind IN ('r', 'p')
                   THEN NOT (c.relrowsecurity AND c.relforcerowsecurity
                             AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid))
                   ELSE NOT coalesce('security_invoker=true' = ANY (c.reloptions), false) END
        ORDER BY 1
        """

    /// Policies that let every row through, whatever the scope.
    private static let open: SQL = """
        SELECT c.relname::text FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
        WHERE pg_get_expr(p.polqual, p.polrelid) = 'true'
           OR pg_get_expr(p.polwithcheck, p.polrelid) = 'true'
        ORDER BY 1
        """

    // The owner may be called so too.
    private static let isService: SQL = "rolname LIKE 'crmm\\_%' AND rolname <> 'crmm_owner'"

    /// Partitions without forced row-level security, and those that a service may touch beside their parent.
    private static let loosePartitions: SQL = """
        SELECT c.relname::text FROM pg_class c
        WHERE c.relispartition AND c.relkind = 'r'
          AND (NOT (c.relrowsecurity AND c.relforcerowsecurity)
               OR EXISTS (SELECT FROM pg_roles r WHERE \(fragment: isService) AND
                          has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')))
        ORDER BY 1
        """

    private static let excessGrants: SQL = """
        SELECT DISTINCT c.relname::text FROM pg_class c JOIN pg_roles r ON \(fragment: isService)
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v')
          AND (has_table_privilege(r.oid, c.oid, 'TRUNCATE, REFERENCES, TRIGGER')
               OR has_any_column_privilege(r.oid, c.oid, 'REFERENCES'))
        ORDER BY 1
        """

    private func names(_ statement: SQL) async throws -> [String] {
        try await World.here().owner.query(statement, scope: .none) { try $0.decode(String.self) }
    }

    @Test("Everything that a service may touch has row-level security, forced, with a policy")
    func guarded() async throws {
        #expect(try await names(Self.unguarded) == [])
        #expect(try await names(Self.loosePartitions) == [])
        #expect(
            try await names("SELECT relname::text FROM pg_class WHERE relispartition AND relkind = 'r'").count
                > 8)
    }

    @Test("Only tables without tenants' rows are open to every scope")
    func open() async throws {
        #expect(try await names(Self.open) == Self.forEveryone)
    }

    @Test("No service may truncate, refer to or hang triggers on a table")
    func excess() async throws {
        #expect(try await names(Self.excessGrants) == [])
    }

    @Test("No service is superuser, goes past row-level security, makes roles, or is a member of a role")
    func roles() async throws {
        #expect(
            try await names(
                """
                SELECT rolname::text FROM pg_roles r WHERE rolname = ANY(\(Self.services))
                  AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication
                       OR EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid))
                """) == [])
        #expect(
            try await names("SELECT rolname::text FROM pg_roles WHERE rolname = ANY(\(Self.services))").count
                == 3)
        #expect(
            try await names(
                """
                SELECT relname::text FROM pg_class JOIN pg_roles r ON r.oid = relowner
                WHERE \(fragment: Self.isService)
                """
            ) == [])
    }

    @Test("Services may not make anything in the schema, and strangers may not even use it")
    func schema() async throws {
        for (name, pool) in try World.here().logins {
            let refused = await #expect(throws: PostgresError.self, "\(name)") {
                try await pool.execute("CREATE TABLE mine (id integer)", scope: .platform)
            }
            #expect(refused?.sqlState == "42501")
        }
        #expect(
            try await names(
                """
                SELECT f::text FROM pg_roles r, unnest(
                    ARRAY['crmm_set_password(text, text)', 'crmm_extend_partitions(integer)']) f
                WHERE \(fragment: Self.isService) AND has_function_privilege(r.oid, f, 'EXECUTE')
                """) == ["crmm_extend_partitions(integer)"])
    }

    @Test(
        "The checks find a table, a column grant, a view, a partition and a policy that lack their guard"
    )
    func checksCanFail() async throws {
        let scratch = try await World()
        do {
            try await World.$current.withValue(scratch) {
                try await scratch.owner.pipeline(
                    scope: .none,
                    [
                        "CREATE TABLE bare (id uuid)", "GRANT SELECT ON bare TO crmm_api",
                        "CREATE TABLE by_column (id uuid)", "GRANT SELECT (id) ON by_column TO crmm_worker",
                        "CREATE TABLE enabled (id uuid)", "GRANT INSERT ON enabled TO crmm_gateway",
                        "ALTER TABLE enabled ENABLE ROW LEVEL SECURITY",
                        "CREATE POLICY all_rows ON enabled USING (true)",
                        "CREATE VIEW seen AS SELECT * FROM runs", "GRANT SELECT ON seen TO crmm_api",
                        """
                        CREATE TABLE child PARTITION OF run_history
                        FOR VALUES FROM (MINVALUE) TO ('00000000-0000-0000-0000-000000000001')
                        """,
                        "GRANT TRUNCATE ON jobs TO crmm_api",
                    ])
                #expect(try await names(Self.unguarded) == ["bare", "by_column", "enabled", "seen"])
                #expect(
                    try await names(Self.open) == [
                        "deployment", "enabled", "gateways", "key_sets", "queue_partitions",
                    ])
                #expect(try await names(Self.loosePartitions) == ["child"])
                #expect(try await names(Self.excessGrants) == ["jobs"])
            }
        } catch {
            try await scratch.end()
            throw error
        }
        try await scratch.end()
    }
}
