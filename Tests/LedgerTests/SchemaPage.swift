/// The documentation's page of tables, columns and policies, as the catalog and the migrations have them.
struct SchemaPage {
    private let catalog: SchemaCatalog
    private let comments: SchemaComments

    /// A page of a migrated database.
    init(_ catalog: SchemaCatalog, _ comments: SchemaComments) {
        self.catalog = catalog
        self.comments = comments
    }

    /// How the page is written anew.
    static let command = "CLOUDRMM_WRITE_SCHEMA=1 Scripts/test SchemaPageTests"

    /// The page.
    var markdown: String {
        let names = catalog.relations.map { "[`\($0.name)`](#\($0.name))" }
        return """
            # Schema

            Every table and view that the migrations make: columns, keys, policies and grants.

            This page is made from a migrated database, and a test holds it to that; after a migration it is
            written anew by `\(Self.command)`. [Ledger](Ledger.md) says what
            the tables are for, who writes them, and what a scope is, which the policies judge by. What stands
            beside a column, and above its table, are the comments of the migrations. Partitions are as their
            parents. The owner, who migrates, may do everything and is not named.

            \(names.joined(separator: " · "))

            """ + catalog.relations.map(section).joined()
    }

    private func section(_ relation: SchemaCatalog.Relation) -> String {
        let parts = catalog.parts[relation.name, default: []]
        var text = "\n## \(relation.name)\n\n"
        let comment = relation.comment.isEmpty ? comments.relations[relation.name] : relation.comment
        if let comment { text += "\(Self.prose(comment))\n\n" }
        if let nature = Self.nature(of: relation) { text += "\(nature)\n\n" }
        text += columnTable(relation)
        text += Self.keys(parts)
        text += Self.code("Indexes", parts.filter { $0.kind == "i" }.map { Self.short($0.definition) })
        text += Self.code("Triggers", parts.filter { $0.kind == "t" }.map { Self.short($0.definition) })
        text += rows(relation)
        text += grants(relation)
        return text
    }

    private static func nature(of relation: SchemaCatalog.Relation) -> String? {
        var words: [String] = []
        if !["r", "p"].contains(relation.kind) {
            words.append("A view, with the rights \(relation.rowSecurity).")
        }
        if relation.kind == "p" { words.append("Partitioned by `\(relation.partitionKey)`.") }
        if relation.isUnlogged { words.append("Unlogged: a crash of the server empties it.") }
        return words.isEmpty ? nil : words.joined(separator: " ")
    }

    private func columnTable(_ relation: SchemaCatalog.Relation) -> String {
        var text = "| column | type | null | default | what |\n|---|---|---|---|---|\n"
        for column in catalog.columns[relation.name, default: []] {
            let comment =
                column.comment.isEmpty
                ? comments.columns["\(relation.name).\(column.name)", default: ""] : column.comment
            let cells = [
                "`\(column.name)`", "`\(Self.cell(column.type))`", column.isNullable ? "null" : "",
                column.standard.isEmpty ? "" : "`\(Self.cell(column.standard))`",
                Self.cell(Self.prose(comment)),
            ]
            text += "|" + cells.map { $0.isEmpty ? " |" : " \($0) |" }.joined() + "\n"
        }
        return text + "\n"
    }

    /// Keys and conditions, a line each.
    private static func keys(_ parts: [SchemaCatalog.Part]) -> String {
        let constraints = parts.filter { !["i", "t"].contains($0.kind) }.map { part in
            guard part.kind == "f", let target = referred(by: part.definition) else {
                return "- `\(part.definition)`\n"
            }
            return "- `\(part.definition)`: [`\(target)`](#\(target))\n"
        }
        return constraints.isEmpty ? "" : constraints.joined() + "\n"
    }

    /// The table that a foreign key refers to.
    private static func referred(by definition: String) -> Substring? {
        definition.firstRange(of: " REFERENCES ").map { definition[$0.upperBound...].prefix { $0 != "(" } }
    }

    private func rows(_ relation: SchemaCatalog.Relation) -> String {
        guard ["r", "p"].contains(relation.kind) else { return "" }
        let policies = catalog.policies[relation.name, default: []]
        var text = "Row-level security is \(relation.rowSecurity)"
        guard !policies.isEmpty else { return "\(text), without a policy.\n\n" }
        text += ". Policies:\n\n"
        for policy in policies {
            text += "- `\(policy.name)`, for \(policy.kind):\n\n  ```sql\n"
            if !policy.using.isEmpty { text += Self.indented("USING (\(Self.expression(policy.using)))") }
            if !policy.check.isEmpty {
                text += Self.indented("WITH CHECK (\(Self.expression(policy.check)))")
            }
            text += "  ```\n\n"
        }
        return text
    }

    private func grants(_ relation: SchemaCatalog.Relation) -> String {
        let grants = catalog.grants[relation.name, default: []]
        guard !grants.isEmpty else { return "Nobody but the owner may touch it.\n" }
        var text = "| role | may | of |\n|---|---|---|\n"
        for grant in grants {
            let columns = grant.columns.split(separator: ", ").map { "`\($0)`" }.joined(separator: ", ")
            text += "| `\(grant.role)` | \(grant.privileges) | \(columns.isEmpty ? "all of it" : columns) |\n"
        }
        return text
    }

    // MARK: Text

    private static func code(_ title: String, _ lines: [String]) -> String {
        guard !lines.isEmpty else { return "" }
        return "\(title):\n\n```sql\n" + lines.map { "\($0)\n" }.joined() + "```\n\n"
    }

    /// A definition without what is the same in all.
    private static func short(_ definition: String) -> String {
        definition.replacing(" ON public.", with: " ON ").replacing(" ON ONLY public.", with: " ON ")
            .replacing(" USING btree ", with: " ")
    }

    /// A condition of a policy, an alternative a line, without the names that PostgreSQL gives to scalar
    /// subqueries.
    private static func expression(_ condition: String) -> String {
        let line = condition.split { $0.isWhitespace }.joined(separator: " ").replacing(
            "( SELECT", with: "(SELECT")
        let plain = line.replacing(/(\(SELECT (\w+)\(\)) AS \2\)/) { "\($0.output.1))" }
        var (text, depth) = ("", 0)
        var rest = plain[...]
        while let character = rest.first {
            depth += character == "(" ? 1 : character == ")" ? -1 : 0
            if depth == 0, rest.hasPrefix(" OR ") {
                text += "\n   "
            } else {
                text.append(character)
            }
            rest = rest.dropFirst()
        }
        return text
    }

    /// Lines as they stand in an item of a list.
    private static func indented(_ text: String) -> String {
        text.split(separator: "\n").map { "  \($0)\n" }.joined()
    }

    /// A comment with what markdown would take for its own escaped.
    private static func prose(_ text: String) -> String {
        String(text.flatMap { "\\<>*[]".contains($0) ? ["\\", $0] : [$0] })
    }

    private static func cell(_ text: String) -> String {
        String(text.flatMap { $0 == "|" ? ["\\", $0] : [$0 == "\n" ? " " : $0] })
    }
}
