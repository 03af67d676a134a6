import ArgumentParser
import Client
import Domain
import Wire

/// Submits jobs at a rate and measures until they are settled.
struct JobsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "jobs", abstract: "Submits jobs at a rate and prints latencies as JSON.",
        discussion: """
            Open loop: each submission has its time, and its latency counts from there, also when earlier \
            ones are late. A sample of the jobs is followed one by one, by this machine's clock; afterwards \
            pages of all jobs give what the server's clock says. CLOUDRMM_API_KEY holds a key that may run \
            jobs and read them (with --devices-of also devices).
            """)

    @OptionGroup var api: APIOptions

    @Option(help: "Each job is for this organization.")
    var organization: OrganizationID?

    @Option(help: "Each job is for this site.")
    var site: SiteID?

    @Option(help: "Each job is for one device of this organization, in turn.")
    var devicesOf: OrganizationID?

    @Option(help: "Jobs a second.")
    var rate = 10.0

    @Option(help: "Seconds of submitting.")
    var duration = 10

    @Option(help: "Jobs a request; above 1 they go through the bulk call.")
    var bulk = 1

    @Option(help: "Requests under way at a time; beyond them submissions wait, which their latency shows.")
    var inFlight = 64

    @Option(help: "ping, sysinfo, or script (which runs `true`).")
    var kind = "ping"

    @Option(help: "Seconds to wait for the end of the last jobs.")
    var settleSeconds = 120

    func validate() throws {
        let targets = [organization != nil, site != nil, devicesOf != nil].count { $0 }
        guard targets == 1 else {
            throw ValidationError("give one of --organization, --site and --devices-of")
        }
        guard (1...Limits.bulkJobsMax).contains(bulk) else {
            throw ValidationError("--bulk is 1 to \(Limits.bulkJobsMax)")
        }
        guard rate > 0, duration > 0, inFlight > 0, settleSeconds > 0 else {
            throw ValidationError("--rate, --duration, --in-flight and --settle-seconds are above 0")
        }
        guard JobKind(rawValue: kind) != nil else {
            throw ValidationError("--kind is ping, sysinfo or script")
        }
    }

    func run() async throws {
        let command = self
        try await untilAskedToEnd { try await command.measure() }
    }

    private func measure() async throws {
        let client = try api.client()
        defer { client.close() }
        let load = JobLoad(
            client: client, targets: try await targets(client), kind: JobKind(rawValue: kind) ?? .ping,
            rate: rate,
            count: Int(rate * Double(duration)), bulk: bulk, inFlightMax: inFlight,
            settleMax: .seconds(settleSeconds))
        try await load.run()
    }

    private func targets(_ client: APIClient) async throws -> [Target] {
        if let organization { return [.organization(organization)] }
        if let site { return [.site(site)] }
        var targets: [Target] = []
        var cursor: String?
        repeat {
            let page = try await client.devices(
                organization: devicesOf, PageOptions(limit: Limits.page.upperBound, cursor: cursor))
            targets += page.items.map { .devices([$0.id]) }
            cursor = page.next
        } while cursor != nil
        guard !targets.isEmpty else { throw ValidationError("the organization has no devices") }
        return targets
    }
}
