import Yams

/// The fields of one YAML mapping, read one by one; what does not fit goes to the list of problems.
///
/// A reading function returns nil when the field is absent or wrong; a wrong or missing one has been
/// reported. Keys that are not in `allowed` are refused, so that a misspelt limit is never silently without
/// effect.
struct Fields {
    let problems: ProblemList
    let place: Place
    private let path: String
    private let nodes: [String: (key: Place, value: Node)]

    /// Reports and returns nil when the node is not a mapping.
    init?(_ node: Node, path: String, allowed: [String], problems: ProblemList) {
        let place = Place(node)
        guard case .mapping(let mapping) = node else {
            problems.add(place, path, "must be a mapping with the fields \(allowed.joined(separator: ", "))")
            return nil
        }
        var nodes: [String: (key: Place, value: Node)] = [:]
        for (key, value) in mapping {
            let name = key.string ?? ""
            guard allowed.contains(name) else {
                let field = path.isEmpty ? name : "\(path).\(name)"
                problems.add(Place(key), field, "unknown field; allowed: \(allowed.joined(separator: ", "))")
                continue
            }
            nodes[name] = (Place(key), value)
        }
        self.problems = problems
        self.place = place
        self.path = path
        self.nodes = nodes
    }

    func has(_ key: String) -> Bool { nodes[key] != nil }

    func path(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

    func place(_ key: String) -> Place { nodes[key].map { Place($0.value, or: $0.key) } ?? place }

    func report(_ key: String, _ message: String) { problems.add(place(key), path(key), message) }

    /// Reports when the field is missing.
    func require(_ key: String) {
        if !has(key) { problems.add(place, path(key), "is missing") }
    }

    /// Any scalar but an empty one, as the text that stands there.
    func text(_ key: String, bytesMax: Int = 1000, isRequired: Bool = false) -> String? {
        guard let text = scalar(key, bytesMax: bytesMax, isRequired: isRequired) else { return nil }
        guard !text.isEmpty else {
            report(key, "must be a text that is not empty")
            return nil
        }
        return text
    }

    /// Any scalar, also an empty one in quotes, as the text that stands there.
    func scalar(_ key: String, bytesMax: Int, isRequired: Bool = false) -> String? {
        guard let node = node(key, isRequired) else { return nil }
        guard case .scalar(let scalar) = node, !scalar.isNull else {
            report(key, "must be a text that is not empty")
            return nil
        }
        guard scalar.string.utf8.count <= bytesMax else {
            report(key, "has \(scalar.string.utf8.count) bytes; allowed: at most \(bytesMax)")
            return nil
        }
        guard !scalar.string.utf8.contains(0) else {
            report(key, "has a NUL character")
            return nil
        }
        return scalar.string
    }

    func integer(_ key: String, in range: ClosedRange<Int>, isRequired: Bool = false) -> Int? {
        guard let node = node(key, isRequired) else { return nil }
        return integer(node, in: range, place: place(key), path: path(key))
    }

    func integers(_ key: String, in range: ClosedRange<Int>) -> [Int]? {
        guard let items = list(key) else { return nil }
        let values = items.enumerated().compactMap { index, node in
            integer(node, in: range, place: Place(node, or: place(key)), path: "\(path(key))[\(index)]")
        }
        guard Set(values).count == values.count else {
            report(key, "has a value twice")
            return nil
        }
        return values
    }

    func boolean(_ key: String) -> Bool? {
        guard let node = node(key, false) else { return nil }
        switch node.plainText {
        case "true": return true
        case "false": return false
        default:
            report(key, "'\(node.shown)' is not allowed; allowed: true, false")
            return nil
        }
    }

    /// A value of the enumeration; all its cases are the allowed values.
    func choice<Value: RawRepresentable & CaseIterable>(
        _ key: String, as type: Value.Type = Value.self, isRequired: Bool = false
    ) -> Value? where Value.RawValue == String {
        guard let text = text(key, isRequired: isRequired) else { return nil }
        if let value = Value(rawValue: text) { return value }
        report(key, notAllowed(text, Value.allCases.map(\.rawValue)))
        return nil
    }

    /// Texts of which none is empty or there twice.
    func texts(_ key: String, countMax: Int = 100, bytesMax: Int = 200) -> [String]? {
        guard let items = list(key) else { return nil }
        guard items.count <= countMax else {
            report(key, "has \(items.count) values; allowed: at most \(countMax)")
            return nil
        }
        var values: [String] = []
        for (index, node) in items.enumerated() {
            let path = "\(path(key))[\(index)]"
            let place = Place(node, or: place(key))
            guard case .scalar(let scalar) = node, !scalar.string.isEmpty, !scalar.isNull,
                scalar.string.utf8.count <= bytesMax, !scalar.string.utf8.contains(0)
            else {
                problems.add(place, path, "must be a text of 1 to \(bytesMax) bytes without NUL")
                continue
            }
            if values.contains(scalar.string) {
                problems.add(place, path, "'\(scalar.string)' is there twice")
            }
            values.append(scalar.string)
        }
        return values
    }

    /// The items of a list that is not empty.
    func list(_ key: String) -> [Node]? {
        guard let node = node(key, false) else { return nil }
        guard case .sequence(let sequence) = node, !sequence.isEmpty else {
            report(key, "must be a list that is not empty")
            return nil
        }
        return Array(sequence)
    }

    /// The items of a list of mappings.
    func items(_ key: String, allowed: [String]) -> [Fields] {
        (list(key) ?? []).enumerated().compactMap { index, node in
            Fields(node, path: "\(path(key))[\(index)]", allowed: allowed, problems: problems)
        }
    }

    func fields(_ key: String, allowed: [String], isRequired: Bool = false) -> Fields? {
        node(key, isRequired).flatMap {
            Fields($0, path: path(key), allowed: allowed, problems: problems)
        }
    }

    /// A mapping with free keys and scalar values.
    func values(_ key: String) -> [(name: String, value: String, place: Place)] {
        guard let node = node(key, false) else { return [] }
        guard case .mapping(let mapping) = node else {
            report(key, "must be a mapping of names to values")
            return []
        }
        return mapping.compactMap { name, value in
            guard let name = name.string, case .scalar(let scalar) = value, !scalar.isNull else {
                problems.add(Place(value, or: Place(name)), path(key), "must have texts as values")
                return nil
            }
            return (name, scalar.string, Place(value, or: place(key)))
        }
    }

    private func node(_ key: String, _ isRequired: Bool) -> Node? {
        if isRequired { require(key) }
        return nodes[key]?.value
    }

    private func integer(_ node: Node, in range: ClosedRange<Int>, place: Place, path: String) -> Int? {
        guard let text = node.plainText, let value = Int(text), range.contains(value) else {
            let limits = "allowed: a whole number from \(range.lowerBound) to \(range.upperBound)"
            problems.add(place, path, "'\(node.shown)' is not allowed; \(limits)")
            return nil
        }
        return value
    }
}

/// The sentence for a value that is not among the allowed ones.
func notAllowed(_ value: String, _ allowed: [String]) -> String {
    "'\(value.prefix(100))' is not allowed; allowed: \(allowed.joined(separator: ", "))"
}

extension Place {
    init(_ node: Node, or other: Place = Place()) {
        self = node.mark.map { Place(line: $0.line, column: $0.column) } ?? other
    }
}

extension Node {
    /// The text of a scalar that is not quoted.
    fileprivate var plainText: String? {
        guard case .scalar(let scalar) = self, scalar.style == .plain || scalar.style == .any else {
            return nil
        }
        return scalar.string
    }

