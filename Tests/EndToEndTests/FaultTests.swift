import Client
import Domain
import Process
import Testing
import Wire

extension EndToEndTests {
    /// What dies in mid-run and comes back: no run is lost, none starts twice, and each ends as the device
    /// says.
    ///
    /// How often a script was started is what the script itself wrote, never what the server says.
    @Suite(.serialized, SeparateProcesses()) struct FaultTests {
        private let installation: Installation

        init() throws { installation = try #require(Installation.current) }

        /// Three runs that have started on one device and wait for their gate, and one on each of two others.
        private struct Underway {
            let fleet: Fleet
            let agents: [TestAgent]
            let witness: Witness
            let gate: String
            let jobs: [JobID]

            /// Lets the runs end and expects that each did so once, with what its script said.
            func finish(also later: [JobID] = []) async throws {
                try Witness.open(gate)
                for (index, job) in jobs.enumerated() {
                    let run = try await fleet.outcome(job)
                    #expect(run.state == .succeeded, "\(run)")
                    #expect(run.attempt == 1, "\(run)")
                    #expect(try await fleet.api.output(of: run.id).stdout == "done \(index)\n")
                }
                for job in later { #expect(try await fleet.outcome(job).state == .succeeded) }
                #expect(witness.lines.count == jobs.count + later.count, "\(witness.lines)")
                #expect(Set(witness.lines).count == witness.lines.count, "started twice: \(witness.lines)")
            }

            func stop() async throws {
                for agent in agents { _ = try await agent.stop() }
            }
        }

        @Test(
            "an API is reached and trusted by the name that API_URL gives it, and tells its engines' health")
        func named() async throws {
            let (api, port, operations) = try await installation.startAPI(knownAs: "rmm.example")
            func status(_ name: String) async throws -> String {
                try await tool(
                    "/usr/bin/curl",
                    [
                        "--silent", "--max-time", "10", "--cacert", installation.certificateAuthority,
                        "--resolve", "\(name):\(port):127.0.0.1", "--output", "/dev/null", "--write-out",
                        "%{http_code}", "https://\(name):\(port)/healthz",
                    ]
                ).output
            }
            #expect(try await status("rmm.example") == "200")
            #expect(try await status("localhost") == "200")
            #expect(try await status("other.example") == "000", "no certificate is for it")
            let ready = try await tool(
                "/usr/bin/curl", ["--silent", "http://127.0.0.1:\(operations)/readyz"]
            ).required()
            #expect(ready == "database ok\nredis ok\n")
            #expect(try await api.stop() == .exited(0))
            // Whoever starts next makes the usual certificate again.
            try await installation.crash(.api)
            try await installation.start(.api)
        }

        @Test("a role on a login that sees every tenant does not start")
        func superuser() async throws {
            let result = try await installation.serve(.worker, onLogin: "owner")
            #expect(result.exit == .exited(1) && result.errors.contains("BYPASSRLS"), "\(result)")
        }

        @Test("a job whose statement was changed in the database starts nothing on a real device")
        func changedStatement() async throws {
            let fleet = try await installation.fleet("changed")
            let agent = try await fleet.agent("changed")
            let witness = try Witness(fleet.scratch)
            let job = try await fleet.submit(witness.script("never"), on: [agent.device])
            try await installation.postgres.execute(
                """
                UPDATE jobs SET statement = set_byte(statement, octet_length(statement) / 2,
                    get_byte(statement, octet_length(statement) / 2) # 1) WHERE id = '\(job)'
                """)
            try await agent.start()
            let run = try await fleet.outcome(job)
            #expect(run.state == .failed && run.reason == "rejected:signature", "\(run)")
            #expect(witness.lines.isEmpty)
            _ = try await agent.stop()
        }

        private func underway(_ name: String) async throws -> Underway {
            let fleet = try await installation.fleet(name)
            let agents = [
                try await fleet.onlineAgent("\(name)-1"), try await fleet.onlineAgent("\(name)-2"),
                try await fleet.onlineAgent("\(name)-3"),
            ]
            let (witness, gate) = (try Witness(fleet.scratch), "\(fleet.scratch.path)/gate-\(name)")
            var jobs: [JobID] = []
            for (index, agent) in [agents[0], agents[0], agents[0], agents[1], agents[2]].enumerated() {
                let script = witness.script("job \(index)", untilFile: gate, then: "echo done \(index)")
                jobs.append(try await fleet.submit(script, on: [agent.device]))
            }
            try await eventually("all runs have started") { witness.lines.count == jobs.count }
            return Underway(fleet: fleet, agents: agents, witness: witness, gate: gate, jobs: jobs)
        }

        @Test(
            "a role that is killed in mid-run and started again costs no run and repeats none",
            arguments: Installation.RoleName.allCases)
        func roleKilled(_ role: Installation.RoleName) async throws {
            let underway = try await underway("killed-\(role)")
            try await installation.crash(role)
            var later: [JobID] = []
            if role != .api {
                let script = underway.witness.script("meanwhile")
                later.append(try await underway.fleet.submit(script, on: [underway.agents[1].device]))
            }
            try await installation.start(role)
            for agent in underway.agents { try await underway.fleet.untilOnline(agent.device) }
            let script = underway.witness.script("later")
            later.append(try await underway.fleet.submit(script, on: [underway.agents[2].device]))
            try await underway.finish(also: later)
            try await underway.stop()
        }

        @Test(
            "runs that end while a role is away are settled once when it is back",
            arguments: Installation.RoleName.allCases)
        func roleAway(_ role: Installation.RoleName) async throws {
            let underway = try await underway("away-\(role)")
            try await installation.crash(role)
            try Witness.open(underway.gate)
            try await eventually("the scripts have ended") {
                try underway.agents.allSatisfy { try listDirectory("\($0.directory)/runs").isEmpty }
            }
            try await installation.start(role)
            try await underway.finish()
            try await underway.stop()
        }

        @Test(
            "an agent killed in mid-run reports unknown for what had started, and the device is usable again"
        )
        func agentKilled() async throws {
            let fleet = try await installation.fleet("agent-killed")
            let agent = try await fleet.onlineAgent("agent-killed")
            let witness = try Witness(fleet.scratch)
            let pids = "\(fleet.scratch.path)/agent-killed-pids"
            var jobs: [JobID] = []
            for index in 0..<3 {
                let script = Script(
                    .sh, "echo job \(index) >> \(witness.path); echo $$ >> \(pids); sleep 300")
                jobs.append(try await fleet.submit(script, on: [agent.device]))
            }
            try await eventually("all runs have started") { lines(of: pids).count == 3 }
            let processes = lines(of: pids).compactMap { Int32($0).flatMap { ProcessIdentity(pid: $0) } }
            #expect(processes.count == 3)
            try await agent.crash()
            try await agent.start()
            for job in jobs {
                let run = try await fleet.outcome(job)
                #expect(run.state == .unknown && run.attempt == 1, "\(run)")
            }
            #expect(
                processes.allSatisfy { !$0.isRunning }, "what was left of the runs is ended by the next start"
            )
            let last = try await fleet.submit(witness.script("job last"), on: [agent.device])
            #expect(try await fleet.outcome(last).state == .succeeded)
            #expect(witness.lines.sorted() == ["job 0", "job 1", "job 2", "job last"])
            _ = try await agent.stop()
        }

        @Test("jobs sent to an agent that is killed before it starts them run once when it is back")
        func agentKilledBeforeStart() async throws {
            let fleet = try await installation.fleet("agent-before")
            let agent = try await fleet.onlineAgent("agent-before")
            let witness = try Witness(fleet.scratch)
            try await agent.suspend()
            // The first are sent to an agent that never reads them, the others wait behind.
            var jobs: [JobID] = []
            for index in 0..<6 {
                jobs.append(try await fleet.submit(witness.script("job \(index)"), on: [agent.device]))
            }
            for job in jobs.prefix(Limits.runsPerDevice) { try await fleet.until(.dispatched, job) }
            try await agent.crash()
            #expect(witness.lines.isEmpty)
            try await agent.start()
            for job in jobs {
                let run = try await fleet.outcome(job)
                #expect(run.state == .succeeded && run.attempt == 1, "\(run)")
            }
            #expect(witness.lines.sorted() == (0..<6).map { "job \($0)" })
            _ = try await agent.stop()
        }

        @Test("a session whose socket is stopped, not closed, neither loses nor repeats its runs")
        func agentSuspended() async throws {
            let underway = try await underway("suspended")
            try await underway.agents[0].suspend()
            let later = try await underway.fleet.submit(
                underway.witness.script("later"), on: [underway.agents[0].device])
            try await underway.fleet.until(.dispatched, later)
            try Witness.open(underway.gate)
            try await underway.agents[0].resume()
            try await underway.finish(also: [later])
            try await underway.stop()
        }

        @Test("a gateway frozen until its heartbeat has lapsed goes on with its sessions when it wakes")
        func gatewayFrozen() async throws {
            let underway = try await underway("frozen")
            try await installation.suspend(.gateway)
            let device = underway.agents[0].device
            try await eventually("its sessions count no more") {
                try await !underway.fleet.api.device(device).online
            }
            let later = try await underway.fleet.submit(underway.witness.script("meanwhile"), on: [device])
            try Witness.open(underway.gate)
            try await installation.resume(.gateway)
            try await underway.finish(also: [later])
            try await underway.stop()
        }

        @Test("a worker frozen in mid-work hands over to another, and repeats nothing when it wakes")
        func workerFrozen() async throws {
            let fleet = try await installation.fleet("worker-frozen")
            let agents = [
                try await fleet.onlineAgent("handover-1"), try await fleet.onlineAgent("handover-2"),
            ]
            let witness = try Witness(fleet.scratch)
            func submit(_ names: Range<Int>) async throws -> [JobID] {
                let new = names.map { index in
                    NewJob(
                        kind: .script, target: .devices([agents[index % 2].device]),
                        script: witness.script("\(index)"))
                }
                return try await fleet.api.submit(NewJobs(jobs: new)).items.compactMap(\.id)
            }
            var jobs = try await submit(0..<30)
            try await eventually("some have started") { witness.lines.count > 2 }
            try await installation.suspend(.worker)
            let another = try await installation.startAnother(.worker)
            for job in jobs { #expect(try await fleet.outcome(job).state == .succeeded) }
            try await installation.resume(.worker)
            jobs += try await submit(30..<60)
            for job in jobs {
                let run = try await fleet.outcome(job)
                #expect(run.state == .succeeded && run.attempt == 1, "\(run)")
            }
            #expect(witness.lines.count == 60 && Set(witness.lines).count == 60)
            #expect(try await another.stop() == .exited(0))
            for agent in agents { _ = try await agent.stop() }
        }

        @Test("PostgreSQL restarted in mid-run costs no run and repeats none")
        func postgresRestarted() async throws {
            let underway = try await underway("postgres")
            try await installation.postgres.restart()
            for role in Installation.RoleName.allCases {
                #expect(await !installation.hasEnded(role), "the \(role) survives a restart of PostgreSQL")
            }
            try await underway.finish()
            let later = try await underway.fleet.submit(
                underway.witness.script("later"), on: [underway.agents[0].device])
            #expect(try await underway.fleet.outcome(later).state == .succeeded)
            try await underway.stop()
        }

        /// What Redis holds beside runs on devices: runs behind them, and one for an absent device.
        private func backlog(_ underway: Underway) async throws -> (
            queued: [JobID], absent: TestAgent, job: JobID
        ) {
            let (fleet, witness) = (underway.fleet, underway.witness)
            var queued: [JobID] = []
            for index in 0..<12 {
                queued.append(
                    try await fleet.submit(witness.script("queued \(index)"), on: [underway.agents[0].device])
                )
            }
            let filler = witness.script("filler", untilFile: underway.gate)
            queued.append(try await fleet.submit(filler, on: [underway.agents[0].device]))
            let absent = try await fleet.agent("absent-\(underway.gate.split(separator: "/").last ?? "")")
            return (queued, absent, try await fleet.submit(witness.script("absent"), on: [absent.device]))
        }

        @Test(
            "Redis wiped, or killed and empty, with runs on devices and a backlog loses and repeats nothing",
            arguments: ["FLUSHALL", "kill"])
        func redisLost(_ how: String) async throws {
            let underway = try await underway("redis-\(how)")
            let backlog = try await backlog(underway)
            if how == "kill" {
                try await installation.redis.crashAndRestartEmpty()
            } else {
                _ = try await installation.redis.command(how)
            }
            let later = try await underway.fleet.submit(
                underway.witness.script("later"), on: [underway.agents[2].device])
            try await backlog.absent.start()
            try await underway.finish(also: backlog.queued + [backlog.job, later])
            _ = try await backlog.absent.stop()
            try await underway.stop()
        }

        @Test("a hundred jobs run once each while every role is killed in turn and Redis is wiped")
        func everythingAtOnce() async throws {
            let fleet = try await installation.fleet("storm")
            var agents: [TestAgent] = []
            for index in 0..<3 { agents.append(try await fleet.onlineAgent("storm-\(index)")) }
            let witness = try Witness(fleet.scratch)
            var jobs: [JobID] = []
            for step in 0..<4 {
                let new = (0..<25).map { index in
                    NewJob(
                        kind: .script, target: .devices([agents[index % 3].device]),
                        script: witness.script("\(step).\(index)", then: "sleep 0.05; echo done"))
                }
                jobs += try await fleet.api.submit(NewJobs(jobs: new)).items.compactMap(\.id)
                try await eventually("some have started") { witness.lines.count > step * 25 }
                switch step {
                case 0: try await restart(.worker)
                case 1: try await restart(.gateway)
                case 2: _ = try await installation.redis.command("FLUSHALL")
                default: try await restart(.api)
                }
            }
            #expect(jobs.count == 100)
            for job in jobs {
                let run = try await fleet.outcome(job)
                #expect(run.state == .succeeded && run.attempt == 1, "\(run)")
            }
            #expect(witness.lines.count == 100 && Set(witness.lines).count == 100)
            for agent in agents { _ = try await agent.stop() }
        }

        private func restart(_ role: Installation.RoleName) async throws {
            try await installation.crash(role)
            try await installation.start(role)
        }
    }
}
