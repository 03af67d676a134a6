import Process
import Testing

extension EndToEndTests {
    /// Where settings come from: the command line, then the environment, then a file.
    @Suite struct SettingsTests {
        private let scratch: Scratch
        private var file: String { "\(scratch.path)/settings" }

        init() throws { scratch = try Scratch() }

        /// Runs `cloudrmm` with a file of settings that holds these lines.
        private func cloudrmm(
            _ arguments: [String], environment: [(String, String)] = [], lines: [String]
        ) async throws -> ToolResult {
            try DurableFile.write(Array((lines.joined(separator: "\n") + "\n").utf8), to: file)
            return try await tool(
                try Binaries.path("cloudrmm"), arguments + ["--config", file], environment: environment)
        }

        /// All that any role needs before it looks at ports, on engines that nobody asks here.
        private static let engines = [
            "DATABASE_URL=postgresql://a@localhost/x", "REDIS_URL=redis://localhost:1/",
            "CLOUDRMM_WORKER_DATABASE_URL=postgresql://a@localhost/x",
            "CLOUDRMM_GATEWAY_DATABASE_URL=postgresql://a@localhost/x",
        ]

        @Test("a relative path begins where the process is, whatever PWD says")
        func relativePath() async throws {
            let result = try await tool(
                try Binaries.path("cloudrmm"), ["serve", "--config", "no-such-file"],
                environment: [("PWD", "/nowhere")])
            #expect(result.exit == .exited(2))
            #expect(result.errors.contains("cannot open /no-such-file: "), "\(result.errors)")
        }

        @Test("the command line goes before the environment, the environment before the file")
        func precedence() async throws {
            let lines = Self.engines + ["CLOUDRMM_ROLES=api,worker", "CLOUDRMM_API_PORT=file"]
            let environment = [("CLOUDRMM_API_PORT", "environment")]
            func refusal(
                _ options: [String], _ environment: [(String, String)], from source: String, value: String
            ) async throws {
                let result = try await cloudrmm(["serve"] + options, environment: environment, lines: lines)
                #expect(result.exit == .exited(2), "\(result)")
                let sentence = "CLOUDRMM_API_PORT, from \(source), is \"\(value)\": allowed are 0 to 65535"
                #expect(result.errors.contains(sentence), "\(result.errors)")
            }
            try await refusal([], [], from: "the file \(file)", value: "file")
            try await refusal([], [("CLOUDRMM_API_PORT", "")], from: "the file \(file)", value: "file")
            try await refusal([], environment, from: "the environment", value: "environment")
            try await refusal(
                ["--set", "CLOUDRMM_API_PORT=set"], environment, from: "the command line", value: "set")
            try await refusal(
                ["--set", "CLOUDRMM_API_PORT=set", "--api-port", "65536"], environment,
                from: "the command line", value: "65536")
        }

        @Test(
            "a value that is refused is named with its source and what is allowed; a secret one is not shown",
            arguments: [
                ("CLOUDRMM_ROLES", "api,boss", "allowed are api, gateway, worker", false),
                ("CLOUDRMM_LOG_LEVEL", "loud", "allowed are trace, debug", false),
                ("CLOUDRMM_GATEWAY_PORT", "-1", "allowed are 0 to 65535", false),
                ("CLOUDRMM_OPERATIONS_PORT", "70000", "allowed are 0 to 65535", false),
                ("API_URL", "no-url", "not a URL with a host", false),
                ("AGENT_GATEWAY_URL", "no-url", "not a URL with a host", false),
                ("DATABASE_URL", "mysql://hush", "postgresql://", true),
                ("CLOUDRMM_WORKER_DATABASE_URL", "mysql://hush", "postgresql://", true),
                ("CLOUDRMM_GATEWAY_DATABASE_URL", "mysql://hush", "postgresql://", true),
                ("REDIS_URL", "http://u:hush@h/", "expected redis or unix", true),
                ("CLOUDRMM_REDIS_LOADER_URL", "http://u:hush@h/", "expected redis or unix", true),
            ])
        func refused(name: String, value: String, reason: String, isSecret: Bool) async throws {
            let lines = (Self.engines + ["CLOUDRMM_ROLES=api,gateway,worker"]).filter {
                !$0.hasPrefix("\(name)=")
            }
            let log = "\(scratch.path)/accesses"
            let results = [
                ("the file \(file)", try await cloudrmm(["serve"], lines: lines + ["\(name)=\(value)"])),
                (
                    "the environment",
                    try await cloudrmm(
                        ["serve"], environment: [(name, value), ("CONFIG_ACCESS_LOG_FILE", log)], lines: lines
                    )
                ),
                (
                    "the command line",
                    try await cloudrmm(["serve", "--set", "\(name)=\(value)"], lines: lines)
                ),
            ]
            for (source, result) in results {
                #expect(result.exit == .exited(2) && result.output.isEmpty, "\(result)")
                let shown = isSecret ? "is refused" : "is \"\(value)\""
                #expect(result.errors.contains("\(name), from \(source), \(shown): "), "\(result.errors)")
                #expect(result.errors.contains(reason), "\(result.errors)")
                #expect(!result.errors.contains("hush"), "\(result.errors)")
            }
            // The package's own report of what was read, which a variable of its own asks for.
            let accesses = text(of: log)
            #expect(accesses.contains(isSecret ? "REDACTED" : value), "\(accesses)")
            #expect(!accesses.contains("hush"))
        }

