import ArgumentParser
import Client
import Domain
import Wire

extension Queues {
    struct Interactive: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show or set how many interactive runs of an organization go before its standard ones.",
            discussion: """
                Without options that is shown. What is not given is set to its default: 600 a minute, 100 at \
                once. Further interactive runs are served as standard ones are.
                """)
        @Argument(help: "The organization's id.") var organization: OrganizationID
        @Option(help: "Runs a minute in the long run: 0.6 to 600000.") var perMinute: Double?
        @Option(help: "Runs at once: 0 to 100000.") var burst: Int?
        @Flag(help: "Set both to their defaults.") var byDefault = false
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                guard !byDefault || perMinute == nil && burst == nil else {
                    throw Failure(.usage, "--by-default stands alone")
                }
                guard byDefault || perMinute != nil || burst != nil else {
                    connection.show(try await api.interactive(of: organization))
                    return
                }
                // Judged here as the server does, so that a mistake is told without it.
                let new = try InteractiveBucket.decode(
                    InteractiveBucket(perMinute: perMinute, burst: burst).json)
                connection.show(try await api.limitInteractive(organization, new))
            }
        }
    }
}

extension ConnectionOptions {
    fileprivate func show(_ bucket: InteractiveBucket) {
        guard output == .table else { return Terminal.print(json: bucket) }
        Terminal.print(interactive(bucket))
    }

    /// One line about a bucket.
    func interactive(_ bucket: InteractiveBucket) -> String {
        let bucket = bucket.resolved
        let perMinute = bucket.perMinute.map { $0 == $0.rounded() ? "\(Int($0))" : "\($0)" } ?? "any number"
        return "interactive before standard: \(perMinute) a minute, \(bucket.burst ?? 0) at once"
    }
}
