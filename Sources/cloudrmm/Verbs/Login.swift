import ArgumentParser
import Client
import Domain
import Foundation
import Process
import Wire

/// What verbs that sign in take to find the API.
struct AddressOptions: ParsableArguments {
    @Option(help: "URL of the API; else $API_URL, else that of ready.json.")
    var apiURL: String?

    @Option(help: "PEM file of the authority that issued the API's certificate; else $CLOUDRMM_CA.")
    var ca: String?

    @Option(help: "Data directory of `cloudrmm up`; else ./.cloudrmm, else ~/.cloudrmm.")
    var dataDir: String?

    @OptionGroup var options: SettingsOptions

    /// The API's URL and its authority.
    func address() throws -> (url: String, ca: String?) {
        let given = try options.settings([.apiURL: apiURL, .ca: ca])
        if let url = given[.apiURL] { return (url, given[.ca]) }
        guard let ready = try ReadyFile.find(in: dataDir)?.ready, let url = ready.apiURL else {
            throw Failure(.usage, "no API is known: give --api-url")
        }
        return (url, given[.ca] ?? ready.caCertificate)
    }
}

/// `cloudrmm login`
struct Login: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Sign in and remember it as a context.",
        discussion: """
            Without options a code is shown, which somebody who has signed in approves with 'cloudrmm \
            approve CODE'. With --email a password is asked for, and the code of the authenticator where \
            there is one. With --provider somebody signs in at an issuer's own pages: an address is shown, \
            and the one where the browser ends up is asked for. With --api-key-stdin a key is read from the \
            first line of stdin.
            """)

    @Option(help: "Sign in with the password of this address.") var email: String?
    @Option(help: "Sign in at the pages of this provider.") var provider: OIDCProviderID?
    @Option(help: "With --provider: where the issuer sends you back to, as the provider names it.")
    var redirectURL: String?
    @Option(help: "With --provider: the code of your authenticator, where you have one here.")
    var code: String?
    @Flag(name: .customLong("api-key-stdin"), help: "Remember an API key, read from stdin.")
    var takesKey = false
    @Option(help: "What the context is called; it becomes the current one.") var context = "default"
    @OptionGroup var address: AddressOptions

    func run() async throws {
        try await reportingFailures {
            let (url, ca) = try address.address()
            let stranger = APIClient(url: url, key: nil, certificateAuthority: ca)
            defer { stranger.close() }
            let key: String
            if takesKey {
                key = try Prompt.secret("API key: ")
            } else if let email {
                key = try await signIn(email, stranger)
            } else if let provider {
                key = try await signIn(at: provider, stranger)
            } else {
                key = try await signInByCode(stranger)
            }
            let client = APIClient(url: url, key: key, certificateAuthority: ca)
            defer { client.close() }
            let caller = try await client.whoami()
            var contexts = try Contexts.read()
            contexts.contexts[context] = Contexts.Context(
                apiURL: url, key: key,
                certificateAuthority: ca.map { URL(filePath: $0).absoluteURL.path })
            contexts.current = context
            try contexts.write()
            Terminal.complain("\(caller.kind) \(caller.id) at \(url), until \(caller.expiresAt)", prefix: "")
        }
    }

    private static var agent: String { "cloudrmm on \(ProcessInfo.processInfo.hostName)" }

    private func signIn(_ email: String, _ api: APIClient) async throws -> String {
        let password = try Prompt.secret("Password: ")
        var new = NewSession(email: email, password: password, agent: Self.agent)
        do {
            return try await api.signIn(new).token ?? ""
        } catch let problem as Problem where problem.code == "secondFactorRequired" {
            new.code = try Prompt.line("Code: ")
            return try await api.signIn(new).token ?? ""
        }
    }

    private func signIn(at provider: OIDCProviderID, _ api: APIClient) async throws -> String {
        guard let redirectURL else {
            throw Failure(.usage, "--provider needs --redirect-url, one that the provider names")
        }
        let begun = try await api.beginOIDCSignIn(
            NewOIDCSignIn(providerId: provider, redirectUrl: redirectURL))
        Terminal.complain("Sign in at: \(begun.authorizationUrl)", prefix: "")
        let back = try Prompt.line("Address where the browser ended up: ")
        let items = URLComponents(string: back)?.queryItems ?? []
        /// The one value of a name; two are none.
        func value(_ name: String) -> String? {
            let found = items.filter { $0.name == name }
            return found.count == 1 ? found[0].value : nil
        }
        if let error = value("error") { throw Failure(.usage, "the issuer says: \(error)") }
        guard let authorization = value("code"), let state = value("state") else {
            throw Failure(.usage, "that address has no code and state: copy all of it")
        }
        return try await api.endOIDCSignIn(
            NewOIDCSession(
                flow: begun.flow, code: authorization, state: state, issuer: value("iss"),
                secondFactor: code, agent: Self.agent)
        ).token ?? ""
    }

    private func signInByCode(_ api: APIClient) async throws -> String {
        let code = try await api.beginDeviceCode(agent: Self.agent)
        Terminal.complain(
            "Somebody who has signed in approves this with: cloudrmm approve \(code.userCode)", prefix: "")
        while true {
            do {
                return try await api.endDeviceCode(code.deviceCode).token ?? ""
            } catch let problem as Problem where problem.code == "approvalPending" {
                try await Task.sleep(for: .seconds(code.intervalSeconds))
            }
        }
    }
}

