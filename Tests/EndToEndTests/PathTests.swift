import Client
import Domain
import Glibc
import Process
import Testing
import Wire

extension EndToEndTests.HealthyTests {
    /// The path of a job from the API to a real script and back, with everything healthy.
    @Suite(.serialized) struct PathTests {
        private func fleet(_ name: String) async throws -> Fleet {
            try await #require(UpInstance.current).fleet(name)
        }

        @Test("output, exit code, arguments, input, variables and directory come through as they were given")
        func scripts() async throws {
            let fleet = try await fleet("scripts")
            let agent = try await fleet.onlineAgent("scripts")
            var withArguments = Script(.bash, #"[[ -n $BASH_VERSION ]] && printf '%s|' "$#" "$@""#)
            withArguments.args = ["a b", "", "ü*", "-n"]
            var withInput = Script(.sh, "tr a-z A-Z")
            withInput.stdin = "one\ntwo"
            var withVariables = Script(.sh, #"printf '%s' "$GREETING""#)
            withVariables.env = ["GREETING": "grüße; $(id) 'quoted'\nand a second line"]
            var inDirectory = Script(.sh, "pwd")
            inDirectory.workingDirectory = "/usr"
            var nowhere = Script(.sh, "pwd")
            nowhere.workingDirectory = "/no/such/place"
            var python = Script(
                .python3, "import sys\nprint(sys.version_info[0], sys.argv[1], sys.stdin.read())")
            (python.args, python.stdin) = (["żółć"], "日本")
            let expectations: [(Script, RunState, Int?, String?, String, String)] = [
                (
                    Script(.sh, "printf 'grüße 日本語 🚀\\n'; printf 'żółć\\n' >&2"), .succeeded, 0, nil,
                    "grüße 日本語 🚀\n",
                    "żółć\n"
                ),
                (Script(.sh, "echo before; exit 7"), .failed, 7, nil, "before\n", ""),
                (Script(.sh, "kill -9 $$"), .failed, nil, "signal:9", "", ""),
                (withArguments, .succeeded, 0, nil, "4|a b||ü*|-n|", ""),
                (withInput, .succeeded, 0, nil, "ONE\nTWO", ""),
                (withVariables, .succeeded, 0, nil, "grüße; $(id) 'quoted'\nand a second line", ""),
                (inDirectory, .succeeded, 0, nil, "/usr\n", ""),
                (nowhere, .failed, nil, "workingDirectoryMissing", "", ""),
                (python, .succeeded, 0, nil, "3 żółć 日本\n", ""),
            ]
            var jobs: [JobID] = []
            for (script, _, _, _, _, _) in expectations {
                jobs.append(try await fleet.submit(script, on: [agent.device]))
            }
            for (job, (script, state, exitCode, reason, stdout, stderr)) in zip(jobs, expectations) {
                let run = try await fleet.outcome(job)
                #expect(run.state == state, "\(script.body)")
                #expect(run.exitCode == exitCode && run.reason == reason, "\(script.body): \(run)")
                #expect(run.attempt == 1 && run.startedAt != nil && run.finishedAt != nil, "\(run)")
                let output = try await fleet.api.output(of: run.id)
                #expect(output.stdout == stdout && output.stderr == stderr, "\(script.body): \(output)")
                #expect(output.stdoutBytes == stdout.utf8.count && output.stderrBytes == stderr.utf8.count)
                #expect(!output.truncated)
            }
            #expect(
                try listDirectory("\(agent.directory)/runs").isEmpty, "private directories go with their runs"
            )
        }

        @Test("of 5 MB of output the beginning and the end are kept, and every byte is counted")
        func muchOutput() async throws {
            let fleet = try await fleet("output")
            let agent = try await fleet.onlineAgent("output")
            let body = "printf BEGIN; head -c 4999992 /dev/zero | tr '\\0' x; printf END; printf few >&2"
            let run = try await fleet.outcome(fleet.submit(Script(.sh, body), on: [agent.device]))
            #expect(run.state == .succeeded)
            let output = try await fleet.api.output(of: run.id)
            #expect(output.stdoutBytes == 5_000_000 && output.stderrBytes == 3 && output.truncated)
            #expect(output.stdout.hasPrefix("BEGINxxx") && output.stdout.hasSuffix("xxxEND"))
            let kept = Limits.outputHeadBytes + Limits.outputTailBytes
            #expect(output.stdout.utf8.count { $0 == UInt8(ascii: "x") } == kept - 8)
            #expect(
                output.stdout.contains("\(5_000_000 - kept)"), "the marker says how many bytes are missing")
            #expect(output.stderr == "few")
        }

        /// A script whose processes say their ids: one that ignores TERM, one in a session of its own that
        /// ignores it too, one that does neither, and the script.
        private func stubborn(_ pids: String) -> Script {
            Script(
                .bash,
                """
                (trap '' TERM; echo $BASHPID >> \(pids); while :; do sleep 1; done) &
                setsid sh -c 'trap "" TERM; echo $$ >> \(pids); while :; do sleep 1; done' &
                sh -c 'echo $$ >> \(pids); exec sleep 300' &
                echo $$ >> \(pids)
                wait
                """)
        }

        private func processes(_ pids: String) async throws -> [ProcessIdentity] {
            try await eventually("four processes run") { lines(of: pids).count == 4 }
            return try lines(of: pids).map { pid in
                try #require(Int32(pid).flatMap { ProcessIdentity(pid: $0) }, "process \(pid) runs")
            }
        }

