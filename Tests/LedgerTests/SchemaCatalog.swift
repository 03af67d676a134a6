import Postgres

/// What the catalog of a migrated database says of its tables and views. Partitions are left out: each is as
/// its parent. Everything is in an order that no run changes.
struct SchemaCatalog {
    /// A table or a view.
    struct Relation {
        let name: String
        /// As in `pg_class.relkind`: `r`, `p` for one with partitions, `v`.
        let kind: String
        /// What its partitions are by; empty without any.
        let partitionKey: String
        let isUnlogged: Bool
        /// `not enabled`, `enabled` or `forced`; of a view `of whoever asks` or `of its owner`.
        let rowSecurity: String
        let comment: String
    }

    /// A column of a relation; what is empty is absent.
    struct Column {
        let name: String
        let type: String
        let isNullable: Bool
        let standard: String
        let comment: String
    }

    /// A constraint, an index or a trigger, as PostgreSQL would be told to make it.
    struct Part {
        let name: String
        /// As in `pg_constraint.contype`; `i` of an index and `t` of a trigger.
        let kind: String
        let definition: String
    }

    /// A policy; what is empty is absent.
    struct Policy {
        let name: String
        let kind: String
        let using: String
        let check: String
    }

    /// What a role may do with a relation, or with some columns of it.
    struct Grant {
        let role: String
        let privileges: String
        /// Separated by commas; empty for the whole relation.
        let columns: String
    }

    /// In the order of their names, as the others by the relation's name.
    let relations: [Relation]
    let columns: [String: [Column]]
    let parts: [String: [Part]]
    let policies: [String: [Policy]]
    let grants: [String: [Grant]]

    /// Reads it as the database's owner.
    init(_ owner: PostgresPool) async throws {
        relations = try await owner.query(Self.relationRows, scope: .none) { row in
            let (name, kind, key, unlogged, security, comment) = try row.decode(
                (String, String, String, Bool, String, String).self)
            return Relation(
                name: name, kind: kind, partitionKey: key, isUnlogged: unlogged, rowSecurity: security,
                comment: comment)
        }
        columns = try await Self.grouped(owner, Self.columnRows) { row in
            let (relation, name, type, isNullable, standard, comment) = try row.decode(
                (String, String, String, Bool, String, String).self)
            let column = Column(
                name: name, type: type, isNullable: isNullable, standard: standard, comment: comment)
            return (relation, column)
        }
        parts = try await Self.grouped(owner, Self.partRows) { row in
            let (relation, name, kind, definition) = try row.decode(
                (String, String, String, String).self)
            return (relation, Part(name: name, kind: kind, definition: definition))
        }
        policies = try await Self.grouped(owner, Self.policyRows) { row in
            let (relation, name, kind, using, check) = try row.decode(
                (String, String, String, String, String).self)
            return (relation, Policy(name: name, kind: kind, using: using, check: check))
        }
        grants = try await Self.grouped(owner, Self.grantRows) { row in
            let (relation, role, privileges, columns) = try row.decode(
                (String, String, String, String).self)
            return (relation, Grant(role: role, privileges: privileges, columns: columns))
        }
    }

    private static func grouped<Row: Sendable>(
        _ owner: PostgresPool, _ statement: SQL,
        _ decode: @Sendable (PostgresRow) throws -> (String, Row)
    ) async throws -> [String: [Row]] {
        let rows = try await owner.query(statement, scope: .none, decode: decode)
        return Dictionary(grouping: rows, by: \.0).mapValues { $0.map(\.1) }
    }

    // MARK: Statements