/// `cloudrmm logout`
struct Logout: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "End the session of a context, and forget the context.")
    @Option(help: "Which context; else the current one.") var context: String?

    func run() async throws {
        try await reportingFailures {
            var contexts = try Contexts.read()
            guard let (name, kept) = try contexts.context(context) else {
                throw Failure(.usage, "nobody has signed in here")
            }
            let client = APIClient(
                url: kept.apiURL, key: kept.key, certificateAuthority: kept.certificateAuthority)
            defer { client.close() }
            // A key is forgotten; a session ends there too.
            if kept.key.hasPrefix("crmm_session_"),
                let session = try await client.sessions().items.first(where: \.current)
            {
                try await client.end(session.id)
            }
            contexts.contexts[name] = nil
            if contexts.current == name { contexts.current = nil }
            try contexts.write()
        }
    }
}

/// `cloudrmm contexts …`
struct ContextVerbs: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "contexts", abstract: "The installations that you use from here.",
        subcommands: [List.self, Use.self, Remove.self], defaultSubcommand: List.self)

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List contexts.")

        func run() async throws {
            try await reportingFailures {
                let contexts = try Contexts.read()
                var table = Table("", "NAME", "API")
                for (name, context) in contexts.contexts.sorted(by: { $0.key < $1.key }) {
                    table.add(name == contexts.current ? "*" : "", name, context.apiURL)
                }
                table.print()
            }
        }
    }

    struct Use: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Make a context the current one.")
        @Argument(help: "Its name.") var name: String

        func run() async throws {
            try await reportingFailures {
                var contexts = try Contexts.read()
                _ = try contexts.context(name)
                contexts.current = name
                try contexts.write()
            }
        }
    }

    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Forget a context.")
        @Argument(help: "Its name.") var name: String

        func run() async throws {
            try await reportingFailures {
                var contexts = try Contexts.read()
                _ = try contexts.context(name)
                contexts.contexts[name] = nil
                if contexts.current == name { contexts.current = nil }
                try contexts.write()
            }
        }
    }
}

/// `cloudrmm approve`
struct Approve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Let a command line that shows this code sign in as you.")
    @Argument(help: "The code that 'cloudrmm login' shows there.") var code: String
    @OptionGroup var connection: ConnectionOptions

    func run() async throws {
        try await operate(connection) { try await $0.approve(userCode: code) }
    }
}

/// `cloudrmm accept`
struct Accept: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Take an invitation, or a link for a new password: set a password.",
        discussion: "Token and password are asked for, or read from the first two lines of stdin.")
    @OptionGroup var address: AddressOptions

    func run() async throws {
        try await reportingFailures {
            let (url, ca) = try address.address()
            let api = APIClient(url: url, key: nil, certificateAuthority: ca)
            defer { api.close() }
            let token = try Prompt.secret("Token: ")
            let password = try Prompt.secret("New password: ")
            let user = try await api.accept(NewAcceptance(token: token, password: password))
            Terminal.complain("\(user.email) may sign in: cloudrmm login --email \(user.email)", prefix: "")
        }
    }
}

/// `cloudrmm sessions …`
struct SessionVerbs: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sessions", abstract: "Where you have signed in.",
        subcommands: [List.self, End.self, StepUp.self], defaultSubcommand: List.self)

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List your sessions.")
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let table = Table("", "ID", "WITH", "FROM", "USED LAST", "ENDS")
                connection.show(try await list.items { try await api.sessions($0) }, table) {
                    table, session in
                    table.add(
                        session.current ? "*" : "", session.id.description, session.agent,
                        session.address ?? "–", session.lastSeenAt.description, session.expiresAt.description)
                }
            }
        }
    }

    struct End: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "End one of your sessions.")
        @Argument(help: "Its id.") var id: SessionID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { try await $0.end(id) }
        }
    }

    struct StepUp: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "step-up", abstract: "Show your second factor again, for what asks for a fresh one.")
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await reportingFailures { try await stepUp(connection) }
        }
    }
}

/// `cloudrmm second-factor …`
struct SecondFactorVerbs: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "second-factor", abstract: "Your authenticator.",
        subcommands: [Add.self, Remove.self])

    struct Add: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract:
                "Add an authenticator: prints its address for an app, asks for a first code, and prints "
                + "the recovery codes, once.")
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let factor = try await api.beginSecondFactor()
                Terminal.print(factor.uri)
                let codes = try await api.confirmSecondFactor(code: Prompt.line("Code: "))
                for code in codes.codes { Terminal.print(code) }
            }
        }
    }

    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Take your authenticator away.")
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                try await api.removeSecondFactor(code: Prompt.line("Code: "))
            }
        }
    }
}

/// `cloudrmm password`
struct ChangePassword: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "password", abstract: "Give yourself another password; your other sessions end.")
    @OptionGroup var connection: ConnectionOptions

    func run() async throws {
        try await operate(connection) { api in
            let current = try Prompt.secret("Password now: ")
            let new = try Prompt.secret("New password: ")
            try await api.changePassword(Wire.NewPassword(current: current, password: new))
        }
    }
}