        @Test(
            "a timeout and a cancel end the whole tree: sessions of their own and processes that ignore TERM")
        func wholeTreeEnds() async throws {
            let fleet = try await fleet("trees")
            let agent = try await fleet.onlineAgent("trees")
            let (first, second) = ("\(fleet.scratch.path)/timed-out", "\(fleet.scratch.path)/cancelled")
            let timed = try await fleet.submit(stubborn(first), on: [agent.device], timeoutSeconds: 3)
            let cancelled = try await fleet.submit(stubborn(second), on: [agent.device], timeoutSeconds: 300)
            let started = (try await processes(first), try await processes(second))
            _ = try await fleet.api.cancel(cancelled)
            let ends = (try await fleet.outcome(timed), try await fleet.outcome(cancelled))
            #expect(ends.0.state == .timedOut && ends.1.state == .cancelled, "\(ends)")
            for process in started.0 + started.1 {
                #expect(!process.isRunning, "\(process) outlived its run")
            }
            #expect(ends.1.attempt == 1)
        }

        @Test(
            "a device that is offline at submit runs the job once when it comes, unless that was cancelled"
        )
        func offlineAtSubmit() async throws {
            let fleet = try await fleet("offline")
            let agent = try await fleet.agent("offline")
            let (wanted, unwanted) = (try Witness(fleet.scratch), try Witness(fleet.scratch))
            let job = try await fleet.submit(wanted.script(), on: [agent.device])
            let cancelled = try await fleet.submit(unwanted.script(), on: [agent.device])
            try await fleet.until(.waiting, job)
            try await fleet.until(.waiting, cancelled)
            _ = try await fleet.api.cancel(cancelled)
            #expect(try await fleet.outcome(cancelled).state == .cancelled)
            #expect(try await fleet.api.device(agent.device).online == false)
            try await agent.start()
            let run = try await fleet.outcome(job)
            #expect(run.state == .succeeded && run.attempt == 1)
            let last = try await fleet.outcome(fleet.submit(Script(.sh, "true"), on: [agent.device]))
            #expect(last.state == .succeeded)
            #expect(wanted.starts() == 1 && unwanted.starts() == 0)
        }

        @Test("a cancelled run that is still queued behind others never starts")
        func cancelQueued() async throws {
            let fleet = try await fleet("queued")
            let agent = try await fleet.onlineAgent("queued")
            let (witness, gate) = (try Witness(fleet.scratch), "\(fleet.scratch.path)/queued-gate")
            var busy: [JobID] = []
            for _ in 0..<Limits.runsPerDevice {
                busy.append(
                    try await fleet.submit(witness.script("busy", untilFile: gate), on: [agent.device]))
            }
            try await eventually("the device is busy") { witness.starts("busy") == Limits.runsPerDevice }
            let behind = try await fleet.submit(witness.script("behind"), on: [agent.device])
            try await fleet.until(.queued, behind)
            _ = try await fleet.api.cancel(behind)
            #expect(try await fleet.outcome(behind).state == .cancelled)
            try Witness.open(gate)
            for job in busy { #expect(try await fleet.outcome(job).state == .succeeded) }
            #expect(witness.starts("behind") == 0 && witness.starts("busy") == Limits.runsPerDevice)
        }

        @Test("ping and sysinfo answer, and the stream of a job's events ends with its end")
        func pingAndSysinfo() async throws {
            let fleet = try await fleet("facts")
            let agent = try await fleet.onlineAgent("facts")
            let ping = try await fleet.api.submit(NewJob(kind: .ping, target: .devices([agent.device])))
            var states: [JobState] = []
            for try await job in fleet.api.events(of: ping.id) { states.append(job.state) }
            #expect(states.last == .completed, "\(states)")
            #expect(try await fleet.outcome(ping.id).state == .succeeded)
            let sysinfo = try await fleet.api.submit(NewJob(kind: .sysinfo, target: .devices([agent.device])))
            let run = try await fleet.outcome(sysinfo.id)
            #expect(run.state == .succeeded)
            let facts = try JSON.parse(Array(try await fleet.api.output(of: run.id).stdout.utf8))
            guard case .integer(let bytes) = facts["memory"]?["totalBytes"] else {
                Issue.record("no memory in \(facts)")
                return
            }
            #expect(bytes > 1 << 20)
        }

        @Test("a job for an organization or a site runs once on each of its devices and on no other")
        func manyDevices() async throws {
            let fleet = try await fleet("many")
            let otherSite = try await fleet.withNewSite("elsewhere")
            let agents = [
                try await fleet.onlineAgent("many-1"), try await fleet.onlineAgent("many-2"),
                try await otherSite.onlineAgent("many-3"),
            ]
            let witness = try Witness(fleet.scratch)
            for (target, expected) in [(Target.organization(fleet.organization), 3), (.site(fleet.site), 2)] {
                let name = "\(expected)"
                let job = try await fleet.api.submit(
                    NewJob(kind: .script, target: target, script: witness.script(name)))
                let runs = try await fleet.settled(job.id)
                #expect(runs.count == expected && runs.allSatisfy { $0.state == .succeeded }, "\(runs)")
                #expect(Set(runs.map(\.deviceId)) == Set(agents.prefix(expected).map(\.device)))
                #expect(try await fleet.api.job(job.id).counts == ["succeeded": expected])
                #expect(witness.starts(name) == expected)
            }
        }
    }
}
