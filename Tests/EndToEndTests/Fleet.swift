import Client
import Domain
import Glibc
import Process
import Testing
import Wire

/// A tenant with one site, and what is needed to act on it.
struct Fleet: Sendable {
    let api: APIClient
    let apiURL: String
    let certificateAuthority: String
    let organization: OrganizationID
    private(set) var site: SiteID
    let scratch: Scratch

    /// Makes a partner, an organization and a site.
    init(_ api: APIClient, url: String, certificateAuthority: String, scratch: Scratch, name: String)
        async throws
    {
        let partner = try await api.createPartner(NewPartner(name: "Partner \(name)"))
        let organization = try await api.createOrganization(
            NewOrganization(name: "Organization \(name)", partnerId: ID(partner.id.value)))
        self.api = api
        self.apiURL = url
        self.certificateAuthority = certificateAuthority
        self.organization = ID(organization.id.value)
        site = ID(
            try await api.createSite(NewSite(name: "Site \(name)", organizationId: self.organization)).id
                .value)
        self.scratch = scratch
    }

    /// The same organization at another site.
    func withNewSite(_ name: String) async throws -> Fleet {
        var fleet = self
        fleet.site = ID(try await api.createSite(NewSite(name: name, organizationId: organization)).id.value)
        return fleet
    }

    /// A token of the site.
    func token(uses: Int = 1) async throws -> String {
        try await api.createEnrollmentToken(NewEnrollmentToken(siteId: site, maxUses: uses)).token
    }

    /// Runs `cloudrmm-agent enroll`.
    func enroll(token: String, into directory: String) async throws -> ToolResult {
        try await tool(
            try Binaries.path("cloudrmm-agent"),
            [
                "enroll", "--api-url", apiURL, "--ca", certificateAuthority, "--token", token, "--data-dir",
                directory,
            ])
    }

    /// An enrolled agent that does not run yet.
    func agent(_ name: String) async throws -> TestAgent {
        let directory = try scratch.directory("agent-\(name)")
        let said = try await enroll(token: token(), into: directory).required()
        let words = said.split(separator: " ").map(String.init)
        let device = try #require(words.count > 2 ? DeviceID(words[2]) : nil, "\(said)")
        return TestAgent(device: device, directory: directory, log: "\(scratch.path)/agent-\(name)")
    }

    /// A running agent whose device is online.
    func onlineAgent(_ name: String) async throws -> TestAgent {
        let agent = try await agent(name)
        try await agent.start()
        try await untilOnline(agent.device)
        return agent
    }

    func untilOnline(_ device: DeviceID) async throws {
        try await eventually("device \(device) is online") {
            try await settledAnswer { try await api.device(device) }?.online == true
        }
    }

    // MARK: Jobs

    /// Submits a script for one device.
    func submit(
        _ script: Script, on devices: [DeviceID], timeoutSeconds: Int = 60, idempotent: Bool = false
    ) async throws -> JobID {
        try await api.submit(
            NewJob(
                kind: .script, target: .devices(devices), script: script, timeoutSeconds: timeoutSeconds,
                idempotent: idempotent)
        ).id
    }

    /// Waits until a job has ended; answers that fail meanwhile are asked for again.
    func settled(_ job: JobID, within seconds: Int = 45) async throws -> [Run] {
        try await eventually("job \(job) has ended", within: seconds) {
            try await settledAnswer { try await api.job(job) }?.state.isEnd == true
        }
        return try await api.runs(of: job, PageOptions(limit: 500)).items
    }

    /// Waits until the only run of a job has ended.
    func outcome(_ job: JobID, within seconds: Int = 45) async throws -> Run {
        let runs = try await settled(job, within: seconds)
        try #require(runs.count == 1)
        return runs[0]
    }

    /// Waits until some run of a job is in a state.
    func until(_ state: RunState, _ job: JobID) async throws {
        try await eventually("a run of job \(job) is \(state)") {
            try await settledAnswer { try await api.runs(of: job) }?.items.contains { $0.state == state }
                == true
        }
    }

    /// An answer, or nothing while a server is away.
    private func settledAnswer<Answer: Sendable>(_ ask: () async throws -> Answer) async throws -> Answer? {
        do {
            return try await ask()
        } catch let problem as Problem where problem.status != 503 {
            throw problem
        } catch {
            return nil
        }
    }
}

/// A real agent with a data directory of its own.
actor TestAgent {
    nonisolated let device: DeviceID
    nonisolated let directory: String
    nonisolated let log: String
    private var running: Running?

    init(device: DeviceID, directory: String, log: String) {
        (self.device, self.directory, self.log) = (device, directory, log)
    }

    func start(_ options: [String] = []) throws {
        running = try Running(
            try Binaries.path("cloudrmm-agent"), ["run", "--data-dir", directory] + options, log: log)
    }

    /// Ends it as a crash would. What it started lives on.
    func crash() async throws {
        try await running?.crash()
        running = nil
    }

    /// Holds it where it is; its sockets stay open.
    func suspend() throws { try running?.child.signal(SIGSTOP) }

    func resume() throws { try running?.child.signal(SIGCONT) }

    func stop() async throws -> ChildExit? {
        defer { running = nil }
        return try await running?.stop()
    }
}

/// A place outside the product where scripts write that they were started.
struct Witness: Sendable {
    let path: String

    init(_ scratch: Scratch) throws {
        path = "\(scratch.path)/witness-\(try randomBytes(6).map { String($0, radix: 16) }.joined())"
        try DurableFile.write([], to: path, mode: 0o666)
    }

    /// What scripts have written, a line each.
    var lines: [String] { text(of: path).split(separator: "\n").map(String.init) }

    /// How often it was started.
    func starts(_ name: String = "started") -> Int { lines.count { $0 == name } }

    /// A script that says it was started, then waits until it may end.
    func script(_ name: String = "started", untilFile gate: String? = nil, then last: String = "") -> Script {
        let wait = gate.map { "while ! test -e \($0); do sleep 0.05; done\n" } ?? ""
        return Script(.sh, "echo \(name) >> \(path)\n\(wait)\(last)\n")
    }

    /// Lets scripts that wait for it go on.
    static func open(_ gate: String) throws { try DurableFile.write([], to: gate, mode: 0o644) }
}
