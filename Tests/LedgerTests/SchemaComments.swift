import Postgres

/// What the migrations say of tables, views and columns in comments, which the catalog does not keep.
///
/// The lines of `--` that stand directly above a `CREATE TABLE` or `CREATE VIEW` tell of it; those above a
/// column, in its table or behind `ADD COLUMN`, tell of the column, and those above an `ALTER TABLE` of the
/// first column that it adds.
struct SchemaComments: Equatable {
    /// By the name of a table or a view.
    private(set) var relations: [String: String] = [:]
    /// By `table.column`.
    private(set) var columns: [String: String] = [:]

    /// The comments of some migrations, in their order; a later one of the same thing holds.
    init(_ migrations: [Migration]) {
        for migration in migrations { read(migration.sql) }
    }

    /// Where in a migration a line stands.
    private enum Place {
        case outside
        case inside(table: String)
        case altering(table: String)
        case inFunction
    }

    private mutating func read(_ sql: String) {
        var place = Place.outside
        var comment: [Substring] = []
        for line in sql.split(separator: "\n", omittingEmptySubsequences: false) {
            let text = line.drop { $0 == " " }
            if text.hasPrefix("--") {
                comment.append(text.dropFirst(2).drop { $0 == " " })
                continue
            }
            if Self.togglesBody(text) {
                if case .inFunction = place { place = .outside } else { place = .inFunction }
            } else if case .inFunction = place {
                // What a function does tells nothing of a table.
            } else {
                read(text, comment.joined(separator: " "), &place)
            }
            if !Self.keepsComment(text, place) { comment = [] }
        }
    }

    /// Whether a body begins or ends with this line, and not both.
    private static func togglesBody(_ text: Substring) -> Bool {
        !text.count(where: { $0 == "$" }).isMultiple(of: 4)
    }

    /// Whether the next line may still be what the comment is about: the first column of an `ALTER TABLE`.
    private static func keepsComment(_ text: Substring, _ place: Place) -> Bool {
        guard case .altering = place else { return false }
        return !text.contains("ADD COLUMN")
    }

    private mutating func read(_ text: Substring, _ comment: String, _ place: inout Place) {
        let words = text.split { " (".contains($0) }
        if case .inside(let table) = place {
            if text.hasPrefix(")") {
                place = .outside
            } else if let name = words.first, !comment.isEmpty, name.allSatisfy({ !$0.isUppercase }) {
                columns["\(table).\(name)"] = comment
            }
            return
        }
        if words.first == "CREATE", let kind = words.firstIndex(where: { $0 == "TABLE" || $0 == "VIEW" }),
            kind + 1 < words.count, kind <= 3
        {
            let name = String(words[kind + 1])
            if !comment.isEmpty { relations[name] = comment }
            if text.hasSuffix("(") { place = .inside(table: name) }
            return
        }
        if words.starts(with: ["ALTER", "TABLE"]), words.count > 2 {
            place = .altering(table: String(words[2]))
        }
        if case .altering(let table) = place {
            if let column = words.firstIndex(of: "COLUMN"), column > 0, words[column - 1] == "ADD",
                column + 1 < words.count, !comment.isEmpty
            {
                columns["\(table).\(words[column + 1])"] = comment
            }
            if text.hasSuffix(";") { place = .outside }
        }
    }
}
