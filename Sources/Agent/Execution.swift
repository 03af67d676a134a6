import Domain
import Process
import Wire

/// How an attempt went: a result that lacks only its name and times.
struct ExecutionResult: Sendable, Equatable {
    var outcome: Outcome
    var exitCode: Int?
    var reason: String?
    var stdout = OutputExcerpt.empty
    var stderr = OutputExcerpt.empty

    static func failed(_ reason: String) -> ExecutionResult {
        ExecutionResult(outcome: .failed, reason: reason)
    }
}

/// Does what a verified job says, through `Process` alone.
struct Execution: Sendable {
    /// Programs are looked up nowhere else.
    static let searchPath = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]

    let job: JobPayload
    let key: AttemptKey
    /// The attempt's private directory; made before and removed after a script.
    let directory: String

    /// Runs to the end; `attach` is given the way to kill a script, and says whether it is to be killed at
    /// once.
    func perform(attach: @Sendable (@escaping @Sendable () -> Void) -> Bool) async -> ExecutionResult {
        switch job.kind {
        case .ping: return ExecutionResult(outcome: .succeeded)
        case .sysinfo:
            let facts = SystemFacts.json()
            return ExecutionResult(
                outcome: .succeeded, exitCode: nil,
                stdout: OutputExcerpt(head: facts, tail: [], bytes: facts.count))
        case .script:
            // The verifier lets no job of this kind pass without one.
            guard let script = job.script else { return .failed("content") }
            do throws(ProcessError) {
                defer { removeDirectory() }
                return try await perform(script, attach: attach)
            } catch {
                return .failed(reason(of: error))
            }
        }
    }

    private func perform(
        _ script: Script, attach: @Sendable (@escaping @Sendable () -> Void) -> Bool
    ) async throws(ProcessError) -> ExecutionResult {
        guard let interpreter = Self.path(of: script.interpreter) else {
            return .failed("interpreterMissing")
        }
        if let place = script.workingDirectory, !Directory.isDirectory(place) {
            return .failed("workingDirectoryMissing")
        }
        try Directory.make(directory, mode: 0o700)
        let file = "\(directory)/script"
        try DurableFile.write(Array(script.body.utf8), to: file, mode: 0o600)
        let options = ChildOptions(
            executable: interpreter, arguments: [file] + script.args, environment: environment(script),
            workingDirectory: script.workingDirectory ?? directory, isolation: .session,
            limits: ChildOptions.Limits(coreBytesMax: 0))
        let scriptRun = try ScriptRun(marker: key.description)
        if attach({ scriptRun.cancel() }) { scriptRun.cancel() }
        let report = try await scriptRun.runToEnd(
            options, stdin: Array((script.stdin ?? "").utf8),
            limits: RunLimits(
                timeoutSeconds: Double(job.timeoutSeconds), killGraceSeconds: Double(Limits.killGraceSeconds),
                headBytes: Limits.outputHeadBytes, tailBytes: Limits.outputTailBytes))
        return result(of: report)
    }

    private func result(of report: RunReport) -> ExecutionResult {
        var result = ExecutionResult(
            outcome: .failed, stdout: Self.excerpt(report.stdout), stderr: Self.excerpt(report.stderr))
        switch report.exit {
        case .exited(let code): result.exitCode = Int(code)
        case .signaled(let number): result.reason = "signal:\(number)"
        }
        if report.timedOut {
            (result.outcome, result.reason) = (.timedOut, nil)
        } else if report.cancelled {
            (result.outcome, result.reason) = (.cancelled, nil)
        } else if report.exit == .exited(0) {
            result.outcome = .succeeded
        }
        return result
    }

    /// Exactly what a script sees; `ScriptRun` adds the run's marker, `CLOUDRMM_RUN`.
    private func environment(_ script: Script) -> [(String, String)] {
        let account = SystemFacts.account()
        let own = [
            ("PATH", Self.searchPath.joined(separator: ":")), ("HOME", account.home), ("USER", account.name),
            ("LOGNAME", account.name), ("LANG", "C.UTF-8"), ("TMPDIR", directory),
            ("CLOUDRMM_JOB", job.job.description),
        ]
        return own.filter { script.env[$0.0] == nil }
            + script.env.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }

    private func reason(of error: ProcessError) -> String {
        let reason = error.code == .spawn ? "spawnFailed: \(error.message)" : "agentFailed: \(error.message)"
        return String(decoding: reason.utf8.prefix(200).filter { $0 < 0x80 && $0 != 0 }, as: UTF8.self)
    }

    private func removeDirectory() {
        // What a script made unremovable stays until the next start, which tries again.
        try? Directory.removeTree(directory)
    }

    private static func path(of interpreter: Interpreter) -> String? {
        let names =
            switch interpreter {
            case .sh: ["/bin/sh", "/usr/bin/sh"]
            case .bash: ["/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash"]
            case .python3: ["/usr/bin/python3", "/usr/local/bin/python3", "/bin/python3"]
            }
        return names.first(where: fileExists)
    }

    private static func excerpt(_ output: CapturedOutput) -> OutputExcerpt {
        OutputExcerpt(head: output.head, tail: output.tail, bytes: output.totalBytes)
    }
}
