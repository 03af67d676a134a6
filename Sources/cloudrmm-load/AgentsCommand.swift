import Agent
import ArgumentParser
import Client
import Domain
import NIOCore
import Process
import Wire

/// Holds the sessions of many simulated devices in one process.
struct AgentsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "agents", abstract: "Enrols simulated agents and holds their sessions.",
        discussion: """
            Each agent has a key, a certificate and a mutual-TLS session of its own, verifies every \
            dispatch as a real one does, and answers it without running anything. A line of JSON a second \
            says how it goes. Devices that are not enrolled yet need an enrolment token with enough uses in \
            CLOUDRMM_TOKEN, or --site and in CLOUDRMM_API_KEY a key that may make one.
            """)

    @OptionGroup var api: APIOptions

    @Option(help: "The site that the devices are enrolled into.")
    var site: SiteID?

    @Option(help: "How many agents.")
    var count = 100

    @Option(help: "An absolute path where identities are kept, so that a later start uses them again.")
    var state: String?

    @Option(help: "Seconds to run; without it until SIGINT or SIGTERM.")
    var duration: Int?

    @Option(help: "How long a simulated run takes.")
    var workMilliseconds = 0

    @Option(help: "How many bytes each simulated run prints.")
    var outputBytes = 0

    @Option(help: "Threads for the sessions.")
    var threads = 1

    func validate() throws {
        guard (1...20_000).contains(count) else { throw ValidationError("--count is 1 to 20000") }
        guard (0...Limits.outputHeadBytes).contains(outputBytes) else {
            throw ValidationError("--output-bytes is 0 to \(Limits.outputHeadBytes)")
        }
        guard workMilliseconds >= 0, (1...64).contains(threads) else {
            throw ValidationError("--work-milliseconds is 0 or more, --threads 1 to 64")
        }
    }

    func run() async throws {
        let command = self
        try await untilAskedToEnd { try await command.serve() }
    }

    private func serve() async throws {
        let ca = String(decoding: try readFile(api.ca, max: 1 << 20), as: UTF8.self)
        let enrolment = FleetEnrolment(
            apiURL: api.apiURL, serverCA: ca, count: count, state: state, token: { try await token() })
        let identities = try await enrolment.identities()
        let fleet = Fleet(
            identities: identities, threads: threads, work: .milliseconds(Int64(workMilliseconds)),
            outputBytes: outputBytes)
        try await fleet.run(duration: duration.map { Duration.seconds($0) })
    }

    /// The token of the environment, or one made for as many devices.
    private func token() async throws -> String {
        if let token = environmentVariable("CLOUDRMM_TOKEN"), !token.isEmpty { return token }
        guard let site else { throw ValidationError("give --site, or set CLOUDRMM_TOKEN") }
        let client = try api.client()
        defer { client.close() }
        return try await client.createEnrollmentToken(NewEnrollmentToken(siteId: site, maxUses: count)).token
    }
}
