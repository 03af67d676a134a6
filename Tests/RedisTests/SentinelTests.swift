import Synchronization
import TestSupport
import Testing

@testable import Redis

/// A connection that finds its master through sentinels, and follows it.
@Suite(.serialized) struct SentinelTests {
    private func role(_ redis: RedisConnection) async throws -> String? {
        try await redis.send(RedisCommand("ROLE")).array?.first?.text
    }

    /// Sends until the server takes it: during a failover there is a while without a master.
    private func insist(_ redis: RedisConnection, _ command: RedisCommand) async throws -> RedisValue {
        while true {
            do {
                return try await redis.send(command)
            } catch let error as RedisError where error.isTransient {
                // The next attempt finds the next master, at the latest when the sentinels have made one.
            }
        }
    }

    @Test("The master is found, and after its death its successor, by the same connection")
    func death() async throws {
        let servers = try await RedisFailover()
        defer { servers.stop() }
        let redis = connection(try RedisConfiguration(url: servers.url()))
        let blocking = blockingConnection(try RedisConfiguration(url: servers.url()))
        #expect(try await role(redis) == "master")
        _ = try await redis.send(RedisCommand("SET", "kept", 7))
        #expect(try await redis.send(RedisCommand("WAIT", 1, 60_000)) == .integer(1))
        let run = try await redis.send(RedisCommand("INFO", "server")).text
        servers.killMaster()
        #expect(try await insist(redis, RedisCommand("GET", "kept")).int == 7)
        #expect(try await role(redis) == "master")
        #expect(try await redis.send(RedisCommand("INFO", "server")).text != run)
        _ = try await insist(redis, RedisCommand("RPUSH", "list", "x"))
        let popped = try await blocking.send(RedisCommand("BLPOP", "list", 1), timeout: .seconds(30))
        #expect(popped.array?.last?.text == "x")
        await blocking.close()
        await redis.close()
    }

    @Test("A master that becomes a replica is left for its successor; a dead sentinel is passed over")
    func switchOver() async throws {
        let servers = try await RedisFailover()
        defer { servers.stop() }
        servers.killFirstSentinel()
        let redis = connection(try RedisConfiguration(url: servers.url(parameters: "/1")))
        _ = try await redis.send(RedisCommand("SET", "number", 0))
        #expect(try await redis.send(RedisCommand("WAIT", 1, 60_000)) == .integer(1))
        let before = redis.generation
        try await servers.switchOver()
        while redis.generation == before { _ = try await insist(redis, RedisCommand("INCR", "number")) }
        #expect(try await role(redis) == "master")
        let info = try await redis.send(RedisCommand("CLIENT", "INFO")).text ?? ""
        #expect(info.contains("db=1"))
        await redis.close()
    }

    @Test("While all sentinels name a master that is dead, they are asked again with pauses")
    func deadMaster() async throws {
        let server = try FakeServer { descriptor, _ in
            while hear(descriptor) > 0 { say(descriptor, "*2\r\n$9\r\n127.0.0.1\r\n$1\r\n1\r\n") }
        }
        defer { server.stop() }
        var configuration = try RedisConfiguration(url: "redis+sentinel://a,b/main")
        configuration.addresses = [.unix(path: server.path), .unix(path: server.path)]
        let redis = connection(configuration)
        let error = await #expect(throws: RedisError.self) {
            try await redis.send(RedisCommand("PING"), timeout: .seconds(1))
        }
        #expect(error?.code == .connection && error?.mayHaveRun == false)
        await redis.close()
        // Both in each round, and some ten rounds with these pauses; thousands without.
        let asked = server.accepted.load(ordering: .relaxed)
        #expect((2..<150).contains(asked), "\(asked)")
    }

    @Test("A name that no sentinel knows, and a login that they refuse, are told at once")
    func refusals() async throws {
        let servers = try await RedisFailover(sentinelPassword: "hunter2")
        defer { servers.stop() }
        func refusal(_ url: String) async throws -> RedisError? {
            let redis = connection(try RedisConfiguration(url: url))
            let error = await #expect(throws: RedisError.self) {
                try await redis.send(RedisCommand("PING"), timeout: .seconds(600))
            }
            await redis.close()
            #expect(error?.description.contains("hunter") == false)
            return error
        }
        let login = "?sentinelPassword=hunter2"
        let unknown = try await refusal(servers.url(master: "other", parameters: login))
        #expect(unknown?.code == .configuration)
        #expect(unknown?.message.contains("no master of the name") == true)
        let wrong = try await refusal(servers.url(parameters: "?sentinelPassword=hunter3"))
        #expect(wrong?.serverCode == "WRONGPASS")
        #expect(try await refusal(servers.url())?.serverCode == "NOAUTH")
        let right = connection(try RedisConfiguration(url: servers.url(parameters: login)))
        #expect(try await role(right) == "master")
        await right.close()
    }
}

/// The greeting of a new connection, answer by answer.
struct GreetingTests {
    private let configuration: RedisConfiguration

    init() throws { configuration = try RedisConfiguration(url: "redis+sentinel://a/m/2") }

    @Test("A sentinel leads to the master; one that does not is no way")
    func sentinel() throws {
        var greeting = Greeting(configuration, to: .sentinel)
        let place = RedisValue.array([.string(Array("10.0.0.1".utf8)), .string(Array("6379".utf8))])
        #expect(try greeting.hear(place) == .leads(to: .tcp(host: "10.0.0.1", port: 6379)))
        for (answer, code) in [
            (RedisValue.null, RedisError.Code.configuration), (.array([]), .protocolViolation),
            (.array([.string([]), .integer(1)]), .protocolViolation),
            (.array([.string([65]), .integer(0)]), .protocolViolation),
            (.error("NOPERM no"), .server("NOPERM")),
        ] {
            var greeting = Greeting(configuration, to: .sentinel)
            let error = #expect(throws: RedisError.self) { try greeting.hear(answer) }
            #expect(error?.code == code)
        }
    }

    @Test("Whoever sentinels name must be a master")
    func role() throws {
        var greeting = Greeting(configuration, to: .server(mustBeMaster: true))
        #expect(try greeting.hear(.status("OK")) == .goesOn)
        var other = greeting
        #expect(try greeting.hear(.array([.string(Array("master".utf8))])) == .isReady)
        let error = #expect(throws: RedisError.self) {
            try other.hear(.array([.string(Array("slave".utf8))]))
        }
        #expect(error?.code == .connection)
    }
}
