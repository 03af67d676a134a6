import ArgumentParser
import Client
import Domain
import Wire

/// `cloudrmm devices …`
struct Devices: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Enrolled computers.",
        subcommands: [List.self, Show.self, Edit.self, Move.self, Delete.self],
        defaultSubcommand: List.self)

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List devices.")
        @Flag(help: "Only those whose agent is connected.") var online = false
        @Option(help: "Only those of this organization.") var organization: OrganizationID?
        @Option(help: "Only those of this site.") var site: SiteID?
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let devices = try await list.items {
                    try await api.devices(
                        organization: organization, site: site, online: online ? true : nil, $0)
                }
                connection.show(devices)
            }
        }
    }
}

extension ConnectionOptions {
    func show(_ devices: [Device]) {
        let table = Table("ID", "HOSTNAME", "PLATFORM", "AGENT", "STATE", "LAST SEEN")
        show(devices, table) { table, device in
            let state = device.state == .active ? device.online ? "online" : "offline" : device.state.name
            table.add(
                device.id.description, device.displayName ?? device.hostname, device.platform,
                device.agentVersion, state, device.lastSeenAt?.description ?? "never")
        }
    }
}

/// `cloudrmm tokens …`
struct Tokens: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Enrolment tokens.", subcommands: [Create.self])

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make an enrolment token and print it, once.")
        @Option(help: "The site that devices will belong to.") var site: SiteID
        @Option(help: "Seconds until it expires.") var expires = 3_600
        @Option(help: "How many devices may enrol with it.") var uses = 1
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let token = try await api.createEnrollmentToken(
                    NewEnrollmentToken(siteId: site, expiresInSeconds: expires, maxUses: uses))
                switch connection.output {
                case .json: Terminal.print(json: token)
                case .table: Terminal.print(token.token)
                }
            }
        }
    }
}
