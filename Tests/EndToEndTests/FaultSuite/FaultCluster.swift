import Client
import Domain
import History
import Process
import TestSupport
import Testing
import Wire

/// An installation under a supervisor: every role a process of its own, durable servers, real agents of two
/// organizations, and a log of what is seen.
actor FaultCluster {
    /// What the installation has for its Redis.
    enum RedisServers: Sendable {
        case single(DurableRedis)
        case watched(WatchedRedis)
        /// Masters that share the slots, and the settings with each role's own login.
        case cluster(RedisCluster, [String: [(String, String)]])

        /// What leads a role there.
        func settings(of role: String) -> [(String, String)] {
            switch self {
            case .single(let redis): [("REDIS_URL", redis.url)]
            case .watched(let redis): [("REDIS_URL", redis.url)]
            case .cluster(_, let settings): settings[role] ?? []
            }
        }

        func stop() async throws {
            switch self {
            case .single(let redis): try await redis.stop()
            case .watched(let redis): try await redis.stop()
            case .cluster(let cluster, _): cluster.stop()
            }
        }
    }

    /// An agent and its place in the log.
    struct Agent: Sendable {
        let name: String
        let device: DeviceID
        let fleet: Fleet
        let process: SupervisedProcess
    }

    nonisolated let name: String
    nonisolated let log = EventLog()
    nonisolated let scratch: Scratch
    nonisolated let postgres: PrivatePostgres
    nonisolated let servers: RedisServers
    nonisolated let witness: Witness
    private nonisolated let apiPort: Int
    private nonisolated let gatewayPort: Int
    private(set) var roles: [String: SupervisedProcess] = [:]
    /// Agents whose devices are online: two of the organization with a cap, one of that without.
    private(set) var agents: [Agent] = []
    /// An agent of the organization with a cap that is offline until the end.
    private(set) var absent: Agent?

    /// Runs of the organization with a cap that may be under way.
    static let cap = 3

    /// Variables of every process beside its usual ones.
    private nonisolated let variables: [(String, String)]

    /// Servers, schema (its migrator dies once in mid-step), roles, tenants, agents.
    init(
        _ name: String, migratorDiesAt step: Int, variables: [(String, String)] = [],
        servers makeServers: (Scratch) async throws -> RedisServers
    ) async throws {
        (self.name, self.variables) = (name, variables)
        scratch = try Scratch()
        postgres = try await PrivatePostgres(scratch)
        servers = try await makeServers(scratch)
        witness = try Witness(scratch)
        (apiPort, gatewayPort) = (try freePort(), try freePort())
        try await migrate(dyingAt: step)
        let keys = try scratch.directory("keys")
        for role in ["api", "gateway", "worker", "worker-2"] { roles[role] = try makeRole(role, keys: keys) }
        try await roles["api"]?.start()
        let key = try await tool(
            try Binaries.path("cloudrmm"), ["keys", "create-administrator", "--keys-dir", keys],
            environment: environment(of: "api")
        ).required()
        _ = try await tool("/bin/cp", ["-a", "\(keys)/gateway", "\(scratch.path)/keys-of-gateway"]).required()
        let api = APIClient(
            url: apiURL, key: String(key.prefix { $0 != "\n" }),
            certificateAuthority: "\(keys)/server-ca.pem")
        try await makeTenants(api, certificateAuthority: "\(keys)/server-ca.pem")
    }

    private nonisolated var apiURL: String { "https://localhost:\(apiPort)" }

    private func migrate(dyingAt step: Int) async throws {
        let what = "migrator.midStep:kill:\(step)"
        log.note(.armed, what)
        let options = ["migrate", "--owner-url", postgres.url("owner")]
        let program = try Binaries.path("cloudrmm")
        let permission = [("CLOUDRMM_FAULT", what), ("CLOUDRMM_FAULTS_ALLOWED", "yes")]
        if try await tool(program, options, environment: permission).exit == .signaled(9) {
            log.note(.struck, what)
        }
        _ = try await tool(program, options).required()
    }

    private func makeRole(_ name: String, keys: String) throws -> SupervisedProcess {
        let role = String(name.prefix { $0 != "-" })
        let directory = role == "api" ? keys : try scratch.directory("keys-of-\(name)")
        let options = [
            "serve", "--roles", role, "--keys-dir", directory, "--api-port", "\(apiPort)", "--gateway-port",
            "\(gatewayPort)",
        ]
        let (program, path) = (try Binaries.path("cloudrmm"), "\(scratch.path)/\(name)")
        let environment = environment(of: role)
        return SupervisedProcess(name, log: log) { fault in
            try Running(program, options, environment: environment + fault, log: path)
        } isReady: { process in
            _ = try await process.line("ready")
        }
    }

    private func makeTenants(_ api: APIClient, certificateAuthority: String) async throws {
        func fleet(_ name: String) async throws -> Fleet {
            try await Fleet(
                api, url: apiURL, certificateAuthority: certificateAuthority, scratch: scratch, name: name)
        }
        let capped = try await fleet("capped")
        let free = try await fleet("free")
        try await postgres.execute(
            "UPDATE organizations SET running_cap = \(Self.cap) WHERE id = '\(capped.organization)'")
        log.note(.cap) { ($0.organization, $0.cap) = ("\(capped.organization)", Self.cap) }
        // The first worker builds the queue with the cap in it.
        try await roles["gateway"]?.start()
        try await roles["worker"]?.start()
        for (name, fleet) in [("a", capped), ("b", capped), ("c", free)] {
            let agent = try await makeAgent(name, fleet)
            agents.append(agent)
            try await agent.process.start()
        }
        absent = try await makeAgent("d", capped.withNewSite("absent"))
        for agent in agents { try await agent.fleet.untilOnline(agent.device) }
    }

    private func makeAgent(_ name: String, _ fleet: Fleet) async throws -> Agent {
        let enrolled = try await fleet.agent(name)
        let (directory, path) = (enrolled.directory, "\(scratch.path)/agent-\(name)")
        let device = "\(enrolled.device)"
        let (program, variables) = (try Binaries.path("cloudrmm-agent"), self.variables)
        let process = SupervisedProcess("agent-\(name)", log: log) { fault in
            try Running(
                program, ["run", "--data-dir", directory], environment: variables + fault, log: path)
        } died: { [log] in
            log.note(.agentLost) { $0.device = device }
        }
        return Agent(name: name, device: enrolled.device, fleet: fleet, process: process)
    }

    nonisolated func environment(of role: String) -> [(String, String)] {
        variables + servers.settings(of: role) + [
            ("DATABASE_URL", postgres.url("crmm_api")),
            ("CLOUDRMM_WORKER_DATABASE_URL", postgres.url("crmm_worker")),
            ("CLOUDRMM_GATEWAY_DATABASE_URL", postgres.url("crmm_gateway")),
            ("AGENT_GATEWAY_URL", "wss://localhost:\(gatewayPort)"),
        ]
    }

    /// The process of a role or agent.
    func process(_ name: String) throws -> SupervisedProcess {
        try #require(roles[name] ?? agents.first { "agent-\($0.name)" == name }?.process)
    }

    /// The only server of Redis.
    nonisolated func redis() throws -> DurableRedis {
        guard case .single(let redis) = servers else { throw TooLate(description: "Redis has a replica") }
        return redis
    }

    /// The Redis with a replica.
    nonisolated func watchedRedis() throws -> WatchedRedis {
        guard case .watched(let redis) = servers else { throw TooLate(description: "Redis has no replica") }
        return redis
    }

    /// Ends everything.
    func stop() async throws {
        for agent in agents + [absent].compactMap(\.self) { try await agent.process.stop() }
        for role in roles.values { try await role.stop() }
        try await servers.stop()
        try await postgres.stop()
    }

    // MARK: The end of the history

    /// Notes what the scripts wrote: `start ATTEMPT MICROSECONDS PLACE` and `end …`, where the attempt is
    /// `JOB-NUMBER` and the place lies in an agent's directory.
    func gatherStarts() {
        let devices = Dictionary(
            uniqueKeysWithValues: (agents + [absent].compactMap(\.self)).map {
                ("agent-\($0.name)", "\($0.device)")
            })
        for line in witness.lines {
            let words = line.split(separator: " ").map(String.init)
            guard words.count == 4, let at = Int(words[2]), let dash = words[1].lastIndex(of: "-") else {
                log.note(.started) { $0.note = line }
                continue
            }
            let agent = words[3].split(separator: "/").first { $0.hasPrefix("agent-") }
            log.note(words[0] == "start" ? .started : .ended, at: at) { event in
                event.job = String(words[1][..<dash])
                event.attempt = Int(words[1][words[1].index(after: dash)...])
                event.device = agent.flatMap { devices[String($0)] } ?? "nowhere"
            }
        }
    }

    /// The jobs that were accepted, and whom to ask about them.
    private var jobs: [(id: JobID, api: APIClient)] {
        let apis = Dictionary(
            agents.map { ("\($0.fleet.organization)", $0.fleet.api) }, uniquingKeysWith: { one, _ in one })
        return log.history.events.compactMap { event in
            guard event.kind == .accepted, let job = event.job.flatMap({ JobID($0) }) else { return nil }
            return event.organization.flatMap { apis[$0] }.map { (job, $0) }
        }
    }

    /// Waits until nothing is open any more; what stays so, the history says.
    func untilAllEnded() async throws {
        var open = jobs
        do {
            try await eventually("all jobs of \(name) have ended", within: 90) {
                while let last = open.last {
                    let job = try await persist("job \(last.id) is told") { try await last.api.job(last.id) }
                    guard job.state.isEnd else { return false }
                    open.removeLast()
                }
                return true
            }
        } catch is TooLate {
            // The history says which are lost.
        }
    }

    /// Notes what the API says of the jobs in the end.
    func gatherOutcomes() async throws {
        for (id, api) in jobs {
            let job: Job
            do {
                job = try await persist("job \(id) is told") { try await api.job(id) }
            } catch let problem as Problem where problem.status == 404 {
                continue
            }
            log.note(.counts) { ($0.job, $0.counts) = ("\(id)", job.counts) }
            let runs = try await persist("the runs of \(id) are told") {
                try await api.runs(of: id, PageOptions(limit: 500))
            }
            for run in runs.items {
                let output = try await persist("the output of \(run.id) is told") {
                    try await api.output(of: run.id)
                }
                log.note(.outcome) { event in
                    event.output = output.stdout
                    (event.job, event.run, event.device) = ("\(id)", "\(run.id)", "\(run.deviceId)")
                    (event.attempt, event.state, event.note) = (run.attempt, "\(run.state)", run.reason)
                    event.finishedAt = run.finishedAt.map { Int($0.microseconds) }
                }
            }
        }
    }
}

/// Asks until there is an answer; a server that is away, or too busy, is asked again.
func persist<Answer>(
    _ what: String, within seconds: Int = 120, _ ask: () async throws -> Answer
) async throws -> Answer {
    var answer: Answer?
    try await eventually(what, within: seconds) {
        do {
            answer = try await ask()
            return true
        } catch let problem as Problem where problem.status < 500 && problem.status != 429 {
            throw problem
        } catch {
            return false
        }
    }
    return try #require(answer)
}
