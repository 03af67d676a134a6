import ArgumentParser
import Client
import Domain
import Wire

/// What is archived and brought back as a whole.
protocol ArchivedPart {
    associatedtype Subject
    associatedtype Row

    static var noun: String { get }
    static func archive(_ id: ID<Subject>, version: Int?, _ api: APIClient) async throws -> Row
    static func restore(_ id: ID<Subject>, version: Int?, _ api: APIClient) async throws -> Row
    static func show(_ row: Row, _ connection: ConnectionOptions)
}

extension Partners: ArchivedPart {
    static var noun: String { "a partner and all below it" }

    static func archive(_ id: PartnerID, version: Int?, _ api: APIClient) async throws -> Partner {
        try await api.archive(id, version: version)
    }

    static func restore(_ id: PartnerID, version: Int?, _ api: APIClient) async throws -> Partner {
        try await api.restore(id, version: version)
    }

    static func show(_ row: Partner, _ connection: ConnectionOptions) { connection.show([row]) }
}

extension Organizations: ArchivedPart {
    static var noun: String { "an organization and all below it" }

    static func archive(_ id: OrganizationID, version: Int?, _ api: APIClient) async throws -> Organization {
        try await api.archive(id, version: version)
    }

    static func restore(_ id: OrganizationID, version: Int?, _ api: APIClient) async throws -> Organization {
        try await api.restore(id, version: version)
    }

    static func show(_ row: Organization, _ connection: ConnectionOptions) { connection.show([row]) }
}

extension Sites: ArchivedPart {
    static var noun: String { "a site and its devices" }

    static func archive(_ id: SiteID, version: Int?, _ api: APIClient) async throws -> Site {
        try await api.archive(id, version: version)
    }

    static func restore(_ id: SiteID, version: Int?, _ api: APIClient) async throws -> Site {
        try await api.restore(id, version: version)
    }

    static func show(_ row: Site, _ connection: ConnectionOptions) { connection.show([row]) }
}

/// `cloudrmm … archive`
struct Archive<Part: ArchivedPart>: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "archive",
            abstract: "Archive \(Part.noun): jobs end, nobody is let in, history stays to be read.")
    }

    @Argument(help: "Its id.") var id: ID<Part.Subject>
    @Option(help: "Only if it still is of this version.") var ifVersion: Int?
    @OptionGroup var connection: ConnectionOptions

    func run() async throws {
        try await operate(connection) {
            Part.show(try await Part.archive(id, version: ifVersion, $0), connection)
        }
    }
}

/// `cloudrmm … restore`
struct Restore<Part: ArchivedPart>: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(commandName: "restore", abstract: "Bring back \(Part.noun).")
    }

    @Argument(help: "Its id.") var id: ID<Part.Subject>
    @Option(help: "Only if it still is of this version.") var ifVersion: Int?
    @OptionGroup var connection: ConnectionOptions

    func run() async throws {
        try await operate(connection) {
            Part.show(try await Part.restore(id, version: ifVersion, $0), connection)
        }
    }
}

extension Organizations {
    struct Move: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Move an organization to another partner.")
        @Argument(help: "Its id.") var id: OrganizationID
        @Option(help: "The partner that it goes to.") var partner: PartnerID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { connection.show([try await $0.move(id, to: partner)]) }
        }
    }

    struct Offboard: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Give an organization up: archive it, and cut off its devices, keys and people.")
        @Argument(help: "Its id.") var id: OrganizationID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let table = Table("CERTIFICATES", "TOKENS", "API KEYS", "ROLES", "PEOPLE")
                connection.show([try await api.offboard(id)], table) { table, cut in
                    table.add(
                        "\(cut.certificatesRevoked)", "\(cut.tokensRevoked)", "\(cut.apiKeysRevoked)",
                        "\(cut.rolesTaken)", "\(cut.usersDisabled)")
                }
            }
        }
    }

    struct Report: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "offboarding",
            abstract: "Show, device by device, how far an organization has been given up.")
        @Argument(help: "Its id.") var id: OrganizationID
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let devices = try await list.items { try await api.offboarding(of: id, $0) }
                let table = Table("DEVICE", "HOSTNAME", "SITE", "AGENT", "OPEN RUNS", "CUT OFF", "LAST SEEN")
                connection.show(devices, table) { table, device in
                    table.add(
                        device.deviceId.description, device.hostname, device.siteId.description,
                        device.online ? "online" : "offline", "\(device.openRuns)",
                        device.cutOff ? "yes" : "no", device.lastSeenAt?.description ?? "never")
                }
            }
        }
    }
}

extension Sites {
    struct Move: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Move a site's devices to a new site of another organization, and archive this one.")
        @Argument(help: "Its id.") var id: SiteID
        @Option(help: "The organization that they go to.") var organization: OrganizationID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { connection.show([try await $0.move(id, to: organization)]) }
        }
    }
}

extension Devices {
    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show a device.")
        @Argument(help: "Its id.") var id: DeviceID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { connection.show([try await $0.device(id)]) }
        }
    }

    struct Edit: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Edit what people say of a device, suspend, archive or restore it.")
        @Argument(help: "Its id.") var id: DeviceID
        @Option(help: "What people call it.") var name: String?
        @Option(help: "A tag that it gets; may be repeated.") var tag: [String] = []
        @Option(help: "A tag that it loses; may be repeated.") var untag: [String] = []
        @Option(help: "A custom field, NAME=VALUE; without a value it goes. May be repeated.")
        var field: [String] = []
        @Option(help: "active, suspended or archived.") var state: DeviceState?
        @Option(help: "Only if it still is of this version.") var ifVersion: Int?
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let before = try await api.device(id)
                var changes = NewDeviceChanges(state: state)
                if let name { changes.displayName = name.isEmpty ? .clear : .set(name) }
                if !tag.isEmpty || !untag.isEmpty {
                    changes.tags = .set(Set(before.tags).union(tag).subtracting(untag).sorted())
                }
                if !field.isEmpty {
                    var fields = before.customFields
                    for text in field {
                        let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                        let value = parts.count == 2 ? String(parts[1]) : ""
                        fields[String(parts[0])] = value.isEmpty ? nil : value
                    }
                    changes.customFields = .set(fields)
                }
                // What is not named is what was read: nobody else's edit is overwritten.
                connection.show([try await api.edit(id, changes, version: ifVersion ?? before.version)])
            }
        }
    }

    struct Move: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Move a device to another site, of its organization or another.")
        @Argument(help: "Its id.") var id: DeviceID
        @Option(help: "The site that it goes to.") var site: SiteID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { connection.show([try await $0.move(id, to: site)]) }
        }
    }
}

extension DeviceState: ExpressibleByArgument {
    /// The state of this name.
    package init?(argument: String) {
        guard let state = Self.allCases.first(where: { $0.name == argument }) else { return nil }
        self = state
    }

    /// The names.
    package static var allValueStrings: [String] { allCases.map(\.name) }
}
