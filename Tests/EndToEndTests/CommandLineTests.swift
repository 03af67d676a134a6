import Client
import Domain
import Glibc
import Process
import Testing
import Wire

extension EndToEndTests.HealthyTests {
    /// The operator's command line: what it prints, and the code with which it ends.
    @Suite(.serialized) struct CommandLineTests {
        private let up: UpInstance

        init() throws { up = try #require(UpInstance.current) }

        private func cloudrmm(
            _ arguments: String..., environment: [(String, String)] = []
        ) async throws -> ToolResult {
            try await tool(
                try Binaries.path("cloudrmm"), arguments + ["--data-dir", up.data], environment: environment)
        }

        private func script(_ text: String) throws -> String {
            let path = "\(up.scratch.path)/command-line-\(UInt32.random(in: 0 ... .max)).sh"
            try DurableFile.write(Array(text.utf8), to: path, mode: 0o600)
            return path
        }

        @Test(
            "a job that succeeds ends with 0, one that fails with 1; output and errors go where they belong")
        func outcomes() async throws {
            let agent = try await up.fleet("cli outcomes").onlineAgent("cli-outcomes")
            let device = agent.device.description
            let good = try await cloudrmm(
                "jobs", "run", try script("echo \"out $1 $COLOR\"; echo err >&2"), "--device", device,
                "--arg", "one", "--env", "COLOR=red")
            #expect(good.exit == .exited(0))
            #expect(good.output == "out one red\n")
            #expect(good.errors.contains("1 succeeded") && good.errors.hasSuffix("err\n"), "\(good.errors)")
            #expect(!good.errors.contains("\u{1B}"), "plain lines where nobody looks")

            let bad = try await cloudrmm(
                "jobs", "run", try script("echo half; exit 3"), "--device", device, "--output", "json")
            #expect(bad.exit == .exited(1))
            let json = try JSON.parse(Array(bad.output.utf8))
            guard case .object(let members) = json else { throw TooLate(description: bad.output) }
            #expect(members.map(\.name) == ["job", "runs", "output"])
            #expect(bad.output.contains(#""exitCode":3"#) && bad.output.contains(#""stdout":"half\n""#))

            let late = try await cloudrmm(
                "jobs", "run", try script("sleep 30"), "--device", device, "--timeout", "1")
            #expect(late.exit == .exited(1))
            _ = try await agent.stop()
        }

        @Test("show, cancel, runs output and tokens do what they say")
        func verbs() async throws {
            let fleet = try await up.fleet("cli verbs")
            let agent = try await fleet.onlineAgent("cli-verbs")
            let job = try await fleet.submit(Script(.sh, "echo begun; sleep 60"), on: [agent.device])
            try await fleet.until(.running, job)
            let shown = try await cloudrmm("jobs", "show", job.description).required()
            #expect(shown.contains("1 running") && shown.contains(agent.device.description), "\(shown)")
            _ = try await cloudrmm("jobs", "cancel", job.description).required()
            let run = try await fleet.outcome(job)
            #expect(run.state == .cancelled)
            #expect(try await cloudrmm("runs", "output", run.id.description).required() == "begun\n")
            let watched = try await cloudrmm("jobs", "watch", job.description)
            #expect(watched.exit == .exited(1), "it did not succeed")
            let again = try await cloudrmm("jobs", "cancel", job.description)
            #expect(again.exit == .exited(2) && again.errors.contains("cancelled"), "\(again.errors)")
            let token = try await cloudrmm(
                "tokens", "create", "--site", fleet.site.description, "--output", "json"
            ).required()
            #expect(token.contains(#""token":""#))
            let devices = try await cloudrmm("devices", "list", "--output", "json").required()
            #expect(devices.contains(agent.device.description))
            _ = try await agent.stop()
        }

        @Test("runs and jobs are explained, as text and as JSON; what is not there is refused")
        func explained() async throws {
            let fleet = try await up.fleet("cli explain")
            let agent = try await fleet.agent("cli-explain")
            let job = try await fleet.submit(Script(.sh, "echo ran"), on: [agent.device])
            let run = try #require(try await fleet.api.runs(of: job).items.first).id.description
            try await eventually("it waits for its device") {
                try await cloudrmm("runs", "explain", run).required().contains("is offline")
            }
            let waiting = try await cloudrmm("runs", "explain", run).required()
            #expect(waiting.hasPrefix("It waits for device "), "\(waiting)")
            #expect(waiting.contains("never heard yet") && waiting.contains("state waiting, expires "))
            let whole = try await cloudrmm("jobs", "explain", job.description).required()
            #expect(whole.contains("1 waits for a device that is offline"), "\(whole)")
            for word in ["RUNS", "WAIT FOR", "deviceOffline", run] {
                #expect(whole.contains(word), "\(word): \(whole)")
            }
            _ = try await cloudrmm("jobs", "pause", job.description).required()
            let both = try await cloudrmm("runs", "explain", run).required()
            #expect(both.contains("After that it would wait for: jobPaused"), "\(both)")
            let json = try await cloudrmm("runs", "explain", run, "--output", "json").required()
            #expect(json.contains(#""waitsFor":"deviceOffline""#), "\(json)")
            let jobJSON = try await cloudrmm("jobs", "explain", job.description, "--output", "json")
                .required()
            #expect(jobJSON.contains(#""groups":[{"#) && jobJSON.contains(#""deviceOffline""#), "\(jobJSON)")
            _ = try await cloudrmm("jobs", "resume", job.description).required()
            try await agent.start()
            #expect(try await fleet.outcome(job).state == .succeeded)
            let ended = try await cloudrmm("runs", "explain", run).required()
            #expect(ended.hasPrefix("It succeeded at "), "\(ended)")
            for verb in ["runs", "jobs"] {
                let none = try await cloudrmm(verb, "explain", "01900000-0000-7000-8000-00000000000a")
                #expect(none.exit == .exited(2) && !none.errors.isEmpty, "\(none.errors)")
                let bad = try await cloudrmm(verb, "explain", "nonsense")
                #expect(bad.exit == .exited(2), "\(bad.errors)")
            }
            _ = try await agent.stop()
        }

        @Test("bad usage and refusals end with 2, an API that is away with 3, each with a sentence")
        func failures() async throws {
            for arguments in [
                ["jobs", "run"], ["jobs", "show", "no-id"], ["jobs", "nonsense"],
                ["jobs", "list", "--limit", "x"],
            ] {
                let result = try await tool(try Binaries.path("cloudrmm"), arguments)
                #expect(result.exit == .exited(2), "\(arguments): \(result)")
                #expect(!result.errors.isEmpty && result.output.isEmpty, "\(arguments)")
            }
            let unknown = try await cloudrmm("jobs", "show", JobID.new(at: Instant(seconds: 1)).description)
            #expect(unknown.exit == .exited(2) && !unknown.errors.isEmpty)
            let away = try await tool(
                try Binaries.path("cloudrmm"), ["jobs", "list"],
                environment: [
                    ("API_URL", "https://localhost:\(try freePort())"), ("CLOUDRMM_API_KEY", "crmm_x"),
                ])
            #expect(away.exit == .exited(3) && away.errors.contains("is not reached"), "\(away.errors)")
        }

        @Test("a key and an address from two places are not brought together")
        func mixture() async throws {
            for variable in [("CLOUDRMM_API_KEY", "crmm_secret"), ("API_URL", "https://localhost:1")] {
                let result = try await cloudrmm("jobs", "list", environment: [variable])
                #expect(result.exit == .exited(2) && result.errors.contains("is given without"), "\(result)")
            }
            let planted = try up.scratch.directory("planted")
            try DurableFile.write(Array("{}".utf8), to: "\(planted)/ready.json", mode: 0o644)
            let result = try await tool(
                try Binaries.path("cloudrmm"), ["jobs", "list", "--data-dir", planted])
            #expect(result.exit == .exited(2) && result.errors.contains("is not yours alone"), "\(result)")
        }

        @Test("on a terminal progress stays on its line, and what a device prints cannot steer it")
        func terminal() async throws {
            let agent = try await up.fleet("cli terminal").onlineAgent("cli-terminal")
            let file = try script("printf 'a\\033]0;owned\\007b\\n'")
            let command =
                "\(try Binaries.path("cloudrmm")) jobs run \(file) --device \(agent.device) "
                + "--data-dir \(up.data)"
            // script(1) is a terminal's other end.
            let shown = try await tool("/usr/bin/script", ["-qec", command, "/dev/null"]).required()
            #expect(shown.contains("\r\u{1B}[K"), "progress replaces its line")
            #expect(shown.contains("a\u{FFFD}]0;owned\u{FFFD}b"), "\(shown.debugDescription)")
            #expect(!shown.contains("\u{1B}]0;"))
            _ = try await agent.stop()
        }

        @Test("a fleet of simulated agents answers every job that is submitted")
        func load() async throws {
            let fleet = try await up.fleet("load")
            let program = try Binaries.path("cloudrmm-load")
            let api = [
                "--api-url", try #require(up.readiness["apiURL"]), "--ca",
                try #require(up.readiness["caCertificate"]),
            ]
            let key = [("CLOUDRMM_API_KEY", try #require(up.readiness["apiKey"]))]
            let agents = try Running(
                program, ["agents", "--site", fleet.site.description, "--count", "20"] + api,
                environment: key, log: "\(up.scratch.path)/load-agents")
            try await eventually("20 agents hold a session") {
                lines(of: agents.outputPath).last?.contains(#""sessions":20"#) == true
            }
            let said = try await tool(
                program,
                [
                    "jobs", "--devices-of", fleet.organization.description, "--rate", "50", "--duration", "2",
                ] + api, environment: key
            ).required()
            #expect(said.contains(#""succeeded":100"#), "\(said)")
            #expect(try await agents.stop() == .exited(0))
            let last = try #require(lines(of: agents.outputPath).last)
            #expect(last.contains(#""acknowledged":100"#) && last.contains(#""refused":0"#), "\(last)")
            let without = try await tool(program, ["jobs", "--devices-of", fleet.site.description] + api)
            #expect(without.errors.contains("CLOUDRMM_API_KEY"))
        }
    }
}
