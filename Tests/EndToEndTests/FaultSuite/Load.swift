import Client
import Domain
import History
import Testing
import Wire

/// The jobs of one round: whatever the product is asked for while something fails.
///
/// Each script writes its own start and end. A submission is repeated under its key until it is answered.
struct Load: Sendable {
    /// A job that must have ended before the round is over, and whom to ask.
    typealias Pending = (id: JobID, api: APIClient)

    let cluster: FaultCluster
    let name: String
    /// A file that lets the long scripts of the round end.
    let gate: String
    private let witness: String

    init(_ cluster: FaultCluster, name: String) {
        (self.cluster, self.name) = (cluster, name)
        gate = "\(cluster.scratch.path)/gate-\(name)"
        witness = cluster.witness.path
    }

    /// A script that tells when it starts and ends; what it does in between is said.
    private func script(_ body: String) -> Script {
        Script(
            .sh,
            """
            tell() { echo "$1 $CLOUDRMM_RUN $(date +%s%6N) $TMPDIR" >> \(witness); }
            tell start
            \(body)
            tell end
            echo "said $CLOUDRMM_RUN"

            """)
    }

    private func job(
        _ body: String, _ target: Target, expiresInSeconds: Int = 3_600, priority: Priority = .standard,
        retry: Retry? = nil, isIdempotent: Bool = false, notBefore: Instant? = nil
    ) -> NewJob {
        // What outlives its fault may have to outlive a snapshot that is held for ten minutes.
        var job = NewJob(
            kind: .script, target: target, script: script(body), timeoutSeconds: 1_800,
            expiresInSeconds: expiresInSeconds)
        (job.priority, job.retry, job.idempotent, job.notBefore) = (priority, retry, isIdempotent, notBefore)
        return job
    }

    private func note(
        _ id: JobID, _ fleet: Fleet, on devices: [DeviceID], _ allowed: [String], maxStarts: Int? = nil,
        notBefore: Instant? = nil, key: String, since began: Int
    ) {
        cluster.log.note(.accepted, at: began) { event in
            (event.job, event.organization) = ("\(id)", "\(fleet.organization)")
            (event.devices, event.maxStarts, event.note) = (devices.map { "\($0)" }, maxStarts, key)
            // Whether it may be unknown is judged by who was lost.
            event.allowed = maxStarts == 0 ? allowed : allowed + ["unknown"]
            event.notBefore = notBefore.map { Int($0.microseconds) }
        }
    }

    /// Submits one job until it is answered.
    @discardableResult
    func submit(
        _ key: String, _ job: NewJob, _ fleet: Fleet, on devices: [DeviceID],
        _ allowed: [String] = ["succeeded"], maxStarts: Int? = 1
    ) async throws -> Pending {
        let (key, began) = ("\(name)/\(key)", EventLog.now())
        let accepted = try await persist("\(key) is accepted") {
            try await fleet.api.submit(job, idempotencyKey: key)
        }
        note(
            accepted.id, fleet, on: devices, allowed, maxStarts: maxStarts, notBefore: job.notBefore,
            key: key,
            since: began)
        return (accepted.id, fleet.api)
    }

    /// A small job on each device; what a round that still waits for its fault goes on with.
    func trickle(_ index: Int) async throws -> [Pending] {
        var jobs: [Pending] = []
        for agent in await cluster.agents {
            jobs.append(
                try await submit(
                    "trickle \(index) \(agent.name)", job("sleep 0.02", .devices([agent.device])),
                    agent.fleet,
                    on: [agent.device]))
        }
        return jobs
    }

    /// Jobs of every shape, submitted side by side; returns those that end within the round.
    func run(perAgent: Int) async throws -> [Pending] {
        let agents = await cluster.agents
        let absent = try #require(await cluster.absent)
        // The first of all, so that whoever claims first holds some that outlive what happens to it.
        // Bounded, so that it ends too where the tests are killed.
        let waiting = "for i in $(seq 12000); do test -e \(gate) && break; sleep 0.05; done"
        let gated = try await bulk("gated", waiting, agents[2], count: 3)
        return try await withThrowingTaskGroup(of: [Pending].self) { group in
            for agent in agents {
                group.addTask { try await bulk("bulk", "sleep 0.05", agent, count: perAgent) }
                group.addTask { try await singles(agent, count: 4) }
                group.addTask { try await scheduled(agent) }
            }
            group.addTask { try await [site(agents)] }
            group.addTask { try await [stopped(agents[0])] }
            group.addTask { try await forAbsent(absent) }
            return try await group.reduce(into: gated) { $0 += $1 }
        }
    }

