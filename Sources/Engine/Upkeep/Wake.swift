import Synchronization

/// Ends the wait of one that waits for work: at once, or when it waits next.
package final class Wake: Sendable {
    private let state = Mutex<State>(State())

    private struct State {
        var isCalled = false
        var sleeper: Task<Void, Never>?
    }

    /// Whether it was called and nobody has waited since.
    var isCalled: Bool { state.withLock(\.isCalled) }

    /// Calls; calls add up to one.
    package func call() {
        let sleeper = state.withLock { state in
            state.isCalled = state.sleeper == nil
            return state.sleeper
        }
        sleeper?.cancel()
    }

    /// Waits for a call, so long at the most. A cancellation ends the wait.
    func wait(atMost duration: Duration) async {
        let sleeper: Task<Void, Never>? = state.withLock { state in
            guard !state.isCalled else {
                state.isCalled = false
                return nil
            }
            // It ends early by a call.
            let sleeper = Task { _ = try? await Task.sleep(for: duration) }
            state.sleeper = sleeper
            return sleeper
        }
        guard let sleeper else { return }
        await withTaskCancellationHandler {
            await sleeper.value
        } onCancel: {
            sleeper.cancel()
        }
        state.withLock { $0.sleeper = nil }
    }
}
