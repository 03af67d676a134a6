import Synchronization

/// Does a step for each partition (or what there is of it) side by side, and returns what came of those that
/// worked. One that fails is left to the next round if others worked; if none did, its error is thrown.
/// With `all` the first error is thrown in any case, after the others have done their step.
func inEach<Item: Sendable, Value: Sendable>(
    _ items: [Item], all: Bool = false, _ step: @escaping @Sendable (Item) async throws -> Value
) async throws -> [Value] {
    if items.count == 1 { return [try await step(items[0])] }
    return try await withThrowingTaskGroup(of: Result<Value, any Error>.self) { tasks in
        for item in items {
            tasks.addTask {
                do { return .success(try await step(item)) } catch { return .failure(error) }
            }
        }
        var (values, failure): ([Value], (any Error)?) = ([], nil)
        for try await result in tasks {
            switch result {
            case .success(let value): values.append(value)
            case .failure(let error): failure = failure ?? error
            }
        }
        if let failure, all || values.isEmpty { throw failure }
        return values
    }
}

/// Whose turn it is among partitions that one process serves: the batches under way at once are bounded, and
/// the next goes to the partition that had least for its weight, of those that want one.
///
/// Start-time fair queueing of batches, as inside a partition; the weight is that of the partition's active
/// organizations. A partition that had nothing for a while begins where the others are.
final class PartitionTurns: Sendable {
    fileprivate struct State {
        var free: Int
        var tags: [Double]
        var weights: [Double]
        var virtual = 0.0
        var waiting: [(partition: Int, waiter: CheckedContinuation<Void, Never>)] = []
    }

    private let state: Mutex<State>

    init(partitions: Int, batches: Int) {
        state = Mutex(
            State(
                free: batches, tags: Array(repeating: 0, count: partitions),
                weights: Array(repeating: 1, count: partitions)))
    }

    /// What the active organizations of a partition weigh together.
    func weigh(_ partition: Int, _ weight: Double) {
        state.withLock { $0.weights[partition] = max(weight, 0.001) }
    }

    /// Waits for a turn, takes a batch with it, and charges what it brought.
    func take<Value>(_ partition: Int, _ batch: () async throws -> (Value, runs: Int)) async rethrows -> Value
    {
        await withCheckedContinuation { waiter in
            let next = state.withLock { state in
                state.waiting.append((partition, waiter))
                return state.next()
            }
            next?.resume()
        }
        var runs = 0
        defer {
            let next = state.withLock { state in
                state.tags[partition] += Double(runs) / state.weights[partition]
                state.free += 1
                return state.next()
            }
            next?.resume()
        }
        let value: Value
        (value, runs) = try await batch()
        return value
    }
}

extension PartitionTurns.State {
    /// Takes the next turn, if there is a place and somebody who wants it.
    fileprivate mutating func next() -> CheckedContinuation<Void, Never>? {
        guard free > 0 else { return nil }
        let tags = tags.map { max($0, virtual) }
        guard let at = waiting.indices.min(by: { tags[waiting[$0].partition] < tags[waiting[$1].partition] })
        else { return nil }
        let (partition, waiter) = waiting.remove(at: at)
        free -= 1
        virtual = tags[partition]
        self.tags[partition] = virtual
        return waiter
    }
}
