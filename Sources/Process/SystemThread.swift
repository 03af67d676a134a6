import CProcess
import Glibc
import Synchronization

/// Runs the body on a new thread of its own, so that it may block without holding up the cooperative pool.
func startThread(_ name: String, _ body: @escaping @Sendable () -> Void) throws(ProcessError) {
    let work = ThreadWork(name: name, body: body)
    let retained = unsafe Unmanaged.passRetained(work)
    var thread = pthread_t()
    let result = unsafe pthread_create(
        &thread, nil,
        { argument in
            guard let argument = unsafe argument else { return nil }
            let work = unsafe Unmanaged<ThreadWork>.fromOpaque(argument).takeRetainedValue()
            unsafe crmm_name_thread(work.name)
            work.body()
            return nil
        }, retained.toOpaque())
    guard result == 0 else {
        unsafe retained.release()
        throw ProcessError(.resource, errno: result, "cannot start the thread \(name)")
    }
    pthread_detach(thread)
}

/// Runs a blocking body on a thread of its own and waits for it without blocking the cooperative pool.
package func onOwnThread<R: Sendable>(
    _ name: String, _ body: @escaping @Sendable () throws(ProcessError) -> R
) async throws(ProcessError) -> R {
    let result: Result<R, ProcessError> = await withCheckedContinuation { continuation in
        do throws(ProcessError) {
            try startThread(name) {
                continuation.resume(returning: Result { () throws(ProcessError) in try body() })
            }
        } catch {
            continuation.resume(returning: .failure(error))
        }
    }
    return try result.get()
}

/// As above, but waits no longer than so long (while the machine is awake): then nil, and the thread goes on
/// alone.
package func onOwnThread<R: Sendable>(
    _ name: String, within limit: Duration, _ body: @escaping @Sendable () throws(ProcessError) -> R
) async throws(ProcessError) -> R? {
    let first = FirstAnswer<Result<R, ProcessError>>()
    try startThread(name) { first.give(Result { () throws(ProcessError) in try body() }) }
    let answer = await withTaskGroup(of: Void.self) { group in
        group.addTask {
            do { try await Task.sleep(for: limit, clock: SuspendingClock()) } catch { return }
            first.give(nil)
        }
        defer { group.cancelAll() }
        return await first.wait()
    }
    return try answer?.get()
}

/// The first of several answers; later ones are lost.
private final class FirstAnswer<Answer: Sendable>: Sendable {
    private enum State {
        case open(CheckedContinuation<Answer?, Never>?)
        case given(Answer?)
    }

    private let state = Mutex(State.open(nil))

    func give(_ answer: Answer?) {
        let waiting = state.withLock { state -> CheckedContinuation<Answer?, Never>? in
            guard case .open(let waiting) = state else { return nil }
            state = .given(answer)
            return waiting
        }
        waiting?.resume(returning: answer)
    }

    func wait() async -> Answer? {
        await withCheckedContinuation { waiting in
            let given = state.withLock { state -> Answer?? in
                if case .given(let answer) = state { return .some(answer) }
                state = .open(waiting)
                return nil
            }
            if let given { waiting.resume(returning: given) }
        }
    }
}

private final class ThreadWork: Sendable {
    let name: String
    let body: @Sendable () -> Void

    init(name: String, body: @escaping @Sendable () -> Void) {
        self.name = name
        self.body = body
    }
}

/// Wakes a thread that polls its descriptor; notifications before the wait are not lost.
final class Wake: Sendable {
    let descriptor: Int32

    init() throws(ProcessError) {
        descriptor = crmm_eventfd()
        if descriptor < 0 { throw ProcessError(.resource, errno: -descriptor, "cannot make an eventfd") }
    }

    deinit { close(descriptor) }

    func notify() { crmm_event_notify(descriptor) }

    /// Blocks until somebody has notified and takes the notification.
    func wait() { crmm_event_wait(descriptor) }
}

/// Nanoseconds of the monotonic clock.
func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}
