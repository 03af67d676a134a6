import ArgumentParser
import Client
import Foundation
import Outbound
import Wire

/// How operator verbs find and speak to the API, and how they print.
struct ConnectionOptions: ParsableArguments {
    /// How results are printed.
    enum Output: String, ExpressibleByArgument, CaseIterable {
        case table, json
    }

    @Option(
        help: "URL of the API; else $API_URL, else both it and the key of the context, else of ready.json.")
    var apiURL: String?

    @Option(help: "API key; better $CLOUDRMM_API_KEY, since arguments are seen by others.")
    var apiKey: String?

    @Option(
        help:
            "PEM file of the authority that issued the API's certificate; else $CLOUDRMM_CA, else ready.json."
    )
    var ca: String?

    @Option(help: "Data directory of `cloudrmm up`; else ./.cloudrmm, else ~/.cloudrmm.")
    var dataDir: String?

    @Option(help: "What 'cloudrmm login' has remembered under this name; else the current context.")
    var context: String?

    @Option(help: "How results are printed.")
    var output: Output = .table

    @OptionGroup var options: SettingsOptions

    /// An API, what opens it, and where both are from unless they were named.
    struct Target {
        let url: String
        let key: String
        let certificateAuthority: String?
        var source: String?
    }

    /// A client of the API that the options, the settings, a context or a running `cloudrmm up` name.
    func client() throws -> APIClient {
        let target = try target()
        return APIClient(
            url: target.url, key: target.key, certificateAuthority: target.certificateAuthority)
    }

    /// The API that the options, the settings, a context or a running `cloudrmm up` name.
    func target() throws -> Target {
        let given = try options.settings([.apiURL: apiURL, .apiKey: apiKey, .ca: ca])
        // Address and key come from one place: a ready.json that happens to lie here must not get a key that
        // was meant for another API, nor give its own away to one.
        switch (given[.apiURL], given[.apiKey]) {
        case (let url?, let key?):
            return Target(url: url, key: key, certificateAuthority: given[.ca])
        case (nil, nil):
            if let (name, kept) = try keptContext() {
                return Target(
                    url: kept.apiURL, key: kept.key,
                    certificateAuthority: given[.ca] ?? kept.certificateAuthority, source: "context \(name)")
            }
            guard let (place, ready) = try ReadyFile.find(in: dataDir), let url = ready.apiURL,
                let key = ready.apiKey
            else {
                throw Failure(
                    .usage,
                    "no API is known: start `cloudrmm up` here, name its --data-dir, or set API_URL and "
                        + "CLOUDRMM_API_KEY")
            }
            return Target(
                url: url, key: key, certificateAuthority: given[.ca] ?? ready.caCertificate, source: place)
        case (_?, nil):
            throw Failure(.usage, "API_URL is given without a key for it: set CLOUDRMM_API_KEY")
        case (nil, _?):
            throw Failure(.usage, "CLOUDRMM_API_KEY is given without the API that it is for: set API_URL")
        }
    }
}

extension ConnectionOptions {
    /// The context that is named, or the current one unless a data directory is named.
    private func keptContext() throws -> (name: String, context: Contexts.Context)? {
        if context == nil, dataDir != nil { return nil }
        return try Contexts.read().context(context)
    }

    /// Keeps another text of the session that the context has.
    func remember(_ key: String) throws {
        var contexts = try Contexts.read()
        // Only where the context was what opened the API: else it is another session's.
        let given = try options.settings([.apiURL: apiURL, .apiKey: apiKey])
        guard given[.apiURL] == nil, given[.apiKey] == nil, let name = try keptContext()?.name
        else { return Terminal.print(key) }
        contexts.contexts[name]?.key = key
        try contexts.write()
    }
}

/// What `cloudrmm up` says about itself.
struct ReadyFile: Decodable {
    let apiURL: String?
    let apiKey: String?
    let caCertificate: String?
    let databaseURL: String?
    let ownerDatabaseURL: String?

