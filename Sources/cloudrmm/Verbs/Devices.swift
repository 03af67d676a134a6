import ArgumentParser
import Client
import Domain
import Wire

/// `cloudrmm devices …`
struct Devices: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Enrolled computers.",
        subcommands: [
            List.self, Show.self, Edit.self, Move.self, Certificates.self, Revoke.self, Delete.self,
        ],
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

extension Devices {
    struct Certificates: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List the certificates that a device was issued, newest first.")
        @Argument(help: "Its id.") var id: DeviceID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { connection.show(try await $0.certificates(of: id).items) }
        }
    }

    struct Revoke: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Revoke a device's certificates: its session ends, and work that was not sent.",
            discussion: "Only a new enrolment, as another device, brings it back.")
        @Argument(help: "Its id.") var id: DeviceID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { connection.show(try await $0.revoke(id).items) }
        }
    }
}

extension ConnectionOptions {
    fileprivate func show(_ certificates: [DeviceCertificate]) {
        let table = Table("SERIAL", "ISSUED", "STATE")
        show(certificates, table) { table, certificate in
            table.add(
                certificate.serial, certificate.createdAt.description,
                certificate.revokedAt.map { "revoked \($0)" } ?? "until \(certificate.expiresAt)")
        }
    }
}

/// Whether a device is there, how it went, and a clock of its that is off by a minute.
private func presence(of device: Device) -> String {
    let skew = device.clockSkewMilliseconds ?? 0
    let clock = abs(skew) < 60_000 ? "" : ", clock \(skew > 0 ? "+" : "")\(skew / 1_000) s"
    return device.online
        ? "online\(clock)" : "offline\(device.offlineReason.map { " (\($0))" } ?? "")\(clock)"
}

extension ConnectionOptions {
    func show(_ devices: [Device]) {
        let table = Table("ID", "HOSTNAME", "PLATFORM", "AGENT", "STATE", "LAST SEEN")
        show(devices, table) { table, device in
            let state = device.state == .active ? presence(of: device) : device.state.name
            table.add(
                device.id.description, device.displayName ?? device.hostname, device.platform,
                device.agentVersion, state, device.lastSeenAt?.description ?? "never")
        }
    }
}
