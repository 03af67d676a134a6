import ArgumentParser
import Configuration
import Foundation
import Process

/// Where settings come from beside a command's own options.
struct SettingsOptions: ParsableArguments {
    @Option(
        help: "A file of settings, one NAME=VALUE a line; else $CLOUDRMM_CONFIG. The environment goes before."
    )
    var config: String?

    @Option(
        name: .customLong("set"),
        help:
            "NAME=VALUE of a variable, before environment and file. Arguments are seen by others: no secrets."
    )
    var assignments: [String] = []

    /// The settings; `options` are those of a command's own options that were given.
    func settings(_ options: [Setting: String?] = [:]) throws -> Settings {
        let environment = ProcessInfo.processInfo.environment
        var sources: [Settings.Source] = []
        let own = options.compactMapValues(\.self).map { ($0.key.rawValue, $0.value) }
        let assigned = try assignments.map { try Settings.assignment($0, in: "--set") }
        sources.append(
            Settings.Source("the command line", Dictionary(own + assigned) { first, _ in first }))
        sources.append(Settings.Source("the environment", environment))
        if let file = [config, environment["CLOUDRMM_CONFIG"]].compactMap(\.self).first(where: { !$0.isEmpty }
        ) {
            sources.append(try Settings.file(absolutePath(file)))
        }
        return Settings(sources)
    }
}

/// What the command line, the environment and a file say, in this order; an empty value is none.
struct Settings {
    /// One place of settings, as messages call it.
    struct Source {
        let name: String
        fileprivate let values: [String: String]

        init(_ name: String, _ values: [String: String]) {
            self.name = name
            self.values = values.filter { !$0.value.isEmpty }
        }

        fileprivate var provider: EnvironmentVariablesProvider {
            EnvironmentVariablesProvider(
                environmentVariables: values,
                secretsSpecifier: .dynamic { name, _ in Setting(rawValue: name)?.isSecret ?? true })
        }
    }

    private let sources: [Source]
    private let reader: ConfigReader

    /// The sources, the first before the others.
    init(_ sources: [Source]) {
        self.sources = sources
        reader = ConfigReader(providers: sources.map(\.provider))
    }

    /// The value of a setting, if any source has one.
    subscript(_ setting: Setting) -> String? {
        reader.string(forKey: setting.key, isSecret: setting.isSecret)
    }

    /// The value of a setting that must be there; the refusal names what wants it.
    func require(_ setting: Setting, for user: String) throws -> String {
        guard let value = self[setting] else {
            let names = sources.map(\.name).joined(separator: ", ")
            throw ValidationError(
                "\(setting.rawValue) is missing, which \(user) needs; looked for in: \(names)")
        }
        return value
    }

    /// The directory of the installation's keys.
    var keysDirectory: String { absolutePath(self[.keysDir] ?? ".cloudrmm/keys") }

    /// A setting's value in another form; a refusal names the setting, its source and the reason.
    func parse<Value>(_ setting: Setting, _ value: String, _ parse: (String) throws -> Value) throws -> Value
    {
        do {
            return try parse(value)
        } catch {
            throw refusal(setting, "\(error)")
        }
    }

    /// A number in a range; `nil` if no source has one.
    func number(_ setting: Setting, in range: ClosedRange<Int>) throws -> Int? {
        guard let value = self[setting] else { return nil }
        guard let number = Int(value), range.contains(number) else {
            throw refusal(setting, "allowed are \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// The refusal of a setting's value, which it shows unless it is secret.
    func refusal(_ setting: Setting, _ reason: String) -> ValidationError {
        let source = sources.first { $0.values[setting.rawValue] != nil }?.name ?? "nowhere"
        let value = setting.isSecret ? "is refused" : "is \"\(self[setting] ?? "")\""
        return ValidationError("\(setting.rawValue), from \(source), \(value): \(reason)")
    }

    // MARK: Reading

    /// The settings of a file: one NAME=VALUE a line, `#` begins a comment, empty lines are fine. The value
    /// is what stands after the first `=`, without spaces around it and without quotes that would mean
    /// anything.
    static func file(_ path: String) throws -> Source {
        let text: String
        do {
            text = String(decoding: try readFile(path, max: 1 << 20), as: UTF8.self)
        } catch {
            throw ValidationError("the file of settings cannot be read: \(error)")
        }
        var values: [String: String] = [:]
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let line = line.trimmingCharacters(in: .whitespaces)
            guard !line.isEmpty, !line.hasPrefix("#") else { continue }
            let place = "\(path):\(index + 1)"
            let (name, value) = try assignment(line, in: place)
            guard values.updateValue(value, forKey: name) == nil else {
                throw ValidationError("\(place) sets \(name) a second time")
            }
        }
        return Source("the file \(path)", values)
    }

    /// One NAME=VALUE of a variable that there is. The line itself is not repeated: it may hold a secret.
    static func assignment(_ text: String, in place: String) throws -> (name: String, value: String) {
        guard let mark = text.firstIndex(of: "=") else {
            throw ValidationError("\(place) is not NAME=VALUE")
        }
        let name = text[..<mark].trimmingCharacters(in: .whitespaces)
        guard Setting(rawValue: name) != nil || Setting.ofOthers.contains(name) else {
            let allowed = Setting.allCases.map(\.rawValue).sorted().joined(separator: ", ")
            throw ValidationError("\(place) sets a variable that there is not; allowed are: \(allowed)")
        }
        return (name, text[text.index(after: mark)...].trimmingCharacters(in: .whitespaces))
    }
}
