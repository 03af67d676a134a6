import Synchronization
import Testing

@testable import Engine
@testable import Postgres

/// Calls that are made together.
@Suite struct GatheringTests {
    private let platform = Scope.platform

    /// Calls that wait until they are let go, and what each was made of.
    private final class Calls: Sendable {
        private let made = Mutex<[(scope: Scope, items: [Int])]>([])
        private let begun = AsyncStream<Void>.makeStream()
        private let gate = AsyncStream<Void>.makeStream()

        var items: [[Int]] { made.withLock { $0.map(\.items) } }
        var scopes: Set<Scope> { made.withLock { Set($0.map(\.scope)) } }

        func make(_ scope: Scope, _ items: [Int]) async {
            made.withLock { $0.append((scope, items)) }
            begun.continuation.yield()
            for await _ in gate.stream { return }
        }

        func release(_ count: Int) { for _ in 0..<count { gate.continuation.yield() } }
        func releaseAll() { gate.continuation.finish() }

        /// Waits until so many calls have begun since the last wait.
        func wait(for count: Int) async {
            var left = count
            for await _ in begun.stream {
                left -= 1
                if left == 0 { return }
            }
        }
    }

    /// A gathering whose calls wait, and answer each item with its square.
    private func squares(_ calls: Calls, sizeMax: Int = 100) -> Gathering<Int, Int> {
        Gathering(sizeMax: sizeMax) { scope, items in
            await calls.make(scope, items)
            return items.map { $0 * $0 }
        }
    }

    /// Begins calls one after the other, each once the one before it waits.
    private func begin(
        _ items: [Int], after others: Int = 0, size: Int = 1, scope: Scope,
        _ gathering: Gathering<Int, Int>
    ) async -> [Task<Int, any Error>] {
        var tasks: [Task<Int, any Error>] = []
        for item in items {
            tasks.append(Task { try await gathering(item, size: size, scope: scope) })
            while gathering.count(in: scope) < others + tasks.count { await Task.yield() }
        }
        return tasks
    }

    @Test(
        "The first goes at once and alone; what comes meanwhile goes together, and each gets its own answer")
    func together() async throws {
        let calls = Calls()
        let gathering = squares(calls)
        let first = await begin([1, 2], scope: platform, gathering)
        await calls.wait(for: 2)
        let rest = (3...6).map { item in
            Task { try await gathering(item, size: 1, scope: .platform) }
        }
        while gathering.count(in: platform) < 6 { await Task.yield() }
        calls.release(1)
        await calls.wait(for: 1)
        calls.releaseAll()
        var answers: [Int] = []
        for task in first + rest { answers.append(try await task.value) }
        #expect(answers == [1, 4, 9, 16, 25, 36])
        #expect(calls.items.prefix(2) == [[1], [2]])
        #expect(calls.items.count == 3 && Set(calls.items[2]) == [3, 4, 5, 6])
        #expect(gathering.count(in: platform) == 0, "nothing is left behind")
    }

    @Test("Another call goes beside one only once as many wait as are in it")
    func large() async throws {
        let calls = Calls()
        let gathering = squares(calls)
        let first = await begin([1, 2], scope: platform, gathering)
        await calls.wait(for: 2)
        let rest = await begin([3, 4, 5], after: 2, scope: platform, gathering)
        // One of the two ends: three wait, which is more than the other has.
        calls.release(1)
        await calls.wait(for: 1)
        // Two wait beside calls of one and of three; then one of them ends.
        let last = await begin([6, 7], after: 4, scope: platform, gathering)
        calls.release(1)
        var answers: [Int] = []
        calls.releaseAll()
        for task in first + rest + last { answers.append(try await task.value) }
        #expect(answers == [1, 4, 9, 16, 25, 36, 49])
        #expect(calls.items.map(\.count).sorted() == [1, 1, 2, 3])
        #expect(gathering.count(in: platform) == 0, "nothing is left behind")
    }

    @Test("What is asked under another scope never goes together")
    func scopes() async throws {
        let calls = Calls()
        let gathering = squares(calls)
        let scopes = (0..<3).map { Scope(setting: "site:\($0)") }
        let tasks = scopes.enumerated().map { index, scope in
            Task { try await gathering(index, size: 1, scope: scope) }
        }
        await calls.wait(for: 3)
        calls.releaseAll()
        for (index, task) in tasks.enumerated() { #expect(try await task.value == index * index) }
        #expect(calls.items.allSatisfy { $0.count == 1 })
        #expect(calls.scopes == Set(scopes))
    }

    @Test("A call takes no more than its size, but one item of any size")
    func size() async throws {
        let calls = Calls()
        let gathering = squares(calls, sizeMax: 10)
        let first = await begin([1, 2], scope: platform, gathering)
        await calls.wait(for: 2)
        let large = [3, 4, 5, 6].map { item in
            Task { try await gathering(item, size: item == 3 ? 50 : 5, scope: .platform) }
        }
        while gathering.count(in: platform) < 6 { await Task.yield() }
        calls.releaseAll()
        for task in first + large { _ = try await task.value }
        #expect(calls.items.contains([3]))
        #expect(calls.items.allSatisfy { $0.count <= 2 })
    }

    @Test("An item that is refused fails alone; its neighbours are carried out")
    func refused() async throws {
        let calls = Calls()
        let gathering = Gathering<Int, Int>(sizeMax: 100) { scope, items in
            await calls.make(scope, items)
            if items.contains(4) { throw PostgresError(.server("23505"), "refused", sqlState: "23505") }
            return items
        }
        let first = await begin([1, 2], scope: platform, gathering)
        await calls.wait(for: 2)
        let rest = (3...8).map { item in
            Task { try await gathering(item, size: 1, scope: .platform) }
        }
        while gathering.count(in: platform) < 8 { await Task.yield() }
        calls.releaseAll()
        for (item, task) in zip(1..., first + rest) {
            let outcome = await task.result
            if item == 4 {
                #expect(throws: PostgresError.self) { try outcome.get() }
            } else {
                #expect(try outcome.get() == item)
            }
        }
    }

    @Test("What may have been carried out is not tried again: all who shared it are told")
    func maybeCommitted() async throws {
        let calls = Calls()
        let gathering = Gathering<Int, Int>(sizeMax: 100) { scope, items in
            await calls.make(scope, items)
            throw PostgresError(.timeout, "no word", mayHaveCommitted: true)
        }
        let first = await begin([1, 2], scope: platform, gathering)
        await calls.wait(for: 2)
        let rest = [3, 4].map { item in Task { try await gathering(item, size: 1, scope: .platform) } }
        while gathering.count(in: platform) < 4 { await Task.yield() }
        calls.releaseAll()
        for task in first + rest {
            await #expect(throws: PostgresError.self) { try await task.value }
        }
        #expect(calls.items.count == 3)
    }

    @Test("A caller who is cancelled breaks nothing off for the others")
    func cancelled() async throws {
        let calls = Calls()
        let gathering = squares(calls)
        let tasks = await begin([1, 2, 3], scope: platform, gathering)
        tasks[0].cancel()
        calls.releaseAll()
        for (item, task) in zip(1..., tasks) { #expect(try await task.value == item * item) }
    }
}