    private static let relationRows: SQL = """
        SELECT c.relname::text, c.relkind::text, coalesce(pg_get_partkeydef(c.oid), ''),
               c.relpersistence = 'u',
               CASE WHEN c.relkind NOT IN ('r', 'p') THEN
                        CASE WHEN coalesce('security_invoker=true' = ANY (c.reloptions), false)
                             THEN 'of whoever asks' ELSE 'of its owner' END
                    WHEN c.relrowsecurity AND c.relforcerowsecurity THEN 'forced'
                    WHEN c.relrowsecurity THEN 'enabled' ELSE 'not enabled' END,
               coalesce(obj_description(c.oid, 'pg_class'), '')
        FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND NOT c.relispartition
        ORDER BY c.relname
        """

    private static let columnRows: SQL = """
        SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
               CASE a.attidentity WHEN 'a' THEN 'identity' WHEN 'd' THEN 'identity by default'
                    ELSE CASE WHEN a.attgenerated = 's' THEN 'always ' ELSE '' END
                         || coalesce(pg_get_expr(d.adbin, d.adrelid), '') END,
               coalesce(col_description(c.oid, a.attnum), '')
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY c.relname, a.attnum
        """

    /// Indexes that a constraint made are told of with it.
    private static let partRows: SQL = """
        SELECT c.relname::text, p.name::text, p.kind, p.definition FROM pg_class c
        CROSS JOIN LATERAL (
            SELECT conname AS name, contype::text AS kind, pg_get_constraintdef(k.oid) AS definition
            FROM pg_constraint k WHERE k.conrelid = c.oid AND contype IN ('p', 'u', 'f', 'c', 'x')
            UNION ALL
            SELECT i.relname, 'i', pg_get_indexdef(x.indexrelid)
            FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
            WHERE x.indrelid = c.oid
              AND NOT EXISTS (SELECT FROM pg_constraint k
                              WHERE k.conindid = x.indexrelid AND k.conrelid = c.oid)
            UNION ALL
            SELECT tgname, 't', pg_get_triggerdef(t.oid)
            FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal
        ) p
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND NOT c.relispartition
        ORDER BY c.relname, array_position(ARRAY['p', 'u', 'x', 'f', 'c', 'i', 't'], p.kind), p.name
        """

    private static let policyRows: SQL = """
        SELECT c.relname::text, p.polname::text,
               CASE WHEN p.polpermissive THEN '' ELSE 'restrictive, ' END
               || CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                                WHEN 'd' THEN 'DELETE' ELSE 'everything' END
               || CASE WHEN p.polroles = '{0}' THEN ''
                       ELSE ' by ' || (SELECT string_agg(rolname::text, ', ' ORDER BY rolname)
                                       FROM pg_roles WHERE oid = ANY (p.polroles)) END,
               coalesce(pg_get_expr(p.polqual, p.polrelid, true), ''),
               coalesce(pg_get_expr(p.polwithcheck, p.polrelid, true), '')
        FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
        WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition
        ORDER BY c.relname, p.polname
        """

    /// What the owner may do goes without saying; role 0 is everybody.
    private static let grantRows: SQL = """
        WITH granted AS (
            SELECT c.relname, g.grantee, g.privilege_type, NULL::name AS attname, 0 AS attnum
            FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) g
            WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
              AND NOT c.relispartition AND g.grantee <> c.relowner
            UNION ALL
            SELECT c.relname, g.grantee, g.privilege_type, a.attname, a.attnum
            FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
            CROSS JOIN LATERAL aclexplode(a.attacl) g
            WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
              AND NOT c.relispartition AND g.grantee <> c.relowner
        ), by_columns AS (
            SELECT relname, grantee, privilege_type,
                   coalesce(string_agg(attname::text, ', ' ORDER BY attnum), '') AS columns,
                   array_position(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'], privilege_type) AS place
            FROM granted GROUP BY relname, grantee, privilege_type, attname IS NULL
        )
        SELECT relname::text, coalesce(pg_get_userbyid(nullif(grantee, 0))::text, 'everybody') AS role,
               string_agg(privilege_type, ', ' ORDER BY place, privilege_type), columns
        FROM by_columns GROUP BY relname, grantee, columns
        ORDER BY relname, role, columns <> '', min(place), columns
        """
}
