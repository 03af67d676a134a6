package import Postgres
import Synchronization

/// Makes one call of what many callers ask for at the same time: while one is under way, the next gathers.
///
/// No linger: the first goes at once, alone. Another goes beside it only once as many wait as are in it, so
/// that under load calls are few and large, and nobody waits behind one large item. Only what is asked under
/// the same scope goes together, so that nobody's rows come near another's statement. A call that the
/// database refuses is made again in halves, so one that cannot be carried out fails alone; one that may have
/// been carried out is not made again.
package final class Gathering<Item: Sendable, Answer: Sendable>: Sendable {
    private struct Member: Sendable {
        let item: Item
        let size: Int
        let caller: CheckedContinuation<Answer, any Error>
    }

    private struct Line {
        var waiting: ArraySlice<Member> = []
        var underWay = 0
        var inCalls = 0
        /// When the last call began.
        var began = ContinuousClock.now

        /// Whether a call may go: one commits while the other is prepared, and one that takes long holds up
        /// nobody.
        var isFree: Bool {
            guard underWay < 2 else { return false }
            return underWay == 0 || waiting.count >= inCalls
                || ContinuousClock.now - began > .milliseconds(100)
        }

        /// Takes another in; `true` if a call goes for it.
        mutating func admit(_ member: Member) -> Bool {
            waiting.append(member)
            guard isFree else { return false }
            underWay += 1
            return true
        }
    }

    private let lines = Mutex<[Scope: Line]>([:])
    private let sizeMax: Int
    private let call: @Sendable (Scope, [Item]) async throws -> [Answer]

    /// One call takes items of `sizeMax` together, and at least one; it returns an answer an item, in order.
    package init(sizeMax: Int, _ call: @escaping @Sendable (Scope, [Item]) async throws -> [Answer]) {
        self.sizeMax = sizeMax
        self.call = call
    }

    /// The answer to one item of a size. What others wait for as well is not broken off when the caller is
    /// cancelled: the call's own time limit ends it.
    package func callAsFunction(_ item: Item, size: Int, scope: Scope) async throws -> Answer {
        // Whatever is ready to ask on the same thread asks before the first goes.
        await Task.yield()
        return try await withCheckedThrowingContinuation { caller in
            let member = Member(item: item, size: size, caller: caller)
            let goes = lines.withLock { $0[scope, default: Line()].admit(member) }
            if goes { Task { await self.work(off: scope) } }
        }
    }

    /// How many items of a scope wait or are in a call.
    func count(in scope: Scope) -> Int {
        lines.withLock { lines in lines[scope].map { $0.waiting.count + $0.inCalls } ?? 0 }
    }

    /// Makes calls until nobody waits.
    private func work(off scope: Scope) async {
        while let members = next(of: scope) {
            let isRefused = await answer(members, scope: scope)
            lines.withLock { $0[scope]?.inCalls -= members.count }
            if isRefused { await answerHalves(of: members, scope: scope) }
        }
    }

    /// What the next call of a worker takes; `nil` if its work is done, or another's to do.
    private func next(of scope: Scope) -> ArraySlice<Member>? {
        lines.withLock { lines in
            guard var line = lines[scope] else { return nil }
            defer { lines[scope] = line.underWay == 0 ? nil : line }
            line.underWay -= 1
            guard line.isFree, !line.waiting.isEmpty else { return nil }
            line.underWay += 1
            var (count, size) = (0, 0)
            for member in line.waiting {
                size += member.size
                if count > 0, size > sizeMax || count == Self.membersMax { break }
                count += 1
            }
            let members = line.waiting.prefix(count)
            line.waiting.removeFirst(count)
            line.inCalls += count
            line.began = .now
            return members
        }
    }

    /// Answers members by one call; `true` if it was refused and may be made again in halves.
    private func answer(_ members: ArraySlice<Member>, scope: Scope) async -> Bool {
        do {
            let answers = try await call(scope, members.map(\.item))
            precondition(answers.count == members.count, "an answer an item")
            for (member, answer) in zip(members, answers) { member.caller.resume(returning: answer) }
        } catch let error as PostgresError where members.count > 1 && error.isRefused {
            return true
        } catch {
            for member in members { member.caller.resume(throwing: error) }
        }
        return false
    }

    private func answerHalves(of members: ArraySlice<Member>, scope: Scope) async {
        let middle = members.startIndex + members.count / 2
        for half in [members[..<middle], members[middle...]] where await answer(half, scope: scope) {
            await answerHalves(of: half, scope: scope)
        }
    }

    private static var membersMax: Int { 256 }
}

extension PostgresError {
    /// Whether the statement was not carried out, for a reason that may lie in a part of it.
    fileprivate var isRefused: Bool { isOfStatement && !mayHaveCommitted }

    /// Whether the server has judged the statement, or did not end it in time; the rest says nothing of it.
    var isOfStatement: Bool {
        switch code {
        case .server, .timeout: true
        case .connection, .cancelled, .overloaded, .closed, .decoding, .configuration: false
        }
    }
}
