import Process
import Testing

@testable import Agent

@Suite("Command line") struct AgentCommandTests {
    @Test("commands are taken apart, with values after a space or an equals sign")
    func commands() throws {
        #expect(
            try AgentCommand([
                "enroll", "--api-url", "https://h", "--ca=f", "--token", "t", "--data-dir", "/d",
            ])
                == .enroll(apiURL: "https://h", caPath: "f", token: .text("t"), dataDirectory: "/d"))
        #expect(
            try AgentCommand(["run", "--data-dir=/d"]) == .run(dataDirectory: "/d", renewsCertificate: false))
        #expect(
            try AgentCommand(["run", "--data-dir=/d", "--renew-certificate", "yes"])
                == .run(dataDirectory: "/d", renewsCertificate: true))
        #expect(
            try AgentCommand(["status", "--output", "json", "--data-dir", "/d"])
                == .status(dataDirectory: "/d", asJSON: true))
        #expect(try AgentCommand(["--help"]) == .help)
    }

    @Test(
        "what is missing, unknown, doubled or without a value is named",
        arguments: [
            ([], "a command is missing"), (["fly"], "there is no command \"fly\""),
            (["run"], "run needs --data-dir"), (["run", "--data-dir"], "--data-dir needs a value"),
            (["run", "--data-dir="], "--data-dir needs a value"),
            (["run", "-x"], "run has no option \"-x\""),
            (["run", "--data-dir", "/a", "--data-dir", "/b"], "--data-dir stands twice"),
            (["status", "--data-dir", "/d", "--output", "yaml"], "--output is text or json, not \"yaml\""),
        ] as [([String], String)])
    func refusals(_ arguments: [String], _ message: String) {
        #expect(throws: AgentError(.invalid, message)) { try AgentCommand(arguments) }
    }

    @Test("a token comes from the option, from standard input, or from the environment, in this order")
    func tokens() throws {
        func source(_ option: String?, _ variable: String?) throws -> TokenSource? {
            let arguments = ["enroll", "--api-url=u", "--ca=f", "--data-dir=/d"]
            let command = try AgentCommand(
                arguments + (option.map { ["--token", $0] } ?? []), token: variable)
            if case .enroll(_, _, let token, _) = command { return token }
            return nil
        }
        #expect(try source("t", "v") == .text("t"))
        #expect(try source("-", "v") == .standardInput)
        #expect(try source(nil, "v") == .text("v"))
        for variable in [nil, ""] {
            #expect(throws: AgentError(.invalid, "enroll needs --token or CLOUDRMM_TOKEN")) {
                try source(nil, variable)
            }
        }
        #expect(AgentCommand.usage.contains("CLOUDRMM_TOKEN"))
    }

    @Test("standard input holds one token and little else")
    func standardInput() async throws {
        func read(_ text: String) async throws -> String {
            let child = try Child.spawn(ChildOptions(executable: "/usr/bin/printf", arguments: ["%s", text]))
            defer { withExtendedLifetime(child) {} }
            return try TokenSource.standardInput.read(child.stdoutFD)
        }
        #expect(try await read(" abc\n") == "abc")
        for text in ["", "\n", "a b", String(repeating: "a", count: 9_000)] {
            await #expect(throws: AgentError.self) { try await read(text) }
        }
    }

    @Test("a relative data directory is refused")
    func relative() {
        #expect(throws: AgentError.self) { try DataDirectory("agent") }
    }
}
