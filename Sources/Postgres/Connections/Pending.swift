import Synchronization

/// A value that one task waits for and whoever comes first settles.
final class Pending<Value: Sendable>: Sendable {
    typealias Outcome = Result<Value, PostgresError>

    private enum State {
        /// Not asked for yet; the task's call puts it into `awaited`, an early outcome into `settled`.
        case new
        /// The task sleeps; the first outcome wakes it.
        case awaited(CheckedContinuation<Outcome, Never>)
        /// Final.
        case settled(Outcome)
    }

    private let state = Mutex(State.new)

    /// Whether an outcome is known.
    var isSettled: Bool {
        state.withLock {
            if case .settled = $0 { true } else { false }
        }
    }

    /// Settles unless something else did; `outcome` is computed while nobody else can settle.
    @discardableResult
    func settle(_ outcome: () -> Outcome) -> Bool {
        let (isFirst, wake) = state.withLock { state -> (Bool, (() -> Void)?) in
            switch state {
            case .settled: return (false, nil)
            case .new:
                state = .settled(outcome())
                return (true, nil)
            case .awaited(let continuation):
                let outcome = outcome()
                state = .settled(outcome)
                return (true, { continuation.resume(returning: outcome) })
            }
        }
        wake?()
        return isFirst
    }

    /// Runs `body` while nobody can settle, unless somebody did; returns whether it ran.
    func unlessSettled(_ body: () -> Void) -> Bool {
        state.withLock {
            if case .settled = $0 { return false }
            body()
            return true
        }
    }

    /// Calls `start`, unless an outcome is there already, and waits for the outcome; does not look at
    /// cancellation.
    func outcome(afterStarting start: () -> Void = {}) async -> Outcome {
        await withCheckedContinuation { continuation in
            let early = state.withLock { state -> Outcome? in
                if case .settled(let outcome) = state { return outcome }
                state = .awaited(continuation)
                return nil
            }
            if let early { continuation.resume(returning: early) } else { start() }
        }
    }
}
