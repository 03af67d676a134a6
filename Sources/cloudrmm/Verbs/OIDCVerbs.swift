import ArgumentParser
import Client
import Domain
import Wire

/// `cloudrmm oidc …`
struct OIDCVerbs: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "oidc", abstract: "Issuers whose tokens are believed, and what their names stand for.",
        subcommands: [Providers.self, Links.self], defaultSubcommand: Providers.self)

    // MARK: Providers

    struct Providers: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Issuers whose tokens are believed.",
            subcommands: [List.self, Show.self, Create.self, Edit.self, Delete.self],
            defaultSubcommand: List.self)

        struct List: AsyncParsableCommand {
            static let configuration = CommandConfiguration(abstract: "List issuers.")
            @OptionGroup var list: ListOptions
            @OptionGroup var connection: ConnectionOptions

            func run() async throws {
                try await operate(connection) { api in
                    connection.show(try await list.items { try await api.oidcProviders($0) })
                }
            }
        }

        struct Show: AsyncParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Show an issuer.")
            @Argument(help: "Its id.") var id: OIDCProviderID
            @OptionGroup var connection: ConnectionOptions

            func run() async throws {
                try await operate(connection) { connection.show([try await $0.oidcProvider(id)]) }
            }
        }

        struct Create: AsyncParsableCommand {
            static let configuration = CommandConfiguration(
                abstract: "Believe an issuer's tokens.",
                discussion:
                    "Without --partner or --organization it is the platform's. Name an --audience or an "
                    + "--authorized-party: without either, tokens for anybody would be believed.")
            @Argument(help: "The issuer, exactly as its tokens name it.") var issuer: String
            @Option(help: "What others see.") var name: String
            @Option(help: "generic or clerk.") var preset: OIDCPreset = .generic
            @Option(help: "Where keys come from: discovery, or clerkAPI with the operator's secret.")
            var keySource: OIDCKeySource = .discovery
            @OptionGroup var terms: TermOptions
            @OptionGroup var home: LevelOptions
            @OptionGroup var connection: ConnectionOptions

            func run() async throws {
                try await operate(connection) { api in
                    connection.show([
                        try await api.createOIDCProvider(
                            NewOIDCProvider(
                                issuer: issuer, home: home.place, preset: preset, keySource: keySource,
                                terms: terms.terms(name: name)))
                    ])
                }
            }
        }

        struct Edit: AsyncParsableCommand {
            static let configuration = CommandConfiguration(
                abstract: "Edit which of an issuer's tokens are believed.")
            @Argument(help: "Its id.") var id: OIDCProviderID
            @Option(help: "What others see from now on.") var name: String?
            @OptionGroup var terms: TermOptions
            @Option(help: "Only if it still is of this version.") var ifVersion: Int?
            @OptionGroup var connection: ConnectionOptions

            func run() async throws {
                try await operate(connection) { api in
                    connection.show([try await api.edit(id, terms.terms(name: name), version: ifVersion)])
                }
            }
        }

        struct Delete: AsyncParsableCommand {
            static let configuration = CommandConfiguration(
                abstract: "Believe an issuer no more, which has no links.")
            @Argument(help: "Its id.") var id: OIDCProviderID
            @OptionGroup var connection: ConnectionOptions

            func run() async throws {
                try await operate(connection) { try await $0.remove(id) }
            }
        }
    }

    /// What may be edited of an issuer.
    struct TermOptions: ParsableArguments {
        @Option(help: "For whom its tokens must be; may be repeated.") var audience: [String] = []
        @Option(help: "To whom its tokens must have been issued (azp); may be repeated.")
        var authorizedParty: [String] = []
        @Option(help: "Where tokens name the organization: names with dots between them.")
        var organizationClaim: String?
        @Option(help: "Where tokens name the role.") var roleClaim: String?
        @Option(help: "Where tokens name the address.") var emailClaim: String?
        @Flag(inversion: .prefixedNo, help: "Whether a person is known by a verified address too.")
        var linksByEmail: Bool?
        @Option(help: "accessToken, sessionToken or idToken.") var tokenUse: OIDCTokenUse?
        @Option(help: "Seconds by which clocks may differ.") var leewaySeconds: Int?
        @Option(help: "Seconds that a token may hold at the most.") var lifetimeSeconds: Int?
        @Option(help: "As what this installation is registered there, for people who sign in at the issuer.")
        var clientID: String?
        @Option(help: "Where people are sent back to, exactly; may be repeated.") var redirectURL: [String] =
            []
        @Flag(
            name: .customLong("client-secret-stdin"),
            help: "Read the client's secret from stdin; an empty line takes it away.")
        var takesSecret = false
        @Flag(inversion: .prefixedNo, help: "Whether its tokens open nothing.") var disabled: Bool?

        func terms(name: String?) -> OIDCTerms {
            OIDCTerms(
                name: name, audiences: audience.isEmpty ? nil : audience,
                authorizedParties: authorizedParty.isEmpty ? nil : authorizedParty,
                organizationClaim: organizationClaim, roleClaim: roleClaim, emailClaim: emailClaim,
                linksByEmail: linksByEmail, tokenUse: tokenUse, leewaySeconds: leewaySeconds,
                lifetimeSeconds: lifetimeSeconds, clientId: clientID,
                redirectUrls: redirectURL.isEmpty ? nil : redirectURL,
                clientSecret: takesSecret ? readLine(strippingNewline: true) ?? "" : nil, disabled: disabled)
        }
    }

    // MARK: Links

    struct Links: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "What names of issuers stand for.",
            subcommands: [List.self, Show.self, Create.self, Edit.self, Delete.self],
            defaultSubcommand: List.self)

        struct List: AsyncParsableCommand {
            static let configuration = CommandConfiguration(abstract: "List links.")
            @Option(help: "Only this issuer's.") var provider: OIDCProviderID?
            @OptionGroup var list: ListOptions
            @OptionGroup var connection: ConnectionOptions

            func run() async throws {
                try await operate(connection) { api in
                    connection.show(try await list.items { try await api.oidcLinks(of: provider, $0) })
                }
            }
        }

        struct Show: AsyncParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Show a link.")
            @Argument(help: "Its id.") var id: OIDCLinkID
            @OptionGroup var connection: ConnectionOptions

            func run() async throws {
                try await operate(connection) { connection.show([try await $0.oidcLink(id)]) }
            }
        }

        struct Create: AsyncParsableCommand {
            static let configuration = CommandConfiguration(
                abstract: "Say what a name of an issuer stands for.",
                discussion:
                    "A subject stands for a --user, an organization for an --organization, a role for a "
                    + "--role.")
            @Argument(help: "The issuer's id.") var provider: OIDCProviderID
            @Argument(help: "The name, exactly as tokens have it.") var external: String
            @OptionGroup var target: TargetOptions
            @OptionGroup var connection: ConnectionOptions

            func run() async throws {
                try await operate(connection) { api in
                    connection.show([
                        try await api.createOIDCLink(
                            NewOIDCLink(providerId: provider, external: external, target: target.target))
                    ])
                }
            }
        }

        struct Edit: AsyncParsableCommand {
            static let configuration = CommandConfiguration(
                abstract: "Let a name stand for something else of its kind.")
            @Argument(help: "The link's id.") var id: OIDCLinkID
            @OptionGroup var target: TargetOptions
            @Option(help: "Only if it still is of this version.") var ifVersion: Int?
            @OptionGroup var connection: ConnectionOptions

            func run() async throws {
                try await operate(connection) { api in
                    connection.show([try await api.edit(id, target.target, version: ifVersion)])
                }
            }
        }

        struct Delete: AsyncParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Take a link away.")
            @Argument(help: "Its id.") var id: OIDCLinkID
            @OptionGroup var connection: ConnectionOptions

            func run() async throws {
                try await operate(connection) { try await $0.remove(id) }
            }
        }
    }

    /// What a name stands for.
    struct TargetOptions: ParsableArguments {
        @Option(help: "A person.") var user: UserID?
        @Option(help: "An organization.") var organization: OrganizationID?
        @Option(help: "A role that is built in, by its name, or the id of one that was made.") var role:
            String?

        func validate() throws {
            guard [user != nil, organization != nil, role != nil].count(where: { $0 }) == 1 else {
                throw ValidationError("exactly one of --user, --organization and --role must be given")
            }
        }

        var target: OIDCLinkTarget {
            let made = role.flatMap { RoleID($0) }
            return OIDCLinkTarget(
                userId: user, organizationId: organization, role: made == nil ? role : nil, roleId: made)
        }
    }
}

extension OIDCPreset: ExpressibleByArgument {}
extension OIDCKeySource: ExpressibleByArgument {}
extension OIDCTokenUse: ExpressibleByArgument {}

extension ConnectionOptions {
    fileprivate func show(_ providers: [OIDCProvider]) {
        show(providers, Table("ID", "NAME", "ISSUER", "PRESET", "HOME", "STATE", "VERSION")) {
            table, provider in
            let terms = provider.provider.terms
            table.add(
                provider.id.description, terms.name ?? "", provider.provider.issuer,
                provider.provider.preset.rawValue, provider.provider.home.shown,
                terms.disabled == true ? "disabled" : "believed", "\(provider.version)")
        }
    }

    fileprivate func show(_ links: [OIDCLink]) {
        show(links, Table("ID", "PROVIDER", "KIND", "NAME", "STANDS FOR", "VERSION")) { table, link in
            let target = link.link.target
            let shown = target.userId?.description ?? target.organizationId?.description ?? target.role
            table.add(
                link.id.description, link.link.providerId.description, link.kind.rawValue, link.link.external,
                shown ?? target.roleId?.description ?? "", "\(link.version)")
        }
    }
}
