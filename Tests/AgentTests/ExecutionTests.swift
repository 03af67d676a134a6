import Domain
import Logging
import Process
import Synchronization
import Testing
import Wire

@testable import Agent

@Suite("Execution", .timeLimit(.minutes(1))) struct ExecutionTests {
    private let fixture: Fixture

    init() throws { fixture = try Fixture() }

    private func perform(
        _ script: Script, timeoutSeconds: Int = 30, in directory: String,
        attach: @Sendable (@escaping @Sendable () -> Void) -> Bool = { _ in false }
    ) async -> ExecutionResult {
        await execution(script, timeoutSeconds: timeoutSeconds, in: directory).perform(attach: attach)
    }

    private var silent: Logger { Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }) }

    private func execution(_ script: Script, timeoutSeconds: Int = 30, in directory: String) -> Execution {
        let job = fixture.job(.script, script, timeoutSeconds: timeoutSeconds)
        return Execution(
            job: job, key: AttemptKey(job: job.job, attempt: 1), directory: "\(directory)/run",
            logger: silent)
    }

    private func text(_ excerpt: OutputExcerpt) -> String {
        String(decoding: excerpt.head.bytes, as: UTF8.self)
    }

    @Test(
        "each interpreter gets arguments, input and exactly the environment that is due",
        arguments: Interpreter.allCases)
    func interpreters(_ interpreter: Interpreter) async throws {
        try await withDirectory { directory in
            let body =
                interpreter == .python3
                ? "import os, sys\nprint(sys.argv[1:], sys.stdin.read(), *sorted(os.environ), sep='\\n')"
                : "printf '%s|' \"$@\"; cat; echo; env | cut -d= -f1 | sort"
            var script = Script(interpreter, body)
            script.args = ["a b", "ü"]
            script.env = ["EXTRA": "1", "LANG": "C"]
            script.stdin = "in\n"
            let result = await perform(script, in: directory)
            #expect(result.outcome == .succeeded && result.exitCode == 0)
            let output = text(result.stdout)
            #expect(output.contains("ü") && output.contains("in"))
            for name in [
                "CLOUDRMM_JOB", "CLOUDRMM_RUN", "EXTRA", "HOME", "LANG", "LOGNAME", "PATH", "TMPDIR", "USER",
            ] {
                #expect(output.contains("\n\(name)\n"), "\(name) is missing in \(output)")
            }
            let own = Set([
                "PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE", "CLOUDRMM_JOB", "CLOUDRMM_RUN", "EXTRA", "HOME",
                "LANG", "LOGNAME", "PATH", "TMPDIR", "USER",
            ])
            let others = output.split(separator: "\n").filter {
                $0.allSatisfy { $0.isUppercase || $0 == "_" }
            }.map(String.init)
            #expect(Set(others).subtracting(own).isEmpty)
        }
    }

    @Test("the script lies in a private directory, which is where it starts and is gone afterwards")
    func directory() async throws {
        try await withDirectory { directory in
            let result = await perform(
                Script(.sh, "pwd; stat -c '%a %n' . script; touch left"), in: directory)
            #expect(text(result.stdout) == "\(directory)/run\n700 .\n600 script\n")
            #expect(!fileExists("\(directory)/run"))
        }
    }

    @Test("an exit code, a signal, a lack of directory and a lack of time are told apart")
    func ends() async throws {
        try await withDirectory { directory in
            let failed = await perform(Script(.sh, "exit 7"), in: directory)
            #expect(failed.outcome == .failed && failed.exitCode == 7 && failed.reason == nil)
            let killed = await perform(Script(.sh, "kill -9 $$"), in: directory)
            #expect(killed.outcome == .failed && killed.exitCode == nil && killed.reason == "signal:9")
            var elsewhere = Script(.sh, "pwd")
            elsewhere.workingDirectory = "/"
            #expect(text(await perform(elsewhere, in: directory).stdout) == "/\n")
            elsewhere.workingDirectory = "\(directory)/nowhere"
            #expect(await perform(elsewhere, in: directory).reason == "workingDirectoryMissing")
            let late = await perform(
                Script(.bash, "setsid sleep 1000 & sleep 1000"), timeoutSeconds: 1, in: directory)
            #expect(late.outcome == .timedOut)
        }
    }

    @Test("five megabytes of output keep their head, their tail and their exact count")
    func output() async throws {
        try await withDirectory { directory in
            let result = await perform(
                Script(.sh, "yes 0123456 | head -c 5000000; printf END >&2"), in: directory)
            #expect(result.stdout.bytes == 5_000_000 && result.stdout.isTruncated)
            #expect(result.stdout.head.bytes.count == Limits.outputHeadBytes)
            #expect(result.stdout.tail.bytes.count == Limits.outputTailBytes)
            #expect(text(result.stdout).hasPrefix("0123456\n0123456\n"))
            #expect(result.stderr == OutputExcerpt(head: Array("END".utf8), tail: [], bytes: 3))
        }
    }

    @Test("an interpreter that is not there is named, and nothing is left")
    func interpreterMissing() async throws {
        try await withDirectory { directory in
            var execution = execution(Script(.python3, "print(1)"), in: directory)
            execution.interpreters = { _ in ["\(directory)/python3"] }
            let result = await execution.perform { _ in false }
            #expect(result == .failed("interpreterMissing"))
            #expect(result.outcome == .failed && result.exitCode == nil)
            let left = try listDirectory(directory)
            #expect(left.isEmpty)
        }
    }

    @Test("python takes no packages from a home")
    func noUserSite() async throws {
        try await withDirectory { directory in
            let result = await perform(
                Script(.python3, "import sys; print(sys.flags.no_user_site)"), in: directory)
            #expect(text(result.stdout) == "1\n")
        }
    }

    @Test("a leader that survives its kill makes the outcome unknown, whatever asked for it")
    func unkillable() async throws {
        let execution = execution(Script(.sh, "true"), in: "/nowhere")
        let output = CapturedOutput(headBytesMax: 0, tailBytesMax: 0)
        for (timedOut, cancelled) in [(true, false), (false, true)] {
            let report = RunReport(
                exit: .signaled(9), outlivedKill: true, timedOut: timedOut, cancelled: cancelled,
                stdout: output, stderr: output)
            let result = execution.result(of: report)
            #expect(result.outcome == .unknown && result.reason == "unkillable")
        }
    }

    @Test(
        "a working directory that does not answer is given up when the time is over",
        .enabled(if: HungDirectory.isPossible))
    func hungWorkingDirectory() async throws {
        try await withDirectory { directory in
            let hung = try await HungDirectory("\(directory)/hung")
            var script = Script(.sh, "true")
            script.workingDirectory = hung.path
            #expect(await perform(script, timeoutSeconds: 1, in: directory).outcome == .timedOut)
            try await hung.release()
        }
    }

    @Test(
        "a preparation that hangs makes the outcome unknown and starts nothing later",
        .enabled(if: HungDirectory.isPossible))
    func hungPreparation() async throws {
        try await withDirectory { directory in
            let hung = try await HungDirectory("\(directory)/hung")
            var execution = execution(Script(.sh, "true"), timeoutSeconds: 1, in: hung.path)
            // All but a little of what is waited for is bounded by itself.
            execution.patience = .seconds(-14.9)
            let result = await execution.perform { _ in false }
            #expect(result.outcome == .unknown && result.reason == "hung")
            try await hung.release()
        }
    }

    @Test(
        "a file system that a script mounted and left does not go with its directory",
        .enabled(if: effectiveUserID() == 0))
    func mountLeft() async throws {
        try await withDirectory { directory in
            let script = Script(
                .sh, "mkdir ../kept place; touch ../kept/file; mount --bind ../kept place; exit 3")
            #expect(await perform(script, in: directory).exitCode == 3)
            #expect(fileExists("\(directory)/kept/file"))
            #expect(fileExists("\(directory)/run/place/file"))
            let unmount = try Child.spawn(
                ChildOptions(executable: "/bin/umount", arguments: ["\(directory)/run/place"]))
            #expect(await unmount.wait() == .exited(0))
        }
    }

    @Test("the leader is noted while a script runs, out of its way, and not longer")
    func leader() async throws {
        try await withDirectory { directory in
            let script = Script(
                .sh, "until [ -s ../run.leader ]; do :; done; cat ../run.leader; echo $$; rm -rf ./*")
            let result = await perform(script, in: directory)
            let words = text(result.stdout).split { $0 == " " || $0 == "\n" }
            #expect(words.count == 4 && words[1] == words[3], "\(words)")
            let left = try listDirectory(directory)
            #expect(left.isEmpty)
        }
    }

    @Test("a note of another boot, or one that is none, names nobody")
    func notes() async throws {
        try await withDirectory { directory in
            let run = "\(directory)/run"
            let own = try #require(ProcessIdentity(pid: 1))
            let noted = RunLeader(ProcessIdentity(pid: 77, startTicks: own.startTicks))
            try noted.write(beside: run)
            #expect(RunLeader(beside: run) == noted)
            #expect(try RunLeader.noted(in: directory) == ["run"])
            let note = String(decoding: try readFile("\(run).leader", max: 256), as: UTF8.self)
            let boot = note.prefix { $0 != " " }
            for other in ["x 77 5\n", "\(boot) 77\n", "\(boot) 1 5\n", "\(boot) -1 5\n", "\(boot) a b\n", ""]
            {
                try DurableFile.write(Array(other.utf8), to: "\(run).leader")
                #expect(RunLeader(beside: run) == nil, "\(other)")
            }
        }
    }

    @Test("a kill that was asked for before the script started ends it")
    func killedAtOnce() async throws {
        try await withDirectory { directory in
            let result = await perform(Script(.sh, "sleep 1000"), in: directory) { _ in true }
            #expect(result.outcome == .cancelled)
        }
    }
}