    private func bulk(
        _ name: String, _ body: String, _ agent: FaultCluster.Agent, count: Int
    ) async throws -> [Pending] {
        let jobs = (0..<count).map { index in
            // All three priorities of each organization wait side by side.
            job(
                body, .devices([agent.device]),
                priority: Priority.allCases[index % Priority.allCases.count])
        }
        let (key, began) = ("\(self.name)/\(name) \(agent.name)", EventLog.now())
        let answer = try await persist("\(key) is accepted") {
            let answer = try await agent.fleet.api.submit(NewJobs(jobs: jobs), idempotencyKey: key)
            // Items that the database did not take are asked for again, under the same keys.
            if answer.items.contains(where: { $0.id == nil }) { throw TooLate(description: "not all") }
            return answer
        }
        return answer.items.compactMap(\.id).enumerated().map { index, id in
            note(
                id, agent.fleet, on: [agent.device], ["succeeded"], maxStarts: 1, key: "\(key) \(index)",
                since: began)
            return (id, agent.fleet.api)
        }
    }

    private func singles(_ agent: FaultCluster.Agent, count: Int) async throws -> [Pending] {
        var jobs: [Pending] = []
        for index in 0..<count {
            jobs.append(
                try await submit(
                    "single \(index) \(agent.name)", job("sleep 0.1", .devices([agent.device])), agent.fleet,
                    on: [agent.device]))
        }
        let failing = job("tell end; echo \"said $CLOUDRMM_RUN\"; exit 3", .devices([agent.device]))
        jobs.append(
            try await submit("failing \(agent.name)", failing, agent.fleet, on: [agent.device], ["failed"]))
        return jobs
    }

    /// One that fails until its third attempt, one that may be repeated after its device was lost, one that
    /// is due in two seconds.
    private func scheduled(_ agent: FaultCluster.Agent) async throws -> [Pending] {
        let target = Target.devices([agent.device])
        let untilThird = """
            case $CLOUDRMM_RUN in *-3) ;; *) tell end; echo "said $CLOUDRMM_RUN"; exit 3 ;; esac
            """
        let retried = try await submit(
            "retried \(agent.name)",
            job(untilThird, target, retry: Retry(maximumAttempts: 3, backoffSeconds: 1, on: [.failed])),
            agent.fleet, on: [agent.device], maxStarts: 3)
        let repeated = try await submit(
            "repeated \(agent.name)",
            job(
                "sleep 0.2", target, retry: Retry(maximumAttempts: 3, backoffSeconds: 1, on: [.unknown]),
                isIdempotent: true), agent.fleet, on: [agent.device], maxStarts: 3)
        let soon = Instant(microseconds: Int64(EventLog.now())) + .seconds(2)
        do {
            let due = try await submit(
                "due \(agent.name)", job("sleep 0.02", target, notBefore: soon), agent.fleet,
                on: [agent.device])
            return [retried, repeated, due]
        } catch let problem as Problem where problem.field == "notBefore" {
            return [retried, repeated]  // Nobody took it before its time had passed.
        }
    }

    /// Over a site: expanded by a worker, brought by refill.
    private func site(_ agents: [FaultCluster.Agent]) async throws -> Pending {
        let here = agents.filter { $0.fleet.site == agents[0].fleet.site }
        return try await submit(
            "site", job("sleep 0.05", .site(agents[0].fleet.site)), agents[0].fleet, on: here.map(\.device))
    }

    /// One that runs until it is cancelled.
    private func stopped(_ agent: FaultCluster.Agent) async throws -> Pending {
        let pending = try await submit(
            "stopped", job("sleep 600", .devices([agent.device])), agent.fleet, on: [agent.device],
            ["cancelled"])
        try await eventually("\(name)/stopped has started", within: 120) {
            if cluster.witness.lines.contains(where: { $0.hasPrefix("start \(pending.id)-") }) { return true }
            // Its agent may have died over it.
            return try await persist("job \(pending.id) is told") { try await pending.api.job(pending.id) }
                .state.isEnd
        }
        try await cancel(pending)
        return pending
    }

    private func cancel(_ pending: Pending) async throws {
        do {
            _ = try await persist("\(pending.id) is cancelled") { try await pending.api.cancel(pending.id) }
        } catch let problem as Problem where problem.status == 409 {
            return  // It has ended.
        }
        cluster.log.note(.cancelled) { $0.job = "\(pending.id)" }
    }

    /// For a device that is offline: one that waits to the end of the history, one that is cancelled, one
    /// that expires. The first is for its site, so a dispatcher finds that nobody is there; the others wait
    /// from their commit on.
    private func forAbsent(_ agent: FaultCluster.Agent) async throws -> [Pending] {
        let target = Target.devices([agent.device])
        try await submit(
            "absent", job("sleep 0.02", .site(agent.fleet.site)), agent.fleet, on: [agent.device])
        let cancelled = try await submit(
            "cancelled", job("sleep 0.02", target), agent.fleet, on: [agent.device], ["cancelled"],
            maxStarts: 0)
        let expiring = try await submit(
            "expiring", job("sleep 0.02", target, expiresInSeconds: 2), agent.fleet, on: [agent.device],
            ["expired"], maxStarts: 0)
        try await cancel(cancelled)
        return [cancelled, expiring]
    }
}
