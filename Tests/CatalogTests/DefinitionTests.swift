import Catalog
import Testing

@Suite("A definition")
struct DefinitionTests {
    private static let sound = """
        name: example
        summary: An example
        kind: script
        interpreter: sh
        body: |
          echo "$PARAM_LOG_LINES"
        parameters:
          - name: logLines
            type: integer
            min: 1
            max: 10
            default: 5
          - name: unit_name
            type: string
            required: true
            maxLength: 8
          - name: verbose
            type: boolean
          - name: mode
            type: choice
            choices: [fast, slow]
            default: slow
        platforms: [linux]
        timeoutSeconds: 86400
        expectedExitCodes: [0, 255]
        idempotent: true
        postCheck:
          interpreter: python3
          body: print("ok")
        facts:
          format: json

        """

    private func parse(
        _ text: String, files: [String: [UInt8]] = [:], name: String = "Jobs/example.yaml"
    ) throws -> Definition {
        try Definition.parse(file: name, text: text) { path in
            try files[path] ?? { throw CancellationError() }()
        }
    }

    private func problems(_ text: String, files: [String: [UInt8]] = [:]) -> [CatalogError] {
        do {
            _ = try parse(text, files: files)
            return []
        } catch {
            return (error as? CatalogProblems)?.problems ?? []
        }
    }

