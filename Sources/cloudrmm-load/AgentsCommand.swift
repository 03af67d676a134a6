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
            says how it goes.
            """)

    @OptionGroup var api: APIOptions

    @Option(help: "An enrolment token with enough uses; or give --api-key and --site.")
    var siteToken: String?

    @Option(help: "An API key that may make enrolment tokens.")
    var apiKey: String?

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
        guard siteToken != nil || (apiKey != nil && site != nil) else {
            throw ValidationError("give --site-token, or --api-key and --site")
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

    /// The token given, or one made for as many devices.
    private func token() async throws -> String {
        if let siteToken { return siteToken }
        guard let apiKey, let site else {
            throw ValidationError("give --site-token, or --api-key and --site")
        }
        let client = APIClient(url: api.apiURL, key: apiKey, certificateAuthority: api.ca)
        defer { client.close() }
        return try await client.createEnrollmentToken(NewEnrollmentToken(siteId: site, maxUses: count)).token
    }
}
