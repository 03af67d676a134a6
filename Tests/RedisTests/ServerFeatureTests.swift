import TestSupport
import Testing

@testable import Redis

struct BlockingConnectionTests {
    private func waitUntilBlocked(_ id: Int, on redis: RedisConnection) async throws {
        while true {
            let list = try await redis.send(RedisCommand("CLIENT", "LIST", "ID", .int(id)))
            if list.text?.contains("cmd=blpop") == true { return }
        }
    }

    @Test("A blocking read is woken by a push")
    func woken() async throws {
        let server = try TestServer()
        let (redis, reader) = (server.connection(), server.blocking())
        let id = try #require(try await reader.send(RedisCommand("CLIENT", "ID"), timeout: .seconds(5)).int)
        async let popped = reader.send(RedisCommand("BLPOP", server.key("bell"), 0), timeout: .seconds(10))
        try await waitUntilBlocked(id, on: redis)
        _ = try await redis.send(RedisCommand("LPUSH", server.key("bell"), "ring"))
        #expect(try await popped.array?.last?.text == "ring")
        await reader.close()
        await redis.close()
    }

    @Test("After a cancelled blocking read the next command runs on a new connection and gets its own answer")
    func cancelled() async throws {
        let server = try TestServer()
        let (redis, reader) = (server.connection(), server.blocking())
        let id = try #require(try await reader.send(RedisCommand("CLIENT", "ID"), timeout: .seconds(5)).int)
        let task = Task {
            try await reader.send(RedisCommand("BLPOP", server.key("none"), 0), timeout: .seconds(10))
        }
        try await waitUntilBlocked(id, on: redis)
        task.cancel()
        let error = await #expect(throws: RedisError.self) { try await task.value }
        #expect(error?.code == .cancelled)
        #expect(error?.mayHaveRun == true)
        let next = try await reader.send(RedisCommand("CLIENT", "ID"), timeout: .seconds(5)).int
        #expect(next != nil && next != id)
        while try await redis.send(RedisCommand("CLIENT", "LIST", "ID", .int(id))).text != "" {}
        await reader.close()
        await redis.close()
    }

    @Test("A blocking read past its time limit ends, and the next command gets its own answer")
    func late() async throws {
        let server = try TestServer()
        let reader = server.blocking()
        // The time is the read's alone, not the connection's.
        _ = try await reader.send(RedisCommand("PING"), timeout: .seconds(5))
        let error = await #expect(throws: RedisError.self) {
            try await reader.send(RedisCommand("BLPOP", server.key("none"), 0), timeout: .milliseconds(50))
        }
        #expect(error?.code == .timeout)
        #expect(error?.mayHaveRun == true)
        #expect(try await reader.send(RedisCommand("ECHO", "x"), timeout: .seconds(5)).text == "x")
        await reader.close()
    }

    @Test("A second command at the same time is refused, and closing ends the first")
    func busyAndClosed() async throws {
        let server = try TestServer()
        let (redis, reader) = (server.connection(), server.blocking())
        let id = try #require(try await reader.send(RedisCommand("CLIENT", "ID"), timeout: .seconds(5)).int)
        let task = Task {
            try await reader.send(RedisCommand("BLPOP", server.key("none"), 0), timeout: .seconds(10))
        }
        try await waitUntilBlocked(id, on: redis)
        let refused = await #expect(throws: RedisError.self) {
            try await reader.send(RedisCommand("PING"), timeout: .seconds(5))
        }
        #expect(refused?.code == .overloaded)
        await reader.close()
        let ended = await #expect(throws: RedisError.self) { try await task.value }
        #expect(ended?.code == .closed)
        #expect(ended?.mayHaveRun == true)
        await redis.close()
    }
}

struct LoginTests {
    private static let user = "--user rmm on >s3cret ~* +@all --user default off".split(separator: " ").map(
        String.init)

