import ArgumentParser

/// `cloudrmm demo …`
struct DemoVerbs: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demo", abstract: "Something to look at.", subcommands: [Seed.self])

    struct Seed: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make partners, organizations, sites, people, devices and jobs that are made up.",
            discussion: """
                All of it comes by the API, so the key has to be the platform's. Devices are enrolled with \
                keys that are thrown away: they stay offline. Nobody gets a password; --invitations prints a \
                link for each of those who are made. A second run with the same options adds nothing, one \
                with more devices adds the others.
                """)
        @Option(help: "How many devices, 0 to \(DemoPlan.devicesAllowed.upperBound).")
        var devices = DemoPlan.devicesDefault
        @Option(help: "A number that decides the devices' names and facts: the same one, the same devices.")
        var seed: UInt64 = 1
        @Flag(help: "Also where there are partners that are none of the demo's.") var add = false
        @Flag(help: "Print the links by which those who are made set a password, once.") var invitations =
            false
        @OptionGroup var connection: ConnectionOptions

        func validate() throws {
            guard DemoPlan.devicesAllowed.contains(devices) else {
                throw ValidationError(
                    "--devices is \(devices); allowed are \(DemoPlan.devicesAllowed.lowerBound) to "
                        + "\(DemoPlan.devicesAllowed.upperBound)")
            }
        }

        func run() async throws {
            try await operate(connection) { api in
                var seeder = DemoSeeder(
                    api: api, plan: DemoPlan(devices: devices, seed: seed), isInviting: invitations)
                let summary = try await seeder.seed(besideOthers: add)
                switch connection.output {
                case .table: summary.print()
                case .json: summary.printJSON()
                }
            }
        }
    }
}
