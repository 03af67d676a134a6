/// A reusable job template: what runs, with which parameters, and how its end is judged.
///
/// It is the content of `Jobs/<name>.yaml`; `Documentation.docc/Catalog.md` shows the format.
package struct Definition: Sendable {
    /// What the agent does.
    package enum Kind: String, Sendable, CaseIterable {
        case script, ping, sysinfo
    }

    /// What runs a script.
    package enum Interpreter: String, Sendable, CaseIterable {
        case sh, bash, python3
    }

    /// Where a definition may run.
    package enum Platform: String, Sendable, CaseIterable {
        case linux
    }

    /// How the output of a run becomes facts about the device.
    package enum FactsFormat: String, Sendable, CaseIterable {
        /// The whole standard output is one JSON object.
        case json
    }

    /// A secret that the script is given, by name.
    package struct SecretUse: Sendable, Equatable {
        /// What it is called: a lower-case letter, then lower-case letters, digits and underscores.
        package let name: String
        /// The variable that holds it; nil means standard input.
        package let environment: String?
    }

    /// A second script that decides whether a run that ended well has done its work.
    package struct PostCheck: Sendable {
        /// What runs it.
        package let interpreter: Interpreter
        /// The script.
        package let body: String
        /// Exit codes that mean success.
        package let expectedExitCodes: [Int]
    }

    /// The most bytes of a script.
    package static let bodyBytesMax = 1 << 20

    /// The file's name without its ending: lower-case letters, digits and hyphens.
    package let name: String
    /// One line for lists.
    package let summary: String
    /// More for those who want to use it.
    package let description: String?
    /// What the agent does.
    package let kind: Kind
    /// What runs the script; nil for other kinds.
    package let interpreter: Interpreter?
    /// The script; empty for other kinds.
    package let body: String
    /// The parameters in the order in which they were written.
    package let parameters: [Parameter]
    /// The secrets that the script is given.
    package let secrets: [SecretUse]
    /// Where it may run.
    package let platforms: [Platform]
    /// How long a run may take.
    package let timeoutSeconds: Int
    /// Exit codes that mean success.
    package let expectedExitCodes: [Int]
    /// Whether running twice does no harm.
    package let idempotent: Bool
    /// What has to hold after a run, if anything.
    package let postCheck: PostCheck?
    /// How the output becomes facts; nil when it does not.
    package let facts: FactsFormat?

    let file: String

    /// The environment that hands the values to the script, defaults filled in, in the order of the
    /// parameters.
    ///
    /// A parameter `logLines` becomes `PARAM_LOG_LINES`; an optional one without value and default is not
    /// set. Throws `CatalogProblems` with every value that is unknown, missing or out of its limits.
    package func environment(for values: [String: String]) throws -> [(String, String)] {
        let problems = problems(with: values)
        guard problems.isEmpty else {
            throw CatalogProblems(
                problems: problems.map { name, message in
                    CatalogError(
                        file: file, line: parameters.first { $0.name == name }?.line ?? 1, column: nil,
                        field: "parameters.\(name)", message: message)
                })
        }
        return parameters.compactMap { parameter in
            (values[parameter.name] ?? parameter.defaultValue).map { (parameter.environmentName, $0) }
        }
    }

    /// What is wrong with values for the parameters, by name.
    func problems(with values: [String: String]) -> [(name: String, message: String)] {
        let known = parameters.map(\.name)
        let unknown = values.keys.filter { !known.contains($0) }.sorted().map { name in
            (name, "unknown parameter; allowed: \(known.isEmpty ? "none" : known.joined(separator: ", "))")
        }
        return unknown
            + parameters.compactMap { parameter in
                guard let value = values[parameter.name] ?? parameter.defaultValue else {
                    return parameter.isRequired ? (parameter.name, "is required and has no value") : nil
                }
                return parameter.problem(with: value).map { (parameter.name, $0) }
            }
    }
}
