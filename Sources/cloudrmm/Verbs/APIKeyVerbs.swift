import ArgumentParser
import Client
import Domain
import Wire

/// One place of the tenancy, or none for the platform.
struct LevelOptions: ParsableArguments {
    @Option(help: "A partner.") var partner: PartnerID?
    @Option(help: "An organization.") var organization: OrganizationID?
    @Option(help: "A site.") var site: SiteID?

    func validate() throws {
        guard [partner != nil, organization != nil, site != nil].count(where: { $0 }) <= 1 else {
            throw ValidationError("only one of --partner, --organization and --site can be given")
        }
    }

    var place: Place { Place(partnerId: partner, organizationId: organization, siteId: site) }
}

extension Place {
    /// As tables show it.
    var shown: String {
        if let partnerId { return "partner \(partnerId)" }
        if let organizationId { return "organization \(organizationId)" }
        if let siteId { return "site \(siteId)" }
        return "platform"
    }
}

/// `cloudrmm whoami`
struct WhoAmI: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "whoami", abstract: "Say who is calling, and what they may do where.")
    @OptionGroup var connection: ConnectionOptions

    func run() async throws {
        try await operate(connection) { api in
            let caller = try await api.whoami()
            guard case .table = connection.output else { return Terminal.print(json: caller) }
            Terminal.print("\(caller.kind) \(caller.id), until \(caller.expiresAt)")
            var table = Table("PERMISSION", "WHERE")
            for reach in caller.permissions {
                let ids = reach.ids.map(\.description).joined(separator: " ")
                table.add(reach.permission, ids.isEmpty ? reach.level : "\(reach.level) \(ids)")
            }
            table.print()
        }
    }
}

/// `cloudrmm api-keys …`
struct APIKeyVerbs: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "api-keys", abstract: "API keys.",
        subcommands: [List.self, Show.self, Create.self, Rotate.self, Revoke.self],
        defaultSubcommand: List.self)

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List API keys.")
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(try await list.items { try await api.apiKeys($0) })
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show an API key, but for its text.")
        @Argument(help: "Its id.") var id: APIKeyID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { connection.show([try await $0.apiKey(id)]) }
        }
    }

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make an API key and print it, once.",
            discussion: "A key never has more than you have, and ends when you lose what it has.")
        @Argument(help: "Its name.") var name: String
        @Option(
            help: "What it may do, resource:verb; may be repeated. See 'cloudrmm whoami' for what you may.")
        var permission: [String]
        @OptionGroup var level: LevelOptions
        @Option(help: "Days until it ends.") var expiresInDays = 90
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let key = try await api.createAPIKey(
                    NewAPIKey(
                        name: name, partnerId: level.partner, organizationId: level.organization,
                        siteId: level.site, permissions: permission,
                        expiresInSeconds: expiresInDays * 86_400))
                connection.show(key)
            }
        }
    }

    struct Rotate: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Give an API key another text and print it, once; the old text stays good for a while.")
        @Argument(help: "Its id.") var id: APIKeyID
        @Option(help: "Seconds for which the text before stays good.") var overlap = 86_400
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(try await api.rotate(id, NewRotation(overlapSeconds: overlap)))
            }
        }
    }

    struct Revoke: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Revoke an API key, and with it those that it made.")
        @Argument(help: "Its id.") var id: APIKeyID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { try await $0.revoke(id) }
        }
    }
}

extension ConnectionOptions {
    fileprivate func show(_ keys: [APIKey]) {
        let table = Table("ID", "NAME", "BEGINS", "WHERE", "PERMISSIONS", "ENDS", "USED LAST")
        show(keys, table) { table, key in
            table.add(
                key.id.description, key.name, "\(key.prefix)…", key.place.shown,
                key.permissions.joined(separator: ","),
                key.revokedAt.map { "revoked \($0)" } ?? key.expiresAt.description,
                key.lastUsedAt?.description ?? "never")
        }
    }

    fileprivate func show(_ key: CreatedAPIKey) {
        switch output {
        case .json: Terminal.print(json: key)
        case .table: Terminal.print(key.key)
        }
    }
}
