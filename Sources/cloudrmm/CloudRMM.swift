import ArgumentParser
import Faults
import Process
import Trust

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
            Queues.self, DeadLetters.self, TaskVerbs.self, Workers.self, Doctor.self,
            Partners.self,
            Organizations.self, Sites.self, Users.self, RoleVerbs.self, APIKeyVerbs.self, OIDCVerbs.self,
            WhoAmI.self, Login.self, Logout.self, ContextVerbs.self, Approve.self, Accept.self,
            ApprovalVerbs.self, SessionVerbs.self,
            SecondFactorVerbs.self, ChangePassword.self, AuditVerbs.self,
            WebhookVerbs.self, SecretVerbs.self,
            RedisUsers.self, DemoVerbs.self,
        ])

    /// Parses, runs, and ends with the documented codes: the parser's own code for bad usage is another.
    static func main() async {
        CryptoLibrary.outliveExit()
        do {
            try FaultPoint.arm(from: environmentVariable)
            var command = try parseAsRoot()
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
        } catch {
            guard exitCode(for: error) == .validationFailure else { exit(withError: error) }
            Terminal.complain(fullMessage(for: error), prefix: "")
            exit(withError: ExitCode(Failure.Code.usage.rawValue))
        }
    }
}
