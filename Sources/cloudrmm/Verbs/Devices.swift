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
