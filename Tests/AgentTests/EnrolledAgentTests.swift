import Domain
import Logging
import Process
import Testing
import Trust
import Wire

@testable import Agent

@Suite("Agent", .timeLimit(.minutes(1))) struct EnrolledAgentTests {
    private let fixture: Fixture

    init() throws { fixture = try Fixture() }

    /// A gateway, and the directory of a device that connects to it.
    private func withGateway(_ body: (TestGateway, DataDirectory) async throws -> Void) async throws {
        let gateway = try await TestGateway.start(fixture)
        let directory = try fixture.directory(gatewayPort: gateway.port)
        let result: Result<Void, any Error>
        do { result = .success(try await body(gateway, directory)) } catch { result = .failure(error) }
        try await gateway.stop()
        try Directory.removeTree(directory.path)
        try result.get()
    }

    /// Runs an agent on a directory beside the body, and stops it afterwards.
    private func withAgent(
        _ directory: DataDirectory, startedDelay: Duration = .seconds(3_600),
        logger: Logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }),
        _ body: () async throws -> Void
    ) async throws {
        let agent = try await makeAgent(directory, startedDelay: startedDelay, logger: logger)
        async let running: Void = agent.run()
        let result: Result<Void, any Error>
        do { result = .success(try await body()) } catch { result = .failure(error) }
        agent.stop()
        try await running
        try result.get()
    }

    /// A child that another test forks at this moment holds every lock of this process until it executes its
    /// program, so a lock that was just released may be held a little longer.
    private func makeAgent(
        _ directory: DataDirectory, startedDelay: Duration, logger: Logger
    ) async throws -> EnrolledAgent {
        while true {
            do {
                return try EnrolledAgent(
                    directory: directory, backoff: Backoff(base: .milliseconds(5), limit: .milliseconds(20)),
                    now: Instant.now, startedDelay: startedDelay, logger: logger)
            } catch let error as ProcessError where error.code == .locked {
                await Task.yield()
            }
        }
    }

    private func finished(_ session: TestSession) async throws -> Finished {
        while true { if case .finished(let result) = try await session.next() { return result } }
    }

    @Test("a signed script runs, and its result is kept until it is acknowledged")
    func script() async throws {
        try await withGateway { gateway, directory in
            try await withAgent(directory) {
                let (session, hello) = try await gateway.session()
                #expect(
                    hello.keySetVersion == 1 && hello.assignmentVersion == 1 && hello.journalPosition == 0)
                #expect(hello.held.isEmpty && hello.ended.isEmpty)
                session.send(.welcome(Welcome(session: 1, pingSeconds: 3_600, helloSeconds: 3_600)))
                let job = fixture.job(.script, Script(.sh, "echo héllo; echo no >&2; exit 3"))
                let dispatch = fixture.dispatch(job)
                session.send(.dispatch(dispatch))
                #expect(try await session.next().acceptedName == dispatch.name)
                let result = try await finished(session)
                #expect(result.name == dispatch.name && result.outcome == .failed && result.exitCode == 3)
                #expect(result.stdout == OutputExcerpt(head: Array("héllo\n".utf8), tail: [], bytes: 7))
                #expect(result.stderr.head.bytes == Array("no\n".utf8))
                #expect(try listDirectory(directory.outbox) == ["\(job.job)-1.json"])

                session.send(.dispatch(dispatch))
                #expect(
                    try await session.next() == .finished(result),
                    "asked again: the same result, no second run")
                session.close(code: 1001)
                let (again, second) = try await gateway.session()
                #expect(second.ended == [dispatch.name] && second.journalPosition == 3)
                again.send(.welcome(Welcome(session: 2, pingSeconds: 3_600, helloSeconds: 3_600)))
                #expect(try await again.next() == .finished(result))
                again.send(.acknowledged(dispatch.name))
                again.send(.dispatch(dispatch))
                let replay = try await finished(again)
                #expect(replay.outcome == .failed && replay.reason == "replay" && replay.stdout == .empty)
            }
            #expect(directory.waitingResults() == 0)
        }
    }

    @Test("a script that outlives the delay is announced, and a cancel kills it with its tree")
    func cancel() async throws {
        try await withGateway { gateway, directory in
            try await withAgent(directory, startedDelay: .zero) {
                let session = try await gateway.welcomedSession()
                let job = fixture.job(.script, Script(.sh, "sleep 1000 & sleep 1000"))
                let dispatch = fixture.dispatch(job)
                session.send(.dispatch(dispatch))
                #expect(try await session.next().acceptedName == dispatch.name)
                guard case .started(let started) = try await session.next() else {
                    Issue.record("not announced")
                    return
                }
                #expect(started.name == dispatch.name)
                session.send(.cancel(dispatch.name))
                let result = try await finished(session)
                #expect(result.outcome == .cancelled && result.reason == nil)
                #expect(ProcessTree.members(marker: "\(job.job)-1").isEmpty)

                let late = fixture.dispatch(fixture.job())
                session.send(.cancel(late.name))
                session.send(.dispatch(late))
                #expect(try await finished(session).outcome == .cancelled, "the cancel overtook its dispatch")
            }
        }
    }

    @Test("a refused dispatch is answered with its code, and again with the same")
    func refusal() async throws {
        try await withGateway { gateway, directory in
            try await withAgent(directory) {
                let session = try await gateway.welcomedSession()
                let dispatch = Dispatch(
                    name: fixture.name(), job: fixture.sign(.job, fixture.job(), by: SigningKey()))
                for _ in 0..<2 {
                    session.send(.dispatch(dispatch))
                    guard case .rejected(let rejected) = try await session.next() else {
                        Issue.record("not refused")
                        return
                    }
                    #expect(rejected.name == dispatch.name && rejected.code == "signature")
                }
            }
            try await withAgent(directory) {
                let session = try await gateway.welcomedSession()
                session.send(.dispatch(fixture.dispatch(fixture.job(.ping), fixture.name())))
                #expect(
                    try await finished(session).outcome == .succeeded, "a fresh attempt is not touched by it")
            }
        }
    }

    @Test("sysinfo answers with facts as JSON while scripts hang in their lane")
    func sysinfo() async throws {
        try await withGateway { gateway, directory in
            try await withAgent(directory) {
                let session = try await gateway.welcomedSession()
                for _ in 0..<5 {
                    session.send(.dispatch(fixture.dispatch(fixture.job(.script, Script(.sh, "sleep 1000")))))
                }
                session.send(.dispatch(fixture.dispatch(fixture.job(.sysinfo))))
                let result = try await finished(session)
                let facts = try JSON.parse(result.stdout.head.bytes)
                #expect(result.outcome == .succeeded)
                #expect(facts["hostname"] == .string(SystemFacts.hostname))
                #expect(facts["processor"]?["count"] != nil && facts["memory"]?["totalBytes"] != nil)
            }
        }
    }

    @Test("a stop kills scripts, says so, and what it could not say is said by the next start")
    func stop() async throws {
        try await withGateway { gateway, directory in
            let dispatch = fixture.dispatch(fixture.job(.script, Script(.sh, "sleep 1000")))
            try await withAgent(directory, startedDelay: .zero) {
                let session = try await gateway.welcomedSession()
                session.send(.dispatch(dispatch))
                while case .accepted = try await session.next() {}
            }
            try await withAgent(directory) {
                let (session, hello) = try await gateway.session()
                #expect(hello.ended == [dispatch.name])
                session.send(.welcome(Welcome(session: 2, pingSeconds: 3_600, helloSeconds: 3_600)))
                let result = try await finished(session)
                #expect(result.outcome == .cancelled && result.reason == "agentStopped")
            }
        }
    }

    @Test("a start without an end is unknown after a restart, and what is left of it is killed")
    func restart() async throws {
        try await withGateway { gateway, directory in
            let (job, name) = (fixture.job(), fixture.name())
            let key = AttemptKey(job: job.job, attempt: 1)
            let journal = try AppendFile(directory.journal)
            try journal.append(JournalRecord.accepted(key, name, expiresAt: fixture.now + .seconds(60)).line)
            try journal.append(JournalRecord.started(key, at: fixture.now).line)
            let left = try Child.spawn(
                ChildOptions(
                    executable: "/bin/sleep", arguments: ["1000"],
                    environment: [(ProcessTree.markerName, key.description)], stdout: .null,
                    stderr: .null))
            try await withAgent(directory) {
                let session = try await gateway.welcomedSession()
                let result = try await finished(session)
                #expect(
                    result.name == name && result.outcome == .unknown && result.reason == "agentRestarted")
                #expect(result.startedAt?.description == fixture.now.description)
                #expect(await left.wait() == .signaled(9))
                session.send(.dispatch(fixture.dispatch(job, name)))
                #expect(try await finished(session).outcome == .unknown, "it never runs again")
            }
        }
    }

    @Test("a result that was stored before its end was written is the result after a restart")
    func storedResult() async throws {
        try await withGateway { gateway, directory in
            let stored = Finished(
                name: fixture.name(), outcome: .failed, exitCode: 3, finishedAt: fixture.now,
                stdout: OutputExcerpt(head: Array("said".utf8), tail: [], bytes: 4))
            let names = [stored.name, fixture.name(), fixture.name()]
            let keys = names.map { _ in AttemptKey(job: .new(at: fixture.now), attempt: 1) }
            let journal = try AppendFile(directory.journal)
            for (key, name) in zip(keys, names) {
                let expiry = fixture.now + .seconds(60)
                try journal.append(JournalRecord.accepted(key, name, expiresAt: expiry).line)
                try journal.append(JournalRecord.started(key, at: fixture.now).line)
            }
            // One that is another attempt's, and one that is none.
            let outbox = Outbox(directory: directory.outbox)
            for key in keys.prefix(2) { try outbox.write(key, stored) }
            try DurableFile.write([1], to: "\(directory.outbox)/\(keys[2]).json")
            try await withAgent(directory) {
                let session = try await gateway.welcomedSession()
                var results: [AttemptName: Finished] = [:]
                while results.count < 3 {
                    let result = try await finished(session)
                    results[result.name] = result
                }
                #expect(results[names[0]]?.outcome == .failed && results[names[0]]?.exitCode == 3)
                #expect(results[names[0]]?.stdout.head.bytes == Array("said".utf8))
                #expect(results[names[1]]?.reason == "agentRestarted")
                #expect(results[names[2]]?.reason == "agentRestarted")
            }
        }
    }

    @Test("after a kill of the agent what a script left is found by its leader, without any marker")
    func leaderLeft() async throws {
        try await withGateway { gateway, directory in
            let (job, name) = (fixture.job(), fixture.name())
            let key = AttemptKey(job: job.job, attempt: 1)
            let journal = try AppendFile(directory.journal)
            try journal.append(JournalRecord.accepted(key, name, expiresAt: fixture.now + .seconds(60)).line)
            try journal.append(JournalRecord.started(key, at: fixture.now).line)
            let left = try Child.spawn(
                ChildOptions(
                    executable: "/bin/sleep", arguments: ["1000"], stdout: .null, stderr: .null,
                    isolation: .session))
            try RunLeader(#require(left.identity)).write(beside: "\(directory.runs)/\(key)")
            try await withAgent(directory) {
                let session = try await gateway.welcomedSession()
                #expect(try await finished(session).reason == "agentRestarted")
                #expect(await left.wait() == .signaled(9))
            }
            #expect(try listDirectory(directory.runs).isEmpty)
        }
    }

    @Test("leftovers that cannot be removed keep no agent from its work")
    func leftovers() async throws {
        try await withGateway { gateway, directory in
            try Directory.make("\(directory.outbox)/no-file")
            let place = "\(directory.runs)/left/mounted"
            try Directory.make(place)
            // Only root can mount, and so leave a directory that cannot be removed.
            let isRoot = effectiveUserID() == 0
            if isRoot { try await call("/bin/mount", "-t", "tmpfs", "none", place) }
            let result: Result<Void, any Error>
            do {
                try await withAgent(directory) {
                    let session = try await gateway.welcomedSession()
                    session.send(.dispatch(fixture.dispatch(fixture.job())))
                    #expect(try await finished(session).outcome == .succeeded)
                }
                result = .success(())
            } catch { result = .failure(error) }
            #expect(fileExists(place) == isRoot)
            if isRoot { try await call("/bin/umount", place) }
            try result.get()
        }
    }

    private func call(_ program: String, _ arguments: String...) async throws {
        let child = try Child.spawn(ChildOptions(executable: program, arguments: arguments))
        #expect(await child.wait() == .exited(0))
    }

    @Test("a damaged journal starts no work and says so")
    func damagedJournal() async throws {
        try await withGateway { gateway, directory in
            try AppendFile(directory.journal).append(Array("0123456789abcdef {}\n".utf8))
            #expect(throws: AgentError.self) {
                try EnrolledAgent(directory: directory, now: Instant.now, logger: Logger(label: "test"))
            }
        }
    }

    @Test("a second agent on the same directory is refused with the pid of the first")
    func lock() async throws {
        try await withGateway { gateway, directory in
            try await withAgent(directory) {
                #expect(throws: ProcessError.self) {
                    try EnrolledAgent(directory: directory, now: Instant.now, logger: Logger(label: "test"))
                }
            }
        }
    }

    @Test("newer statements of a welcome come into force and stay, others are refused")
    func statements() async throws {
        try await withGateway { gateway, directory in
            let next = SigningKey()
            try await withAgent(directory) {
                let session = try await gateway.welcomedSession(
                    Welcome(
                        session: 1, keySet: fixture.keySet(version: 2, by: SigningKey()),
                        assignment: fixture.assignment(version: 2, device: .new(at: fixture.now)),
                        pingSeconds: 3_600, helloSeconds: 3_600))
                session.send(.dispatch(fixture.dispatch(fixture.job(.ping))))
                #expect(try await finished(session).outcome == .succeeded)
                session.close(code: 1001)
                let second = try await gateway.welcomedSession(
                    Welcome(
                        session: 2, keySet: fixture.keySet(version: 2, jobKeys: [next]),
                        assignment: fixture.assignment(version: 2, by: next), pingSeconds: 3_600,
                        helloSeconds: 3_600))
                let job = fixture.job(.ping)
                second.send(.dispatch(Dispatch(name: fixture.name(), job: fixture.sign(.job, job, by: next))))
                #expect(try await finished(second).outcome == .succeeded)
            }
            try await withAgent(directory) {
                let (_, hello) = try await gateway.session()
                #expect(hello.keySetVersion == 2 && hello.assignmentVersion == 2)
            }
        }
    }

    @Test("newer statements between two welcomes are in force before the work that comes behind them")
    func pushed() async throws {
        try await withGateway { gateway, directory in
            let next = SigningKey()
            try await withAgent(directory) {
                let session = try await gateway.welcomedSession()
                // One that no root key has signed changes nothing.
                session.send(
                    .statements(
                        NewerStatements(keySet: Base64Bytes(fixture.keySet(version: 9, by: SigningKey())))))
                session.send(.dispatch(fixture.dispatch(fixture.job(.ping))))
                #expect(try await finished(session).outcome == .succeeded)
                session.send(
                    .statements(
                        NewerStatements(
                            keySet: Base64Bytes(fixture.keySet(version: 2, jobKeys: [next])),
                            assignment: Base64Bytes(fixture.assignment(version: 2, by: next)))))
                let signed = fixture.sign(.job, fixture.job(.ping), by: next)
                session.send(.dispatch(Dispatch(name: fixture.name(), job: signed)))
                #expect(try await finished(session).outcome == .succeeded)
            }
            try await withAgent(directory) {
                let (_, hello) = try await gateway.session()
                #expect(hello.keySetVersion == 2 && hello.assignmentVersion == 2)
            }
        }
    }

    @Test("a session resumes the one before it, but not across a new key set")
    func resumption() async throws {
        try await withGateway { gateway, directory in
            try await withAgent(directory) {
                let first = try await gateway.welcomedSession()
                first.send(.dispatch(fixture.dispatch(fixture.job(.ping))))
                _ = try await finished(first)
                first.close(code: 1001)
                let second = try await gateway.welcomedSession(
                    Welcome(
                        session: 2, keySet: fixture.keySet(version: 2), pingSeconds: 3_600,
                        helloSeconds: 3_600))
                second.send(.dispatch(fixture.dispatch(fixture.job(.ping))))
                _ = try await finished(second)
                second.close(code: 1001)
                _ = try await gateway.session()
                #expect(gateway.resumptions == [false, true, false])
            }
        }
    }

    @Test("the hello is repeated at its pace, and its welcome repeats nothing that is under way")
    func repeatedHello() async throws {
        try await withGateway { gateway, directory in
            try await withAgent(directory) {
                let (session, first) = try await gateway.session()
                session.send(.welcome(Welcome(session: 1, pingSeconds: 3_600, helloSeconds: 1)))
                let dispatch = fixture.dispatch(fixture.job(.ping))
                session.send(.dispatch(dispatch))
                let again = GatewayFrame.welcome(Welcome(session: 1, pingSeconds: 3_600, helloSeconds: 1))
                var results = 0
                var asked: Hello?
                while asked == nil {
                    switch try await session.next() {
                    case .accepted(let accepted):
                        #expect(accepted == Accepted(name: dispatch.name, journalPosition: 1))
                    case .finished: results += 1
                    case .hello(let hello) where hello.ended.isEmpty: session.send(again)
                    case .hello(let hello): asked = hello
                    default: Issue.record("nothing of a run or a hello")
                    }
                }
                #expect(first.journalPosition == 0 && asked?.journalPosition == 3)
                #expect(asked?.held == [] && asked?.ended == [dispatch.name])
                session.send(again)
                let next = fixture.dispatch(fixture.job(.ping))
                session.send(.dispatch(next))
                while case let frame = try await session.next(), frame.acceptedName != next.name {
                    if case .finished = frame { results += 1 }
                    if case .hello = frame { session.send(again) }
                }
                #expect(results == 1, "none is sent a second time")
            }
        }
    }

    @Test("what the server has settled is dropped at the welcome")
    func drop() async throws {
        try await withGateway { gateway, directory in
            try await withAgent(directory) {
                let session = try await gateway.welcomedSession()
                let (ended, running) = (
                    fixture.dispatch(fixture.job(.ping)),
                    fixture.dispatch(fixture.job(.script, Script(.sh, "sleep 1000")))
                )
                session.send(.dispatch(ended))
                _ = try await finished(session)
                session.send(.dispatch(running))
                #expect(try await session.next().acceptedName == running.name)
                session.close(code: 1001)
                let (second, hello) = try await gateway.session()
                #expect(hello.ended == [ended.name] && hello.held == [running.name])
                second.send(
                    .welcome(
                        Welcome(
                            session: 2, drop: [ended.name, running.name], pingSeconds: 3_600,
                            helloSeconds: 3_600)))
                // Until the script is dead its attempt is held; afterwards the journal alone answers.
                var answer: AgentFrame
                repeat {
                    second.send(.dispatch(running))
                    answer = try await second.next()
                } while answer.acceptedName == running.name
                guard case .finished(let replay) = answer else {
                    Issue.record("not finished")
                    return
                }
                #expect(
                    replay.name == running.name && replay.outcome == .cancelled && replay.reason == "replay")
            }
            #expect(directory.waitingResults() == 0)
        }
    }

    @Test("the start of a script lies in the journal when the script runs")
    func startIsWrittenFirst() async throws {
        try await withGateway { gateway, directory in
            try await withAgent(directory) {
                let session = try await gateway.welcomedSession()
                let job = fixture.job(.script, Script(.sh, "cat \(directory.journal)"))
                session.send(.dispatch(fixture.dispatch(job)))
                let written = String(decoding: try await finished(session).stdout.head.bytes, as: UTF8.self)
                #expect(written.contains(#""record":"accepted","job":"\#(job.job)""#))
                #expect(written.contains(#""record":"started","job":"\#(job.job)""#))
            }
        }
    }

    @Test("a result is sent only once it is stored")
    func resultIsStoredFirst() async throws {
        try await withGateway { gateway, directory in
            let told = Mailbox<String>()
            try await withAgent(directory, logger: Logger(label: "test") { _ in Told(messages: told) }) {
                let session = try await gateway.welcomedSession()
                let job = fixture.job(.script, Script(.sh, "echo said; rm -r \(directory.outbox)"))
                session.send(.dispatch(fixture.dispatch(job)))
                while try await told.next() != "a result cannot be stored" {}
                try Directory.make(directory.outbox)
                let result = try await finished(session)
                #expect(result.stdout.head.bytes == Array("said\n".utf8) && result.reason == nil)
            }
        }
    }
}

/// Hands on what is logged.
private struct Told: LogHandler {
    let messages: Mailbox<String>
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { messages.put("\(event.message)") }
}
