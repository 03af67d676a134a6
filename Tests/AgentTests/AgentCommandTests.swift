import Testing

@testable import Agent

@Suite("Command line") struct AgentCommandTests {
    @Test("commands are taken apart, with values after a space or an equals sign")
    func commands() throws {
        #expect(
            try AgentCommand([
                "enroll", "--api-url", "https://h", "--ca=f", "--token", "t", "--data-dir", "/d",
            ])
                == .enroll(apiURL: "https://h", caPath: "f", token: "t", dataDirectory: "/d"))
        #expect(try AgentCommand(["run", "--data-dir=/d"]) == .run(dataDirectory: "/d"))
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

    @Test("a relative data directory is refused")
    func relative() {
        #expect(throws: AgentError.self) { try DataDirectory("agent") }
    }
}
