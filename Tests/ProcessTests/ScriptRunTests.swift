import Glibc
import Process
import Synchronization
import Testing

@Suite struct ScriptRunTests {
    private let limits = RunLimits(
        timeoutSeconds: 60, killGraceSeconds: 0.1, drainSeconds: 0.1, headBytes: 1000, tailBytes: 1000)

    private func makeRun() throws -> (ScriptRun, marker: String) {
        let marker = try randomBytes(8).map { String($0, radix: 16) }.joined(separator: "-")
        return (try ScriptRun(marker: marker), marker)
    }

    @Test("a run reports exit code and both outputs")
    func plain() async throws {
        let (run, marker) = try makeRun()
        let options = shell("printf '%s' \"$CLOUDRMM_RUN\"; printf 'grüße' >&2; exit 7")
        let report = try await run.runToEnd(options, limits: limits)
        #expect(report.exit == .exited(7))
        #expect(text(report.stdout.head) == marker)
        #expect(text(report.stderr.head) == "grüße")
        #expect(!report.timedOut && !report.cancelled)
    }

    @Test("a program that cannot be started is an error")
    func cannotStart() async throws {
        let (run, _) = try makeRun()
        let error = await #expect(throws: ProcessError.self) {
            try await run.runToEnd(ChildOptions(executable: "/nonexistent"), limits: limits)
        }
        #expect(error?.errno == ENOENT)
    }

    @Test("of 5 MB the head, the tail and the exact count are kept, and all of it passes by with its offset")
    func output() async throws {
        let (run, _) = try makeRun()
        let passed = Mutex((bytes: 0, isInOrder: true))
        let script = "printf HEAD; head -c 5242872 /dev/zero; printf TAIL; printf x >&2"
        let report = try await run.runToEnd(shell(script), limits: limits) { stream, offset, bytes in
            guard stream == .stdout else { return }
            passed.withLock { passed in
                passed.isInOrder = passed.isInOrder && passed.bytes == offset
                passed.bytes += bytes.count
            }
        }
        #expect(report.stdout.totalBytes == 5_242_880)
        #expect(report.stdout.head.count == 1000 && report.stdout.head.starts(with: "HEAD\0".utf8))
        #expect(report.stdout.tail.count == 1000 && report.stdout.tail.suffix(5).elementsEqual("\0TAIL".utf8))
        #expect(report.stdout.omittedBytes == 5_242_880 - 2000)
        #expect(report.stderr.totalBytes == 1)
        #expect(passed.withLock { $0.bytes } == 5_242_880)
        #expect(passed.withLock { $0.isInOrder })
    }

    @Test("1 MB of input is echoed without a deadlock")
    func input() async throws {
        let (run, _) = try makeRun()
        let input = (0..<1_048_576).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        var wide = limits
        wide.headBytes = 2_000_000
        let report = try await run.runToEnd(shell("cat"), stdin: input, limits: wide)
        #expect(report.stdout.head == input)
        #expect(report.stdout.tail.isEmpty)
    }

    @Test("a program that does not read its input ends as it would")
    func unreadInput() async throws {
        let (run, _) = try makeRun()
        let input = [UInt8](repeating: 1, count: 1_048_576)
        let report = try await run.runToEnd(shell("exec <&-; exit 4"), stdin: input, limits: limits)
        #expect(report.exit == .exited(4))
    }

    @Test("time is up: the tree gets TERM and may tidy up")
    func timeoutTerm() async throws {
        let (run, marker) = try makeRun()
        var limits = limits
        limits.timeoutSeconds = 0.2
        limits.killGraceSeconds = 60
        let script = "trap 'echo tidy; exit 9' TERM; echo up; while :; do sleep 0.02; done"
        let report = try await run.runToEnd(shell(script), limits: limits)
        #expect(report.timedOut && !report.cancelled)
        #expect(report.exit == .exited(9))
        #expect(text(report.stdout.head) == "up\ntidy\n")
        #expect(ProcessTree.members(marker: marker).isEmpty)
    }

    @Test(
        "time is up: who ignores TERM is killed with all its descendants",
        arguments: [
            "trap '' TERM; sleep 600 & sleep 600",
            "setsid sh -c 'trap \"\" TERM; sleep 600; sleep 600' & sleep 600",
            "(setsid sh -c 'trap \"\" TERM; exec >&- 2>&-; sleep 600; sleep 600' &); sleep 600",
        ])
    func timeoutKill(script: String) async throws {
        let (run, marker) = try makeRun()
        var limits = limits
        limits.timeoutSeconds = 0.2
        let report = try await run.runToEnd(shell(script), limits: limits)
        #expect(report.timedOut)
        #expect(ProcessTree.members(marker: marker).isEmpty)
    }

    @Test("cancel ends the run, also when it comes before the start or by the task")
    func cancel() async throws {
        let (run, marker) = try makeRun()
        let report = try await run.runToEnd(shell("echo up; sleep 600 & sleep 600"), limits: limits) {
            _, _, _ in
            run.cancel()
        }
        #expect(report.cancelled && !report.timedOut)
        #expect(ProcessTree.members(marker: marker).isEmpty)

        let (early, _) = try makeRun()
        early.cancel()
        #expect(try await early.runToEnd(shell("sleep 600"), limits: limits).cancelled)

        let (inTask, _) = try makeRun()
        let limits = limits
        let task = Task { try await inTask.runToEnd(shell("sleep 600"), limits: limits) }
        task.cancel()
        #expect(try await task.value.cancelled)
    }

    @Test("a grandchild that holds the output open is killed soon after the leader's end")
    func holdsPipe() async throws {
        let (run, marker) = try makeRun()
        let report = try await run.runToEnd(shell("setsid sleep 600 & echo done; exit 2"), limits: limits)
        #expect(report.exit == .exited(2))
        #expect(text(report.stdout.head) == "done\n")
        #expect(!report.timedOut)
        #expect(ProcessTree.members(marker: marker).isEmpty)
    }

    @Test("a daemon that let go of the output outlives the run")
    func daemon() async throws {
        let (run, marker) = try makeRun()
        let report = try await run.runToEnd(
            shell("setsid sleep 600 </dev/null >/dev/null 2>&1 & exit 0"), limits: limits)
        #expect(report.exit == .exited(0))
        let survivors = ProcessTree.members(marker: marker)
        #expect(survivors.count == 1)
        for survivor in survivors { survivor.signal(SIGKILL) }
    }

    @Test(
        "a working directory that does not answer holds up no other run, and the time-out applies",
        .enabled(if: HungDirectory.isPossible))
    func hungDirectory() async throws {
        let scratch = try ScratchDirectory()
        let hung = try HungDirectory("\(scratch.path)/hung")
        let (run, _) = try makeRun()
        var options = shell("echo never")
        options.workingDirectory = hung.path
        let stuck = options
        let limits = limits
        let task = Task { try await run.runToEnd(stuck, limits: limits) }
        let (other, _) = try makeRun()
        #expect(try await other.runToEnd(shell("echo on"), limits: limits).exit == .exited(0))
        run.cancel()
        let report = try await task.value
        #expect(report.cancelled && report.exit == .signaled(SIGKILL) && report.stdout.totalBytes == 0)
        var short = limits
        short.timeoutSeconds = 0.1
        let (late, _) = try makeRun()
        #expect(try await late.runToEnd(stuck, limits: short).timedOut)
        try await hung.release()
    }

    @Test("a run that was given up before its start starts nothing")
    func abandoned() async throws {
        let (run, _) = try makeRun()
        run.abandon()
        await #expect(throws: ProcessError.self) {
            try await run.runToEnd(shell("exit 0"), limits: limits)
        }
    }

    @Test("a thread that hangs is waited for no longer than was said")
    func hungThread() async throws {
        let gate = Mutex(false)
        let answer = try await onOwnThread("test", within: .milliseconds(1)) { () throws(ProcessError) in
            while !gate.withLock({ $0 }) { sched_yield() }
            return 1
        }
        #expect(answer == nil)
        gate.withLock { $0 = true }
        let fast = try await onOwnThread("test", within: .seconds(60)) { () throws(ProcessError) in 2 }
        #expect(fast == 2)
    }

    @Test("many runs at once each get their own output")
    func parallel() async throws {
        let outputs = try await withThrowingTaskGroup(of: (Int, String).self) { group in
            for number in 0..<20 {
                group.addTask {
                    let (run, _) = try makeRun()
                    let report = try await run.runToEnd(shell("echo \(number)"), limits: limits)
                    return (number, text(report.stdout.head))
                }
            }
            var outputs: [Int: String] = [:]
            for try await (number, output) in group { outputs[number] = output }
            return outputs
        }
        #expect(outputs == Dictionary(uniqueKeysWithValues: (0..<20).map { ($0, "\($0)\n") }))
    }
}
