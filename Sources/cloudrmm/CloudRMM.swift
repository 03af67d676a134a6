import ArgumentParser

/// The command line: servers and operator verbs.
@main
struct CloudRMM: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cloudrmm",
        abstract: "Watch and operate the computers of many customers.",
        discussion:
            "Start everything on this machine with 'cloudrmm up'; then use the verbs below against it.",
        version: "0.1.0",
        subcommands: [
            Up.self, Serve.self, Migrate.self, Jobs.self, Runs.self, Devices.self, Tokens.self, Keys.self,
            Queues.self,
            Partners.self,
            Organizations.self, Sites.self,
        ])
}
