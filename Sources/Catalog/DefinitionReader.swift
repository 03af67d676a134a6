import Yams

extension Definition {
    private static let fieldNames = [
        "name", "summary", "description", "kind", "interpreter", "body", "bodyFile", "parameters",
        "secrets", "platforms",
        "timeoutSeconds", "expectedExitCodes", "idempotent", "postCheck", "facts",
    ]
    /// Kinds of the HTTP contract that have no definition form yet.
    private static let laterKinds = ["inventory.scan", "patch.scan", "patch.install"]

    /// Reads a definition file; `readSibling` gives the content of a file beside it.
    ///
    /// Throws `CatalogProblems` with everything that is wrong in the file.
    package static func parse(
        file name: String, text: String, readSibling: (String) throws -> [UInt8]
    ) throws -> Definition {
        let problems = ProblemList(file: name)
        let node = try composeDocument(text, problems: problems)
        guard let fields = Fields(node, path: "", allowed: fieldNames, problems: problems) else {
            throw CatalogProblems(problems: problems.problems)
        }
        let definition = Definition(fields, readSibling: readSibling)
        try problems.check()
        return definition
    }

    /// Reads all fields; the result counts only when no problem was reported.
    private init(_ fields: Fields, readSibling: (String) throws -> [UInt8]) {
        file = fields.problems.file
        name = fields.fileName()
        summary = fields.text("summary", bytesMax: 200, isRequired: true) ?? ""
        description = fields.text("description", bytesMax: 10_000)
        kind = Self.kind(fields)
        if kind == .script {
            interpreter = fields.choice("interpreter", isRequired: true)
            body = Self.body(fields, readSibling: readSibling) ?? ""
        } else {
            for key in [
                "interpreter", "body", "bodyFile", "parameters", "secrets", "postCheck", "expectedExitCodes",
                "facts",
            ]
            where fields.has(key) {
                fields.report(key, "is only for the kind script, not for \(kind.rawValue)")
            }
            interpreter = nil
            body = ""
        }
        parameters = Self.parameters(fields)
        secrets = Self.secrets(fields)
        platforms = Self.platforms(fields)
        timeoutSeconds = fields.integer("timeoutSeconds", in: 1...86_400) ?? 300
        expectedExitCodes = fields.integers("expectedExitCodes", in: 0...255) ?? [0]
        idempotent = fields.boolean("idempotent") ?? false
        postCheck = fields.fields("postCheck", allowed: ["interpreter", "body", "expectedExitCodes"]).map {
            check in
            PostCheck(
                interpreter: check.choice("interpreter", isRequired: true) ?? .sh,
                body: check.body("body", isRequired: true) ?? "",
                expectedExitCodes: check.integers("expectedExitCodes", in: 0...255) ?? [0])
        }
        facts = fields.fields("facts", allowed: ["format"])?.choice("format", isRequired: true)
    }

    private static func kind(_ fields: Fields) -> Kind {
        guard let text = fields.text("kind", isRequired: true) else { return .script }
        if let kind = Kind(rawValue: text) { return kind }
        let allowed = Kind.allCases.map(\.rawValue)
        if laterKinds.contains(text) {
            fields.report(
                "kind", "'\(text)' is not supported yet; allowed: \(allowed.joined(separator: ", "))")
        } else {
            fields.report("kind", notAllowed(text, allowed))
        }
        return .script
    }

    private static func platforms(_ fields: Fields) -> [Platform] {
        (fields.texts("platforms") ?? ["linux"]).compactMap { text in
            if let platform = Platform(rawValue: text) { return platform }
            fields.report("platforms", notAllowed(text, Platform.allCases.map(\.rawValue)))
            return nil
        }
    }

    private static func body(_ fields: Fields, readSibling: (String) throws -> [UInt8]) -> String? {
        guard fields.has("body") != fields.has("bodyFile") else {
            fields.problems.add(fields.place, "body", "exactly one of body and bodyFile has to be there")
            return nil
        }
        if fields.has("body") { return fields.body("body") }
        guard let path = fields.text("bodyFile", bytesMax: 200) else { return nil }
        let isPlain = path.split(separator: "/", omittingEmptySubsequences: false).allSatisfy { part in
            !part.isEmpty && part.first != "."
                && part.utf8.allSatisfy {
                    isNameByte($0) || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "_")
                }
        }
        guard isPlain else {
            let allowed =
                "a path beside this file of letters, digits, '.', '_' and '-', no part beginning with '.'"
            fields.report("bodyFile", "'\(path)' is not allowed; allowed: \(allowed)")
            return nil
        }
        do {
            return fields.scriptText("bodyFile", try readSibling(path))
        } catch {
            fields.report("bodyFile", "'\(path)' cannot be read: \(error)")
            return nil
        }
    }

    private static func secrets(_ fields: Fields) -> [SecretUse] {
        var uses: [SecretUse] = []
        for item in fields.items("secrets", allowed: ["name", "environment", "stdin"]) {
            let name = item.text("name", bytesMax: 64, isRequired: true) ?? ""
            if item.has("name"), !isSecretName(name) {
                item.report(
                    "name",
                    "'\(name)' is not allowed; allowed: a lower-case letter, then lower-case letters, digits "
                        + "and '_'")
            }
            let environment = item.text("environment", bytesMax: 128)
            if let environment,
                !isVariableName(environment) || Parameter.isReserved(environmentName: environment)
            {
                item.report(
                    "environment",
                    "'\(environment)' is not allowed; allowed: letters, digits and '_', no digit first, and "
                        + "no variable that an interpreter obeys")
            }
            if (item.boolean("stdin") ?? false) == item.has("environment") {
                item.report("environment", "exactly one of environment and 'stdin: true' has to be there")
            }
            if uses.contains(where: { $0.environment == environment }) {
                item.report("environment", "the same variable, or the input, has another secret")
            }
            uses.append(SecretUse(name: name, environment: environment))
        }
        if uses.count > 16 { fields.report("secrets", "has \(uses.count) items; allowed: at most 16") }
        return uses
    }

    private static func isSecretName(_ name: String) -> Bool {
        name.utf8.first.map { UInt8(ascii: "a")...UInt8(ascii: "z") ~= $0 } == true
            && name.utf8.allSatisfy { byte in
                UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte
                    || byte == UInt8(ascii: "_")
            }
    }

    private static func isVariableName(_ name: String) -> Bool {
        name.utf8.first.map { UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 } == false
            && name.utf8.allSatisfy { byte in
                UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte | 0x20
                    || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte || byte == UInt8(ascii: "_")
            }
    }

    private static func parameters(_ fields: Fields) -> [Parameter] {
        let names = [
            "name", "type", "description", "default", "required", "min", "max", "maxLength", "choices",
        ]
        var parameters: [Parameter] = []
        for item in fields.items("parameters", allowed: names) {
            let parameter = Parameter(item)
            if parameters.contains(where: { $0.environmentName == parameter.environmentName }) {
                item.report("name", "'\(parameter.name)' has the same variable as another parameter")
            }
            parameters.append(parameter)
        }
        return parameters
    }
}

