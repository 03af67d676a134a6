import CHiredis
import Glibc
import Logging
import Synchronization

/// A connection as its callers see it: the mailbox in front of the thread that owns the socket.
///
/// Callers post exchanges; the thread takes all that is posted at once, writes it in one go and reads the
/// answers while further ones are posted. A caller that finds the thread asleep writes in its stead, which
/// saves waking it. No clock makes batches: at one caller a command leaves at once, and callers that had
/// their answers together have their next commands written together.
final class Pipeline: Sendable {
    /// What becomes of the connection when a caller stops waiting for a command that was written.
    enum Abandonment {
        /// The reply is read and thrown away: others share the connection.
        case discardsReply
        /// The connection is closed, which ends the command on the server too: its only caller has gone.
        case dropsConnection
    }

    let configuration: RedisConfiguration
    let logger: Logger
    let abandonment: Abandonment
    let wakeup = Wakeup()
    /// How often the connection was established.
    let generation = Atomic(0)
    /// How often bytes were handed to the kernel: with pipelining far less than once a command.
    let writes = Atomic(0)
    let failures = Atomic(0)
    private let pending = Atomic(0)
    private let mailbox = Mutex(Mailbox())
    /// What the thread does, in the hands of whoever does it; nil before the thread runs and when it has
    /// ended.
    private let loop = Mutex<PipelineLoop?>(nil)

    init(configuration: RedisConfiguration, logger: Logger, abandonment: Abandonment) {
        self.configuration = configuration
        self.logger = logger
        self.abandonment = abandonment
    }

    // MARK: Callers

    /// Starts the thread, once.
    func start() {
        let isFirst = mailbox.withLock { mailbox in
            guard mailbox.life == .created, !mailbox.mail.isClosing else { return false }
            mailbox.life = .running
            return true
        }
        guard isFirst else { return }
        let code = wakeup.descriptor < 0 ? EMFILE : spawn()
        guard code != 0 else { return }
        logger.error("redis connection cannot start", metadata: ["error": "\(reason(code))"])
        end()
    }

    /// Sends the commands as one piece and waits for their answers.
    func send(_ commands: [RedisCommand], timeout: Duration?) async throws -> Exchange.Replies {
        if commands.isEmpty { return [] }
        start()
        let exchange = Exchange(commands, timeout: timeout ?? configuration.commandTimeout)
        return try await withTaskCancellationHandler {
            try await unsafe withUnsafeThrowingContinuation {
                unsafe post(exchange, waiter: Exchange.Waiter($0))
            }
        } onCancel: {
            cancel(exchange)
        }
    }

    /// Asks the thread to finish; further commands are refused.
    func beginClosing() {
        let wakes = mailbox.withLock { mailbox in
            mailbox.mail.isClosing = true
            return mailbox.wakes()
        }
        if wakes { wakeup.ring() }
    }

    /// Asks the thread to finish and waits until it has.
    func close() async {
        beginClosing()
        await withCheckedContinuation { continuation in
            let isOver = mailbox.withLock { mailbox in
                guard mailbox.life == .running else { return true }
                mailbox.closers.append(continuation)
                return false
            }
            if isOver { continuation.resume() }
        }
    }

    private func post(_ exchange: Exchange, waiter: Exchange.Waiter) {
        let count = exchange.commands.count
        guard exchange.begin(waiter) else {
            waiter.resume(
                with: .failure(RedisError(.cancelled, "the task was cancelled before the command was sent")))
            return
        }
        let underWay = pending.add(count, ordering: .relaxed).newValue
        guard underWay <= configuration.pendingMax else {
            release(count)
            exchange.fail(.overloaded, "\(configuration.pendingMax) commands wait already")?.resume()
            return
        }
        switch mailbox.withLock({ $0.post(exchange, underWay: underWay) }) {
        case .nothing: break
        case .write: push()
        case .promise:
            // Those who had their answers at the same time are about to post too, and stand in the pool's
            // queue. The thread looks by itself a moment later.
            Task.detached {
                if self.mailbox.withLock({ $0.keepsPromise() }) { self.push() }
            }
        case .refuse:
            release(count)
            exchange.fail(.closed, "the connection is closed")?.resume()
        }
    }

