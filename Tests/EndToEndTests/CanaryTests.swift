import Client
import Domain
import Outbound
import Process
import Testing
import Wire

extension EndToEndTests {
    /// A secret that is run through all that takes secrets, and then looked for everywhere.
    @Suite(.serialized, SeparateProcesses()) struct CanaryTests {
        private let installation: Installation
        private let key: String
        /// What stands in every value, and nowhere else.
        private let canary: String
        /// What scripts print beside it: must be found, so the search finds what is there.
        private let marker: String

        init() async throws {
            installation = try #require(Installation.current)
            let made = try await tool(
                try Binaries.path("cloudrmm"),
                ["keys", "create-administrator", "--keys-dir", installation.keys],
                environment: installation.environment
            ).required()
            key = String(made.prefix { $0 != "\n" })
            func random() throws -> String {
                try randomBytes(16).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
            }
            (canary, marker) = (try random(), try random())
        }

        private func verb(_ arguments: [String], input: String = "") async throws -> ToolResult {
            try await tool(
                try Binaries.path("cloudrmm"), arguments + ["--output", "json"],
                environment: [
                    ("API_URL", installation.apiURL), ("CLOUDRMM_API_KEY", key),
                    ("CLOUDRMM_CA", installation.certificateAuthority),
                ], input: input)
        }

        private func makeSecret(_ name: String, _ value: String, _ home: [String]) async throws -> SecretID {
            let made = try await verb(["secrets", "set", name] + home, input: value + "\n").required()
            return try Secret.decode(Array(made.utf8)).id
        }

        private func script(_ body: String, _ interpreter: Interpreter = .sh) throws -> Script {
            var script = Script(interpreter, body)
            script.secrets = [
                SecretUse(name: try #require(SecretName("in_variable")), environment: "A_SECRET"),
                SecretUse(name: try #require(SecretName("of_lines")), environment: "B_SECRET"),
                SecretUse(name: try #require(SecretName("as_input")), environment: nil),
            ]
            return script
        }

        /// Prints all secrets whole, in single bytes, and around the place where output is left out.
        private func printing(_ interpreter: Interpreter) -> String {
            switch interpreter {
            case .sh, .bash:
                """
                line=$(cat)
                echo \(marker) "$A_SECRET" "$B_SECRET" "$line"
                echo "$line" | while read -r word; do echo "$word" >&2; done
                echo "$A_SECRET" | fold -w 1 | while read -r byte; do printf '%s' "$byte"; done
                head -c 131000 /dev/zero | tr '\\0' x
                printf '%s' "$A_SECRET$A_SECRET$A_SECRET$A_SECRET$A_SECRET"
                head -c 200000 /dev/zero | tr '\\0' x; printf '%s' "$B_SECRET"
                """
            case .python3:
                """
                import os, sys, time
                line = sys.stdin.read()
                print("\(marker)", os.environ["A_SECRET"], os.environ["B_SECRET"], line)
                for byte in line:
                    os.write(2, byte.encode())
                sys.stdout.flush()
                print("x" * 131000 + os.environ["A_SECRET"] * 9 + "y" * 200000)
                """
            }
        }

        @Test("a canary that was run through all job kinds is found nowhere afterwards, a marker is")
        func canaryRun() async throws {
            let fleet = try await installation.fleet("canary")
            let agent = try await fleet.agent("canary")
            let organization = ["--organization", "\(fleet.organization)"]
            let inVariable = try await makeSecret("in_variable", "v-\(canary)-v", organization)
            let lines = "-----BEGIN \(canary)\n\(canary)-second\n-----END-----"
            _ = try await makeSecret("of_lines", lines, organization)
            _ = try await makeSecret("as_input", "i-\(canary)-i", ["--site", "\(fleet.site)"])
            var jobs: [JobID] = []
            // Submitted while the device is away, and delivered when it comes.
            for interpreter in Interpreter.allCases {
                jobs.append(
                    try await fleet.submit(script(printing(interpreter), interpreter), on: [agent.device]))
            }
            try await agent.start()
            try await fleet.untilOnline(agent.device)
            for job in jobs {
                let run = try await fleet.outcome(job)
                #expect(run.state == .succeeded, "\(run)")
                let output = try await fleet.api.output(of: run.id)
                #expect(output.stdout.contains(marker) && output.stdout.contains("*****"))
                #expect(output.stderr.allSatisfy { $0 == "*" || $0 == "\n" }, "\(output.stderr)")
                #expect(!output.stderr.isEmpty)
            }
            jobs += try await endings(fleet, agent)
            jobs.append(try await whileRunning(fleet, agent))
            jobs.append(try await byVerb(fleet, agent))
            for kind in [JobKind.ping, .sysinfo] {
                let job = try await fleet.api.submit(NewJob(kind: kind, target: .devices([agent.device]))).id
                #expect(try await fleet.outcome(job).state == .succeeded)
                jobs.append(job)
            }
            // One that is never sent, since its secret is gone.
            _ = try await agent.stop()
            let late = try await fleet.submit(script("true"), on: [agent.device])
            try await fleet.api.remove(inVariable)
            try await agent.start()
            let refused = try await fleet.outcome(late)
            #expect(refused.state == .failed && refused.reason == "rejected:secret", "\(refused)")
            #expect(try await fleet.api.output(of: refused.id).stderr.contains("taken away"))
            jobs.append(late)
            try await lookEverywhere(fleet, jobs)
            _ = try await agent.stop()
        }

        /// Runs that fail and are tried again, time out in the middle of a secret, and are cancelled.
        private func endings(_ fleet: Fleet, _ agent: TestAgent) async throws -> [JobID] {
            let witness = try Witness(fleet.scratch)
            var failing = NewJob(
                kind: .script, target: .devices([agent.device]),
                script: try script(
                    "echo started >> \(witness.path); echo \(marker) \"$A_SECRET\"; "
                        + "test \"$(grep -c . \(witness.path))\" -ge 2 || exit 5"), timeoutSeconds: 60)
            failing.retry = Retry(maximumAttempts: 3, backoffSeconds: 1, maximumBackoffSeconds: 1)
            let failed = try await fleet.api.submit(failing).id
            let run = try await fleet.outcome(failed)
            #expect(run.state == .succeeded && run.attempt == 2, "a retry is given its secrets too: \(run)")
            let half = "printf '%s' \"${A_SECRET%??}\"; sleep 60"
            let timed = try await fleet.submit(script(half), on: [agent.device], timeoutSeconds: 1)
            let timedOut = try await fleet.outcome(timed)
            #expect(timedOut.state == .timedOut)
            let shown = try await fleet.api.output(of: timedOut.id).stdout
            #expect(!shown.isEmpty && shown.allSatisfy { $0 == "*" }, "\(shown)")
            let waiting = try await fleet.submit(
                script("echo begun >> \(witness.path); cat; sleep 60"), on: [agent.device])
            try await eventually("it runs") { witness.starts("begun") == 1 }
            _ = try await fleet.api.cancel(waiting)
            #expect(try await fleet.outcome(waiting).state == .cancelled)
            return [failed, timed, waiting]
        }

        /// A script at work has the secret in its environment; no command line of any process has it.
        private func whileRunning(_ fleet: Fleet, _ agent: TestAgent) async throws -> JobID {
            let (pid, gate) = ("\(fleet.scratch.path)/canary-pid", "\(fleet.scratch.path)/canary-gate")
            let job = try await fleet.submit(
                script(
                    "echo $$ > \(pid).new; mv \(pid).new \(pid); while ! test -e \(gate); do sleep 0.05; done"
                ),
                on: [agent.device])
            try await eventually("it says who it is") { fileExists(pid) }
            let process = try #require(Int32(text(of: pid).prefix { $0 != "\n" }))
            #expect(text(of: "/proc/\(process)/environ").contains("A_SECRET=v-\(canary)-v"))
            #expect(text(of: "/proc/\(process)/cmdline").contains("/runs/"), "command lines are seen")
            for entry in try listDirectory("/proc") where Int32(entry) != nil {
                #expect(!text(of: "/proc/\(entry)/cmdline").contains(canary), "process \(entry)")
            }
            let files = try await search(for: canary, in: agent.directory)
            #expect(files.isEmpty, "in the agent's directory while it runs: \(files)")
            try Witness.open(gate)
            #expect(try await fleet.outcome(job).state == .succeeded)
            return job
        }

        /// The same from the command line, which has only names.
        private func byVerb(_ fleet: Fleet, _ agent: TestAgent) async throws -> JobID {
            let file = "\(fleet.scratch.path)/canary.sh"
            try DurableFile.write(Array("#!/bin/sh\necho \(marker) \"$V\"; cat\n".utf8), to: file)
            let said = try await verb([
                "jobs", "run", file, "--device", "\(agent.device)", "--secret", "in_variable=V",
                "--stdin-secret", "as_input",
            ])
            #expect(said.exit == .exited(0), "\(said)")
            #expect(!said.output.contains(canary) && !said.errors.contains(canary))
            let page = try await fleet.api.jobs(PageOptions(limit: 1))
            return try #require(page.items.first).id
        }

        private func lookEverywhere(_ fleet: Fleet, _ jobs: [JobID]) async throws {
            let scratch = installation.scratch.path
            try await installation.postgres.execute("CHECKPOINT")
            try Directory.make("\(scratch)/dumps", mode: 0o777)
            try await installation.postgres.dump(to: "\(scratch)/dumps/database.sql")
            _ = try await installation.redis.command("CONFIG", "SET", "rdbcompression", "no")
            let redis = try await tool(
                "/usr/bin/redis-cli",
                ["-s", installation.redis.socket, "--rdb", "\(scratch)/dumps/redis.rdb"])
            _ = try redis.required()
            let answers = try await answers(fleet, jobs)
            try DurableFile.write(answers, to: "\(scratch)/dumps/answers")
            // Servers' data, logs of all roles, agents' directories, dumps and answers: all lie there.
            let found = try await search(for: canary, in: scratch)
            let around = try await context(of: canary, in: found)
            #expect(found == [], "\(around)")
            let marked = try await search(for: marker, in: scratch)
            for place in ["/dumps/database.sql", "/dumps/answers"] {
                #expect(
                    marked.contains { $0.hasSuffix(place) }, "the search does not find a marker: \(marked)")
            }
            try DurableFile.write(Array("x\(Self.forms(of: canary)[3])".utf8), to: "\(scratch)/dumps/planted")
            let withPlanted = try await search(for: canary, in: scratch)
            #expect(withPlanted.contains("\(scratch)/dumps/planted"), "what is planted is found")
            try removeFile("\(scratch)/dumps/planted")
        }

        /// All that the API says about what was done.
        private func answers(_ fleet: Fleet, _ jobs: [JobID]) async throws -> [UInt8] {
            let api = RawAPI(
                url: installation.apiURL, certificateAuthority: installation.certificateAuthority)
            var paths = [
                "/v1/secrets", "/v1/audit?limit=500", "/v1/jobs", "/v1/devices", "/v1/dead-letters",
                "/v1/tasks", "/v1/queues", "/v1/webhooks", "/openapi.json",
            ]
            for job in jobs {
                paths += ["", "/runs", "/explain"].map { "/v1/jobs/\(job)\($0)" }
                for run in try await fleet.api.runs(of: job).items {
                    paths += ["", "/output", "/explain"].map { "/v1/runs/\(run.id)\($0)" }
                }
            }
            var answers: [UInt8] = []
            for path in paths {
                let answer = try await api.send("GET", path, key: key)
                #expect(answer.status == 200, "\(path)")
                answers += answer.body + Array("\n".utf8)
            }
            #expect(String(decoding: answers, as: UTF8.self).contains("secrets.create"))
            return answers
        }

        /// The text itself, its bytes in hexadecimal, and what base64 makes of it at each of three places.
        private static func forms(of text: String) -> [String] {
            let bytes = Array(text.utf8)
            let hex = bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
            let encoded = (0..<3).map { start in
                let part = Array(bytes[start..<start + (bytes.count - start) / 3 * 3])
                return String(decoding: Base64Bytes(part).json.dropFirst().dropLast(), as: UTF8.self)
            }
            return [text, hex, hex.uppercased()] + encoded
        }

        /// The files below a directory that hold a text in any of its forms.
        private func search(for text: String, in directory: String) async throws -> [String] {
            let patterns = Self.forms(of: text).flatMap { ["-e", $0] }
            let found = try await tool("/usr/bin/grep", ["-rlaF"] + patterns + [directory])
            try #require(found.exit == .exited(0) || found.exit == .exited(1), "\(found)")
            return found.output.split(separator: "\n").map(String.init).sorted()
        }

        /// What stands around the first places of a text in files.
        private func context(of text: String, in files: [String]) async throws -> String {
            guard !files.isEmpty else { return "" }
            let patterns = Self.forms(of: text).joined(separator: "|")
            let around = ["-oaE", "-m", "3", ".{0,60}(\(patterns)).{0,30}"] + files
            return String(try await tool("/usr/bin/grep", around).output.prefix(2_000))
        }
    }
}