        @Test("a setting that is missing is named, with what needs it and where it was looked for")
        func missing() async throws {
            let result = try await cloudrmm(["serve", "--roles", "worker"], lines: ["REDIS_URL=redis://h/"])
            let sentence =
                "CLOUDRMM_WORKER_DATABASE_URL is missing, which the role worker needs; looked for in: the "
                + "command line, the environment, the file \(file)"
            #expect(result.exit == .exited(2) && result.errors.contains(sentence), "\(result)")
            let verb = try await tool(try Binaries.path("cloudrmm"), ["migrate"])
            #expect(verb.exit == .exited(2) && verb.errors.contains("CLOUDRMM_OWNER_DATABASE_URL is missing"))
            #expect(!verb.errors.contains("the file"))
        }

        @Test(
            "a line that cannot be meant is named by its place and not repeated",
            arguments: [
                ("REDIS_URL redis://u:hush@h/", "is not NAME=VALUE"),
                ("RDIS_URL=redis://u:hush@h/", "sets a variable that there is not; allowed are: AGENT_"),
                ("REDIS_URL=redis://h/\nREDIS_URL=redis://u:hush@h/", "sets REDIS_URL a second time"),
            ])
        func malformed(line: String, reason: String) async throws {
            let lines = ["# A comment", "", "  CLOUDRMM_HOST = ::1  "]
            let result = try await cloudrmm(["serve"], lines: lines + [line])
            let number = 4 + line.count { $0 == "\n" }
            #expect(result.exit == .exited(2) && result.errors.contains("\(file):\(number) \(reason)"))
            #expect(!result.errors.contains("hush"), "\(result.errors)")
        }

        @Test("the file may be named by the environment; one that is not there is named")
        func fileNamed() async throws {
            let program = try Binaries.path("cloudrmm")
            let absent = "\(scratch.path)/absent"
            let result = try await tool(
                program, ["serve"], environment: [("CLOUDRMM_CONFIG", absent)])
            #expect(result.exit == .exited(2) && result.errors.contains(absent), "\(result)")
            // The command line's goes before.
            let other = try await cloudrmm(
                ["serve"], environment: [("CLOUDRMM_CONFIG", absent)], lines: ["CLOUDRMM_ROLES=boss"])
            #expect(other.errors.contains("CLOUDRMM_ROLES, from the file \(file)"), "\(other)")
        }

        @Test("operator verbs find address and key in a file too, and never one without the other")
        func verbs() async throws {
            let url = "API_URL=https://localhost:\(try freePort())"
            let away = try await cloudrmm(["jobs", "list"], lines: [url, "CLOUDRMM_API_KEY=crmm_x"])
            #expect(away.exit == .exited(3) && away.errors.contains("is not reached"), "\(away)")
            let alone = try await cloudrmm(["jobs", "list"], lines: [url])
            #expect(alone.exit == .exited(2) && alone.errors.contains("is given without"), "\(alone)")
        }
    }
}
