import CProcess
import Glibc
import Synchronization

/// How a child process ended.
package enum ChildExit: Sendable, Hashable {
    /// It exited with this code.
    case exited(Int32)
    /// This signal ended it.
    case signaled(Int32)
}

/// A child process together with the parent's ends of its pipes.
///
/// All children are forked and collected by one thread that lives as long as the process (`Reaper`). When the
/// last reference goes, the pipes are closed; the process lives on and is collected when it ends.
package final class Child: Sendable {
    /// The process id. After the exit was collected the number may belong to another process.
    package var pid: Int32 { process.pid }
    /// The writing end of standard input, close-on-exec and blocking; -1 unless piped.
    package let stdinFD: Int32
    /// The reading end of standard output, close-on-exec and blocking; -1 unless piped.
    package let stdoutFD: Int32
    /// The reading end of standard error, close-on-exec and blocking; -1 unless piped.
    package let stderrFD: Int32

    let process: ChildProcess
    private let options: ChildOptions
    private let stdinIsOpen: Mutex<Bool>
    /// Tells what became of the program; -1 once that is known.
    private let report: Mutex<Int32>

    init(options: ChildOptions, process: ChildProcess, ends: [Int32], report: Int32) {
        self.options = options
        self.process = process
        self.report = Mutex(report)
        (stdinFD, stdoutFD, stderrFD) = (ends[0], ends[1], ends[2])
        stdinIsOpen = Mutex(ends[0] >= 0)
    }

    deinit {
        closeStdin()
        report.withLock { report in if report >= 0 { close(report) } }
        if stdoutFD >= 0 { close(stdoutFD) }
        if stderrFD >= 0 { close(stderrFD) }
    }

    /// Starts a child and returns once its program runs; blocks for the few milliseconds this takes.
    ///
    /// Throws `.invalid` for options that cannot be handed over and `.spawn` with the errno of the step that
    /// failed, execve included; `.workingDirectory` if it cannot be entered. A working directory that does
    /// not answer blocks the caller for as long.
    package static func spawn(_ options: ChildOptions) throws(ProcessError) -> Child {
        let child = try launch(options)
        try child.checkStart(mayWait: true)
        return child
    }

    /// Starts a child and returns at once; whether its program runs `checkStart` says.
    static func launch(_ options: ChildOptions) throws(ProcessError) -> Child {
        try options.validate()
        return try Process.launch(options)
    }

    /// Throws what kept the program from running. Without waiting it throws nothing while that is not known.
    func checkStart(mayWait: Bool) throws(ProcessError) {
        let failure = report.withLock { report -> ProcessError? in
            if report < 0 { return nil }
            var step: Int32 = 0
            let result = unsafe crmm_spawn_result(report, mayWait ? 1 : 0, &step)
            if result > 0 { return nil }
            close(report)
            report = -1
            return result < 0 ? spawnError(options, failedAt: step, errno: -result) : nil
        }
        if let failure { throw failure }
    }

    /// The child's identity, also after its end; nil where the kernel's table of processes cannot be read.
    package var identity: ProcessIdentity? { process.identity }

    /// Closes the writing end of standard input, so that the child reads its end.
    package func closeStdin() {
        stdinIsOpen.withLock { isOpen in
            if isOpen { close(stdinFD) }
            isOpen = false
        }
    }

    /// How the child ended, nil while it runs.
    package var exit: ChildExit? { process.exit }

    /// Waits without blocking a thread until the child has ended and is collected.
    package func wait() async -> ChildExit { await process.wait() }

    /// Sends a signal to the child alone; false if it has already ended.
    @discardableResult
    package func signal(_ number: Int32) throws(ProcessError) -> Bool { try process.signal(number) }

    /// Sends a signal to the child's process group; false, and nothing sent, once the child was collected.
    ///
    /// Only for children with a group or session of their own.
    @discardableResult
    package func signalGroup(_ number: Int32) throws(ProcessError) -> Bool { try process.signalGroup(number) }
}

/// The process behind a `Child`: its exit is collected once, by whoever notices first.
final class ChildProcess: Sendable {
    private struct State {
        var exit: ChildExit?
        var waiters: [CheckedContinuation<ChildExit, Never>] = []
    }

    let pid: Int32
    /// Read before it could be collected.
    let identity: ProcessIdentity?
    /// Readable as soon as the process has ended.
    let descriptor: Int32
    private let state = Mutex(State())

    init(pid: Int32, identity: ProcessIdentity?, descriptor: Int32) {
        self.pid = pid
        self.identity = identity
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    var exit: ChildExit? { state.withLock { $0.exit } }

    /// Collects the exit if the process has ended; true if it is known now. Never blocks.
    @discardableResult
    func collect() -> Bool {
        let (exit, waiters) = state.withLock {
            state -> (ChildExit?, [CheckedContinuation<ChildExit, Never>]) in
            if state.exit != nil { return (state.exit, []) }
            var code: Int32 = 0
            var signaled: Int32 = 0
            let result = unsafe crmm_reap(pid, &code, &signaled)
            if result == 0 { return (nil, []) }
            // A negative result means that somebody else in this process waited for any child: the code is
            // lost.
            state.exit = result < 0 ? .exited(-1) : signaled != 0 ? .signaled(code) : .exited(code)
            defer { state.waiters = [] }
            return (state.exit, state.waiters)
        }
        guard let exit else { return false }
        for waiter in waiters { waiter.resume(returning: exit) }
        return true
    }

    func wait() async -> ChildExit {
        await withCheckedContinuation { continuation in
            let known = state.withLock { state -> ChildExit? in
                if state.exit == nil { state.waiters.append(continuation) }
                return state.exit
            }
            if let known { continuation.resume(returning: known) }
        }
    }

    func signal(_ number: Int32) throws(ProcessError) -> Bool {
        let result = crmm_pidfd_signal(descriptor, number)
        if result == -ESRCH { return false }
        if result < 0 { throw ProcessError(.signal, errno: -result, "cannot signal process \(pid)") }
        return true
    }

    /// Under the lock the process is not collected, so that the group's number cannot belong to others.
    func signalGroup(_ number: Int32) throws(ProcessError) -> Bool {
        let failure = state.withLock { state -> Int32 in
            if state.exit != nil { return ESRCH }
            return kill(-pid, number) == 0 ? 0 : errno
        }
        if failure == ESRCH { return false }
        if failure != 0 { throw ProcessError(.signal, errno: failure, "cannot signal process group \(pid)") }
        return true
    }
}
