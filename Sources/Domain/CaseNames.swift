/// The words of an enum, which are the names of its cases: looking at a type's names takes a microsecond, so
/// each is made once.
struct CaseNames<Case: CaseIterable & Hashable & Sendable>: Sendable {
    private let names: [Case: String]
    private let cases: [String: Case]

    init() {
        names = Dictionary(uniqueKeysWithValues: Case.allCases.map { ($0, String(describing: $0)) })
        cases = Dictionary(uniqueKeysWithValues: names.map { ($0.value, $0.key) })
    }

    subscript(value: Case) -> String { names[value] ?? String(describing: value) }
    subscript(name: String) -> Case? { cases[name] }
}
