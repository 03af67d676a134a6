import Foundation
import Postgres
import TestSupport
import Testing

@testable import Ledger

/// The documentation's page of the schema, against a migrated database.
@Suite(.serialized, .world) struct SchemaPageTests {
    private static let path = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "../../Sources/Ledger/Documentation.docc/Schema.md")

    private func page() async throws -> String {
        let catalog = try await SchemaCatalog(World.here().owner)
        return SchemaPage(catalog, SchemaComments(Ledger.migrations)).markdown
    }

    @Test("The page of the schema says what a migrated database says")
    func written() async throws {
        let markdown = try await page()
        if ProcessInfo.processInfo.environment["CLOUDRMM_WRITE_SCHEMA"] == "1" {
            try Data(markdown.utf8).write(to: Self.path)
        }
        let written = try String(contentsOf: Self.path, encoding: .utf8)
        let (old, new) = (written.split(separator: "\n"), markdown.split(separator: "\n"))
        let place = zip(old, new).enumerated().first { $0.element.0 != $0.element.1 }
        let found = place.map { "it says \($0.element.0) where the database says \($0.element.1)" }
        #expect(
            written == markdown,
            """
            Schema.md has to be written anew by \(SchemaPage.command): \
            \(found ?? "it has \(old.count) lines, and the database \(new.count)")
            """)
    }

    @Test("It names every table and view once, but no partition, and every policy and service")
    func whole() async throws {
        let owner = try World.here().owner
        let markdown = try await page()
        let titles = markdown.split(separator: "\n").filter { $0.hasPrefix("## ") }.map { $0.dropFirst(3) }
        let tables: SQL = """
            SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'
            EXCEPT SELECT relname::text FROM pg_class WHERE relispartition
            """
        let names = try await owner.query(tables, scope: .none) { try $0.decode(String.self) }
        #expect(titles.sorted() == names.sorted().map { $0[...] })
        #expect(titles.count > 40)
        let policies = try await World.here().count(
            """
            SELECT count(*) FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE NOT c.relispartition
            """)
        #expect(
            markdown.split(separator: "\n").count { $0.hasPrefix("- `") && $0.contains(", for ") } == policies
        )
        for (name, _) in try World.here().logins { #expect(markdown.contains("| `\(name)` | SELECT")) }
    }

    @Test("Whatever a migration changes of a table, its keys, its policies or its grants changes the page")
    func changes() async throws {
        let changes: [(table: String, statement: SQL, says: String)] = [
            (
                "added", "CREATE TABLE added (id uuid)",
                "## added\n\n| column | type | null | default | what |"
            ),
            (
                "gateways", "ALTER TABLE gateways ADD COLUMN added text NOT NULL DEFAULT 'a|b'",
                #"| `added` | `text` | | `'a\|b'::text` | |"#
            ),
            (
                "gateways", "ALTER TABLE gateways ADD CONSTRAINT short CHECK (id IS NOT NULL)",
                "- `CHECK ((id IS NOT NULL))`"
            ),
            (
                "gateways", "CREATE INDEX added_too ON gateways (started_at)",
                "CREATE INDEX added_too ON gateways (started_at)\n"
            ),
            (
                "jobs", "CREATE POLICY added ON jobs FOR DELETE USING (false)",
                "- `added`, for DELETE:\n\n  ```sql\n  USING (false)\n"
            ),
            (
                "deployment", "ALTER POLICY everyone ON deployment USING (id IS NOT NULL)",
                "- `everyone`, for everything:\n\n  ```sql\n  USING (id IS NOT NULL)"
            ),
            (
                "jobs", "ALTER TABLE jobs NO FORCE ROW LEVEL SECURITY",
                "Row-level security is enabled. Policies:"
            ),
            ("partners", "GRANT DELETE ON partners TO crmm_worker", "| `crmm_worker` | DELETE | all of it |"),
            (
                "partners", "GRANT SELECT (id) ON partners TO crmm_gateway",
                "| `crmm_gateway` | SELECT | `id` |"
            ),
            ("partners", "GRANT SELECT ON partners TO PUBLIC", "| `everybody` | SELECT | all of it |"),
        ]
        try await World.with { scratch in
            try await World.$current.withValue(scratch) {
                for (table, statement, says) in changes {
                    #expect(try await !section(table).contains(says), "\(says)")
                    try await scratch.owner.execute(statement, scope: .none)
                    #expect(try await section(table).contains(says), "\(says)")
                }
            }
        }
    }

    /// What the page says of one table; nothing of one that is not there.
    private func section(_ table: String) async throws -> Substring {
        let markdown = try await page()
        guard let start = markdown.firstRange(of: "\n## \(table)\n")?.lowerBound else { return "" }
        let rest = markdown[start...]
        return rest[..<(rest.dropFirst().firstRange(of: "\n## ")?.lowerBound ?? rest.endIndex)]
    }

    @Test("Comments are those directly above what they are about")
    func comments() {
        let sql = """
            -- Of the file.

            -- Of both,
            -- in two lines.
            CREATE TABLE a (
                id uuid PRIMARY KEY,
                -- Of the column.
                x text NOT NULL CHECK (x <> ''),
                -- Of a condition.
                CHECK (x <> 'y')
            );
            -- Of a function.
            CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$
                -- Inside.
                CREATE TABLE b (
            $$;
            CREATE UNLOGGED TABLE c (
                -- Of c's.
                y text
            ) WITH (fillfactor = 70);
            -- Of the added.
            ALTER TABLE c ADD COLUMN z text;
            -- Of the first.
            ALTER TABLE c
                ADD COLUMN v text,
                -- Of the second.
                ADD COLUMN w text,
                ADD COLUMN u text;
            -- Of the view.
            CREATE VIEW d AS SELECT 1;
            """
        let comments = SchemaComments([Migration(version: 1, name: "one", sql: sql)])
        #expect(comments.relations == ["a": "Of both, in two lines.", "d": "Of the view."])
        #expect(
            comments.columns == [
                "a.x": "Of the column.", "c.y": "Of c's.", "c.z": "Of the added.", "c.v": "Of the first.",
                "c.w": "Of the second.",
            ])
    }
}
