import Domain
import NIOPosix
import Process
import Synchronization
import Testing
import Wire

@testable import Agent

@Suite("Journal") struct JournalTests {
    private let fixture: Fixture
    private let key: AttemptKey
    private let name: AttemptName
    private let end: AttemptEnd
    private let later: Instant

    init() throws {
        fixture = try Fixture()
        key = AttemptKey(job: .new(at: fixture.now), attempt: 1)
        name = fixture.name()
        end = AttemptEnd(
            outcome: .failed, exitCode: 3, reason: "signal:9", startedAt: Instant(seconds: 5),
            finishedAt: Instant(seconds: 6))
        later = Instant(seconds: fixture.now.seconds + 3_600)
    }

    private var records: [JournalRecord] {
        [
            .base(position: 7, repeated: 0), .accepted(key, name, expiresAt: later),
            .started(key, at: Instant(seconds: 5)),
            .ended(key, end), .forgotten(key),
            .refused(fixture.name(), Refusal(.target, "n\no"), expiresAt: later),
            .cancelled(fixture.name(), expiresAt: later), .pruned(through: Instant(seconds: 9)),
        ]
    }

    @discardableResult
    private func withDisk<Value>(_ body: (NIOThreadPool) async throws -> Value) async throws -> Value {
        let disk = NIOThreadPool(numberOfThreads: 1)
        disk.start()
        let result: Result<Value, any Error>
        do { result = .success(try await body(disk)) } catch { result = .failure(error) }
        try await disk.shutdownGracefully()
        return try result.get()
    }

    @Test("each record reads back as it was written, and a changed byte in it does not")
    func lines() {
        for record in records {
            let line = record.line.dropLast()
            #expect(JournalRecord(line: line) == record)
            for index in line.indices {
                var changed = line
                changed[index] ^= 1
                #expect(JournalRecord(line: changed) == nil)
            }
        }
    }

