import Glibc
import Logging
import Synchronization

/// One connection to the server as the pool sees it: a mailbox, and a thread of its own that serves it.
///
/// The thread connects, reconnects and pipelines (``ConnectionLoop``). It ends after ``close()``, when
/// everything in the mailbox has its outcome.
final class Connection: Sendable {
    /// What others tell the thread.
    struct Mailbox: Sendable {
        var requests: [Request] = []
        var isWaiting = false
        var mustReset = false
        var isClosing = false
    }

    let configuration: PostgresConfiguration
    let logger: Logger
    let wakeup = Wakeup()
    let mailbox = Mutex(Mailbox())
    /// What the thread does, in the hands of whoever does it; nil before the thread runs and when it has
    /// ended.
    private let loop = Mutex<ConnectionLoop?>(nil)
    /// How many requests are here, sent or not.
    let load = Atomic(0)
    /// Whether requests would be sent now.
    let isReady = Atomic(false)
    let counts: ConnectionCounts
    private let end = Pending<Void>()
    private let isCancelling = Atomic(false)

    init(configuration: PostgresConfiguration, logger: Logger, counts: ConnectionCounts = ConnectionCounts())
    {
        self.configuration = configuration
        self.logger = logger
        self.counts = counts
    }

    /// Starts the thread; it gives unsent requests of a lost connection to `handOver`.
    func start(handOver: @escaping @Sendable (Request) -> Void) {
        Self.startThread { [self] in
            run(handOver: handOver)
            end.settle { .success(()) }
        }
    }

    /// Puts a request into the mailbox; on a closed connection it fails at once.
    func enqueue(_ request: Request) {
        let isTaken = tell { mailbox in
            guard !mailbox.isClosing else { return false }
            mailbox.requests.append(request)
            load.add(1, ordering: .relaxed)
            return true
        }
        if !isTaken { request.fail(PostgresError(.closed, "the connection is closed")) }
    }

    /// Drops the connection with whatever is under way on it, and connects anew.
    func reset() {
        _ = tell { mailbox in
            mailbox.mustReset = true
            return true
        }
    }

    /// Takes no more requests and ends when the last has its outcome.
    func close() {
        _ = tell { mailbox in
            mailbox.isClosing = true
            return true
        }
    }

    /// Returns when the thread has ended.
    func ended() async { _ = await end.outcome() }

    /// Changes the mailbox and wakes the thread if it sleeps; the change says whether there is a reason to.
    private func tell(_ change: (inout Mailbox) -> Bool) -> Bool {
        let (isChanged, mustWake) = mailbox.withLock { mailbox in
            let isChanged = change(&mailbox)
            defer { if isChanged { mailbox.isWaiting = false } }
            return (isChanged, isChanged && mailbox.isWaiting)
        }
        // A caller that finds the thread asleep sends by itself. Who holds the lock already never gets here:
        // it takes the mail first, or says that the thread is up.
        if mustWake, loop.withLockIfAvailable({ $0?.push() ?? false }) != true { wakeup.signal() }
        return isChanged
    }

    private func run(handOver: @escaping @Sendable (Request) -> Void) {
        loop.withLock { $0 = ConnectionLoop(self, handOver: handOver) }
        while let pause = loop.withLock({ $0?.work() }) {
            let isReady = wakeup.wait(socket: pause.socket, events: pause.events, until: pause.until)
            if isReady { loop.withLock { $0?.react() } }
        }
        loop.withLock { $0 = nil }
    }

    /// Asks the server to end what a connection that is given up was doing; one at a time, for asking may
    /// take as long as the system waits for a connection. Without it the server finds out by itself in a
    /// second.
    func send(_ cancel: PostgresCancel) {
        guard !isCancelling.exchange(true, ordering: .relaxed) else { return }
        Self.startThread { [self] in
            let isSent = cancel.send()
            isCancelling.store(false, ordering: .relaxed)
            logger.debug("cancelled a statement", metadata: ["is_sent": "\(isSent)"])
        }
    }

    /// Runs `body` on a new thread, on which every signal is blocked: they are for the process's own threads.
    private static func startThread(_ body: @escaping @Sendable () -> Void) {
        final class Start: Sendable {
            let body: @Sendable () -> Void
            init(_ body: @escaping @Sendable () -> Void) { self.body = body }
        }
        var signals = sigset_t()
        var before = sigset_t()
        var thread = pthread_t()
        unsafe sigfillset(&signals)
        unsafe pthread_sigmask(SIG_SETMASK, &signals, &before)
        let start = unsafe Unmanaged.passRetained(Start(body)).toOpaque()
        let status = unsafe pthread_create(
            &thread, nil,
            { start in
                unsafe Unmanaged<Start>.fromOpaque(start!).takeRetainedValue().body()
                return nil
            }, start)
        unsafe pthread_sigmask(SIG_SETMASK, &before, nil)
        precondition(status == 0, "no thread left for a connection")
        pthread_detach(thread)
    }
}