    @Test("secrets are named, each for a variable or the input, and nothing else stands for one")
    func secrets() throws {
        func with(_ secrets: String) -> String { Self.sound + "secrets: \(secrets)\n" }
        #expect(try parse(Self.sound).secrets.isEmpty)
        let uses = try parse(with("[{name: a_1, environment: A}, {name: b, stdin: true}]")).secrets
        #expect(uses.map(\.name) == ["a_1", "b"] && uses.map(\.environment) == ["A", nil])
        for (refused, field) in [
            ("[{name: A, environment: A}]", "secrets[0].name"), ("[{environment: A}]", "secrets[0].name"),
            ("[{name: a}]", "secrets[0].environment"),
            ("[{name: a, environment: PATH}]", "secrets[0].environment"),
            ("[{name: a, environment: LD_PRELOAD}]", "secrets[0].environment"),
            ("[{name: a, environment: A-B}]", "secrets[0].environment"),
            ("[{name: a, environment: A, stdin: true}]", "secrets[0].environment"),
            ("[{name: a, stdin: true}, {name: b, stdin: true}]", "secrets[1].environment"),
            ("[{name: a, environment: A}, {name: b, environment: A}]", "secrets[1].environment"),
            ("[{name: a, environment: A, value: v}]", "secrets[0].value"),
        ] { #expect(problems(with(refused)).map(\.field) == [field], "\(refused)") }
    }

    @Test("has what the file says, and defaults for the rest")
    func reads() throws {
        let definition = try parse(Self.sound)
        #expect(definition.name == "example" && definition.summary == "An example")
        #expect(definition.kind == .script && definition.interpreter == .sh)
        #expect(definition.body == "echo \"$PARAM_LOG_LINES\"\n")
        #expect(definition.parameters.map(\.name) == ["logLines", "unit_name", "verbose", "mode"])
        #expect(definition.timeoutSeconds == 86_400 && definition.expectedExitCodes == [0, 255])
        #expect(definition.idempotent && definition.facts == .json)
        #expect(definition.postCheck?.interpreter == .python3)
        #expect(definition.postCheck?.expectedExitCodes == [0])

        let small = try parse("{name: example, summary: s, kind: script, interpreter: bash, body: 'true'}")
        #expect(small.timeoutSeconds == 300 && small.expectedExitCodes == [0] && !small.idempotent)
        #expect(small.platforms == [.linux] && small.parameters.isEmpty && small.facts == nil)
        let ping = try parse("{name: example, summary: s, kind: ping}")
        #expect(ping.kind == .ping && ping.interpreter == nil && ping.body.isEmpty)
    }

    @Test("takes its body from a file beside it")
    func readsSibling() throws {
        let text = "{name: example, summary: s, kind: script, interpreter: sh, bodyFile: lib/run.sh}"
        #expect(try parse(text, files: ["lib/run.sh": Array("exit 0\n".utf8)]).body == "exit 0\n")
    }

    /// What is replaced in the sound definition, and the line and words of the problem that it makes.
    private static let mistakes: [(old: String, new: String, line: Int, words: String)] = [
        ("name: example", "name: other", 1, "name: 'other' is not the file's name"),
        ("name: example", "name: Example", 1, "allowed: a letter, then lower-case letters, digits and '-'"),
        ("name: example\n", "", 1, "name: is missing"),
        ("summary: An example", "summary: ''", 2, "summary: must be a text that is not empty"),
        ("summary: An example", "summary: ~", 2, "summary: must be a text"),
        ("summary: An example", "summary: [a]", 2, "summary: must be a text"),
        ("summary: An example", "summary: " + String(repeating: "x", count: 201), 2, "at most 200"),
        ("summary: An example", "summry: An example", 2, "summry: unknown field; allowed: name, summary,"),
        ("kind: script", "kind: skript", 3, "kind: 'skript' is not allowed; allowed: script, ping, sysinfo"),
        ("kind: script", "kind: patch.scan", 3, "'patch.scan' is not supported yet; allowed: script, ping"),
        ("kind: script", "kind: ping", 4, "interpreter: is only for the kind script, not for ping"),
        ("interpreter: sh\n", "interpreter: perl\n", 4, "'perl' is not allowed; allowed: sh, bash, python3"),
        ("interpreter: sh\n", "", 1, "interpreter: is missing"),
        ("body: |\n", "bodyFile: x\nbody: |\n", 1, "exactly one of body and bodyFile"),
        ("body: |\n  echo \"$PARAM_LOG_LINES\"\n", "", 1, "exactly one of body and bodyFile"),
        ("body: |\n  echo \"$PARAM_LOG_LINES\"\n", "body: \"a\\0b\"\n", 5, "body: has a NUL character"),
        (
            "body: |\n  echo \"$PARAM_LOG_LINES\"\n", "body: \"a\\r\\nb\"\n", 5,
            "body: the script has carriage"
        ),
        ("body: |\n  echo \"$PARAM_LOG_LINES\"\n", "body: \"  \"\n", 5, "body: the script is empty"),
        ("name: logLines", "name: LogLines", 8, "parameters[0].name: 'LogLines' is not allowed"),
        ("name: logLines", "name: log-lines", 8, "a lower-case letter, then letters, digits and '_'"),
        ("name: logLines", "name: unitName", 13, "'unit_name' has the same variable as another parameter"),
        ("name: logLines", "name: ldPreload", 8, "'ldPreload' is reserved"),
        ("type: integer", "type: number", 9, "parameters[0].type: 'number' is not allowed; allowed: string,"),
        ("min: 1\n", "min: 11\n", 10, "parameters[0].min: 11 is above max, which is 10"),
        ("min: 1\n", "min: one\n", 10, "'one' is not allowed; allowed: a whole number"),
        ("min: 1\n", "min: '1'\n", 10, "'1' is not allowed; allowed: a whole number"),
        ("default: 5", "default: 11", 12, "parameters[0].default: '11' is not allowed; allowed: a whole"),
        ("type: string", "type: boolean", 16, "maxLength: is only for the type string, not for boolean"),
        ("required: true", "required: yes", 15, "required: 'yes' is not allowed; allowed: true, false"),
        ("maxLength: 8", "maxLength: 4097", 16, "allowed: a whole number from 1 to 4096"),
        (
            "type: boolean", "type: boolean\n    min: 1", 19,
            "min: is only for the type integer, not for boolean"
        ),
        ("choices: [fast, slow]\n", "choices: []\n", 21, "choices: must be a list that is not empty"),
        ("    choices: [fast, slow]\n", "", 19, "parameters[3].choices: is missing"),
        ("choices: [fast, slow]", "choices: [fast, fast]", 21, "'fast' is there twice"),
        ("default: slow", "default: medium", 22, "'medium' is not allowed; allowed: fast, slow"),
        ("platforms: [linux]", "platforms: [windows]", 23, "'windows' is not allowed; allowed: linux"),
        ("timeoutSeconds: 86400", "timeoutSeconds: 86401", 24, "from 1 to 86400"),
        ("timeoutSeconds: 86400", "timeoutSeconds: 0", 24, "from 1 to 86400"),
        ("timeoutSeconds: 86400", "timeoutSeconds: -5", 24, "'-5' is not allowed"),
        ("timeoutSeconds: 86400", "timeoutSeconds: 99999999999999999999", 24, "from 1 to 86400"),
        (
            "expectedExitCodes: [0, 255]", "expectedExitCodes: [0, 256]", 25,
            "expectedExitCodes[1]: '256' is not"
        ),
        ("expectedExitCodes: [0, 255]", "expectedExitCodes: [0, 0]", 25, "has a value twice"),
        ("expectedExitCodes: [0, 255]", "expectedExitCodes: 0", 25, "must be a list that is not empty"),
        ("idempotent: true", "idempotent: 1", 26, "'1' is not allowed; allowed: true, false"),
        ("interpreter: python3", "interpreter: ruby", 28, "postCheck.interpreter: 'ruby' is not allowed"),
        (
            "  body: print(\"ok\")\n", "  text: x\n", 29,
            "postCheck.text: unknown field; allowed: interpreter,"
        ),
        ("format: json", "format: xml", 31, "facts.format: 'xml' is not allowed; allowed: json"),
        ("facts:\n  format: json", "facts: json", 30, "facts: must be a mapping with the fields format"),
        ("kind: script", "kind: script\nkind: ping", 3, "has the same field twice: kind"),
        ("kind: script", "kind: [script", 4, "is not YAML"),
        ("kind: script", "\tkind: script", 3, "is not YAML"),
    ]

    @Test("is refused with line, field and allowed values", arguments: mistakes)
    func refuses(mistake: (old: String, new: String, line: Int, words: String)) throws {
        try #require(Self.sound.contains(mistake.old))
        let text = Self.sound.replacing(mistake.old, with: mistake.new, maxReplacements: 1)
        let problems = problems(text)
        #expect(
            problems.contains { $0.line == mistake.line && "\($0)".contains(mistake.words) },
            "\(mistake.new) gave \(problems)")
        #expect(problems.allSatisfy { $0.file == "Jobs/example.yaml" })
    }