    @Test("a torn last record is cut off wherever the tear is; any other damage is refused with its line")
    func damage() throws {
        let records = records
        let bytes = records.flatMap(\.line)
        let whole = try Journal.read(bytes, path: "j")
        #expect(whole.position == 14)
        let withoutLast = try Journal.read(records.dropLast().flatMap(\.line), path: "j")
        for count in (bytes.count - records[7].line.count)..<bytes.count {
            #expect(try Journal.read(Array(bytes.prefix(count)), path: "j") == withoutLast)
        }
        var flipped = bytes
        flipped[records[0].line.count + 30] ^= 1
        #expect(throws: AgentError(.damaged, "line 2 of the journal j does not hold, so no work is started"))
        {
            try Journal.read(flipped, path: "j")
        }
        #expect(throws: AgentError(.damaged, "the journal j has no beginning, so no work is started")) {
            try Journal.read(records.dropFirst().flatMap(\.line), path: "j")
        }
        #expect(throws: AgentError(.damaged, "the journal j is empty, so no work is started")) {
            try Journal.read([], path: "j")
        }
        #expect(throws: AgentError(.damaged, "the journal begins twice")) {
            try Journal.read(bytes + bytes, path: "j")
        }
    }

    @Test("records that no agent writes in this order are refused")
    func order() throws {
        var state = JournalState()
        try state.apply(.base(position: 0, repeated: 0))
        for record: JournalRecord in [.started(key, at: later), .ended(key, end), .forgotten(key)] {
            #expect(throws: AgentError.self) { try state.apply(record) }
        }
        try state.apply(.accepted(key, name, expiresAt: later))
        #expect(throws: AgentError.self) { try state.apply(.accepted(key, fixture.name(), expiresAt: later)) }
        #expect(throws: AgentError.self) { try state.apply(.forgotten(key)) }
        try state.apply(.ended(key, end))
        #expect(throws: AgentError.self) { try state.apply(.ended(key, end)) }
        #expect(throws: AgentError.self) { try state.apply(.started(key, at: later)) }
    }

    @Test("opening again keeps what is open, forgets what has expired, and never lowers the position")
    func compaction() async throws {
        try await withDirectory { directory in
            try await withDisk { disk in
                let path = "\(directory)/journal"
                try Journal.create(path)
                let (journal, _) = try Journal.open(path, disk: disk, now: fixture.now)
                let keys = (1...4).map { AttemptKey(job: .new(at: fixture.now), attempt: $0) }
                for key in keys {
                    try await journal.append([.accepted(key, fixture.name(), expiresAt: later)])
                }
                try await journal.append([
                    .started(keys[1], at: later), .ended(keys[1], end), .forgotten(keys[1]),
                ])
                try await journal.append([
                    .started(keys[2], at: later), .ended(keys[2], end), .started(keys[3], at: later),
                ])
                #expect(journal.position == 10)

                let (again, state) = try Journal.open(path, disk: disk, now: fixture.now)
                #expect(again.position == 10 && state.position == 10)
                #expect(state.held == [keys[3]], "an acceptance without a start is dropped")
                #expect(state.ended == [keys[2]])
                #expect(state.entries[keys[1]]?.phase == .forgotten(end))
                try await again.append([.ended(keys[3], end)])

                let (last, expired) = try Journal.open(path, disk: disk, now: later)
                #expect(last.position == 11)
                #expect(expired.entries[keys[1]] == nil && expired.floor == later)
                let (_, afterwards) = try Journal.open(path, disk: disk, now: fixture.now)
                #expect(afterwards.floor == later, "no clock lowers it")
                #expect(
                    expired.ended == [keys[2], keys[3]],
                    "what the server has not committed outlives its statement")
            }
        }
    }

    @Test("a journal that is gone is refused")
    func missing() async throws {
        try await withDirectory { directory in
            try await withDisk { disk in
                #expect(throws: AgentError.self) {
                    try Journal.open("\(directory)/journal", disk: disk, now: fixture.now)
                }
            }
        }
    }

    @Test("appends that wait while the disk is busy share one sync")
    func groupCommit() async throws {
        try await withDirectory { directory in
            try await withDisk { disk in
                let path = "\(directory)/journal"
                try Journal.create(path)
                let (journal, _) = try Journal.open(path, disk: disk, now: fixture.now)
                let busy = Gate()
                disk.submit { _ in busy.waitUntilOpen() }
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for _ in 0..<50 {
                        let record = JournalRecord.cancelled(fixture.name(), expiresAt: later)
                        group.addTask { try await journal.append([record]) }
                    }
                    while journal.waiting < 50 { await Task.yield() }
                    busy.open()
                    try await group.waitForAll()
                }
                #expect(journal.syncs == 1)
                #expect(try Journal.read(readFile(path, max: 1 << 20), path: path).answers.count == 50)
            }
        }
    }

    @Test("records that would contradict the file are refused, and those beside them are written")
    func contradiction() async throws {
        try await withDirectory { directory in
            try await withDisk { disk in
                let path = "\(directory)/journal"
                try Journal.create(path)
                let (journal, _) = try Journal.open(path, disk: disk, now: fixture.now)
                try await journal.append([.accepted(key, name, expiresAt: later)])
                let busy = Gate()
                disk.submit { _ in busy.waitUntilOpen() }
                let appends = [
                    [JournalRecord.started(key, at: later)], [.ended(key, end)],
                    [.ended(key, end), .forgotten(key)], [.forgotten(key), .forgotten(key)],
                    [.forgotten(key)],
                ]
                let tasks = appends.indices.map { index in
                    Task {
                        while journal.waiting < index { await Task.yield() }
                        try await journal.append(appends[index])
                    }
                }
                while journal.waiting < appends.count { await Task.yield() }
                busy.open()
                for (index, task) in tasks.enumerated() {
                    let result = await task.result
                    guard [2, 3].contains(index) else {
                        try result.get()
                        continue
                    }
                    #expect(throws: AgentError.self) { try result.get() }
                }
                #expect(journal.position == 4)
                let (_, state) = try Journal.open(path, disk: disk, now: fixture.now)
                #expect(state.entries[key]?.phase == .forgotten(end) && state.position == 4)
            }
        }
    }

    @Test("a file that has grown to four times what it amounts to begins anew, and nothing is lost")
    func runningCompaction() async throws {
        try await withDirectory { directory in
            try await withDisk { disk in
                let path = "\(directory)/journal"
                try Journal.create(path)
                let (journal, _) = try Journal.open(path, disk: disk, now: fixture.now)
                let open = AttemptKey(job: .new(at: fixture.now), attempt: 1)
                try await journal.append([.accepted(open, fixture.name(), expiresAt: later)])
                try await journal.append([.accepted(key, name, expiresAt: later), .started(key, at: later)])
                var written = journal.length
                var records = 3
                let refusal = Refusal(.signature, String(repeating: "x", count: 400))
                // An append returns before the file begins anew.
                while journal.length == written, written < 2 * Journal.compactBytesMin {
                    let batch = (0..<100).map { _ in
                        JournalRecord.refused(fixture.name(), refusal, expiresAt: later)
                    }
                    try await journal.append(batch)
                    written += batch.reduce(0) { $0 + $1.line.count }
                    records += batch.count
                }
                #expect(journal.length < Journal.compactBytesMin)
                #expect(try readFile(path, max: 1 << 30).count == journal.length)
                #expect(try listDirectory(directory) == ["journal"])
                try await journal.append([.ended(key, end)])
                #expect(journal.position == records + 1)

                let state = try Journal.read(readFile(path, max: 1 << 30), path: path)
                #expect(state.position == records + 1)
                #expect(state.held == [open] && state.ended == [key])
                #expect(state.answers.count == JournalState.answersMax)
            }
        }
    }

    @Test("remembered refusals are bounded, the oldest go first")
    func bound() throws {
        var state = JournalState()
        try state.apply(.base(position: 0, repeated: 0))
        let names = (0...JournalState.answersMax).map { _ in fixture.name() }
        for name in names { try state.apply(.refused(name, Refusal(.full, "no"), expiresAt: later)) }
        #expect(state.answers.count == JournalState.answersMax)
        #expect(state.answers[names[0]] == nil && state.answers[names[1]] != nil)
    }
}

/// Blocks a thread until it is opened.
private final class Gate: Sendable {
    private let isOpen = Atomic(false)

    func open() { isOpen.store(true, ordering: .releasing) }

    func waitUntilOpen() { while !isOpen.load(ordering: .acquiring) {} }
}
