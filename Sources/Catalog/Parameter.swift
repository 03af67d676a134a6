/// A typed value that a caller gives to a definition.
package struct Parameter: Sendable {
    /// What values look like.
    package enum ValueType: String, Sendable, CaseIterable {
        case string, integer, boolean, choice
    }

    /// The most bytes of a value where the definition gives no smaller limit.
    package static let valueBytesMax = 4096

    /// Lower-case first letter, then letters, digits and underscores; at most 64 bytes.
    package let name: String
    /// What values look like.
    package let type: ValueType
    /// One line for those who fill it in.
    package let description: String?
    /// The value that is taken when none is given.
    package let defaultValue: String?
    /// Whether a job without a value is refused.
    package let isRequired: Bool
    /// The smallest integer.
    package let min: Int?
    /// The largest integer.
    package let max: Int?
    /// The most bytes of a string.
    package let maxLength: Int
    /// The allowed values of a choice.
    package let choices: [String]

    let line: Int

    /// The name of the environment variable that carries it: `PARAM_` and the name in upper snake case.
    package var environmentName: String { "PARAM_" + Self.upperSnake(name) }

    /// What is wrong with a value; nil when it is allowed.
    package func problem(with value: String) -> String? {
        let shown = value.prefix(100)
        switch type {
        case .string:
            if value.utf8.contains(0) { return "the value has a NUL character" }
            let count = value.utf8.count
            return count > maxLength ? "the value has \(count) bytes; allowed: at most \(maxLength)" : nil
        case .integer:
            let range = (min ?? .min)...(max ?? .max)
            guard let number = Int(value), String(number) == value, range.contains(number) else {
                let limits = "from \(range.lowerBound) to \(range.upperBound)"
                return "'\(shown)' is not allowed; allowed: a whole number \(limits)"
            }
            return nil
        case .boolean:
            return ["true", "false"].contains(value) ? nil : notAllowed(value, ["true", "false"])
        case .choice:
            return choices.contains(value) ? nil : notAllowed(value, choices)
        }
    }

    /// `logLines` and `log_lines` become `LOG_LINES`.
    static func upperSnake(_ name: String) -> String {
        var result = ""
        var wasLower = false
        for character in name {
            if character.isUppercase && wasLower { result += "_" }
            wasLower = character.isLowercase || character.isNumber
            result += character.uppercased()
        }
        return result
    }

    /// Whether an interpreter or the loader would take orders from a variable of this name.
    static func isReserved(environmentName name: String) -> Bool {
        ["BASH_ENV", "ENV", "NODE_OPTIONS", "IFS", "PATH"].contains(name)
            || ["LD_", "PYTHON", "PERL5", "GIT_"].contains { name.hasPrefix($0) }
    }
}
