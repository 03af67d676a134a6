import CProcess
import Glibc
import Synchronization

/// How long a run may take and how much of its output is kept.
package struct RunLimits: Sendable {
    /// The time after which the tree is sent TERM.
    package var timeoutSeconds: Double
    /// The time between TERM and KILL of the whole tree.
    package var killGraceSeconds: Double
    /// How long processes that outlive the leader may hold its output open before they are killed.
    package var drainSeconds: Double
    /// How long after its KILL a leader that does not end is waited for.
    package var unkillableSeconds: Double
    /// How many bytes of each stream's beginning are kept.
    package var headBytes: Int
    /// How many bytes of each stream's end are kept.
    package var tailBytes: Int

    /// Limits of one run.
    package init(
        timeoutSeconds: Double, killGraceSeconds: Double = 3, drainSeconds: Double = 1,
        unkillableSeconds: Double = 10, headBytes: Int, tailBytes: Int
    ) {
        self.timeoutSeconds = timeoutSeconds
        self.killGraceSeconds = killGraceSeconds
        self.drainSeconds = drainSeconds
        self.unkillableSeconds = unkillableSeconds
        self.headBytes = headBytes
        self.tailBytes = tailBytes
    }
}

/// Which of a run's two outputs.
package enum OutputStream: Sendable, Hashable, CaseIterable {
    /// Standard output.
    case stdout
    /// Standard error.
    case stderr
}

/// How a run ended and what it said.
package struct RunReport: Sendable {
    /// How the leader, the process that was started, ended.
    package let exit: ChildExit
    /// The leader survived its KILL for so long that nobody waits any more (uninterruptible sleep); `exit` is
    /// what it will end by.
    package let outlivedKill: Bool
    /// The time was up before the leader ended.
    package let timedOut: Bool
    /// `cancel` came before the leader ended.
    package let cancelled: Bool
    /// Standard output.
    package let stdout: CapturedOutput
    /// Standard error.
    package let stderr: CapturedOutput

    /// A report.
    package init(
        exit: ChildExit, outlivedKill: Bool, timedOut: Bool, cancelled: Bool, stdout: CapturedOutput,
        stderr: CapturedOutput
    ) {
        self.exit = exit
        self.outlivedKill = outlivedKill
        self.timedOut = timedOut
        self.cancelled = cancelled
        self.stdout = stdout
        self.stderr = stderr
    }
}