    private func cancel(_ exchange: Exchange) {
        guard let settlement = exchange.cancel() else { return }
        if settlement.isOnTheWire, abandonment == .dropsConnection {
            // Before the caller goes on, so that the order stands in front of its next command.
            let wakes = mailbox.withLock { mailbox in
                mailbox.mail.dropsConnection = true
                return mailbox.wakes()
            }
            if wakes { wakeup.ring() }
        }
        settlement.resume()
    }

    /// Writes what was posted in the stead of the thread, which sleeps, or wakes it.
    private func push() {
        let isDone = loop.withLockIfAvailable { $0?.push() ?? false }
        if isDone != true { wakeup.ring() }
    }

    // MARK: The thread

    private func run() {
        loop.withLock { $0 = PipelineLoop(self) }
        while let pause = loop.withLock({ $0?.work() }) {
            var polled = [pollfd(fd: wakeup.descriptor, events: Int16(POLLIN), revents: 0)]
            if let socket = pause.socket { polled.append(socket) }
            let ready = unsafe poll(&polled, nfds_t(polled.count), milliseconds(until: pause.until))
            mailbox.withLock { $0.watch = .someone }
            guard ready > 0 else { continue }
            if polled[0].revents != 0 { wakeup.silence() }
            if polled.count > 1, polled[1].revents != 0 {
                let isReadable = polled[1].revents != Int16(POLLOUT)
                loop.withLock { $0?.react(isReadable: isReadable) }
            }
        }
        loop.withLock { $0 = nil }
    }

    private func milliseconds(until end: ContinuousClock.Instant?) -> Int32 {
        guard let end else { return -1 }
        let left = (end - .now).components
        if left.seconds > 3_600 { return 3_600_000 }
        // Rounded up: waking a moment too early would only spin.
        return Int32(
            max(0, left.seconds * 1_000 + (left.attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000))
    }

    /// Everything posted since the last time.
    func collect() -> Mailbox.Mail {
        mailbox.withLock { $0.collect() }
    }

    /// Announces that the thread waits, so that the next post rings; false when there is mail already.
    func fallAsleep(seenClosing: Bool) -> Bool {
        mailbox.withLock { $0.fallAsleep(seenClosing: seenClosing) }
    }

    /// Says whether several callers had their answers together, a moment ago.
    func setCompany(_ hasCompany: Bool) {
        mailbox.withLock { $0.hasCompany = hasCompany }
    }

    /// Commands have left, with or without an answer: others may come in their place.
    func release(_ count: Int) {
        pending.subtract(count, ordering: .relaxed)
    }

    private func spawn() -> Int32 {
        var thread = pthread_t()
        let retained = unsafe Unmanaged.passRetained(self)
        let code = unsafe pthread_create(
            &thread, nil,
            { raw in
                let pipeline = unsafe Unmanaged<Pipeline>.fromOpaque(raw!).takeRetainedValue()
                unsafe name_thread("redis")
                pipeline.run()
                pipeline.end()
                return nil
            }, retained.toOpaque())
        if code == 0 {
            pthread_detach(thread)
        } else {
            unsafe retained.release()
        }
        return code
    }

    /// The thread's last act: nobody waits for it from here on.
    private func end() {
        let (left, closers) = mailbox.withLock { mailbox in
            mailbox.life = .ended
            mailbox.mail.isClosing = true
            defer { (mailbox.mail.exchanges, mailbox.closers) = ([], []) }
            return (mailbox.mail.exchanges, mailbox.closers)
        }
        for exchange in left {
            release(exchange.commands.count)
            exchange.fail(.closed, "the connection is closed")?.resume()
        }
        for closer in closers { closer.resume() }
    }
}