extension Parameter {
    /// Reads all fields; the result counts only when no problem was reported.
    fileprivate init(_ fields: Fields) {
        line = fields.place.line
        name = fields.text("name", bytesMax: 64, isRequired: true) ?? ""
        type = fields.choice("type", isRequired: true) ?? .string
        description = fields.text("description")
        defaultValue = fields.scalar("default", bytesMax: Self.valueBytesMax)
        isRequired = fields.boolean("required") ?? false
        let integers = Int.min...Int.max
        min = fields.integer("min", in: integers)
        max = fields.integer("max", in: integers)
        maxLength = fields.integer("maxLength", in: 1...Self.valueBytesMax) ?? Self.valueBytesMax
        choices = fields.texts("choices") ?? []
        validate(fields)
    }

    private func validate(_ fields: Fields) {
        let isNamed = name.utf8.allSatisfy {
            isNameByte($0) && $0 != UInt8(ascii: "-") || $0 == UInt8(ascii: "_")
        }
        if !name.isEmpty, !isNamed || !("a"..."z").contains(name.first ?? "-") {
            fields.report(
                "name", "'\(name)' is not allowed; allowed: a lower-case letter, then letters, digits and '_'"
            )
        }
        if Self.isReserved(environmentName: Self.upperSnake(name)) {
            fields.report("name", "'\(name)' is reserved, because interpreters take orders from it")
        }
        if let min, let max, min > max { fields.report("min", "\(min) is above max, which is \(max)") }
        for key in ["min", "max"] where fields.has(key) && type != .integer {
            fields.report(key, "is only for the type integer, not for \(type.rawValue)")
        }
        if fields.has("maxLength"), type != .string {
            fields.report("maxLength", "is only for the type string, not for \(type.rawValue)")
        }
        if fields.has("choices"), type != .choice {
            fields.report("choices", "is only for the type choice, not for \(type.rawValue)")
        }
        if type == .choice { fields.require("choices") }
        let hasLimits = (min ?? .min) <= (max ?? .max) && (type != .choice || !choices.isEmpty)
        if hasLimits, let defaultValue, let problem = problem(with: defaultValue) {
            fields.report("default", problem)
        }
    }
}

extension Fields {
    /// The field `name`, which has to be the file's name without folder and ending.
    func fileName() -> String {
        guard let name = text("name", bytesMax: 63, isRequired: true) else { return "" }
        guard name.utf8.allSatisfy(isNameByte), !name.contains(where: \.isUppercase),
            name.first?.isLetter == true
        else {
            report(
                "name", "'\(name)' is not allowed; allowed: a letter, then lower-case letters, digits and '-'"
            )
            return name
        }
        let stem = problems.file.split(separator: "/").last.map(String.init) ?? ""
        if stem != name + ".yaml" {
            report("name", "'\(name)' is not the file's name; rename one of the two")
        }
        return name
    }

    /// A script that stands in the file.
    func body(_ key: String, isRequired: Bool = false) -> String? {
        guard let text = text(key, bytesMax: Definition.bodyBytesMax, isRequired: isRequired) else {
            return nil
        }
        return scriptText(key, Array(text.utf8))
    }

    /// The text of a script, or nil after a report.
    func scriptText(_ key: String, _ bytes: [UInt8]) -> String? {
        guard bytes.count <= Definition.bodyBytesMax else {
            report(key, "the script has \(bytes.count) bytes; allowed: at most \(Definition.bodyBytesMax)")
            return nil
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            report(key, "the script is not UTF-8")
            return nil
        }
        guard !bytes.contains(0) else {
            report(key, "the script has a NUL character")
            return nil
        }
        guard !bytes.contains(UInt8(ascii: "\r")) else {
            report(key, "the script has carriage returns; allowed: lines that end in LF")
            return nil
        }
        guard bytes.contains(where: { $0 > 0x20 }) else {
            report(key, "the script is empty")
            return nil
        }
        return text
    }
}

/// ASCII letters, digits and the hyphen.
private func isNameByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"):
        true
    default:
        false
    }
}
