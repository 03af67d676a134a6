package import Ledger
import Synchronization

/// Whether this process may claim now: not while everything is paused, and not any more once it was told to
/// drain. And whether what it claimed is dispatched beside others or alone.
///
/// As to pauses it only spares work: what is claimed against one is refused by the mark.
package final class ClaimGate: Sendable {
    private struct State {
        var isPaused = false
        var read: ContinuousClock.Instant?
        var isDraining = false
        var batches = 0
    }

    /// Shared by the batches of a process; who has it alone is the only one of it that a crash can be due to.
    let crashes = SharedLock()
    private let ledger: Ledger
    private let state = Mutex(State())
    private let now: @Sendable () -> ContinuousClock.Instant

    /// A gate on the worker's login. `now` is the clock by which what was read ages.
    package init(ledger: Ledger, now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }) {
        self.ledger = ledger
        self.now = now
    }

    /// No claim begins after this.
    package func drain() { state.withLock { $0.isDraining = true } }

    /// Whether it was told to drain, and every batch that was begun has been taken to its end.
    package var isDrained: Bool { state.withLock { $0.isDraining && $0.batches == 0 } }

    /// Whether it was told to drain.
    var isDraining: Bool { state.withLock(\.isDraining) }

    /// Begins a claim of tasks, which no pause of devices' runs holds back; false if none may begin.
    func begin() -> Bool {
        state.withLock { state in
            guard !state.isDraining else { return false }
            state.batches += 1
            return true
        }
    }

    /// Something that was begun lasts: it is as another batch.
    func hold() { state.withLock { $0.batches += 1 } }

    /// What `begin` or `hold` has counted is over.
    func end() { state.withLock { $0.batches -= 1 } }

    /// Whether a claim may begin.
    func isOpen() async throws -> Bool {
        let now = now()
        let known: Bool? = state.withLock { state in
            if state.isDraining { return false }
            guard let read = state.read, now - read < Self.life else { return nil }
            return !state.isPaused
        }
        if let known { return known }
        let isPaused = try await ledger.isEverythingPaused()
        return state.withLock { state in
            (state.isPaused, state.read) = (isPaused, now)
            return !isPaused && !state.isDraining
        }
    }

    /// Takes a batch from its claim to its end; `nil` if none may begin.
    func batch<Value: Sendable>(_ body: () async throws -> Value) async throws -> Value? {
        guard try await isOpen() else { return nil }
        let isBegun = state.withLock { state in
            guard !state.isDraining else { return false }
            state.batches += 1
            return true
        }
        guard isBegun else { return nil }
        defer { state.withLock { $0.batches -= 1 } }
        return try await body()
    }

    private static let life = Duration.milliseconds(500)
}
