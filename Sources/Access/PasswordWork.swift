import Dispatch
import Synchronization
import Trust

/// Where passwords are hashed and compared: one at a time on a thread of its own, since each takes a third of
/// a second of a core and 32 MiB.
final class PasswordWork: Sendable {
    /// How many may wait.
    static let waitingMax = 32

    private let queue = DispatchQueue(label: "cloudrmm.passwords")
    private let waiting = Atomic(0)

    /// Runs a body when it is its turn.
    /// - Throws: `overloaded` while too many wait.
    func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        guard waiting.wrappingAdd(1, ordering: .relaxed).newValue <= Self.waitingMax else {
            waiting.wrappingSubtract(1, ordering: .relaxed)
            throw AccessError(.overloaded, "too many people sign in just now: try again")
        }
        defer { waiting.wrappingSubtract(1, ordering: .relaxed) }
        return try await withCheckedThrowingContinuation { continuation in
            queue.async { continuation.resume(with: Result { try body() }) }
        }
    }
}