    @Test("A client that starts before its server waits for it, logs in as its user and selects its database")
    func login() async throws {
        let server = try PrivateServer(arguments: Self.user)
        var configuration = try server.configuration(user: "rmm:s3cret")
        configuration.database = 2
        let redis = RedisConnection(configuration: configuration, logger: .quiet)
        #expect(try await redis.send(RedisCommand("ACL", "WHOAMI")).text == "rmm")
        #expect(try await redis.send(RedisCommand("CLIENT", "INFO")).text?.contains("db=2") == true)

        let intruder = RedisConnection(
            configuration: try server.configuration(user: "rmm:wrong"), logger: .quiet)
        let refused = await #expect(throws: RedisError.self) { try await intruder.send(RedisCommand("PING")) }
        #expect(refused?.code == .server("WRONGPASS"))
        #expect(refused?.isTransient == false)
        #expect(refused?.mayHaveRun == false)
        #expect(refused?.description.contains("wrong ") == false)

        let nobody = RedisConnection(
            configuration: try RedisConfiguration(url: "unix://\(server.path)"), logger: .quiet)
        let stranger = await #expect(throws: RedisError.self) { try await nobody.send(RedisCommand("PING")) }
        #expect(stranger?.code == .server("NOAUTH"))
        await redis.close()
        await intruder.close()
        await nobody.close()
        withExtendedLifetime(server) {}
    }
}

struct TCPTests {
    @Test("A host name is looked up, and each of its addresses tried")
    func hostName() async throws {
        let port = LoopbackPorts.free(1)[0]
        let server = try PrivateServer(arguments: ["--port", "\(port)", "--bind", "127.0.0.1"])
        let redis = RedisConnection(
            configuration: try RedisConfiguration(url: "redis://localhost:\(port)"), logger: .quiet)
        #expect(try await redis.send(RedisCommand("PING")) == .status("PONG"))
        await redis.close()
        withExtendedLifetime(server) {}
    }

    @Test("A host name that does not exist is the reason given")
    func noSuchHost() async throws {
        let configuration = try RedisConfiguration(url: "redis://no-such-host.invalid")
        let redis = RedisConnection(configuration: configuration, logger: .quiet)
        let error = await #expect(throws: RedisError.self) {
            try await redis.send(RedisCommand("PING"), timeout: .seconds(1))
        }
        #expect(error?.code == .connection)
        #expect(error?.message.contains("no-such-host.invalid") == true)
        await redis.close()
    }
}

struct FunctionLibraryTests {
    private func library(_ name: String, answer: String) -> RedisFunctionLibrary {
        RedisFunctionLibrary(
            name: name,
            source: """
                #!lua name=\(name)
                redis.register_function('\(name)_say', function(keys, args)
                    return {'\(answer)', keys[1], args[1]}
                end)
                """)
    }

    @Test("A library is loaded once, called, and replaced by another version")
    func load() async throws {
        let server = try TestServer()
        let redis = server.connection()
        let name = "test_\(UInt32.random(in: 0 ... .max))"
        func call() async throws -> [String?]? {
            try await redis.call("\(name)_say", keys: ["k"], arguments: [7]).array?.map(\.text)
        }
        try await redis.load(library(name, answer: "one"))
        #expect(try await call() == ["one", "k", "7"])
        try await redis.load(library(name, answer: "one"))
        try await redis.load(library(name, answer: "two"))
        #expect(try await call() == ["two", "k", "7"])
        _ = try await redis.send(RedisCommand("FUNCTION", "DELETE", .string(name)))
        await redis.close()
    }

    @Test("A library that is there already is not loaded again")
    func idempotent() async throws {
        let source = "#!lua name=there\nreturn"
        let loads = Signal()
        let server = try FakeServer { descriptor, _ in
            hear(descriptor)
            say(
                descriptor,
                "*1\r\n*4\r\n+library_name\r\n+there\r\n+library_code\r\n"
                    + "$\(source.utf8.count)\r\n\(source)\r\n"
            )
            if hear(descriptor) == 0 { loads.raise() }
        }
        defer { server.stop() }
        let redis = RedisConnection(configuration: try server.configuration, logger: .quiet)
        try await redis.load(RedisFunctionLibrary(name: "there", source: source))
        await redis.close()
        await loads.wait()
    }

    @Test("A library whose first line names another one is refused unsent")
    func wrongName() async throws {
        let redis = try TestServer().connection()
        for source in ["", "#!lua name=others\nreturn", "#!lua name=other2"] {
            let error = await #expect(throws: RedisError.self) {
                try await redis.load(RedisFunctionLibrary(name: "other", source: source))
            }
            #expect(error?.code == .configuration)
        }
        await redis.close()
    }

    @Test("A function that is not there is the server's error")
    func missing() async throws {
        let redis = try TestServer().connection()
        let error = await #expect(throws: RedisError.self) {
            try await redis.call("no_such_function", keys: [], arguments: [])
        }
        #expect(error?.serverCode == "ERR")
        await redis.close()
    }
}