/// One run of a program from start to end, with its whole process tree.
///
/// The run has a thread of its own that feeds the input, reads both outputs as they come and keeps the time,
/// so that nothing waits for anything else. Its processes carry the marker in their environment
/// (`ProcessTree.markerName`). A process that leaves the tree's output alone (a daemon that was started on
/// purpose) outlives a run that ends by itself; one that holds it open is killed after the drain time;
/// time-out and cancel kill all.
package final class ScriptRun: Sendable {
    private let marker: String
    private let cancelRequested = Mutex(false)
    private let isAbandoned = Mutex(false)
    private let wake: Wake

    /// A run that is not started yet.
    package init(marker: String) throws(ProcessError) {
        self.marker = marker
        wake = try Wake()
    }

    /// Asks the run to end: TERM to the tree, KILL after the grace. Also right before the start and after the
    /// end.
    package func cancel() {
        cancelRequested.withLock { $0 = true }
        wake.notify()
    }

    /// Asks the run to end, and to start nothing if it has not started: nobody waits for it any more.
    package func abandon() {
        isAbandoned.withLock { $0 = true }
        cancel()
    }

    /// Starts the program and returns when all is over; once only. Throws only if it could not be started.
    ///
    /// `onOutput` is called on the run's thread with each piece and its offset in its stream, in order; while
    /// it works, the program's pipe fills and the program waits. Cancelling the task cancels the run and
    /// still waits for its end.
    package func runToEnd(
        _ options: ChildOptions, stdin: [UInt8] = [], limits: RunLimits,
        onOutput: @escaping @Sendable (OutputStream, Int, ArraySlice<UInt8>) -> Void = { _, _, _ in }
    ) async throws(ProcessError) -> RunReport {
        // A task-cancellation handler cannot throw a type, so the outcome passes through it as a value.
        let result: Result<RunReport, ProcessError> = await withTaskCancellationHandler {
            do throws(ProcessError) {
                return .success(
                    try await onOwnThread("crmm-run") { () throws(ProcessError) in
                        try self.runOnThisThread(
                            options, stdin: HiddenBytes(stdin), limits: limits, onOutput: onOutput)
                    })
            } catch {
                return .failure(error)
            }
        } onCancel: {
            cancel()
        }
        return try result.get()
    }

    /// The same on the calling thread, which must be one of its own: it is blocked until the end, and never
    /// gets SIGPIPE again.
    ///
    /// `onStart` is told who leads the tree as soon as it exists. The time counts from there, so that it also
    /// holds for a working directory that does not answer. `filter` is given each piece of an output, and nil
    /// once at its end; what it returns is what is kept and handed on.
    package func runOnThisThread(
        _ options: ChildOptions, stdin: HiddenBytes = HiddenBytes([]), limits: RunLimits,
        filter: (OutputStream, ArraySlice<UInt8>?) -> ArraySlice<UInt8> = { $1 ?? [] },
        onStart: (ProcessIdentity) -> Void = { _ in },
        onOutput: (OutputStream, Int, ArraySlice<UInt8>) -> Void = { _, _, _ in }
    ) throws(ProcessError) -> RunReport {
        crmm_block_sigpipe()
        let census = RunCensus()
        if isAbandoned.withLock({ $0 }) { throw ProcessError(.spawn, "the run was given up before") }
        let child = try Child.launch(complete(options, hasInput: stdin.count > 0))
        if let leader = child.identity { onStart(leader) }
        var tree = ProcessTree(root: child.identity, marker: marker)
        var lifecycle = RunLifecycle(startedAt: monotonicNanoseconds(), limits: limits)
        var streams = RunStreams(child: child, stdin: stdin, limits: limits)
        while true {
            let seen = RunLifecycle.Observation(
                now: monotonicNanoseconds(), leaderEnded: child.process.collect(),
                streamsEnded: streams.haveEnded,
                cancelRequested: cancelRequested.withLock { $0 })
            tree.claimsStrays = census.wasAlone
            switch lifecycle.next(seen, treeIsGone: { tree.isGone() }) {
            case .wait(let until):
                streams.pump(
                    wake: wake, leader: seen.leaderEnded ? nil : child.process,
                    waitNanoseconds: until - min(until, seen.now), filter: filter, onOutput: onOutput)
            case .terminateTree:
                tree.signal(SIGTERM)
            case .killTree:
                tree.kill()
            case .finish:
                try child.checkStart(mayWait: false)
                streams.end(filter: filter, onOutput: onOutput)
                return RunReport(
                    exit: child.exit ?? .signaled(SIGKILL), outlivedKill: child.exit == nil,
                    timedOut: lifecycle.cause == .timeout, cancelled: lifecycle.cause == .cancel,
                    stdout: streams.stdout, stderr: streams.stderr)
            }
        }
    }

    private func complete(_ options: ChildOptions, hasInput: Bool) -> ChildOptions {
        var options = options
        options.environment.removeAll { $0.0 == ProcessTree.markerName }
        options.environment.append((ProcessTree.markerName, marker))
        options.stdin = hasInput ? .pipe : .null
        options.stdout = .pipe
        options.stderr = .pipe
        if case .shared = options.isolation { options.isolation = .processGroup }
        return options
    }
}

/// Counts the runs of this process: a run that was alone from start to end may claim what cannot be told
/// apart.
private final class RunCensus: Sendable {
    private static let live = Mutex<[ObjectIdentifier: Bool]>([:])

    init() {
        RunCensus.live.withLock { live in
            for run in live.keys { live[run] = false }
            live[ObjectIdentifier(self)] = live.isEmpty
        }
    }

    deinit {
        let id = ObjectIdentifier(self)
        RunCensus.live.withLock { $0[id] = nil }
    }

    var wasAlone: Bool { RunCensus.live.withLock { $0[ObjectIdentifier(self)] ?? false } }
}
