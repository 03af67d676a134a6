import Synchronization

/// A lock that many share or one has alone, in the order in which they came: nobody passes who waits, so
/// neither kind starves the other.
final class SharedLock: Sendable {
    private struct State {
        var sharing = 0
        var isAlone = false
        var waiting: [(isAlone: Bool, waiter: CheckedContinuation<Void, Never>)] = []

        /// Lets in whoever is first, and all who share behind the first who does.
        mutating func admit() -> [CheckedContinuation<Void, Never>] {
            var admitted: [CheckedContinuation<Void, Never>] = []
            while let first = waiting.first, !isAlone, !first.isAlone || sharing == 0 {
                if first.isAlone { isAlone = true } else { sharing += 1 }
                admitted.append(first.waiter)
                waiting.removeFirst()
            }
            return admitted
        }
    }

    private let state = Mutex(State())

    /// How many wait to be let in.
    var waiting: Int { state.withLock(\.waiting.count) }

    /// Does something beside others that share.
    func shared<Value>(_ body: () async throws -> Value) async rethrows -> Value {
        await enter(alone: false)
        defer { leave { $0.sharing -= 1 } }
        return try await body()
    }

    /// Does something while nobody else does anything.
    func alone<Value>(_ body: () async throws -> Value) async rethrows -> Value {
        await enter(alone: true)
        defer { leave { $0.isAlone = false } }
        return try await body()
    }

    private func enter(alone isAlone: Bool) async {
        await withCheckedContinuation { waiter in
            let admitted = state.withLock { state in
                state.waiting.append((isAlone, waiter))
                return state.admit()
            }
            for waiter in admitted { waiter.resume() }
        }
    }

    private func leave(_ change: (inout State) -> Void) {
        let admitted = state.withLock { state in
            change(&state)
            return state.admit()
        }
        for waiter in admitted { waiter.resume() }
    }
}
