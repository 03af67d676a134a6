import Domain
import Glibc
import Logging
import Process
import Trust
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
///
/// All of a script that may block (its directory, its start, its outputs) happens on a thread of its own, and
/// no longer than its time: a file server that is gone takes neither a thread of the pool nor a place of the
/// lane for ever.
struct Execution: Sendable {
    /// Programs are looked up nowhere else.
    static let searchPath = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    /// How long a clean-up is waited for; after that it goes on beside.
    static let cleanUpLimit = Duration.seconds(10)

    let job: JobPayload
    /// The values of the script's secrets, in its order.
    var secrets: [SecretBytes] = []
    let key: AttemptKey
    /// The attempt's private directory; made before and removed after a script. Beside it lies `RunLeader`.
    let directory: String
    let logger: Logger
    /// How long after all that `Process` bounds by itself the script's thread is given up.
    var patience = Duration.seconds(30)
    /// Where interpreters are looked for.
    var interpreters: @Sendable (Interpreter) -> [String] = { Execution.places(of: $0) }

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
            let result = await perform(script, attach: attach)
            await cleanUp(after: result)
            return result
        }
    }

    private func perform(
        _ script: Script, attach: @Sendable (@escaping @Sendable () -> Void) -> Bool
    ) async -> ExecutionResult {
        do throws(ProcessError) {
            let scriptRun = try ScriptRun(marker: key.description)
            if attach({ scriptRun.cancel() }) { scriptRun.cancel() }
            let bounded =
                limits.timeoutSeconds + limits.killGraceSeconds + limits.drainSeconds
                + limits.unkillableSeconds
            let result = try await onOwnThread("crmm-run", within: .seconds(bounded) + patience) {
                () throws(ProcessError) in
                try run(script, scriptRun)
            }
            if let result { return result }
            scriptRun.abandon()
            return ExecutionResult(outcome: .unknown, reason: "hung")
        } catch {
            return .failed(reason(of: error))
        }
    }

    /// Prepares and runs the script; blocks.
    private func run(_ script: Script, _ scriptRun: ScriptRun) throws(ProcessError) -> ExecutionResult {
        guard let interpreter = interpreters(script.interpreter).first(where: fileExists) else {
            return .failed("interpreterMissing")
        }
        try Directory.make(directory, mode: 0o700)
        let file = "\(directory)/script"
        try makeFile(Array(script.body.utf8), at: file)
        // Without the packages of the user's home, which others may have put there.
        let flags = script.interpreter == .python3 ? ["-s"] : []
        var options = ChildOptions(
            executable: interpreter, arguments: flags + [file] + script.args,
            environment: environment(script), workingDirectory: script.workingDirectory ?? directory,
            isolation: .session, limits: ChildOptions.Limits(coreBytesMax: 0))
        var stdin = HiddenBytes(Array((script.stdin ?? "").utf8))
        for (use, secret) in zip(script.secrets, secrets) {
            let value = HiddenBytes(secret)
            if let name = use.environment {
                options.hiddenEnvironment.append((name, value))
            } else {
                stdin = value
            }
        }
        var redactor = Redactor(secrets)
        let report = try scriptRun.runOnThisThread(
            options, stdin: stdin, limits: limits, filter: { redactor.redact($0, $1) },
            onStart: { leader in
                do throws(ProcessError) {
                    try RunLeader(leader).write(beside: directory)
                } catch {
                    logger.warning("a run's leader cannot be noted", metadata: ["error": "\(error)"])
                }
            })
        return result(of: report)
    }

    private var limits: RunLimits {
        RunLimits(
            timeoutSeconds: Double(job.timeoutSeconds), killGraceSeconds: Double(Limits.killGraceSeconds),
            headBytes: Limits.outputHeadBytes, tailBytes: Limits.outputTailBytes)
    }

    /// The result of what `Process` says of a script.
    func result(of report: RunReport) -> ExecutionResult {
        var result = ExecutionResult(
            outcome: .failed, stdout: Self.excerpt(report.stdout), stderr: Self.excerpt(report.stderr))
        switch report.exit {
        case .exited(let code): result.exitCode = Int(code)
        case .signaled(let number): result.reason = "signal:\(number)"
        }
        if report.outlivedKill {
            (result.outcome, result.reason) = (.unknown, "unkillable")
        } else if report.timedOut {
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
        let isMissing = error.errno == ENOENT || error.errno == ENOTDIR
        if error.code == .workingDirectory && isMissing { return "workingDirectoryMissing" }
        let isSpawn = error.code == .spawn || error.code == .workingDirectory
        let reason = isSpawn ? "spawnFailed: \(error.message)" : "agentFailed: \(error.message)"
        return String(decoding: reason.utf8.prefix(200).filter { $0 < 0x80 && $0 != 0 }, as: UTF8.self)
    }

    /// What cannot be removed stays until the next start, which tries again; the leader's note stays too
    /// where something may live yet.
    private func cleanUp(after result: ExecutionResult) async {
        let keepsLeader = result.outcome == .unknown
        do throws(ProcessError) {
            let isDone: Void? = try await onOwnThread("crmm-clean", within: Self.cleanUpLimit) {
                () throws(ProcessError) in
                if !keepsLeader { try RunLeader.remove(beside: directory) }
                try Directory.removeTree(directory)
            }
            if isDone == nil { logger.warning("a run's directory is still being removed", metadata: context) }
        } catch {
            logger.warning(
                "a run's directory cannot be removed",
                metadata: context.merging(["error": "\(error)"]) { $1 })
        }
    }

    private var context: Logger.Metadata { ["job.id": "\(key.job)", "attempt": "\(key.attempt)"] }

    private static func places(of interpreter: Interpreter) -> [String] {
        switch interpreter {
        case .sh: ["/bin/sh", "/usr/bin/sh"]
        case .bash: ["/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash"]
        case .python3: ["/usr/bin/python3", "/usr/local/bin/python3", "/bin/python3"]
        }
    }

    private static func excerpt(_ output: CapturedOutput) -> OutputExcerpt {
        OutputExcerpt(head: output.head, tail: output.tail, bytes: output.totalBytes)
    }
}

extension HiddenBytes {
    /// A secret, lent from where it lies.
    fileprivate init(_ secret: SecretBytes) {
        self.init(count: secret.count) { body in secret.withBytes { body($0) } }
    }
}
