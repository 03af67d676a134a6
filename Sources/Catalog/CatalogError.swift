/// One thing that is wrong in a file of the catalog, or in values given to it.
package struct CatalogError: Error, Equatable, CustomStringConvertible {
    /// The file's name as it was given to the parser.
    package let file: String
    /// The line, from 1.
    package let line: Int
    /// The column, from 1, where known.
    package let column: Int?
    /// The path of the field, such as `parameters[0].type`; empty for the file as a whole.
    package let field: String
    /// What is wrong and what is allowed.
    package let message: String

    /// `file:line:column: field: message`, as compilers print it.
    package var description: String {
        let place = column.map { "\(file):\(line):\($0)" } ?? "\(file):\(line)"
        return field.isEmpty ? "\(place): \(message)" : "\(place): \(field): \(message)"
    }
}

/// Everything that is wrong in the files that were read, in the order in which it stands there.
package struct CatalogProblems: Error, Equatable, CustomStringConvertible {
    /// At least one problem.
    package let problems: [CatalogError]

    /// One problem a line.
    package var description: String { problems.map(\.description).joined(separator: "\n") }
}

/// Collects the problems of one file while it is read.
final class ProblemList {
    let file: String
    private(set) var problems: [CatalogError] = []

    init(file: String) { self.file = file }

    func add(_ place: Place, _ field: String, _ message: String) {
        problems.append(
            CatalogError(file: file, line: place.line, column: place.column, field: field, message: message))
    }

    /// Throws what has been collected, if anything.
    func check() throws(CatalogProblems) {
        if !problems.isEmpty { throw CatalogProblems(problems: problems) }
    }
}

/// Where something stands in a file.
struct Place: Sendable {
    var line = 1
    var column: Int?
}
