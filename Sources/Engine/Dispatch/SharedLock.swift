import Synchronization

/// A lock that many share or one has alone, in the order in which they came: nobody passes who waits, so
/// neither kind starves the other. Who wants it alone waits no longer than it says, so that those behind it
/// do not stand still for one who does not leave.
final class SharedLock: Sendable {
    private struct Waiter {
        let number: Int
        let isAlone: Bool
        let admission: CheckedContinuation<Bool, Never>
    }

    private struct State {
        var sharing = 0
        var isAlone = false
        var waiting: [Waiter] = []
        var number = 0

        /// Lets in whoever is first, and all who share behind the first who does.
        mutating func admit() -> [Waiter] {
            var admitted: [Waiter] = []
            while let first = waiting.first, !isAlone, !first.isAlone || sharing == 0 {
                if first.isAlone { isAlone = true } else { sharing += 1 }
                admitted.append(first)
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
        _ = await enter(alone: false, as: number())
        defer { change { $0.sharing -= 1 } }
        return try await body()
    }

    /// Does something while nobody else does anything; false if others went on until `end`.
    func alone(until end: ContinuousClock.Instant, _ body: () async throws -> Void) async rethrows -> Bool {
        let number = number()
        let timer = Task {
            try await Task.sleep(until: end)
            giveUp(number)
        }
        let isIn = await enter(alone: true, as: number)
        timer.cancel()
        guard isIn else { return false }
        defer { change { $0.isAlone = false } }
        try await body()
        return true
    }

    private func number() -> Int {
        state.withLock { state in
            state.number += 1
            return state.number
        }
    }

    private func enter(alone isAlone: Bool, as number: Int) async -> Bool {
        await withCheckedContinuation { admission in
            change { $0.waiting.append(Waiter(number: number, isAlone: isAlone, admission: admission)) }
        }
    }

    /// Waits no longer, if it still does.
    private func giveUp(_ number: Int) {
        change { state in
            guard let at = state.waiting.firstIndex(where: { $0.number == number }) else { return }
            state.waiting.remove(at: at).admission.resume(returning: false)
        }
    }

    private func change(_ change: (inout State) -> Void) {
        let admitted = state.withLock { state in
            change(&state)
            return state.admit()
        }
        for waiter in admitted { waiter.admission.resume(returning: true) }
    }
}
