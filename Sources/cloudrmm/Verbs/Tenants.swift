import ArgumentParser
import Client
import Domain
import Wire

/// `cloudrmm partners …`
struct Partners: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Managed service providers.", subcommands: [List.self, Create.self],
        defaultSubcommand: List.self)

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List partners.")
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(try await list.items { try await api.partners($0) })
            }
        }
    }

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Make a partner.")
        @Argument(help: "Its name.") var name: String
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show([try await api.createPartner(NewPartner(name: name))])
            }
        }
    }
}

/// `cloudrmm organizations …`
struct Organizations: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Customers of partners.", subcommands: [List.self, Create.self],
        defaultSubcommand: List.self)

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List organizations.")
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(try await list.items { try await api.organizations($0) })
            }
        }
    }

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Make an organization.")
        @Argument(help: "Its name.") var name: String
        @Option(help: "The partner that it belongs to.") var partner: PartnerID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show([
                    try await api.createOrganization(NewOrganization(name: name, partnerId: partner))
                ])
            }
        }
    }
}

/// `cloudrmm sites …`
struct Sites: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Places of organizations.", subcommands: [List.self, Create.self],
        defaultSubcommand: List.self)

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List sites.")
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(try await list.items { try await api.sites($0) })
            }
        }
    }

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Make a site.")
        @Argument(help: "Its name.") var name: String
        @Option(help: "The organization that it belongs to.") var organization: OrganizationID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show([try await api.createSite(NewSite(name: name, organizationId: organization))])
            }
        }
    }
}

extension ConnectionOptions {
    fileprivate func show(_ tenants: [Tenant]) {
        show(tenants, Table("ID", "NAME", "BELONGS TO", "MADE")) { table, tenant in
            let parent = tenant.organizationId?.description ?? tenant.partnerId?.description ?? "–"
            table.add(tenant.id.description, tenant.name, parent, tenant.createdAt.description)
        }
    }
}

extension ID: ExpressibleByArgument {
    /// The id of canonical text.
    package init?(argument: String) { self.init(argument) }
}
