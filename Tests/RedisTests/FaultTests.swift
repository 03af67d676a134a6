import Foundation
import Synchronization
import Testing

@testable import Redis

struct FaultTests {
    private func connection(
        to server: FakeServer, _ change: (inout RedisConfiguration) -> Void = { _ in }
    ) throws -> RedisConnection {
        var configuration = try server.configuration
        change(&configuration)
        return RedisConnection(configuration: configuration, logger: .quiet)
    }

    @Test("A server that never answers costs the time limit, and then the connection")
    func silence() async throws {
        let server = try FakeServer { descriptor, connection in
            while hear(descriptor) > 0 {
                if connection > 0 { say(descriptor, "+PONG\r\n") }
            }
        }
        defer { server.stop() }
        let redis = try connection(to: server) { $0.commandTimeout = .milliseconds(60) }
        let error = await #expect(throws: RedisError.self) { try await redis.send(RedisCommand("PING")) }
        #expect(error?.code == .timeout)
        #expect(error?.mayHaveRun == true)
        // It was written later than its time began, by what connecting took; so long the server has still.
        while redis.generation < 2 { await Task.yield() }
        #expect(try await redis.send(RedisCommand("PING"), timeout: .seconds(5)) == .status("PONG"))
        await redis.close()
    }

    @Test("A command whose time is over before it is written is not written, and says so")
    func lateCommand() async throws {
        let server = try FakeServer { descriptor, _ in
            while hear(descriptor) > 0 { say(descriptor, ":1\r\n") }
        }
        defer { server.stop() }
        let redis = try connection(to: server)
        #expect(try await redis.send(RedisCommand("FIRST")) == .integer(1))
        let writes = redis.writes
        let error = await #expect(throws: RedisError.self) {
            try await redis.send(RedisCommand("LATE"), timeout: .nanoseconds(1))
        }
        #expect(error?.code == .timeout)
        #expect(error?.mayHaveRun == false)
        #expect(redis.writes == writes)
        #expect(try await redis.send(RedisCommand("NEXT")) == .integer(1))
        await redis.close()
    }

    @Test("A command goes out while every thread of the pool is busy, also after answers that came together")
    func busyPool() async throws {
        let heard = Heard()
        let server = try FakeServer { descriptor, _ in
            // Two commands, answered at once, then a third.
            var bytes = 0
            while bytes < 2 * ping.count {
                let count = hear(descriptor)
                guard count > 0 else { return }
                bytes += count
            }
            say(descriptor, ":1\r\n:2\r\n")
            hear(descriptor)
            heard.all.store(true, ordering: .relaxed)
            say(descriptor, ":3\r\n")
            hear(descriptor)
        }
        defer { server.stop() }
        let redis = try connection(to: server)
        async let first = redis.send(RedisCommand("PING"))
        async let second = redis.send(RedisCommand("PING"))
        // Either may have been sent first.
        #expect(try await Set([first.int, second.int]) == [1, 2])
        let end = ContinuousClock.now + .seconds(5)
        for _ in 0..<2 * ProcessInfo.processInfo.activeProcessorCount {
            Task.detached {
                while !heard.all.load(ordering: .relaxed), ContinuousClock.now < end {}
            }
        }
        #expect(try await redis.send(RedisCommand("PING"), timeout: .seconds(20)) == .integer(3))
        #expect(ContinuousClock.now < end)
        await redis.close()
    }

    @Test("A reply that comes after its caller's time limit is thrown away and shifts nothing")
    func lateReply() async throws {
        let server = try FakeServer { descriptor, _ in
            hear(descriptor)
            hear(descriptor)
            say(descriptor, ":1\r\n:2\r\n")
            hear(descriptor)
        }
        defer { server.stop() }
        let redis = try connection(to: server)
        let error = await #expect(throws: RedisError.self) {
            try await redis.send(RedisCommand("FIRST"), timeout: .milliseconds(30))
        }
        #expect(error?.code == .timeout)
        #expect(try await redis.send(RedisCommand("SECOND")) == .integer(2))
        #expect(redis.generation == 1)
        await redis.close()
    }

    @Test("A cancelled caller goes on at once, its reply is thrown away and shifts nothing")
    func cancellation() async throws {
        let heard = Signal()
        let server = try FakeServer { descriptor, _ in
            hear(descriptor)
            heard.raise()
            hear(descriptor)
            say(descriptor, ":1\r\n:2\r\n")
            hear(descriptor)
        }
        defer { server.stop() }
        let redis = try connection(to: server)
        let task = Task { try await redis.send(RedisCommand("FIRST")) }
        await heard.wait()
        task.cancel()
        let error = await #expect(throws: RedisError.self) { try await task.value }
        #expect(error?.code == .cancelled)
        #expect(error?.mayHaveRun == true)
        #expect(try await redis.send(RedisCommand("SECOND")) == .integer(2))
        #expect(redis.generation == 1)
        await redis.close()
    }

    @Test("A task that is cancelled already sends nothing")
    func cancelledBefore() async throws {
        let redis = try TestServer().connection()
        let task = Task {
            unsafe withUnsafeCurrentTask { unsafe $0?.cancel() }
            return try await redis.send(RedisCommand("PING"))
        }
        let error = await #expect(throws: RedisError.self) { try await task.value }
        #expect(error?.code == .cancelled)
        #expect(error?.mayHaveRun == false)
        await redis.close()
    }

    @Test(
        "Bytes that are not RESP end the connection but not the client",
        arguments: [
            "HTTP/1.1 400 Bad Request\r\n\r\n", "$abc\r\n", "\0\0\0\0\r\n",
        ])
    func garbage(bytes: String) async throws {
        let server = try FakeServer { descriptor, connection in
            while hear(descriptor) > 0 { say(descriptor, connection == 0 ? bytes : "+PONG\r\n") }
        }
        defer { server.stop() }
        let redis = try connection(to: server)
        for result in try await redis.send([RedisCommand("PING"), RedisCommand("PING")]) {
            let error = #expect(throws: RedisError.self) { try result.get() }
            #expect(error?.code == .protocolViolation)
            #expect(error?.mayHaveRun == true)
        }
        #expect(try await redis.send(RedisCommand("PING")) == .status("PONG"))
        #expect(redis.generation == 2)
    }

    @Test("An answer to nothing ends the connection, so that it is nobody's")
    func unaskedAnswer() async throws {
        let server = try FakeServer { descriptor, connection in
            while hear(descriptor) > 0 { say(descriptor, connection == 0 ? ":1\r\n:666\r\n" : ":2\r\n") }
        }
        defer { server.stop() }
        let redis = try connection(to: server)
        #expect(try await redis.send(RedisCommand("FIRST")) == .integer(1))
        while redis.generation < 2 { await Task.yield() }
        #expect(try await redis.send(RedisCommand("SECOND")) == .integer(2))
    }

    @Test("A reply over the limit ends the connection, one at the limit does not")
    func giant() async throws {
        let server = try FakeServer { descriptor, connection in
            let length = connection == 0 ? 100_001 : 100_000
            while hear(descriptor) > 0 {
                say(descriptor, "$\(length)\r\n\(String(repeating: "x", count: length))\r\n")
            }
        }
        defer { server.stop() }
        let redis = try connection(to: server) { $0.replyBytesMax = 100_032 }
        let error = await #expect(throws: RedisError.self) { try await redis.send(RedisCommand("GET", "k")) }
        #expect(error?.code == .protocolViolation)
        #expect(error?.mayHaveRun == true)
        guard case .string(let bytes) = try await redis.send(RedisCommand("GET", "k")) else {
            Issue.record("no string")
            return
        }
        #expect(bytes.count == 100_000)
        await redis.close()
    }

    @Test("A connection closed half-way keeps the answers that came and fails the rest as possibly run")
    func halfWay() async throws {
        let server = try FakeServer { descriptor, _ in
            hear(descriptor)
            say(descriptor, ":1\r\n$5\r\nab")
        }
        defer { server.stop() }
        let redis = try connection(to: server)
        let results = try await redis.send((0..<3).map { _ in RedisCommand("PING") })
        #expect(results[0] == .success(.integer(1)))
        for result in results[1...] {
            let error = #expect(throws: RedisError.self) { try result.get() }
            #expect(error?.code == .connection)
            #expect(error?.mayHaveRun == true)
        }
    }

    @Test("A command whose last byte never left cannot have run; one that left whole in front of it may have")
    func halfWritten() async throws {
        let server = try FakeServer { descriptor, _ in hear(descriptor) }
        defer { server.stop() }
        let redis = try connection(to: server)
        let big = RedisCommand("SET", "k", .bytes([UInt8](repeating: 0, count: 8 << 20)))
        let results = try await redis.send([RedisCommand("PING"), big])
        let errors = results.compactMap { if case .failure(let error) = $0 { error } else { nil } }
        #expect(errors.map(\.code) == [.connection, .connection])
        #expect(errors.map(\.mayHaveRun) == [true, false])
    }

    @Test("Without a server a command fails when its time is over, says why, and has not run")
    func noServer() async throws {
        let configuration = try RedisConfiguration(url: "unix:///nonexistent/redis.sock")
        let redis = RedisConnection(configuration: configuration, logger: .quiet)
        let error = await #expect(throws: RedisError.self) {
            try await redis.send(RedisCommand("PING"), timeout: .milliseconds(30))
        }
        #expect(error?.code == .connection)
        #expect(error?.mayHaveRun == false)
        #expect(error?.message.contains("No such file") == true)
        await redis.close()
    }

    @Test("As many commands as pendingMax wait; one more is refused and has not run")
    func overload() async throws {
        let heard = Signal()
        let server = try FakeServer { descriptor, _ in
            hear(descriptor)
            heard.raise()
            hear(descriptor)
            say(descriptor, ":1\r\n:2\r\n:3\r\n")
            hear(descriptor)
            say(descriptor, ":4\r\n")
            hear(descriptor)
        }
        defer { server.stop() }
        let redis = try connection(to: server) { $0.pendingMax = 3 }
        async let two = redis.send([RedisCommand("A"), RedisCommand("B")])
        await heard.wait()
        let error = await #expect(throws: RedisError.self) {
            try await redis.send([RedisCommand("C"), RedisCommand("D")])
        }
        #expect(error?.code == .overloaded)
        #expect(error?.mayHaveRun == false)
        #expect(error?.isTransient == true)
        #expect(try await redis.send(RedisCommand("C")) == .integer(3))
        #expect(try await two == [.success(.integer(1)), .success(.integer(2))])
        #expect(try await redis.send(RedisCommand("D")) == .integer(4))
        await redis.close()
    }

    @Test("A refusal that nobody asked for is reported as the connection's")
    func unasked() async throws {
        let server = try FakeServer { descriptor, connection in
            if connection == 0 {
                say(descriptor, "-ERR max number of clients reached\r\n")
            } else {
                while hear(descriptor) > 0 { say(descriptor, "+PONG\r\n") }
            }
        }
        defer { server.stop() }
        let redis = try connection(to: server)
        redis.start()
        while redis.generation < 2 { await Task.yield() }
        #expect(try await redis.send(RedisCommand("PING")) == .status("PONG"))
        await redis.close()
    }
}

private let ping = "*1\r\n$4\r\nPING\r\n".utf8

/// Whether a server has heard what it waits for.
private final class Heard: Sendable {
    let all = Atomic(false)
}
