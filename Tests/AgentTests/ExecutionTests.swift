import Domain
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
        let job = fixture.job(.script, script, timeoutSeconds: timeoutSeconds)
        let execution = Execution(
            job: job, key: AttemptKey(job: job.job, attempt: 1), directory: "\(directory)/run")
        return await execution.perform(attach: attach)
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
            script.env = ["EXTRA": "1", "HOME": "/nowhere"]
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

    @Test("a kill that was asked for before the script started ends it")
    func killedAtOnce() async throws {
        try await withDirectory { directory in
            let result = await perform(Script(.sh, "sleep 1000"), in: directory) { _ in true }
            #expect(result.outcome == .cancelled)
        }
    }
}
