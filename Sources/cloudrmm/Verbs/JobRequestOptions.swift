import ArgumentParser
import Catalog
import Domain
import Foundation
import Wire

/// What `jobs run` is asked to do, and on which devices.
struct JobRequestOptions: ParsableArguments {
    @Argument(help: "A script file.", completion: .file()) var file: String?
    @Option(help: "A definition of the catalog instead of a file.") var definition: String?
    @Option(help: "Where definitions are.", completion: .directory) var jobsDir = "Jobs"
    @Option(name: .customLong("param"), help: "A parameter of the definition, NAME=VALUE; may be repeated.")
    var parameters: [Assignment] = []
    @Option(help: "A job without a script: ping or sysinfo.") var kind: JobKind?

    @Option(name: .customLong("device"), help: "A device that runs it; may be repeated.") var devices:
        [DeviceID] = []
    @Option(help: "A site whose devices all run it.") var site: SiteID?
    @Option(help: "An organization whose devices all run it.") var organization: OrganizationID?

    @Option(help: "What runs the script: sh, bash or python3; else its first line or its file's ending says.")
    var interpreter: Interpreter?
    @Option(help: "A variable of its environment, NAME=VALUE; may be repeated.") var env: [Assignment] = []
    @Option(
        name: .customLong("arg"), parsing: .unconditionalSingleValue, help: "An argument; may be repeated.")
    var arguments: [String] = []
    @Option(help: "A file that becomes its standard input.", completion: .file()) var stdinFile: String?
    @Option(
        name: .customLong("secret"),
        help: "A secret in a variable of its environment, SECRET=VARIABLE; may be repeated.")
    var secrets: [Assignment] = []
    @Option(help: "A secret that becomes its standard input.") var stdinSecret: String?
    @Option(help: "Seconds that it may run.") var timeout: Int?
    @Option(help: "Its turn among the organization's jobs: interactive, standard or bulk.")
    var priority: Priority?
    @Option(help: "Seconds until devices that were not reached are given up, counted from --not-before.")
    var expires: Int?
    @Option(help: "Start no earlier than this time, such as 2026-03-01T22:00:00+01:00.")
    var notBefore: Instant?
    @Option(help: "How many devices it reaches, exactly; asked for where it reaches many.")
    var confirmDevices: Int?
    @OptionGroup var retry: RetryOptions
    @OptionGroup var unique: UniqueOptions

    /// The job that the options describe.
    func job() throws -> NewJob {
        let target = try target()
        var job: NewJob
        switch (file, definition, kind) {
        case (let file?, nil, nil): job = NewJob(kind: .script, target: target, script: try script(of: file))
        case (nil, let name?, nil): job = try self.job(of: name, target)
        case (nil, nil, let kind?) where kind != .script:
            job = NewJob(kind: kind, target: target)
            job.timeoutSeconds = 60
        default:
            throw Failure(.usage, "name one of a script file, --definition, --kind ping and --kind sysinfo")
        }
        if definition == nil, !parameters.isEmpty {
            throw Failure(.usage, "--param stands only with --definition")
        }
        if kind != nil,
            !env.isEmpty || !arguments.isEmpty || stdinFile != nil || interpreter != nil
                || !secrets.isEmpty || stdinSecret != nil
        {
            throw Failure(
                .usage,
                "--env, --arg, --stdin-file, --secret, --stdin-secret and --interpreter stand only with a "
                    + "script"
            )
        }
        if let timeout { job.timeoutSeconds = timeout }
        if let expires { job.expiresInSeconds = expires }
        if let priority { job.priority = priority }
        job.notBefore = notBefore
        job.retry = try retry.retry()
        job.unique = try unique.unique()
        job.confirmDevices = confirmDevices
        // Judged here as the server does, so that a mistake is told without it.
        return try NewJob.decode(job.json)
    }

    private func target() throws -> Target {
        switch (devices.isEmpty, site, organization) {
        case (false, nil, nil): .devices(devices)
        case (true, let site?, nil): .site(site)
        case (true, nil, let organization?): .organization(organization)
        default:
            throw Failure(.usage, "say where: --device ID (may be repeated), --site ID or --organization ID")
        }
    }

