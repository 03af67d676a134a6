import Synchronization

/// Commands that one caller sent together, and the one answer that it waits for.
///
/// Callers, cancellation and the connection's thread meet here. Each event returns the settlement that it
/// caused, at most one of them ever does, and whoever gets it resumes the caller (outside the lock).
final class Exchange: Sendable {
    typealias Replies = [Result<RedisValue, RedisError>]

    /// The caller that waits. Not checked when it runs: the machine resumes each exactly once.
    @safe
    struct Waiter: Sendable {
        private let continuation: UnsafeContinuation<Replies, any Error>

        init(_ continuation: UnsafeContinuation<Replies, any Error>) {
            unsafe self.continuation = continuation
        }

        func resume(with result: Result<Replies, RedisError>) {
            unsafe continuation.resume(with: result.mapError { $0 })
        }
    }

    let commands: [RedisCommand]
    let timeout: Duration
    let deadline: ContinuousClock.Instant
    private let machine = Mutex(ExchangeMachine<Waiter>())

    init(_ commands: [RedisCommand], timeout: Duration) {
        self.commands = commands
        self.timeout = timeout
        deadline = .now + timeout
    }

    /// The caller waits; false when its task was cancelled before.
    func begin(_ waiter: Waiter) -> Bool {
        machine.withLock { $0.begin(waiter) }
    }

    /// The thread is about to write the commands; false when nobody waits for them any more.
    func write() -> Bool {
        machine.withLock { $0.write() }
    }

    /// The next command's answer, in the order of the commands.
    func answer(_ reply: Result<RedisValue, RedisError>) -> Settlement? {
        machine.withLock { $0.answer(reply, of: commands.count) }
    }

    /// Ends the exchange: a refusal when nothing was written, else an error for each command without an
    /// answer.
    func fail(_ code: RedisError.Code, _ message: String) -> Settlement? {
        machine.withLock { $0.fail(code, message, of: commands.count) }
    }

    /// The caller's task is cancelled.
    func cancel() -> Settlement? {
        machine.withLock { $0.cancel() }
    }

    typealias Settlement = ExchangeMachine<Waiter>.Settlement
}

/// The life of an exchange: created → waiting → written → settled, and settled from each of them.
struct ExchangeMachine<Waiter: Sendable>: Sendable {
    /// The caller to resume and what with.
    struct Settlement: Sendable {
        let waiter: Waiter
        let result: Result<Exchange.Replies, RedisError>
        /// Whether replies to it may still arrive, which the connection reads and throws away.
        let isOnTheWire: Bool
    }

    private enum Phase {
        /// The caller has not begun to wait. Left by `begin`, or by a cancellation that comes first.
        case created
        /// In the mailbox or waiting for a connection: nothing was sent.
        case waiting(Waiter)
        /// In the connection's buffer or with the server; the answers so far.
        case written(Waiter, Exchange.Replies)
        /// Somebody resumed the caller, or will. Final.
        case settled
    }

    private var phase = Phase.created

    mutating func begin(_ waiter: Waiter) -> Bool {
        guard case .created = phase else { return false }
        phase = .waiting(waiter)
        return true
    }

    mutating func write() -> Bool {
        guard case .waiting = phase, case .waiting(let waiter) = settle() else { return false }
        phase = .written(waiter, [])
        return true
    }

    mutating func answer(_ reply: Result<RedisValue, RedisError>, of total: Int) -> Settlement? {
        guard case .written = phase, case .written(let waiter, var replies) = settle() else { return nil }
        if total == 1 {
            replies = [reply]
        } else {
            replies.append(reply)
        }
        if replies.count == total {
            return Settlement(waiter: waiter, result: .success(replies), isOnTheWire: false)
        }
        phase = .written(waiter, replies)
        return nil
    }

    /// Moves out what the phase holds: a copy would cost as much as the answer.
    private mutating func settle() -> Phase {
        var before = Phase.settled
        swap(&before, &phase)
        return before
    }

    mutating func fail(_ code: RedisError.Code, _ message: String, of total: Int) -> Settlement? {
        switch settle() {
        case .created, .settled: return nil
        case .waiting(let waiter):
            return Settlement(waiter: waiter, result: .failure(RedisError(code, message)), isOnTheWire: false)
        case .written(let waiter, let replies):
            let error = RedisError(code, message, mayHaveRun: true)
            let rest = repeatElement(
                Result<RedisValue, RedisError>.failure(error), count: total - replies.count)
            return Settlement(waiter: waiter, result: .success(replies + rest), isOnTheWire: true)
        }
    }

    mutating func cancel() -> Settlement? {
        switch settle() {
        case .created, .settled: return nil
        case .waiting(let waiter):
            return Settlement(waiter: waiter, result: .failure(Self.cancellation(false)), isOnTheWire: false)
        case .written(let waiter, _):
            return Settlement(waiter: waiter, result: .failure(Self.cancellation(true)), isOnTheWire: true)
        }
    }

    private static func cancellation(_ mayHaveRun: Bool) -> RedisError {
        RedisError(.cancelled, "the task that waited was cancelled", mayHaveRun: mayHaveRun)
    }
}

extension ExchangeMachine.Settlement where Waiter == Exchange.Waiter {
    func resume() {
        waiter.resume(with: result)
    }
}