    /// The file of a data directory, with its path; without one, of the usual ones, if it is there.
    static func find(in dataDir: String?) throws -> (path: String, ready: ReadyFile)? {
        let places = dataDir.map { [$0] } ?? [".cloudrmm", NSHomeDirectory() + "/.cloudrmm"]
        for place in places {
            let file = URL(filePath: place).appending(path: "ready.json")
            guard FileManager.default.fileExists(atPath: file.path) else { continue }
            let attributes = try FileManager.default.attributesOfItem(atPath: file.path)
            let owner = (attributes[.ownerAccountID] as? NSNumber)?.uint32Value
            let mode = (attributes[.posixPermissions] as? NSNumber)?.uint16Value ?? 0o777
            guard owner == getuid() || owner == 0, mode & 0o077 == 0 else {
                throw Failure(
                    .usage,
                    "\(file.path) is not yours alone (owner \(owner ?? 0), mode \(String(mode, radix: 8)))")
            }
            do {
                return (file.path, try JSONDecoder().decode(ReadyFile.self, from: Data(contentsOf: file)))
            } catch {
                throw Failure(.usage, "\(file.path) cannot be read: \(error.localizedDescription)")
            }
        }
        if let dataDir {
            throw Failure(
                .unreachable,
                "\(dataDir) has no ready.json: `cloudrmm up --data-dir \(dataDir)` is not running")
        }
        return nil
    }
}

/// Why a verb ends without having done its work, with its exit code.
struct Failure: Error {
    /// 1: some run did not succeed. 2: bad usage or refused. 3: the API is not reached.
    enum Code: Int32 {
        case failedRuns = 1
        case usage = 2
        case unreachable = 3
    }

    let code: Code
    let message: String

    init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }
}

/// Runs a verb's work against the API, says on stderr why it failed, and ends with the code that belongs to
/// it. Where the work takes a fresh second factor, a person at the terminal is asked for the code, and the
/// work is begun again; nothing of it was done before.
func operate(_ options: ConnectionOptions, _ body: (APIClient) async throws -> Void) async throws {
    try await reportingFailures {
        do {
            let client = try options.client()
            defer { client.close() }
            return try await body(client)
        } catch let problem as Problem where problem.code == "stepUpRequired" && Prompt.hasTerminal {
            Terminal.complain(problem.line)
        } catch let error as OutboundError {
            let target = try options.target()
            guard let source = target.source else { throw error }
            throw Failure(
                .unreachable,
                "the API at \(target.url) is not reached, which \(source) names: \(error). "
                    + "--data-dir or --context names another")
        }
        try await stepUp(options)
        let client = try options.client()
        defer { client.close() }
        try await body(client)
    }
}

/// Asks for the code of the second factor and keeps the session's new text.
func stepUp(_ options: ConnectionOptions) async throws {
    let client = try options.client()
    defer { client.close() }
    let session = try await client.stepUp(code: Prompt.line("Code: "))
    try options.remember(session.token ?? "")
}

/// Runs a verb's work, says on stderr why it failed, and ends with the code that belongs to it.
func reportingFailures(_ body: () async throws -> Void) async throws {
    do {
        try await body()
    } catch {
        guard let failure = failure(of: error) else { throw error }
        if !failure.message.isEmpty { Terminal.complain(failure.message) }
        throw ExitCode(failure.code.rawValue)
    }
}

private func failure(of error: any Error) -> Failure? {
    switch error {
    case let failure as Failure: failure
    case let problem as Problem: Failure(problem.status >= 500 ? .unreachable : .usage, problem.line)
    case let error as ClientError: Failure(.unreachable, error.description)
    case let error as FieldError: Failure(.usage, error.description)
    case let error as OutboundError:
        Failure(
            .unreachable,
            "the API is not reached: \(error). Is `cloudrmm up` running, and is this its address?")
    default: nil
    }
}
