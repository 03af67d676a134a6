import Client
import Domain
import Glibc
import Process
import Testing
import Wire

extension EndToEndTests {
    /// `cloudrmm up` as its user starts, stops and loses it.
    @Suite(.serialized) struct UpTests {
        /// Processes whose command line names this installation's directory.
        private func processes(_ up: UpInstance) throws -> [ProcessIdentity] {
            try listDirectory("/proc").compactMap { Int32($0) }
                .filter { text(of: "/proc/\($0)/cmdline").contains(up.scratch.path) }
                .compactMap { ProcessIdentity(pid: $0) }
        }

        /// The names of their programs.
        private func programs(_ up: UpInstance) throws -> Set<String> {
            Set(try processes(up).compactMap(\.commandName))
        }

        /// Whether a server of this installation still lives; each holds its lock until it has really ended.
        private func serverLives(_ up: UpInstance) throws -> Bool {
            try ["postgres", "redis"].contains {
                try FileLock.holder(of: "\(up.data)/\($0).server.lock") != nil
            }
        }

        private func stop(_ up: UpInstance, _ signal: Int32 = SIGTERM) async throws {
            try up.process.child.signal(signal)
            try await eventually("a signal ends it", within: 10) { up.process.child.exit != nil }
            #expect(up.process.child.exit == .exited(0))
            #expect(!fileExists("\(up.data)/ready.json"))
            #expect(try !serverLives(up))
            let left = try programs(up)
            #expect(left.isEmpty, "\(left)")
        }

        @Test(
            "a signal stops everything; the next start goes on with the devices, jobs and ports of the first"
        )
        func twoStarts() async throws {
            let scratch = try Scratch()
            let first = try await UpInstance(scratch)
            let fleet = try await first.fleet("kept")
            let agent = try await fleet.onlineAgent("kept")
            let job = try await fleet.submit(Script(.sh, "echo kept"), on: [agent.device])
            let before = try await fleet.outcome(job)
            _ = try await agent.stop()
            try await stop(first)

            let second = try await UpInstance(scratch)
            for name in ["apiURL", "gatewayURL", "webURL", "operationsURL", "caCertificate"] {
                #expect(second.readiness[name] == first.readiness[name], "\(name)")
            }
            let api = second.api
            #expect(try await api.device(agent.device).id == agent.device)
            #expect(try await api.jobs(organization: fleet.organization).items.map(\.id) == [job])
            #expect(try await api.output(of: before.id).stdout == "kept\n")
            try await agent.start()
            let again = try await api.submit(
                NewJob(kind: .script, target: .devices([agent.device]), script: Script(.sh, "echo again")))
            try await eventually("the agent runs jobs of the second start") {
                try await api.job(again.id).counts == ["succeeded": 1]
            }
            let problem = await #expect(throws: Problem.self, "the key of the start before has been revoked")
            {
                try await first.api.jobs()
            }
            #expect(problem?.status == 401)
            _ = try await agent.stop()
            try await stop(second, SIGINT)
        }

        @Test("a second instance on the same data is refused and told the pid of the first, which goes on")
        func twoInstances() async throws {
            let up = try await UpInstance(Scratch())
            let second = try await tool(
                try Binaries.path("cloudrmm"),
                [
                    "up", "--data-dir", up.data, "--web-port", "0", "--api-port", "0", "--gateway-port", "0",
                    "--operations-port", "0",
                ])
            #expect(second.exit != .exited(0) && second.output.isEmpty, "\(second)")
            #expect(second.errors.contains("\(up.process.child.pid)"), "\(second.errors)")
            #expect(second.errors.contains(up.data), "\(second.errors)")
            #expect(fileExists("\(up.data)/ready.json"))
            #expect(try await up.api.partners().items.isEmpty)
            try await stop(up)
        }

        @Test(
            "after a kill nothing but agents is left; the next start takes the stale locks and a new agent"
        )
        func parentKilled() async throws {
            let scratch = try Scratch()
            let first = try await UpInstance(scratch, "--demo")
            defer {
                // Agents live on by intent; of a test that failed half-way none may.
                for agent in (try? processes(first)) ?? [] { _ = agent.signal(SIGKILL) }
            }
            let lock = "\(first.data)/demo-agent/lock"
            try await eventually("the demo's agent runs") { try FileLock.holder(of: lock) != nil }
            let leftover = try #require(try FileLock.holder(of: lock).flatMap { ProcessIdentity(pid: $0) })
            let device = try #require(try await first.api.devices().items.first?.id)
            try await eventually("it is online") { try await first.api.device(device).online }
            try await first.process.crash()
            try await eventually("the servers have ended", within: 20) { try !serverLives(first) }
            #expect(try programs(first) == ["cloudrmm-agent"])
            #expect(leftover.isRunning, "an agent outlives the server it talks to")

            let second = try await UpInstance(scratch, "--demo")
            try await eventually("another agent has taken its place") {
                guard let pid = try FileLock.holder(of: lock) else { return false }
                return pid != leftover.pid
            }
            #expect(!leftover.isRunning)
            #expect(try await second.api.devices().items.map(\.id) == [device])
            let job = try await second.api.submit(NewJob(kind: .ping, target: .devices([device])))
            try await eventually("the demo's device answers") {
                try await second.api.job(job.id).counts == ["succeeded": 1]
            }
            try await stop(second)
        }