    /// What to show of a node that was refused.
    fileprivate var shown: String {
        switch self {
        case .scalar(let scalar): String(scalar.string.prefix(100))
        case .mapping: "a mapping"
        case .sequence: "a list"
        case .alias: "an alias"
        }
    }
}

extension Node.Scalar {
    fileprivate var isNull: Bool {
        (style == .plain || style == .any) && ["", "~", "null", "Null", "NULL"].contains(string)
    }
}

/// Reads the one document of a file; syntax errors become problems with their line.
func composeDocument(_ text: String, problems: ProblemList) throws(CatalogProblems) -> Node {
    let bytesMax = 2 << 20
    guard text.utf8.count <= bytesMax else {
        problems.add(Place(), "", "has \(text.utf8.count) bytes; allowed: at most \(bytesMax)")
        throw CatalogProblems(problems: problems.problems)
    }
    do {
        if let node = try Yams.compose(yaml: text) { return node }
        problems.add(Place(), "", "is empty")
    } catch let error as YamlError {
        let (place, message) = explain(error)
        problems.add(place, "", message)
    } catch {
        problems.add(Place(), "", "is not YAML: \(error)")
    }
    throw CatalogProblems(problems: problems.problems)
}

private func explain(_ error: YamlError) -> (Place, String) {
    switch error {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
        .composer(_, let problem, let mark, _):
        (Place(line: mark.line, column: mark.column), "is not YAML: \(problem)")
    case .duplicatedKeysInMapping(let duplicates, let context):
        (
            Place(line: context.mark.line, column: context.mark.column),
            "has the same field twice: \(duplicates.joined(separator: ", "))"
        )
    default:
        (Place(), "is not YAML: \(error)")
    }
}
