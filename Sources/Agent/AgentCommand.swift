/// The command line of `cloudrmm-agent`, taken apart; small enough to do without a library that brings
/// Foundation.
package enum AgentCommand: Sendable, Equatable {
    /// Makes this machine a device.
    case enroll(apiURL: String, caPath: String, token: String, dataDirectory: String)
    /// Connects a device and runs its jobs.
    case run(dataDirectory: String)
    /// Says how a device is.
    case status(dataDirectory: String, asJSON: Bool)
    /// Shows `usage`.
    case help
    /// Shows the version.
    case version

    /// What `help` shows.
    package static let usage = """
        usage: cloudrmm-agent enroll --api-url URL --ca FILE --token TOKEN --data-dir DIR
               cloudrmm-agent run    --data-dir DIR
               cloudrmm-agent status --data-dir DIR [--output text|json]

        enroll   makes this machine a device: asks the API at URL (https), whose certificate the CA in FILE
                 has signed, with a token from `cloudrmm tokens create`, and keeps the identity in DIR
        run      connects the device of DIR and runs its jobs until SIGTERM or SIGINT
        status   says who the device of DIR is, and whether an agent runs for it

        exit codes: 0 done, 1 failed, 2 wrong usage, 3 the server refused, 4 not enrolled or enrolled already,
                    5 another agent runs on DIR, 6 what the server or the CA file says does not fit the token

        """

    /// The command of these arguments (without the program's name); throws `invalid` with a sentence.
    package init(_ arguments: [String]) throws(AgentError) {
        guard let verb = arguments.first else { throw AgentError(.invalid, "a command is missing") }
        var rest = Options(verb: verb, arguments: arguments.dropFirst())
        switch verb {
        case "help", "--help", "-h": self = .help
        case "version", "--version": self = .version
        case "enroll":
            let options = try rest.take("--api-url", "--ca", "--token", "--data-dir")
            self = .enroll(
                apiURL: try options.required("--api-url"), caPath: try options.required("--ca"),
                token: try options.required("--token"), dataDirectory: try options.required("--data-dir"))
        case "run": self = .run(dataDirectory: try rest.take("--data-dir").required("--data-dir"))
        case "status":
            let options = try rest.take("--data-dir", "--output")
            let output = options.values["--output"] ?? "text"
            guard output == "text" || output == "json" else {
                throw AgentError(.invalid, "--output is text or json, not \"\(output)\"")
            }
            self = .status(dataDirectory: try options.required("--data-dir"), asJSON: output == "json")
        default: throw AgentError(.invalid, "there is no command \"\(verb)\"")
        }
    }
}

/// `--name value` and `--name=value` pairs of one verb.
private struct Options {
    let verb: String
    var arguments: ArraySlice<String>
    var values: [String: String] = [:]

    init(verb: String, arguments: ArraySlice<String>) {
        self.verb = verb
        self.arguments = arguments
    }

    mutating func take(_ names: String...) throws(AgentError) -> Options {
        while let argument = arguments.popFirst() {
            let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(
                String.init)
            guard names.contains(parts[0]) else {
                throw AgentError(.invalid, "\(verb) has no option \"\(parts[0])\"")
            }
            guard let value = parts.count == 2 ? parts[1] : arguments.popFirst(), !value.isEmpty else {
                throw AgentError(.invalid, "\(parts[0]) needs a value")
            }
            guard values.updateValue(value, forKey: parts[0]) == nil else {
                throw AgentError(.invalid, "\(parts[0]) stands twice")
            }
        }
        return self
    }

    func required(_ name: String) throws(AgentError) -> String {
        guard let value = values[name] else { throw AgentError(.invalid, "\(verb) needs \(name)") }
        return value
    }
}
