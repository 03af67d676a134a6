import ArgumentParser
import Client
import Domain
import Wire

/// Which of a list: those in use unless said.
struct StateOption: ParsableArguments {
    enum Shown: String, ExpressibleByArgument, CaseIterable {
        case active, archived, all
    }

    @Option(help: "Those in use, those archived, or all.")
    var state: Shown = .active
}

/// `cloudrmm partners …`
struct Partners: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Managed service providers.",
        subcommands: [
            List.self, Show.self, Create.self, Edit.self, Archive<Partners>.self, Restore<Partners>.self,
            GuardVerbs.self, ShowErasure<Partners>.self, Erase<Partners>.self,
        ],
        defaultSubcommand: List.self)

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List partners.")
        @OptionGroup var state: StateOption
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(
                    try await list.items { try await api.partners(state: state.state.rawValue, $0) })
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show a partner.")
        @Argument(help: "Its id.") var id: PartnerID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { connection.show([try await $0.partner(id)]) }
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

    struct Edit: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Edit a partner; what is not named stays.")
        @Argument(help: "Its id.") var id: PartnerID
        @Option(help: "Its new name.") var name: String?
        @Option(help: "What its customers read instead of its name.") var displayName: String?
        @Option(help: "A picture, an address of https.") var logoURL: String?
        @Option(help: "#rrggbb") var accentColor: String?
        @Option(help: "Where its customers find help, by mail.") var supportEmail: String?
        @Option(help: "Where its customers find help, by telephone.") var supportPhone: String?
        @Option(help: "Where its customers find help, an address of https.") var supportURL: String?
        @Option(help: "Only if it still is of this version.") var ifVersion: Int?
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let before = try await api.partner(id)
                var branding = before.branding
                branding.displayName = displayName ?? branding.displayName
                branding.logoUrl = logoURL ?? branding.logoUrl
                branding.accentColor = accentColor ?? branding.accentColor
                branding.supportEmail = supportEmail ?? branding.supportEmail
                branding.supportPhone = supportPhone ?? branding.supportPhone
                branding.supportUrl = supportURL ?? branding.supportUrl
                let changes = NewPartnerChanges(
                    name: name, branding: branding == before.branding ? .keep : .set(branding))
                // The branding is what was read: nobody else's is overwritten.
                connection.show([
                    try await api.edit(id, changes, version: ifVersion ?? before.version)
                ])
            }
        }
    }
}

/// What an organization or a site can be told beside its name.
struct PlaceOptions: ParsableArguments {
    @Option(help: "Its time zone by its IANA name, such as Europe/Vienna.")
    var timeZone: String?

    @Option(help: "Whom to ask: NAME, NAME <EMAIL>; may be repeated.")
    var contact: [String] = []

    /// The contacts that were named.
    var contacts: [Contact] {
        contact.map { text in
            guard text.hasSuffix(">"), let start = text.lastIndex(of: "<") else {
                return Contact(name: text)
            }
            let name = text[..<start].split(separator: " ").joined(separator: " ")
            let email = String(text[text.index(after: start)...].dropLast())
            return Contact(name: name.isEmpty ? email : name, email: email)
        }
    }

    /// What an edit does.
    var zoneChange: FieldChange<String> { timeZone.map { .set($0) } ?? .keep }
    var contactsChange: FieldChange<[Contact]> { contact.isEmpty ? .keep : .set(contacts) }
}