    private func script(of file: String) throws -> Script {
        let body = try Self.text(of: file)
        guard let interpreter = interpreter ?? Self.interpreter(of: body, file) else {
            throw Failure(
                .usage,
                "\(file) does not say what runs it: add a first line such as #!/bin/sh, or --interpreter")
        }
        return try completed(Script(interpreter, body))
    }

    private func completed(_ bare: Script) throws -> Script {
        var script = bare
        script.args = arguments
        for variable in env { script.env[variable.name] = variable.value }
        script.stdin = try stdinFile.map(Self.text)
        for use in secrets { script.secrets.append(try Self.use(of: use.name, environment: use.value)) }
        if let stdinSecret { script.secrets.append(try Self.use(of: stdinSecret, environment: nil)) }
        return script
    }

    private static func use(of secret: String, environment: String?) throws -> SecretUse {
        guard let name = SecretName(secret) else {
            throw Failure(
                .usage, "\(secret) is no name of a secret: lower-case letters, digits and underscores")
        }
        return SecretUse(name: name, environment: environment)
    }

    private func job(of name: String, _ target: Target) throws -> NewJob {
        let definition: Definition
        let environment: [(String, String)]
        do {
            definition = try Definition.parse(
                file: "\(jobsDir)/\(name).yaml", text: Self.text(of: "\(jobsDir)/\(name).yaml")
            ) { sibling in Array(try Self.text(of: "\(jobsDir)/\(sibling)").utf8) }
            environment = try definition.environment(
                for: Dictionary(parameters.map { ($0.name, $0.value) }, uniquingKeysWith: { $1 }))
        } catch let problems as CatalogProblems {
            throw Failure(.usage, problems.description)
        }
        guard definition.expectedExitCodes == [0], definition.postCheck == nil else {
            throw Failure(
                .usage,
                "\(name) expects other exit codes than 0 or has a post-check, which are not supported yet")
        }
        guard let kind = JobKind(rawValue: definition.kind.rawValue) else {
            throw Failure(.usage, "the kind \(definition.kind.rawValue) is not supported yet")
        }
        var job = NewJob(
            kind: kind, target: target, timeoutSeconds: definition.timeoutSeconds,
            idempotent: definition.idempotent)
        if let word = definition.interpreter?.rawValue, let interpreter = Interpreter(rawValue: word) {
            var script = try completed(Script(interpreter, definition.body))
            for (name, value) in environment { script.env[name] = value }
            for use in definition.secrets {
                script.secrets.append(try Self.use(of: use.name, environment: use.environment))
            }
            job.script = script
        }
        return job
    }

    private static func text(of file: String) throws -> String {
        let data: Data
        do {
            data = try Data(contentsOf: URL(filePath: file))
        } catch {
            throw Failure(.usage, "\(file) cannot be read: \(error.localizedDescription)")
        }
        guard let text = String(validating: data, as: UTF8.self) else {
            throw Failure(.usage, "\(file) is not UTF-8 text")
        }
        return text
    }

    private static func interpreter(of body: String, _ file: String) -> Interpreter? {
        if body.hasPrefix("#!") {
            let words = body.prefix { $0 != "\n" }.dropFirst(2).split(separator: " ").map {
                $0.split(separator: "/").last ?? ""
            }
            let program = words.first == "env" ? words.dropFirst().first { !$0.hasPrefix("-") } : words.first
            return program.flatMap { Interpreter(rawValue: String($0)) }
        }
        switch file.split(separator: ".").last {
        case "sh": return .sh
        case "bash": return .bash
        case "py": return .python3
        default: return nil
        }
    }
}

/// `NAME=VALUE` on the command line.
struct Assignment: ExpressibleByArgument {
    let name: String
    let value: String

    init?(argument: String) {
        let halves = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard halves.count == 2, !halves[0].isEmpty else { return nil }
        (name, value) = (String(halves[0]), String(halves[1]))
    }
}

extension JobKind: ExpressibleByArgument {}
extension Interpreter: ExpressibleByArgument {}

extension Priority: ExpressibleByArgument {
    /// The priority of its name.
    public init?(argument: String) { self.init(name: argument) }

    /// The names of all.
    public static var allValueStrings: [String] { allCases.map(\.name) }
}
