import Glibc
import Synchronization
import Testing

@testable import Redis

struct ConnectionTests {
    @Test("A thousand concurrent commands each get their own answer, in fewer writes than commands")
    func pipelining() async throws {
        let server = try TestServer()
        let redis = server.connection()
        let key = server.key("counter")
        let answers = try await withThrowingTaskGroup(of: Int?.self) { group in
            for _ in 0..<1_000 {
                group.addTask { try await redis.send(RedisCommand("INCR", key)).int }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(answers.compactMap { $0 }.sorted() == Array(1...1_000))
        #expect(redis.writes < 1_000)
        _ = try await redis.send(RedisCommand("DEL", key))
        await redis.close()
    }

    @Test("Concurrent echoes of different texts are never mixed up")
    func echoes() async throws {
        let redis = try TestServer().connection()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for caller in 0..<50 {
                group.addTask {
                    for round in 0..<20 {
                        let text = "\(caller)-\(round)-" + String(repeating: "x", count: caller * 100)
                        let echo = try await redis.send(RedisCommand("ECHO", .string(text))).text
                        #expect(echo == text)
                    }
                }
            }
            try await group.waitForAll()
        }
        await redis.close()
    }

    @Test("An error reply is thrown to its caller and to nobody else")
    func errorReply() async throws {
        let server = try TestServer()
        let redis = server.connection()
        let key = server.key("text")
        let results = try await redis.send([
            RedisCommand("SET", key, "x", "EX", 60), RedisCommand("LPUSH", key, 1),
            RedisCommand("NOSUCHCOMMAND"),
            RedisCommand("GET", key),
        ])
        #expect(results[0] == .success(.status("OK")))
        #expect(throws: RedisError.self) { try results[1].get() }
        if case .failure(let error) = results[1] { #expect(error.code == .server("WRONGTYPE")) }
        if case .failure(let error) = results[2] { #expect(error.serverCode == "ERR") }
        #expect(results[3] == .success(.string([UInt8(ascii: "x")])))
        let error = await #expect(throws: RedisError.self) { try await redis.send(RedisCommand("LPOP", key)) }
        #expect(error?.serverCode == "WRONGTYPE")
        #expect(try await redis.send(RedisCommand("DEL", key)) == .integer(1))
        #expect(redis.generation == 1)
        await redis.close()
    }

    @Test("A connection killed in mid-pipeline fails what was written as possibly run, then goes on")
    func killed() async throws {
        let server = try TestServer()
        let (redis, other) = (server.connection(), server.connection())
        let id = try #require(try await redis.send(RedisCommand("CLIENT", "ID")).int)
        async let lost = redis.send([
            RedisCommand("BLPOP", server.key("none"), 0), RedisCommand("INCR", server.key("n")),
        ])
        while true {
            let list = try await other.send(RedisCommand("CLIENT", "LIST", "ID", .int(id)))
            if list.text?.contains("cmd=blpop") == true { break }
        }
        _ = try await other.send(RedisCommand("CLIENT", "KILL", "ID", .int(id)))
        for result in try await lost {
            let error = #expect(throws: RedisError.self) { try result.get() }
            #expect(error?.code == .connection)
            #expect(error?.mayHaveRun == true)
            #expect(error?.isTransient == true)
        }
        #expect(try await redis.send(RedisCommand("PING")) == .status("PONG"))
        #expect(redis.generation == 2)
        await redis.close()
        await other.close()
    }

    @Test("A transaction answers all its commands, and a refused one is an error")
    func transaction() async throws {
        let server = try TestServer()
        let redis = server.connection()
        let key = server.key("t")
        let values = try await redis.transaction([RedisCommand("INCR", key), RedisCommand("DEL", key)])
        #expect(values == [.integer(1), .integer(1)])
        let error = await #expect(throws: RedisError.self) {
            try await redis.transaction([RedisCommand("INCR", key), RedisCommand("NOSUCHCOMMAND")])
        }
        #expect(error?.serverCode == "EXECABORT")
        #expect(try await redis.send(RedisCommand("EXISTS", key)) == .integer(0))
        await redis.close()
    }

    @Test("The database of the configuration is selected on each connection")
    func database() async throws {
        let server = try TestServer()
        let (nine, zero) = (server.connection { $0.database = 9 }, server.connection())
        _ = try await nine.send(RedisCommand("SET", server.key("k"), "v", "EX", 60))
        #expect(try await zero.send(RedisCommand("GET", server.key("k"))) == .null)
        #expect(try await nine.send(RedisCommand("DEL", server.key("k"))) == .integer(1))
        await nine.close()
        await zero.close()
    }

    @Test("A closed connection refuses commands, also when it was never started, and closes twice")
    func closed() async throws {
        let redis = try TestServer().connection()
        await redis.close()
        await redis.close()
        redis.start()
        let error = await #expect(throws: RedisError.self) { try await redis.send(RedisCommand("PING")) }
        #expect(error?.code == .closed)
        #expect(error?.isTransient == false)
        #expect(error?.mayHaveRun == false)
    }

    @Test("Closing waits for the answers of what was sent before")
    func closeFinishes() async throws {
        let (heard, gate) = (Signal(), Gate())
        let server = try FakeServer { descriptor, _ in
            hear(descriptor)
            heard.raise()
            gate.wait()
            say(descriptor, "+late\r\n")
            hear(descriptor)
        }
        defer { server.stop() }
        let redis = RedisConnection(configuration: try server.configuration, logger: .quiet)
        async let answer = redis.send(RedisCommand("GET", "k"))
        await heard.wait()
        async let closing: Void = redis.close()
        while true {
            let error = await #expect(throws: RedisError.self) {
                try await redis.send(RedisCommand("PING"), timeout: .milliseconds(1))
            }
            if error?.code != .timeout { break }
        }
        gate.open()
        #expect(try await answer == .status("late"))
        await closing
    }

    @Test("Closing does not wait for replies that nobody waits for")
    func closeAbandoned() async throws {
        let server = try FakeServer { descriptor, _ in while hear(descriptor) > 0 {} }
        defer { server.stop() }
        var configuration = try server.configuration
        configuration.commandTimeout = .seconds(86_400)
        let redis = RedisConnection(configuration: configuration, logger: .quiet)
        // Ends by its time limit: the answer that never comes is what the close has to do without.
        _ = try? await redis.send(RedisCommand("GET", "k"), timeout: .milliseconds(20))
        await redis.close()
    }

    @Test("No commands are no pipeline")
    func empty() async throws {
        #expect(try await TestServer().connection().send([RedisCommand]()).isEmpty)
    }

    @Test("A connection that nobody holds any more ends")
    func abandoned() async throws {
        let ended = Signal()
        let server = try FakeServer { descriptor, _ in
            while hear(descriptor) > 0 { say(descriptor, "+OK\r\n") }
            ended.raise()
        }
        defer { server.stop() }
        do {
            let redis = RedisConnection(configuration: try server.configuration, logger: .quiet)
            _ = try await redis.send(RedisCommand("PING"))
        }
        await ended.wait()
    }
}

/// Opened by a test, awaited by the thread of a fake server.
final class Gate: Sendable {
    private let isOpen = Atomic(false)

    func open() { isOpen.store(true, ordering: .releasing) }

    func wait() {
        while !isOpen.load(ordering: .acquiring) { sched_yield() }
    }
}

/// Raised once by any thread, awaited by a test.
final class Signal: Sendable {
    private let stream: AsyncStream<Void>
    private let continuation: AsyncStream<Void>.Continuation

    init() {
        (stream, continuation) = AsyncStream.makeStream()
    }

    func raise() {
        continuation.finish()
    }

    func wait() async {
        for await _ in stream {}
    }
}
