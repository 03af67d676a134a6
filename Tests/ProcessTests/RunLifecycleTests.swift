import Testing

@testable import Process

@Suite struct RunLifecycleTests {
    private let second: UInt64 = 1_000_000_000

    /// Lets an expectation, which captures what it reads, step the machine.
    private final class Stepper {
        var lifecycle: RunLifecycle

        init(startedAt: UInt64 = 0, timeoutSeconds: Double = 10) {
            let limits = RunLimits(timeoutSeconds: timeoutSeconds, headBytes: 0, tailBytes: 0)
            lifecycle = RunLifecycle(startedAt: startedAt, limits: limits)
        }

        func next(_ seen: RunLifecycle.Observation, treeIsGone: Bool = false) -> RunLifecycle.Action {
            lifecycle.next(seen, treeIsGone: { treeIsGone })
        }
    }

    private func seen(
        _ seconds: Double, leaderEnded: Bool = false, streamsEnded: Bool = false, cancel: Bool = false
    ) -> RunLifecycle.Observation {
        RunLifecycle.Observation(
            now: UInt64(seconds * 1e9), leaderEnded: leaderEnded, streamsEnded: streamsEnded,
            cancelRequested: cancel)
    }

    @Test("a run that ends by itself finishes with its streams")
    func natural() {
        let run = Stepper()
        #expect(run.next(seen(1)) == .wait(until: 10 * second))
        #expect(run.next(seen(2, leaderEnded: true)) == .wait(until: 3 * second))
        #expect(run.next(seen(2.5, leaderEnded: true, streamsEnded: true)) == .finish)
        #expect(run.lifecycle.cause == nil)
    }

    @Test("TERM comes at the deadline, KILL exactly three seconds later")
    func timeout() {
        let run = Stepper()
        #expect(run.next(seen(9.999)) == .wait(until: 10 * second))
        #expect(run.next(seen(10)) == .terminateTree)
        #expect(run.next(seen(12.999)) == .wait(until: 13 * second))
        #expect(run.next(seen(13)) == .killTree)
        #expect(run.next(seen(13)) == .wait(until: 23 * second))
        #expect(run.next(seen(13.1, leaderEnded: true, streamsEnded: true), treeIsGone: true) == .finish)
        #expect(run.lifecycle.cause == .timeout)
    }

    @Test("after TERM a tree that outlives its leader is looked for until the grace is over")
    func survivors() {
        let run = Stepper()
        #expect(run.next(seen(1, cancel: true)) == .terminateTree)
        let ended = seen(1.5, leaderEnded: true, streamsEnded: true, cancel: true)
        #expect(run.next(ended) == .wait(until: 1_550_000_000))
        #expect(run.next(ended, treeIsGone: true) == .finish)
        #expect(run.lifecycle.cause == .cancel)
    }

    @Test(
        "a survivor that holds a stream is killed after one second, and one that cannot be killed is given up"
    )
    func drain() {
        let run = Stepper()
        #expect(run.next(seen(2, leaderEnded: true)) == .wait(until: 3 * second))
        #expect(run.next(seen(3, leaderEnded: true)) == .killTree)
        #expect(run.next(seen(3, leaderEnded: true)) == .wait(until: 4 * second))
        #expect(run.next(seen(4, leaderEnded: true)) == .finish)
    }

    @Test("a leader that survives its KILL is given up after ten seconds")
    func unkillable() {
        let run = Stepper()
        #expect(run.next(seen(10)) == .terminateTree)
        #expect(run.next(seen(13)) == .killTree)
        #expect(run.next(seen(22.999)) == .wait(until: 23 * second))
        #expect(run.next(seen(23)) == .finish)
        #expect(run.lifecycle.cause == .timeout)
    }

    @Test("an endless time limit does not overflow")
    func endless() {
        let run = Stepper(startedAt: 5, timeoutSeconds: .infinity)
        #expect(run.next(seen(1)) == .wait(until: .max))
    }
}

@Suite struct CapturedOutputTests {
    @Test("head and tail never overlap and lose nothing while they have room", arguments: [1, 2, 3, 7, 100])
    func pieces(size: Int) {
        for total in [0, 1, 3, 4, 7, 8, 9, 20] {
            var output = CapturedOutput(headBytesMax: 3, tailBytesMax: 5)
            let bytes = (0..<total).map { UInt8($0) }
            var rest = bytes[...]
            while !rest.isEmpty {
                output.append(rest.prefix(size))
                rest = rest.dropFirst(size)
            }
            #expect(output.totalBytes == total)
            #expect(output.head == Array(bytes.prefix(3)))
            #expect(output.tail == Array(bytes.dropFirst(3).suffix(5)))
            #expect(output.omittedBytes == max(0, total - 8))
        }
    }

    @Test("no room at all still counts")
    func empty() {
        var output = CapturedOutput(headBytesMax: 0, tailBytesMax: 0)
        output.append([1, 2, 3])
        #expect(
            output.totalBytes == 3 && output.head.isEmpty && output.tail.isEmpty && output.omittedBytes == 3)
    }
}

@Suite struct ProcessEntryTests {
    @Test("a command's name with spaces and parentheses does not shift the fields")
    func name() throws {
        let numbers = (7...40).map(String.init).joined(separator: " ")
        let entry = try #require(ProcessEntry(pid: 5, stat: Array("5 (a) S 1 (x) R 4 5 6 \(numbers)\n".utf8)))
        #expect(entry.parent == 4 && entry.group == 5 && entry.session == 6)
        #expect(entry.identity.startTicks == 22)
    }

    @Test("garbage is no entry", arguments: ["", "5", "5 (", "5 (a) R", "5 (a) R x y z"])
    func garbage(line: String) {
        #expect(ProcessEntry(pid: 5, stat: Array(line.utf8)) == nil)
    }
}