    @Test("names all its problems at once")
    func collects() {
        let text = "{name: other, summary: s, kind: script, interpreter: perl, timeoutSeconds: 0, extra: 1}"
        #expect(problems(text).map(\.field) == ["extra", "name", "interpreter", "body", "timeoutSeconds"])
    }

    @Test(
        "is refused when it is not one mapping", arguments: ["", "- a", "text", "a: 1\n---\nb: 2", "a: *b"])
    func refusesDocuments(text: String) {
        #expect(!problems(text).isEmpty)
    }

    @Test("survives deep nesting and generated garbage")
    func garbage() {
        #expect(!problems(String(repeating: "[", count: 100_000)).isEmpty)
        var generator = SystemRandomNumberGenerator()
        let alphabet = Array("{}[]:,-|>&*!%@`\"'# \n\tab0~?")
        for _ in 0..<2000 {
            let text = String((0..<60).map { _ in alphabet.randomElement(using: &generator) ?? "a" })
            #expect(!problems(text).isEmpty)
        }
    }

    @Test(
        "takes no body file from elsewhere",
        arguments: [
            "../secret", "/etc/passwd", "a/../../b", "./a", ".hidden", "a//b", "a/", "a b", "a\\b", "~/a",
            "a/.b",
        ])
    func refusesTraversal(path: String) {
        let text = "{name: example, summary: s, kind: script, interpreter: sh, bodyFile: '\(path)'}"
        let problems = problems(text, files: [path: Array("true".utf8)])
        #expect(problems.count == 1)
        #expect(problems.first?.message.contains("allowed: a path beside this file") == true)
    }

    @Test("refuses bodies that are too large, not UTF-8 or have NUL, and takes one of the limit")
    func boundsBodies() throws {
        let text = "{name: example, summary: s, kind: script, interpreter: sh, bodyFile: run.sh}"
        let largest = [UInt8](repeating: 0x61, count: Definition.bodyBytesMax)
        #expect(try parse(text, files: ["run.sh": largest]).body.utf8.count == Definition.bodyBytesMax)
        let bodies: [([UInt8], String)] = [
            (largest + [0x61], "1048577 bytes; allowed: at most 1048576"), ([0xFF, 0x61], "not UTF-8"),
            ([0x61, 0], "NUL"), ([], "empty"),
        ]
        for (body, words) in bodies {
            #expect(problems(text, files: ["run.sh": body]).map(\.message).first?.contains(words) == true)
        }
        #expect(problems(text).first?.message.contains("'run.sh' cannot be read") == true)
    }

    @Test("hands parameters to the script as variables, with defaults and in order")
    func environment() throws {
        let definition = try parse(Self.sound)
        let environment = try definition.environment(for: [
            "unit_name": "ssh", "verbose": "true", "logLines": "7",
        ])
        #expect(
            environment.map(\.0) == ["PARAM_LOG_LINES", "PARAM_UNIT_NAME", "PARAM_VERBOSE", "PARAM_MODE"])
        #expect(environment.map(\.1) == ["7", "ssh", "true", "slow"])
        #expect(
            try definition.environment(for: ["unit_name": ""]).map(\.0).contains("PARAM_VERBOSE") == false)
    }

    @Test(
        "refuses values with the parameter, the value and the limit",
        arguments: [
            ("logLines", "0", "'0' is not allowed; allowed: a whole number from 1 to 10"),
            ("logLines", "11", "'11' is not allowed"), ("logLines", " 5", "' 5' is not allowed"),
            ("logLines", "05", "'05' is not allowed"), ("logLines", "+5", "'+5' is not allowed"),
            ("unit_name", "123456789", "has 9 bytes; allowed: at most 8"), ("unit_name", "a\u{0}", "NUL"),
            ("verbose", "yes", "'yes' is not allowed; allowed: true, false"),
            ("mode", "medium", "'medium' is not allowed; allowed: fast, slow"),
            ("other", "1", "unknown parameter; allowed: logLines, unit_name, verbose, mode"),
        ])
    func refusesValues(name: String, value: String, words: String) throws {
        let definition = try parse(Self.sound)
        let values = ["unit_name": "ssh"].merging([name: value]) { _, new in new }
        let error = try #require(throws: CatalogProblems.self) { try definition.environment(for: values) }
        #expect(error.problems.map(\.field) == ["parameters.\(name)"])
        #expect(error.problems.first?.message.contains(words) == true)
    }

    @Test("refuses a missing required value and takes one of the longest")
    func requiredValues() throws {
        let definition = try parse(Self.sound)
        let error = try #require(throws: CatalogProblems.self) { try definition.environment(for: [:]) }
        #expect(
            error.description == "Jobs/example.yaml:13: parameters.unit_name: is required and has no value")
        #expect(try definition.environment(for: ["unit_name": "12345678"]).count == 3)
    }
}
