import Dispatch
import Faults
import Glibc
import History
import Process

/// A program of the installation that is started again whenever it ends by itself, as a supervisor does.
actor SupervisedProcess {
    nonisolated let name: String
    private let log: EventLog
    private let spawn: @Sendable ([(String, String)]) throws -> Running
    private let isReady: @Sendable (Running) async throws -> Void
    private let died: @Sendable () -> Void
    private var running: Running?
    private var isWanted = false
    /// The process that was armed, and whether it was seen to have struck.
    private var armed: Running?
    private var wasSeen = false

    /// `spawn` starts the program with variables beside its usual ones, `isReady` returns once it serves,
    /// `died` is told of each end that nobody asked for.
    init(
        _ name: String, log: EventLog, spawn: @escaping @Sendable ([(String, String)]) throws -> Running,
        isReady: @escaping @Sendable (Running) async throws -> Void = { _ in },
        died: @escaping @Sendable () -> Void = {}
    ) {
        (self.name, self.log, self.spawn, self.isReady, self.died) = (name, log, spawn, isReady, died)
    }

    /// Starts it, with a fault if one is said, and again after each death.
    func start(_ fault: (point: FaultPoint, action: Fault.Action, passage: Int)? = nil) async throws {
        isWanted = true
        let variables = fault.map { fault in
            [
                (Fault.variable, "\(fault.point.rawValue):\(fault.action):\(fault.passage)"),
                (Fault.permission, "yes"),
            ]
        }
        try await launch(variables ?? [])
        (armed, wasSeen) = (fault == nil ? nil : running, false)
    }

    private func launch(_ variables: [(String, String)]) async throws {
        let process = try spawn(variables)
        running = process
        Task { await self.supervise(process) }
        // One that is armed may die before it is ready; who waits for the fault sees that.
        if variables.isEmpty { try await isReady(process) }
    }

    private func supervise(_ process: Running) async {
        let exit = await process.child.wait()
        guard isWanted, running === process else { return }
        died()
        log.note(.died, "\(name) \(exit)")
        // Its servers may be away for as long as an outage takes.
        let deadline = ContinuousClock.now + .seconds(180)
        while isWanted, running === process, ContinuousClock.now < deadline {
            do {
                let next = try spawn([])
                running = next
                try await isReady(next)
                log.note(.restarted, name)
                Task { await self.supervise(next) }
                return
            } catch {
                // It ended before it was ready: again, as long as it is wanted.
                if isWanted { running = process }
                await hold(.milliseconds(250))
            }
        }
    }

    /// Whether the armed process has struck: died by SIGKILL, or stands still.
    var hasStruck: Bool {
        guard let armed else { return false }
        if let exit = armed.child.exit { return wasSeen || exit == .signaled(SIGKILL) }
        if isSuspended(armed) { wasSeen = true }
        return wasSeen
    }

    private func isSuspended(_ process: Running) -> Bool {
        let fields = text(of: "/proc/\(process.child.pid)/stat").split(separator: ")").last
        return fields?.split(separator: " ").first == "T"
    }

    /// Ends it as a crash would; the supervision starts it again.
    func crash() throws { try running?.child.signal(SIGKILL) }

    func suspend() throws { try running?.child.signal(SIGSTOP) }

    func resume() throws { try running?.child.signal(SIGCONT) }

    /// Ends it for good, or until the next start.
    func stop() async throws {
        isWanted = false
        armed = nil
        guard let process = running else { return }
        running = nil
        try process.child.signal(SIGCONT)
        _ = try await process.stop()
    }
}

/// Lets a fault last: nothing is waited for here but the end of the time that it takes.
func hold(_ time: Duration) async {
    await withCheckedContinuation { continuation in
        let (seconds, attoseconds) = time.components
        let nanoseconds = Int(seconds) * 1_000_000_000 + Int(attoseconds / 1_000_000_000)
        DispatchQueue.global().asyncAfter(deadline: .now() + .nanoseconds(nanoseconds)) {
            continuation.resume()
        }
    }
}