/// `cloudrmm organizations …`
struct Organizations: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Customers of partners.",
        subcommands: [
            List.self, Show.self, Create.self, Edit.self, Archive<Organizations>.self,
            Restore<Organizations>.self, Move.self,
            Offboard.self, Report.self, Export.self, VerifyExport.self, ShowErasure<Organizations>.self,
            Erase<Organizations>.self,
        ],
        defaultSubcommand: List.self)

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List organizations.")
        @Option(help: "Only those of this partner.") var partner: PartnerID?
        @OptionGroup var state: StateOption
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(
                    try await list.items {
                        try await api.organizations(partner: partner, state: state.state.rawValue, $0)
                    })
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show an organization.")
        @Argument(help: "Its id.") var id: OrganizationID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { connection.show([try await $0.organization(id)]) }
        }
    }

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Make an organization.")
        @Argument(help: "Its name.") var name: String
        @Option(help: "The partner that it belongs to.") var partner: PartnerID
        @OptionGroup var place: PlaceOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show([
                    try await api.createOrganization(
                        NewOrganization(
                            name: name, partnerId: partner, timeZone: place.timeZone,
                            contacts: place.contacts))
                ])
            }
        }
    }

    struct Edit: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Edit an organization; what is not named stays.")
        @Argument(help: "Its id.") var id: OrganizationID
        @Option(help: "Its new name.") var name: String?
        @OptionGroup var place: PlaceOptions
        @Option(help: "Only if it still is of this version.") var ifVersion: Int?
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let changes = NewOrganizationChanges(
                    name: name, timeZone: place.zoneChange, contacts: place.contactsChange)
                connection.show([try await api.edit(id, changes, version: ifVersion)])
            }
        }
    }
}

/// `cloudrmm sites …`
struct Sites: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Places of organizations.",
        subcommands: [
            List.self, Show.self, Create.self, Edit.self, Archive<Sites>.self, Restore<Sites>.self, Move.self,
            Delete.self,
        ],
        defaultSubcommand: List.self)

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List sites.")
        @Option(help: "Only those of this organization.") var organization: OrganizationID?
        @OptionGroup var state: StateOption
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(
                    try await list.items {
                        try await api.sites(organization: organization, state: state.state.rawValue, $0)
                    })
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show a site.")
        @Argument(help: "Its id.") var id: SiteID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { connection.show([try await $0.site(id)]) }
        }
    }

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Make a site.")
        @Argument(help: "Its name.") var name: String
        @Option(help: "The organization that it belongs to.") var organization: OrganizationID
        @OptionGroup var place: PlaceOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show([
                    try await api.createSite(
                        NewSite(
                            name: name, organizationId: organization, timeZone: place.timeZone,
                            contacts: place.contacts))
                ])
            }
        }
    }

    struct Edit: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Edit a site; what is not named stays.")
        @Argument(help: "Its id.") var id: SiteID
        @Option(help: "Its new name.") var name: String?
        @OptionGroup var place: PlaceOptions
        @Option(help: "Only if it still is of this version.") var ifVersion: Int?
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let changes = NewSiteChanges(
                    name: name, timeZone: place.zoneChange, contacts: place.contactsChange)
                connection.show([try await api.edit(id, changes, version: ifVersion)])
            }
        }
    }
}

extension ConnectionOptions {
    func show(_ partners: [Partner]) {
        show(partners, Table("ID", "NAME", "STATE", "VERSION", "MADE")) { table, partner in
            table.add(
                partner.id.description, partner.name, partner.state.word, "\(partner.version)",
                partner.createdAt.description)
        }
    }

    func show(_ organizations: [Organization]) {
        let table = Table("ID", "NAME", "BELONGS TO", "STATE", "TIME ZONE", "VERSION", "MADE")
        show(organizations, table) { table, organization in
            table.add(
                organization.id.description, organization.name, organization.partnerId.description,
                organization.state.word, organization.timeZone ?? "–", "\(organization.version)",
                organization.createdAt.description)
        }
    }

    func show(_ sites: [Site]) {
        let table = Table("ID", "NAME", "BELONGS TO", "STATE", "TIME ZONE", "VERSION", "MADE")
        show(sites, table) { table, site in
            table.add(
                site.id.description, site.name, site.organizationId.description, site.state.word,
                site.timeZone ?? "–", "\(site.version)", site.createdAt.description)
        }
    }
}

extension ID: ExpressibleByArgument {
    /// The id of canonical text.
    package init?(argument: String) { self.init(argument) }
}
