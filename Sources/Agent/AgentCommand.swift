import Process
import Wire

/// The command line of `cloudrmm-agent`, taken apart; small enough to do without a library that brings
/// Foundation.
package enum AgentCommand: Sendable, Equatable {
    /// Makes this machine a device.
    case enroll(apiURL: String, caPath: String, token: TokenSource, dataDirectory: String)
    /// Connects a device and runs its jobs.
    case run(dataDirectory: String, renewsCertificate: Bool)
    /// Says how a device is.
    case status(dataDirectory: String, asJSON: Bool)
    /// Shows `usage`.
    case help
    /// Shows the version.
    case version

    /// What `help` shows.
    package static let usage = """
        usage: cloudrmm-agent enroll --api-url URL --ca FILE [--token TOKEN|-] --data-dir DIR
               cloudrmm-agent run    --data-dir DIR [--renew-certificate yes|no]
               cloudrmm-agent status --data-dir DIR [--output text|json]

        enroll   makes this machine a device: asks the API at URL (https), whose certificate the CA in FILE
                 has signed, with a token from `cloudrmm tokens create`, and keeps the identity in DIR;
                 the token is read from standard input for `-`, and taken from CLOUDRMM_TOKEN without the
                 option: unlike an argument, neither is shown to every user of the machine
        run      connects the device of DIR and runs its jobs until SIGTERM or SIGINT; another certificate is
                 asked for when two thirds of the life of this one are over, or at once with
                 --renew-certificate yes
        status   says who the device of DIR is, and whether an agent runs for it

        exit codes: 0 done, 1 failed, 2 wrong usage, 3 the server refused, 4 not enrolled or enrolled already,
                    5 another agent runs on DIR, 6 what the server or the CA file says does not fit the token

        """

    /// The environment variable that holds the token where no option does.
    package static let tokenVariable = "CLOUDRMM_TOKEN"

    /// The command of these arguments (without the program's name), and of `CLOUDRMM_TOKEN` as far as they
    /// are silent; throws `invalid` with a sentence.
    package init(_ arguments: [String], token variable: String? = nil) throws(AgentError) {
        guard let verb = arguments.first else { throw AgentError(.invalid, "a command is missing") }
        var rest = Options(verb: verb, arguments: arguments.dropFirst())
        switch verb {
        case "help", "--help", "-h": self = .help
        case "version", "--version": self = .version
        case "enroll":
            let options = try rest.take("--api-url", "--ca", "--token", "--data-dir")
            self = .enroll(
                apiURL: try options.required("--api-url"), caPath: try options.required("--ca"),
                token: try Self.token(options.values["--token"] ?? variable),
                dataDirectory: try options.required("--data-dir"))
        case "run":
            let options = try rest.take("--data-dir", "--renew-certificate")
            let renews = options.values["--renew-certificate"] ?? "no"
            guard renews == "yes" || renews == "no" else {
                throw AgentError(.invalid, "--renew-certificate is yes or no, not \"\(renews)\"")
            }
            self = .run(
                dataDirectory: try options.required("--data-dir"), renewsCertificate: renews == "yes")
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

    private static func token(_ text: String?) throws(AgentError) -> TokenSource {
        guard let text, !text.isEmpty else {
            throw AgentError(.invalid, "enroll needs --token or \(tokenVariable)")
        }
        return text == "-" ? .standardInput : .text(text)
    }
}

/// Where an enrolment token comes from.
package enum TokenSource: Sendable, Equatable {
    case text(String)
    case standardInput

    /// The token, without the blanks around it; blocks on standard input until its end.
    package func read(_ descriptor: Int32 = 0) throws -> String {
        switch self {
        case .text(let text): return text
        case .standardInput:
            var bytes: [UInt8] = []
            while true {
                let piece = try readSome(descriptor, max: 4_096)
                if piece.isEmpty { break }
                bytes += piece
                guard bytes.count <= 2 * Limits.tokenBytesMax else {
                    throw AgentError(
                        .invalid, "an enrolment token has at most \(Limits.tokenBytesMax) characters")
                }
            }
            let text = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace)
            guard text.count == 1 else {
                throw AgentError(.invalid, "standard input holds not one word, the enrolment token")
            }
            return String(text[0])
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