        @Test("a port that somebody else has ends it with a sentence that names it, and nothing is left")
        func portsTaken() async throws {
            let up = try await UpInstance(Scratch())
            for name in ["web", "api", "gateway", "operations"] {
                let url = try #require(up.readiness["\(name)URL"])
                let port = try #require(url.split(separator: ":").last.map(String.init))
                let scratch = try Scratch()
                let other = try await tool(
                    try Binaries.path("cloudrmm"),
                    ["up", "--data-dir", "\(scratch.path)/data", "--\(name)-port", port]
                        + ["web", "api", "gateway", "operations"].filter { $0 != name }
                        .flatMap { ["--\($0)-port", "0"] })
                #expect(other.exit == .exited(1), "\(name): \(other)")
                #expect(other.errors.contains("cannot listen on 127.0.0.1 port \(port)"), "\(other.errors)")
                for server in ["postgres", "redis"] {
                    let lock = "\(scratch.path)/data/\(server).server.lock"
                    #expect(try FileLock.holder(of: lock) == nil, "\(server) is left")
                }
            }
            try await stop(up)
        }

        @Test(
            "the file that says where everything is is its owner's alone; the ready line has no secret"
        )
        func bootstrap() async throws {
            let up = try await UpInstance(Scratch())
            #expect((FileStatus("\(up.data)/ready.json")?.mode ?? 0) & 0o777 == 0o600)
            let line = try await up.process.line("ready")
            let key = try #require(up.readiness["apiKey"])
            #expect(!text(of: up.process.outputPath).contains(key))
            #expect(!line.contains(key) && line.contains("api="))
            let operations = try #require(up.readiness["operationsURL"])
            let curl = ["--silent", "--max-time", "10", "--write-out", " %{http_code}"]
            let metrics = try await tool("/usr/bin/curl", curl + ["\(operations)/metrics"]).required()
            #expect(metrics.contains("cloudrmm_gateway_sessions 0") && metrics.hasSuffix(" 200"))
            for measured in [
                "process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds",
                "cloudrmm_redis_connections_total", "cloudrmm_postgres_connections_total",
            ] {
                let line = metrics.split(separator: "\n").first { $0.hasPrefix("\(measured) ") }
                #expect(line.flatMap { Double($0.dropFirst(measured.count + 1)) }.map { $0 > 0 } == true)
            }
            let ready = try await tool("/usr/bin/curl", curl + ["\(operations)/readyz"]).required()
            #expect(ready == "database ok\nredis ok\n 200")
            let strange = try await tool(
                "/usr/bin/curl", curl + ["--header", "Host: evil.example", "\(operations)/metrics"])
            #expect(strange.output.hasSuffix(" 421"))
            let web = try #require(up.readiness["webURL"])
            let led = try await tool(
                "/usr/bin/curl", ["--silent", "--output", "/dev/null", "--write-out", "%{redirect_url}", web])
            #expect(led.output == "\(try #require(up.readiness["apiURL"]))/docs")
            // A refusal is counted by its code.
            _ = try await tool(
                "/usr/bin/curl",
                curl + ["--cacert", try #require(up.readiness["caCertificate"])]
                    + ["\(try #require(up.readiness["apiURL"]))/v1/jobs"])
            let after = try await tool("/usr/bin/curl", curl + ["\(operations)/metrics"]).required()
            #expect(after.contains(#"cloudrmm_api_events_total{event="refused.unauthorized"} 1"#), "\(after)")
            try await stop(up)
        }

        @Test(
            "a port that is none and a directory that is none end it with a sentence, and nothing runs"
        )
        func refusals() async throws {
            let scratch = try Scratch()
            try DurableFile.write([], to: "\(scratch.path)/file")
            let program = try Binaries.path("cloudrmm")
            let file = try await tool(program, ["up", "--data-dir", "\(scratch.path)/file"])
            #expect(file.exit != .exited(0) && file.errors.contains("\(scratch.path)/file"), "\(file)")
            let port = try await tool(
                program, ["up", "--data-dir", "\(scratch.path)/data", "--api-port", "70000"])
            #expect(port.exit != .exited(0) && port.errors.contains("70000"), "\(port)")
            #expect(!fileExists("\(scratch.path)/data"))
        }
    }
}
